"""Every machine of a cluster is replaced by another while the cluster serves."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tests.processes import PATIENCE, Processes
from tests.scenario.load import Load, check_all, through_caller
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub


def test_all_members_are_replaced_under_load(make_cluster: Callable[..., Processes]) -> None:
    """The leader first, each by a new id on an empty disk; nothing that was answered is lost."""
    cluster = make_cluster(3)
    order = [cluster.leader()]
    order += [node for node in range(3) if node not in order]
    for node in order:
        others = [other for other in range(3) if other != node]
        with Load([through_caller(cluster.caller(others))] * 4) as load:
            load.wait_applied(50)
            admin = RaftAdminV1Stub(cluster.channel(others[0]))
            gone = pb.ChangeMembersRequest(remove=f"n{node}")
            admin.ChangeMembers(gone, timeout=PATIENCE)
            cluster.wait(lambda n=node: (s := cluster.status(n)) and s.removed, "it to be told")
            assert 0 == cluster.stop(node)
            shutil.rmtree(cluster.data_dir(node))
            cluster.move(node, cluster.free_address(node))
            there = ",".join(cluster.addresses[other] for other in others)
            cluster.start(node, NODE_ID=f"fresh{node}", RAFT_BOOTSTRAP="false", RAFT_JOIN=there)
            cluster.wait_ready()
            load.wait_applied(50)
        check_all(cluster, load)
    answer = admin.Members(pb.MembersRequest(), timeout=PATIENCE)
    assert {"fresh0", "fresh1", "fresh2"} == {member.id for member in answer.members}
    assert {"n0", "n1", "n2"} == set(answer.removed)
