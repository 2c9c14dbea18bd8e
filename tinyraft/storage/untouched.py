"""A disk that is only read: what would change it is passed over, so that looking is no repair.

Law: recovery runs on it as it is, and the files stay as they were, to the byte; of the directory
only the lock is taken. What could not be read without having been made first is refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from tinyraft.storage.disk import Disk, File


class UntouchedFile:
    """An open file that takes no change."""

    def __init__(self, file: File) -> None:
        """Read *file*."""
        self._file = file

    def pread(self, size: int, offset: int) -> bytes:
        """See `File`."""
        return self._file.pread(size, offset)

    def pwrite(self, data: bytes, offset: int) -> None:
        """Pass it over."""

    def pwritev(self, parts: Sequence[bytes], offset: int) -> None:
        """Pass it over."""

    def size(self) -> int:
        """See `File`."""
        return self._file.size()

    def allocate(self, size: int) -> None:
        """Pass it over."""

    def truncate(self, size: int) -> None:
        """Pass it over."""

    def sync(self) -> None:
        """Pass it over: who only looks vouches for nothing."""

    def close(self) -> None:
        """See `File`."""
        self._file.close()


class Untouched:
    """Another disk, without its ways to change anything."""

    def __init__(self, disk: Disk) -> None:
        """Read *disk*."""
        self._disk = disk

    def open(self, path: Path) -> UntouchedFile:
        """See `Disk`."""
        return UntouchedFile(self._disk.open(path))

    def create(self, path: Path) -> UntouchedFile:
        """Refuse."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def lock(self, path: Path) -> UntouchedFile:
        """See `Disk`. The lock is a real one."""
        return UntouchedFile(self._disk.lock(path))

    def rename(self, source: Path, target: Path) -> None:
        """Refuse."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(source), None, str(target))

    def unlink(self, path: Path) -> None:
        """Pass it over: what is removed unasked are leftovers."""

    def exists(self, path: Path) -> bool:
        """See `Disk`."""
        return self._disk.exists(path)

    def names(self, path: Path) -> list[str]:
        """See `Disk`."""
        return self._disk.names(path)

    def mkdir(self, path: Path) -> None:
        """Refuse."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def sync_dir(self, path: Path) -> None:
        """Pass it over."""

    def free(self, path: Path) -> int:
        """See `Disk`."""
        return self._disk.free(path)
