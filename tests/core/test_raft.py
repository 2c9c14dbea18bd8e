"""Roles × messages: which cells are empty, who gets a vote, what is refused."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import get_args

import pytest

from tinyraft.core.configuration import AddLearner, Configuration, Member, Promote
from tinyraft.core.effects import HardState, Held, InvariantViolated, Mark, Synced
from tinyraft.core.entry import EntryKind, make_entry
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    Reply,
    Request,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
    VoteReply,
)
from tinyraft.core.raft import ANSWERS, REQUESTS, Raft, Settings
from tinyraft.core.role import Role
from tinyraft.errors import MembershipError, NotCaughtUp, NotLeader

SETTINGS = Settings(election_ticks=10, heartbeat_ticks=2)


def make_raft(*, terms=(), term=1, voted_for=None, voters="abc", me="a"):
    members = Configuration(tuple(Member(name, name, True) for name in voters))
    first = make_entry(index=1, term=1, kind=EntryKind.CONFIGURATION, command=members.encode())
    rest = [
        make_entry(index=index, term=t, kind=EntryKind.COMMAND, command=b"")
        for index, t in enumerate(terms, 2)
    ]
    return Raft(
        me=me,
        settings=SETTINGS,
        hard_state=HardState(term, voted_for),
        entries=[first, *rest],
        random=Random(1),
    )


def sync(raft):
    """Take what is to be done and bring it to the disk, until nothing is left."""
    while (write := raft.take().write) is not None:
        raft.synced(Synced(write.mark))


def campaign(raft):
    """Let time pass until *raft* asks for votes."""
    for _ in range(2 * SETTINGS.election_ticks):
        raft.tick()
        if raft.role is Role.PRE_CANDIDATE:
            return
    pytest.fail(f"no pre-candidate, but {raft.role}")


def pre_candidate(**more):
    raft = make_raft(**more)
    campaign(raft)
    return raft


def candidate(**more):
    raft = pre_candidate(**more)
    raft.answer(PreVoteReply(raft.term + 1, True), sender="b")
    sync(raft)
    return raft


def leader(**more):
    raft = candidate(**more)
    raft.answer(VoteReply(raft.term, True), sender="b")
    sync(raft)
    return raft


ROLES = {
    Role.FOLLOWER: make_raft,
    Role.PRE_CANDIDATE: pre_candidate,
    Role.CANDIDATE: candidate,
    Role.LEADER: leader,
}
EXPECTED_ANSWERS = {
    (Role.PRE_CANDIDATE, PreVoteReply),
    (Role.CANDIDATE, VoteReply),
    (Role.LEADER, AppendReply),
    (Role.LEADER, HeartbeatReply),
    (Role.LEADER, InstallReply),
}
EMPTY = sorted(
    set(product(Role, get_args(Reply))) - EXPECTED_ANSWERS,
    key=lambda cell: (cell[0].value, cell[1].__name__),
)


def test_every_request_has_a_handler():
    """Every member answers every request, whatever its role."""
    by_the_shell_too = {InstallSnapshot}  # its bytes go to the disk before the core hears of them
    assert set(get_args(Request)) == set(REQUESTS) | by_the_shell_too


def test_every_filled_cell_is_meant():
    """An answer counts in exactly one role: the one that asked."""
    assert set(ANSWERS) == EXPECTED_ANSWERS


@pytest.mark.parametrize(
    ("role", "kind"), EMPTY, ids=[f"{role.value} drops {kind.__name__}" for role, kind in EMPTY]
)
def test_empty_cells_change_nothing(role, kind):
    """A reply that the role did not ask for is dropped without a trace."""
    raft = ROLES[role]()
    assert raft.role is role
    reply = {
        PreVoteReply: PreVoteReply(raft.term + 1, True),
        VoteReply: VoteReply(raft.term, True),
        AppendReply: AppendReply(raft.term, True, 1),
        HeartbeatReply: HeartbeatReply(raft.term, 1),
        TimeoutNowReply: TimeoutNowReply(raft.term),
        InstallReply: InstallReply(raft.term, 0, 1),
    }[kind]
    raft.take()
    before = (raft.role, raft.term, raft.voted_for, raft.commit_index, raft.log.last_index)
    raft.answer(reply, sender="c")
    effects = raft.take()
    assert before == (
        raft.role,
        raft.term,
        raft.voted_for,
        raft.commit_index,
        raft.log.last_index,
    )
    assert (effects.write, effects.notices, effects.commits) == (None, (), False)


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize(
    "kind",
    [VoteReply, AppendReply, HeartbeatReply, TimeoutNowReply, PreVoteReply],
    ids=lambda kind: kind.__name__,
)
def test_a_higher_term_in_any_reply_makes_a_follower(role, kind):
    """Whoever learns of a higher term follows it; the vote of the new term is free (3.3)."""
    raft = ROLES[role]()
    more = {HeartbeatReply: (1,), TimeoutNowReply: ()}.get(kind, (False,))
    raft.answer(kind(99, *more), sender="b")
    assert (raft.role, raft.term, raft.voted_for) == (Role.FOLLOWER, 99, None)


@pytest.mark.parametrize("role", list(ROLES), ids=lambda role: role.value)
def test_a_leader_of_a_higher_term_is_followed_from_any_role(role):
    """An append of a higher term ends every other role."""
    raft = ROLES[role]()
    raft.step(AppendEntries(99, 1, 1, [], 0), sender="c")
    assert (raft.role, raft.term, raft.leader_id) == (Role.FOLLOWER, 99, "c")


@pytest.mark.parametrize("make", [pre_candidate, candidate], ids=["a pre-candidate", "a candidate"])
def test_a_leader_of_the_same_term_is_followed_and_the_vote_kept(make):
    """Stepping down within a term must not set the vote free: it could be cast twice (P3)."""
    raft = make(voted_for="a")
    term = raft.term
    raft.step(Heartbeat(term, 0, 1), sender="c")
    assert (raft.role, raft.term, raft.voted_for) == (Role.FOLLOWER, term, "a")
    reply = raft.step(RequestVote(term, 9, 9), sender="b")
    assert not reply.release(Synced(99)).granted


def test_a_leader_that_steps_down_keeps_its_vote():
    """Check-quorum ends the office, not the term: the vote stays (P3)."""
    raft = leader()
    for _ in range(2 * SETTINGS.election_ticks):
        raft.tick()
    assert (raft.role, raft.voted_for) == (Role.FOLLOWER, "a")


@pytest.mark.parametrize(
    ("has", "asks", "granted"),
    [
        pytest.param((5, None), 5, True, id="the vote of this term is free"),
        pytest.param((5, "b"), 5, True, id="it went to the same candidate"),
        pytest.param((5, "c"), 5, False, id="it went to another"),
        pytest.param((5, "c"), 6, True, id="a new term has a new vote"),
        pytest.param((5, None), 4, False, id="an old term gets none"),
        pytest.param((5, "b"), 4, False, id="an old term gets none of its own candidate either"),
    ],
)
def test_vote_rules(has, asks, granted):
    """One vote a term, for good (figure 3.1)."""
    term, voted_for = has
    raft = make_raft(term=term, voted_for=voted_for)
    held = raft.step(RequestVote(asks, 1, 1), sender="b")
    reply = held.release(Synced(9))
    assert (reply.granted, reply.term) == (granted, max(term, asks))
    effects = raft.take()
    assert (effects.write is not None) == (held.after > 0)
    assert raft.voted_for == ("b" if granted else voted_for)


@pytest.mark.parametrize(
    ("voted_for", "elapsed"),
    [
        pytest.param(None, 0, id="a vote gives its candidate time"),
        pytest.param("c", 2, id="a refusal gives none"),
    ],
)
def test_only_a_granted_vote_resets_the_timer(voted_for, elapsed):
    """A useless candidate must not hold the others up (P10)."""
    raft = make_raft(voted_for=voted_for)
    raft.tick()
    raft.tick()
    raft.step(RequestVote(1, 1, 1), sender="b")
    assert elapsed == raft.timer.elapsed


def test_a_learner_that_fell_silent_is_not_promoted():
    """Caught up once is not enough: a voter that is down would be waited for (P64)."""
    raft = leader()
    raft.answer(AppendReply(raft.term, True, 2), sender="b")
    raft.change_members(AddLearner(Member("d", "d", False, wants_vote=True)))
    raft.answer(AppendReply(raft.term, True, 3), sender="d")
    office = raft.leadership

    def caught_up():
        return list(office.learners_caught_up(tick=raft.ticks, within=10**6))

    office.heard_from_quorum(tick=1)
    assert caught_up() == ["d"]
    office.heard_from_quorum(tick=2)
    assert caught_up() == []


def test_a_learner_that_caught_up_once_and_lags_now_gets_no_vote():
    """The others would wait for it before they could commit anything (P64)."""
    raft = leader()
    office = raft.leadership

    def live(ticks):
        for _ in range(ticks):
            raft.tick()
            raft.answer(AppendReply(raft.term, True, raft.log.last_index), sender="b")
            raft.answer(HeartbeatReply(raft.term, office.heartbeat_round), sender="d")
            sync(raft)

    live(1)
    raft.change_members(AddLearner(Member("d", "d", False)))
    raft.answer(AppendReply(raft.term, True, 3), sender="d")
    live(1)
    assert office.may_vote("d", tick=raft.ticks, within=raft.settings.election_ticks)
    raft.propose([b"x"] * 50, time_us=0)
    live(5 * raft.settings.election_ticks)
    with pytest.raises(NotCaughtUp, match="d lacks too much"):
        raft.change_members(Promote("d"))
    raft.answer(AppendReply(raft.term, True, raft.log.last_index), sender="d")
    live(raft.settings.heartbeat_ticks)
    raft.change_members(Promote("d"))
    assert "d" in raft.configuration.voters


def test_what_vouches_for_the_disk_is_held_until_the_latest_mark():
    """A reply waits for everything decided before it, also for what another message caused (P1)."""
    raft = make_raft()
    first = raft.step(RequestVote(7, 1, 1), sender="b")
    again = raft.step(RequestVote(7, 1, 1), sender="b")
    assert (first.after, again.after) == (1, 1)
    raft.take()
    refused = raft.step(RequestVote(7, 1, 1), sender="c")
    stale = raft.step(AppendEntries(3, 0, 0, [], 0), sender="c")
    assert (refused.after, stale.after) == (1, 1)
    with pytest.raises(InvariantViolated, match="released at 0, held until 1"):
        first.release(Synced(0))
    assert first.release(Synced(1)) == VoteReply(7, True)
    assert repr(first) == "Held(VoteReply(term=7, granted=True), after=1)"


def test_what_vouches_for_nothing_is_free():
    """Heartbeats, pre-votes and transfers are answered while the disk works."""
    raft = make_raft()
    raft.step(RequestVote(7, 1, 1), sender="b")
    assert raft.step(Heartbeat(7, 0, 3), sender="b") == HeartbeatReply(7, 3)
    assert raft.step(TimeoutNow(1), sender="b") == TimeoutNowReply(7)


def test_time_never_goes_back():
    """Entries carry the leader's time, never less than that of the entry before."""
    raft = leader()
    for time_us in (500, 300, 600):
        raft.propose([b"x"], time_us=time_us)
    last = raft.log.last_index
    times = [entry.time_us for entry in raft.log.between(last - 3, last, max_bytes=1 << 20)]
    assert times == [500, 500, 600]
    raft.take()
    later = Raft(
        me="a",
        settings=SETTINGS,
        hard_state=HardState(raft.term, "a"),
        entries=raft.log.between(0, last, max_bytes=1 << 20),
        random=Random(1),
    )
    campaign(later)
    later.answer(PreVoteReply(later.term + 1, True), sender="b")
    sync(later)
    later.answer(VoteReply(later.term, True), sender="b")
    noop = later.log.between(last, last + 1, max_bytes=0)[0]
    assert (noop.kind, noop.time_us) == (EntryKind.NOOP, 600)


