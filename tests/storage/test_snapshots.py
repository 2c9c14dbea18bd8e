"""Snapshots on disk: whole or not there, whatever fails on the way."""

from __future__ import annotations

import errno
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.life import DATA, make_disk, snapshot_of
from tinyraft.core.entry import NodeId
from tinyraft.errors import CorruptLog, FormatTooNew, StorageFailed
from tinyraft.storage.data_dir import DataDir, new_identity
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.frame import FrameKind, frame_header
from tinyraft.storage.snapshot_file import (
    CHUNK_BYTES,
    BadSnapshot,
    FrameWriter,
    Header,
    SnapshotFile,
    decode_header,
    frame_seed,
    parse_name,
    recut,
    snapshot_name,
)
from tinyraft.storage.snapshots import Incoming, Snapshots
from tinyraft.testing.disk import Fault, SimDisk, lost

DIRECTORY = DATA / "snapshots"


def open_snapshots(disk: SimDisk) -> Snapshots:
    """Open the directory of a test."""
    return Snapshots.open(disk, DIRECTORY)


def snapshots_with(disk: SimDisk, *indexes: int) -> Snapshots:
    """Return the directory with a snapshot of each index."""
    snapshots = open_snapshots(disk)
    for index in indexes:
        snapshots.write(snapshot_of(index, 2), [b"state %d" % index], cluster_id="c")
    return snapshots


def send(source: Snapshots, file: SnapshotFile, target: Snapshots, *, size: int = 50) -> Incoming:
    """Copy a snapshot, piece by piece."""
    incoming = target.receive(
        id=file.id, index=file.meta.index, term=file.meta.term, size=file.size
    )
    while not incoming.is_whole:
        data = source.raw(file, offset=incoming.offset, size=size)
        incoming.add(incoming.offset, data)
    return incoming


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([], id="nothing"),
        pytest.param([b""], id="empty"),
        pytest.param([b"a", b"", b"b" * 10], id="small"),
        pytest.param([b"a" * CHUNK_BYTES], id="one_chunk"),
        pytest.param([b"a", b"b" * (3 * CHUNK_BYTES), b"c"], id="large"),
        pytest.param([b"ab" * 50_000] * 20, id="many"),
    ],
)
def test_what_a_module_gave_comes_back(chunks: list[bytes], tmp_path: Path) -> None:
    """Promise: the same bytes in the same order, in chunks of at most 256 KiB, on a real disk."""
    snapshots = Snapshots.open(RealDisk(), tmp_path / "snapshots")
    written = snapshots.write(snapshot_of(7, 2), iter(chunks), cluster_id="c")
    again = Snapshots.open(RealDisk(), tmp_path / "snapshots")
    assert (written,) == again.kept
    assert written == again.newest
    assert (snapshot_of(7, 2), "c") == (written.meta, written.cluster_id)
    assert written.path.stat().st_size == written.size
    read = list(again.read(written))
    assert b"".join(chunks) == b"".join(read)
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in read)


def test_chunks_are_cut_anew_without_holding_them() -> None:
    """Promise: a module that yields gigabytes, in whatever parts, costs a chunk of memory."""
    tracemalloc.start()
    try:
        total = sum(len(chunk) for chunk in recut(bytes(1000) for _ in range(50_000)))
        assert 50_000_000 == total
        assert tracemalloc.get_traced_memory()[1] < 5 * CHUNK_BYTES
    finally:
        tracemalloc.stop()


def test_two_snapshots_of_one_index_are_two_files() -> None:
    """Promise: an id tells them apart, since their bytes may differ."""
    snapshots = snapshots_with(make_disk(), 5, 5)
    assert 2 == len({file.id for file in snapshots.kept})
    assert 5 == snapshots.prune()
    assert 1 == len(snapshots.kept)


def test_a_written_snapshot_survives_a_power_loss() -> None:
    """Promise: when `write` has returned, content and name are on the disk."""
    disk = make_disk()
    snapshots = snapshots_with(disk, 5)
    (file,) = open_snapshots(disk.crash(lost)).kept
    assert [snapshots.newest] == [file]


