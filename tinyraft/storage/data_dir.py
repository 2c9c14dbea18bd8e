"""The data directory: one process, one identity (dissertation 3.8, 4.1).

Law: nobody reads or writes the directory without its lock, which lives as long as the process and
is not inherited by a fork. An identity is minted for an empty directory, never over an old log.

What is in it: `LOCK` (its holder's process id), `identity` (text: a line of JSON, then one with its
checksum), `wal/` (see `wal`), `snapshots/` (see `snapshots`), and where it is so `diverged` (see
`divergence`).
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

from tinyraft.core.entry import NodeId
from tinyraft.errors import DataDirLocked, FormatTooNew
from tinyraft.storage.disk import Disk, File, failures
from tinyraft.storage.replacing import replace_file
from tinyraft.storage.segment import refuse, segment_number
from tinyraft.storage.snapshot_file import parse_name

FORMAT_VERSION = 1
CRC_SEED = 0x6964_656E
LOCK = "LOCK"
IDENTITY = "identity"
WAL = "wal"
SNAPSHOTS = "snapshots"
MAX_IDENTITY_BYTES = 64 * 1024
MAX_ID = 2**64


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this directory is, in which cluster.

    The incarnation is random, so that a directory that was lost and made again, or an id that was
    given twice, is not taken for the old one. The recovery epoch counts offline repairs.
    """

    node_id: NodeId
    cluster_id: str  # "" until it is known
    incarnation: int
    recovery_epoch: int = 0


def new_identity(node_id: NodeId, *, cluster_id: str = "") -> Identity:
    """Mint the identity of an empty directory."""
    return Identity(node_id, cluster_id, secrets.randbelow(MAX_ID - 1) + 1)


def encode_identity(identity: Identity) -> bytes:
    """Make the file's text."""
    line = json.dumps({"format_version": FORMAT_VERSION, **asdict(identity)}).encode()
    return b"%s\ncrc32 %08x\n" % (line, crc32(line, CRC_SEED))


def decode_identity(data: bytes, *, path: Path) -> Identity:
    """Read the file's text.

    Raises:
        CorruptLog: It is damaged.
        FormatTooNew: A newer tinyraft wrote it.
    """
    line, _, rest = data.partition(b"\n")
    if rest != b"crc32 %08x\n" % crc32(line, CRC_SEED):
        refuse("the checksum of the identity is wrong", path=path, offset=0)
    try:
        fields = json.loads(line)
        version = fields.pop("format_version")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        refuse(f"the identity is not ours ({error!r})", path=path, offset=0)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FormatTooNew(
            f"{path} has format version {version}, this tinyraft reads up to {FORMAT_VERSION}: "
            "install the newer tinyraft that wrote it"
        )
    try:
        identity = Identity(**fields)
    except TypeError as error:
        refuse(f"the identity has other fields ({error})", path=path, offset=0)
    if version != FORMAT_VERSION or not is_sound(identity):
        refuse(f"the identity has impossible values: {line!r}", path=path, offset=0)
    return identity


def is_sound(identity: Identity) -> bool:
    """Tell whether every field has a value that we would write."""
    names: tuple[object, ...] = identity.node_id, identity.cluster_id
    numbers: tuple[object, ...] = identity.incarnation, identity.recovery_epoch
    return (
        all(isinstance(name, str) for name in names)
        and all(type(number) is int and 0 <= number < MAX_ID for number in numbers)
        and identity.node_id != ""
        and identity.incarnation > 0
    )


