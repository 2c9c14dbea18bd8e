"""Group commit: everything queued becomes one write and one sync (dissertation 10.2.2).

Law: writes reach the disk in the order in which the core numbered them, and `Synced` is made here
and nowhere else, after a sync that returned. A failed write or sync ends the writer for good: no
mark is ever synced again. A full disk is no failure: what is queued waits, in its order, and the
same is tried until there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition, Event, Lock
from time import monotonic
from typing import Protocol

from tinyraft.core.effects import Mark, Synced, Write
from tinyraft.errors import StorageFailed
from tinyraft.node.bell import Bell
from tinyraft.storage.disk import NoRoom

RETRY_SECONDS = 0.2


class Journal(Protocol):
    """What the writer needs of the write-ahead log."""

    def write(self, writes: Sequence[Write]) -> None:
        """Write, without a promise; what `NoRoom` kept out comes first in the next call."""

    def sync(self) -> None:
        """Make everything written durable."""

    def provide(self, *, again: bool) -> bool:
        """Take the room that will soon be needed, and tell whether there is some."""


class Writer:
    """The queue to the disk, and its one thread's two halves."""

    def __init__(self, journal: Journal, *, on_synced: Callable[[Synced], None]) -> None:
        """Write to *journal*; tell *on_synced* (which takes the core's lock) after each sync."""
        self._journal = journal
        self._on_synced = on_synced
        self._lock = Lock()  # guards _queue, _synced, _failure; leaf
        self._queue: list[Write] = []
        self._synced = Synced(0)
        self._failure: StorageFailed | None = None
        self._progress = Condition(self._lock)
        self._pen = Lock()  # held by whoever writes: the thread, or a handler that waits
        self.stuck: list[Write] = []  # handed over, but kept out by a full disk; the pen's
        self._ended = Event()
        self.has_room = True
        self.bell = Bell()
        self.is_stopping = False

    @property
    def synced(self) -> Synced:
        """How far the disk has promised."""
        return self._synced

    def put(self, write: Write) -> None:
        """Queue *write*. Called under the core's lock, so that queue order is core order.

        Somebody must `ring` for it, or `wait` for its mark.
        """
        with self._lock:
            self._queue.append(write)

    def ring(self) -> None:
        """Let the thread write what is queued."""
        self.bell.ring()

    def wait(self, mark: Mark, *, timeout: float | None) -> Synced:
        """Block until *mark* is on disk.

        Whoever waits writes, if nobody else does: a follower's append then needs no other thread.

        Raises:
            StorageFailed: The disk failed.
            TimeoutError: *timeout* seconds passed.
        """
        deadline = None if timeout is None else monotonic() + timeout
        if self._synced < mark and self._pen.acquire(blocking=False):
            try:
                self._write_up_to(mark)
            finally:
                self._put_down_pen()
        with self._lock:
            while self._synced < mark:
                if self._failure is not None:
                    raise self._failure
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"the disk did not answer within {timeout:.3g} s")
                self._progress.wait(left)
            return self._synced

    def _write_up_to(self, mark: Mark) -> None:
        if self.stuck:
            return  # the thread tries again, now and then
        while self._synced < mark and self._failure is None and (batch := self.next_batch()):
            if not self.persist(batch):
                return
            self.finish(batch)

    def _put_down_pen(self) -> None:
        """Let others write; what came meanwhile, and nobody rang for, is the thread's."""
        self._pen.release()
        if self._queue or self.stuck:
            self.ring()

    # --- the two halves around the sync ------------------------------------------------------

    def next_batch(self) -> list[Write]:
        """Take what is stuck and everything queued; nothing once a write has failed."""
        with self._lock:
            batch, self._queue = [*self.stuck, *self._queue], []
            return batch if self._failure is None else []

    def persist(self, batch: Sequence[Write]) -> bool:
        """Write and sync *batch*: the blocking call. A failure is for good, whoever writes.

        False when the disk is full: the batch waits, and comes with the next one.
        """
        try:
            if not self.write(batch):
                return False
            self.sync()
            return True
        except BaseException as error:
            if not isinstance(error, StorageFailed):
                self.fail(StorageFailed(f"the log can't be written: {error!r}"))
                raise
            self.fail(error)
            raise

    def write(self, batch: Sequence[Write]) -> bool:
        """Hand *batch* to the disk, without a promise; False when that is full."""
        known, self.stuck = len(self.stuck), []
        try:
            self._journal.write(batch[known:])
        except NoRoom:
            self.stuck = list(batch)
            self.has_room = False
            return False
        return True

    def sync(self) -> None:
        """Have the disk promise."""
        self._journal.sync()

    def finish(self, batch: Sequence[Write]) -> None:
        """Open what was held for *batch*."""
        synced = Synced(batch[-1].mark)
        with self._lock:
            assert synced > self._synced, "marks are written in order"
            self._synced = synced
            self._progress.notify_all()
        self._on_synced(synced)
        self.has_room = self._journal.provide(again=False)

    def look_for_room(self) -> bool:
        """Ask the disk once more for the room that it refused; tell whether all is well. Blocks.

        Whoever is writing looks by itself, and is not waited for.
        """
        if self._pen.acquire(blocking=False):
            try:
                if self._failure is None:
                    self.has_room = self._journal.provide(again=True)
            finally:
                self._put_down_pen()
        return self.has_room

    # --- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Write until stopped, and then what is still queued."""
        while True:
            with self._pen:
                while (batch := self.next_batch()) and self.persist(batch):
                    self.finish(batch)
            if self.stuck and not self.is_stopping:
                self._ended.wait(RETRY_SECONDS)
                continue
            if self._queue and not self.stuck:
                continue
            if self.is_stopping:
                return  # what is stuck was promised to nobody
            self.bell.wait()

    def stop(self) -> None:
        """Let the thread drain the queue and end."""
        self.is_stopping = True
        self._ended.set()
        self.bell.ring()

    def fail(self, failure: StorageFailed) -> None:
        """Refuse everybody who waits, now and later."""
        with self._lock:
            self._failure = self._failure or failure
            self._progress.notify_all()
