"""Who belongs to the cluster: what nodes and operators ask, and what the leader makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from tests.node.cores import configuration
from tinyraft.core.configuration import AddLearner, Configuration, Demote, Relocate, Remove
from tinyraft.core.entry import NodeId
from tinyraft.core.sighting import Sighting
from tinyraft.errors import (
    ApplyTimeout,
    ChangeInProgress,
    ConnectionLost,
    IdReused,
    MembershipError,
    NodeRemoved,
    NoQuorum,
    NotCaughtUp,
    NotLeader,
    NotStarted,
    TinyraftError,
    WrongCluster,
)
from tinyraft.node.membership import Membership
from tinyraft.node.sightings import Sightings
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.announce import Announcement
from tinyraft.transport.envelope import Malformed
from tinyraft.transport.remote import Joined, JoinOrder

A, B = NodeId("a"), NodeId("b")
ORDER = JoinOrder("d", "d.example:1", True, 44)


class FakeNode:
    """A node of three whose role and answers the test sets."""

    def __init__(self) -> None:
        self.me = A
        self.leads = False
        self.known: tuple[NodeId | None, str, int] = (None, "", 5)
        self.members = configuration("a", "b", "c")
        self.index, self.commit_index, self.noop_index = 3, 8, 2
        self.transfer: Any = None
        self.changes: list[Any] = []
        self.refusals: list[TinyraftError] = []
        self.answers = True
        self.is_stopping = False
        self.is_removed = False
        self.news: list[Callable[[], object]] = []
        self.sightings = Sightings(A)
        self.waiters = SimpleNamespace(discard=lambda waiter: self.discarded.append(waiter))
        self.discarded: list[Any] = []

    def configuration(self) -> Configuration:
        return self.members

    def leader(self) -> tuple[NodeId | None, str, int]:
        return self.known

    def look(self, at: Callable[[Any], Any]) -> Any:
        return at(
            SimpleNamespace(
                committed_configuration=self.members,
                configuration=self.members,
                history=SimpleNamespace(latest_index=self.index),
                commit_index=self.commit_index,
                leadership=SimpleNamespace(noop_index=self.noop_index, transfer=self.transfer),
            )
        )

    def turn(self, event: Callable[[Any], Any]) -> Any:
        def transfer(to: NodeId | None) -> NodeId:
            self.transfer = to or B
            return self.transfer  # type: ignore[no-any-return]

        return event(SimpleNamespace(transfer=transfer))

    def change_members(self, change: Any, waiter: Any, *, expect: Any = None) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.changes.append(change if expect is None else (change, expect))
        waiter.index = 9
        if self.answers:
            waiter.resolve(None, None)

    def wait_until(self, condition: Callable[[], Any], *, timeout: float) -> Any:
        while not (found := condition()) and self.news:
            self.wait_for_news(timeout)
        return found

    def wait_for_news(self, _timeout: float) -> None:
        if self.news:
            self.news.pop(0)()


class FakeRemote:
    """Other nodes that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = 7

    def join(self, address: str, order: JoinOrder, *, timeout: float, forward: bool = True) -> Any:
        return self._give(address, order, forward)

    def change(self, address: str, change: Any, *, expect: Any, timeout: float) -> Any:
        return self._give(address, change, expect)

    def transfer(self, address: str, to: str, *, timeout: float) -> Any:
        return self._give(address, to)

    def _give(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    """The members as a fake node sees them."""

    def __init__(self, *, cluster: str = "the-cluster", epoch: int = 0) -> None:
        self.node, self.remote = FakeNode(), FakeRemote()
        self.membership = Membership(
            self.node,  # type: ignore[arg-type]
            identity=lambda: Identity(A, cluster, ord("a"), epoch),
            remote=self.remote,  # type: ignore[arg-type]
            address="a.example:1",
            since_us=50,
        )

    def follow(self) -> None:
        """Let b lead."""
        self.node.leads, self.node.known = False, (B, "b.example:1", 5)

    def lead(self) -> None:
        """Lead."""
        self.node.leads, self.node.known = True, (A, "a.example:1", 5)

    def change(self, change: Any, *, timeout: float = 1.0, forwarded: bool = False) -> int:
        """Change somebody, whatever the configuration is."""
        return self.membership.change(change, expect=None, timeout=timeout, forwarded=forwarded)


@pytest.fixture
def bench() -> Bench:
    """Lend the members of a node that knows no leader."""
    return Bench()


# --- joining ----------------------------------------------------------------------------------


def test_a_stranger_becomes_a_learner(bench: Bench) -> None:
    """With the vote it wants noted, and its disk."""
    bench.lead()
    joined = bench.membership.join(ORDER, timeout=1.0, forwarded=False)
    assert Joined("d", "a", 5, "the-cluster", 9) == joined
    (change,) = bench.node.changes
    assert isinstance(change, AddLearner)
    assert ("d", False, True, 44) == (
        change.member.id,
        change.member.voter,
        change.member.wants_vote,
        change.member.incarnation,
    )


def test_a_member_at_its_address_changes_nothing(bench: Bench) -> None:
    """A Join whose answer was lost may be repeated."""
    bench.lead()
    order = JoinOrder("b", "b.example:1", True, ord("b"), "the-cluster")
    assert "b" == bench.membership.join(order, timeout=1.0, forwarded=False).node_id
    bench.membership.join(replace(order, address="moved:2"), timeout=1.0, forwarded=False)
    assert [Relocate(B, "moved:2", ord("b"))] == bench.node.changes


def test_an_id_is_never_two_disks(bench: Bench) -> None:
    """An emptied directory must not speak for the member that it was."""
    bench.lead()
    with pytest.raises(IdReused):
        bench.membership.join(
            JoinOrder("b", "b.example:1", True, 1234), timeout=1.0, forwarded=False
        )
    with pytest.raises(WrongCluster, match="other"):
        bench.membership.join(replace(ORDER, cluster_id="other"), timeout=1.0, forwarded=False)
    assert [] == bench.node.changes


def test_without_an_id_one_is_assigned_for_the_address(bench: Bench) -> None:
    """The original's client: a new one for a new address, the member's for a known one."""
    bench.lead()
    new = bench.membership.join(JoinOrder("", "d.example:1", False), timeout=1.0, forwarded=False)
    known = bench.membership.join(JoinOrder("", "c.example:1", False), timeout=1.0, forwarded=False)
    assert 36 == len(new.node_id)
    assert "c" == known.node_id
    assert 1 == len(bench.node.changes)


@pytest.mark.parametrize("node_id", ["../../etc", "x" * 65, "a\nb", "-a", "é"])
def test_an_impossible_id_is_refused(bench: Bench, node_id: str) -> None:
    """Ids become file names, labels and log lines."""
    bench.lead()
    with pytest.raises(Malformed, match="is no id"):
        bench.membership.join(replace(ORDER, node_id=node_id), timeout=1.0, forwarded=False)


@pytest.mark.parametrize("address", ["", "nonsense", "host:0", "host:99999", "a b:1", "x\n:1"])
def test_an_impossible_address_is_refused(bench: Bench, address: str) -> None:
    """Who can't be dialled can't be a member."""
    bench.lead()
    with pytest.raises(MembershipError, match="advertise_addr"):
        bench.membership.join(replace(ORDER, address=address), timeout=1.0, forwarded=False)


def test_one_change_at_a_time_is_waited_for(bench: Bench) -> None:
    """A change under way delays a join, it does not refuse it."""
    bench.lead()
    bench.node.refusals = [ChangeInProgress("wait"), ChangeInProgress("wait")]
    assert "d" == bench.membership.join(ORDER, timeout=5.0, forwarded=False).node_id


def test_a_join_is_forwarded_once(bench: Bench) -> None:
    """The leader decides; a forwarded call is not forwarded again."""
    bench.follow()
    bench.remote.answer = Joined("d", "b", 5, "the-cluster", 4)
    assert bench.remote.answer == bench.membership.join(ORDER, timeout=1.0, forwarded=False)
    assert [("b.example:1", ORDER, False)] == bench.remote.asked
    with pytest.raises(NotLeader):
        bench.membership.join(ORDER, timeout=1.0, forwarded=True)


def test_who_is_asked_and_leads_no_more_is_no_answer(bench: Bench) -> None:
    """Nothing was done there: whoever was asked first hears of the new leader, and asks that."""
    bench.follow()
    bench.remote.answer = NotLeader("b leads no more")
    bench.node.news = [lambda: setattr(bench.remote, "answer", "c")]
    assert "c" == bench.membership.transfer("c", timeout=1.0, forwarded=False)
    assert [("b.example:1", "c")] * 2 == bench.remote.asked
    bench.remote.answer = NotLeader("b leads no more")
    with pytest.raises(NotLeader, match="no more"):
        bench.membership.transfer("c", timeout=0.01, forwarded=False)


def test_a_join_without_a_leader_ends_in_time(bench: Bench) -> None:
    """And at once when the node is on its way out."""
    with pytest.raises(NoQuorum):
        bench.membership.join(ORDER, timeout=0.01, forwarded=False)
    bench.node.is_stopping = True
    began = monotonic()
    with pytest.raises(NoQuorum):
        bench.membership.join(ORDER, timeout=30.0, forwarded=False)
    assert monotonic() - began < 15


def test_a_member_that_was_added_before_it_ran_says_which_disk_it_has(bench: Bench) -> None:
    """An operator knows its address only; what it asks for beyond that is no longer its choice."""
    bench.lead()
    b = replace(bench.node.members.members[1], incarnation=0, voter=False)
    bench.node.members = bench.node.members.with_member(b)
    bench.membership.join(JoinOrder("b", "b.example:1", True, 99), timeout=1.0, forwarded=False)
    assert [Relocate(B, "b.example:1", 99)] == bench.node.changes


def test_a_removed_id_never_joins_again(bench: Bench) -> None:
    """It is told so, not that its id is taken."""
    bench.lead()
    bench.node.members = Configuration(bench.node.members.members, (NodeId("d"),))
    with pytest.raises(NodeRemoved, match="new NODE_ID"):
        bench.membership.join(ORDER, timeout=1.0, forwarded=False)


# --- operators --------------------------------------------------------------------------------


def test_the_leader_changes_and_says_where(bench: Bench) -> None:
    """With what the operator expects; its entry's index comes back."""
    bench.lead()
    index = bench.membership.change(Remove(B), expect=3, timeout=1.0, forwarded=False)
    assert (9, [(Remove(B), 3)]) == (index, bench.node.changes)


def test_any_node_passes_a_change_on_once(bench: Bench) -> None:
    """With what is expected; a call that was forwarded is refused with a hint."""
    bench.follow()
    assert 7 == bench.membership.change(Demote(B), expect=4, timeout=1.0, forwarded=False)
    assert [("b.example:1", Demote(B), 4)] == bench.remote.asked
    with pytest.raises(NotLeader, match=r"b\.example:1"):
        bench.change(Demote(B), forwarded=True)
    bench.remote.answer = ConnectionLost("gone")
    with pytest.raises(ConnectionLost):
        bench.change(Demote(B))
    assert 2 == len(bench.remote.asked)


def test_the_change_before_is_waited_for(bench: Bench) -> None:
    """Members promote and move by themselves; an operator hears only of one that hangs."""
    bench.lead()
    bench.node.refusals = [ChangeInProgress("another"), ChangeInProgress("another")]
    assert 9 == bench.change(Demote(B))
    bench.node.refusals = [ChangeInProgress("another")]
    with pytest.raises(ChangeInProgress):
        bench.change(Demote(B), timeout=0)


def test_a_change_that_is_not_committed_in_time_may_still_be(bench: Bench) -> None:
    """It is in the log: that is no refusal."""
    bench.lead()
    bench.node.answers = False
    with pytest.raises(ApplyTimeout):
        bench.change(Demote(B), timeout=0.01)
    assert 1 == len(bench.node.discarded)


def test_a_removed_node_changes_nothing(bench: Bench) -> None:
    """It does not know who leads, and its refusal is never taken for one of the caller's."""
    bench.node.is_removed = True
    for ask in (
        lambda: bench.change(Demote(B)),
        lambda: bench.membership.join(ORDER, timeout=1.0, forwarded=False),
        lambda: bench.membership.announced(announcement()),
    ):
        with pytest.raises(NotStarted, match="ask another member"):
            ask()


def test_a_new_voter_is_waited_for(bench: Bench) -> None:
    """Not heard of yet, a learner, not yet committed, a voter."""
    node = bench.node
    everybody = node.members

    def stand(index: int, commit: int, *, votes: bool) -> Callable[[], None]:
        def happen() -> None:
            node.index, node.commit_index = index, commit
            c = replace(everybody.members[2], voter=votes, wants_vote=not votes)
            node.members = everybody.with_member(c)

        return happen

    stand(4, 4, votes=True)()
    node.news = [stand(6, 6, votes=False), stand(8, 7, votes=True), stand(8, 8, votes=True)]
    assert 8 == bench.membership.wait_promoted("c", index=6, timeout=1.0)
    stand(6, 6, votes=False)()
    with pytest.raises(NotCaughtUp, match=r"c\.example:1"):
        bench.membership.wait_promoted("c", index=6, timeout=0.01)


@pytest.mark.parametrize("gone", [True, False], ids=["removed", "demoted"])
def test_one_that_never_gets_its_vote_is_not_waited_for(bench: Bench, gone: bool) -> None:
    """Somebody else decided otherwise."""
    c = replace(bench.node.members.members[2], voter=False)
    members = bench.node.members.with_member(c)
    bench.node.members = members.without(c.id) if gone else members
    with pytest.raises(MembershipError, match="while it caught up"):
        bench.membership.wait_promoted("c", index=1, timeout=30.0)


# --- leadership -------------------------------------------------------------------------------


def test_leadership_is_handed_over_and_waited_for(bench: Bench) -> None:
    """Until somebody has it; who has it need not be asked."""
    bench.lead()
    bench.node.news = [lambda: setattr(bench.node, "leads", False), bench.follow]
    bench.node.known = (None, "", 6)
    assert "b" == bench.membership.transfer("", timeout=1.0, forwarded=False)
    bench.lead()
    assert "a" == bench.membership.transfer("a", timeout=1.0, forwarded=False)


def test_a_successor_that_does_not_come_is_told(bench: Bench) -> None:
    """The old leader leads on, or nobody does yet: two different answers."""
    bench.lead()
    bench.node.news = [lambda: setattr(bench.node, "transfer", None)]
    with pytest.raises(MembershipError, match="c has not taken over in time, a leads on"):
        bench.membership.transfer("c", timeout=0.01, forwarded=False)
    bench.node.news = [lambda: setattr(bench.node, "leads", False)]
    bench.node.known = (None, "", 6)
    with pytest.raises(NoQuorum, match="nobody leads yet"):
        bench.membership.transfer("", timeout=0.01, forwarded=False)


def test_a_transfer_is_forwarded_once(bench: Bench) -> None:
    """The leader does it."""
    bench.follow()
    bench.remote.answer = "c"
    assert "c" == bench.membership.transfer("c", timeout=1.0, forwarded=False)
    assert [("b.example:1", "c")] == bench.remote.asked


# --- announcements ----------------------------------------------------------------------------


def announcement(node: str = "b", *, disk: int = 0, cluster: str = "the-cluster") -> Announcement:
    sender = Sighting(NodeId(node), f"{node}.moved:1", disk or ord(node[0]), 60)
    return Announcement(cluster, sender, (Sighting(NodeId("c"), "c.moved:1", ord("c"), 70),))


def test_who_announces_is_dialled_there_and_hears_of_the_others(bench: Bench) -> None:
    """What it says of others is taken too; the answer names this node and all that is known."""
    bench.follow()
    answer = bench.membership.announced(announcement())
    assert [("a", "a.example:1"), ("b", "b.moved:1"), ("c", "c.moved:1")] == [
        (sighting.id, sighting.address) for sighting in answer.known
    ]
    assert ("b", "b.example:1", 5) == (answer.leader_id, answer.leader_address, answer.term)
    assert ["a", "b", "c"] == [
        s.id
        for s in (bench.membership.announcement().sender, *bench.membership.announcement().known)
    ]
    other = Bench()
    other.membership.heard(answer)
    assert [*answer.known[1:]] == other.node.sightings.known(other.node.members)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (announcement(cluster="other"), WrongCluster),
        (announcement(disk=3), IdReused),
        (announcement("gone"), NodeRemoved),
    ],
    ids=["another cluster", "another disk", "removed"],
)
def test_who_may_not_announce_is_told_why(
    bench: Bench, given: Announcement, error: type[TinyraftError]
) -> None:
    """Nothing of it is believed, not what it says of others either."""
    bench.node.members = Configuration(bench.node.members.members, (NodeId("gone"),))
    with pytest.raises(error):
        bench.membership.announced(given)
    assert [] == bench.node.sightings.known(bench.node.members)


