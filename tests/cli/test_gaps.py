"""How long nobody was answered, by itself and after each blow."""

from __future__ import annotations

from tinyraft.cli.gaps import Gaps


def test_the_longest_gap_counts_from_the_start_and_to_the_end():
    """A cluster that answers nothing at all has no small gap."""
    gaps = Gaps(10.0)
    gaps.acknowledged(began=11.0, ended=12.0)
    assert 2.0 == gaps.longest
    gaps.end(15.0)
    assert 3.0 == gaps.longest


def test_answers_that_come_out_of_order_make_no_gap():
    """Threads tell us when they can."""
    gaps = Gaps(0.0)
    gaps.acknowledged(began=0.5, ended=1.0)
    gaps.acknowledged(began=0.5, ended=0.9)
    gaps.acknowledged(began=0.5, ended=1.5)
    assert 1.0 == gaps.longest


def test_a_blow_lasts_until_a_word_sent_after_it_is_acknowledged():
    """What was under way may be answered from the grave."""
    gaps = Gaps(0.0)
    gaps.struck("kill", began=1.0, done=1.1)
    gaps.acknowledged(began=0.9, ended=1.2)
    gaps.acknowledged(began=1.05, ended=1.3)
    assert {} == gaps.outages
    gaps.acknowledged(began=1.2, ended=3.0)
    gaps.acknowledged(began=1.2, ended=4.0)
    assert {"kill": [2.0]} == gaps.outages


def test_a_blow_that_nobody_got_over_lasts_till_the_end():
    """Else the worst one would be missing."""
    gaps = Gaps(0.0)
    gaps.struck("kill", began=1.0, done=1.0)
    gaps.struck("pause", began=2.0, done=2.0)
    gaps.end(9.0)
    assert {"kill": [8.0], "pause": [7.0]} == gaps.outages
