"""Threads that got their answers together wake up one after the other, each by the one before.

Law: whoever was woken, or leaves for another reason, wakes the next before all else, so that the
chain can't break; one break too many does no harm, since the first link is an extra one.

Sixty threads woken at once queue up for the interpreter, and each of them is put to sleep again
there by the kernel: that costs half as much again as waking them in turn. But where some other
thread computes, everybody who is woken waits a switch interval for his turn; a chain would add
these up. So whoever was woken late wakes all the others at once.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic

LATE_SECONDS = 0.002  # from wake-up to running; 5 ms is the interpreter's default switch interval


class Relay:
    """Locks to be opened, in order. Thread-safe: each is opened once, whoever does it."""

    __slots__ = ("_left", "_woke_at")

    def __init__(self) -> None:
        """Begin without anybody; `add` them before the first `pass_on`."""
        self._left: list[Lock] = []
        self._woke_at = 0.0

    def add(self, lock: Lock) -> None:
        """Let *lock* be opened behind those that came before."""
        self._left.append(lock)

    def begin(self) -> None:
        """Wake the first."""
        self._left.reverse()
        self._woke_at = monotonic()
        self._open(1)

    def pass_on(self) -> None:
        """Wake the next; by everybody who was woken."""
        if self._left:
            now = monotonic()
            late, self._woke_at = now - self._woke_at > LATE_SECONDS, now
            self._open(len(self._left) if late else 1)

    def _open(self, count: int) -> None:
        try:
            for _ in range(count):
                self._left.pop().release()
        except IndexError:
            return  # another thread took the last
