"""When the next batch may begin: who was just answered is likely to be back at once.

Law: delays, and decides nothing else. That nobody comes is noticed behind `GAP_SECONDS`, or twice
what the batch before took. The wait goes on while they come, for as long as so many threads need to
wake one another, and never longer than `MOST_SECONDS`.

Callers that wait for their answers fall into two halves by themselves, one whose batch is under way
and one that comes back meanwhile, and each half pays for a batch of its own: a sync, a message to
every peer, some forty wake-ups. Holding the second half until the first is back makes one batch of
both (`docs/performance.md` has the figures). Where they don't come back, or others come at any time
and no wait gathers them, that is noticed, and tried again more and more seldom.
"""

from __future__ import annotations

GAP_SECONDS = 0.010
EACH_SECONDS = 0.000100  # until a thread is awake, wakes the next, and comes back
MOST_SECONDS = 0.050
MOST_DOUBLINGS = 8
ENOUGH = 1024  # commands: what a batch costs is little for each of so many


class Gathering:
    """The time between two batches. The core's lock guards it, but for what says otherwise."""

    def __init__(self) -> None:
        """Begin with nobody to wait for."""
        self._until = 0.0  # monotonic: another look at how many have come
        self._last = 0.0  # and the last one
        self._gap = 0.0
        self._wanted = 0
        self._come = 0  # by the last look
        self._size = 0  # of the batch under way
        self._began = 0.0
        self._in_vain = 0  # in a row
        self._skips = 0  # so many batches are begun without a wait

    def begins(self, size: int, *, now: float) -> None:
        """Note that a batch of *size* commands begins."""
        self.over(size)
        self._size, self._began = size, now

    def over(self, waiting: int) -> None:
        """Wait for nobody any more; so many have come."""
        if self._wanted and waiting >= self._wanted:
            self._in_vain = 0
        elif self._wanted:
            self._in_vain = min(self._in_vain + 1, MOST_DOUBLINGS)
            self._skips = (1 << self._in_vain) >> 2  # once may be chance
        self._wanted = 0

    def ended(self, *, waiting: int, now: float) -> None:
        """Note that the batch is committed, and how many commands wait already."""
        wanted, self._size = self._size + waiting, 0
        if self._skips:
            self._skips -= 1
        elif wanted > max(1, waiting):
            self._wanted, self._come = min(wanted - wanted // 16, ENOUGH), waiting
            self._gap = min(GAP_SECONDS, 2 * (now - self._began))
            longest = max(self._gap, min(MOST_SECONDS, self._wanted * EACH_SECONDS))
            self._until, self._last = now + self._gap, now + longest

    def is_enough(self, waiting: int) -> bool:
        """Tell whether nobody else has to be waited for. Thread-safe."""
        return waiting >= self._wanted

    def holds(self, waiting: int, *, now: float) -> bool:
        """Tell whether those who have come wait for more; another sixteenth prolongs that."""
        if self.is_enough(waiting):
            return False
        if self._until <= now < self._last and waiting - self._come >= max(1, self._wanted // 16):
            self._come, self._until = waiting, min(now + self._gap, self._last)
        return now < self._until

    def left(self, *, now: float) -> float | None:
        """Seconds until the next look; None where nobody is waited for. Thread-safe."""
        return max(0.0, self._until - now) if self._wanted else None
