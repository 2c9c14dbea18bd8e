"""The n-th call of the disk fails, for every n: said clearly, never tried again, nothing lost."""

from __future__ import annotations

import errno

import pytest

from tests.storage.life import WAL, Life, fixed_life, make_disk, make_entries, recover, vote, write
from tinyraft.errors import StorageFailed
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Fault, SimDisk, lost


def life_with(fault: Fault) -> tuple[Life, StorageFailed | None]:
    """Live the fixed life on a disk with a fault."""
    life = Life(make_disk())
    life.disk.fail(fault)
    try:
        fixed_life(life)
    except StorageFailed as failed:
        return life, failed
    return life, None


def calls(disk: SimDisk) -> list[tuple[str, object]]:
    """Return the calls that do something (a poisoned log still closes its files)."""
    return [call for call in disk.trace if call[0] != "close"]


def assert_poisoned(wal: Wal, disk: SimDisk) -> None:
    """Nothing reaches the disk any more."""
    before = calls(disk)
    for call in (wal.sync, lambda: wal.write([write(state=vote(9))]), wal.close):
        with pytest.raises(StorageFailed):
            call()
    wal.close()
    assert before == calls(disk)


@pytest.mark.parametrize("forever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize(
    ("code", "partial"),
    [(errno.EIO, 0), (errno.ENOSPC, 0), (errno.ENOSPC, 50), (errno.EINTR, 1), (errno.EROFS, 0)],
)
def test_any_failing_call_poisons_the_log_and_loses_nothing(
    *, code: int, partial: int, forever: bool
) -> None:
    """Promise: one `StorageFailed`, then silence; a new start finds everything that was synced.

    It finds it in the page cache first, and after a power loss still: what a failed sync dropped is
    written again.
    """
    nth = 0
    while True:
        life, failed = life_with(Fault(nth, code, forever=forever, partial=partial))
        if failed is None:
            break
        assert errno.errorcode[code] in str(failed)
        assert "/data" in str(failed)
        if life.wal is not None and life.wal._failure and not life.wal._closed:
            assert_poisoned(life.wal, life.disk)
        life.disk.heal()
        life.disk.kill()
        assert recover(life.disk.crash(lost)) in life.allowed
        state = recover(life.disk)
        assert state in life.allowed
        assert state == recover(life.disk.crash(lost))
        nth += 1
    assert nth > 150


def test_a_failed_sync_is_not_taken_back_by_a_second_that_succeeds() -> None:
    """Promise: the disk says EIO once and then everything is fine: the log does not believe it."""
    life = Life(make_disk())
    life.open()
    assert life.wal is not None
    life.write(write(make_entries(1, 1, term=1), state=vote(1)))
    life.disk.fail(Fault(0, call="sync"))
    with pytest.raises(StorageFailed, match="EIO"):
        life.sync()
    with pytest.raises(StorageFailed, match="before and stays shut"):
        life.sync()


def test_a_defect_of_the_caller_shuts_the_log_too() -> None:
    """Promise: entries that do not follow are never written, and nothing is after them."""
    life = Life(make_disk())
    life.open()
    assert life.wal is not None
    with pytest.raises(AssertionError, match="2 for 1"):
        life.wal.write([write(make_entries(2, 1, term=1), state=vote(1))])
    with pytest.raises(StorageFailed, match="interrupted"):
        life.wal.sync()
    assert ((0, None), ()) == recover(life.disk)


def test_a_failing_close_says_so_once() -> None:
    """Promise: also the error of the last close is told; then the log counts as closed."""
    life = Life(make_disk())
    life.open()
    assert life.wal is not None
    life.disk.fail(Fault(0, call="close"))
    with pytest.raises(StorageFailed, match="EIO"):
        life.wal.close()
    life.wal.close()


def test_the_error_names_the_file_that_failed() -> None:
    """Promise: the text has the path of the file, the reason and the name of the errno."""
    life = Life(make_disk())
    life.open()
    life.disk.fail(Fault(0, errno.ENOSPC, call="pwrite"))
    with pytest.raises(StorageFailed) as info:
        life.write(write(state=vote(1)))
    assert f"{WAL / '0000000000000001.wal'}: No space left on device (ENOSPC)" in str(info.value)
