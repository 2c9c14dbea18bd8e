"""A disk without room: met where it harms nothing, and the same log goes on when there is some."""

from __future__ import annotations

import errno
from copy import copy
from pathlib import Path

import pytest

from tests.storage.life import (
    LOG_ID,
    SEGMENT_BYTES,
    WAL,
    Life,
    make_disk,
    make_entries,
    open_wal,
    recover,
    start,
    vote,
    write,
)
from tests.storage.lives import fixed_life
from tinyraft.errors import StorageFailed
from tinyraft.storage.disk import NO_ROOM, NoRoom, RealDisk
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Fault, SimDisk, lost

# The calls up to which nothing depends on the new segment; the first sync is the old one's.
MAKING = (("create", 0), ("allocate", 0), ("pwrite", 0), ("sync", 1), ("rename", 0))
LARGE = b"c" * 150  # no segment of these tests holds two


def full_log() -> tuple[SimDisk, Wal]:
    """Make a log whose next large entry needs another segment."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    wal.write([write(make_entries(1, 1, term=1, command=LARGE), state=vote(1, "a"))])
    wal.sync()
    return disk, wal


@pytest.mark.parametrize("code", NO_ROOM, ids=errno.errorcode.get)
@pytest.mark.parametrize(("call", "nth"), MAKING)
def test_a_roll_without_room_is_tried_again(call: str, nth: int, code: int) -> None:
    """Promise: whatever call of making a segment says "full", the log goes on once there is room.

    Nothing is lost meanwhile, nothing is left of the attempt, and nothing vouches for what waits.
    """
    disk, wal = full_log()
    before = ((1, 1, LARGE),)
    for more in ([write(make_entries(2, 1, term=1, command=LARGE))], [write(state=vote(2))], []):
        disk.fail(Fault(nth, code, call))
        with pytest.raises(NoRoom, match=r"0000000000000002\.wal\.tmp"):
            wal.write(more)
        assert ["0000000000000001.wal", "synced"] == disk.names(WAL)
        assert ((1, "a"), before) == recover(disk.crash(lost))
    with pytest.raises(AssertionError, match="can't be synced"):
        Wal.sync(copy(wal))
    wal.write(())
    wal.sync()
    assert ((2, None), (*before, (2, 1, LARGE))) == recover(disk.crash(lost))
    wal.close()


def test_the_new_segments_name_is_no_attempt() -> None:
    """Promise: once it is renamed, an error is for good: who knows what the disk has."""
    disk, wal = full_log()
    disk.fail(Fault(0, errno.ENOSPC, "sync_dir"))
    with pytest.raises(StorageFailed, match="ENOSPC"):
        wal.write([write(make_entries(2, 1, term=1, command=LARGE))])
    with pytest.raises(StorageFailed, match="stays shut"):
        wal.write(())


def test_inside_a_segment_a_full_disk_is_fatal() -> None:
    """Promise: bytes that were promised room and got none are not tried again."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    disk.fail(Fault(0, errno.ENOSPC, "pwrite", partial=3))
    with pytest.raises(StorageFailed, match="ENOSPC"):
        wal.write([write(state=vote(2))])
    with pytest.raises(StorageFailed, match="stays shut"):
        wal.write(())


def test_a_broken_disk_is_no_full_one() -> None:
    """Promise: any other error while a segment is made shuts the log."""
    disk, wal = full_log()
    disk.fail(Fault(0, errno.EIO, "allocate"))
    with pytest.raises(StorageFailed, match="EIO"):
        wal.write([write(make_entries(2, 1, term=1, command=LARGE))])
    disk, wal = full_log()
    disk.fail(Fault(0, errno.EIO, "create"))
    with pytest.raises(StorageFailed, match="EIO"):
        wal.provide(again=False)
    with pytest.raises(StorageFailed, match="stays shut"):
        wal.sync()


