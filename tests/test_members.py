"""The verbs of a `Server` about members, in a cluster of real servers in this process."""

from __future__ import annotations

import pytest

import tinyraft
from tests.cluster import LocalCluster, until
from tests.processes import free_ports


def free_address() -> str:
    (port,) = free_ports(["127.0.0.1"])
    return f"127.0.0.1:{port}"


def votes(cluster: LocalCluster, name: str) -> dict[str, bool]:
    return {member.id: member.voter for member in cluster[name].members().members}


def test_an_operator_adds_a_voter_before_it_runs(cluster: LocalCluster) -> None:
    """From a follower; it needs no RAFT_VOTER, and its data directory is noted when it comes."""
    cluster.start(2)
    follower = cluster[cluster.followers()[0]]
    address = free_address()
    index = follower.add_voter("c", address, wait=False)
    assert ("c", False, True, 0) == (
        (c := follower.members().get("c")).id,  # type: ignore[union-attr]
        c.voter,  # type: ignore[union-attr]
        c.wants_vote,  # type: ignore[union-attr]
        c.incarnation,  # type: ignore[union-attr]
    )
    with pytest.raises(tinyraft.NotCaughtUp, match=address):
        follower.add_voter("c", address, timeout=0.3)
    cluster.make("c", listen_address=address, voter=False).start()
    assert follower.add_voter("c", address, timeout=20) > index
    assert cluster["c"].wait_ready()
    assert {"a": True, "b": True, "c": True} == votes(cluster, "a")
    incarnation = cluster["c"].status().incarnation
    until(lambda: follower.members().get("c").incarnation == incarnation)  # type: ignore[union-attr]


def test_a_voter_becomes_a_learner_and_a_voter_again(cluster: LocalCluster) -> None:
    """Each verb from any node; what is so already is no change."""
    cluster.start(3)
    one, other = cluster.followers()
    index = cluster[other].demote(one)
    assert index == cluster[cluster.leader()].demote(one)
    until(lambda: not votes(cluster, one)[one])
    cluster[one].apply(b"still here")
    assert index < cluster[one].promote(one)
    until(lambda: votes(cluster, other)[one])


def test_a_removed_follower_is_told_and_stays_readable(cluster: LocalCluster) -> None:
    """It takes no commands, never campaigns, and says so; its id is refused for ever."""
    cluster.start(3)
    gone, other = cluster.followers()
    cluster[gone].apply(b"before")
    until(lambda: cluster.modules[gone].words)
    address = cluster[gone].status().address
    cluster[other].remove(gone)
    until(lambda: cluster[gone].status().removed, what="it is told")
    status = cluster[gone].status()
    assert (False, "follower") == (status.is_ready, status.role.value)
    assert not cluster[gone].wait_ready(timeout=None)
    with pytest.raises(tinyraft.NodeRemoved, match="new NODE_ID"):
        cluster[gone].apply(b"lost")
    assert [b"before"] == cluster[gone].read(lambda m: list(m.words), consistency="stale")
    with pytest.raises(tinyraft.IdReused, match="was removed"):
        cluster[other].add_voter(gone, address)
    assert (gone,) == cluster[other].members().removed
    term = cluster[other].status().term
    cluster[other].apply(b"after")
    assert term == cluster[other].status().term


def test_a_removed_learner_is_told_too(cluster: LocalCluster) -> None:
    """It never campaigns, so nobody would refuse it: it asks."""
    cluster.start(2)
    cluster.make("c", voter=False).start()
    assert cluster["c"].wait_ready()
    cluster["a"].remove("c")
    until(lambda: cluster["c"].status().removed, what="it is told")


def test_a_leader_removes_itself(cluster: LocalCluster) -> None:
    """It hands over, nothing that was acknowledged is lost, and it leads no more."""
    cluster.start(3)
    leader = cluster.leader()
    cluster[leader].apply(b"before")
    cluster[leader].remove(leader)
    until(lambda: cluster[leader].status().removed)
    successor = cluster.leader(without=leader)
    cluster[successor].apply(b"after")
    read = cluster[successor].read(lambda m: list(m.words), consistency="stale")
    assert [b"before", b"after"] == read
    assert not cluster[leader].is_leader
    assert leader not in votes(cluster, successor)


def test_leadership_goes_where_it_is_wanted(cluster: LocalCluster) -> None:
    """From a follower to a chosen one, to the best one, to whoever has it; never to a learner."""
    cluster.start(3)
    one, other = cluster.followers()
    assert other == cluster[one].transfer_leadership(other)
    until(lambda: cluster[other].is_leader)
    assert other == cluster[one].transfer_leadership(other)
    assert other != cluster[other].transfer_leadership()
    for nobody in ("nobody", "not an id"):
        with pytest.raises(tinyraft.MembershipError):
            cluster[one].transfer_leadership(nobody)


def test_compare_and_set(cluster: LocalCluster) -> None:
    """Two operators that saw the same configuration: the second is refused."""
    cluster.start(3)
    one, other = cluster.followers()
    until(lambda: cluster[one].members().is_committed)
    seen = cluster[one].members()
    index = cluster[one].demote(other, expect=seen.index)
    with pytest.raises(tinyraft.ConfigurationChanged, match=rf"entry {index}, not of entry"):
        cluster[other].demote(one, expect=seen.index)
    until(lambda: cluster[one].members().index == index)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: s.add_learner("a", "127.0.0.1:1"), tinyraft.IdReused),
        (lambda s: s.add_learner("x", s.status().address), tinyraft.MembershipError),
        (lambda s: s.add_learner("x", "nowhere"), tinyraft.MembershipError),
        (lambda s: s.add_learner("x", ":50051"), tinyraft.MembershipError),
        (lambda s: s.add_voter("no id", "127.0.0.1:1"), tinyraft.MembershipError),
        (lambda s: s.promote("x"), tinyraft.UnknownMember),
        (lambda s: s.remove("x"), tinyraft.UnknownMember),
        (lambda s: s.remove("a"), tinyraft.MembershipError),
        (lambda s: s.demote("a"), tinyraft.MembershipError),
    ],
    ids=[
        "a taken id",
        "a taken address",
        "no address",
        "an address of every host",
        "no id",
        "a stranger's promotion",
        "a stranger's removal",
        "the last voter's removal",
        "the last voter's demotion",
    ],
)
def test_refusals(cluster: LocalCluster, change, error) -> None:  # type: ignore[no-untyped-def]
    """Refused with the reason, and nothing has changed."""
    cluster.start(1)
    before = cluster["a"].members()
    with pytest.raises(error):
        change(cluster["a"])
    assert before == cluster["a"].members()
