"""The data directory: one holder, one identity, made so that no crash leaves half of it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from tests.storage.crashes import images, watch
from tinyraft.core.entry import NodeId
from tinyraft.errors import CorruptLog, DataDirLocked, FormatTooNew, StorageFailed
from tinyraft.storage.data_dir import (
    CRC_SEED,
    DataDir,
    Identity,
    encode_identity,
    new_identity,
)
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Fault, SimDisk, lost

ME = new_identity(NodeId("node-1"))
DATA = Path("/var/lib/raft")


def open_sim(disk: SimDisk) -> DataDir:
    """Open the data directory of a simulated disk."""
    return DataDir.open(disk, DATA)


def test_a_new_directory_is_nobody(tmp_path: Path) -> None:
    """Promise: parents are made, the identity is unknown, the log has its place."""
    data_dir = DataDir.open(RealDisk(), tmp_path / "a" / "b" / "c")
    assert data_dir.identity is None
    assert tmp_path / "a" / "b" / "c" / "wal" == data_dir.wal_directory
    data_dir.close()


def test_an_identity_comes_back(tmp_path: Path) -> None:
    """Promise: what was saved is read, and learning the cluster keeps the rest."""
    me = Identity(NodeId("knöten"), "", 2**64 - 1)
    data_dir = DataDir.open(RealDisk(), tmp_path)
    data_dir.save_identity(me)
    member = replace(me, cluster_id="cluster", recovery_epoch=1)
    data_dir.save_identity(member)
    assert member == data_dir.identity
    data_dir.close()
    data_dir = DataDir.open(RealDisk(), tmp_path)
    assert member == data_dir.identity
    data_dir.close()
    assert ["LOCK", "identity"] == sorted(path.name for path in tmp_path.iterdir())


def test_incarnations_differ() -> None:
    """Promise: the same id in a new directory is somebody else."""
    made = {new_identity(NodeId("a")).incarnation for _ in range(100)}
    assert 100 == len(made)
    assert 0 not in made


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"node_id": NodeId("b")}, id="node"),
        pytest.param({"incarnation": 5}, id="incarnation"),
        pytest.param({"cluster_id": "d"}, id="cluster"),
        pytest.param({"cluster_id": ""}, id="cluster_forgotten"),
        pytest.param({"recovery_epoch": 2}, id="epoch_back"),
        pytest.param({"incarnation": 0}, id="no_incarnation"),
    ],
)
def test_an_identity_never_becomes_another(tmp_path: Path, other: dict[str, object]) -> None:
    """Promise: a directory that is somebody stays that one."""
    me = Identity(NodeId("a"), "c", 4, 3)
    data_dir = DataDir.open(RealDisk(), tmp_path)
    data_dir.save_identity(me)
    with pytest.raises(AssertionError):
        data_dir.save_identity(replace(me, **other))  # type: ignore[arg-type]
    assert me == data_dir.identity
    data_dir.close()
    with pytest.raises(AssertionError, match="closed"):
        data_dir.save_identity(me)


def test_the_second_holder_is_told_the_first(tmp_path: Path) -> None:
    """Promise: the process id is in the error, also where the holder is this process."""
    data_dir = DataDir.open(RealDisk(), tmp_path)
    with pytest.raises(DataDirLocked, match=f"in use by process {os.getpid()}") as info:
        DataDir.open(RealDisk(), tmp_path)
    assert os.getpid() == info.value.pid
    data_dir.close()
    data_dir.close()
    DataDir.open(RealDisk(), tmp_path).close()


def test_another_process_is_told_apart_and_its_death_unlocks(tmp_path: Path) -> None:
    """Promise: a kill -9 leaves no lock behind."""
    program = (
        "import sys, pathlib; from tinyraft.storage.data_dir import DataDir;"
        "from tinyraft.storage.disk import RealDisk;"
        "d = DataDir.open(RealDisk(), pathlib.Path(sys.argv[1]));"
        "print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with child:
        assert child.stdout is not None
        assert b"held\n" == child.stdout.readline()
        with pytest.raises(DataDirLocked) as info:
            DataDir.open(RealDisk(), tmp_path)
        assert child.pid == info.value.pid
        child.kill()
    DataDir.open(RealDisk(), tmp_path).close()


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_an_unreadable_holder_is_0(tmp_path: Path, content: bytes) -> None:
    """Promise: the lock decides, not what is written in the file."""
    data_dir = DataDir.open(RealDisk(), tmp_path)
    (tmp_path / "LOCK").write_bytes(content)
    with pytest.raises(DataDirLocked, match=r"process \(unknown\)") as info:
        DataDir.open(RealDisk(), tmp_path)
    assert 0 == info.value.pid
    data_dir.close()


def test_a_holder_that_can_not_be_asked_is_0() -> None:
    """Promise: a lock file that can't be opened hides nothing but the process id."""
    disk = SimDisk()
    open_sim(disk)
    disk.fail(Fault(0, errno.EACCES, call="open"))
    with pytest.raises(DataDirLocked) as info:
        open_sim(disk)
    assert 0 == info.value.pid


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda data: data[:-1], "checksum", id="torn"),
        pytest.param(lambda data: b"", "checksum", id="empty"),
        pytest.param(lambda data: data + b"\n", "checksum", id="longer"),
        pytest.param(lambda data: data.replace(b"node-1", b"node-2"), "checksum", id="edited"),
        pytest.param(lambda data: signed(b"[1]"), "not ours", id="list"),
        pytest.param(lambda data: signed(b"7"), "not ours", id="number"),
        pytest.param(lambda data: signed(b"{}"), "not ours", id="no_version"),
        pytest.param(lambda data: signed(b"{"), "not ours", id="no_json"),
        pytest.param(lambda data: signed(b"\xff"), "not ours", id="no_utf8"),
        pytest.param(lambda data: fields(node_id=1), "impossible", id="id_of_number"),
        pytest.param(lambda data: fields(node_id=""), "impossible", id="no_id"),
        pytest.param(lambda data: fields(incarnation=0), "impossible", id="no_incarnation"),
        pytest.param(lambda data: fields(incarnation=2**64), "impossible", id="large"),
        pytest.param(lambda data: fields(recovery_epoch=-1), "impossible", id="negative"),
        pytest.param(lambda data: fields(recovery_epoch=True), "impossible", id="true"),
        pytest.param(lambda data: fields(format_version=0), "impossible", id="version_0"),
        pytest.param(lambda data: fields(format_version="1"), "impossible", id="version_text"),
        pytest.param(lambda data: fields(extra=1), "other fields", id="extra_field"),
    ],
)
def test_a_damaged_identity_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], why: str
) -> None:
    """Promise: nothing but what we write passes, and the lock is free again."""
    (tmp_path / "identity").write_bytes(change(encode_identity(ME)))
    for _ in range(2):
        with pytest.raises(CorruptLog, match=why) as info:
            DataDir.open(RealDisk(), tmp_path)
        assert (str(tmp_path / "identity"), 0) == (info.value.path, info.value.offset)


