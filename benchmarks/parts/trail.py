"""How far the followers' modules trail the leader's, under load.

One machine has one monotonic clock for all processes, so the times of three of them compare.
"""

from __future__ import annotations

from benchmarks.suite import Suite

PART = "trail"


def measure(suite: Suite) -> None:
    """Let every node note when its module sees which command, and compare."""
    nodes = suite.nodes
    for round_ in suite.rounds():
        leader = nodes.leader
        for node in nodes.nodes:
            node.ask("trace")
        leader.ask("load", **suite.how(suite.options.many))
        seen = {node: node.ask("times") for node in nodes.nodes}
        late = sorted(
            (times[count] - at) * 1e3
            for node, times in seen.items()
            if node is not leader
            for count, at in seen[leader].items()
            if count in times
        )
        figures = {
            "p50_ms": round(late[len(late) // 2], 3),
            "p99_ms": round(late[len(late) * 99 // 100], 3),
        }
        suite.take(PART, f"followers' modules @{suite.options.many}", round_, figures)
