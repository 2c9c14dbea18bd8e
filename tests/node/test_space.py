"""A disk that fills up: told at the door, handed over, waited for, and then used again."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from time import monotonic

import pytest

from tests.cluster import DEADLINE, GatedJournal, Words, empty_shelf, until
from tests.node.cores import make_core
from tests.node.test_office import FriendlyLink, Office
from tinyraft.core.configuration import AddLearner, Member
from tinyraft.core.effects import Mark, Write
from tinyraft.core.entry import NodeId
from tinyraft.errors import StorageFull
from tinyraft.logs import Log
from tinyraft.node.loop import Loop
from tinyraft.node.node import Node
from tinyraft.node.space import MIB, Room, Space
from tinyraft.node.waiters import Waiter
from tinyraft.node.writer import Writer
from tinyraft.storage.disk import NoRoom

RESERVE = 100 * MIB


class Gauge:
    """A disk of which only the free space is known, and a `Space` that looks at it."""

    def __init__(self, *, reserve: int = RESERVE) -> None:
        self.free: int | OSError = 10 * RESERVE
        self.provides = True
        self.told: list[bool] = []
        self.looks = 0
        self.space = Space(
            Room("/data", self.look, reserve),
            provide=lambda: self.provides,
            changed=self.told.append,
            log=Log("test"),
        )

    def look(self) -> int:
        """Say what is free."""
        self.looks += 1
        if isinstance(self.free, OSError):
            raise self.free
        return self.free


class FullJournal(GatedJournal):
    """A journal without room for anything while *full* is set; it keeps what it refused."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.tries = 0
        self.kept: list[Write] = []

    def write(self, writes: list[Write]) -> None:  # type: ignore[override]
        """Take it, or keep it."""
        self.tries += 1
        self.kept += writes
        if self.full:
            self.has_room = False
            raise NoRoom(OSError(errno.ENOSPC, "full", "spare"), "spare")  # type: ignore[arg-type]
        self.has_room = True
        super().write(self.kept)
        self.kept = []


