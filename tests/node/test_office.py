"""A leader among three whose office ends: what becomes of its commands, and of a dead disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from tests.cluster import DEADLINE, GatedJournal, Words, empty_shelf, until
from tests.node.cores import make_leader, sync
from tinyraft.core.entry import PLAIN, Index, NodeId, Origin, Stamp, stamp
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    Reply,
    Request,
    RequestPreVote,
    RequestVote,
    VoteReply,
)
from tinyraft.core.raft import Raft
from tinyraft.errors import LeadershipLost, NotLeader, ServerStopped
from tinyraft.logs import Log
from tinyraft.node.gathering import GAP_SECONDS
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter

B = NodeId("b")


class MuteStream:
    """Takes appends until they end, and answers none of them."""

    def __init__(self, appends: Iterator[AppendEntries]) -> None:
        self.appends = appends

    def __iter__(self) -> Iterator[AppendReply]:
        for _ in self.appends:
            pass
        return iter(())

    def cancel(self) -> None:
        """End; there is nothing to break off."""


class FriendlyLink:
    """A peer that hears heartbeats, votes for everybody, and has a disk that never ends."""

    def call(self, request: Request, *, timeout: float) -> Reply | None:
        """Answer at once."""
        if isinstance(request, Heartbeat):
            return HeartbeatReply(request.term, request.round)
        if isinstance(request, RequestPreVote):
            return PreVoteReply(request.term, True)
        return VoteReply(request.term, True)

    def open_stream(self, appends: Iterator[AppendEntries]) -> MuteStream:
        """Open one that says nothing."""
        return MuteStream(appends)

    def close(self) -> None:
        """End."""


class Office:
    """A node that leads term 2, its no-op committed."""

    def __init__(self) -> None:
        core = make_leader("a", "a", "b", "c")
        core.answer(AppendReply(2, True, 2), sender=B)
        sync(core)
        self.journal, self.module = GatedJournal(), Words()
        self.node = Node(
            core,
            module=self.module,
            journal=self.journal,
            shelf=empty_shelf(),
            connect=lambda _peer, _address: FriendlyLink(),
            election_timeout=0.2,
            log=Log("test"),
        )

    def propose(self, command: bytes, stamp: Stamp = PLAIN) -> Waiter:
        """Propose one command."""
        waiter = Waiter(stamp=stamp)
        self.node.propose([command], [waiter])
        return waiter

    def acknowledged(self, index: Index, *, by: NodeId) -> None:
        """Let a follower have everything up to *index*."""
        self.node.turn(lambda raft: raft.answer(AppendReply(2, True, index), sender=by))

    def hear(self, request: Request) -> None:
        """Let *b* say something, and bring to the disk what follows."""
        self.node.turn(lambda raft: raft.step(request, sender=B))
        writer = self.node.writer
        while batch := writer.next_batch():
            writer.persist(batch)
            writer.finish(batch)


@pytest.fixture
def office() -> Iterator[Office]:
    """Lend a leader; its threads are started by the test."""
    made = Office()
    yield made
    made.journal.open.set()
    assert [] == made.node.stop(deadline=monotonic() + DEADLINE)


def test_what_waits_when_the_office_ends_is_never_appended(office: Office) -> None:
    """A command belongs to the office that took it: none is appended in a later term (P21)."""
    first, second = office.propose(b"first"), office.propose(b"second")
    assert (3, 2) == (first.index, first.term)
    office.hear(AppendEntries(3, 2, 2, [], 2))  # b leads term 3
    with pytest.raises(NotLeader):
        second.wait(0)

    def lead_again(raft: Raft) -> None:
        while raft.candidacy is None:
            raft.tick()
        raft.answer(PreVoteReply(4, True), sender=B)
        sync(raft)
        raft.answer(VoteReply(4, True), sender=B)

    office.node.turn(lead_again)
    assert office.node.leads
    office.node.turn(lambda raft: raft.answer(AppendReply(4, True, raft.log.last_index), sender=B))

    def commands(raft: Raft) -> list[tuple[int, bytes]]:
        entries = raft.log.between(2, raft.log.last_index, max_bytes=1 << 20)
        return [(entry.term, entry.command) for entry in entries]

    assert [(2, b"first"), (4, b"")] == office.node.turn(commands)


NUMBERED = stamp(Origin(1, 1, 1, 1))


def test_who_may_ask_elsewhere_is_told_when_the_office_ends(office: Office) -> None:
    """At once: it sends the command again under its number, which is safe (P87, P89)."""
    plain, numbered = office.propose(b"plain"), Waiter(stamp=NUMBERED)
    office.node.waiters.add([numbered], first=4, term=2)
    office.hear(AppendEntries(3, 2, 2, [], 2))  # b leads term 3
    with pytest.raises(LeadershipLost, match="entry 4 of term 2"):
        numbered.wait(0)
    assert [plain] == office.node.waiters.pop_all()


def test_who_waits_without_a_number_is_told_when_nothing_gets_known(office: Office) -> None:
    """Certainty is worth a wait, but a node that is cut off may never learn more (P91)."""
    waiter = office.propose(b"plain")
    office.hear(AppendEntries(3, 2, 2, [], 2))
    ticks = 0
    while len(office.node.waiters):
        office.node._tick(1, 0)
        ticks += 1
        assert ticks < 100
    assert ticks > office.node._raft.settings.election_ticks
    with pytest.raises(LeadershipLost, match="entry 3 of term 2"):
        waiter.wait(0)


def test_who_loses_the_office_or_its_leader_sleeps_no_longer(office: Office) -> None:
    """What is due by time has changed, and the ticker is told."""
    bell = office.node._ticker.bell
    bell.take()
    office.hear(Heartbeat(3, 0, 1))  # b leads term 3
    assert bell.take()
    office.hear(Heartbeat(3, 0, 2))
    assert not bell.is_rung
    office.node.peer_lost(B, term=3)
    assert bell.is_rung


def test_a_node_sleeps_only_while_nobody_waits(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits may be kept waiting by something that a tick ends."""
    monkeypatch.setattr(Raft, "ticks_until_due", lambda _: 7)
    assert 7 == office.node._tick(1, 0)
    office.propose(b"word")
    assert 1 == office.node._tick(1, 0)


