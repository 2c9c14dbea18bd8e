"""Commands that wait for the batch before them: bounded, in order, and to be taken back."""

from __future__ import annotations

import pytest

from tinyraft.errors import Overloaded
from tinyraft.node.inbox import Inbox
from tinyraft.node.waiters import Waiter


def put(inbox: Inbox, *commands: bytes) -> list[Waiter]:
    """Put commands in, each with a waiter; all are taken."""
    waiters = [Waiter() for _ in commands]
    assert [] == inbox.put(commands, waiters)
    return waiters


def test_their_number_is_bounded() -> None:
    """Of a batch that does not fit whole the beginning is taken; what was taken makes room."""
    inbox = Inbox(max_commands=3, max_bytes=1000)
    put(inbox, b"1", b"2")
    waiters = [Waiter(), Waiter()]
    assert [waiters[1]] == inbox.put([b"3", b"4"], waiters)
    with pytest.raises(Overloaded, match="3 commands"):
        inbox.put([b"5"], [Waiter()])
    assert [b"1", b"2", b"3"] == inbox.take()[0]
    put(inbox, b"4", b"5", b"6")
    assert 3 == len(inbox)


def test_their_bytes_are_bounded() -> None:
    """Above the bound nothing more is taken in, until what waits is taken or withdrawn."""
    inbox = Inbox(max_commands=1000, max_bytes=10)
    put(inbox, bytes(9))
    (late,) = put(inbox, bytes(100))  # one long command always fits where there is room at all
    with pytest.raises(Overloaded, match="109 bytes"):
        put(inbox, b"x")
    assert inbox.withdraw(late)
    put(inbox, b"x")
    with pytest.raises(Overloaded, match="10 bytes"):
        put(inbox, b"y")
    assert [bytes(9), b"x"] == inbox.take()[0]
    put(inbox, b"y")


def test_what_was_taken_can_not_be_withdrawn() -> None:
    """A command is either taken back, or in the core's hands; never both."""
    inbox = Inbox(max_commands=10, max_bytes=1000)
    first, second = put(inbox, b"1", b"2")
    assert inbox.withdraw(first)
    assert ([b"2"], [second]) == inbox.take()
    assert (False, False) == (inbox.withdraw(first), inbox.withdraw(second))
