"""What is measured: one question a file, each a function that fills in samples.

Law: within a round the systems that are compared take turns, so that a noisy spell meets all.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.parts import (
    big,
    busy,
    disk,
    failover,
    handoffs,
    idle,
    long,
    pinned,
    reads,
    sizes,
    start,
    threads,
    trail,
)
from benchmarks.suite import Suite

PARTS: dict[str, Callable[[Suite], None]] = {
    "threads": threads.measure,
    "pinned": pinned.measure,
    "reads": reads.measure,
    "handoffs": handoffs.measure,
    "trail": trail.measure,
    "disk": disk.measure,
    "sizes": sizes.measure,
    "big": big.measure,
    "busy": busy.measure,
    "idle": idle.measure,
    "start": start.measure,
    "failover": failover.measure,
    "long": long.measure,
}
NEED_PROC = {"idle", "start", "handoffs", "long", "pinned"}  # they read /proc
DEFAULT = [name for name in PARTS if name != "long"]
