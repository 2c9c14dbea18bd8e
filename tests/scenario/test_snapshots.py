"""Logs that are shortened under load, by real processes: nothing acknowledged is lost with them.

``TINYRAFT_RUNS=50`` repeats the rounds fifty times.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.processes import Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, check_all, mixed, through_caller

OFTEN = {"RAFT_SNAPSHOT_ENTRIES": "150", "RAFT_TRAILING_BYTES": "0"}


@pytest.fixture
def cluster(make_cluster: Callable[..., Processes]) -> Processes:
    """Three voters that take snapshots all the time."""
    return make_cluster(environ=OFTEN)


def wait_until_behind(cluster: Processes, node: int, index: int) -> None:
    """Wait until the log of *node* begins behind *index*."""

    def begins_behind() -> bool:
        status = cluster.status(node)
        return status is not None and status.first_index > index + 1

    cluster.wait(begins_behind, f"the log of n{node} to begin behind {index}")


@pytest.mark.timeout(60 + 15 * runs(2))
def test_who_was_left_behind_catches_up_under_load(cluster: Processes) -> None:
    """A follower whose entries are gone everywhere gets a snapshot while commands go on (P53)."""
    for _ in range(runs(2)):
        leader = cluster.leader()
        behind = (leader + 1) % 3
        others = [node for node in range(3) if node != behind]
        with Load([through_caller(cluster.caller(others))] * 6) as load:
            load.wait_applied(50)
            cluster.kill(behind)
            status = cluster.status(leader)
            assert status is not None
            for node in others:
                wait_until_behind(cluster, node, status.last_index)
            cluster.start(behind)
            cluster.wait_ready([behind])
            load.wait_applied(100)
        check_all(cluster, load)
        assert "snapshot_restored" in cluster.log(behind)


@pytest.mark.timeout(60 + 15 * runs(2))
def test_processes_killed_between_snapshots_lose_nothing(cluster: Processes) -> None:
    """Killed at any moment, all at once, they come back from snapshot and log together."""
    random = Random(5)
    for _ in range(runs(2)):
        with Load(mixed(cluster)) as load:
            load.wait_applied(random.randint(200, 500))
            for node in range(3):
                cluster.kill(node)
            for node in random.sample(range(3), 3):
                cluster.start(node)
            cluster.wait_ready()
            load.wait_applied(100)
        check_all(cluster, load)


@pytest.mark.timeout(60)
def test_a_new_member_begins_with_a_snapshot(make_cluster: Callable[..., Processes]) -> None:
    """A node with an empty directory gets the state as a snapshot, and is promoted."""
    cluster = make_cluster(4, environ=OFTEN, started=3)
    with Load([through_caller(cluster.caller(range(3)))] * 6) as load:
        for node in range(3):
            wait_until_behind(cluster, node, 4)
        cluster.start(3)
        cluster.wait_ready([3])
        load.wait_applied(100)
    check_all(cluster, load)
    assert "snapshot_restored" in cluster.log(3)
