"""Damaged, missing and foreign files: the same state, or a refusal that says where. Never a lie."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.storage.crashpoints import Tally, run_unit
from tests.storage.damages import (
    LIVES,
    SYNCED,
    Files,
    check_damage,
    damages,
    disk_with,
    files_of,
    foreign_files,
    outcome,
    segment,
    small_life,
)
from tests.storage.life import (
    DATA,
    LOG_ID,
    SEGMENT_BYTES,
    WAL,
    Life,
    make_disk,
    make_entries,
    open_wal,
    start,
    vote,
    write,
)
from tinyraft.errors import CorruptLog
from tinyraft.storage.data_dir import IDENTITY, LOCK
from tinyraft.storage.wal import Wal


def last_segment(files: Files) -> str:
    """Return the name of the last segment."""
    return max(name for name in files if name.endswith(".wal"))


@pytest.mark.parametrize("close", ["closed", "killed"])
def test_no_flipped_bit_gives_a_wrong_state(close: str) -> None:
    """Promise: whichever bit of the directory flips, nothing that was synced is lost in silence.

    A closed log gives the same state or a refusal. A killed one may also be without its last write,
    which was never synced.
    """
    tally = Tally("all bits")
    for part in range(8):
        tally.add(run_unit(f"flips {close} {part}"))
    assert [] == tally.violations
    kind = f"bit flipped ({close})"
    assert tally.counts[kind, "refused"] > 8000
    assert (close == "closed") == (tally.counts[kind, "shorter"] == 0)


@pytest.mark.parametrize("close", ["compacted-killed", "installed"])
def test_no_flipped_bit_does_beside_snapshots(close: str) -> None:
    """Promise: the same where snapshots took the place of older segments.

    Of two snapshots one may be damaged; the newer one only if the log reaches back to the older.
    Otherwise the refusal names the snapshot, though it is the log that has no beginning then.
    """
    tally = run_unit(f"flips {close} 3")
    assert [] == tally.violations
    kind = f"bit flipped ({close})"
    assert tally.counts[kind, "refused"] > 800
    assert tally.counts[kind, "same"] > 400


@pytest.mark.parametrize("close", LIVES)
def test_no_other_damage_does(close: str) -> None:
    """Promise: nor does a file that is cut, lost, doubled, moved or overwritten in part."""
    life = LIVES[close]()
    files = files_of(life.disk)
    every = 8 if len(files) < 7 else 40
    seen = set()
    for number, (kind, damaged) in enumerate(damages(files, random=Random(3), most=50)):
        if number % every == 0 or kind not in ("truncated", "zeroed"):
            seen.add(check_damage(damaged, life))
    assert {"same", "refused"} == seen - {"shorter"}


def test_a_missing_file_is_noticed() -> None:
    """Promise: each missing segment is named; without `synced` the state is the same."""
    life = small_life(close=True)
    files = files_of(life.disk)
    for name in files:
        result = outcome({other: data for other, data in files.items() if other != name})
        if name in (SYNCED, LOCK):
            assert not isinstance(result, CorruptLog)
            assert life.states[-1] == result.state
        else:
            assert isinstance(result, CorruptLog)
            assert str(DATA / name) == result.path
            assert -1 == result.offset


def test_a_log_without_any_segment_is_not_taken_for_a_new_one() -> None:
    """Promise: where `synced` is left behind, there was a log, even if it can't be read."""
    for data in (files_of(small_life(close=True).disk)[SYNCED], b""):
        result = outcome({SYNCED: data})
        assert isinstance(result, CorruptLog)
        assert "every segment is missing" in str(result)


def test_swapped_copied_and_foreign_files_are_refused() -> None:
    """Promise: a segment under another's name, twice, or of another log never passes."""
    life = small_life(close=True)
    files = files_of(life.disk)
    foreign = foreign_files()
    for name in files:
        for target in files:
            if name != target:
                swapped = outcome({**files, name: files[target], target: files[name]})
                copied = outcome({**files, target: files[name]})
                assert isinstance(swapped, CorruptLog) or {name, target} == {SYNCED, LOCK}
                assert isinstance(copied, CorruptLog) or target in (SYNCED, LOCK)
        result = outcome({**files, name: foreign[name]})
        assert isinstance(result, CorruptLog) == (name != LOCK)
        assert name == LOCK or "another log" in str(result)
    for extra in (segment(4), segment(0), segment(9)):
        assert isinstance(outcome({**files, extra: files[segment(1)]}), CorruptLog)
    with pytest.raises(CorruptLog, match="another log"):
        Wal.open(disk_with(files), WAL, segment_bytes=SEGMENT_BYTES, log_id=LOG_ID + 1)


def test_files_of_other_names_do_not_matter() -> None:
    """Promise: copies that a person made beside the log change nothing."""
    life = small_life(close=True)
    files = files_of(life.disk)
    copies = {"wal/backup.wal": b"", f"{segment(1)}.bak": files[segment(1)], "wal/1.wal": b"x"}
    assert "same" == check_damage({**files, **copies, "notes": b"mine"}, life)


@pytest.mark.parametrize(
    "noise", [bytes(2**20), Random(1).randbytes(2**20)], ids=["zeros", "noise"]
)
def test_bytes_appended_to_a_file_do_not_matter(noise: bytes) -> None:
    """Promise: a megabyte of anything behind a file of the log is cut or not read."""
    life = small_life(close=True)
    files = files_of(life.disk)
    for name, data in files.items():
        expected = "refused" if name == IDENTITY else "same"
        assert expected == check_damage({**files, name: data + noise}, life)


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
    assert {"path": str(DATA / name), "offset": end, "bytes": 6} == notice.facts
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
    del files[SYNCED]
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
    disk = disk_with({**files, segment(4) + ".tmp": b"half"})
    assert life.states[-1] == start(disk).state
    assert sorted(files) == sorted(files_of(disk))
    assert not disk.exists(Path(f"{DATA / segment(4)}.tmp"))
