"""How long nothing is due that time alone brings: so long a node may sleep."""

from __future__ import annotations

from random import Random

import pytest

from tests.node.cores import configuration, sync
from tinyraft.core.effects import HardState, Synced
from tinyraft.core.entry import EntryKind, NodeId, make_entry
from tinyraft.core.messages import Heartbeat, HeartbeatReply, PreVoteReply, VoteReply
from tinyraft.core.raft import Raft, Settings

TIMEOUT, BEAT = 40, 4
A, B, C = map(NodeId, "abc")


@pytest.fixture
def core() -> Raft:
    """A follower that knows no leader."""
    command = configuration(A, B, C).encode()
    return Raft(
        me=A,
        settings=Settings(election_ticks=TIMEOUT, heartbeat_ticks=BEAT),
        hard_state=HardState(1, None),
        entries=[make_entry(index=1, term=1, kind=EntryKind.CONFIGURATION, command=command)],
        random=Random(7),
    )


def elect(core: Raft) -> None:
    """Make it the leader, at a tick at which a heartbeat was due."""
    while core.candidacy is None:
        core.tick()
        assert 1 == core.ticks_until_due()
    for reply in (PreVoteReply(2, True), VoteReply(2, True)):
        sync(core)
        core.answer(reply, sender=B)
    sync(core)
    assert core.leadership is not None
    while core.ticks % BEAT:
        core.tick()
    core.take()


def hear(core: Raft) -> None:
    """Let it hear from the leader."""
    core.step(Heartbeat(1, 0, 1), sender=B)
    sync(core)


def test_who_knows_no_leader_counts_every_tick(core: Raft) -> None:
    """It is about to campaign, or does."""
    elect(core)


def test_a_leader_sleeps_from_heartbeat_to_heartbeat(core: Raft) -> None:
    """And they come as often as if it had counted every tick; once a timeout it looks around."""
    elect(core)
    leadership = core.leadership
    assert leadership is not None
    begun, slept, beats = core.ticks, [], []
    while core.ticks < begun + 3 * TIMEOUT:
        core.answer(HeartbeatReply(2, 0), sender=B)
        leadership.heartbeats_due.clear()
        slept.append(core.ticks_until_due())
        core.tick(slept[-1])
        if leadership.heartbeats_due:
            assert {B, C} == leadership.heartbeats_due
            beats.append(core.ticks)
    assert [*range(begun + BEAT, begun + 3 * TIMEOUT + 1, BEAT)] == beats
    assert len(slept) <= len(beats) + 3


def test_a_leader_looks_in_time_whether_it_is_heard(core: Raft) -> None:
    """Check-quorum is not later for that."""
    elect(core)
    assert core.leadership is not None
    end = core.leadership.looked_at + 2 * TIMEOUT  # a new one is given the first
    while core.leadership is not None:
        core.tick(core.ticks_until_due())
        assert core.ticks <= end
    assert end == core.ticks


def test_a_leader_counts_while_it_hands_over_or_its_disk_works(core: Raft) -> None:
    """Others wait for both."""
    elect(core)
    core.propose([b"x"], time_us=0)
    write = core.take().write
    assert 1 == core.ticks_until_due()
    assert write is not None
    core.synced(Synced(write.mark))
    assert BEAT == core.ticks_until_due()
    core.answer(HeartbeatReply(2, 0), sender=B)
    core.transfer(B)
    assert 1 == core.ticks_until_due()


def test_a_follower_sleeps_but_not_past_its_timeout(core: Raft) -> None:
    """It campaigns at the very tick."""
    hear(core)
    while core.candidacy is None:
        ticks = core.ticks_until_due()
        assert 1 <= ticks <= BEAT
        core.tick(ticks)
    assert core.timer.elapsed == 0
    assert TIMEOUT < core.ticks <= 2 * TIMEOUT


def test_a_follower_whose_time_is_up_and_who_waits_all_the_same_counts(core: Raft) -> None:
    """A reluctant one lets the others go first."""
    core.become_reluctant()
    hear(core)
    core.timer.elapsed = core.timer.timeout
    assert 1 == core.ticks_until_due()