def test_one_that_is_not_yet_listed_is_answered(bench: Bench) -> None:
    """It was added by a change that has not arrived here."""
    answer = bench.membership.announced(announcement("new"))
    assert ["a", "c"] == [sighting.id for sighting in answer.known]


def test_a_node_outside_of_any_cluster_hears_no_announcement() -> None:
    """It can't tell whose it is."""
    with pytest.raises(NotStarted):
        Bench(cluster="").membership.announced(announcement())


# --- after a repair -----------------------------------------------------------------------------


def test_a_copy_from_before_a_repair_is_not_dialled_instead() -> None:
    """It asks, and announces itself, as the member that it was (P44)."""
    bench = Bench(epoch=2)
    bench.lead()
    order = JoinOrder("b", "moved:2", True, ord("b"), "the-cluster", 1)
    with pytest.raises(WrongCluster, match="'b' is from before repair 2"):
        bench.membership.join(order, timeout=1.0, forwarded=False)
    with pytest.raises(WrongCluster, match="'b' is from before repair 2"):
        bench.membership.announced(announcement())
    assert [] == bench.node.changes
    assert [] == bench.node.sightings.known(bench.node.members)
    bench.membership.join(replace(order, recovery_epoch=2), timeout=1.0, forwarded=False)
    assert 1 == len(bench.node.changes)
    bench.membership.announced(replace(announcement(), recovery_epoch=2))
    assert 2 == bench.membership.announcement().recovery_epoch


def test_a_node_that_joins_is_told_the_epoch() -> None:
    """It knows none yet, and is heard by the others only in theirs."""
    bench = Bench(epoch=2)
    bench.lead()
    assert 2 == bench.membership.join(ORDER, timeout=1.0, forwarded=False).recovery_epoch


def test_who_is_from_before_a_repair_says_so_itself() -> None:
    """The other side is not called old by the one that is."""
    bench = Bench()
    with pytest.raises(WrongCluster, match=r"^a is from before repair 1"):
        bench.membership.announced(replace(announcement(), recovery_epoch=1))
