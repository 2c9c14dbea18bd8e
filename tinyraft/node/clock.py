"""The clocks, as they are handed in: a simulation has its own time.

Law: durations come from the monotonic clock; the other one only stamps entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time_ns


@dataclass(slots=True, frozen=True)
class Clock:
    """Two ways to ask what time it is."""

    monotonic: Callable[[], float] = monotonic
    time_ns: Callable[[], int] = time_ns


CLOCK = Clock()
