"""Everything at once, by real processes: one act after the other, drawn from a seed, under load.

``TINYRAFT_RUNS=20`` plays twenty seeds; ``TINYRAFT_SEED=7`` begins with that one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from random import Random
from threading import Event

import grpc
import pytest

from tests.processes import PATIENCE, Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, check_all, mixed
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub

ACTS = 8
MEMBERS = 5
OFTEN = {"RAFT_SNAPSHOT_ENTRIES": "200", "RAFT_TRAILING_BYTES": "0"}
FIRST_SEED = int(os.environ.get("TINYRAFT_SEED", 1))


class Chaos:
    """What may happen to a cluster; after each act it is whole again."""

    def __init__(self, cluster: Processes, random: Random) -> None:
        self.cluster = cluster
        self.random = random
        self.told: list[str] = []
        self._fresh = 0

    def act(self) -> None:
        """Let something happen, and wait until all are back."""
        acts = (
            self.kill,
            self.kill_leader,
            self.kill_majority,
            self.restart,
            self.pause,
            self.move,
            self.replace,
            self.transfer,
            self.snapshot,
        )
        act = self.random.choice(acts)
        self.told.append(act.__name__)
        act()
        self.cluster.wait_ready()

    def any(self) -> int:
        """Draw a node."""
        return self.random.randrange(MEMBERS)

    def admin(self, node: int) -> RaftAdminV1Stub:
        """Get at the admin service of *node*."""
        return RaftAdminV1Stub(self.cluster.channel(node))

    def wait_a_little(self) -> None:
        """Let up to two election timeouts pass."""
        Event().wait(self.random.random())

    def kill(self) -> None:
        """SIGKILL one, and start it again."""
        self._kill([self.any()])

    def kill_leader(self) -> None:
        """SIGKILL the leader, and start it again."""
        self._kill([self.cluster.leader()])

    def kill_majority(self) -> None:
        """SIGKILL three of five at once."""
        self._kill(self.random.sample(range(MEMBERS), 3))

    def _kill(self, nodes: list[int]) -> None:
        for node in nodes:
            self.cluster.kill(node)
        self.wait_a_little()
        for node in nodes:
            self.cluster.start(node)

    def restart(self) -> None:
        """SIGTERM, and a new start."""
        node = self.any()
        assert 0 == self.cluster.stop(node)
        self.cluster.start(node)

    def pause(self) -> None:
        """SIGSTOP one for a while, the leader as often as not."""
        node = self.cluster.leader() if self.random.random() < 0.5 else self.any()
        self.cluster.pause(node)
        self.wait_a_little()
        self.cluster.resume(node)

    def move(self) -> None:
        """Start one at another address."""
        node = self.any()
        assert 0 == self.cluster.stop(node)
        self.cluster.move(node, self.cluster.free_address(node))
        self._start(node)

    def replace(self) -> None:
        """Take one out for ever, and another with an empty disk in."""
        node = self.any()
        other = (node + 1) % MEMBERS
        name = self.cluster.status(node)
        assert name is not None
        order = pb.ChangeMembersRequest(remove=name.node_id)
        self.admin(other).ChangeMembers(order, timeout=PATIENCE)
        assert 0 == self.cluster.stop(node)
        shutil.rmtree(self.cluster.data_dir(node))
        self._fresh += 1
        self.cluster.nodes[node].environ["NODE_ID"] = f"fresh{self._fresh}"
        self.cluster.move(node, self.cluster.free_address(node))
        self._start(node)

    def _start(self, node: int) -> None:
        others = [a for n, a in enumerate(self.cluster.addresses) if n != node]
        environ = self.cluster.nodes[node].environ
        environ.update(RAFT_BOOTSTRAP="false", RAFT_JOIN=",".join(others))
        self.cluster.start(node)

    def transfer(self) -> None:
        """Hand leadership over, to whomever."""
        with suppress(grpc.RpcError):  # it may be refused: nobody can take it just now
            order = pb.TransferLeadershipRequest()
            self.admin(self.any()).TransferLeadership(order, timeout=5.0)

    def snapshot(self) -> None:
        """Have one take a snapshot now."""
        self.admin(self.any()).TakeSnapshot(pb.TakeSnapshotRequest(), timeout=PATIENCE)


@pytest.mark.timeout(120 * runs(1))
def test_nothing_is_lost_whatever_happens(make_cluster: Callable[..., Processes]) -> None:
    """Kills, pauses, moves, replacements, transfers and snapshots under load, in any order."""
    for seed in range(FIRST_SEED, FIRST_SEED + runs(1)):
        cluster = make_cluster(MEMBERS, environ=OFTEN, name=f"seed-{seed}")
        chaos = Chaos(cluster, Random(seed))
        loads: list[Load] = []
        try:
            for _ in range(ACTS):
                with Load(mixed(cluster, threads=10)) as load:
                    loads.append(load)
                    load.wait_applied(60)
                    chaos.act()
                    load.wait_applied(60)
            check_all(cluster, *loads)
        except BaseException as error:
            error.add_note(f"TINYRAFT_SEED={seed}: {', '.join(chaos.told)}")
            raise
        for node in range(MEMBERS):
            cluster.kill(node)
