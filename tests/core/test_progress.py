"""What the leader knows of one peer."""

from __future__ import annotations

import pytest

from tinyraft.core.progress import Progress


def progress(*, match=0, next_index=11, in_flight=None):
    p = Progress(next_index=next_index, last_index=10, tick=0)
    p.match_index, p.in_flight = match, in_flight
    return p


def told(p):
    return (p.match_index, p.next_index, p.in_flight)


def test_begins_with_nothing_known():
    """A new leader assumes no copy anywhere, whatever its own log holds (P20)."""
    p = Progress(next_index=11, last_index=10, tick=0)
    assert told(p) == (0, 11, None)
    assert p.is_probing
    assert p.active


@pytest.mark.parametrize(
    ("before", "reply", "expected", "news"),
    [
        pytest.param((0, 11, 11), 11, (11, 12, None), True, id="the awaited answer"),
        pytest.param((5, 6, 9), 9, (9, 10, None), True, id="the awaited answer to a batch"),
        pytest.param((5, 6, 9), 5, (5, 6, 9), False, id="an old answer ends no waiting"),
        pytest.param((5, 6, 9), 3, (5, 6, 9), False, id="an older one lowers nothing"),
        pytest.param((5, 6, 9), 7, (7, 8, 9), True, id="a late one may still be news"),
        pytest.param((5, 6, None), 4, (5, 6, None), False, id="a copy of an old answer"),
        pytest.param((0, 1, 4), 4, (4, 5, None), True, id="from the start of the log"),
    ],
)
def test_matched(before, reply, expected, news):
    """The match only grows, and next stays above it (P15)."""
    match, next_index, in_flight = before
    p = progress(match=match, next_index=next_index, in_flight=in_flight)
    assert news == p.matched(reply)
    assert expected == told(p)


@pytest.mark.parametrize(
    ("before", "hint", "expected"),
    [
        pytest.param((0, 11, 11), 4, (0, 4, None), id="the hint is followed"),
        pytest.param((0, 11, 11), 99, (0, 10, None), id="a hint upwards still goes back"),
        pytest.param((0, 2, 2), 0, (0, 1, None), id="never before the log"),
        pytest.param((5, 6, 9), 2, (5, 6, None), id="never below the match"),
        pytest.param((5, 6, None), 2, (5, 6, None), id="a refusal of old changes nothing"),
        pytest.param((0, 11, None), 2, (0, 11, None), id="nor while nothing is in flight"),
    ],
)
def test_refused(before, hint, expected):
    """Each refusal goes back, never below what is known to match."""
    match, next_index, in_flight = before
    p = progress(match=match, next_index=next_index, in_flight=in_flight)
    p.refused(hint)
    assert expected == told(p)


def test_refusals_in_a_row_go_back_ever_farther_until_one_matches():
    """Each goes back twice as far as the one before; a match begins anew."""
    p = progress(next_index=100)
    seen = []
    for _ in range(5):
        p.sent(last_index=p.next_index, commit_index=0, has_entries=True)
        p.refused(10**6)
        seen.append(p.next_index)
    assert seen == [99, 97, 93, 85, 69]
    p.sent(last_index=69, commit_index=0, has_entries=True)
    p.matched(69)
    p.next_index = 100
    p.sent(last_index=100, commit_index=0, has_entries=True)
    p.refused(10**6)
    assert p.next_index == 99


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param((5, 6, 9), (5, 6, None), id="a batch is sent again"),
        pytest.param((0, 11, 11), (0, 11, None), id="a probe is sent again"),
    ],
)
def test_lost(before, expected):
    """A lost call blocks nothing, and the commit index is told again (P24)."""
    match, next_index, in_flight = before
    p = progress(match=match, next_index=next_index, in_flight=in_flight)
    p.told_commit = 5
    p.lost()
    assert expected == told(p)
    assert p.told_commit == 0


def test_an_append_without_entries_is_waited_for_only_while_probing():
    """A newer commit index alone must not hold up what comes after it."""
    p = progress(match=10)
    p.sent(last_index=10, commit_index=8, has_entries=False)
    assert (p.in_flight, p.told_commit) == (None, 8)
    p = progress()
    p.sent(last_index=10, commit_index=12, has_entries=False)
    assert (p.in_flight, p.told_commit) == (10, 10)


def test_caught_up_measures_rounds():
    """A round that took too long is followed by another, up to the end of the log as it is then."""
    p = progress()
    assert not p.caught_up(last_index=20, tick=1, within=10)
    p.match_index = 10
    assert p.caught_up(last_index=20, tick=10, within=10)
    assert not p.caught_up(last_index=20, tick=11, within=10)
    assert not p.caught_up(last_index=30, tick=12, within=10)
    p.match_index = 20
    assert p.caught_up(last_index=30, tick=21, within=10)


def test_who_keeps_up_may_be_in_the_middle_of_a_round():
    """Each round ends with as much again to come; only who was late, or is away, keeps not up."""
    p = progress()
    p.match_index = 10
    assert p.caught_up(last_index=20, tick=10, within=10)
    assert not p.caught_up(last_index=30, tick=11, within=10)
    assert p.keeps_up(tick=31, within=10)
    assert not p.keeps_up(tick=32, within=10)
    p.match_index = 30
    assert not p.caught_up(last_index=90, tick=40, within=10)
    assert not p.keeps_up(tick=41, within=10)
    p.match_index = 90
    assert p.keeps_up(tick=41, within=10)
