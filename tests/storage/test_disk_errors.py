"""The n-th call of the disk fails, for every n: said clearly, never tried again, nothing lost."""

from __future__ import annotations

import errno

import pytest

from tests.storage.crashpoints import run_unit
from tests.storage.faults import CODES
from tests.storage.life import WAL, Life, make_disk, make_entries, start, vote, write
from tinyraft.errors import StorageFailed
from tinyraft.testing.disk import Fault


def test_a_failing_call_around_snapshots_loses_nothing() -> None:
    """Promise: the same where snapshots are written, received and pruned; the log may go on."""
    tally = run_unit(f"fail snapshots {errno.ENOSPC}")
    assert [] == tally.violations
    assert tally.images > 400


@pytest.mark.parametrize("code", CODES[:2], ids=errno.errorcode.get)
def test_any_failing_call_poisons_the_log_and_loses_nothing(code: int) -> None:
    """Promise: one `StorageFailed`, then silence; a new start finds everything that was synced.

    It finds it in the page cache first, and after a power loss still: what a failed sync dropped is
    written again.
    """
    tally = run_unit(f"fail fixed {code}")
    assert [] == tally.violations
    assert tally.images > 400


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
    life.kill()
    assert ((0, None), ()) == start(life.disk).state


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