def signed(line: bytes) -> bytes:
    """Return an identity's file with that line and the right checksum."""
    return b"%s\ncrc32 %08x\n" % (line, crc32(line, CRC_SEED))


def fields(**changes: object) -> bytes:
    """Return an identity's file with other values."""
    line = encode_identity(ME).splitlines()[0]
    return signed(json.dumps({**json.loads(line), **changes}).encode())


def test_every_flipped_bit_of_the_identity_is_refused() -> None:
    """Promise: no bit of it can change in silence."""
    data = encode_identity(ME)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        disk = SimDisk()
        open_sim(disk)
        disk.kill()
        disk.put(DATA / "identity", bytes(flipped))
        with pytest.raises(CorruptLog):
            open_sim(disk)


def test_an_identity_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    """Promise: a later version may have other fields; it is told apart from damage."""
    (tmp_path / "identity").write_bytes(fields(format_version=2, extra=1))
    with pytest.raises(FormatTooNew, match="format version 2"):
        DataDir.open(RealDisk(), tmp_path)


def test_no_identity_is_minted_over_an_old_log(tmp_path: Path) -> None:
    """Promise: where there is a log, a missing identity is damage."""
    data_dir = DataDir.open(RealDisk(), tmp_path)
    data_dir.wal_directory.mkdir()
    data_dir.close()
    DataDir.open(RealDisk(), tmp_path).close()  # a directory alone is no log
    wal, _ = Wal.open(RealDisk(), data_dir.wal_directory, segment_bytes=1000)
    wal.close()
    with pytest.raises(CorruptLog, match="identity is missing") as info:
        DataDir.open(RealDisk(), tmp_path)
    assert -1 == info.value.offset


