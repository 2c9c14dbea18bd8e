"""The judge is judged: histories that are known to be good or bad."""

from __future__ import annotations

import pytest

from tinyraft.testing.history import Operation, is_linearizable


def swap(began, ended, new, answer, outcome="applied"):
    return Operation("c", "k", ("swap", new), began, ended, outcome, answer)


def get(began, ended, answer):
    return Operation("c", "k", ("get",), began, ended, "applied", answer)


def maybe(began, new):
    return swap(began, float("inf"), new, None, outcome="maybe")


GOOD = {
    "nothing": [],
    "one after the other": [swap(0, 1, 1, None), swap(2, 3, 2, 1), get(4, 5, 2)],
    "overlapping, the other way round": [swap(0, 9, 1, 2), swap(1, 8, 2, None), get(10, 11, 1)],
    "a read during a write sees the old": [swap(0, 5, 1, None), get(1, 2, None), get(3, 4, 1)],
    "unknown, and it happened": [maybe(0, 1), get(5, 6, 1)],
    "unknown, and it never happened": [maybe(0, 1), get(5, 6, None), get(7, 8, None)],
    "unknown, and it happened late": [maybe(0, 1), get(5, 6, None), get(7, 8, 1)],
    "refused": [swap(0, 1, 1, None, outcome="not"), get(2, 3, None)],
}

BAD = {
    "a stale read": [swap(0, 1, 1, None), swap(2, 3, 2, 1), get(4, 5, 1)],
    "a read that goes back": [swap(0, 9, 1, None), get(1, 2, 1), get(3, 4, None)],
    "a lost write": [swap(0, 1, 1, None), get(2, 3, None)],
    "two that both saw the same": [swap(0, 5, 1, None), swap(1, 6, 2, None)],
    "out of thin air": [get(0, 1, 7)],
    "unknown, but it happened twice": [
        maybe(0, 1),
        swap(2, 3, 2, 1),
        swap(4, 5, 3, 2),
        get(6, 7, 1),
    ],
    "refused, and yet seen": [swap(0, 1, 1, None, outcome="not"), get(2, 3, 1)],
    "seen before it was asked": [get(0, 1, 5), swap(2, 3, 5, None)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_a_good_history_is_accepted(history):
    """What one order of steps explains."""
    assert is_linearizable(history)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_a_bad_history_is_refused(history):
    """What no order explains."""
    assert not is_linearizable(history)


def test_many_at_once_are_judged_in_time():
    """Eight clients that overlap all the time: the search remembers where it has been."""
    history = [
        Operation(f"c{n % 8}", "k", ("swap", n), n, n + 8, "applied", n - 1 if n else None)
        for n in range(160)
    ]
    assert is_linearizable(history)
    history[80].answer = 11
    assert not is_linearizable(history)
