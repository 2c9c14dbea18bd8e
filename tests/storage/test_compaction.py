"""A log whose beginning a snapshot took: shortened, replaced, and found again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.storage.life import (
    LOG_ID,
    SEGMENT_BYTES,
    WAL,
    make_disk,
    make_entries,
    snapshot_of,
    vote,
    write,
)
from tinyraft.core.effects import HardState
from tinyraft.core.entry import Entry, EntryKind, make_entry
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import CorruptLog, StorageFailed
from tinyraft.storage.recovery import Recovered
from tinyraft.storage.segment import segment_name, segment_number
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Fault, SimDisk, lost


def open_wal(
    disk: SimDisk, *snapshots: Snapshot, memory_bytes: int = 10**6
) -> tuple[Wal, Recovered]:
    """Open the log of a test beside *snapshots*."""
    return Wal.open(
        disk,
        WAL,
        segment_bytes=SEGMENT_BYTES,
        log_id=LOG_ID,
        snapshots=snapshots,
        memory_bytes=memory_bytes,
    )


def numbers_of(disk: SimDisk) -> list[int]:
    """Return the numbers of the segments."""
    return [n for n in map(segment_number, disk.names(WAL)) if n is not None]


def long_wal(disk: SimDisk, *, last: int = 20, term: int = 2) -> Wal:
    """Return a log of *last* entries, three in a segment."""
    wal, _ = open_wal(disk)
    wal.write([write(state=vote(term))])
    for index in range(1, last + 1):
        wal.write([write(make_entries(index, 1, term=term, command=b"%02d" % index * 10))])
    wal.sync()
    return wal


def indexes(entries: Sequence[Entry]) -> list[int]:
    """Return the indexes."""
    return [entry.index for entry in entries]


def read_all(wal: Wal, after: int, *, max_bytes: int = 200) -> list[Entry]:
    """Read until there is no more."""
    entries: list[Entry] = []
    while more := wal.read(after + len(entries), 10**9, max_bytes=max_bytes):
        entries += more
    return entries


# --- compaction ---------------------------------------------------------------------------------


def test_old_segments_go_and_the_rest_is_found_again() -> None:
    """Promise: whole segments below the index are removed; the others say where they begin."""
    disk = make_disk()
    wal = long_wal(disk)
    before = numbers_of(disk)
    wal.compact(10)
    after = numbers_of(disk)
    assert before[-len(after) :] == after
    assert 1 < after[0]
    assert 8 < wal.first_index <= 11
    first = wal.first_index
    assert list(range(first, 21)) == indexes(read_all(wal, first - 1))
    wal.write([write(make_entries(21, 1, term=2))])
    wal.close()
    disk.kill()
    wal, recovered = open_wal(disk, snapshot_of(5, 2), snapshot_of(10, 2))
    assert (first - 1, 2) == (recovered.terms.base_index, recovered.terms.base_term)
    assert (21, snapshot_of(10, 2)) == (recovered.terms.last_index, recovered.snapshot)
    assert list(range(first, 22)) == indexes(recovered.entries)
    assert first == wal.first_index


def test_compaction_survives_a_power_loss_at_any_moment() -> None:
    """Promise: segments go oldest first, one by one, so that no crash leaves a gap."""
    disk = make_disk()
    wal = long_wal(disk)
    images: list[SimDisk] = []
    disk.before = lambda: images.append(disk.crash(lost))
    wal.compact(15)
    disk.before = None
    images.append(disk.crash(lost))
    begins = []
    for image in images:
        _, recovered = open_wal(image, snapshot_of(15, 2))
        assert 20 == recovered.terms.last_index
        begins.append(recovered.terms.base_index)
    assert begins == sorted(begins)
    assert 0 == begins[0] < begins[-1] <= 15


def test_the_last_segment_stays() -> None:
    """Promise: also where all of it is covered: the hard state and the place live there."""
    disk = make_disk()
    wal = long_wal(disk)
    wal.compact(20)
    assert 1 == len(numbers_of(disk))
    wal.write([write(make_entries(21, 1, term=3), state=vote(3, "b"))])
    wal.close()
    disk.kill()
    _, recovered = open_wal(disk, snapshot_of(20, 2))
    assert (vote(3, "b"), 21) == (recovered.hard_state, recovered.terms.last_index)


def test_a_compaction_that_fails_can_be_repeated() -> None:
    """Promise: it is told, it does not shut the log, and nothing is lost by it."""
    disk = make_disk()
    wal = long_wal(disk)
    before = numbers_of(disk)
    disk.fail(Fault(1, call="unlink"))
    with pytest.raises(StorageFailed, match="EIO"):
        wal.compact(15)
    assert before[1:] == numbers_of(disk)
    wal.write([write(make_entries(21, 1, term=2))])
    wal.sync()
    wal.compact(15)
    assert len(numbers_of(disk)) < len(before) - 1
    wal.close()
    disk.kill()
    assert 21 == open_wal(disk, snapshot_of(15, 2))[1].terms.last_index


def test_a_shut_log_is_not_compacted() -> None:
    """Promise: after a failed sync the disk is left alone."""
    disk = make_disk()
    wal = long_wal(disk)
    wal.write([write(make_entries(21, 1, term=2))])
    disk.fail(Fault(0, call="sync"))
    with pytest.raises(StorageFailed):
        wal.sync()
    before = numbers_of(disk)
    with pytest.raises(StorageFailed, match="stays shut"):
        wal.compact(15)
    assert before == numbers_of(disk)


def test_a_beginning_that_no_snapshot_covers_is_refused() -> None:
    """Promise: a missing segment or snapshot is named; a log with all of its entries needs none."""
    disk = make_disk()
    wal = long_wal(disk)
    wal.compact(10)
    wal.close()
    disk.kill()
    first = numbers_of(disk)[0]
    with pytest.raises(CorruptLog, match="no snapshot takes its place") as info:
        open_wal(disk)
    assert str(WAL / segment_name(first - 1)) == info.value.path
    with pytest.raises(CorruptLog, match="snapshot is missing") as info:
        open_wal(disk, snapshot_of(5, 2))
    assert str(WAL / segment_name(first)) == info.value.path
    with pytest.raises(CorruptLog, match="of term 2, which has term 1"):
        open_wal(disk, snapshot_of(wal.first_index - 1, 1))
    for name in disk.names(WAL):
        disk.put(WAL / name, None)
    with pytest.raises(CorruptLog, match="every segment is missing"):
        open_wal(disk, snapshot_of(10, 2))


def test_a_cut_below_the_oldest_segment_is_no_gap() -> None:
    """Promise: entries that went with an older segment may be cut and written anew.

    1. Segment 2 begins behind entry 3; in it the log is cut at 2, and goes on from there.
    2. A snapshot covers all of it, and segment 1 is removed.
    """
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 3, term=1, command=b"o" * 30), state=vote(1))])
    wal.write([write(make_entries(4, 1, term=1, command=b"o" * 30))])
    assert [1, 2] == numbers_of(disk)
    new = make_entries(2, 2, term=2, command=b"n")
    wal.write([write(new, state=vote(2), cut=2)])
    wal.compact(3)
    assert [2] == numbers_of(disk)
    wal.close()
    disk.kill()
    wal, recovered = open_wal(disk, snapshot_of(3, 2))
    assert (2, 2) == (recovered.terms.base_index, recovered.terms.base_term)
    assert new[1:] == recovered.entries
    assert new == wal.read(1, 9, max_bytes=1000)
    assert [] == wal.read(0, 9, max_bytes=1000)


# --- a new base -----------------------------------------------------------------------------------


def test_a_base_takes_the_place_of_the_whole_log() -> None:
    """Promise: the log goes on behind the snapshot, in the same write too; nothing else is left."""
    disk = make_disk()
    wal = long_wal(disk, last=4)
    new = make_entries(101, 2, term=3, command=b"new")
    wal.write([write(new, state=vote(3), base=(100, 3))])
    assert (101, new) == (wal.first_index, wal.read(100, 900, max_bytes=1000))
    assert [] == wal.read(2, 4, max_bytes=1000)
    wal.sync()
    for _ in range(2):
        image = disk.crash(lost)
        _, recovered = open_wal(image, snapshot_of(100, 3))
        assert (100, 3, 102) == (
            recovered.terms.base_index,
            recovered.terms.base_term,
            recovered.terms.last_index,
        )
        assert new == recovered.entries
        wal.compact(100)
    with pytest.raises(CorruptLog, match="missing"):
        open_wal(disk.crash(lost))
    wal.compact(102)
    assert 1 == len(numbers_of(disk))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(write(base=(10, 2)), "base 10", id="no_progress"),
        pytest.param(write(base=(12, 3)), "3 above", id="above_the_hard_state"),
        pytest.param(write(base=(12, 0)), "0 above", id="no_term"),
        pytest.param(write(cut=10), "a snapshot covers 10", id="cut_into_the_snapshot"),
        pytest.param(write(make_entries(10, 1, term=2)), "10 for 11", id="entry_in_the_snapshot"),
    ],
)
def test_what_breaks_a_rule_of_the_base_is_not_written(bad: object, why: str) -> None:
    """Promise: a base goes forward, and nothing below it is cut or written."""
    wal = long_wal(make_disk(), last=4)
    wal.write([write(base=(10, 2))])
    with pytest.raises(AssertionError, match=why):
        wal.write([bad])  # type: ignore[list-item]


def test_what_is_compacted_is_never_cut() -> None:
    """Promise: what a snapshot covers is agreed on for ever, at once and after a restart."""
    disk = make_disk()
    wal = long_wal(disk)
    wal.compact(10)
    wal.close()
    disk.kill()
    wal, _ = open_wal(disk, snapshot_of(10, 2))
    with pytest.raises(AssertionError, match="covers 10"):
        wal.write([write(cut=10)])


@pytest.mark.parametrize(
    ("snapshot", "hard_state"),
    [
        pytest.param(snapshot_of(50, 2), vote(2, "a"), id="the_log_ends_before"),
        pytest.param(snapshot_of(50, 3), vote(3), id="in_a_term_that_was_not_written_yet"),
        pytest.param(snapshot_of(3, 1), vote(2, "a"), id="the_log_has_another_entry_there"),
    ],
)
def test_a_snapshot_that_came_before_its_base_resets_the_log(
    snapshot: Snapshot, hard_state: HardState
) -> None:
    """Promise: a crash between the snapshot's name and the base frame is made good, for ever."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 5, term=2), state=vote(2, "a"))])
    wal.close()
    disk.kill()
    wal, recovered = open_wal(disk, snapshot)
    assert ["log_reset_to_snapshot"] == [notice.name for notice in recovered.notices]
    for found in (recovered, open_wal(disk.crash(lost), snapshot)[1]):
        assert (hard_state, []) == (found.hard_state, found.entries)
        assert (snapshot.index, snapshot.term) == (found.terms.base_index, found.terms.base_term)
        assert snapshot.index == found.terms.last_index
    wal.write([write(make_entries(snapshot.index + 1, 1, term=3), state=vote(3))])
    wal.close()
    disk.kill()
    _, recovered = open_wal(disk, snapshot)
    assert ((), 1) == (recovered.notices, len(recovered.entries))


