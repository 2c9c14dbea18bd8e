"""The log in quiet times: what is written comes back, in few and large writes."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests.storage.life import (
    LOG_ID,
    WAL,
    make_disk,
    make_entries,
    open_wal,
    recover,
    state_of,
    vote,
    write,
)
from tinyraft.core.effects import HardState
from tinyraft.errors import CorruptLog, StorageFailed
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.segment import segment_name, segment_number, used_bytes
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import SimDisk, lost


def calls_during(disk: SimDisk, work: object) -> list[str]:
    """Return the names of the calls of the disk that *work* makes."""
    before = len(disk.trace)
    work()  # type: ignore[operator]
    return [name for name, _ in disk.trace[before:]]


def test_an_empty_log_says_term_0_and_nothing() -> None:
    """Promise: a new log has no entries, no vote and no notices."""
    wal, recovered = open_wal(make_disk())
    assert HardState(0, None) == recovered.hard_state
    assert ([], ()) == (recovered.entries, recovered.notices)
    wal.close()


def test_what_was_written_comes_back_byte_by_byte(tmp_path: Path) -> None:
    """Promise: on a real disk, entries, hard state and cuts come back, with the same encoding."""
    entries = make_entries(1, 5, term=1, command=b"\0\xff" * 10)
    newer = make_entries(4, 2, term=2, command=b"")
    wal, _ = Wal.open(RealDisk(), tmp_path / "wal", segment_bytes=300)
    wal.write([write(entries, state=vote(1, "a"))])
    wal.write([write(newer, state=vote(2, "büro"), cut=4)])
    wal.close()
    wal, recovered = Wal.open(RealDisk(), tmp_path / "wal", segment_bytes=300)
    wal.close()
    assert vote(2, "büro") == recovered.hard_state
    assert entries[:3] + newer == recovered.entries
    assert len(list((tmp_path / "wal").glob("*.wal"))) > 1


def test_many_writes_are_one_buffer() -> None:
    """Promise: however many changes a batch has, the disk sees one write, and no sync with it."""
    disk = make_disk()
    wal, _ = Wal.open(disk, WAL, segment_bytes=4096)
    writes = [
        write(make_entries(1, 3, term=1), state=vote(1)),
        write(make_entries(4, 3, term=1)),
        write(make_entries(5, 1, term=2), state=vote(2), cut=5),
        write(),
    ]
    assert ["pwrite"] == calls_during(disk, lambda: wal.write(writes))
    assert ["sync", "pwrite"] == calls_during(disk, wal.sync)


def test_neighbouring_entries_share_a_frame() -> None:
    """Promise: the entries of several writes cost one frame of 36 bytes."""
    disk = make_disk()
    wal, _ = Wal.open(disk, WAL, segment_bytes=4096)
    wal.write([write(state=vote(1))])
    entries = make_entries(1, 3, term=1)
    wal.write([write([entry]) for entry in entries])
    assert 36 + sum(entry.size for entry in entries) == len(disk.pending()[-1].data)


def test_nothing_new_is_not_synced_again() -> None:
    """Promise: a sync without writes, and an empty write, leave the disk alone."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    assert [] == calls_during(disk, wal.sync)
    assert [] == calls_during(disk, lambda: wal.write([]))


def test_a_closed_log_is_synced_whole() -> None:
    """Promise: after `close` a power loss takes nothing, and a second `close` does nothing."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 1, term=1), state=vote(1))])
    wal.close()
    assert [] == calls_during(disk, wal.close)
    assert ((1, None), ((1, 1, b"x"),)) == recover(disk.crash(lost))
    with pytest.raises(AssertionError, match="closed"):
        wal.sync()


def test_segments_roll_and_start_with_the_hard_state() -> None:
    """Promise: a full segment is left for a new one that needs no other for term and vote."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(state=vote(3, "voter"))])
    for index in range(1, 8):
        wal.write([write(make_entries(index, 1, term=3, command=b"c" * 90))])
    names = [name for name in disk.names(WAL) if name.endswith(".wal")]
    assert [segment_name(number) for number in range(1, len(names) + 1)] == names
    assert len(names) > 2
    for name in names[1:]:
        assert b"voter" in disk.content(WAL / name)[:200]


def test_segments_are_preallocated() -> None:
    """Promise: a sync in the hot path has no new length to write; space is missing early."""
    disk = make_disk()
    wal, _ = Wal.open(disk, WAL, segment_bytes=4096)
    before = len(disk.content(WAL / segment_name(1)))
    wal.write([write(make_entries(1, 9, term=1), state=vote(1))])
    assert (4096, 4096) == (before, len(disk.content(WAL / segment_name(1))))


def test_a_segment_is_known_from_its_birth() -> None:
    """Promise: a new segment that is missing after a kill is missed, before anything is synced."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(state=vote(1)), write(make_entries(1, 1, term=1, command=b"c" * 300))])
    assert ["0000000000000001.wal", "0000000000000002.wal", "synced"] == disk.names(WAL)
    disk.kill()
    disk.put(WAL / segment_name(2), None)
    with pytest.raises(CorruptLog, match="missing"):
        open_wal(disk)


def test_a_frame_larger_than_a_segment_gets_a_larger_segment() -> None:
    """Promise: segment_bytes is no limit for commands."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    big = make_entries(1, 1, term=1, command=b"b" * 5000)
    small = make_entries(2, 1, term=1)
    wal.write([write(big, state=vote(1)), write(small, state=vote(1, "a"))])
    wal.close()
    disk.kill()
    _, recovered = open_wal(disk)
    assert big + small == recovered.entries