def test_proposals_are_all_or_none_and_say_where_they_stand():
    """The caller learns index and term, which together name the entries for good (P90)."""
    raft = leader()
    proposed = raft.propose([b"x", b"y"], time_us=0)
    assert (proposed.first, proposed.term) == (3, 2)
    entries = raft.log.between(2, 4, max_bytes=1 << 20)
    assert [(e.index, e.term, e.command) for e in entries] == [(3, 2, b"x"), (4, 2, b"y")]


@pytest.mark.parametrize("role", [*ROLES][:3], ids=lambda role: role.value)
def test_who_does_not_lead_refuses_and_says_who_does(role):
    """A refusal carries the leader's id, address and term, and nothing is appended."""
    raft = ROLES[role]()
    calls = [
        lambda: raft.propose([b"x"], time_us=0),
        lambda: raft.change_members(AddLearner(Member("d", "d", False))),
        lambda: raft.transfer("b"),
    ]
    for call in calls:
        with pytest.raises(NotLeader) as caught:
            call()
        assert (caught.value.leader_id, caught.value.term) == ("", raft.term)
    raft.step(Heartbeat(99, 0, 1), sender="b")
    with pytest.raises(NotLeader) as caught:
        raft.propose([b"x"], time_us=0)
    error = caught.value
    assert (error.leader_id, error.leader_address, error.term) == ("b", "b", 99)
    assert raft.log.last_index == 1


