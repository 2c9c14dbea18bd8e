"""The long run: does anything grow with the length of the log, or with time?

Asks for the ratio to the ceiling, which takes turns with us, at the end and at the beginning.
"""

from __future__ import annotations

from statistics import median
from time import monotonic

from benchmarks.process import resident_mb
from benchmarks.suite import Suite

PART = "long"
TURN_SECONDS = 5.0


def measure(suite: Suite) -> None:
    """Take turns with the ceiling for `minutes`."""
    seconds = suite.options.minutes * 60
    began, ratios = monotonic(), []
    how = {**suite.how(suite.options.many), "seconds": min(TURN_SECONDS, seconds / 12)}
    turn = 0
    while (at := monotonic() - began) < seconds:
        reference = suite.ceiling.local(**how)
        row = suite.nodes.local(**how)
        ratio = row["per_second"] / reference["per_second"]
        most = max(resident_mb(node.pid) for node in suite.nodes.nodes)
        figures = {"at_seconds": round(at), "ratio": round(ratio, 3), "resident_mb": round(most, 1)}
        suite.take(PART, "tinyraft, local", turn, {**row, **figures})
        ratios.append(ratio)
        turn += 1
    sixth = max(1, len(ratios) // 6)
    first, last = median(ratios[:sixth]), median(ratios[-sixth:])
    figures = {"first": round(first, 3), "last": round(last, 3), "last_to_first": last / first}
    suite.take(PART, f"{suite.options.minutes:g} minutes", 0, figures)