def test_room_is_taken_when_half_a_segment_is_left() -> None:
    """Promise: the next segment's room is there before it is needed, and then nothing is asked."""
    disk = make_disk()
    wal, _ = open_wal(disk)
    assert wal.provide(again=True)
    assert ["0000000000000001.wal", "synced"] == disk.names(WAL)
    wal.write([write(make_entries(1, 1, term=1, command=LARGE), state=vote(1))])
    wal.sync()
    assert wal.provide(again=False)
    assert "0000000000000002.wal.tmp" in disk.names(WAL)
    assert SEGMENT_BYTES == len(disk.content(WAL / "0000000000000002.wal.tmp"))
    before = len(disk.trace)
    assert wal.provide(again=True)
    assert before == len(disk.trace)
    disk.fail(Fault(0, errno.ENOSPC, "create", forever=True))
    disk.fail(Fault(0, errno.ENOSPC, "allocate", forever=True))
    wal.write([write(make_entries(2, 1, term=1, command=LARGE))])
    wal.sync()
    assert ["0000000000000001.wal", "0000000000000002.wal", "synced"] == disk.names(WAL)
    assert not wal.provide(again=False)
    before = len(disk.trace)
    assert not wal.provide(again=False)
    assert before == len(disk.trace), "a refusal is not asked for again unasked"
    disk.heal()
    assert not wal.provide(again=False)
    assert wal.provide(again=True)
    wal.close()
    assert ["0000000000000001.wal", "0000000000000002.wal", "synced"] == disk.names(WAL)


def test_a_frame_larger_than_a_segment_takes_its_room_first() -> None:
    """Promise: a segment that must be longer is allocated as long before anything is in it."""
    disk, wal = full_log()
    assert wal.provide(again=True)
    disk.fail(Fault(0, errno.ENOSPC, "allocate"))
    entries = make_entries(2, 1, term=1, command=b"d" * 5000)
    with pytest.raises(NoRoom):
        wal.write([write(entries)])
    assert not wal.provide(again=False)
    assert not wal.provide(again=True), "a common segment would not hold what waits"
    wal.write(())
    pending = [c.kind for c in disk.pending() if c.path.name == "0000000000000002.wal"]
    wal.sync()
    assert ["write"] == pending
    assert ((1, "a"), ((1, 1, LARGE), (2, 1, b"d" * 5000))) == recover(disk.crash(lost))


def test_a_leftover_is_removed_before_the_next_try() -> None:
    """Promise: also where the tidying itself failed."""
    disk, wal = full_log()
    disk.put(WAL / "0000000000000002.wal.tmp", b"half")
    wal.write([write(make_entries(2, 1, term=1, command=LARGE))])
    wal.close()
    assert ["0000000000000001.wal", "0000000000000002.wal", "synced"] == disk.names(WAL)


def test_what_waits_for_room_can_be_given_up() -> None:
    """Promise: a log is closed in order while it waits; what waited was promised to nobody."""
    disk, wal = full_log()
    disk.fail(Fault(0, errno.ENOSPC, "allocate", forever=True))
    with pytest.raises(NoRoom):
        wal.write([write(make_entries(2, 1, term=1, command=LARGE))])
    wal.close()
    assert ((1, "a"), ((1, 1, LARGE),)) == recover(disk.crash(lost))


@pytest.mark.parametrize("provides", [True, False], ids=["ahead", "when_needed"])
def test_a_life_on_a_disk_that_fills_up_again_and_again(*, provides: bool) -> None:
    """Promise: full at the n-th making of a segment, for every n; the process lives on."""
    times = 0
    for nth in range(40):
        for call in ("create", "allocate"):
            life = Life(make_disk())
            life.provides = provides
            life.open()
            life.kill()
            life.disk.fail(Fault(nth, errno.ENOSPC, call))
            try:
                fixed_life(life)
            except StorageFailed:
                continue  # not the log's: the data directory was being opened
            times += life.refused
            life.check(start(life.disk.crash(lost)))
            life.kill()
            life.disk.heal()
            assert life.states[-1] == start(life.disk).state, "a killed process loses nothing"
    assert times >= 8


def test_a_new_log_on_a_full_disk_says_so() -> None:
    """Promise: there is nothing to keep yet, so it is a plain failure."""
    disk = make_disk()
    disk.fail(Fault(0, errno.ENOSPC, "allocate"))
    with pytest.raises(StorageFailed, match=r"wal.tmp: No space left on device \(ENOSPC\)"):
        Wal.open(disk, WAL, segment_bytes=SEGMENT_BYTES, log_id=LOG_ID)


def test_the_free_space_of_a_real_disk_is_told(tmp_path: Path) -> None:
    """Promise: what this process may still use; a missing directory is named."""
    assert 0 < RealDisk().free(tmp_path) < 1 << 60
    with pytest.raises(FileNotFoundError) as info:
        RealDisk().free(tmp_path / "missing")
    assert str(tmp_path / "missing") == str(info.value.filename)
    disk = make_disk()
    disk.free_bytes = 7
    assert 7 == disk.free(WAL)
