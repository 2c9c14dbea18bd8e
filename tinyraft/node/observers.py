"""Who leads, told to the program: observers, and mandates to act as the leader (dissertation 6.4).

Law: a change is noted where it happens, often under the core's lock, by a flag and nothing else;
the program's code runs in threads of its own, one an observer, and can neither block nor end the
node. Only the newest state is kept for each: who is slow misses what was in between, never the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock
from time import monotonic
from typing import Protocol, TypeAlias

from tinyraft.core.entry import Term
from tinyraft.errors import LeadershipLost, NotStarted, TinyraftError
from tinyraft.logs import Log
from tinyraft.node.bell import Bell
from tinyraft.node.loop import Died, Loop


@dataclass(slots=True, frozen=True)
class KnownLeader:
    """Who leads, as far as a node knows.

    Attributes:
        term: The node's term.
        leader_id: Who leads it; "" when the node knows nobody, or works no more.
        is_self: It is this node.
        is_ready: This node's module has seen all that this leader had committed, and the node
            works and is not shutting down. With *is_self*: it may act as the leader, since
            everything of earlier terms is applied.
    """

    term: Term
    leader_id: str
    is_self: bool
    is_ready: bool

    @property
    def may_act(self) -> bool:
        """Whether this node leads and is ready."""
        return self.is_self and self.is_ready


Callback: TypeAlias = Callable[[KnownLeader], object]


class Watcher(Protocol):
    """Somebody who is told of every change. A leaf: under a lock, and perhaps the core's."""

    def told(self, state: KnownLeader, /) -> None:
        """Take note."""


class Ringing:
    """A watcher that looks for itself when it is rung."""

    def __init__(self, ring: Callable[[], object]) -> None:
        """Call *ring*, which only sets a flag."""
        self._ring = ring

    def told(self, _state: KnownLeader) -> None:
        """Ring."""
        self._ring()


class Observers:
    """All who watch one node. Thread-safe; its lock is a leaf."""

    def __init__(self, look: Callable[[], KnownLeader], *, node: str, log: Log, died: Died) -> None:
        """Tell what *look* finds, which takes no lock."""
        self._look = look
        self._node = node
        self._log = log
        self._died = died
        self._lock = Lock()  # guards all below; leaf
        self._watchers: tuple[Watcher, ...] = ()
        self._observers: list[Observer] = []
        self._made = 0
        self._last: KnownLeader | None = None
        self._is_over = False

    def changed(self, *, ends: bool = False) -> None:
        """Something may have changed; tell who watches. When the node *ends*, tell in any case."""
        if not self._watchers:
            return  # who comes now looks for itself, after this
        with self._lock:
            state = self._look()  # under the lock: nobody puts an older state behind a newer one
            if state != self._last or ends:
                self._last = state
                for watcher in self._watchers:
                    watcher.told(state)

    @contextmanager
    def watching(self, watcher: Watcher) -> Iterator[None]:
        """Tell *watcher* the present state now, and every change till the end of the block."""
        self._add(watcher)
        try:
            yield
        finally:
            self._remove(watcher)

    def _add(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers += (watcher,)
            state = self._look()
            if state != self._last:
                self._last = state
                for one in self._watchers:
                    one.told(state)
            else:
                watcher.told(state)

    def _remove(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers = tuple(one for one in self._watchers if one is not watcher)

    def observe(self, callback: Callback) -> Observer:
        """Call *callback* with the present state and with every later one, in a new thread.

        Raises:
            NotStarted: The node is at its end.
        """
        with self._lock:
            if self._is_over:
                raise NotStarted("the server was shut down")
            self._made += 1
            name = f"tinyraft-{self._node}-observer-{self._made}"
            self._observers = [one for one in self._observers if not one.has_ended]
            observer = Observer(callback, self._remove, name=name, log=self._log, died=self._died)
            self._observers.append(observer)
        observer.start()
        self._add(observer)
        return observer

    def stop(self) -> None:
        """End all observers, each behind the newest state. Does not wait."""
        with self._lock:
            self._is_over = True
            observers = list(self._observers)
        for observer in observers:
            observer.stop()

    def join(self, seconds: Callable[[], float]) -> bool:
        """Wait for the end of all; each at most so many *seconds*."""
        with self._lock:
            observers = list(self._observers)
        return all([observer.join(seconds()) for observer in observers])


class Observer:
    """One callback and its thread. `stop` it, or it ends when the server is shut down."""

    def __init__(
        self,
        callback: Callback,
        remove: Callable[[Observer], None],
        *,
        name: str,
        log: Log,
        died: Died,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self.has_ended = False
        self._callback = callback
        self._remove = remove
        self._name = name
        self._log = log
        self._bell = Bell()
        self._newest: KnownLeader | None = None
        self._is_stopping = False
        self._loop = Loop(name, self.run, died=died)

    def told(self, state: KnownLeader) -> None:
        """Keep *state* for the thread; what it has not taken yet is replaced."""
        self._newest = state
        self._bell.ring()

    def start(self) -> None:
        """Begin."""
        self._loop.start()

    def run(self) -> None:
        """Call the callback with whatever is new, until stopped."""
        seen: KnownLeader | None = None
        while True:
            self._bell.wait()
            is_last, state = self._is_stopping, self._newest  # in this order: the last is the last
            if state is not None and state != seen:
                seen = state
                self._call(state)
            if is_last:
                self.has_ended = True
                return

    def _call(self, state: KnownLeader) -> None:
        try:
            self._callback(state)
        except BaseException as error:  # noqa: BLE001  # the program's, even its SystemExit
            self._log.error("observer_failed", thread=self._name, error=repr(error), exc_info=error)

    def stop(self) -> None:
        """Call the callback no more, but for a state that it was not told yet. Does not wait.

        Safe from any thread, the callback itself among them; idempotent.
        """
        self._remove(self)
        self._is_stopping = True
        self._bell.ring()

    def join(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds for the end; tell whether it came.

        From inside the callback it returns at once.
        """
        return self._loop.join(timeout)


class Mandate:
    """This node's right to act as the leader, for the length of one term.

    Attributes:
        token: The term: a fencing token. It grows from one mandate to the next, so whoever keeps
            the highest that it has seen can refuse the orders of a leader that was replaced.
        lost: Set when the node leads that term no more, has failed, or is shutting down; and when
            the block that it was made for has ended.
    """

    def __init__(self) -> None:
        """Begin without it."""
        self.token: Term = 0
        self.lost = Event()
        self._bell = Bell()

    def told(self, state: KnownLeader) -> None:
        """Take it when it is there, and note when it is gone."""
        if self.token and not (state.may_act and state.term == self.token):
            self.lost.set()
        elif not self.token and state.may_act:
            self.token = state.term
        self._bell.ring()

    def wait(self, timeout: float | None, *, why_never: Callable[[], TinyraftError | None]) -> bool:
        """Block until it is there; False when *timeout* seconds passed.

        Raises:
            TinyraftError: It can't come any more: what *why_never* says.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not self.token:
            error = why_never()
            if error is not None:
                raise error
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            self._bell.wait(left)
        return True

    def check(self) -> None:
        """Go on only while the mandate is there.

        It may be lost a moment later: what must not be done twice is fenced by the `token`.

        Raises:
            LeadershipLost: It is gone; what was begun under it may have taken effect.
        """
        if self.lost.is_set():
            raise LeadershipLost(
                f"this node leads term {self.token} no more: leave the rest to the present leader"
            )
