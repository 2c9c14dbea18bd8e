"""Simulated time: what happens when, and a hash of all that happened.

Law: nothing else decides the order. Equal seeds give equal hashes, in any process and under any
PYTHONHASHSEED.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import blake2b
from random import Random

Action = Callable[[], object]


class Event:
    """Something that will happen, unless it is called off."""

    __slots__ = ("action", "what")

    def __init__(self, what: str, action: Action) -> None:
        """Do *action*; *what* goes into the trace."""
        self.what = what
        self.action: Action | None = action

    def cancel(self) -> None:
        """Call it off."""
        self.action = None


class Schedule:
    """The events to come, by time; events of one moment come in an order of chance."""

    def __init__(self, random: Random) -> None:
        """Begin at second 0."""
        self.now = 0.0
        self.count = 0
        self._random = random
        self._heap: list[tuple[float, float, int, Event]] = []
        self._pushed = 0
        self._hash = blake2b(digest_size=16)

    def after(self, seconds: float, what: str, action: Action) -> Event:
        """Let *action* happen in *seconds*."""
        event = Event(what, action)
        self._pushed += 1
        at = self.now + seconds
        heapq.heappush(self._heap, (at, self._random.random(), self._pushed, event))
        return event

    def run(self, until: float, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen that is due before *until* (seconds), or before *stop* is true."""
        while self._heap and self._heap[0][0] <= until and not stop():
            at, _, _, event = heapq.heappop(self._heap)
            if event.action is None:
                continue
            self.now = at
            self.count += 1
            self.note(event.what)
            event.action()

    def note(self, what: str) -> None:
        """Put *what* into the trace."""
        self._hash.update(f"{self.now!r} {what}\n".encode())

    @property
    def trace(self) -> str:
        """The hash of all that happened."""
        return self._hash.hexdigest()
