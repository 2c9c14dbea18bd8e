"""The election and heartbeat timers: one tick a wake-up, however late (dissertation 3.4).

Law: a late wake-up counts once. The interpreter may have been busy, or the machine asleep; that is
not the silence of a leader. How many ticks it was late is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from tinyraft.logs import Log
from tinyraft.node.clock import CLOCK, Clock

LATE_SECONDS = 0.5
WARN_SECONDS = 10.0  # between two warnings: a busy machine is late all the time


def tick_seconds(election_timeout: float) -> float:
    """Choose the length of a tick: a twentieth of the election timeout, within 5 to 20 ms."""
    return min(0.020, max(0.005, election_timeout / 20))


class Ticker:
    """Calls *tick* again and again, with the number of ticks that were slept through."""

    def __init__(
        self,
        tick: Callable[[int], None],
        *,
        seconds: float,
        log: Log,
        clock: Clock = CLOCK,
        late_seconds: float = LATE_SECONDS,
        blame: Callable[[float], dict[str, object]] = lambda _late: {},
    ) -> None:
        """Tick every *seconds*; warn of *late_seconds*, with what *blame* has to say of them."""
        self._tick = tick
        self.seconds = seconds
        self._log = log
        self._monotonic = clock.monotonic
        self._stopping = Event()
        self._warned_at = float("-inf")
        self._late = 0  # wake-ups since the last warning
        self._latest = 0.0  # of those
        self._why: dict[str, object] = {}  # it was so late
        self._late_seconds = late_seconds
        self._blame = blame

    def run(self) -> None:
        """Tick until stopped."""
        due = self._monotonic() + self.seconds
        while not self._stopping.wait(max(0.0, due - self._monotonic())):
            late = self._monotonic() - due
            due = self._monotonic() + self.seconds if late > self.seconds else due + self.seconds
            self.wake(late)

    def wake(self, late: float) -> None:
        """Let one tick pass, which comes *late* seconds late."""
        if late > self._late_seconds:
            self._warn(late)
        self._tick(max(0, int(late / self.seconds)))

    def _warn(self, late: float) -> None:
        """Tell what an operator should know of, but not again and again."""
        self._late += 1
        if late > self._latest:
            self._latest, self._why = late, self._blame(late)
        now = self._monotonic()
        if now - self._warned_at >= WARN_SECONDS:
            seconds = round(self._latest, 3)
            self._log.warning("wake_up_late", seconds=seconds, times=self._late, **self._why)
            self._warned_at, self._late, self._latest, self._why = now, 0, 0.0, {}

    @property
    def is_stopping(self) -> bool:
        """Whether its thread is to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopping.set()
