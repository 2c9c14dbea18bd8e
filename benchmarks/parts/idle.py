"""What a cluster costs that nobody uses, alone and with 100 callers that wait."""

from __future__ import annotations

from time import monotonic, sleep

from benchmarks.process import cpu_seconds, resident_mb
from benchmarks.suite import Suite
from benchmarks.systems import nodes

PART = "idle"
CALLERS = 100
SETTLE_SECONDS = 1.0


def measure(suite: Suite) -> None:
    """Look at the processors' time of every node, for twice the length of all rounds."""
    seconds = 2 * suite.options.seconds * suite.options.rounds
    with (
        nodes.running(suite.directory / "idle") as cluster,
        nodes.callers(cluster) as callers,
    ):
        callers.ask("hold", count=1)  # what a first caller costs, a hundredth does not
        sleep(SETTLE_SECONDS)
        lines = cluster.log_lines()
        for what, count in (("nobody calls", 0), (f"{CALLERS} idle callers", CALLERS)):
            callers.ask("hold", count=count)
            sleep(SETTLE_SECONDS)
            begun, before = monotonic(), [cpu_seconds(node.pid) for node in cluster.nodes]
            sleep(seconds)
            took = monotonic() - begun
            spent = [
                cpu_seconds(node.pid) - b for node, b in zip(cluster.nodes, before, strict=True)
            ]
            figures = {
                "cpu_percent": round(100 * max(spent) / took, 2),
                "resident_mb": round(max(resident_mb(node.pid) for node in cluster.nodes), 1),
            }
            suite.take(PART, what, 0, figures)
        suite.take(PART, "log lines", 0, {"count": cluster.log_lines() - lines})
        callers.ask("release")
