"""A snapshot's file, copied to wherever somebody wants it (dissertation 5.1).

Law: the target gets its name only when all of it is synced and was read back, and replaces nothing.
The bytes are those that nodes send each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tinyraft.errors import StorageError
from tinyraft.storage.disk import Disk, File, failures
from tinyraft.storage.restore import index_in
from tinyraft.storage.snapshot_file import SYNC_BYTES, TEMPORARY, BadSnapshot, FrameReader


def copy_out(pieces: Iterable[bytes], target: Path, *, disk: Disk) -> None:
    """Write the *pieces* of a snapshot's file to *target*; blocks for the disk.

    Raises:
        FileExistsError: There is something at *target* already.
        StorageError: What came is no whole snapshot.
        StorageFailed: The disk failed. In every case nothing is left behind.
    """
    if disk.exists(target):
        raise FileExistsError(f"{target} exists already; an export replaces nothing")
    temporary = target.with_name(target.name + TEMPORARY)
    with failures(target):
        copy = disk.create(temporary)
        try:
            write(copy, pieces)
            verify(copy, target)
            copy.close()
            disk.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                copy.close()
            with suppress(OSError):
                disk.unlink(temporary)
            raise
        disk.sync_dir(target.parent)


def write(copy: File, pieces: Iterable[bytes]) -> None:
    """Write and sync."""
    offset = synced = 0
    for data in pieces:
        copy.pwrite(data, offset)
        offset += len(data)
        if offset - synced >= SYNC_BYTES:
            copy.sync()
            synced = offset
    copy.sync()


def verify(copy: File, target: Path) -> None:
    """Read all of it back."""
    try:
        FrameReader(copy, index=index_in(copy)).verify()
    except BadSnapshot as bad:
        raise StorageError(
            f"{target}: what came is no whole snapshot ({bad}); nothing was kept, try again"
        ) from bad
