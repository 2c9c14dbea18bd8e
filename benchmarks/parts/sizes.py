"""Five nodes beside three."""

from __future__ import annotations

from benchmarks.suite import Suite
from benchmarks.systems import nodes

PART = "sizes"


def measure(suite: Suite) -> None:
    """Take both in turn."""
    how = suite.how(suite.options.many)
    with nodes.running(suite.directory / "five", size=5) as five:
        for round_ in suite.rounds():
            suite.take(PART, "3 nodes", round_, suite.nodes.local(**how))
            suite.take(PART, "5 nodes", round_, five.local(**how))
