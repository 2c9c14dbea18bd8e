"""A module that keeps the interpreter busy for longer than an election timeout."""

from __future__ import annotations

from time import monotonic

from tests.cluster import LocalCluster

TIMEOUT = 1.0
BUSY = 3 * TIMEOUT


def test_a_busy_module_costs_nobody_the_office(cluster: LocalCluster) -> None:
    """The leader's module computes for three timeouts, and heartbeats go out (P95, P118)."""
    cluster.start(3, timeout=TIMEOUT)
    leader = cluster.leader()
    took: list[float] = []

    def compute() -> bytes:
        began = monotonic()
        while monotonic() - began < BUSY:
            sum(range(1000))
        took.append(monotonic() - began)
        return b"computed"

    cluster.modules[leader].misbehave[b"compute"] = compute
    before = cluster[leader].status()
    assert b"computed" == cluster[leader].apply(b"compute", timeout=10 * BUSY)
    assert took[0] >= BUSY
    after = [server.status() for server in cluster]
    assert {(before.term, leader)} == {(status.term, status.leader_id) for status in after}
