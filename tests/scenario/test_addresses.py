"""Members that come back at other addresses are found again, without anybody typing anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processes import PATIENCE, Processes
from tests.scenario.load import Load, check_all, through_caller
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub

MakeCluster = Callable[..., Processes]
SERVE = [
    "-c",
    "from tinyraft.cli import main; main()",
    "serve",
    "--with-parent",
    "tests.scenario.journal:Journal",
]


def move_all(cluster: Processes, *, named: int) -> None:
    """Let everybody, who is stopped, come back elsewhere and know *named*'s new address only."""
    nodes = range(len(cluster.nodes))
    for node in nodes:
        cluster.move(node, cluster.free_address(node))
    for node in nodes:
        cluster.nodes[node].environ["RAFT_JOIN"] = cluster.addresses[named]
        cluster.start(node)
    cluster.wait_ready()


@pytest.mark.parametrize("count", [3, 5])
def test_all_move_at_once_and_one_name_finds_one_of_them(
    make_cluster: MakeCluster, count: int
) -> None:
    """The one that is named lacks entries, so another must be elected, whom nobody was told of."""
    cluster = make_cluster(count, program=SERVE)
    behind = range((count - 1) // 2)
    with Load([through_caller(cluster.caller())] * 4) as load:
        load.wait_applied(100)
        for node in behind:
            assert 0 == cluster.stop(node)
        load.wait_applied(100)
    for node in cluster.running():
        cluster.kill(node)
    move_all(cluster, named=0)
    with Load([through_caller(cluster.caller())] * 2) as more:
        more.wait_applied(50)
    check_all(cluster, load, more)
    where = {f"n{node}": address for node, address in enumerate(cluster.addresses)}

    def is_written(node: int) -> bool:
        status = cluster.status(node)
        return status is not None and where == {m.id: m.address for m in status.members}

    cluster.wait(lambda: all(map(is_written, range(count))), f"all logs to have {where}")


def test_one_that_moved_is_found_while_the_others_serve(make_cluster: MakeCluster) -> None:
    """It announces itself to those whom its own log names; RAFT_JOIN may be stale or empty."""
    cluster = make_cluster(3, program=SERVE)
    moved = (cluster.leader() + 1) % 3
    with Load([through_caller(cluster.caller())] * 2) as load:
        load.wait_applied(50)
        cluster.kill(moved)
        cluster.move(moved, cluster.free_address(moved))
        cluster.start(moved, RAFT_JOIN="")
        cluster.wait_ready()
        load.wait_applied(50)
    check_all(cluster, load)


def test_a_removed_node_says_so_after_a_restart(make_cluster: MakeCluster) -> None:
    """It knows nothing of it from its own disk; the others tell it, and it disturbs nobody."""
    cluster = make_cluster(3, program=SERVE)
    gone = (cluster.leader() + 1) % 3
    others = [node for node in range(3) if node != gone]
    cluster.kill(gone)
    with Load([through_caller(cluster.caller(others))] * 2) as load:
        load.wait_applied(50)
        admin = RaftAdminV1Stub(cluster.channel(others[0]))
        admin.ChangeMembers(pb.ChangeMembersRequest(remove=f"n{gone}"), timeout=PATIENCE)
        term = cluster.status(cluster.leader()).term  # type: ignore[union-attr]
        cluster.start(gone)
        cluster.wait(lambda: (s := cluster.status(gone)) and s.removed, "the removed to be told")
        load.wait_applied(50)
    assert "new NODE_ID" in cluster.log(gone)
    assert term == cluster.status(cluster.leader()).term  # type: ignore[union-attr]
    assert 0 == cluster.stop(gone)
    check_all(cluster, load)
