"""Answers: given outside the core's lock, and never ahead of the disk."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster import DEADLINE, GatedJournal, Words
from tests.node.cores import make_core
from tinyraft.core.effects import Mark, Write
from tinyraft.errors import NotLeader
from tinyraft.logs import Log
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter
from tinyraft.node.writer import Writer


def nobody(*_: object) -> Any:
    raise AssertionError("there is nobody to connect to")


def test_a_refusal_is_told_outside_the_cores_lock() -> None:
    """Whoever is told that this node does not lead may ask it at once who does."""
    node = Node(
        make_core("a", "a", "b"),
        module=Words(),
        journal=GatedJournal(),
        connect=nobody,
        election_timeout=0.05,
        log=Log("test"),
    )
    was_locked: list[bool] = []
    waiter = Waiter(lambda _waiter: was_locked.append(node._lock.locked()))
    node.propose([b"word"], [waiter])
    with pytest.raises(NotLeader):
        waiter.wait(DEADLINE)
    assert [False] == was_locked


def test_an_earlier_sync_lets_nobody_go() -> None:
    """The mark before one's own is on disk, one's own is not: that is no promise."""
    writer = Writer(GatedJournal(), on_synced=lambda _synced: None)
    writer.put(Write(Mark(1), None, None, ()))
    assert 1 == writer.wait(Mark(1), timeout=DEADLINE)
    with pytest.raises(TimeoutError):
        writer.wait(Mark(2), timeout=0)
