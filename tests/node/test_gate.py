"""The door of a node: who may speak, and where commands go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.node.cores import configuration
from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import PLAIN, NodeId
from tinyraft.core.messages import Heartbeat, HeartbeatReply
from tinyraft.errors import (
    CommandTooLarge,
    ConnectionLost,
    IdReused,
    NodeRemoved,
    NoQuorum,
    NotLeader,
    NotStarted,
    Overloaded,
    ReadFailed,
    TinyraftError,
    WrongCluster,
)
from tinyraft.node import gate as gate_module
from tinyraft.node.gate import MAX_TERM_JUMP, Gate, StreamedWaiter
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.remote import Applied, JoinOrder

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
        self.refusals: list[TinyraftError] = []
        self.withdrawn: list[Any] = []
        self.answers = True
        self.is_stopping = False
        self.is_removed = False
        self.removed: tuple[NodeId, ...] = ()
        self.news: list[Callable[[], object]] = []
        self.applier = SimpleNamespace(last_applied=7)

    def configuration(self) -> Configuration:
        return self.members

    def leader(self) -> tuple[NodeId | None, str, int]:
        return self.known

    def look(self, at: Callable[[Any], Any]) -> Any:
        return at(SimpleNamespace(committed_configuration=SimpleNamespace(removed=self.removed)))

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

    def _give(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    """A gate before a fake node."""

    def __init__(self, *, query: Any = None, cluster: str = "the-cluster", epoch: int = 0) -> None:
        self.node, self.remote = FakeNode(), FakeRemote()
        self.gate = Gate(
            self.node,  # type: ignore[arg-type]
            identity=lambda: Identity(A, cluster, ord("a"), epoch),
            address="a.example:1",
            remote=self.remote,  # type: ignore[arg-type]
            membership=SimpleNamespace(),  # type: ignore[arg-type]
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
        ({"recovery_epoch": 1}, WrongCluster, ("a is from before repair 1", "new NODE_ID")),
    ],
    ids=["another cluster", "another recipient", "another disk under the id", "a later epoch"],
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
    """It must not disturb, and learns what to do; once its removal is committed, not before."""
    bench.node.members = Configuration(bench.node.members.members[:1], (B,))
    bench.gate.admit(ENVELOPE)  # not yet: that may be undone
    bench.node.removed = (B,)
    with pytest.raises(NodeRemoved, match="new NODE_ID"):
        bench.gate.admit(ENVELOPE)


def test_who_was_given_up_in_a_repair_is_refused() -> None:
    """It may hold what was given up since, and lead those who believe it (P71)."""
    bench = Bench(epoch=2)
    for epoch in (0, 1):
        with pytest.raises(WrongCluster, match=r"'b' is from before repair 2 .* new NODE_ID"):
            bench.gate.receive(
                Heartbeat(6, 0, 1), replace(ENVELOPE, recovery_epoch=epoch), timeout=1
            )
    assert [] == bench.node.received
    bench.gate.receive(Heartbeat(6, 0, 1), replace(ENVELOPE, recovery_epoch=2), timeout=1)
    assert 1 == len(bench.node.received)


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


def test_a_removed_node_takes_no_commands(bench: Bench) -> None:
    """At once, with what to do; it is not for it to know who leads."""
    bench.node.is_removed = True
    with pytest.raises(NodeRemoved, match="send them to a member"):
        bench.gate.apply(b"x", timeout=1.0, forwarded=False)


def test_streamed_commands_are_answered_one_by_one(bench: Bench) -> None:
    """The long one is refused alone, its neighbours are proposed together."""
    answered: list[StreamedWaiter] = []
    bench.gate.propose(
        [(1, b"a", PLAIN), (2, b"123456789", PLAIN), (3, b"c", PLAIN)], answered.extend
    )
    assert {1: None, 2: CommandTooLarge, 3: None} == {
        w.id: None if w.error is None else type(w.error) for w in answered
    }
    assert [b"a", b"c"] == bench.node.proposed


def test_a_refused_batch_is_refused_for_everybody(bench: Bench) -> None:
    """All or none; each is answered once."""
    answered: list[StreamedWaiter] = []
    bench.node.refusals = [Overloaded("full")]
    bench.gate.propose([(1, b"a", PLAIN), (2, b"b", PLAIN)], answered.extend)
    assert [(1, Overloaded), (2, Overloaded)] == [(w.id, type(w.error)) for w in answered]


# --- reads ------------------------------------------------------------------------------------


def test_a_query_is_answered_or_says_why_not() -> None:
    """A module without query, one that raises, one that answers nonsense."""
    assert (b"<x>", 7) == Bench(query=lambda r: b"<%s>" % r).gate.query(b"x")

    def broken(_: bytes) -> bytes:
        raise ZeroDivisionError

    for query, why in [(None, "no query"), (broken, "ZeroDivisionError"), (len, "a int, not")]:
        with pytest.raises(ReadFailed, match=why):
            Bench(query=query).gate.query(b"x")


def test_queries_share_a_visit_that_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one does wrong is its own answer; the applier gets its turn (P86)."""

    def query(request: bytes) -> bytes:
        return b"%d" % (1 // len(request))

    gate = Bench(query=query).gate
    found, index = gate.query_many([b"x", b"", b"xx"])
    assert (b"1", b"0", 7) == (found[0], found[2], index)
    assert isinstance(found[1], ReadFailed)
    assert gate_module.VISIT_QUERIES == len(gate.query_many([b"x"] * 1000)[0])
    monkeypatch.setattr(gate_module, "VISIT_SECONDS", -1.0)
    assert 1 == len(gate.query_many([b"x"] * 1000)[0])


@pytest.mark.parametrize(("patience", "leader"), [(0.0, ""), (0.1, "b")])
def test_a_greeting_waits_for_the_leader_if_asked_to(
    bench: Bench, patience: float, leader: str
) -> None:
    """A caller that looks for the leader is kept for a moment; a call is greeted at once."""
    bench.node.news = [lambda: setattr(bench.node, "known", (B, "b.example:1", 6))]
    assert leader == dict(bench.gate.greeting(patience=patience))["tinyraft-leader-id"]


def test_a_greeting_ends_its_wait(bench: Bench) -> None:
    """Where nobody is elected in time the greeting names nobody."""
    assert "" == dict(bench.gate.greeting(patience=0.1))["tinyraft-leader-address"]
