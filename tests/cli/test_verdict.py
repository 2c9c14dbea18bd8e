"""The demo's judgement: every way in which a list of words can be wrong is found."""

from __future__ import annotations

import pytest

from tinyraft.cli.traffic import Outcome, Sending
from tinyraft.cli.verdict import digest, judge

ACKNOWLEDGED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.UNKNOWN
REFUSED, WAITING = Outcome.REFUSED, Outcome.WAITING


def sent(word: bytes, position: int = 0, outcome=ACKNOWLEDGED, *, began=1.0, ended=2.0) -> Sending:
    return Sending(word, outcome=outcome, began=began, ended=ended, position=position)


THREE = (sent(b"a", 1), sent(b"b", 2), sent(b"c", 0, UNKNOWN))


@pytest.mark.parametrize("words", [[b"a", b"b"], [b"a", b"b", b"c"]], ids=["without c", "with c"])
def test_a_word_of_unknown_outcome_may_be_there_or_not(words):
    """Zero times or once, the same on all nodes: both keep the promise."""
    assert [] == judge(THREE, {"n1": words, "n2": words})


@pytest.mark.parametrize(
    ("sendings", "words", "problem"),
    [
        (THREE, [b"a"], "n1 has 'b' 0 times; its outcome was: acknowledged"),
        (THREE, [b"a", b"b", b"b"], "n1 has 'b' 2 times; its outcome was: acknowledged"),
        (THREE, [b"a", b"b", b"c", b"c"], "n1 has 'c' 2 times; its outcome was: unknown"),
        (THREE, [b"a", b"b", b"x"], "n1 has 'x' 1 times; nobody sent it"),
        (THREE, [b"b", b"a"], "n1: 'a' was acknowledged as word 1, and is not"),
        ((sent(b"a", 0),), [b"a"], "n1: 'a' was acknowledged as word 0, and is not"),
        ((sent(b"a", 0, REFUSED),), [b"a"], "n1 has 'a' 1 times; its outcome was: refused"),
        ((sent(b"a", 0, REFUSED),), [], "'a' was never applied: "),
        ((sent(b"a", 0, WAITING),), [], "'a' was never applied: "),
        (
            (sent(b"a", 1, began=5.0, ended=6.0), sent(b"b", 2, began=3.0, ended=4.0)),
            [b"a", b"b"],
            "'b' was acknowledged before 'a' was sent, but stands behind it",
        ),
    ],
    ids=[
        "lost",
        "doubled",
        "unknown and doubled",
        "foreign",
        "swapped",
        "without a place",
        "refused, but there",
        "refused",
        "never answered",
        "overtaken",
    ],
)
def test_what_is_wrong_on_a_node_is_told(sendings, words, problem):
    """Lost, doubled, foreign, out of place, out of order."""
    assert problem in judge(sendings, {"n1": words})


def test_words_that_were_sent_at_the_same_time_may_stand_in_any_order():
    """Only a word that was done before another was begun must stand before it."""
    sendings = (sent(b"a", 1, began=1.0, ended=4.0), sent(b"b", 2, began=0.0, ended=3.0))
    assert [] == judge(sendings, {"n1": [b"a", b"b"]})


@pytest.mark.parametrize(
    ("words", "at"),
    [([b"a", b"x"], 2), ([b"a"], 2), ([b"a", b"b", b"c", b"d"], 4)],
    ids=["another word", "a shorter list", "a longer list"],
)
def test_nodes_that_differ_are_told_with_the_place(words, at):
    """The first difference is where to look."""
    expected = [b"a", b"b", b"c"] if len(words) == 4 else [b"a", b"b"]
    problem = f"n2 ({len(words)} words) differs from n1 ({len(expected)}) at word {at}"
    assert problem in judge(THREE, {"n1": expected, "n2": words})


def test_many_problems_of_one_kind_are_not_all_listed():
    """A cluster that lost everything is told in a few lines."""
    sendings = [sent(b"%d" % number, number) for number in range(1, 100)]
    assert len(judge(sendings, {"n1": []})) < 20


def test_the_digest_tells_lists_apart_by_content_and_order():
    """Equal digests mean equal lists, for anybody who reads the table."""
    lists = [[], [b"a"], [b"b"], [b"a", b"b"], [b"b", b"a"]]
    assert len(lists) == len({digest(words) for words in lists})
