"""The numbers of a caller's session."""

from __future__ import annotations

import pytest

from tinyraft import session as session_module
from tinyraft.session import Session


def test_what_is_answered_below_is_below_all_that_is_waited_for() -> None:
    """Whatever the order in which the answers come (P87)."""
    session = Session(7, 3)
    assert 1 == session.answered_below
    numbers = [session.begin() for _ in range(4)]
    assert ([1, 2, 3, 4], 1) == (numbers, session.answered_below)
    session.settle(2)
    session.settle(4)
    assert 1 == session.answered_below
    session.settle(1)
    assert 3 == session.answered_below
    session.settle(3)
    assert 5 == session.answered_below
    assert (5, 5) == (session.begin(), session.answered_below)


def test_one_late_command_keeps_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster remembers answers only for so many behind it."""
    monkeypatch.setattr(session_module, "SPAN", 3)
    session = Session(7, 3)
    first, *others = (session.begin() for _ in range(3))
    for number in others:
        session.settle(number)
    assert session.is_full
    session.settle(first)
    assert not session.is_full
