"""How often a member wakes up, and from when on that is too seldom."""

from __future__ import annotations

import pytest

from tests.node.cores import SETTINGS, make_leader
from tinyraft.core.wakefulness import Wakefulness

SPAN = 20


def live(*nights: int) -> Wakefulness:
    """Let a tick come after each of *nights*, so many ticks late."""
    wakefulness = Wakefulness(election_ticks=SPAN)
    for night in nights:
        wakefulness.overslept(night)
        wakefulness.tick()
    return wakefulness


@pytest.mark.parametrize(
    ("nights", "spans"),
    [
        ([0] * 100, 0),
        ([1] * 100, 0),
        ([4] * 4, 0),
        ([4] * 100, 0),
        ([5] * 3, 0),
        ([5] * 4, 1),
        ([5] * 8, 2),
        ([9] * 2, 1),
        ([10_000], 0),
        ([10_000, *[0] * 9], 0),
        ([10_000] * 2, 1),
        ([5] * 8 + [0] * 20, 0),
    ],
    ids=[
        "always on time",
        "every second tick",
        "a fifth of a span",
        "a fifth of all",
        "a span that has not ended",
        "less than a fifth of a span",
        "of two spans",
        "two long sleeps",
        "one sleep is half a span",
        "one sleep, however long",
        "two such",
        "awake again",
    ],
)
def test_starved_spans(nights: list[int], spans: int) -> None:
    """A span of one election timeout is starved if less than a fifth of its ticks came."""
    assert spans == live(*nights).starved_spans


def test_ticks_that_came_together_count_each() -> None:
    """They were waited for, all of them."""
    wakefulness = Wakefulness(election_ticks=SPAN)
    wakefulness.overslept(10)
    assert wakefulness.tick(12)
    assert 0 == wakefulness.starved_spans


def test_an_office_begins_anew() -> None:
    """What was before is forgotten, the begun span too."""
    wakefulness = live(5, 5, 5, 5, 5, 5, 5)
    wakefulness.begin()
    assert 0 == wakefulness.starved_spans
    wakefulness.overslept(5)
    assert not wakefulness.tick()


def test_what_the_module_takes_is_no_lack_of_the_processor() -> None:
    """Its successor would have the same module: the office stays where it is (P95)."""
    spans = []
    for by_module in (True, False):
        core = make_leader("a", "a", "b", "c")
        for _ in range(3 * SETTINGS.election_ticks):
            core.overslept(SETTINGS.election_ticks // 2, by_module=by_module)
            core.wakefulness.tick()
        spans.append(core.wakefulness.starved_spans > 0)
    assert [False, True] == spans
