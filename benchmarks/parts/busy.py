"""Beside a thread of the program that computes in Python all the time.

Every hand-off between threads then waits until the interpreter switches, which is the program's to
set (`sys.setswitchinterval`, 5 ms by default).
"""

from __future__ import annotations

from benchmarks.suite import Suite
from benchmarks.systems import nodes

PART = "busy"
INTERVALS_MS = (5.0, 0.5, 0.05)


def measure(suite: Suite) -> None:
    """Take each switch interval in turn; in a cluster of its own, for it may lose its leader."""
    with nodes.running(suite.directory / "busy") as cluster:
        leader = cluster.leader
        term = leader.ask("status")["term"]
        for round_ in suite.rounds():
            for count in (1, suite.options.many):
                what = f"nobody computes @{count}"
                suite.take(PART, what, round_, leader.ask("load", **suite.how(count)))
            for interval in INTERVALS_MS:
                leader.ask("spin", interval_ms=interval)
                for count in (1, suite.options.many):
                    row = leader.ask("load", **suite.how(count))
                    suite.take(PART, f"switch interval {interval:g} ms @{count}", round_, row)
                leader.ask("rest")
        status = leader.ask("status")
        kept = status["leads"] and status["term"] == term
        suite.take(PART, "leadership", 0, {"lost": 0.0 if kept else 1.0})
