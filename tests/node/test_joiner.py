"""Getting in: whom a node asks, until when, and what it remembers."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster import DEADLINE, until
from tests.node.cores import configuration
from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import NodeId
from tinyraft.errors import ConnectionLost, NotStarted, TinyraftError, WrongCluster
from tinyraft.logs import Log
from tinyraft.node import joiner
from tinyraft.node.joiner import Joiner
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.remote import Joined, JoinOrder

ADMITTED = Joined("d", "a", 5, "the-cluster", 9)


class Bench:
    """A joiner among fakes."""

    def __init__(self, *ask: str, members: Configuration | None = None, cluster: str = "") -> None:
        self.members = members or Configuration()
        self.leader: str | None = "a"
        self.cluster = cluster
        self.asked: list[Any] = []
        self.answers: list[Any] = []
        self.joiner = Joiner(
            SimpleNamespace(  # type: ignore[arg-type]
                me=NodeId("d"),
                configuration=lambda: self.members,
                leader=lambda: (self.leader, "", 1),
            ),
            SimpleNamespace(join=self.join_here),  # type: ignore[arg-type]
            identity=lambda: Identity(NodeId("d"), self.cluster, 44),
            joined=self.joined,
            remote=SimpleNamespace(join=self.join_there),  # type: ignore[arg-type]
            address="d.example:1",
            ask=ask,
            wants_vote=True,
            log=Log("test"),
        )

    def joined(self, cluster: str) -> None:
        self.cluster = cluster

    def join_here(self, order: JoinOrder, **_: Any) -> Joined:
        return self.join_there("here", order)

    def join_there(self, address: str, order: JoinOrder, **_: Any) -> Joined:
        self.asked.append((address, order))
        answer = self.answers.pop(0) if self.answers else ConnectionLost("nobody there")
        if isinstance(answer, TinyraftError):
            raise answer
        return answer  # type: ignore[no-any-return]

    @property
    def addresses(self) -> list[str]:
        """Where it asked, in order."""
        return [address for address, _ in self.asked]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joiner, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(joiner, "LONGEST_PAUSE_SECONDS", 0.002)


def test_a_new_node_asks_one_after_another_until_it_is_in() -> None:
    """Its id and disk are in every question; the cluster's id is kept."""
    bench = Bench("a:1", "b:1")
    bench.answers = [NotStarted("not in either"), ConnectionLost("-"), ADMITTED]
    bench.joiner.run()
    assert ["a:1", "b:1", "a:1"] == bench.addresses
    assert {JoinOrder("d", "d.example:1", True, 44, "")} == {order for _, order in bench.asked}
    assert "the-cluster" == bench.cluster


def test_a_member_at_its_address_asks_nobody() -> None:
    """RAFT_JOIN may stay set."""
    bench = Bench("a:1", members=configuration("a", "d"), cluster="the-cluster")
    bench.joiner.run()
    assert [] == bench.asked


def test_a_member_that_no_leader_has_found_asks() -> None:
    """It moved and came back, and its own log, which lacks both, says that all is well."""
    bench = Bench("a:1", members=configuration("a", "d"), cluster="the-cluster")
    bench.leader = None
    bench.answers = [ConnectionLost("-"), ADMITTED]
    bench.joiner.run()
    assert ["here", "a:1"] == bench.addresses


def test_a_member_that_moved_asks_here_and_everywhere() -> None:
    """Itself first (it may lead), then RAFT_JOIN, then the members, each once and never itself."""
    moved = configuration("a", "b").with_member(
        configuration("d").members[0].__class__(NodeId("d"), "old:1", voter=True)
    )
    bench = Bench("a.example:1", "d.example:1", members=moved, cluster="the-cluster")
    bench.answers = [ConnectionLost("-")] * 4 + [ADMITTED]
    bench.joiner.run()
    assert ["here", "a.example:1", "b.example:1", "old:1", "here"] == bench.addresses


def test_a_refusal_is_told_once_for_as_long_as_it_stays_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator sees why, not a flood."""
    bench = Bench("a:1")
    bench.answers = [WrongCluster("of another cluster")] * 5 + [ADMITTED]
    with caplog.at_level(logging.WARNING):
        bench.joiner.run()
    assert ["event='not_joined_yet' why='of another cluster'"] == [
        r.message for r in caplog.records
    ]


def test_it_asks_no_more_when_stopped() -> None:
    """A node that never gets in can be shut down."""
    bench = Bench("a:1")
    thread = threading.Thread(target=bench.joiner.run, daemon=True)
    thread.start()
    until(lambda: len(bench.asked) > 3)
    bench.joiner.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert "" == bench.cluster