def test_a_smaller_segment_size_is_taken_from_the_next_segment_on() -> None:
    """Promise: a log can be opened with any segment size, whatever it was made with."""
    disk = make_disk()
    wal, _ = Wal.open(disk, WAL, segment_bytes=4096)
    wal.write([write(make_entries(1, 20, term=1), state=vote(1))])
    wal.close()
    wal, _ = Wal.open(disk, WAL, segment_bytes=100)
    wal.write([write(make_entries(21, 1, term=1))])
    wal.close()
    _, recovered = Wal.open(disk, WAL, segment_bytes=8192)
    assert 21 == len(recovered.entries)
    assert 3 == len(disk.names(WAL))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(write(state=vote(1)), "goes back", id="term"),
        pytest.param(write(state=vote(2, "b")), "then", id="second_vote"),
        pytest.param(write(state=vote(2)), "then", id="vote_taken_back"),
        pytest.param(write(state=HardState(3, "")), "needs a name", id="vote_for_nobody"),  # type: ignore[arg-type]
        pytest.param(write(cut=0), "cut at 0", id="cut_0"),
        pytest.param(write(cut=4), "cut at 4", id="cut_behind_the_end"),
        pytest.param(write(make_entries(4, 1, term=2)), "4 for 3", id="gap"),
        pytest.param(
            write(make_entries(3, 1, term=2) + make_entries(5, 1, term=2)), "jump", id="jump"
        ),
        pytest.param(write(make_entries(3, 1, term=1)), "terms go back", id="entry_term"),
        pytest.param(write(make_entries(3, 1, term=3)), "above", id="above_hard_state"),
    ],
)
def test_what_breaks_a_rule_is_not_written(bad: object, why: str) -> None:
    """Promise: the log asserts the rules that recovery will hold it to."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 2, term=2), state=vote(2, "a"))])
    with pytest.raises(AssertionError, match=why):
        wal.write([bad])  # type: ignore[list-item]
    disk.kill()
    assert ((2, "a"), ((1, 2, b"x"), (2, 2, b"x"))) == recover(disk)


def test_a_log_goes_on_where_it_was() -> None:
    """Promise: next index, last term and hard state are known after a restart."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 2, term=2), state=vote(2, "a"))])
    wal.close()
    wal, recovered = open_wal(disk)
    with pytest.raises(AssertionError, match="terms go back"):
        wal.write([write(make_entries(3, 1, term=1))])
    disk.kill()
    wal, recovered = open_wal(disk)
    wal.write([write(make_entries(3, 1, term=2))])
    wal.close()
    assert 3 == len(state_of(open_wal(disk)[1])[1])
    assert 2 == len(recovered.entries)


def test_a_copied_log_is_synced_before_it_is_believed() -> None:
    """Promise: also what a person restored a moment ago survives a power loss once it was read."""
    disk, copy = make_disk(), make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 9, term=1, command=b"c" * 90), state=vote(1))])
    wal.write([write(make_entries(10, 9, term=1, command=b"c" * 90))])
    wal.close()
    copy.mkdir(WAL)
    for name in disk.names(WAL):
        copy.create(WAL / name).pwrite(disk.content(WAL / name), 0)
    state = state_of(open_wal(copy)[1])
    assert 18 == len(state[1])
    assert state == recover(copy.crash(lost))


def test_an_impossible_directory_is_said_clearly(tmp_path: Path) -> None:
    """Promise: a file in the way, and a missing parent, name path and reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="file: Not a directory"):
        Wal.open(RealDisk(), tmp_path / "file")
    with pytest.raises(StorageFailed, match="missing/wal: No such file or directory"):
        Wal.open(RealDisk(), tmp_path / "missing" / "wal")


def test_new_logs_have_ids_of_their_own() -> None:
    """Promise: two logs are never taken for one."""
    ids = set()
    for _ in range(2):
        wal, _ = Wal.open(make_disk(), WAL, segment_bytes=1000)
        ids.add(wal._segment.log_id)
    assert 2 == len(ids - {0, LOG_ID})


@pytest.mark.parametrize("enabled", [True, False])
def test_recovery_leaves_the_garbage_collector_as_it_was(*, enabled: bool) -> None:
    """Promise: it is paused while entries are made, and only then."""
    disk = make_disk()
    open_wal(disk)
    disk.kill()
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        open_wal(disk)
        assert enabled == gc.isenabled()
    finally:
        (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200000])
@pytest.mark.parametrize("zeros", [0, 1, 65535, 65536, 65537, 140000])
def test_used_bytes_end_at_the_last_that_is_not_zero(size: int, zeros: int) -> None:
    """Promise: exact at every border of its blocks, also with zeros before."""
    data = bytes(size - 1) + b"x" if size else b""
    assert size == used_bytes(data + bytes(zeros))


def test_names_of_segments() -> None:
    """Promise: sixteen digits and nothing else is a segment."""
    assert "0000000000000012.wal" == segment_name(12)
    assert 12 == segment_number("0000000000000012.wal")
    for name in ("12.wal", "0000000000000012.wal.tmp", "x000000000000012.wal", "synced", ""):
        assert segment_number(name) is None