def test_alone_nobody_can_take_over():
    """A sole voter has nobody to hand leadership to, and stays when its module fails."""
    raft = make_raft(voters="a")
    for _ in range(2 * SETTINGS.election_ticks):
        raft.tick()
        sync(raft)
    assert raft.role is Role.LEADER
    with pytest.raises(MembershipError, match="anybody"):
        raft.transfer()
    raft.become_reluctant()
    assert raft.role is Role.LEADER


def test_who_does_not_lead_has_nothing_to_send():
    """A lane that asks a follower, or asks for a stranger, gets nothing."""
    raft = make_raft()
    assert raft.next_append("b", max_bytes=9) is None
    assert raft.next_control("b") is None
    raft.unreachable("b")
    raft = leader()
    assert raft.next_append("x", max_bytes=9) is None
    assert raft.next_control("x") is None
    raft.unreachable("x")
    raft.answer(AppendReply(raft.term, True, 1), sender="x")
    raft.answer(HeartbeatReply(raft.term, 1), sender="x")
    assert (raft.role, raft.commit_index) == (Role.LEADER, 0)


def test_two_leaders_of_one_term_stop_the_node():
    """That can't be; should it be, the node must not go on (I1)."""
    raft = leader()
    with pytest.raises(InvariantViolated, match="both lead term 2"):
        raft.step(Heartbeat(raft.term, 0, 1), sender="b")


