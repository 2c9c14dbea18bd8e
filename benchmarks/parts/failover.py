"""How long a program waits when the leader is killed, with default settings."""

from __future__ import annotations

from time import sleep

from benchmarks.suite import Suite
from benchmarks.systems import nodes, pysyncobj

PART = "failover"
STEADY_SECONDS = 0.5


def measure(suite: Suite) -> None:
    """Kill the leader, several times: what was the longest time without an answer?"""
    with (
        nodes.running(suite.directory / "failover") as cluster,
        nodes.callers(cluster) as callers,
    ):
        for kill in range(suite.options.kills):
            callers.ask("watch")
            sleep(STEADY_SECONDS)
            killed = cluster.kill_leader()
            gap = callers.ask("gap", answers=20)
            suite.take(PART, "tinyraft, SIGKILL", kill, {"seconds": round(gap, 3)})
            cluster.restart(killed)
    if not pysyncobj.is_installed():
        return
    for kill in range(suite.options.kills):
        with pysyncobj.running(kind="default") as others:
            gap = others.failover()
        suite.take(PART, "pysyncobj, SIGKILL", kill, {"seconds": round(gap, 3)})
