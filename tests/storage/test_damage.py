"""Damaged, missing and foreign files: the same state, or a refusal that says where. Never a lie."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.storage.life import (
    LOG_ID,
    SEGMENT_BYTES,
    WAL,
    Life,
    State,
    make_disk,
    make_entries,
    open_wal,
    recover,
    vote,
    write,
)
from tinyraft.errors import CorruptLog
from tinyraft.storage.segment import segment_name
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import SimDisk, kept

Files = dict[str, bytes]


def small_life(*, close: bool) -> Life:
    """Fill three segments; either close the log, or kill it with a write that was not synced."""
    life = Life(make_disk())
    life.open()
    life.write(write(make_entries(1, 2, term=1), state=vote(1, "a")))
    life.sync()
    life.write(write(make_entries(2, 2, term=2, command=b"y" * 60), state=vote(2), cut=2))
    life.write(write(make_entries(4, 1, term=2, command=b"w" * 60)))
    life.sync()
    life.write(write(make_entries(5, 1, term=2, command=b"v" * 60)))
    life.sync()
    if close:
        life.close()
    else:
        life.write(write(make_entries(6, 1, term=2), state=vote(3, "b")))
    life.disk = life.disk.crash(kept, names=lambda total: total)
    return life


def files_of(disk: SimDisk) -> Files:
    """Return all files of the log."""
    return {name: disk.content(WAL / name) for name in disk.names(WAL)}


def disk_with(files: Files) -> SimDisk:
    """Return a disk with these files as the log."""
    disk = make_disk()
    disk.mkdir(WAL)
    disk.sync_dir(WAL.parent)
    for name, data in files.items():
        disk.put(WAL / name, data)
    return disk


def outcome(files: Files) -> State | CorruptLog:
    """Open a log with these files; any other exception fails the test."""
    try:
        return recover(disk_with(files))
    except CorruptLog as error:
        refusal = error
    assert refusal.path.startswith(f"{WAL}/")
    assert refusal.path in str(refusal)
    assert refusal.offset == -1 or f"byte {refusal.offset}" in str(refusal)
    assert "new NODE_ID" in str(refusal)
    return refusal


def last_segment(files: Files) -> str:
    """Return the name of the last segment."""
    return max(name for name in files if name.endswith(".wal"))


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_no_flipped_bit_gives_a_wrong_state(*, close: bool) -> None:
    """Promise: whichever bit of the directory flips, nothing that was synced is lost in silence.

    A closed log gives the same state or a refusal. A killed one may also be without its last write,
    which was never synced.
    """
    life = small_life(close=close)
    files = files_of(life.disk)
    assert len(files) >= 4
    refused = 0
    for name, data in files.items():
        for bit in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            result = outcome({**files, name: bytes(flipped)})
            if isinstance(result, CorruptLog):
                assert str(WAL / name) == result.path
                assert 0 <= result.offset <= bit // 8
                refused += 1
            else:
                assert result in life.allowed
    assert refused > 4000


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_every_truncation_is_noticed(*, close: bool) -> None:
    """Promise: what lost its end gives the same state, less of an unsynced end, or a refusal."""
    life = small_life(close=close)
    files = files_of(life.disk)
    for name, data in files.items():
        for size in range(len(data)):
            result = outcome({**files, name: data[:size]})
            assert isinstance(result, CorruptLog) or result in life.allowed


def test_a_missing_file_is_noticed() -> None:
    """Promise: each missing segment is named; without `synced` the state is the same."""
    life = small_life(close=True)
    files = files_of(life.disk)
    for name in files:
        result = outcome({other: data for other, data in files.items() if other != name})
        if name == "synced":
            assert life.states[-1] == result
        else:
            assert isinstance(result, CorruptLog)
            assert str(WAL / name) == result.path
            assert -1 == result.offset


def test_a_log_without_any_segment_is_not_taken_for_a_new_one() -> None:
    """Promise: where `synced` is left behind, there was a log, even if it can't be read."""
    for data in (files_of(small_life(close=True).disk)["synced"], b""):
        result = outcome({"synced": data})
        assert isinstance(result, CorruptLog)
        assert "every segment is missing" in str(result)


