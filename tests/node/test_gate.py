"""The door of a node: who may speak, and where commands and joins go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from tests.node.cores import configuration
from tinyraft.core.configuration import AddLearner, Configuration, Relocate
from tinyraft.core.entry import NodeId
from tinyraft.core.messages import Heartbeat, HeartbeatReply
from tinyraft.errors import (
    ChangeInProgress,
    CommandTooLarge,
    ConnectionLost,
    IdReused,
    MembershipError,
    NodeRemoved,
    NoQuorum,
    NotLeader,
    NotStarted,
    Overloaded,
    ReadFailed,
    TinyraftError,
    WrongCluster,
)
from tinyraft.node.gate import MAX_TERM_JUMP, Gate, StreamedWaiter
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.envelope import Envelope, Malformed
from tinyraft.transport.remote import Applied, Joined, JoinOrder

A, B = NodeId("a"), NodeId("b")
ENVELOPE = Envelope("the-cluster", B, A, ord("b"))
ORDER = JoinOrder("d", "d.example:1", True, 44)


class FakeNode:
    """A node of three whose role and answers the test sets."""

    def __init__(self) -> None:
        self.me = A
        self.leads = False
        self.known: tuple[NodeId | None, str, int] = (None, "", 5)
        self.members = configuration("a", "b", "c")
        self.received: list[Any] = []
        self.proposed: list[bytes] = []
        self.changes: list[Any] = []
        self.refusals: list[TinyraftError] = []
        self.withdrawn: list[Any] = []
        self.answers = True
        self.is_stopping = False
        self.news: list[Callable[[], object]] = []
        self.applier = SimpleNamespace(last_applied=7)

    def configuration(self) -> Configuration:
        return self.members

    def leader(self) -> tuple[NodeId | None, str, int]:
        return self.known

    def receive(self, request: Any, *, sender: NodeId, timeout: float) -> Any:
        self.received.append((request, sender, timeout))
        return HeartbeatReply(request.term, 1)

    def _refuse(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)

    def propose(self, commands: Any, waiters: Any) -> None:
        self._refuse()
        self.proposed += commands
        if self.answers:
            for waiter in waiters:
                waiter.index, waiter.term = 9, 5
                waiter.resolve(b"done", None)

    def withdraw(self, waiter: Any) -> bool:
        self.withdrawn.append(waiter)
        return bool(self.proposed) and self.proposed[-1] == b"waits"

    def change_members(self, change: Any, waiter: Any) -> None:
        self._refuse()
        self.changes.append(change)
        waiter.index = 9
        waiter.resolve(None, None)

    def read(self, function: Callable[[Any], Any]) -> Any:
        return function(None)

    def wait_until(self, condition: Callable[[], Any], *, timeout: float) -> Any:
        self.wait_for_news(timeout)
        return condition()

    def wait_for_news(self, _timeout: float) -> None:
        if self.news:
            self.news.pop(0)()


class FakeRemote:
    """Other nodes that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = Applied(3, 5, b"there")

    def apply(self, address: str, command: bytes, *, timeout: float) -> Applied:
        self.asked.append((address, command))
        return self._give()

    def join(self, address: str, order: JoinOrder, *, timeout: float, forward: bool = True) -> Any:
        self.asked.append((address, order, forward))
        return self._give()

    def _give(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    """A gate before a fake node."""

    def __init__(self, *, query: Any = None, cluster: str = "the-cluster") -> None:
        self.node, self.remote = FakeNode(), FakeRemote()
        self.gate = Gate(
            self.node,  # type: ignore[arg-type]
            identity=lambda: Identity(A, cluster, ord("a")),
            address="a.example:1",
            remote=self.remote,  # type: ignore[arg-type]
            module_query=query,
            max_command_bytes=8,
        )

    def follow(self) -> None:
        """Let b lead."""
        self.node.leads, self.node.known = False, (B, "b.example:1", 5)

    def lead(self) -> None:
        """Lead."""
        self.node.leads, self.node.known = True, (A, "a.example:1", 5)


@pytest.fixture
def bench() -> Bench:
    """Lend a gate of a node that knows no leader."""
    return Bench()


# --- who may speak ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"cluster_id": "other"}, WrongCluster, ("'other'", "the-cluster", "'b'", "a")),
        ({"recipient": NodeId("z")}, WrongCluster, ("'z'", "b", "a")),
        ({"incarnation": 1}, IdReused, ("b", "NODE_ID")),
    ],
    ids=["another cluster", "another recipient", "another disk under the id"],
)
def test_a_wrong_speaker_never_reaches_the_core(
    bench: Bench, change: dict[str, Any], error: type[TinyraftError], named: tuple[str, ...]
) -> None:
    """Refused before a term is looked at; both sides are named."""
    envelope = replace(ENVELOPE, **change)
    with pytest.raises(error) as raised:
        bench.gate.receive(Heartbeat(2**62, 0, 1), envelope, timeout=1.0)
    assert [] == [name for name in named if name not in str(raised.value)]
    assert [] == bench.node.received


