"""Who waits for the index of a read, and who for the module to have seen it (dissertation 6.4).

Law: a waiter is answered once, by whoever takes it out, and outside all locks. Nobody stays behind:
a leader that steps down, a module that fails and a node that ends answer all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from tinyraft.core.entry import Index
from tinyraft.core.reads import ReadAnswer
from tinyraft.errors import NotLeader, TinyraftError
from tinyraft.node.waiters import Waiter


class Readers:
    """All open reads of one node. Thread-safe; its lock is a leaf."""

    def __init__(self, *, last_applied: Callable[[], Index]) -> None:
        """Begin with nobody."""
        self._lock = Lock()  # guards _asking and _behind; leaf
        self._asking: dict[Waiter, None] = {}  # in the order in which they came
        self._behind: dict[Waiter, None] = {}  # likewise
        self._last_applied = last_applied

    def __len__(self) -> int:
        """Count who waits."""
        return len(self._asking) + len(self._behind)

    def ask(self, waiter: Waiter) -> None:
        """Let *waiter* wait for an answer of the core."""
        with self._lock:
            self._asking[waiter] = None

    def answered(self, answers: Sequence[ReadAnswer]) -> None:
        """Pass on what the core answered."""
        for answer in answers:
            waiter = answer.read
            assert isinstance(waiter, Waiter), "nothing else asks"
            if not self.discard(waiter):
                continue  # it gave up
            if answer.index is None:
                waiter.resolve(None, NotLeader("leadership was lost before the read was confirmed"))
            else:
                waiter.index = answer.index
                waiter.resolve(None, None)

    def when_applied(self, index: Index, waiter: Waiter) -> None:
        """Answer *waiter* as soon as the module has seen the entry *index*."""
        waiter.index = index
        with self._lock:
            is_behind = self._last_applied() < index
            if is_behind:
                self._behind[waiter] = None
        if not is_behind:
            waiter.resolve(None, None)

    def applied(self, index: Index) -> None:
        """The module has seen all entries up to *index*."""
        with self._lock:
            ready = [waiter for waiter in self._behind if waiter.index <= index]
            for waiter in ready:
                del self._behind[waiter]
        for waiter in ready:
            waiter.resolve(None, None)

    def discard(self, waiter: Waiter) -> bool:
        """Take *waiter* out; False when it was answered already."""
        with self._lock:
            was_there = waiter in self._asking or waiter in self._behind
            self._asking.pop(waiter, None)
            self._behind.pop(waiter, None)
        return was_there

    def fail(self, why: TinyraftError) -> None:
        """Answer everybody with *why*."""
        with self._lock:
            everybody = [*self._asking, *self._behind]
            self._asking, self._behind = {}, {}
        for waiter in everybody:
            waiter.resolve(None, why)