def test_swapped_copied_and_foreign_files_are_refused() -> None:
    """Promise: a segment under another's name, twice, or of another log never passes."""
    life = small_life(close=True)
    files = files_of(life.disk)
    other = disk_with({})
    wal, _ = Wal.open(other, WAL, segment_bytes=SEGMENT_BYTES)
    wal.write([write(make_entries(1, 9, term=1, command=b"o" * 60), state=vote(1))])
    wal.write([write(make_entries(10, 9, term=1, command=b"o" * 60))])
    wal.close()
    foreign = files_of(other)
    for name in files:
        for target in files:
            if name != target:
                swapped = outcome({**files, name: files[target], target: files[name]})
                copied = outcome({**files, target: files[name]})
                assert isinstance(swapped, CorruptLog)
                assert isinstance(copied, CorruptLog) or (target, copied) == (
                    "synced",
                    life.states[-1],
                )
        result = outcome({**files, name: foreign[name]})
        assert isinstance(result, CorruptLog)
        assert "another log" in str(result)
    for extra in (segment_name(4), segment_name(0), segment_name(9)):
        assert isinstance(outcome({**files, extra: files[segment_name(1)]}), CorruptLog)
    with pytest.raises(CorruptLog, match="another log"):
        Wal.open(disk_with(files), WAL, segment_bytes=SEGMENT_BYTES, log_id=LOG_ID + 1)


def test_files_of_other_names_do_not_matter() -> None:
    """Promise: copies that a person made beside the log change nothing."""
    life = small_life(close=True)
    files = files_of(life.disk)
    copies = {"backup.wal": b"", "0000000000000001.wal.bak": files[segment_name(1)], "1.wal": b"x"}
    assert life.states[-1] == outcome({**files, **copies})


@pytest.mark.parametrize(
    "noise", [bytes(2**20), Random(1).randbytes(2**20)], ids=["zeros", "noise"]
)
def test_bytes_appended_to_a_file_do_not_matter(noise: bytes) -> None:
    """Promise: a megabyte of anything behind a file is cut or not read."""
    life = small_life(close=True)
    files = files_of(life.disk)
    for name, data in files.items():
        assert life.states[-1] == outcome({**files, name: data + noise})


def test_a_torn_tail_is_told() -> None:
    """Promise: what was cut is in a notice, with file, place and size, and is cut only once."""
    life = small_life(close=True)
    files = files_of(life.disk)
    name = last_segment(files)
    end = len(files[name].rstrip(b"\0"))
    disk = disk_with({**files, name: files[name][:end] + b"\0\0torn\0"})
    _, recovered = open_wal(disk)
    (notice,) = recovered.notices
    assert "torn_tail_cut" == notice.name
    assert {"path": str(WAL / name), "offset": end, "bytes": 6} == notice.facts
    disk.kill()
    _, again = open_wal(disk)
    assert () == again.notices


def test_rot_in_the_last_synced_frame_is_no_torn_tail() -> None:
    """Promise: the file `synced` tells them apart: what was acknowledged is never cut."""
    life = small_life(close=True)
    files = files_of(life.disk)
    name = last_segment(files)
    end = len(files[name].rstrip(b"\0"))
    rotten = files[name][: end - 1] + b"\xff" + files[name][end:]
    result = outcome({**files, name: rotten})
    assert isinstance(result, CorruptLog)
    assert f"synced up to {end}" in str(result)
    assert result.offset < end


def test_a_later_header_is_witness_where_the_file_synced_is_lost() -> None:
    """Promise: damage before a place that a later frame knows as synced is refused all the same."""
    life = Life(make_disk())
    life.open()
    life.write(write(make_entries(1, 1, term=1, command=b"needle"), state=vote(1)))
    life.sync()
    life.write(write(make_entries(2, 1, term=1)))
    life.close()
    files = files_of(life.disk)
    del files["synced"]
    name = last_segment(files)
    at = files[name].index(b"needle")
    rotten = files[name].replace(b"needle", b"noodle")
    result = outcome({**files, name: rotten})
    assert isinstance(result, CorruptLog)
    assert result.offset < at


def test_leftovers_of_an_unfinished_segment_are_removed() -> None:
    """Promise: a temporary file that a crash left is not read and goes away."""
    life = small_life(close=True)
    files = files_of(life.disk)
    disk = disk_with({**files, segment_name(4) + ".tmp": b"half"})
    assert life.states[-1] == recover(disk)
    assert sorted(files) == disk.names(WAL)
    assert not disk.exists(Path(f"{WAL / segment_name(4)}.tmp"))
