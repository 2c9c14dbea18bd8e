"""The seam to the operating system: the few calls that storage makes, and the real disk.

Law: nothing here decides. Each call does its whole job or raises an `OSError` that names the path
in ``filename``; a simulated disk stands in for all of it.

Interrupted system calls are repeated by Python itself (PEP 475); short writes are finished here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tinyraft.errors import StorageFailed

# What file systems answer that can't preallocate (ZFS, NFS, some FUSE).
NO_PREALLOCATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
MOST_PARTS = 1024  # of one call: IOV_MAX
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class File(Protocol):
    """An open file, read and written by place."""

    def pread(self, size: int, offset: int) -> bytes:
        """Read *size* bytes; fewer only where the file ends."""
        ...

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of *data*; the file grows as needed, with zeros in a gap."""
        ...

    def pwritev(self, parts: Sequence[bytes], offset: int) -> None:
        """Write all *parts* in a row, as `pwrite` would when they were joined."""
        ...

    def size(self) -> int:
        """Return the length in bytes."""
        ...

    def allocate(self, size: int) -> None:
        """Make the file at least *size* bytes long; what is new reads as zeros."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to *size* bytes."""
        ...

    def sync(self) -> None:
        """Return once the content and the length are on the disk."""
        ...

    def close(self) -> None:
        """Give the file (and its lock) up; idempotent, syncs nothing."""
        ...


class Disk(Protocol):
    """Files and directories."""

    def open(self, path: Path) -> File:
        """Open an existing file for reading and writing."""
        ...

    def create(self, path: Path) -> File:
        """Make a new, empty file; one that exists is an error."""
        ...

    def lock(self, path: Path) -> File:
        """Open or make a file and hold it alone until it is closed or this process ends.

        Raises:
            BlockingIOError: Somebody else holds it.
        """
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Move a file over *target*, atomically."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...

    def exists(self, path: Path) -> bool:
        """Tell whether there is a file or directory."""
        ...

    def names(self, path: Path) -> list[str]:
        """List a directory, sorted."""
        ...

    def mkdir(self, path: Path) -> None:
        """Make one directory."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Return once the names in a directory are on the disk."""
        ...

    def free(self, path: Path) -> int:
        """Tell how many bytes the file system of *path* has left for this process."""
        ...


class NoRoom(Exception):
    """The disk is full, and nothing that was written is touched: the same can be tried later."""

    def __init__(self, error: OSError, path: Path) -> None:
        """Say where."""
        super().__init__(f"{error.filename or path}: {error.strerror or error}")
        self.error = error


@contextmanager
def failures(path: Path, *, is_fatal: bool = True) -> Iterator[None]:
    """Turn an `OSError` into a `StorageFailed` that names the file, or else *path*."""
    try:
        yield
    except NoRoom as full:
        raise storage_failed(full.error, path) from full
    except OSError as error:
        raise storage_failed(error, path, is_fatal=is_fatal) from error