def test_a_copied_identity_is_synced_before_it_is_believed() -> None:
    """Promise: also what a person restored a moment ago survives a power loss once it was read."""
    disk = SimDisk()
    open_sim(disk).close()
    disk.create(DATA / "identity").pwrite(encode_identity(ME), 0)
    assert ME == open_sim(disk).identity
    assert ME == open_sim(disk.crash(lost)).identity


def test_an_impossible_directory_says_why(tmp_path: Path) -> None:
    """Promise: path and reason, for a file in the way above, and one in its place."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "data", tmp_path / "file"):
        with pytest.raises(StorageFailed, match="Not a directory") as info:
            DataDir.open(RealDisk(), path)
        assert str(path) in str(info.value)


def test_a_read_only_disk_says_why() -> None:
    """Promise: the errno's text is in the error (a simulated disk, since root may write all)."""
    disk = SimDisk()
    disk.fail(Fault(0, errno.EROFS, call="mkdir", forever=True))
    with pytest.raises(StorageFailed, match=r"/var: Read-only file system \(EROFS\)"):
        open_sim(disk)


def test_a_parent_that_is_not_ours_is_no_obstacle() -> None:
    """Promise: a directory that an administrator made for us works below an unreadable one."""
    disk = SimDisk()
    open_sim(disk).close()
    disk.fail(Fault(0, errno.EACCES, call="sync_dir"))
    open_sim(disk).close()


def test_a_directory_of_a_killed_start_is_synced_by_the_next() -> None:
    """Promise: a start that died right after making the directory leaves nothing half durable."""
    disk = SimDisk()
    for path in (Path("/var"), Path("/var/lib"), DATA):
        disk.mkdir(path)
        if path != DATA:
            disk.sync_dir(path.parent)
    open_sim(disk).save_identity(ME)
    assert ME == open_sim(disk.crash(lost)).identity


def test_two_first_starts_at_once_meet_at_the_lock() -> None:
    """Promise: a directory that another process makes in between is no error."""
    disk, other = SimDisk(), []

    def meanwhile() -> None:
        disk.before = None
        other.append(open_sim(disk))

    disk.before = lambda: meanwhile() if disk.trace[-1:] == [("sync_dir", Path("/"))] else None
    with pytest.raises(DataDirLocked):
        open_sim(disk)
    assert 1 == len(other)


def life(disk: SimDisk, saved: list[Identity | None]) -> None:
    """Make a directory, say who it is, learn the cluster; note each step when it is done."""
    data_dir = open_sim(disk)
    for identity in (ME, replace(ME, cluster_id="c")):
        saved.append(identity)
        data_dir.save_identity(identity)
        del saved[:-1]
    data_dir.close()


def test_a_crash_at_any_moment_leaves_a_whole_identity() -> None:
    """Promise: after a power loss it is the last one saved, or the one being saved.

    What the crash left behind is not in the way of saving it again.
    """
    disk, saved, count = SimDisk(), [None], 0

    def look() -> None:
        nonlocal count
        for image in images(disk, random=Random(count), most=4):
            data_dir = open_sim(image)
            found = data_dir.identity
            assert found in saved
            assert found == open_sim(image.crash(lost)).identity
            data_dir.save_identity(found or ME)
            assert (found or ME) == open_sim(image.crash(lost)).identity
            count += 1

    watch(disk, look)
    life(disk, saved)  # type: ignore[arg-type]
    assert count > 50


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EINTR])
def test_any_failing_call_is_said_and_loses_nothing(code: int) -> None:
    """Promise: the n-th call fails, for every n: `StorageFailed`, and the next start is sound."""
    nth, failed = 0, True
    while failed:
        disk, saved, failed = SimDisk(), [None], False
        disk.fail(Fault(nth, code))
        try:
            life(disk, saved)  # type: ignore[arg-type]
        except StorageFailed:
            failed = True
        disk.heal()
        disk.kill()
        found = open_sim(disk).identity
        assert found in saved
        assert found == open_sim(disk.crash(lost)).identity
        nth += 1
        failed = failed or nth < 40
    assert nth >= 40