def test_a_removed_member_is_told_so(bench: Bench) -> None:
    """It must not disturb, and learns what to do."""
    bench.node.members = Configuration(bench.node.members.members[:1], (B,))
    with pytest.raises(NodeRemoved, match="new NODE_ID"):
        bench.gate.admit(ENVELOPE)


def test_a_node_that_has_not_joined_hears_nobody() -> None:
    """It can't tell yet whose messages are meant for it."""
    with pytest.raises(NotStarted):
        Bench(cluster="").gate.admit(ENVELOPE)


@pytest.mark.parametrize(
    "envelope", [ENVELOPE, Envelope("the-cluster", NodeId("new"), A, 99)], ids=["member", "new"]
)
def test_a_member_and_one_not_yet_listed_are_heard(bench: Bench, envelope: Envelope) -> None:
    """A configuration that lags behind must not block an election."""
    request = Heartbeat(6, 0, 1)
    assert HeartbeatReply(6, 1) == bench.gate.receive(request, envelope, timeout=1.5)
    assert [(request, envelope.sender, 1.5)] == bench.node.received


def test_a_member_without_a_known_disk_is_heard() -> None:
    """Incarnation 0 in the configuration is a member of the original's client."""
    bench = Bench()
    b = replace(bench.node.members.members[1], incarnation=0)
    bench.node.members = bench.node.members.with_member(b)
    bench.gate.admit(replace(ENVELOPE, incarnation=77))


@pytest.mark.parametrize(
    ("term", "passes"), [(5 + MAX_TERM_JUMP, True), (6 + MAX_TERM_JUMP, False), (2**63 - 1, False)]
)
def test_terms_can_not_be_used_up(bench: Bench, term: int, passes: bool) -> None:
    """One forged message does not bring the end of all terms near."""
    if passes:
        bench.gate.receive(Heartbeat(term, 0, 1), ENVELOPE, timeout=1.0)
    else:
        with pytest.raises(WrongCluster, match=str(term)):
            bench.gate.receive(Heartbeat(term, 0, 1), ENVELOPE, timeout=1.0)
    assert passes == bool(bench.node.received)


# --- commands ---------------------------------------------------------------------------------


def test_a_leader_applies_itself(bench: Bench) -> None:
    """Nothing is forwarded."""
    bench.lead()
    assert Applied(9, 5, b"done") == bench.gate.apply(b"x", timeout=1.0, forwarded=False)
    assert ([b"x"], []) == (bench.node.proposed, bench.remote.asked)


def test_a_follower_forwards_once(bench: Bench) -> None:
    """The leader's answer is passed on; a call that was forwarded is refused with a hint."""
    bench.follow()
    assert Applied(3, 5, b"there") == bench.gate.apply(b"x", timeout=1.0, forwarded=False)
    assert [("b.example:1", b"x")] == bench.remote.asked
    with pytest.raises(NotLeader) as raised:
        bench.gate.apply(b"y", timeout=1.0, forwarded=True)
    error = raised.value
    assert ("b", "b.example:1", 5) == (error.leader_id, error.leader_address, error.term)
    assert 1 == len(bench.remote.asked)