class DataDir:
    """An open, locked data directory."""

    def __init__(self, disk: Disk, path: Path, *, lock: File) -> None:
        """Use a directory whose *lock* is held; `open` is the way to make one."""
        self.path = path
        self.identity: Identity | None = None
        self._disk = disk
        self._lock = lock
        self._closed = False

    @classmethod
    def open(cls, disk: Disk, path: Path) -> DataDir:
        """Make the directory where it is missing, lock it, and read who it is.

        Raises:
            DataDirLocked: Another process holds it.
            CorruptLog: The identity is damaged, or missing beside a log.
            FormatTooNew: A newer tinyraft wrote it.
            StorageFailed: It can't be made, read or written.
        """
        with failures(path), ExitStack() as undo:
            make_directories(disk, path)
            data_dir = cls(disk, path, lock=take_lock(disk, path / LOCK))
            undo.callback(data_dir.close)
            data_dir.identity = data_dir._read_identity()
            undo.pop_all()
        return data_dir

    @property
    def wal_directory(self) -> Path:
        """Where the log belongs; `Wal.open` makes it."""
        return self.path / WAL

    @property
    def snapshots_directory(self) -> Path:
        """Where the snapshots belong; `Snapshots.open` makes it."""
        return self.path / SNAPSHOTS

    def save_identity(self, identity: Identity) -> None:
        """Write who this directory is, once and for ever; only the cluster may be learned later.

        Raises:
            StorageFailed: The disk failed; the old identity, if any, still stands.
        """
        assert not self._closed, "the data directory is closed"
        assert is_sound(identity), f"{identity} can't be written"
        old = self.identity
        if old is not None:
            same = (old.node_id, old.incarnation) == (identity.node_id, identity.incarnation)
            assert same, f"{old} can't become {identity}"
            assert old.cluster_id in ("", identity.cluster_id), f"{old} can't become {identity}"
            assert old.recovery_epoch <= identity.recovery_epoch, f"{old} is newer than {identity}"
        with failures(self.path):
            replace_file(self._disk, self.path / IDENTITY, encode_identity(identity))
        self.identity = identity

    def close(self) -> None:
        """Give the lock up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):  # a pid that stays behind does no harm: the lock decides
            self._lock.truncate(0)
        with failures(self.path):
            self._lock.close()

    def _read_identity(self) -> Identity | None:
        path = self.path / IDENTITY
        if not self._disk.exists(path):
            if self._has_log():
                refuse(
                    "the identity is missing, but there is a log or a snapshot",
                    path=path,
                    offset=-1,
                )
            return None
        file = self._disk.open(path)
        try:
            identity = decode_identity(file.pread(MAX_IDENTITY_BYTES, 0), path=path)
            file.sync()  # a crash may have left it in the page cache only
        finally:
            file.close()
        self._disk.sync_dir(self.path)
        return identity

    def _has_log(self) -> bool:
        """Tell whether the directory is somebody's: a snapshot without a log is what is left."""
        segments, snapshots = map(self._names, (self.wal_directory, self.snapshots_directory))
        return any(segment_number(name) is not None for name in segments) or any(
            parse_name(name) is not None for name in snapshots
        )

    def _names(self, directory: Path) -> list[str]:
        return self._disk.names(directory) if self._disk.exists(directory) else []


def take_lock(disk: Disk, path: Path) -> File:
    """Lock the directory and leave our process id in the file.

    Raises:
        DataDirLocked: Another process was first.
    """
    try:
        lock = disk.lock(path)
    except BlockingIOError as error:
        pid = read_pid(disk, path)
        raise DataDirLocked(
            f"{path.parent} is in use by process {pid or '(unknown)'}: one data directory serves "
            "one process; stop that one, or give this one a RAFT_DATA_DIR of its own",
            pid=pid,
        ) from error
    try:
        lock.truncate(0)
        lock.pwrite(b"%d\n" % os.getpid(), 0)
    except OSError:
        lock.close()
        raise
    return lock


def read_pid(disk: Disk, path: Path) -> int:
    """Return the process id in the lock file, 0 when it can't be read."""
    try:
        file = disk.open(path)
    except OSError:
        return 0
    try:
        return int(file.pread(20, 0))
    except (OSError, ValueError):
        return 0
    finally:
        file.close()


def make_directories(disk: Disk, path: Path) -> None:
    """Make *path* and what is missing above it, each durable before the next."""
    missing: list[Path] = []
    path = path.absolute()
    while not disk.exists(path):
        missing.append(path)
        path = path.parent
    with suppress(PermissionError):  # not ours to read, so it was not us who made it just now
        disk.sync_dir(path.parent)  # an earlier start may have been killed before this
    for directory in reversed(missing):
        with suppress(FileExistsError):  # another process starts too; the lock will decide
            disk.mkdir(directory)
        disk.sync_dir(directory.parent)
