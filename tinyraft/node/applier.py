"""Committed entries to the module, in order, each command once (dissertation 3.1, 5.1, 6.3).

Law: one thread, under the module mutex, never under the core's lock. `last_applied` moves before
anybody is told an outcome, and a waiter that gave up changes nothing. A command that came before is
answered from the sessions, and the module does not see it. What a module raises is an answer; this
node's own trouble (memory, files) ends the applying, never skips an entry. What is not in the log
any more comes from a snapshot, which replaces all that module and sessions had; a snapshot that is
not restored to its end ends the applying too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TypeVar

from tinyraft.core.effects import InSnapshot
from tinyraft.core.entry import Entry, EntryKind, Index, Term
from tinyraft.core.sessions import Answer, Sessions
from tinyraft.current import Applying, CurrentEntry
from tinyraft.errors import (
    ModuleError,
    ModuleFailed,
    ReentrantCall,
    Rejected,
)
from tinyraft.logs import Log
from tinyraft.module import Module
from tinyraft.node.agreement import Agreement
from tinyraft.node.bell import Bell
from tinyraft.node.clock import CLOCK, Clock
from tinyraft.node.stopwatch import Stopwatch
from tinyraft.node.waiters import Waiter, Waiters, in_snapshot, overtaken, tell
from tinyraft.storage.divergence import Divergence
from tinyraft.storage.snapshots import Snapshots

T = TypeVar("T")
BATCH_BYTES = 1 << 20
BATCH_ENTRIES = 256  # between two looks at the mutex, so that readers get their turn
BATCH_SECONDS = 0.020  # likewise, of a slow module; and whoever waited for the first has his answer


class Mutex:
    """The module mutex: knows its holder, so that a module which calls back is told, not hung."""

    def __init__(self) -> None:
        """Begin free."""
        self._lock = Lock()
        self._holder = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it.

        Raises:
            ReentrantCall: This thread holds it already.
        """
        self.refuse_reentry()
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = 0

    def refuse_reentry(self) -> None:
        """Raise `ReentrantCall` when called from inside a module's callback."""
        if self._holder == threading.get_ident():
            raise ReentrantCall("a module can't call its own server from inside a callback")


class Content:
    """What a module restores from; remembers what went wrong in reading, whoever caught it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Pass *chunks* on."""
        self.error: BaseException | None = None
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        """Give the chunks."""
        return self

    def __next__(self) -> bytes:
        """Give the next one."""
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