def test_pruning_keeps_the_newest() -> None:
    """Promise: the newest two stay, and the index of the older is told; the others are gone."""
    disk = make_disk()
    snapshots = snapshots_with(disk, 5)
    assert 5 == snapshots.prune()
    snapshots = snapshots_with(disk, 7, 9, 12)
    assert [5, 7, 9, 12] == [file.meta.index for file in snapshots.kept]
    oldest = snapshots.kept[0]
    assert 9 == snapshots.prune()
    assert [9, 12] == [file.meta.index for file in snapshots.kept]
    assert [9, 12] == [file.meta.index for file in open_snapshots(disk.crash(lost)).kept]
    with pytest.raises(FileNotFoundError):
        snapshots.raw(oldest, offset=0, size=9)
    with pytest.raises(StorageFailed, match="No such file"):
        next(snapshots.read(oldest))
    assert 12 == snapshots.prune(keep=1)


def test_pruning_spares_what_it_is_told_to() -> None:
    """Promise: what somebody still reads stays, even beside a later one of the same index."""
    snapshots = snapshots_with(make_disk(), 5, 7, 9, 12)
    spared = snapshots.kept[1]
    assert 9 == snapshots.prune(spare=[spared])
    assert [7, 9, 12] == [file.meta.index for file in snapshots.kept]
    snapshots = snapshots_with(make_disk(), 5, 7, 7)
    assert 5 == snapshots.prune(spare=[snapshots.kept[1]])
    assert [5, 7, 7] == [file.meta.index for file in snapshots.kept]


def test_nothing_kept_is_0() -> None:
    """Promise: an empty directory has no newest one, and covers nothing."""
    snapshots = open_snapshots(make_disk())
    assert (None, (), 0) == (snapshots.newest, snapshots.kept, snapshots.prune())