def test_what_the_leader_answered_is_passed_on(bench: Bench) -> None:
    """A forwarder does not try again what may have been applied."""
    bench.follow()
    bench.remote.answer = ConnectionLost("gone")
    with pytest.raises(ConnectionLost):
        bench.gate.apply(b"x", timeout=1.0, forwarded=False)
    assert 1 == len(bench.remote.asked)


def test_a_call_waits_for_a_leader(bench: Bench) -> None:
    """Nobody leads at first; then somebody else does, or this very node."""
    bench.node.news = [bench.follow]
    assert b"there" == bench.gate.apply(b"x", timeout=1.0, forwarded=False).result
    bench.node.known, bench.node.news = (None, "", 5), [bench.lead]
    assert b"done" == bench.gate.apply(b"x", timeout=1.0, forwarded=False).result


def test_without_a_leader_nothing_was_applied(bench: Bench) -> None:
    """Time runs out with a certain answer."""
    with pytest.raises(NoQuorum, match="knew no leader"):
        bench.gate.apply(b"x", timeout=0.01, forwarded=False)


def test_leadership_lost_before_the_append_is_looked_up_again(bench: Bench) -> None:
    """NotLeader while no longer leading means: ask whoever leads now."""
    bench.lead()

    class Deposed(NotLeader):
        def __init__(self) -> None:
            super().__init__("deposed")
            bench.follow()

    def refuse(*_: object) -> None:
        raise Deposed

    bench.node.propose = refuse  # type: ignore[method-assign]
    assert b"there" == bench.gate.apply(b"x", timeout=1.0, forwarded=False).result


def test_a_leader_on_its_way_out_refuses(bench: Bench) -> None:
    """It hands over and still leads: the caller is told at once, and may ask again."""
    bench.lead()
    bench.node.refusals = [NotLeader("handing over")]
    with pytest.raises(NotLeader, match="handing over"):
        bench.gate.apply(b"x", timeout=1.0, forwarded=False)


def test_time_that_ran_out_in_the_inbox_is_certain(bench: Bench) -> None:
    """A command that was withdrawn before it was appended has no effect; else it may have."""
    bench.lead()
    bench.node.answers = False
    with pytest.raises(NoQuorum):
        bench.gate.apply(b"waits", timeout=0.01, forwarded=False)
    with pytest.raises(TinyraftError, match="may still be applied"):
        bench.gate.apply(b"sent", timeout=0.01, forwarded=False)
    assert 2 == len(bench.node.withdrawn)


def test_a_long_command_is_refused_everywhere(bench: Bench) -> None:
    """Before anything is sent or appended, with the limit and its setting in the text."""
    bench.follow()
    with pytest.raises(CommandTooLarge, match=r"9 bytes; the limit is 8 .RAFT_MAX_COMMAND_BYTES"):
        bench.gate.apply(b"123456789", timeout=1.0, forwarded=False)
    assert [] == bench.remote.asked


def test_streamed_commands_are_answered_one_by_one(bench: Bench) -> None:
    """The long one is refused alone, its neighbours are proposed together."""
    answered: list[StreamedWaiter] = []
    bench.gate.propose([(1, b"a"), (2, b"123456789"), (3, b"c")], answered.append)
    assert {1: None, 2: CommandTooLarge, 3: None} == {
        w.id: None if w.error is None else type(w.error) for w in answered
    }
    assert [b"a", b"c"] == bench.node.proposed


def test_a_refused_batch_is_refused_for_everybody(bench: Bench) -> None:
    """All or none; each is answered once."""
    answered: list[StreamedWaiter] = []
    bench.node.refusals = [Overloaded("full")]
    bench.gate.propose([(1, b"a"), (2, b"b")], answered.append)
    assert [(1, Overloaded), (2, Overloaded)] == [(w.id, type(w.error)) for w in answered]


# --- joining ----------------------------------------------------------------------------------