def storage_failed(error: OSError, path: Path, *, is_fatal: bool = True) -> StorageFailed:
    """Say what the disk refused, where, what it means for the log, and what to do."""
    code = errno.errorcode.get(error.errno or 0, "no errno")
    advice = "see to the disk, its free space and its permissions"
    if is_fatal:
        end = f"nothing more is written: {advice}, then start the process anew"
    else:
        end = f"the log and the older snapshots stand, and it may be tried again: {advice}"
    return StorageFailed(f"{error.filename or path}: {error.strerror or error} ({code}); {end}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put *path* into an `OSError` that names no file, as those of descriptors do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class RealFile:
    """A file descriptor and its path."""

    def __init__(self, path: Path, flags: int, *, access: int = os.O_RDWR) -> None:
        """Open *path*; the descriptor is not passed on to programs that are started."""
        self._path = path
        self._fd = os.open(path, access | os.O_CLOEXEC | flags, 0o600)

    def pread(self, size: int, offset: int) -> bytes:
        """See `File`."""
        parts: list[bytes] = []
        with naming(self._path):
            while size and (part := os.pread(self._fd, size, offset)):
                parts.append(part)
                size -= len(part)
                offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> None:
        """See `File`."""
        rest = memoryview(data)
        with naming(self._path):
            while rest:
                done = os.pwrite(self._fd, rest, offset)
                if not done:
                    raise OSError(errno.EIO, "the disk takes no more bytes")
                rest = rest[done:]
                offset += done

    def pwritev(self, parts: Sequence[bytes], offset: int) -> None:
        """See `File`. One call: behind each the interpreter has to be waited for."""
        done = 0
        if hasattr(os, "pwritev") and len(parts) <= MOST_PARTS:
            with naming(self._path):
                done = os.pwritev(self._fd, parts, offset)
            if done == sum(map(len, parts)):
                return
        self.pwrite(b"".join(parts)[done:], offset + done)

    def size(self) -> int:
        """See `File`."""
        with naming(self._path):
            return os.fstat(self._fd).st_size

    def allocate(self, size: int) -> None:
        """See `File`."""
        have = self.size()
        if size <= have:
            return
        with naming(self._path):
            try:
                preallocate(self._fd, have, size - have)
            except OSError as error:
                if error.errno not in NO_PREALLOCATION:
                    raise
                os.ftruncate(self._fd, size)

    def truncate(self, size: int) -> None:
        """See `File`."""
        with naming(self._path):
            os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """See `File`."""
        with naming(self._path):
            sync_data(self._fd)

    def close(self) -> None:
        """See `File`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with naming(self._path):
                os.close(fd)


class RealDisk:
    """The operating system's files."""

    def open(self, path: Path) -> RealFile:
        """See `Disk`."""
        return RealFile(path, 0)

    def create(self, path: Path) -> RealFile:
        """See `Disk`."""
        return RealFile(path, os.O_CREAT | os.O_EXCL)

    def lock(self, path: Path) -> RealFile:
        """See `Disk`."""
        file = RealFile(path, os.O_CREAT)
        try:
            with naming(path):
                fcntl.flock(file._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        held_locks.add(file)
        return file

    def rename(self, source: Path, target: Path) -> None:
        """See `Disk`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """See `Disk`."""
        path.unlink()

    def exists(self, path: Path) -> bool:
        """See `Disk`."""
        try:
            path.stat()
        except FileNotFoundError:
            return False
        return True

    def names(self, path: Path) -> list[str]:
        """See `Disk`."""
        return sorted(entry.name for entry in path.iterdir())

    def mkdir(self, path: Path) -> None:
        """See `Disk`."""
        path.mkdir(mode=0o700)

    def sync_dir(self, path: Path) -> None:
        """See `Disk`."""
        with naming(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sync_directory(fd)
            finally:
                os.close(fd)

    def free(self, path: Path) -> int:
        """See `Disk`."""
        with naming(path):
            found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


def open_to_read(path: Path) -> RealFile:
    """Open a file that may be on a medium which takes no writes.

    Raises:
        StorageFailed: It can't be opened.
    """
    with failures(path):
        return RealFile(path, 0, access=os.O_RDONLY)


def preallocate(fd: int, offset: int, size: int) -> None:
    """Reserve blocks where the system can (macOS can't)."""
    if not hasattr(os, "posix_fallocate"):
        raise OSError(errno.ENOSYS, "no posix_fallocate")
    os.posix_fallocate(fd, offset, size)


def sync_data(fd: int) -> None:
    """Sync a file. On macOS only F_FULLFSYNC reaches the medium: fsync(2) there says so."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_directory(fd: int) -> None:
    """Sync the names of a directory."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


# flock belongs to the open file, which a forked child shares: it would keep the directory locked
# after its parent's death. Closing in the child alone does not unlock the parent.
held_locks: weakref.WeakSet[RealFile] = weakref.WeakSet()


def drop_inherited_locks() -> None:
    """Close, in a forked child, the locks that belong to its parent."""
    for file in list(held_locks):
        with suppress(OSError):  # nothing can be told to anybody inside fork()
            file.close()
    held_locks.clear()


os.register_at_fork(after_in_child=drop_inherited_locks)