def test_commands_wait_while_leadership_is_handed_over(office: Office) -> None:
    """Who leads is open for a moment: commands are told of the successor as soon as it is known."""
    office.node.turn(lambda raft: raft.transfer(B))
    waiting = office.propose(b"word")
    office.hear(RequestVote(3, 2, 2, transfer=True))
    assert not office.node.leads
    later = office.propose(b"later")
    assert 0 == len(office.node.waiters)
    office.hear(Heartbeat(3, 2, 1))
    for waiter in (waiting, later):
        with pytest.raises(NotLeader) as raised:
            waiter.wait(0)
        assert ("b", "b.example:1") == (raised.value.leader_id, raised.value.leader_address)


def test_commands_that_waited_are_appended_when_the_handover_fails(office: Office) -> None:
    """A successor that does not take over costs time, and no command (P72, P73)."""
    office.node.turn(lambda raft: raft.transfer(B))
    waiting = office.propose(b"word")
    for _ in range(10):
        office.node.turn(lambda raft: raft.answer(HeartbeatReply(2, 1), sender=B))
        assert (0, True) == (waiting.index, office.node.leads)
        office.node.turn(Raft.tick)
    assert (3, 2) == (waiting.index, waiting.term)


def test_who_leaves_waits_for_its_successor(office: Office) -> None:
    """At shutdown commands wait until the successor is known, and no longer than is asked for."""
    with ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(office.node.hand_over, timeout=DEADLINE)
        until(lambda: office.node.is_stopping, what="it leaves")
        waiting = office.propose(b"word")
        office.hear(RequestVote(3, 2, 2, transfer=True))
        with pytest.raises(TimeoutError):
            leaving.result(0.05)
        office.hear(Heartbeat(3, 2, 1))
        leaving.result(DEADLINE)
    with pytest.raises(NotLeader, match="leader: b"):
        waiting.wait(0)


def test_who_left_without_a_successor_refuses_at_once(office: Office) -> None:
    """Nobody took over in time: what waits is told so, and what comes does not wait."""
    office.node.hand_over(timeout=0.01)
    waiting = office.propose(b"word")
    office.node.finish_commands(timeout=0.01)
    with pytest.raises(NotLeader, match="shutting down"):
        office.propose(b"another").wait(0)
    with pytest.raises(NotLeader, match="shutting down"):
        waiting.wait(0)


def test_a_disk_that_hangs_ends_the_office(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """Peers answer every heartbeat, yet who can't write for an election timeout resigns (P81)."""
    caplog.set_level(logging.INFO, logger="tinyraft")
    office.node.start()
    office.journal.open.clear()
    office.propose(b"word")
    assert office.journal.syncing.wait(DEADLINE)
    until(lambda: not office.node.leads, what="it resigns")
    until(lambda: "its disk does not answer" in caplog.text, what="it says why")
    assert "no majority was heard" not in caplog.text
    with pytest.raises(NotLeader):
        office.propose(b"another").wait(DEADLINE)
    assert [] == office.module.words


def test_who_waits_for_others_is_appended_without_them(office: Office) -> None:
    """The applier keeps the time: nobody else comes, and no other event either."""
    bell = office.node.applier.bell
    first, second = office.propose(b"first"), office.propose(b"second")
    bell.take()
    for peer in (B, NodeId("c")):
        office.acknowledged(first.index, by=peer)
    assert bell.take(), "rung although this disk has not synced what is committed"
    assert 0 == second.index, "the first one's caller may be back at once"
    left = office.node.intake.gathering.left(now=monotonic())
    assert left is not None
    assert left <= GAP_SECONDS
    assert not bell.wait(left), "nobody rings"
    office.node.applier._impatient()
    assert (4, 2) == (second.index, second.term)
    assert office.node.intake.gathering.left(now=monotonic()) is None


def test_who_comes_back_is_not_kept_waiting(office: Office) -> None:
    """With the last of those who were answered the batch begins."""
    first, second = office.propose(b"first"), office.propose(b"second")
    for peer in (B, NodeId("c")):
        office.acknowledged(first.index, by=peer)
    assert 0 == second.index
    third = office.propose(b"third")
    assert (4, 5) == (second.index, third.index)


def test_a_defect_met_in_a_glance_ends_the_node(office: Office) -> None:
    """Whatever thread looked, gRPC's too: nobody goes on with half a state."""
    with pytest.raises(ZeroDivisionError):
        office.node.glance(lambda raft: raft.term // 0)
    with pytest.raises(ServerStopped, match="ended with ZeroDivisionError"):
        office.node.glance(lambda raft: raft.term)
