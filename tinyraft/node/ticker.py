"""The election and heartbeat timers: time as the core knows it (dissertation 3.4).

Law: a wake-up lets the ticks pass that it waited for, and no more, however late it comes. The
interpreter may have been busy, or the machine asleep; that is not the silence of a leader. How many
ticks it was late is told beside it.

A wake-up costs 0.1 ms of a processor, most of it in the system. So nobody wakes up fifty times a
second for ticks at which nothing is due: the core says when something will be, and a ring makes the
wait end with the tick that is under way. Who woke up late waits for every single tick for a while:
where the processor is short, the ticks that come are counted.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyraft.logs import Log
from tinyraft.node.bell import Bell
from tinyraft.node.clock import CLOCK, Clock

LATE_SECONDS = 0.5
WARN_SECONDS = 10.0  # between two warnings: a busy machine is late all the time
WARY_TICKS = 50  # are waited for one by one behind a late wake-up


def tick_seconds(election_timeout: float) -> float:
    """Choose the length of a tick: a twentieth of the election timeout, within 5 to 20 ms."""
    return min(0.020, max(0.005, election_timeout / 20))


class Ticker:
    """Calls *tick* again and again: with how many passed, and how many were slept through.

    That tells in how many ticks something is due.
    """

    def __init__(
        self,
        tick: Callable[[int, int], int],
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
        self.bell = Bell()
        self.ticks = 1  # that the present wait is for
        self._wary = 0  # for so many ticks to come
        self._is_stopping = False
        self._warned_at = float("-inf")
        self._late = 0  # wake-ups since the last warning
        self._latest = 0.0  # of those
        self._why: dict[str, object] = {}  # it was so late
        self._late_seconds = late_seconds
        self._blame = blame

    def run(self) -> None:
        """Tick until stopped."""
        last = self._monotonic()
        while not self._is_stopping:
            due = last + self.ticks * self.seconds
            if self.bell.wait(due - self._monotonic()):
                self.hasten(self._monotonic() - last)
                continue
            late = self._monotonic() - due
            last = self._monotonic() if late > self.seconds else due
            self.wake(late)

    def ring(self) -> None:
        """What is due may have changed: sleep no longer than to the end of the present tick."""
        self.bell.ring()

    def hasten(self, passed: float) -> None:
        """Have a wait that was rung *passed* seconds after its begin end with the present tick."""
        self.ticks = min(self.ticks, 1 + int(passed / self.seconds))

    def wake(self, late: float) -> None:
        """Let the ticks pass that were waited for; the last comes *late* seconds late."""
        if late > self._late_seconds:
            self._warn(late)
        overslept = max(0, int(late / self.seconds))
        self._wary = WARY_TICKS if overslept else max(0, self._wary - self.ticks)
        found = self._tick(self.ticks, overslept)
        self.ticks = 1 if self._wary else found

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
        return self._is_stopping

    def stop(self) -> None:
        """Let the thread end."""
        self._is_stopping = True
        self.bell.ring()