def test_a_stranger_becomes_a_learner(bench: Bench) -> None:
    """With the vote it wants noted, and its disk."""
    bench.lead()
    joined = bench.gate.join(ORDER, timeout=1.0, forwarded=False)
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
    assert "b" == bench.gate.join(order, timeout=1.0, forwarded=False).node_id
    bench.gate.join(replace(order, address="moved:2"), timeout=1.0, forwarded=False)
    assert [Relocate(B, "moved:2")] == bench.node.changes


def test_an_id_is_never_two_disks(bench: Bench) -> None:
    """An emptied directory must not speak for the member that it was."""
    bench.lead()
    with pytest.raises(IdReused):
        bench.gate.join(JoinOrder("b", "b.example:1", True, 1234), timeout=1.0, forwarded=False)
    with pytest.raises(WrongCluster, match="other"):
        bench.gate.join(replace(ORDER, cluster_id="other"), timeout=1.0, forwarded=False)
    assert [] == bench.node.changes


def test_without_an_id_one_is_assigned_for_the_address(bench: Bench) -> None:
    """The original's client: a new one for a new address, the member's for a known one."""
    bench.lead()
    new = bench.gate.join(JoinOrder("", "d.example:1", False), timeout=1.0, forwarded=False)
    known = bench.gate.join(JoinOrder("", "c.example:1", False), timeout=1.0, forwarded=False)
    assert 36 == len(new.node_id)
    assert "c" == known.node_id
    assert 1 == len(bench.node.changes)


@pytest.mark.parametrize("node_id", ["../../etc", "x" * 65, "a\nb", "-a", "é"])
def test_an_impossible_id_is_refused(bench: Bench, node_id: str) -> None:
    """Ids become file names, labels and log lines."""
    bench.lead()
    with pytest.raises(Malformed, match="is no id"):
        bench.gate.join(replace(ORDER, node_id=node_id), timeout=1.0, forwarded=False)


@pytest.mark.parametrize("address", ["", "nonsense", "host:0", "host:99999", "a b:1", "x\n:1"])
def test_an_impossible_address_is_refused(bench: Bench, address: str) -> None:
    """Who can't be dialled can't be a member."""
    bench.lead()
    with pytest.raises(MembershipError, match="advertise_addr"):
        bench.gate.join(replace(ORDER, address=address), timeout=1.0, forwarded=False)


def test_one_change_at_a_time_is_waited_for(bench: Bench) -> None:
    """A change under way delays a join, it does not refuse it."""
    bench.lead()
    bench.node.refusals = [ChangeInProgress("wait"), ChangeInProgress("wait")]
    assert "d" == bench.gate.join(ORDER, timeout=5.0, forwarded=False).node_id


def test_a_join_is_forwarded_once(bench: Bench) -> None:
    """The leader decides; a forwarded call is not forwarded again."""
    bench.follow()
    bench.remote.answer = Joined("d", "b", 5, "the-cluster", 4)
    assert bench.remote.answer == bench.gate.join(ORDER, timeout=1.0, forwarded=False)
    assert [("b.example:1", ORDER, False)] == bench.remote.asked
    with pytest.raises(NotLeader):
        bench.gate.join(ORDER, timeout=1.0, forwarded=True)


def test_a_join_without_a_leader_ends_in_time(bench: Bench) -> None:
    """And at once when the node is on its way out."""
    with pytest.raises(NoQuorum):
        bench.gate.join(ORDER, timeout=0.01, forwarded=False)
    bench.node.is_stopping = True
    began = monotonic()
    with pytest.raises(NoQuorum):
        bench.gate.join(ORDER, timeout=30.0, forwarded=False)
    assert monotonic() - began < 15


# --- reads ------------------------------------------------------------------------------------


def test_a_query_is_answered_or_says_why_not() -> None:
    """A module without query, one that raises, one that answers nonsense."""
    assert (b"<x>", 7) == Bench(query=lambda r: b"<%s>" % r).gate.query(b"x")

    def broken(_: bytes) -> bytes:
        raise ZeroDivisionError

    for query, why in [(None, "no query"), (broken, "ZeroDivisionError"), (len, "a int, not")]:
        with pytest.raises(ReadFailed, match=why):
            Bench(query=query).gate.query(b"x")
