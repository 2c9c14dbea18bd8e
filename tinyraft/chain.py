"""Threads that wait for the same, and wake one another.

Law: who is woken wakes the next before it does anything else, and who leaves is woken by nobody: to
be in the line and to be woken exclude each other, because both take the place out of it.

Waking sixty threads at once makes them all fight for the interpreter: each is scheduled, finds it
taken, and is scheduled again. One after the other each is scheduled once, which on the project's
reference machine took 12 instead of 20 µs of processor time a thread. Beside a thread that computes
each step would cost a switch interval, so a chain that is late wakes all who are left at once.

Ctrl-C may come between any two steps and lose one: who was just taken out of the line, or the word
at the end. So whoever waits for either looks for himself now and then.

Whoever finds nobody left to wake says so: that is the moment to begin what the next of them, many
of whom are these same threads, will share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from time import monotonic

LATE_SECONDS = 0.002  # from one to the next: somebody else holds the interpreter


def nothing() -> None:
    """Do nothing at the end."""


class Chain:
    """A line of threads, each at a lock of its own. Thread-safe without a lock of its own.

    A step of it is one operation of a deque, which the interpreter does not divide.
    """

    __slots__ = ("_at_end", "_places", "_woke_at")

    def __init__(self, at_end: Callable[[], object] = nothing) -> None:
        """Begin with nobody; *at_end* is called once, by the last, or by `open` of an empty one."""
        self._places: deque[Lock] = deque()
        self._at_end = [at_end]
        self._woke_at = 0.0

    def __len__(self) -> int:
        """Count who was not woken."""
        return len(self._places)

    def join(self, place: Lock) -> None:
        """Wait at *place*, which is held, as the last one."""
        self._places.append(place)

    def join_again(self, place: Lock) -> None:
        """Likewise, as the first one."""
        self._places.appendleft(place)

    def leave(self, place: Lock) -> bool:
        """Go without having been woken; False when *place* was released, or will be right now."""
        try:
            self._places.remove(place)
        except ValueError:
            return False
        return True

    def wake(self) -> bool:
        """Wake the first one, which passes it on; False when there is none."""
        try:
            place = self._places.popleft()
        except IndexError:
            return False
        self._woke_at = monotonic()
        place.release()
        return True

    def open(self) -> None:
        """Wake one after the other. Called once, without locks."""
        if not self.wake():
            self._end()

    def pass_on(self) -> None:
        """Wake the next one, or all when it has taken long to come here; for who was woken."""
        try:
            self._pass_on()
        except BaseException:  # Ctrl-C
            self._pass_on()
            raise

    def _pass_on(self) -> None:
        is_late = monotonic() - self._woke_at > LATE_SECONDS
        while self.wake():
            if not is_late:
                return
        self._end()

    def _end(self) -> None:
        at_end = self.take_end()
        if at_end is not None:
            at_end()

    def take_end(self) -> Callable[[], object] | None:
        """Take over what is to be called at the end; None when somebody did."""
        try:
            return self._at_end.pop()
        except IndexError:
            return None
