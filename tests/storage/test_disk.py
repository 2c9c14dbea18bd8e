"""The real disk: whole writes, errors with a path, locks that die with their process."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinyraft.storage.disk import MOST_PARTS, RealDisk, failures, storage_failed


def test_a_file_is_written_and_read_by_place(tmp_path: Path) -> None:
    """Promise: pwrite grows the file with zeros, pread ends where the file ends."""
    file = RealDisk().create(tmp_path / "f")
    file.pwrite(b"abc", 2)
    assert (5, b"\0\0abc", b"c", b"") == (
        file.size(),
        file.pread(100, 0),
        file.pread(9, 4),
        file.pread(9, 5),
    )
    file.truncate(3)
    file.sync()
    assert b"\0\0a" == (tmp_path / "f").read_bytes()
    file.close()
    file.close()


def test_short_writes_and_reads_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: a system that takes and gives three bytes a call is asked until all are through."""
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 3), at))
    file = RealDisk().create(tmp_path / "f")
    file.pwrite(b"0123456789", 1)
    assert b"0123456789" == file.pread(10, 1)
    file.close()


@pytest.mark.parametrize("count", [3, MOST_PARTS, MOST_PARTS + 1])
def test_parts_are_written_in_a_row(tmp_path: Path, count: int) -> None:
    """Promise: also where one call takes fewer of them."""
    parts = [b"%d" % number for number in range(count)]
    file = RealDisk().create(tmp_path / "f")
    file.pwritev(parts, 2)
    assert b"\0\0" + b"".join(parts) == file.pread(1 << 20, 0)
    file.close()


@pytest.mark.parametrize("taken", [0, 1, 4, 9])
def test_parts_that_a_call_did_not_take_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Promise: a short write, in the middle of a part too, loses nothing."""
    pwrite = os.pwrite
    short = lambda fd, parts, at: pwrite(fd, b"".join(parts)[:taken], at)  # noqa: E731  # as above
    monkeypatch.setattr(os, "pwritev", short)
    file = RealDisk().create(tmp_path / "f")
    file.pwritev([b"0123", b"", b"456789"], 1)
    assert b"0123456789" == file.pread(10, 1)
    monkeypatch.delattr(os, "pwritev")
    file.pwritev([b"ab", b"cd"], 3)
    assert b"01abcd6789" == file.pread(10, 1)
    file.close()


def test_a_disk_that_takes_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: no endless loop over writes of 0 bytes."""
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    file = RealDisk().create(tmp_path / "f")
    with pytest.raises(OSError, match="takes no more bytes") as info:
        file.pwrite(b"x", 0)
    assert str(tmp_path / "f") == info.value.filename
    file.close()


def test_a_file_is_made_once(tmp_path: Path) -> None:
    """Promise: create never opens what exists, open never makes what does not."""
    disk = RealDisk()
    with pytest.raises(FileNotFoundError):
        disk.open(tmp_path / "f")
    disk.create(tmp_path / "f").close()
    with pytest.raises(FileExistsError):
        disk.create(tmp_path / "f")
    disk.open(tmp_path / "f").close()


def test_preallocated_bytes_are_zeros_and_never_fewer(tmp_path: Path) -> None:
    """Promise: allocate makes a file longer, never shorter, and keeps what is in it."""
    file = RealDisk().create(tmp_path / "f")
    file.pwrite(b"abc", 0)
    file.allocate(10)
    file.allocate(5)
    assert b"abc" + bytes(7) == file.pread(100, 0)
    file.close()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_preallocation_is_no_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """Promise: where the file system or the system can't, the file is made longer all the same."""

    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(code, "no")

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = RealDisk().create(tmp_path / "f")
    file.allocate(10)
    assert bytes(10) == file.pread(100, 0)
    file.close()


def test_a_full_disk_is_not_taken_for_a_missing_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: ENOSPC at preallocation is told, before anything needs the space."""

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    file = RealDisk().create(tmp_path / "f")
    with pytest.raises(OSError, match="full") as info:
        file.allocate(10)
    assert errno.ENOSPC == info.value.errno
    assert 0 == file.size()
    file.close()


def test_macos_is_asked_for_a_full_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: where F_FULLFSYNC exists, files and directories are synced with it."""
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: asked.append(command))
    disk = RealDisk()
    file = disk.create(tmp_path / "f")
    file.sync()
    disk.sync_dir(tmp_path)
    assert [51, 51] == asked
    file.close()


