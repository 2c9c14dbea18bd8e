"""A network that is cut between nodes which run on: network namespaces on one Linux machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from tests.processes import Processes, wait
from tests.scenario.load import Load, check_all, through_caller, through_unary
from tinyraft.wire import raft_pb2 as pb

TIMEOUT = 0.5


class Network:
    """One namespace a node, all on one bridge; who may not talk to whom is a route to nowhere."""

    def __init__(self, count: int) -> None:
        self._name = f"tr{os.getpid() % 100_000}"
        self._net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self._count = count
        self._ending = ExitStack()

    def host(self, node: int) -> str:
        return f"{self._net}.{node + 1}"

    def inside(self, node: int) -> list[str]:
        return ["ip", "netns", "exec", f"{self._name}n{node}"]

    def __enter__(self) -> Network:
        with ExitStack() as undo:
            bridge = f"{self._name}b"
            ip("link", "add", bridge, "type", "bridge")
            undo.callback(ip, "link", "del", bridge)
            ip("addr", "add", f"{self._net}.254/24", "dev", bridge)
            ip("link", "set", bridge, "up")
            for node in range(self._count):
                space, wire = f"{self._name}n{node}", f"{self._name}v{node}"
                ip("netns", "add", space)
                undo.callback(ip, "netns", "del", space)
                ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
                ip("link", "set", wire, "master", bridge, "up")
                ip("-n", space, "addr", "add", f"{self.host(node)}/24", "dev", "eth0")
                ip("-n", space, "link", "set", "eth0", "up")
                ip("-n", space, "link", "set", "lo", "up")
            self._ending = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _routes(self, change: str, one: int, other: int) -> None:
        for a, b in ((one, other), (other, one)):
            ip("-n", f"{self._name}n{a}", "route", change, "blackhole", f"{self.host(b)}/32")

    def cut(self, one: int, other: int) -> None:
        self._routes("add", one, other)

    def heal(self, one: int, other: int) -> None:
        self._routes("del", one, other)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("partitions need root and iproute2")
    with ExitStack() as ending:
        try:
            net = ending.enter_context(Network(3))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine allows no network namespaces: {error.stderr.strip()}")
        yield net


def test_a_leader_cut_off_steps_down_and_loses_nothing(
    network: Network,
    make_cluster: Callable[..., Processes],
    measured: Callable[[str, float], None],
) -> None:
    """A leader that hears no majority steps down within two timeouts; another serves; all heals."""
    cluster = make_cluster(host=network.host, wrap=network.inside)
    leader = cluster.leader()
    others = [node for node in range(3) if node != leader]
    with Load([through_unary(cluster, node, timeout=2.0) for node in range(3)]) as load:
        load.wait_applied(50)
        for node in others:
            network.cut(leader, node)
        cut = monotonic()
        with Load([through_caller(cluster.caller(others))] * 2) as fresh:
            wait(lambda: not leads(cluster, leader), "the leader to step down", seconds=5)
            measured("stepped down after a cut, s", monotonic() - cut)
            assert monotonic() - cut < 2 * TIMEOUT + 0.5  # how long the question may take
            fresh.wait_applied(50)
        measured("failover after a cut, s", fresh.first_applied_since(cut))
        assert cluster.leader(others) in others
        for node in others:
            network.heal(leader, node)
        healed = monotonic()
        cluster.wait_ready([leader])
        measured("healed, s", monotonic() - healed)
    check_all(cluster, load, fresh)


def leads(cluster: Processes, node: int) -> bool:
    status = cluster.status(node)
    return status is not None and status.role == pb.ROLE_LEADER
