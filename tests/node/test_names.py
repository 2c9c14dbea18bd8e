"""Addresses by name: what becomes of one that nobody has."""

from __future__ import annotations

import tinyraft
from tests.cluster import LocalCluster

NOBODY = "no-such-host.invalid:50051"


def test_a_name_that_nobody_has_stops_no_start(cluster: LocalCluster) -> None:
    """One dead name among those to ask neither ends nor blocks a start, or a caller (P113)."""
    cluster.start(1)
    there = cluster["a"].status().address
    cluster.make("b", join=(NOBODY, there)).start()
    cluster.wait_voters(["a", "b"])
    with tinyraft.Caller([NOBODY, there]) as caller:
        assert b"1" == caller.apply(b"word")
