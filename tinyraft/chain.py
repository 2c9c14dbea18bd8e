"""Threads that wait for the same, and wake one another.

Law: who is woken wakes the next before it does anything else, and who leaves is woken by nobody: to
be in the line and to be woken exclude each other, because both take the place out of it.

Waking sixty threads at once makes them all fight for the interpreter: each is scheduled, finds it
taken, and is scheduled again. One after the other each is scheduled once, which on the project's
reference machine took 12 instead of 20 µs of processor time a thread. Beside a thread that computes
each step would cost a switch interval, so a chain that is late wakes all who are left at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock
from time import monotonic

LATE_SECONDS = 0.002  # from one to the next: somebody else holds the interpreter


class Chain:
    """A line of threads, each at a lock of its own. Thread-safe without a lock of its own.

    A step of it is one operation of a deque, which the interpreter does not divide.
    """

    __slots__ = ("_places", "_woke_at")

    def __init__(self, places: Iterable[Lock] = ()) -> None:
        """Begin with *places*: locks that are held, each by a thread that waits for it."""
        self._places = deque(places)
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

    def pass_on(self) -> None:
        """Wake the next one, or all when it has taken long to come here."""
        if monotonic() - self._woke_at > LATE_SECONDS:
            while self.wake():
                pass
        else:
            self.wake()
