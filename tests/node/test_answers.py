"""Answers: given outside the core's lock, and never ahead of the disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cluster import DEADLINE, GatedJournal, Words, empty_shelf, until
from tests.node.cores import make_core
from tinyraft.core.effects import Mark, Write
from tinyraft.errors import NotLeader, ServerStopped, StorageFailed
from tinyraft.logs import Log
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter
from tinyraft.node.writer import Writer


def nobody(*_: object) -> Any:
    raise AssertionError("there is nobody to connect to")


def make_node() -> Node:
    """Make a node whose threads never start."""
    return Node(
        make_core("a", "a", "b"),
        module=Words(),
        journal=GatedJournal(),
        shelf=empty_shelf(),
        connect=nobody,
        election_timeout=0.05,
        log=Log("test"),
    )


def test_a_refusal_is_told_outside_the_cores_lock() -> None:
    """Whoever is told that this node does not lead may ask it at once who does."""
    node = make_node()
    was_locked: list[bool] = []
    waiter = Waiter(lambda _: was_locked.append(node._lock.locked()))
    node.propose([b"word"], [waiter])
    assert [False] == was_locked
    assert isinstance(waiter.error, NotLeader)


def test_a_death_answers_who_waits() -> None:
    """The entry is in the log and its fate unknown: whoever waits is told so, at once."""
    node, waiter = make_node(), Waiter()
    node.waiters.add([waiter], first=5, term=1)
    node.died("tinyraft-a-applier", ValueError("a defect"))
    with pytest.raises(ServerStopped, match="entry 5 may be applied"):
        waiter.wait(0)


def test_a_failure_wakes_who_waits_for_the_disk() -> None:
    """Somebody else writes, and fails: whoever sleeps until then is told, without any deadline."""
    writer = Writer(GatedJournal(), on_synced=lambda _synced: None)
    writer.put(Write(Mark(1), None, None, ()))
    with ThreadPoolExecutor(1) as pool, writer._pen:
        waiting = pool.submit(writer.wait, Mark(1), timeout=8.0)
        until(lambda: writer._progress._waiters, what="it sleeps")  # type: ignore[attr-defined]
        writer.fail(StorageFailed("the disk is gone"))
        with pytest.raises(StorageFailed, match="the disk is gone"):
            waiting.result(5.0)  # long before its own deadline


def test_an_earlier_sync_lets_nobody_go() -> None:
    """The mark before one's own is on disk, one's own is not: that is no promise."""
    writer = Writer(GatedJournal(), on_synced=lambda _synced: None)
    writer.put(Write(Mark(1), None, None, ()))
    assert 1 == writer.wait(Mark(1), timeout=DEADLINE)
    with pytest.raises(TimeoutError):
        writer.wait(Mark(2), timeout=0)