def test_a_snapshot_of_the_logs_own_entry_resets_nothing() -> None:
    """Promise: the log may reach back long before it."""
    disk = make_disk()
    long_wal(disk).close()
    disk.kill()
    _, recovered = open_wal(disk, snapshot_of(5, 2), snapshot_of(9, 2))
    assert (0, 20, ()) == (
        recovered.terms.base_index,
        len(recovered.entries),
        recovered.notices,
    )


# --- what comes back into memory ------------------------------------------------------------------


def test_only_the_end_comes_back_into_memory() -> None:
    """Promise: as many entries as fit, one at least, up to the end; the terms of all of them."""
    disk = make_disk()
    wal = long_wal(disk)
    size = wal.read(0, 1, max_bytes=1)[0].footprint
    wal.close()
    disk.kill()
    for count in (0, 1, 7, 20):
        for spare in (0, size - 1):
            wal, recovered = open_wal(disk, memory_bytes=count * size + spare)
            there = max(1, count)  # the last one always: the time of the log's end is in it
            assert list(range(21 - there, 21)) == indexes(recovered.entries)
            assert (20, 2) == (recovered.terms.last_index, recovered.terms.last_term)
            assert list(range(1, 21)) == indexes(read_all(wal, 0))
            wal.close()
            disk.kill()


