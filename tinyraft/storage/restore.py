"""A new cluster from a snapshot's file (dissertation 5.1).

Law: what comes out is another cluster, with an id of its own, of which the one member is this
directory; nobody of the old cluster takes it for one of theirs. The identity is written last: what
was cut off before that is refused by every start, and can be removed.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import Index, NodeId, Term
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import RepairRefused
from tinyraft.storage.data_dir import DataDir, Identity, new_identity
from tinyraft.storage.disk import Disk, File, failures
from tinyraft.storage.frame import FIELDS, FRAME_BYTES
from tinyraft.storage.repair import write_or_refuse
from tinyraft.storage.segment import refuse
from tinyraft.storage.snapshot_file import BadSnapshot, FrameReader
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import SEGMENT_BYTES, Wal

MOST_HEADER_BYTES = 16 * 1024 * 1024


@dataclass(slots=True, frozen=True)
class Restored:
    """What was made: who it is, what it begins with, and whose that was."""

    identity: Identity
    index: Index
    term: Term
    from_cluster: str


def restore(
    disk: Disk,
    file: File,
    directory: Path,
    *,
    path: Path,
    node_id: NodeId,
    address: str,
    segment_bytes: int = SEGMENT_BYTES,
) -> Restored:
    """Make *directory* the first member of a new cluster that begins with a snapshot.

    Blocks for the disk. The file is verified whole before anything is named.

    Args:
        disk: Where the directory is to be.
        file: The snapshot, as nodes write it; it stays as it is.
        directory: Empty, or not yet there.
        path: Where *file* is, for errors.
        node_id: Of the member.
        address: Where it is dialled; put right when it starts elsewhere.
        segment_bytes: Of its log.

    Raises:
        RepairRefused: The directory is somebody's.
        CorruptLog: The file is damaged; or an earlier attempt in the directory was cut off.
        FormatTooNew: A newer tinyraft wrote the file.
        StorageFailed: The disk failed or is full.
    """
    with failures(path):
        try:
            reader = FrameReader(file, index=index_in(file))
            reader.verify()
            reader = FrameReader(file, index=reader.header.meta.index)
        except BadSnapshot as bad:
            refuse(f"this is no whole snapshot: {bad}", path=path, offset=bad.offset)
    header = reader.header
    data_dir = DataDir.open(disk, directory)
    try:
        if data_dir.identity is not None:
            raise RepairRefused(
                f"{directory} belongs to {data_dir.identity.node_id!r} of cluster"
                f" {data_dir.identity.cluster_id or '(none yet)'}: restore into an empty directory"
            )
        identity = new_identity(node_id, cluster_id=str(uuid.uuid4()))
        me = Member(node_id, address, True, False, identity.incarnation)
        index, term, old = header.meta.index, header.meta.term, header.meta
        meta = Snapshot(index, term, Configuration((me,)), index, old.time_us, old.digest)
        shelf = Snapshots.open(disk, data_dir.snapshots_directory)
        sessions = reader.sessions()  # its request ids hold in the new cluster, too
        shelf.write(meta, reader.chunks(), cluster_id=identity.cluster_id, sessions=sessions)
        begin_log(disk, data_dir, meta, identity=identity, segment_bytes=segment_bytes)
        data_dir.save_identity(identity)
    finally:
        data_dir.close()
    return Restored(identity, index, term, header.cluster_id)


def index_in(file: File) -> Index:
    """Read which index the snapshot says it has: its checksums begin with that.

    Raises:
        BadSnapshot: It does not say.
    """
    head = file.pread(FRAME_BYTES, 0)
    try:
        length = FIELDS.unpack_from(head)[2]
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        index = json.loads(file.pread(length, FRAME_BYTES))["index"]
        if type(index) is not int or not 0 < index < 2**63:
            raise ValueError(f"an index of {index!r}")
    except (ValueError, TypeError, KeyError, RecursionError, StructError) as error:
        raise BadSnapshot(f"its header can't be read ({error!r})", offset=0) from error
    return index


def begin_log(
    disk: Disk, data_dir: DataDir, meta: Snapshot, *, identity: Identity, segment_bytes: int
) -> None:
    """Make a log that goes on behind the snapshot."""
    wal, _ = Wal.open(
        disk,
        data_dir.wal_directory,
        log_id=identity.incarnation >> 1 | 1,
        segment_bytes=segment_bytes,
    )
    try:
        state = HardState(meta.term, None)
        write_or_refuse(wal, Write(Mark(0), state, None, [], base=(meta.index, meta.term)))
    finally:
        wal.close()
