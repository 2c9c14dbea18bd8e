"""A snapshot's file, copied to wherever somebody wants it (dissertation 5.1).

Law: the target gets its name only when all of it is synced, and replaces nothing. The bytes are
those that nodes send each other, so whoever reads them verifies them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tinyraft.storage.disk import Disk, failures
from tinyraft.storage.snapshot_file import SYNC_BYTES, TEMPORARY, SnapshotFile
from tinyraft.storage.snapshots import Snapshots

PIECE_BYTES = 1 << 20


def copy_out(shelf: Snapshots, file: SnapshotFile, target: Path, *, disk: Disk) -> None:
    """Copy *file* to *target*; blocks for both disks.

    Raises:
        FileExistsError: There is something at *target* already.
        StorageFailed: A disk failed; nothing is left behind.
    """
    if disk.exists(target):
        raise FileExistsError(f"{target} exists already; an export replaces nothing")
    temporary = target.with_name(target.name + TEMPORARY)
    with failures(target):
        copy = disk.create(temporary)
        try:
            offset = synced = 0
            while data := shelf.raw(file, offset=offset, size=PIECE_BYTES):
                copy.pwrite(data, offset)
                offset += len(data)
                if offset - synced >= SYNC_BYTES:
                    copy.sync()
                    synced = offset
            copy.sync()
            copy.close()
            disk.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                copy.close()
            with suppress(OSError):
                disk.unlink(temporary)
            raise
        disk.sync_dir(target.parent)