@pytest.mark.parametrize("call", ["create", "pwrite", "sync", "rename", "sync_dir", "pread"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_nothing_and_can_be_repeated(call: str, code: int) -> None:
    """Promise: the reason is in the error, the older snapshot stands, and the space is free."""
    disk = make_disk()
    snapshots = snapshots_with(disk, 5)
    before = disk.names(DIRECTORY)
    disk.fail(Fault(0, code, call=call, partial=10))
    with pytest.raises(StorageFailed, match="older snapshots stand") as info:
        snapshots.write(snapshot_of(9, 2), [b"new"], cluster_id="c")
    assert isinstance(info.value.__cause__, OSError)
    assert code == info.value.__cause__.errno
    assert before == disk.names(DIRECTORY)
    assert [5] == [file.meta.index for file in snapshots.kept]
    disk.heal()
    snapshots.write(snapshot_of(9, 2), [b"new"], cluster_id="c")
    assert [5, 9] == [file.meta.index for file in snapshots.kept]


def test_a_module_that_fails_leaves_nothing() -> None:
    """Promise: its own error comes out, also an `OSError`, and is not taken for the disk's."""
    disk = make_disk()
    snapshots = snapshots_with(disk, 5)

    def chunks() -> Iterator[bytes]:
        yield bytes(CHUNK_BYTES)
        raise OSError(errno.ENOSPC, "mine")

    with pytest.raises(OSError, match="mine"):
        snapshots.write(snapshot_of(9, 2), chunks(), cluster_id="c")
    assert 1 == len(disk.names(DIRECTORY))


def test_what_reads_back_otherwise_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: a disk that does not hold what was written is found before the name is given."""
    disk = make_disk()
    snapshots = snapshots_with(disk, 5)
    monkeypatch.setattr(
        "tinyraft.storage.snapshot_file.FrameWriter.add",
        lambda self, chunk: FrameWriter._add(
            self, FrameKind.SNAPSHOT_CHUNK, chunk, seed=self._seed + 1
        ),
    )
    with pytest.raises(StorageFailed, match="reads back otherwise"):
        snapshots.write(snapshot_of(9, 2), [b"new"], cluster_id="c")
    assert 1 == len(disk.names(DIRECTORY))


def test_leftovers_go_and_other_files_stay() -> None:
    """Promise: what was being made when the process ended is removed at the next start."""
    disk = make_disk()
    snapshots_with(disk, 5)
    name = snapshot_name(9, 3)
    disk.put(DIRECTORY / f"{name}.tmp", b"half")
    disk.put(DIRECTORY / "notes", b"mine")
    disk.put(DIRECTORY / "notes.tmp", b"mine")
    assert 1 == len(open_snapshots(disk).kept)
    assert ["notes", "notes.tmp"] == disk.names(DIRECTORY)[1:]


def test_a_damaged_newest_is_passed_over_for_an_older_one() -> None:
    """Promise: it is told, with file and place; without a sound one the directory is refused."""
    disk = make_disk()
    old, new = snapshots_with(disk, 5, 9).kept
    content = bytearray(disk.content(new.path))
    content[-1] ^= 1
    disk.put(new.path, bytes(content))
    snapshots = open_snapshots(disk)
    assert (old,) == snapshots.kept
    (notice,) = snapshots.notices
    assert "snapshot_damaged" == notice.name
    assert str(new.path) == notice.facts["path"]
    assert 5 == snapshots.prune()
    assert disk.exists(new.path)
    snapshots.write(snapshot_of(12, 2), [b"x"], cluster_id="c")
    assert 5 == snapshots.prune()
    assert not disk.exists(new.path)
    disk.put(old.path, b"")
    disk.put(snapshots.kept[-1].path, bytes(content))
    with pytest.raises(CorruptLog, match="snapshot is damaged") as info:
        open_snapshots(disk)
    assert str(snapshots.kept[-1].path) == info.value.path


def test_a_snapshot_of_another_cluster_is_refused() -> None:
    """Promise: it would take the place of this cluster's log."""
    disk = make_disk()
    snapshots_with(disk, 5)
    assert 1 == len(Snapshots.open(disk, DIRECTORY, cluster_id="c").kept)
    with pytest.raises(CorruptLog, match="of cluster 'c', this node of 'd'"):
        Snapshots.open(disk, DIRECTORY, cluster_id="d")


def test_damage_is_found_while_it_is_read() -> None:
    """Promise: a chunk that rotted since the start is never given to a module."""
    disk = make_disk()
    (file,) = snapshots_with(disk, 5).kept
    snapshots = open_snapshots(disk)
    content = disk.content(file.path)
    disk.put(file.path, content.replace(b"state", b"stale"))
    with pytest.raises(CorruptLog, match="can't be read") as info:
        list(snapshots.read(file))
    assert 0 < info.value.offset < content.index(b"state")
    disk.put(file.path, content[:-60])
    with pytest.raises(CorruptLog):
        list(snapshots.read(file))


def test_a_snapshot_is_received_piece_by_piece() -> None:
    """Promise: the copy has the same bytes, name and meaning, and survives a power loss."""
    disk, other = make_disk(), make_disk()
    source, target = snapshots_with(disk, 5), open_snapshots(other)
    assert source.newest is not None
    published = send(source, source.newest, target).publish()
    assert source.newest == published == target.newest
    assert (published,) == open_snapshots(other.crash(lost)).kept
    assert disk.content(published.path) == other.content(published.path)


def test_pieces_count_only_in_their_place() -> None:
    """Promise: a piece that comes twice, early, late or beyond the end changes nothing."""
    source, target = snapshots_with(make_disk(), 5), open_snapshots(make_disk())
    file = source.newest
    assert file is not None
    data = source.raw(file, offset=0, size=file.size)
    incoming = target.receive(id=file.id, index=5, term=2, size=file.size)
    assert 0 == incoming.add(10, data[10:])
    assert 10 == incoming.add(0, data[:10])
    assert 10 == incoming.add(0, b"x" * 10)
    assert 10 == incoming.add(10, data[10:] + b"more")
    with pytest.raises(BadSnapshot, match="10 of"):
        incoming.publish()
    assert incoming is target.receive(id=file.id, index=5, term=2, size=file.size)
    assert file.size == incoming.add(10, data[10:])
    assert file == incoming.publish()


def test_half_a_snapshot_goes_when_there_is_a_newer_one() -> None:
    """Promise: a transfer that broke off and was never needed again does not hold the disk."""
    disk = make_disk()
    target = snapshots_with(disk, 3)
    incoming = target.receive(id=7, index=5, term=2, size=1000)
    incoming.add(0, b"half")
    target.prune()
    assert incoming.is_open
    target.write(snapshot_of(5, 2), [b"state"], cluster_id="c")
    target.prune()
    assert not incoming.is_open
    assert [file.path.name for file in target.kept] == sorted(disk.names(DIRECTORY))


def test_the_pieces_of_two_snapshots_never_mix() -> None:
    """Promise: receiving another one abandons the first; what still comes for that is ignored."""
    disk = make_disk()
    source = snapshots_with(make_disk(), 5, 9)
    target = open_snapshots(disk)
    old, new = source.kept
    first = target.receive(id=old.id, index=5, term=2, size=old.size)
    first.add(0, source.raw(old, offset=0, size=30))
    incoming = target.receive(id=new.id, index=9, term=2, size=new.size)
    assert (0, 0) == (incoming.offset, first.add(30, source.raw(old, offset=30, size=9)))
    with pytest.raises(BadSnapshot):
        first.publish()
    assert 1 == len(disk.names(DIRECTORY))
    send(source, new, target).publish()
    assert [9] == [file.meta.index for file in target.kept]
    again = target.receive(id=old.id, index=5, term=2, size=old.size)
    assert 0 == again.offset
    target.close()
    assert 1 == len(disk.names(DIRECTORY))


@pytest.mark.parametrize("what", ["bit", "id", "term", "index", "cut"])
def test_what_is_not_what_was_announced_is_not_published(what: str) -> None:
    """Promise: nothing is left of it, and it can be sent again."""
    disk = make_disk()
    source, target = snapshots_with(make_disk(), 5), open_snapshots(disk)
    file = source.newest
    assert file is not None
    data = bytearray(source.raw(file, offset=0, size=file.size))
    if what == "bit":
        data[-40] ^= 4
    elif what == "cut":
        del data[-53:]
    incoming = target.receive(
        id=file.id + (what == "id"),
        index=file.meta.index + (what == "index"),
        term=file.meta.term + (what == "term"),
        size=len(data),
    )
    incoming.add(0, bytes(data))
    with pytest.raises(BadSnapshot):
        incoming.publish()
    assert ([], None) == (disk.names(DIRECTORY), target.newest)
    assert file == send(source, file, target).publish()


@pytest.mark.parametrize("call", ["pwrite", "sync", "rename", "sync_dir", "create"])
def test_a_receipt_that_fails_leaves_nothing_and_can_be_repeated(call: str) -> None:
    """Promise: a full disk costs the snapshot, and its space is free for the log."""
    disk = make_disk()
    source, target = snapshots_with(make_disk(), 5), open_snapshots(disk)
    file = source.newest
    assert file is not None
    disk.fail(Fault(0, errno.ENOSPC, call=call, partial=3))
    with pytest.raises(StorageFailed, match="ENOSPC"):
        send(source, file, target).publish()
    assert [] == disk.names(DIRECTORY)
    disk.heal()
    assert file == send(source, file, target).publish()


def header_with(**fields: object) -> bytes:
    """Return the body of a header with other fields."""
    body = json.loads(Header(3, "c", snapshot_of(5, 2)).encode())
    return json.dumps({**body, **fields}).encode()


def file_with(body: bytes, *more: tuple[int, bytes]) -> bytes:
    """Return a snapshot's file with sound frames."""
    data, seed = b"", frame_seed(index=5, id=0)
    for kind, part in ((FrameKind.SNAPSHOT_HEADER, body), *more):
        data += frame_header(kind, part, seed=seed, offset=len(data), synced=0) + part  # type: ignore[arg-type]
        seed = frame_seed(index=5, id=3)
    return data


END = (FrameKind.SNAPSHOT_END, bytes(16))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "end is missing", id="empty"),
        pytest.param(file_with(b"{}"), "not ours", id="no_fields"),
        pytest.param(file_with(b"[]"), "not ours", id="a_list"),
        pytest.param(file_with(header_with(index=6), END), "index 6", id="other_index"),
        pytest.param(file_with(header_with(id=4), END), "checksum|id", id="other_id"),
        pytest.param(file_with(header_with(id=0), END), "contradicts", id="no_id"),
        pytest.param(file_with(header_with(term=0), END), "contradicts", id="no_term"),
        pytest.param(file_with(header_with(term=True), END), "not ours", id="a_truth"),
        pytest.param(file_with(header_with(term=-1), END), "not ours", id="below_0"),
        pytest.param(file_with(header_with(cluster_id=1), END), "not ours", id="no_text"),
        pytest.param(file_with(header_with(configuration="x"), END), "not ours", id="no_members"),
        pytest.param(file_with(header_with(configuration_index=6), END), "contra", id="later"),
        pytest.param(file_with(header_with(format_version=0), END), "contradicts", id="version_0"),
        pytest.param(file_with(header_with()), "end is missing", id="no_end"),
        pytest.param(file_with(header_with(), (7, b"x"), END), "not all", id="chunk_too_many"),
        pytest.param(file_with(header_with(), END) + b"x", "follow", id="bytes_behind"),
        pytest.param(file_with(header_with(), END)[53:], "no frame", id="no_header"),
    ],
)
def test_sound_frames_that_are_no_snapshot_are_refused(data: bytes, why: str) -> None:
    """Promise: what no writer of ours makes is refused by file and place."""
    disk = make_disk()
    open_snapshots(disk)
    disk.put(DIRECTORY / snapshot_name(5, 3), data)
    with pytest.raises(CorruptLog, match=why):
        open_snapshots(disk)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file_with(header_with(format_version=2, id="new"), END), id="format"),
        pytest.param(file_with(header_with(machine_version=1), END), id="machine"),
        pytest.param(file_with(header_with(), (10, b"later"), END), id="frame"),
    ],
)
def test_a_newer_snapshot_is_known_as_such(data: bytes) -> None:
    """Promise: it is not passed over for an older one, and not called damaged."""
    disk = make_disk()
    snapshots_with(disk, 2)
    disk.put(DIRECTORY / snapshot_name(5, 3), data)
    with pytest.raises(FormatTooNew, match=r"snapshots/0.*install|I know only"):
        open_snapshots(disk)


