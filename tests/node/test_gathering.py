"""Waiting for who was just answered: one batch in place of two."""

from __future__ import annotations

import pytest

from tinyraft.node.gathering import EACH_SECONDS, GAP_SECONDS, MOST_SECONDS, Gathering


def batch(gathering: Gathering, size: int, *, began: float, took: float, waiting: int) -> None:
    """Let a batch of *size* begin and end, while *waiting* commands have come."""
    gathering.begins(size, now=began)
    gathering.ended(waiting=waiting, now=began + took)


def hold(gathering: Gathering, *, since: float, come: int, every: float) -> tuple[int, float]:
    """Let *come* callers come *every* so many seconds; tell how many did, and how long it took."""
    waiting, now = 0, since
    while gathering.holds(waiting, now=now):
        waiting, now = waiting + come, now + every
    return waiting, now - since


def test_a_lone_caller_never_waits() -> None:
    """One command, and nobody else: whatever comes next begins at once."""
    gathering = Gathering()
    assert gathering.is_enough(1)
    batch(gathering, 1, began=5.0, took=1.0, waiting=0)
    assert gathering.is_enough(1)


def test_two_halves_become_one_batch() -> None:
    """Thirty were answered, thirty-four wait: nearly all of them are waited for, not the last."""
    gathering = Gathering()
    batch(gathering, 30, began=5.0, took=0.002, waiting=34)
    assert not gathering.is_enough(34)
    assert gathering.is_enough(60)
    gathering.begins(60, now=5.003)
    assert gathering.left(now=5.003) is None


def test_nobody_is_held_where_nobody_comes() -> None:
    """Twice as long as the batch took, and never longer than a bound."""
    gathering = Gathering()
    batch(gathering, 10, began=5.0, took=0.001, waiting=1)
    left = gathering.left(now=5.001)
    assert left is not None
    assert left == pytest.approx(0.002)
    batch(gathering, 10, began=6.0, took=1.0, waiting=1)
    left = gathering.left(now=7.0)
    assert left is not None
    assert left == pytest.approx(GAP_SECONDS)
    assert gathering.left(now=8.0) == 0.0
    assert not gathering.holds(1, now=8.0)


def test_as_long_as_they_come_the_wait_goes_on() -> None:
    """A thousand threads that wake one another take longer than the batch did."""
    gathering = Gathering()
    batch(gathering, 1000, began=5.0, took=0.002, waiting=0)
    now, waiting, looks = 5.002, 0, 0
    while gathering.holds(waiting, now=now):
        left = gathering.left(now=now)
        assert left is not None
        assert 0 < left <= 0.004
        now, waiting, looks = now + left, waiting + 80, looks + 1
    assert waiting >= 938, "fifteen of sixteen"
    assert looks == 12
    gathering.begins(waiting, now=now)
    assert gathering.left(now=now) is None


def test_a_few_late_ones_are_not_waited_for() -> None:
    """Whoever does not come with at least a sixteenth of all has missed this batch."""
    gathering = Gathering()
    batch(gathering, 1000, began=5.0, took=0.002, waiting=0)
    assert gathering.holds(500, now=5.006)
    assert not gathering.holds(540, now=5.010)


def test_nobody_is_held_for_ever() -> None:
    """However steadily they come: there is a last moment."""
    gathering = Gathering()
    batch(gathering, 1000, began=5.0, took=0.01, waiting=0)
    waiting, lasted = hold(gathering, since=5.01, come=63, every=0.01)
    assert waiting < 400
    assert lasted == pytest.approx(MOST_SECONDS, abs=GAP_SECONDS * 1.1)


def test_a_few_callers_are_held_for_less() -> None:
    """Only so long as that many threads may need."""
    gathering = Gathering()
    batch(gathering, 160, began=5.0, took=0.001, waiting=0)
    _, lasted = hold(gathering, since=5.001, come=10, every=0.002)
    assert lasted == pytest.approx(150 * EACH_SECONDS, abs=0.0021)


@pytest.mark.parametrize(("in_between", "waits"), [(0.0, 900), (0.05, 900), (0.5, 40), (1.0, 40)])
def test_who_comes_at_any_time_is_seldom_waited_for(in_between: float, waits: int) -> None:
    """They would only be held up: as others come during a batch, too, no wait sees them all."""
    gathering, now, found, waiting = Gathering(), 1.0, 0, int(100 * in_between)
    for _ in range(1000):
        batch(gathering, 100, began=now, took=0.002, waiting=waiting)
        found += not gathering.is_enough(waiting)
        now += 0.004  # and then a hundred wait
    assert (found >= waits) if waits > 500 else (found <= waits)


def test_waiting_in_vain_becomes_rare() -> None:
    """Callers that do something else between their commands cost the others little."""
    gathering, waits, now = Gathering(), 0, 1.0
    for _ in range(1000):
        batch(gathering, 10, began=now, took=0.001, waiting=1)
        if not gathering.is_enough(1):
            waits += 1
            gathering.begins(1, now=now + 0.003)  # nobody came
        now += 0.01
    assert 5 < waits < 30


def test_who_comes_back_after_all_is_waited_for_again() -> None:
    """One success, and the pauses are forgotten."""
    gathering, now = Gathering(), 1.0
    for _ in range(100):
        batch(gathering, 10, began=now, took=0.001, waiting=1)
        gathering.begins(1, now=now + 0.003)
        now += 0.01
    while gathering.is_enough(1):
        batch(gathering, 10, began=now, took=0.001, waiting=1)
        now += 0.01
    for _ in range(10):
        batch(gathering, 11, began=now, took=0.001, waiting=0)
        assert not gathering.is_enough(1)
        now += 0.01