def test_what_was_cut_does_not_come_back_into_memory() -> None:
    """Promise: a cut through a batch leaves its beginning, and the terms of what is left."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 3, term=1) + make_entries(4, 3, term=2), state=vote(2))])
    wal.write([write(make_entries(5, 2, term=3), state=vote(3), cut=5)])
    wal.write([write(make_entries(6, 1, term=4), state=vote(4), cut=6)])
    wal.close()
    disk.kill()
    _, recovered = open_wal(disk)
    assert list(range(1, 7)) == indexes(recovered.entries)
    terms = [entry.term for entry in recovered.entries]
    assert [1, 1, 1, 2, 3, 4] == terms
    assert terms == [recovered.terms.at(index) for index in range(1, 7)]


def test_all_configurations_come_back() -> None:
    """Promise: also those that are not in memory; not those that were cut or replaced."""
    disk = make_disk()

    def configuration(index: int, command: bytes) -> Entry:
        kind = EntryKind.CONFIGURATION
        return make_entry(index=index, term=1, kind=kind, command=command)

    wal, _ = open_wal(disk)
    kept, cut, new = configuration(1, b"1"), configuration(3, b"3"), configuration(3, b"new")
    wal.write([write([kept, *make_entries(2, 1, term=1), cut], state=vote(1))])
    wal.write([write([new, *make_entries(4, 2, term=1)], cut=3)])
    wal.close()
    disk.kill()
    wal, recovered = open_wal(disk, memory_bytes=0)
    assert [5] == indexes(recovered.entries), "the last is always there: its time is needed"
    assert [kept, new] == recovered.configurations
    other = configuration(11, b"x")
    wal.write([write([other], base=(10, 1))])
    wal.close()
    disk.kill()
    assert [other] == open_wal(disk, snapshot_of(10, 1))[1].configurations
    assert [kept] == Recovered.of(vote(1), [kept, *make_entries(2, 1, term=1)]).configurations


# --- reading --------------------------------------------------------------------------------------


def test_as_much_is_read_as_fits_but_one_entry_at_least() -> None:
    """Promise: the bounds are the caller's; a large entry is not in the way for ever."""
    disk = make_disk()
    wal = long_wal(disk)
    size = wal.read(0, 1, max_bytes=0)[0].size
    assert [1] == indexes(wal.read(0, 20, max_bytes=size - 1))
    assert [5, 6, 7] == indexes(wal.read(4, 20, max_bytes=4 * size - 1))
    assert [5, 6] == indexes(wal.read(4, 6, max_bytes=10**6))
    assert list(range(5, 21)) == indexes(wal.read(4, 10**9, max_bytes=10**6))
    assert [] == wal.read(20, 30, max_bytes=10**6)
    assert [] == wal.read(4, 4, max_bytes=10**6)


