"""The election and heartbeat timers: one tick a wake-up, however late (dissertation 3.4).

Law: a late wake-up counts once. The interpreter may have been busy, or the machine asleep; that is
not the silence of a leader.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from time import monotonic

from tinyraft.logs import Log

LATE_SECONDS = 0.5


def tick_seconds(election_timeout: float) -> float:
    """Choose the length of a tick: a twentieth of the election timeout, within 5 to 20 ms."""
    return min(0.020, max(0.005, election_timeout / 20))


class Ticker:
    """Calls *tick* again and again."""

    def __init__(self, tick: Callable[[], None], *, seconds: float, log: Log) -> None:
        """Tick every *seconds*."""
        self._tick = tick
        self.seconds = seconds
        self._log = log
        self._stopping = Event()

    def run(self) -> None:
        """Tick until stopped."""
        due = monotonic() + self.seconds
        while not self._stopping.wait(max(0.0, due - monotonic())):
            late = monotonic() - due
            if late > LATE_SECONDS:
                self._log.warning("wake_up_late", seconds=round(late, 3))
            due = monotonic() + self.seconds if late > self.seconds else due + self.seconds
            self._tick()

    @property
    def is_stopping(self) -> bool:
        """Whether its thread is to end."""
        return self._stopping.is_set()

    def tick(self) -> None:
        """Let one tick pass."""
        self._tick()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopping.set()
