"""The election timer, the comparison of logs, and the count of votes."""

from __future__ import annotations

from random import Random

import pytest

from tinyraft.core.candidacy import Candidacy
from tinyraft.core.effects import Mark, Synced
from tinyraft.core.election import Timer, is_up_to_date
from tinyraft.core.entry import EntryKind, make_entry
from tinyraft.core.log import Log
from tinyraft.core.messages import RequestPreVote, RequestVote

T = 25
VOTERS = frozenset({"a", "b", "c", "d", "e"})


def draws(event, *, count=2000):
    """The timeouts that *event* draws."""
    random = Random(7)
    found = set()
    for _ in range(count):
        timer = Timer(election_ticks=T, random=random)
        event(timer)
        found.add(timer.timeout)
        assert timer.elapsed == 0
    return found


def campaigns(count):
    def event(timer):
        for _ in range(count):
            timer.campaign()

    return event


def heard_then(event):
    def after(timer):
        timer.hear_leader()
        event(timer)

    return after


def lost(*, turn):
    def event(timer):
        timer.hurry(turn=turn)

    return event


@pytest.mark.parametrize(
    ("event", "least", "most"),
    [
        pytest.param(lambda timer: None, 3, 8, id="a node that starts is in a hurry"),
        pytest.param(Timer.hear_leader, T + 1, 2 * T, id="a heard leader gives from T to 2T"),
        pytest.param(heard_then(lost(turn=0)), 3, 3, id="a lost leader is not waited for"),
        pytest.param(heard_then(lost(turn=1)), 6, 6, id="but in turns"),
        pytest.param(heard_then(lost(turn=3)), 12, 12, id="of which each takes three ticks"),
        pytest.param(heard_then(Timer.grant), T + 1, 2 * T, id="a vote gives its candidate time"),
        pytest.param(Timer.grant, 3, 8, id="but less where everybody is in a hurry"),
        pytest.param(campaigns(1), 5, 10, id="after one hurried election"),
        pytest.param(campaigns(2), 9, 16, id="after two"),
        pytest.param(campaigns(9), T + 1, 2 * T, id="after many it is T to 2T again"),
        pytest.param(heard_then(campaigns(1)), T + 1, 2 * T, id="after one that was not hurried"),
    ],
)
def test_timeouts_are_drawn_from_the_whole_range(event, least, most):
    """Every reset draws anew, and every value of the range comes up (P9)."""
    assert set(range(least, most + 1)) == draws(event)


def test_timer_expires_at_its_timeout_and_stays_so():
    """The time is up at the drawn tick, not before; it stays up until a reset."""
    timer = Timer(election_ticks=T, random=Random(1))
    timer.hear_leader()
    expected = [False] * (timer.timeout - 1) + [True, True]
    assert expected == [timer.tick() for _ in expected]
    timer.hear_leader()
    assert not timer.tick()


def test_ticks_that_pass_together_count_each():
    """Nothing was due at those before the last."""
    timer = Timer(election_ticks=T, random=Random(1))
    timer.hear_leader()
    timer.tick()
    assert not timer.tick(timer.timeout - 2)
    assert timer.tick()


def test_a_timer_that_was_reset_in_their_course_counts_the_last():
    """Nobody knows how many came behind the reset; a leader that spoke is not given less time."""
    timer = Timer(election_ticks=T, random=Random(1))
    timer.hear_leader()
    timer.tick(T)
    assert 1 == timer.elapsed


@pytest.mark.parametrize(
    ("last_index", "last_term", "expected"),
    [
        pytest.param(3, 2, True, id="the same log"),
        pytest.param(4, 2, True, id="a longer one of the same term"),
        pytest.param(2, 2, False, id="a shorter one of the same term"),
        pytest.param(1, 3, True, id="a short one of a higher term"),
        pytest.param(99, 1, False, id="a long one of a lower term"),
        pytest.param(0, 0, False, id="an empty one"),
    ],
)
def test_term_counts_before_length(last_index, last_term, expected):
    """A candidate's log is good enough by its last term, then by its length (3.6.1, P8)."""
    log = Log(
        [
            make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=b"")
            for index, term in enumerate((1, 2, 2), 1)
        ]
    )
    assert expected == is_up_to_date(log, last_index=last_index, last_term=last_term)


def candidacy(**more):
    return Candidacy(me="a", term=4, voters=VOTERS, **more)


def test_a_voter_counts_once():
    """A reply that comes twice, or that contradicts the first, changes nothing (P6)."""
    c = candidacy()
    for _ in range(5):
        c.count("b", granted=True)
    assert not c.is_won
    c.count("c", granted=False)
    c.count("c", granted=True)
    assert not c.is_won
    c.count("d", granted=True)
    assert c.is_won


def test_strangers_and_learners_count_nothing():
    """Only the voters of the candidate's own configuration are counted (P6, P65)."""
    c = candidacy()
    for name in ("x", "y", "z"):
        c.count(name, granted=True)
    assert not c.is_won


def test_a_real_election_waits_for_the_own_vote():
    """Nobody is asked, and the own vote is not counted, before it is synced (P28)."""
    c = candidacy(vote_mark=Mark(7))
    for name in ("b", "c"):
        c.count(name, granted=True)
    assert (c.due, c.is_won) == (set(), False)
    assert c.question("d", Log()) is None
    c.synced(Synced(6))
    assert (c.due, c.is_won) == (set(), False)
    c.synced(Synced(7))
    assert c.is_won
    assert c.due == VOTERS - {"a"}


def test_everybody_is_asked_once_until_asked_again():
    """A question is asked once; again only of those who have not answered."""
    c = candidacy()
    assert c.question("b", Log()) == RequestPreVote(4, 0, 0)
    assert c.question("b", Log()) is None
    assert c.question("x", Log()) is None
    c.count("c", granted=True)
    c.count("d", granted=False)
    c.ask_again()
    assert c.due == {"b", "e"}


@pytest.mark.parametrize("by_transfer", [True, False], ids=["by transfer", "by itself"])
def test_the_real_question_tells_whether_it_is_a_transfer(by_transfer):
    """Voters must know, since their lease does not bind in a transfer (P75)."""
    c = candidacy(vote_mark=Mark(1), by_transfer=by_transfer)
    c.synced(Synced(1))
    assert c.question("b", Log()) == RequestVote(4, 0, 0, by_transfer)
