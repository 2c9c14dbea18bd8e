"""Who waits for which entry.

Law: an answer belongs to (index, term). A proposal that was cut from this log is not known to be
lost: it may live elsewhere and return (dissertation figure 3.7), so its waiter is told "not
applied" only when a different entry is committed in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from time import monotonic
from typing import Any

from tinyraft.core.entry import PLAIN, Entry, Index, NodeId, Stamp, Term
from tinyraft.errors import ApplyTimeout, LeadershipLost, NotLeader, TinyraftError


class Waiter:
    """One proposed command. Waited for by one thread, or answered by a call of *on_done*.

    That gets all that have their answers at the same time.
    """

    __slots__ = (
        "_done",
        "appended_at",
        "applied_at",
        "arrived_at",
        "committed_at",
        "error",
        "index",
        "on_done",
        "result",
        "stamp",
        "term",
    )

    def __init__(
        self, on_done: Callable[[Sequence[Any]], None] | None = None, *, stamp: Stamp = PLAIN
    ) -> None:
        """Begin without an answer; the entry carries *stamp*."""
        self.stamp = stamp
        self.arrived_at = monotonic()  # this and the following tell, and decide nothing
        self.appended_at = self.committed_at = self.applied_at = 0.0
        self.index: Index = 0
        self.term: Term = 0
        self.result: bytes | None = None
        self.error: TinyraftError | None = None
        self.on_done = on_done
        self._done: Lock | None = None
        if on_done is None:
            self._done = Lock()
            self._done.acquire()

    def resolve(self, result: bytes | None, error: TinyraftError | None) -> None:
        """Give the answer. Called once, outside all locks."""
        self.result, self.error = result, error
        tell([self])

    def open(self) -> None:
        """Let the thread go on that waits."""
        if self._done is not None:
            self._done.release()

    @property
    def stages(self) -> tuple[int, int, int]:
        """Microseconds that the command waited, was replicated and was applied; else zeros."""
        if not self.applied_at:
            return 0, 0, 0
        appended, committed = self.appended_at, self.committed_at
        return (
            max(0, int((appended - self.arrived_at) * 1e6)),
            max(0, int((committed - appended) * 1e6)),
            max(0, int((self.applied_at - committed) * 1e6)),
        )

    def wait(self, timeout: float | None) -> bytes | None:
        """Block for the answer.

        Raises:
            ApplyTimeout: *timeout* seconds passed.
            TinyraftError: Whatever the outcome was.
        """
        assert self._done is not None, "who is called back does not wait"
        if not self._done.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise ApplyTimeout(
                f"no answer within {timeout:.3g} s; entry {self.index} of term {self.term} was"
                " appended and may still be applied"
            )
        if self.error is not None:
            raise self.error
        return self.result


class Waiters:
    """All that wait, by index. Thread-safe; its lock is a leaf."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = Lock()  # guards _by_index; leaf
        self._by_index: dict[Index, list[Waiter]] = {}

    def add(self, waiters: Sequence[Waiter], *, first: Index, term: Term) -> None:
        """Let *waiters* wait for consecutive entries. Called under the core's lock."""
        now = monotonic()
        with self._lock:
            for index, waiter in enumerate(waiters, first):
                waiter.index, waiter.term, waiter.appended_at = index, term, now
                self._by_index.setdefault(index, []).append(waiter)

    def discard(self, waiter: Waiter) -> None:
        """Forget one that has given up; the command takes its course."""
        with self._lock:
            at = self._by_index.get(waiter.index, [])
            if waiter in at:
                at.remove(waiter)
                if not at:
                    del self._by_index[waiter.index]

    def pop(self, entries: Iterable[Entry]) -> list[list[Waiter] | None]:
        """Take out who waits at the places of *entries*, place by place."""
        with self._lock:
            return [self._by_index.pop(entry.index, None) for entry in entries]

    def pop_up_to(self, index: Index) -> list[Waiter]:
        """Take out everybody whose place is *index* or below."""
        with self._lock:
            places = [place for place in self._by_index if place <= index]
            return [waiter for place in places for waiter in self._by_index.pop(place)]

    def pop_repeatable(self) -> list[Waiter]:
        """Take out those whose callers may safely ask another node: their commands have a number.

        The others are better off waiting to see what is committed in their places.
        """
        with self._lock:
            everybody = [waiter for at in self._by_index.values() for waiter in at]
            found = [waiter for waiter in everybody if waiter.stamp is not PLAIN]
            for waiter in found:
                at = self._by_index[waiter.index]
                at.remove(waiter)
                if not at:
                    del self._by_index[waiter.index]
        return found

    def pop_behind(self, index: Index) -> list[Waiter]:
        """Take out everybody whose place is behind *index*."""
        with self._lock:
            places = [place for place in self._by_index if place > index]
            return [waiter for place in places for waiter in self._by_index.pop(place)]

    def pop_all(self) -> list[Waiter]:
        """Take everybody out."""
        with self._lock:
            everybody = [waiter for at in self._by_index.values() for waiter in at]
            self._by_index.clear()
        return everybody

    def __len__(self) -> int:
        """Count who waits."""
        return len(self._by_index)


def tell(waiters: Sequence[Waiter]) -> None:
    """Let those know who have got their answers. Called once for each, outside all locks."""
    together: dict[Callable[[Sequence[Any]], None], list[Waiter]] = {}
    for waiter in waiters:
        if waiter.on_done is None:
            waiter.open()
        else:
            together.setdefault(waiter.on_done, []).append(waiter)
    for on_done, theirs in together.items():
        on_done(theirs)


def overtaken(waiter: Waiter, entry: Entry) -> NotLeader:
    """Make the error for a command in whose place *entry* was committed."""
    return NotLeader(
        f"leadership changed: entry {waiter.index} of term {waiter.term} was replaced by one of"
        f" term {entry.term}; the command has no effect",
        term=entry.term,
    )


def out_of_office(waiter: Waiter, me: NodeId) -> LeadershipLost:
    """Make the error for a command whose outcome *me*, who leads no more, may never learn."""
    return LeadershipLost(
        f"{me} lost its leadership after it had appended entry {waiter.index} of term"
        f" {waiter.term}; the command may be applied"
    )


def in_snapshot(waiter: Waiter) -> LeadershipLost:
    """Make the error for a command that came to this node, if at all, inside a snapshot."""
    return LeadershipLost(
        f"leadership changed, and a snapshot of the new leader took the place of entry"
        f" {waiter.index}; the command of term {waiter.term} may have been applied"
    )