def test_a_header_without_a_time_is_an_old_one() -> None:
    """Promise: it counts as of no time; with one it comes back as it was."""
    fields = json.loads(header_with())
    del fields["time_us"]
    assert 0 == decode_header(json.dumps(fields).encode()).meta.time_us
    assert 2**62 == decode_header(header_with(time_us=2**62)).meta.time_us
    for absurd in (-1, 2**63, 1.5, "1", True, None):
        with pytest.raises(BadSnapshot):
            decode_header(header_with(time_us=absurd))


def test_a_header_without_a_digest_is_an_old_one() -> None:
    """Promise: what is unknown stays unknown; a known one comes back as it was."""
    fields = json.loads(header_with())
    del fields["digest"]
    assert decode_header(json.dumps(fields).encode()).meta.digest is None
    assert decode_header(header_with(digest=None)).meta.digest is None
    for known in (0, 2**32 - 1):
        assert known == decode_header(header_with(digest=known)).meta.digest
    for absurd in (-1, 2**63, 1.5, "1", True, False):
        with pytest.raises(BadSnapshot):
            decode_header(header_with(digest=absurd))


def test_a_header_may_say_more() -> None:
    """Promise: fields of later versions of the same format do no harm."""
    disk = make_disk()
    open_snapshots(disk)
    disk.put(DIRECTORY / snapshot_name(5, 3), file_with(header_with(colour="x"), END))
    assert [3] == [file.id for file in open_snapshots(disk).kept]


def test_names_of_snapshots() -> None:
    """Promise: index and id, of fixed width so that names sort; nothing else is one."""
    assert (12, 255) == parse_name(snapshot_name(12, 255))
    assert snapshot_name(9, 1) < snapshot_name(10, 0)
    for name in ("12-1.snapshot", snapshot_name(1, 2) + ".tmp", "0000000000000001.wal", ""):
        assert parse_name(name) is None


def test_a_directory_with_a_snapshot_is_somebodys() -> None:
    """Promise: an identity is not minted beside a snapshot, as it is not beside a log."""
    disk = make_disk()
    data_dir = DataDir.open(disk, DATA)
    assert DIRECTORY == data_dir.snapshots_directory
    data_dir.close()
    snapshots_with(disk, 5)
    with pytest.raises(CorruptLog, match="there is a log or a snapshot"):
        DataDir.open(disk, DATA)
    disk.kill()
    again = make_disk()
    DataDir.open(again, DATA).save_identity(new_identity(NodeId("a")))
