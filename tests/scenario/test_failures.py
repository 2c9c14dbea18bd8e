"""Nodes die, freeze and return under load, and nothing acknowledged is lost.

``TINYRAFT_RUNS=50`` repeats each story's rounds fifty times.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from threading import Event
from time import monotonic

import pytest

from tests.processes import Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, check_all, mixed, through_caller, through_unary
from tinyraft.storage.data_dir import DataDir
from tinyraft.storage.disk import RealDisk
from tinyraft.transport.options import check_bind
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

Measured = Callable[[str, float], None]
TIMEOUT = 0.5  # of the clusters here


@pytest.mark.timeout(60 + 10 * runs(3))
def test_a_killed_leader_loses_nothing(cluster: Processes, measured: Measured) -> None:
    """A leader killed under load: no acknowledged command is lost and none is applied twice."""
    for _ in range(runs(3)):
        with Load(mixed(cluster)) as load:
            load.wait_applied(200)
            leader = cluster.leader()
            cluster.kill(leader)
            killed = monotonic()
            load.wait_applied(200)
            measured("failover after SIGKILL, s", load.first_applied_since(killed))
            cluster.start(leader)
            cluster.wait_ready([leader])
            load.wait_applied(100)
        check_all(cluster, load)
        measured("commands with unknown outcome after SIGKILL", load.count("maybe"))


@pytest.mark.timeout(60 + 15 * runs(2))
def test_a_cluster_killed_at_once_loses_nothing(cluster: Processes, measured: Measured) -> None:
    """All three die at the same moment and return in any order: the acknowledged is there."""
    random = Random(4)
    for _ in range(runs(2)):
        with Load(mixed(cluster)) as load:
            load.wait_applied(200)
            for node in range(3):
                cluster.signal(node, signal.SIGKILL)
            for node in range(3):
                cluster.wait_exit(node)
            order = random.sample(range(3), 3)
            for node in order[:2]:
                cluster.start(node)
            started = monotonic()
            load.wait_applied(100)
            measured("answers after all were killed, s", load.first_applied_since(started))
            cluster.start(order[2])
            cluster.wait_ready([order[2]])
            load.wait_applied(50)
        check_all(cluster, load)


@pytest.mark.timeout(60 + 10 * runs(2))
def test_a_frozen_leader_is_replaced_and_returns_as_a_follower(
    cluster: Processes, measured: Measured
) -> None:
    """A leader that freezes for three timeouts finds another in office, and nothing is lost."""
    for _ in range(runs(2)):
        with Load(mixed(cluster, unary_timeout=1.0)) as load:
            load.wait_applied(100)
            leader = cluster.leader()
            others = [node for node in range(3) if node != leader]
            cluster.pause(leader)
            paused = monotonic()
            with Load([through_caller(cluster.caller(others))]) as fresh:
                fresh.wait_applied(50)
            measured("failover after SIGSTOP, s", fresh.first_applied_since(paused))
            assert cluster.leader(others) in others
            Event().wait(max(0.0, paused + 3 * TIMEOUT - monotonic()))
            cluster.resume(leader)
            load.wait_applied(100)
        check_all(cluster, load, fresh)
        cluster.leader()


def test_a_frozen_follower_stops_nobody(cluster: Processes) -> None:
    """While one follower is frozen the same leader serves on; the follower catches up after."""
    before = cluster.wait_converged()
    leader = cluster.leader()
    frozen = (leader + 1) % 3
    with Load([through_caller(cluster.caller([leader]))] * 4) as load:
        cluster.pause(frozen)
        paused = monotonic()
        load.wait_applied(200)
        Event().wait(max(0.0, paused + 3 * TIMEOUT - monotonic()))
        load.wait_applied(200)
        cluster.resume(frozen)
    check_all(cluster, load)
    after = cluster.wait_converged()
    assert (before.term, before.node_id) == (after.term, after.node_id)


def test_a_node_that_was_down_catches_up(cluster: Processes, measured: Measured) -> None:
    """A node returns after thousands of entries, and soon has them all."""
    absent = (cluster.leader() + 1) % 3
    cluster.kill(absent)
    with Load([through_caller(cluster.caller())] * 16) as load:
        load.wait_applied(runs(1) * 3000, seconds=60)
    cluster.start(absent)
    started = monotonic()
    cluster.wait_ready([absent])
    check_all(cluster, load)
    measured("a node that missed 3000 entries is back, s", monotonic() - started)


@pytest.mark.timeout(60 + 15 * runs(1))
def test_a_rolling_restart_loses_nothing(cluster: Processes, measured: Measured) -> None:
    """Each node in turn is asked to end and is started again, under load: clean exits, no loss."""
    for _ in range(runs(1)):
        unary = [through_unary(cluster, node) for node in range(3)]
        with Load([through_caller(cluster.caller())] * 5) as load, Load(unary) as raw:
            for node in range(3):
                load.wait_applied(100)
                asked = monotonic()
                assert 0 == cluster.stop(node), cluster.log(node)
                measured("end after SIGTERM, s", monotonic() - asked)
                assert monotonic() - asked < 5.0
                assert_left_nothing(cluster, node)
                load.wait_applied(50)
                cluster.start(node)
                cluster.wait_ready([node])
            load.wait_applied(50)
        check_all(cluster, load, raw)
        measured("rolling restart, caller: unknown outcomes", load.count("maybe"))
        measured("rolling restart, caller: refused", load.count("not"))
        measured("rolling restart, unary: unknown outcomes", raw.count("maybe"))
        measured("rolling restart, unary: refused", raw.count("not"))


def assert_left_nothing(cluster: Processes, node: int) -> None:
    check_bind(cluster.addresses[node])
    DataDir.open(RealDisk(), cluster.data_dir(node)).close()


def test_waiting_callers_do_not_starve_peers(cluster: Processes, measured: Measured) -> None:
    """A node whose callers all wait still elects, appends and answers as soon as a peer returns."""
    leader = cluster.leader()
    others = [node for node in range(3) if node != leader]
    for node in others:
        cluster.pause(node)
    blocked = Load([through_unary(cluster, leader, timeout=20.0)] * 140)
    with idle_streams(cluster, leader, count=100), blocked:
        cluster.wait(lambda: blocked.count("not") >= 20, "the overflow to be refused")
        cluster.wait(lambda: not leads(cluster, leader), "the leader without quorum to step down")
        for node in others:
            cluster.kill(node)
        cluster.start(others[0])
        started = monotonic()
        cluster.leader()
        measured("leader after 140 calls waited, s", monotonic() - started)
        blocked.wait_applied(120)
        measured("answers after 140 calls waited, s", monotonic() - started)
    check_all(cluster, blocked)


def leads(cluster: Processes, node: int) -> bool:
    status = cluster.status(node)
    return status is not None and status.role == pb.ROLE_LEADER


@contextmanager
def idle_streams(cluster: Processes, node: int, *, count: int) -> Iterator[None]:
    """Hold *count* streams of callers open at *node*, without a command."""
    over = Event()

    def nothing() -> Iterator[pb.ApplyStreamRequest]:
        over.wait()
        yield from ()

    stub = RaftServiceV1Stub(cluster.channel(node))
    calls = [stub.ApplyStream(nothing()) for _ in range(count)]
    try:
        assert count == sum(bool(call.initial_metadata()) for call in calls)
        yield
    finally:
        over.set()
        for call in calls:
            call.cancel()
