"""Getting in, and being found again: whom a node asks, until when, and what it remembers."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster import DEADLINE, until
from tests.node.cores import configuration
from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.entry import NodeId
from tinyraft.core.sighting import Sighting
from tinyraft.errors import ConnectionLost, NodeRemoved, NotStarted, TinyraftError, WrongCluster
from tinyraft.logs import Log
from tinyraft.node import joiner
from tinyraft.node.clock import Clock
from tinyraft.node.joiner import IDLE_SECONDS, Joiner
from tinyraft.node.sightings import Sightings
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.announce import Answer
from tinyraft.transport.remote import Joined, JoinOrder

ADMITTED = Joined("d", "a", 5, "the-cluster", 9, 3)
KNOWN = Answer((), "a", "a.example:1", 5)


class Bench:
    """A joiner among fakes."""

    def __init__(self, *ask: str, members: Configuration | None = None, cluster: str = "") -> None:
        self.members = members or Configuration()
        self.leader: str | None = "a"
        self.cluster = cluster
        self.epoch = 0
        self.asked: list[Any] = []
        self.answers: list[Any] = []
        self.heard: list[Answer] = []
        self.now = 0.0
        self.node = SimpleNamespace(
            me=NodeId("d"),
            configuration=lambda: self.members,
            leader=lambda: (self.leader, "", 1),
            sightings=Sightings(NodeId("d")),
            is_removed=False,
            misses_somebody=False,
            turn=lambda event: event(SimpleNamespace(learn_removed=self.learn_removed)),
        )
        self.joiner = Joiner(
            self.node,  # type: ignore[arg-type]
            SimpleNamespace(  # type: ignore[arg-type]
                join=lambda order, **_: self.answer("here", order),
                announcement=lambda: "here I am",
                heard=self.heard.append,
            ),
            identity=lambda: Identity(NodeId("d"), self.cluster, 44, self.epoch),
            joined=self.joined,
            remote=SimpleNamespace(  # type: ignore[arg-type]
                join=lambda address, order, **_: self.answer(address, order),
                announce=lambda address, told, **_: self.answer(f"tell {address}", told),
            ),
            address="d.example:1",
            ask=ask,
            wants_vote=True,
            patience=3.0,
            log=Log("test"),
            clock=Clock(monotonic=lambda: self.now, time_ns=lambda: 0),
        )

    def joined(self, cluster: str, recovery_epoch: int) -> None:
        self.cluster, self.epoch = cluster, recovery_epoch

    def learn_removed(self, *, by: str) -> None:
        self.node.is_removed = True

    def answer(self, address: str, order: Any) -> Any:
        self.asked.append((address, order))
        answer = self.answers.pop(0) if self.answers else ConnectionLost("nobody there")
        if isinstance(answer, TinyraftError):
            raise answer
        return answer

    def steps(self, count: int) -> list[float]:
        """Do some rounds; list the pauses between them."""
        return [self.joiner.step() for _ in range(count)]

    @property
    def addresses(self) -> list[str]:
        """Where it asked, in order."""
        return [address for address, _ in self.asked]


def test_a_new_node_asks_one_after_another_until_it_is_in() -> None:
    """Its id and disk are in every question; cluster and epoch are kept; the pauses grow."""
    bench = Bench("a:1", "b:1")
    bench.answers = [NotStarted("not in either"), *[ConnectionLost("-")] * 3, ADMITTED]
    assert [0.1, 0.2, joiner.LONGEST_PAUSE_SECONDS] == bench.steps(3)
    assert ["a:1", "b:1", "a:1", "b:1", "a:1"] == bench.addresses
    assert {JoinOrder("d", "d.example:1", True, 44, "")} == {order for _, order in bench.asked}
    assert ("the-cluster", 3) == (bench.cluster, bench.epoch)
    assert 3 == bench.joiner.order().recovery_epoch


def test_a_member_at_its_address_asks_nobody() -> None:
    """RAFT_JOIN may stay set."""
    bench = Bench("a:1", members=configuration("a", "d"), cluster="the-cluster")
    assert [IDLE_SECONDS] == bench.steps(1)
    assert [] == bench.asked


def test_a_leader_that_misses_somebody_announces_itself_where_the_name_leads() -> None:
    """All moved, and the one that came last is the one that RAFT_JOIN leads all the others to.

    It knows nobody's present address, and nobody else has a reason to ask (P69; found by a seed).
    """
    bench = Bench("a:1", members=configuration("a", "d"), cluster="the-cluster")
    bench.node.misses_somebody = True
    bench.answers = [KNOWN]
    assert [joiner.LONGEST_PAUSE_SECONDS] == bench.steps(1)
    assert (["tell a:1"], [KNOWN]) == (bench.addresses, bench.heard)
    bench.node.misses_somebody = False
    assert [IDLE_SECONDS] == bench.steps(1)
    assert 1 == len(bench.asked)


def test_a_member_that_no_leader_has_found_announces_itself() -> None:
    """It moved and came back, and its own log, which lacks both, says that all is well."""
    bench = Bench("a:1", members=configuration("a", "d"), cluster="the-cluster")
    bench.leader = None
    bench.answers = [ConnectionLost("-"), KNOWN, ADMITTED]
    bench.steps(1)
    assert ["tell a:1", "tell a.example:1", "a.example:1"] == bench.addresses
    assert [KNOWN] == bench.heard


def test_without_a_leader_it_only_announces() -> None:
    """Nobody could write anything down; the newest leader that is named is asked."""
    bench = Bench("a:1", "b:1", members=configuration("d"), cluster="the-cluster")
    bench.leader = None
    bench.answers = [Answer(), Answer()]
    bench.steps(1)
    assert ["tell a:1", "tell b:1"] == bench.addresses
    bench.answers = [KNOWN, Answer((), "b", "b.example:1", 6), ADMITTED]
    bench.steps(1)
    assert "b.example:1" == bench.addresses[-1]
    bench.answers = [Answer((), "d", "d.example:1", 6), Answer()]
    bench.steps(1)
    assert 7 == len(bench.asked)  # itself it does not ask


def test_a_member_that_moved_announces_everywhere() -> None:
    """At RAFT_JOIN, where members were seen, where they were: each once and never to itself."""
    members = configuration("a", "b").with_member(Member(NodeId("d"), "old:1", voter=True))
    bench = Bench("a.example:1", "d.example:1", members=members, cluster="the-cluster")
    b = bench.members.members[1]
    seen = Sighting(b.id, "b.moved:1", b.incarnation, 1)
    bench.node.sightings.take(seen, bench.members, first_hand=True)
    bench.answers = [ConnectionLost("-")] * 4 + [ADMITTED]
    bench.steps(1)
    told = ["tell a.example:1", "tell b.moved:1", "tell old:1", "tell b.example:1", "here"]
    assert told == bench.addresses


def test_one_that_was_well_is_patient_and_then_asks_again() -> None:
    """An election is no reason to ask; a longer silence may mean that it was removed."""
    bench = Bench("a:1", members=configuration("a", "d"), cluster="the-cluster")
    bench.steps(1)
    bench.leader = None
    bench.now = 2.9
    bench.steps(1)
    assert [] == bench.asked
    bench.now = 3.1
    bench.answers = [NodeRemoved("d was removed")]
    bench.steps(1)
    assert (True, ["tell a:1"]) == (bench.node.is_removed, bench.addresses)
    assert [IDLE_SECONDS] == bench.steps(1)
    assert 1 == len(bench.asked)


def test_a_new_node_under_a_removed_id_only_complains() -> None:
    """It was no member in this life: there is nothing that it could stop."""
    bench = Bench("a:1")
    bench.answers = [NodeRemoved("d was removed")]
    bench.steps(1)
    assert not bench.node.is_removed


def test_each_refusal_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator sees why, not a flood."""
    bench = Bench("a:1")
    bench.answers = [WrongCluster("of another cluster")] * 5 + [ADMITTED]
    with caplog.at_level(logging.WARNING):
        bench.steps(6)
    assert ["event='not_joined_yet' why='of another cluster'"] == [
        r.message for r in caplog.records
    ]


def test_it_asks_no_more_when_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that never gets in can be shut down."""
    monkeypatch.setattr(joiner, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(joiner, "LONGEST_PAUSE_SECONDS", 0.002)
    bench = Bench("a:1")
    thread = threading.Thread(target=bench.joiner.run, daemon=True)
    thread.start()
    until(lambda: len(bench.asked) > 3)
    bench.joiner.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert "" == bench.cluster
