"""The hammer's judgement: every broken promise is found, in whatever list it shows."""

from __future__ import annotations

import pytest

from tinyraft.cli.findings import (
    DIFFERENT,
    DUPLICATED,
    FOREIGN,
    LOST,
    MISORDERED,
    REVIVED,
    STALE,
    UNANSWERED,
    examine,
)
from tinyraft.cli.history import History
from tinyraft.cli.traffic import Outcome
from tinyraft.cli.verdict import MOST
from tinyraft.errors import ConnectionLost, NoQuorum


class Story:
    """A history, written word by word: two clients, and `old` words from before."""

    def __init__(self, *, old: int = 0) -> None:
        self.history = History(b"r", 2, start=old)

    def send(self, client: int, position: int | None) -> bytes:
        """Send a word that is answered at once; None leaves it without an answer."""
        word, number = self.begin(client)
        if position is not None:
            self.end(client, number, position)
        return word

    def begin(self, client: int) -> tuple[bytes, int]:
        number = self.history.books[client].begin(self.history.horizon.count)
        return self.history.word(client, number), number

    def end(self, client: int, number: int, position: int) -> None:
        self.history.books[client].acknowledge(number, position, seconds=0.001)
        self.history.horizon.told(position)

    def fail(self, client: int, outcome: Outcome) -> bytes:
        word, number = self.begin(client)
        error = NoQuorum("no") if outcome is Outcome.REFUSED else ConnectionLost("broken")
        self.history.books[client].fail(number, outcome, error)
        return word

    def read(self, client: int, count: int) -> None:
        self.history.books[client].read(self.history.horizon.count, count)
        self.history.horizon.told(count)

    def judge(self, *lists: list[bytes]) -> dict[str, int]:
        """Give what was found, with its counts."""
        found = examine(self.history, {f"n{i}": words for i, words in enumerate(lists, 1)})
        assert bool(found.problems) == bool(+found.counts)
        return dict(+found.counts)


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_history_that_keeps_every_promise_is_clean(story):
    """Acknowledged words stand where the answer said; one of unknown outcome is there or not."""
    a, b = story.send(0, 1), story.send(1, 2)
    there, absent = story.fail(0, Outcome.UNKNOWN), story.fail(1, Outcome.UNKNOWN)
    refused = story.fail(0, Outcome.REFUSED)
    story.read(1, 3)
    c = story.send(0, 4)
    words = [a, b, there, c]
    assert {} == story.judge(words, words)
    assert absent not in words
    assert refused not in words


def test_words_that_were_under_way_together_may_stand_in_any_order(story):
    """Only what somebody had been told of must stand before a word."""
    (first, number), second = story.begin(0), story.send(1, 1)
    story.end(0, number, 2)
    assert {} == story.judge([second, first])


@pytest.mark.parametrize("on", ["all", "one"])
def test_a_lost_word_is_found(story, on):
    """On all nodes or on one: an acknowledged word is missing."""
    a, b = story.send(0, 1), story.send(0, 2)
    lists = [[a]] * 2 if on == "all" else [[a, b], [a]]
    assert story.judge(*lists)[LOST] >= 1


def test_a_word_that_a_read_saw_may_not_go(story):
    """A list that is shorter at the end than somebody was told has lost something."""
    word = story.fail(0, Outcome.UNKNOWN)
    story.read(1, 1)
    assert {} == story.judge([word])
    assert {LOST: 1} == story.judge([])


@pytest.mark.parametrize("outcome", [Outcome.ACKNOWLEDGED, Outcome.UNKNOWN])
def test_a_duplicated_word_is_found(story, outcome):
    """Whatever its client was told: twice is never right."""
    word = story.send(0, 1) if outcome is Outcome.ACKNOWLEDGED else story.fail(0, outcome)
    assert {DUPLICATED: 1} == story.judge([word, word])


def test_a_word_in_another_place_than_was_answered_is_found(story):
    """The answer was the module's, and every module has the same list."""
    (a, one), (b, two) = story.begin(0), story.begin(1)
    story.end(0, one, 1)
    story.end(1, two, 2)
    assert {MISORDERED: 2} == story.judge([b, a])


def test_a_later_word_before_an_acknowledged_one_is_found(story):
    """Nobody was told of its place; but when it was sent, the other was there already."""
    a = story.send(0, 1)
    late = story.fail(0, Outcome.UNKNOWN)
    assert MISORDERED in story.judge([late, a])
    answered = Story()
    answered.send(0, 5)
    answered.send(1, 3)
    assert MISORDERED in answered.judge([b"x", b"x", b"r.1.0", b"x", b"r.0.0"])


def test_a_word_that_was_sent_after_a_read_stands_behind_what_that_saw(story):
    """Else the read saw an entry that was cut, and another took its place."""
    story.read(1, 1)
    assert {MISORDERED: 1} == story.judge([story.send(0, 1)])


def test_a_stale_read_is_found(story):
    """It began after an acknowledgement and lacks it; each is counted."""
    a, b = story.send(0, 1), story.send(0, 2)
    story.read(1, 1)
    story.read(1, 1)
    assert {STALE: 2} == story.judge([a, b])


def test_a_read_behind_another_is_found(story):
    """What one read has seen the next one sees too, whoever reads."""
    words = [story.fail(0, Outcome.UNKNOWN) for _ in range(2)]
    story.read(0, 2)
    story.read(1, 1)
    assert {STALE: 1} == story.judge(words)


def test_a_refused_word_that_is_there_is_found(story):
    """`NotApplied` is certain, now and ever."""
    assert {REVIVED: 1} == story.judge([story.fail(0, Outcome.REFUSED)])


def test_a_word_that_nobody_sent_is_found(story):
    """Of our run, but with a number that was never given."""
    assert {FOREIGN: 2} == story.judge([story.send(0, 1), b"r.0.1", b"r.9.0"])


def test_nodes_that_differ_are_found(story):
    """A word of unknown outcome is everywhere or nowhere, in one place."""
    a, b = story.fail(0, Outcome.UNKNOWN), story.fail(1, Outcome.UNKNOWN)
    assert {DIFFERENT: 1} == story.judge([a, b], [a])
    assert {DIFFERENT: 1} == story.judge([a], [a, b])
    assert {DIFFERENT: 2} == story.judge([a, b], [b, a])


def test_a_client_that_died_at_work_is_found(story):
    """A thread that ended without an answer is a fault of ours, and not silently forgiven."""
    assert {UNANSWERED: 1} == story.judge([story.send(0, None)])


def test_the_words_of_others_are_nobody_s_fault():
    """In a cluster that was not started for the run there may be words from before."""
    story = Story(old=7)
    words = [b"theirs", story.send(0, 9), b"a\xff.b.c", b"r2.0.0"]
    assert {} == story.judge(words)


def test_many_problems_of_one_kind_are_counted_and_a_few_are_told(story):
    """A cluster that lost everything is told in a few lines."""
    for position in range(1, 100):
        story.send(0, position)
    found = examine(story.history, {"n1": []})
    assert (100, MOST) == (found.counts[LOST], len(found.problems))