def test_names_and_directories(tmp_path: Path) -> None:
    """Promise: make, list, rename over, remove, sync."""
    disk = RealDisk()
    disk.mkdir(tmp_path / "d")
    for name in ("b", "a"):
        disk.create(tmp_path / "d" / name).close()
    assert ["a", "b"] == disk.names(tmp_path / "d")
    disk.rename(tmp_path / "d" / "a", tmp_path / "d" / "b")
    disk.sync_dir(tmp_path / "d")
    assert (True, False) == (disk.exists(tmp_path / "d" / "b"), disk.exists(tmp_path / "d" / "a"))
    disk.unlink(tmp_path / "d" / "b")
    assert [] == disk.names(tmp_path / "d")
    assert 0o700 == (tmp_path / "d").stat().st_mode & 0o777


def closed_file(path: Path) -> Any:
    """Return a file whose descriptor is gone."""
    file = RealDisk().create(path)
    os.close(file._fd)
    return file


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda file: file.pread(1, 0), id="pread"),
        pytest.param(lambda file: file.pwrite(b"x", 0), id="pwrite"),
        pytest.param(lambda file: file.pwritev([b"x"], 0), id="pwritev"),
        pytest.param(lambda file: file.size(), id="size"),
        pytest.param(lambda file: file.truncate(0), id="truncate"),
        pytest.param(lambda file: file.sync(), id="sync"),
        pytest.param(lambda file: file.close(), id="close"),
    ],
)
def test_every_error_names_its_path(tmp_path: Path, call: Callable[[Any], object]) -> None:
    """Promise: also errors of descriptors, which know no path."""
    with pytest.raises(OSError, match="Bad file descriptor") as info:
        call(closed_file(tmp_path / "f"))
    assert str(tmp_path / "f") == info.value.filename


def test_failures_keep_the_path_of_the_file(tmp_path: Path) -> None:
    """Promise: `StorageFailed` names the file that failed, else the directory that was used."""
    known = OSError(errno.EIO, "broken", str(tmp_path / "f"))
    assert str(storage_failed(known, tmp_path)).startswith(f"{tmp_path / 'f'}: broken (EIO);")
    assert str(storage_failed(OSError("odd"), tmp_path)).startswith(f"{tmp_path}: odd (no errno);")
    with pytest.raises(KeyError), failures(tmp_path):
        raise KeyError


def test_a_lock_is_held_once_and_until_it_is_closed(tmp_path: Path) -> None:
    """Promise: neither another process nor this one gets it twice."""
    disk = RealDisk()
    first = disk.lock(tmp_path / "LOCK")
    with pytest.raises(BlockingIOError) as info:
        disk.lock(tmp_path / "LOCK")
    assert str(tmp_path / "LOCK") == info.value.filename
    first.close()
    disk.lock(tmp_path / "LOCK").close()


def test_descriptors_are_not_passed_on(tmp_path: Path) -> None:
    """Promise: programs that this process starts get neither files nor locks."""
    disk = RealDisk()
    for file in (disk.create(tmp_path / "f"), disk.lock(tmp_path / "LOCK")):
        assert not os.get_inheritable(file._fd)
        file.close()


def test_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Promise: the child has no part in it: the parent keeps the lock, and can give it up alone."""
    disk = RealDisk()
    lock = disk.lock(tmp_path / "LOCK")
    gone, stay = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # lives on until it is told to end
        try:
            os.write(gone[1], b"%d" % (lock._fd < 0))
            os.read(stay[0], 1)
        finally:
            os._exit(0)
    try:
        assert b"1" == os.read(gone[0], 1)
        with pytest.raises(BlockingIOError):
            disk.lock(tmp_path / "LOCK")
        lock.close()
        disk.lock(tmp_path / "LOCK").close()  # while the child lives
    finally:
        os.write(stay[1], b"x")
        os.waitpid(child, 0)
        for fd in (*gone, *stay):
            os.close(fd)