def test_full_is_below_the_mark_and_room_is_well_above_it() -> None:
    """Between the two it stays what it was, so that it is not said twice a second."""
    gauge = Gauge()
    for free, expected in (
        (RESERVE, ""),
        (RESERVE - 1, "100.0 MiB left"),
        (RESERVE * 5 // 4 - 1, "125.0 MiB left"),
        (RESERVE * 5 // 4, ""),
        (RESERVE, ""),
        (0, "/data has 0.0 MiB left, and 100.0 MiB are kept back: free space there, or set RAFT_"),
    ):
        gauge.free = free
        gauge.space.look()
        assert expected in gauge.space.shortage
        assert bool(expected) == bool(gauge.space.shortage)
    assert [True, False, True] == gauge.told


def test_without_the_next_segment_it_is_full() -> None:
    """Whatever the system says is free: what counts is what the log could get."""
    gauge = Gauge(reserve=0)
    gauge.free = 0
    gauge.space.look()
    assert ("", 0) == (gauge.space.shortage, gauge.looks)
    gauge.provides = False
    gauge.space.look()
    assert "/data has no room for the next segment of the log: free space there" in (
        gauge.space.shortage
    )
    gauge.provides = True
    gauge.space.look()
    assert [True, False] == gauge.told


def test_a_disk_that_does_not_say_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and the last answer counts."""
    gauge = Gauge()
    gauge.free = OSError(errno.EIO, "Input/output error")
    for _ in range(3):
        gauge.space.look()
    assert [] == gauge.told
    assert 1 == caplog.text.count("free_space_unknown")
    gauge.free = 0
    gauge.space.look()
    gauge.free = OSError(errno.EIO, "Input/output error")
    gauge.space.look()
    assert "MiB left" in gauge.space.shortage
    assert [True] == gauge.told


# --- the writer ---------------------------------------------------------------------------------


@pytest.fixture
def writer() -> Iterator[tuple[Writer, FullJournal, list[int]]]:
    """Lend a writer with its thread, its journal, and the marks it told."""
    journal, told = FullJournal(), list[int]()
    made = Writer(journal, on_synced=told.append)
    deaths: list[BaseException] = []
    loop = Loop("tinyraft-x-writer", made.run, died=lambda _name, error: deaths.append(error))
    loop.start()
    yield made, journal, told
    made.stop()
    assert loop.join(DEADLINE)
    assert [] == deaths


def put(writer: Writer, mark: int) -> None:
    """Queue a write for the thread."""
    writer.put(Write(Mark(mark), None, None, ()))
    writer.ring()


def test_a_writer_without_room_waits_and_goes_on(
    writer: tuple[Writer, FullJournal, list[int]],
) -> None:
    """Nothing is vouched for, dropped, or put out of its order; then everything is done."""
    made, journal, told = writer
    journal.full = True
    put(made, 1)
    until(lambda: journal.tries > 1, what="it tries again")
    put(made, 2)
    with pytest.raises(TimeoutError):
        made.wait(Mark(2), timeout=0.01)
    made.put(Write(Mark(3), None, None, ()))
    with pytest.raises(TimeoutError):  # nobody rang for it: who waits is who writes
        made.wait(Mark(3), timeout=0.01)
    assert ([], 0, False) == (told, journal.syncs, made.has_room)
    assert not made.look_for_room()
    journal.full = False
    assert 3 == made.wait(Mark(3), timeout=DEADLINE)
    until(lambda: told and told[-1] == 3)
    assert [1, 2, 3] == [write.mark for batch in journal.batches for write in batch]
    assert until(made.look_for_room)


def test_a_handler_that_meets_a_full_disk_leaves_it_to_the_thread() -> None:
    """It gives up in its own time, and what it had taken is written later."""
    journal, told = FullJournal(), list[int]()
    made = Writer(journal, on_synced=told.append)
    journal.full = True
    made.put(Write(Mark(1), None, None, ()))
    with pytest.raises(TimeoutError):
        made.wait(Mark(1), timeout=0.01)
    with pytest.raises(TimeoutError):
        made.wait(Mark(1), timeout=0.01)
    assert 1 == journal.tries, "the thread's pace, not the callers'"
    assert made.bell.wait(0)
    journal.full = False
    made.stop()
    made.run()
    assert ([1], [[1]]) == (told, [[w.mark for w in batch] for batch in journal.batches])


def test_a_stuck_writer_can_be_stopped() -> None:
    """What never got room was promised to nobody."""
    journal = FullJournal()
    made = Writer(journal, on_synced=lambda _: None)
    journal.full = True
    made.put(Write(Mark(1), None, None, ()))
    made.stop()
    made.run()
    assert 0 == journal.syncs


# --- the node -----------------------------------------------------------------------------------


def test_a_full_leader_refuses_commands_and_serves_again() -> None:
    """Certain, and with what to do; members still change; no restart (P42)."""
    gauge, journal = Gauge(), GatedJournal()
    node = Node(
        make_core("a"),
        module=Words(),
        journal=journal,
        shelf=empty_shelf(),
        connect=lambda _peer, _address: FriendlyLink(),
        election_timeout=0.05,
        log=Log("test"),
        room=Room("/data", gauge.look, RESERVE),
    )
    node.space.seconds = 0.01

    def apply(command: bytes) -> object:
        waiter = Waiter()
        node.propose([command], [waiter])
        return waiter.wait(DEADLINE)

    node.start()
    try:
        until(lambda: node.leads and node.status().is_ready)
        assert b"1" == apply(b"word")
        gauge.free = 0
        shortage = until(lambda: node.status().storage_full)
        with pytest.raises(StorageFull, match=r"a takes no commands: /data has 0\.0 MiB left"):
            apply(b"word")
        assert shortage == node.status().storage_full
        waiter = Waiter()
        node.change_members(AddLearner(Member(NodeId("b"), "b:1", False, False, 7)), waiter)
        waiter.wait(DEADLINE)
        gauge.free = 10 * RESERVE
        until(lambda: not node.status().storage_full)
        assert b"2" == apply(b"word")
    finally:
        assert [] == node.stop(deadline=monotonic() + DEADLINE)


def test_a_full_leader_offers_its_office_before_it_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A voter with room is asked to take over; commands wait for that, and are refused in vain."""
    caplog.set_level(logging.INFO, logger="tinyraft")
    office = Office()
    gauge = Gauge()
    gauge.free = 0
    office.node.space._room = Room("/data", gauge.look, RESERVE)
    office.node.start()
    try:
        until(lambda: "transfer_begun" in caplog.text, what="it offers leadership")
        assert "storage_full" in caplog.text
        waiter = office.propose(b"word")
        with pytest.raises(StorageFull):
            waiter.wait(DEADLINE)
        until(lambda: "transfer_failed" in caplog.text, what="that is told")
    finally:
        office.journal.open.set()
        assert [] == office.node.stop(deadline=monotonic() + DEADLINE)
