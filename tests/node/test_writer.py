"""Group commit: what one sync vouches for, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster import DEADLINE, GatedJournal, until
from tinyraft.core.effects import Mark, Synced, Write
from tinyraft.errors import StorageFailed
from tinyraft.node.loop import Loop
from tinyraft.node.writer import Writer


def put(writer: Writer, mark: int) -> None:
    """Queue a change for the thread."""
    writer.put(write(mark))
    writer.ring()


def write(mark: int) -> Write:
    """Make a change of the disk."""
    return Write(Mark(mark), None, None, ())


@contextmanager
def running(writer: Writer) -> Iterator[list[BaseException]]:
    """Run the writer's thread; what ended it is in the list."""
    deaths: list[BaseException] = []
    loop = Loop("tinyraft-x-writer", writer.run, died=lambda _name, error: deaths.append(error))
    loop.start()
    try:
        yield deaths
    finally:
        writer.stop()
        assert loop.join(DEADLINE)


def test_everything_queued_is_one_write_and_one_sync() -> None:
    """The halves without the thread: a batch takes all there is, and one mark speaks for it."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    for mark in (1, 2, 3):
        writer.put(write(mark))
    batch = writer.next_batch()
    assert [] == writer.next_batch()
    writer.persist(batch)
    writer.finish(batch)
    assert ([[1, 2, 3]], 1) == ([[w.mark for w in b] for b in journal.batches], journal.syncs)
    assert [Synced(3)] == told
    assert Synced(3) == writer.wait(Mark(2), timeout=0)


def test_what_is_queued_during_a_sync_is_not_vouched_for_by_it() -> None:
    """Bytes that came after the sync had begun wait for the next one, however it ends."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    journal.open.clear()
    with running(writer):
        put(writer, 1)
        assert journal.syncing.wait(DEADLINE)
        put(writer, 2)
        put(writer, 3)
        with pytest.raises(TimeoutError):
            writer.wait(Mark(1), timeout=0.01)
        journal.syncing.clear()
        journal.open.set()
        assert writer.wait(Mark(1), timeout=DEADLINE) >= 1
        assert writer.wait(Mark(3), timeout=DEADLINE) == Synced(3)
    assert [[1], [2, 3]] == [[w.mark for w in b] for b in journal.batches]
    assert [Synced(1), Synced(3)] == told
    assert 2 == journal.syncs


def test_a_mark_is_told_only_after_the_sync_returned() -> None:
    """While the disk is at work, nobody is let go."""
    journal = GatedJournal()
    writer = Writer(journal, on_synced=lambda _: None)
    journal.open.clear()
    released: list[Synced] = []
    with running(writer):
        put(writer, 1)
        assert journal.syncing.wait(DEADLINE)
        waits = threading.Thread(
            target=lambda: released.append(writer.wait(Mark(1), timeout=DEADLINE)), daemon=True
        )
        waits.start()
        waits.join(0.02)
        assert [] == released
        journal.open.set()
        waits.join(DEADLINE)
    assert [Synced(1)] == released