def breaks(**fields):
    def do(raft):
        for name, value in fields.items():
            setattr(raft, name, value)

    return do


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        pytest.param(breaks(term=4), "the term fell from 5 to 4", id="the term falls"),
        pytest.param(breaks(voted_for="c"), "a second vote in term 5", id="a second vote"),
        pytest.param(breaks(voted_for=None), "a second vote in term 5", id="a forgotten vote"),
        pytest.param(breaks(commit_index=0), "commit index 1 became 0", id="the commit falls"),
        pytest.param(breaks(commit_index=9), "commit index 1 became 9", id="more than the log"),
        pytest.param(breaks(role=Role.LEADER), "the leadership differs", id="a leader of nothing"),
        pytest.param(
            lambda raft: setattr(raft.log, "durable_index", 7), "7 is durable", id="too durable"
        ),
        pytest.param(
            lambda raft: raft.log.append(
                [make_entry(index=2, term=6, kind=EntryKind.NOOP, command=b"")]
            ),
            "an entry of term 6 in term 5",
            id="an entry of the future",
        ),
    ],
)
def test_a_broken_rule_stops_the_node(damage, text):
    """The rules of figure 3.2 are looked at after every step; a broken one is never repaired."""
    raft = make_raft(term=5, voted_for="b")
    raft.step(Heartbeat(5, 1, 1), sender="b")
    raft.take()
    damage(raft)
    with pytest.raises(InvariantViolated, match=text):
        raft.take()


def test_equal_events_give_equal_effects():
    """The core is a function of its inputs: what it does can be replayed (P115)."""

    def run():
        raft = leader()
        done = []
        for n in range(50):
            raft.tick()
            raft.propose([b"%d" % n], time_us=n)
            done.append(repr(raft.take()))
            done.append(repr(raft.next_append("b", max_bytes=100)))
            raft.answer(AppendReply(raft.term, True, raft.log.last_index), sender="b")
            raft.synced(Synced(Mark(raft._mark)))
        return done

    assert run() == run()


def test_held_is_only_for_what_vouches():
    """Votes and appends come out held, everything else as it is."""
    held = {
        kind
        for kind, request in {
            VoteReply: RequestVote(2, 1, 1),
            AppendReply: AppendEntries(2, 0, 0, [], 0),
            HeartbeatReply: Heartbeat(2, 0, 1),
            TimeoutNowReply: TimeoutNow(2),
        }.items()
        if isinstance(make_raft().step(request, sender="b"), Held)
    }
    assert held == {VoteReply, AppendReply}