class Applier:
    """Feeds the module."""

    def __init__(
        self,
        module: Module,
        *,
        waiters: Waiters,
        fetch: Callable[[Index, int], list[Entry] | InSnapshot],
        shelf: Snapshots,
        failed: Callable[[ModuleFailed], None],
        log: Log,
        applied: Callable[[], None] = lambda: None,
        cluster_id: Callable[[], str] = str,
        term: Callable[[], Term] = lambda: 0,
        clock: Clock = CLOCK,
        rests_after: float = float("inf"),
        patience: Callable[[], float | None] = lambda: None,
        impatient: Callable[[], object] = lambda: None,
    ) -> None:
        """Apply what *fetch(after, max_bytes)* gives, and tell *applied* behind each batch.

        *failed* is told when the module can't go on. From *cluster_id* comes what is chance to it.
        *term* tells the present one. Behind a call of *rests_after* seconds the other threads get a
        little time. Where nothing is to be done for *patience* seconds, *impatient* is told.
        """
        self.mutex = Mutex()
        self.last_applied: Index = 0
        self.bytes_applied = 0  # in this life
        self.failure: ModuleFailed | None = None
        self.agreement = Agreement(module, term=term, log=log)
        self.sessions = Sessions()  # guarded by the mutex
        self._module = module
        self.stopwatch = Stopwatch(
            module.apply,
            index=lambda: self.last_applied + 1,
            rests_after=rests_after,
            clock=clock,
        )
        self._apply: Callable[[bytes], object] = self.stopwatch  # users' code may answer anything
        self._waiters = waiters
        self._fetched: list[Entry] = []  # and not yet applied
        self._fetch = fetch
        self._shelf = shelf
        self._failed = failed
        self._applied = applied
        self._patience = patience
        self._impatient = impatient
        self._cluster_id = cluster_id
        self._applying = Applying(self.current_entry)
        self._entry: Entry | None = None  # the last one, or the one that the module is at
        self._current: CurrentEntry | None = None  # of that one, if the module asked
        self._restored_time_us = 0  # of what came in a snapshot
        self._log = log
        self.bell = Bell()
        self.is_stopping = False

    def ring(self) -> None:
        """More may be committed."""
        self.bell.ring()

    def call(self, function: Callable[[Module], T]) -> T:
        """Run *function* on the module under the mutex."""
        with self._sound():
            return function(self._module)

    def copy(self, snapshot: Callable[[], T]) -> tuple[Index, T]:
        """Have the module copy its state, by *snapshot*; tell up to where that has seen the log.

        Raises:
            ModuleError: It raised.
            ModuleFailed: It applies nothing more.
        """
        with self._sound():
            try:
                return self.last_applied, snapshot()
            except Exception as error:
                raise ModuleError(f"the module's snapshot raised {error!r}") from error

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Hold the mutex of a module that has not failed, not even while it was waited for.

        What failed may have done half of an entry, or have half of a snapshot.
        """
        with self.mutex.held():
            if self.failure is not None:
                raise self.failure
            yield

    # --- the two halves around the module -----------------------------------------------------

    def next_batch(self) -> list[Entry] | InSnapshot:
        """Fetch what is committed and not applied."""
        if not self._fetched:
            found = self._fetch(self.last_applied, BATCH_BYTES)
            if isinstance(found, InSnapshot):
                return found
            self._fetched = found
        batch, self._fetched = self._fetched[:BATCH_ENTRIES], self._fetched[BATCH_ENTRIES:]
        return batch

    def restore(self) -> None:
        """Replace the module's state by the newest snapshot's.

        Raises:
            CorruptLog: The snapshot is damaged; the node must stop.
        """
        with self.mutex.held():
            newest = self._shelf.newest  # now: what was so before the wait may be pruned
            assert newest is not None, "the log is only cut off behind a snapshot"
            index = newest.meta.index
            records = self._shelf.sessions(newest)
            content = Content(self._shelf.read(newest))
            try:
                self.sessions.restore(records)
                restore: Callable[[Iterator[bytes]], object] = self._module.restore  # type: ignore[attr-defined]
                restore(content)
            except BaseException as error:  # noqa: BLE001  # half a state is none
                broken: BaseException | None = error
            else:
                broken = content.error
            if broken is None:
                self.last_applied = index
                self._entry, self._restored_time_us = None, newest.meta.time_us
                self.agreement.restored(index, newest.meta.digest)
            else:
                self.failure = ModuleFailed(
                    f"the module could not restore the snapshot {newest.path} of entry {index}:"
                    f" {broken!r}; this node applies nothing: mend the cause and restart it"
                )
        if content.error is not None:
            raise content.error  # not the module's, whatever it made of it
        if self.failure is not None:
            self._log.error("module_failed", index=index, error=repr(broken), exc_info=broken)
            self._failed(self.failure)
            return
        self._log.info("snapshot_restored", index=index)
        for waiter in self._waiters.pop_up_to(index):
            waiter.resolve(None, in_snapshot(waiter))
        self._applied()

    def apply(self, batch: list[Entry]) -> None:
        """Apply *batch*, or the beginning of it, and answer those who wait for that."""
        answers: list[Answer] = []
        began, until = monotonic(), self.stopwatch.read() + BATCH_SECONDS
        with self.mutex.held(), self._applying:
            for entry in batch:
                assert entry.index == self.last_applied + 1, "entries are applied in order, once"
                answer = self._apply_one(entry)
                if answer is None:
                    break
                self.last_applied = entry.index
                self.bytes_applied += entry.size
                answers.append(answer)
                self.agreement.applied(entry, answer.result, answer.error)
                if self.agreement.divergence is not None:
                    self.failure = self._diverged(self.agreement.divergence)
                    break
                if self.stopwatch.ended > until:
                    break
        applied, now = batch[: len(answers)], monotonic()
        self._fetched[:0] = batch[len(answers) :]
        if self.agreement.divergence is not None:
            applied, answers = [], []  # what they came to is in doubt: who waits is told so
        told: list[Waiter] = []
        for entry, answer, at in zip(applied, answers, self._waiters.pop(applied), strict=True):
            for waiter in at or ():
                told.append(waiter)
                if waiter.term != entry.term:
                    waiter.error = overtaken(waiter, entry)
                    continue
                if answer.place == entry.index:
                    waiter.committed_at, waiter.applied_at = began, now
                if answer.place:
                    waiter.index, waiter.term = answer.place, answer.term
                waiter.result, waiter.error = answer.result, answer.error
        tell(told)
        self._applied()
        if self.failure is not None:
            self._failed(self.failure)

    def _apply_one(self, entry: Entry) -> Answer | None:
        """Apply *entry*; None when this node's own trouble keeps it from that."""
        self._entry = entry
        if entry.kind is EntryKind.COMMAND:
            origin = entry.origin
            if origin is None:
                return self._ask_module(entry)
            answer = self.sessions.find(origin, entry.command)
            if answer is None:
                answer = self._ask_module(entry)
                if answer is not None:
                    self.sessions.remember(origin, entry.command, answer)
            return answer
        if entry.kind is EntryKind.SESSION:
            self.sessions.open(entry)
        return Answer(entry.index, entry.term, None, None)

    def _ask_module(self, entry: Entry) -> Answer | None:
        index, term = entry.index, entry.term
        try:
            result = self._apply(entry.command)
        except Rejected as refusal:
            return Answer(index, term, None, sayable(refusal))
        except (MemoryError, OSError) as error:
            self._fail(entry, error)
            return None
        except Exception as error:  # noqa: BLE001  # an answer: one bad command must not kill a cluster
            said = shown(error)
            self._log.warning("module_error", index=index, error=said, exc_info=True)
            return Answer(
                index, term, None, ModuleError(f"the module raised {said} at entry {index}")
            )
        except BaseException as error:  # noqa: BLE001  # SystemExit and its like: not an answer
            self._fail(entry, error)
            return None
        if result is None or isinstance(result, bytes):
            return Answer(index, term, result, None)
        kind = type(result).__name__
        return Answer(
            index, term, None, ModuleError(f"the module answered a {kind}, not bytes or None")
        )

    @property
    def last_time_us(self) -> int:
        """The time of the entry `last_applied`. Asked for under the mutex."""
        return self._entry.time_us if self._entry is not None else self._restored_time_us

    def current_entry(self) -> CurrentEntry:
        """Describe the entry that is being applied; the same object till it is over."""
        entry, current = self._entry, self._current
        assert entry is not None, "only a module that is applying can ask"
        if current is None or current.index != entry.index:
            current = self._current = CurrentEntry(
                index=entry.index,
                term=entry.term,
                time_us=entry.time_us,
                cluster_id=self._cluster_id(),
            )
        return current

    def _fail(self, entry: Entry, error: BaseException) -> None:
        self.failure = ModuleFailed(
            f"the module failed at entry {entry.index} with {shown(error)}; this node applies"
            " nothing more: mend the cause and restart it"
        )
        self._log.error("module_failed", index=entry.index, error=shown(error), exc_info=True)

    def _diverged(self, divergence: Divergence) -> ModuleFailed:
        self._log.error(
            "module_diverged",
            after=divergence.after,
            until=divergence.until,
            why=str(divergence),
        )
        return ModuleFailed(str(divergence))

    # --- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Apply until stopped or failed."""
        while self.failure is None:
            batch = self.next_batch()
            if isinstance(batch, InSnapshot):
                self.restore()
            elif batch:
                self.apply(batch)
                self.stopwatch.rest()
            elif self.is_stopping:
                return
            else:
                if not self.bell.wait(self._patience()):
                    self._impatient()

    def stop(self) -> None:
        """Let the thread apply what is committed and end."""
        self.is_stopping = True
        self.bell.ring()


def shown(error: BaseException) -> str:
    """Write down what a module raised, whose own code may fail at that: no reason to stop."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001  # users' code
        return f"a {type(error).__name__} that can't be shown"


def sayable(refusal: Rejected) -> Rejected:
    """Return *refusal*, or one in its place if its own code can't say why."""
    try:
        str(refusal)
    except Exception:  # noqa: BLE001  # likewise
        return Rejected(f"a {type(refusal).__name__} that can't say why")
    return refusal