def test_a_failed_sync_poisons_for_good() -> None:
    """Who waits is told, who comes later too, and the disk is never asked again."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    journal.open.clear()
    journal.failure = StorageFailed("the disk is gone")
    errors: list[BaseException] = []

    def wait(mark: int) -> None:
        try:
            writer.wait(Mark(mark), timeout=DEADLINE)
        except StorageFailed as error:
            errors.append(error)

    with running(writer) as deaths:
        put(writer, 1)
        assert journal.syncing.wait(DEADLINE)
        waiting = [threading.Thread(target=wait, args=(mark,), daemon=True) for mark in (1, 2)]
        for thread in waiting:
            thread.start()
        put(writer, 2)
        journal.open.set()
        until(lambda: deaths)
        writer.fail(StorageFailed("a second failure changes nothing"))
        for thread in waiting:
            thread.join(DEADLINE)
    assert ["the disk is gone"] * 2 == [str(error) for error in errors]
    with pytest.raises(StorageFailed, match="the disk is gone"):
        writer.wait(Mark(1), timeout=None)
    assert ([], 1) == (told, journal.syncs)


def test_what_was_synced_before_the_failure_still_counts() -> None:
    """A failure does not take back what is on disk."""
    writer = Writer(GatedJournal(), on_synced=lambda _: None)
    batch = [write(1)]
    writer.persist(batch)
    writer.finish(batch)
    writer.fail(StorageFailed("later"))
    assert Synced(1) == writer.wait(Mark(1), timeout=0)


def test_marks_out_of_order_are_a_defect() -> None:
    """A mark that goes back would open what is not on disk."""
    writer = Writer(GatedJournal(), on_synced=lambda _: None)
    writer.finish([write(2)])
    with pytest.raises(AssertionError, match="order"):
        writer.finish([write(1)])


def test_a_stop_drains_the_queue() -> None:
    """What was queued before the end is on disk at the end."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    journal.open.clear()
    with running(writer):
        put(writer, 1)
        assert journal.syncing.wait(DEADLINE)
        put(writer, 2)
        writer.stop()
        journal.open.set()
    assert Synced(2) == told[-1]


# --- who waits may write ----------------------------------------------------------------------


def test_whoever_waits_writes() -> None:
    """Without any other thread, a waiter has everything up to its mark written, and is let go."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    for mark in (1, 2):
        writer.put(write(mark))
    assert Synced(2) == writer.wait(Mark(1), timeout=0)
    assert ([[1, 2]], 1) == ([[w.mark for w in b] for b in journal.batches], journal.syncs)
    assert [Synced(2)] == told


def test_what_comes_while_a_waiter_writes_is_not_forgotten() -> None:
    """Nobody rang for it and its own waiter found the pen taken; it is written all the same."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    released: list[Synced] = []

    def wait(mark: int) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: released.append(writer.wait(Mark(mark), timeout=DEADLINE)), daemon=True
        )
        thread.start()
        return thread

    journal.open.clear()
    with running(writer):
        writer.put(write(1))
        first = wait(1)
        assert journal.syncing.wait(DEADLINE)
        writer.put(write(2))
        second = wait(2)
        journal.open.set()
        first.join(DEADLINE)
        second.join(DEADLINE)
    assert Synced(2) == told[-1]
    assert 2 == len(released)


@pytest.mark.parametrize(
    "error", [StorageFailed("gone"), OSError(5, "EIO"), AssertionError("a defect")], ids=repr
)
def test_a_failure_in_a_waiters_hands_is_for_good(error: BaseException) -> None:
    """A batch that was taken and not written is never jumped over: no later mark is synced."""
    journal, told = GatedJournal(), []
    writer = Writer(journal, on_synced=told.append)
    journal.failure = error
    writer.put(write(1))
    with pytest.raises(type(error)):
        writer.wait(Mark(1), timeout=DEADLINE)
    journal.failure = None  # the disk says "all is well" the second time
    writer.put(write(2))
    with pytest.raises(StorageFailed):
        writer.wait(Mark(2), timeout=DEADLINE)
    with running(writer) as deaths:
        put(writer, 3)
        with pytest.raises(StorageFailed):
            writer.wait(Mark(3), timeout=DEADLINE)
    assert ([], [], 1) == (told, deaths, journal.syncs)


def test_many_waiters_and_a_thread_get_everything_in_order() -> None:
    """Whoever holds the pen, every mark is written once and in order, and nobody is left behind."""
    journal, told, lock, marks = GatedJournal(), [], threading.Lock(), iter(range(1, 801))
    writer = Writer(journal, on_synced=told.append)

    def work() -> None:
        while True:
            with lock:  # as the core's lock does: queue order is number order
                mark = next(marks, None)
                if mark is None:
                    return
                writer.put(write(mark))
            if mark % 3:
                assert writer.wait(Mark(mark), timeout=DEADLINE) >= mark
            else:
                writer.ring()

    with running(writer):
        threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert list(range(1, 801)) == [w.mark for batch in journal.batches for w in batch]
    assert Synced(800) == told[-1]
    assert told == sorted(set(told))