@pytest.mark.parametrize("segment_bytes", [SEGMENT_BYTES, 700, 10**5])
def test_cut_entries_are_never_read(segment_bytes: int) -> None:
    """Promise: whatever stands behind a cut in the files, the entries in force come back."""
    disk = make_disk()
    wal, _ = Wal.open(disk, WAL, segment_bytes=segment_bytes, log_id=LOG_ID)
    truth: list[Entry] = []
    for term, (cut, count) in enumerate([(1, 9), (4, 3), (7, 6), (2, 2), (4, 0), (3, 9)], start=1):
        new = make_entries(cut, count, term=term, command=b"%d" % term * 20)
        wal.write([write(new[:2], state=vote(term), cut=cut), write(new[2:])])
        truth = truth[: cut - 1] + new
        for max_bytes in (1, 150, 10**6):
            assert truth == read_all(wal, 0, max_bytes=max_bytes)
    wal.close()
    disk.kill()
    assert truth == read_all(open_wal(disk)[0], 0)


def test_large_batches_are_parted_so_that_reading_is_cheap() -> None:
    """Promise: who reads one entry of a large write does not read all of it."""
    disk = make_disk()
    wal, _ = Wal.open(disk, WAL, segment_bytes=10**7)
    entries = make_entries(1, 3000, term=1, command=b"c" * 1000)
    entries += make_entries(3001, 2, term=1, command=b"d" * 300_000)
    wal.write([write(entries, state=vote(1))])
    assert 20 < len(wal._places._firsts) < 40
    assert entries == read_all(wal, 0, max_bytes=500_000)
    assert entries[1700:1702] == wal.read(1700, 1702, max_bytes=10**6)
    before = wal.index_before_bytes(0)
    assert entries[-1].index - 1 == before
    behind = wal.index_before_bytes(1_000_000)
    assert 1_000_000 <= sum(entry.size + 36 for entry in entries[behind:]) < 1_300_000
    assert 0 == wal.index_before_bytes(10**9)
    wal.close()
    disk.kill()
    wal, _ = Wal.open(disk, WAL, segment_bytes=10**7)
    assert behind == wal.index_before_bytes(1_000_000)
    assert entries == read_all(wal, 0, max_bytes=500_000)


def test_an_empty_log_has_nothing_to_read() -> None:
    """Promise: its first index is the next one."""
    wal, _ = open_wal(make_disk())
    assert (1, 0, []) == (wal.first_index, wal.index_before_bytes(9), wal.read(0, 9, max_bytes=9))


def test_rot_is_found_when_it_is_read() -> None:
    """Promise: an entry that went bad since the start is refused by file and place."""
    disk = make_disk()
    wal = long_wal(disk)
    paths = [WAL / segment_name(number) for number in numbers_of(disk)]
    (path,) = [path for path in paths if b"0808" in disk.content(path)]
    content = disk.content(path)
    disk.put(path, content.replace(b"0808", b"0888"))
    with pytest.raises(CorruptLog, match="entries from 8") as info:
        wal.read(7, 20, max_bytes=1)
    assert str(path) == info.value.path
    assert [1] == indexes(wal.read(0, 1, max_bytes=1))
    disk.put(path, None)
    with pytest.raises(StorageFailed, match="No such file"):
        wal.read(7, 20, max_bytes=1)


def test_a_segment_that_is_removed_while_it_is_looked_for_is_no_error() -> None:
    """Promise: a reader that planned a read before a compaction finds nothing, and asks anew."""
    disk = make_disk()
    wal = long_wal(disk)

    def compact_first() -> None:
        disk.before = None
        wal.compact(15)

    disk.before = compact_first
    assert [] == wal.read(2, 20, max_bytes=10**6)
    assert list(range(wal.first_index, 21)) == indexes(read_all(wal, wal.first_index - 1))
