"""Majorities, held against brute force."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tinyraft.core.quorum import agreed_index, has_quorum, majority

SIZES = range(1, 10)


@pytest.mark.parametrize("size", SIZES, ids="of {} voters".format)
def test_two_majorities_share_a_voter(size):
    """Any two majorities have a member in common, and no smaller number guarantees that."""
    voters = range(size)
    least = next(
        n
        for n in range(1, size + 1)
        if all(set(a) & set(b) for a, b in product(combinations(voters, n), repeat=2))
    )
    assert least == majority(size)


@pytest.mark.parametrize("size", SIZES, ids="of {} voters".format)
def test_quorum_is_more_than_half(size):
    """Of every subset, exactly those with more than half of the voters decide."""
    voters = frozenset(f"v{n}" for n in range(size))
    for count in range(size + 1):
        agreeing = set(sorted(voters)[:count])
        assert (2 * count > size) == has_quorum(voters, agreeing)
        assert (2 * count > size) == has_quorum(voters, agreeing | {"learner", "stranger"})


def test_nobody_never_agrees():
    """Without voters there is no quorum and nothing is agreed."""
    assert not has_quorum(frozenset(), {"a"})
    assert agreed_index(frozenset(), {"a": 7}) == 0


@pytest.mark.parametrize("size", SIZES, ids="of {} voters".format)
def test_agreed_index_is_what_a_majority_has(size):
    """The highest index that more than half of the voters have; who is unknown has nothing."""
    voters = frozenset(f"v{n}" for n in range(size))
    levels = (0, 3, 7) if size < 6 else (0, 7)
    for has in product(levels, repeat=size):
        match = dict(zip(sorted(voters), has, strict=True)) | {"learner": 99}
        expected = max(i for i in levels if 2 * sum(m >= i for m in has) > size)
        assert expected == agreed_index(voters, match)
    assert agreed_index(voters, {}) == 0
