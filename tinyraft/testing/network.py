"""The network between simulated processes: late, lost, twice, cut in one direction or both.

Law: knows names and times, not what is said. A message that is lost is just not heard of again; a
connection that is reset says so to both ends, as far as they can hear it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tinyraft.testing.schedule import Schedule

Action = Callable[[], object]


class SimNetwork:
    """Who hears whom, and how late."""

    def __init__(self, schedule: Schedule, *, random: Random, latency: float) -> None:
        """Begin without faults; a message takes about *latency* seconds."""
        self._schedule = schedule
        self._random = random
        self.latency = latency
        self.factor = 1.0
        self.loss = 0.0
        self.twice = 0.0
        self.cuts: set[tuple[str, str]] = set()
        self.slow: dict[str, float] = {}

    def heal(self) -> None:
        """End all faults."""
        self.loss = self.twice = 0.0
        self.factor = 1.0
        self.cuts.clear()
        self.slow.clear()

    def loses(self, source: str, target: str) -> bool:
        """Tell, by chance, whether a message is lost."""
        return (source, target) in self.cuts or (
            self.loss > 0.0 and self._random.random() < self.loss
        )

    def delay(self, source: str, target: str) -> float:
        """Draw how long a message takes."""
        slow = max(self.slow.get(source, 1.0), self.slow.get(target, 1.0))
        return self.latency * self.factor * slow * (0.5 + self._random.expovariate(1.0))

    def send(self, source: str, target: str, what: str, action: Action) -> None:
        """Let *action* happen at *target*: later, twice, or never."""
        if self.loses(source, target):
            self._schedule.note(f"lost {source}>{target} {what}")
            return
        self._schedule.after(self.delay(source, target), f"{source}>{target} {what}", action)
        if self.twice > 0.0 and self._random.random() < self.twice:
            self._schedule.after(
                self.delay(source, target) * 3, f"{source}>{target} again {what}", action
            )
