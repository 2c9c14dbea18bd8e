"""The directory of snapshots: written, received, kept and pruned (dissertation 5.1, 5.3).

Law: a file gets its name only once all of it is synced and was read back whole, and nothing older
is touched before that; so at any moment the newest name is a snapshot that can be restored. What
fails here costs a snapshot, never the log: it can be tried again.

Any thread may use it. Names: `snapshot_file.snapshot_name`, and the same with `.tmp` while a file
is written or received; those do not outlive the process.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock

from tinyraft.core.effects import Notice
from tinyraft.core.entry import Index, Term
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import FormatTooNew
from tinyraft.storage.disk import Disk, File, failures
from tinyraft.storage.frame import FrameKind
from tinyraft.storage.segment import refuse
from tinyraft.storage.snapshot_file import (
    SYNC_BYTES,
    TEMPORARY,
    BadSnapshot,
    FrameReader,
    FrameWriter,
    Header,
    SnapshotFile,
    in_frames,
    parse_name,
    recut,
    snapshot_name,
)


class Snapshots:
    """The snapshots of one data directory."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        """Use an existing directory; `open` is the way to make one."""
        self.notices: tuple[Notice, ...] = ()
        self._disk = disk
        self._directory = directory
        self._lock = Lock()  # guards changes of _kept and the names on disk; leaf
        self._kept: tuple[SnapshotFile, ...] = ()
        self._damaged: list[Path] = []
        self._receiving = RLock()  # guards _incoming and its file; then _lock
        self._incoming: Incoming | None = None

    @classmethod
    def open(cls, disk: Disk, directory: Path, *, cluster_id: str = "") -> Snapshots:
        """Open the directory, or make it; read and verify every snapshot in it.

        A damaged one is passed over, with a notice, if another one is sound. Whether the log
        reaches back to that, `Wal.open` will see.

        Args:
            disk: Where.
            directory: A directory for snapshots alone; made when its parent exists.
            cluster_id: Whose they must be; "" for anybody's.

        Raises:
            CorruptLog: There are snapshots, and all of them are damaged, or one is of another
                cluster.
            FormatTooNew: A newer tinyraft wrote one.
            StorageFailed: The disk failed, or refuses.
        """
        snapshots = cls(disk, directory)
        with failures(directory):
            if not disk.exists(directory):
                disk.mkdir(directory)
            disk.sync_dir(directory.parent)
            for name in disk.names(directory):
                if name.endswith(TEMPORARY) and parse_name(name.removesuffix(TEMPORARY)):
                    disk.unlink(directory / name)
            snapshots._read_all(cluster_id)
            disk.sync_dir(directory)
        return snapshots

    @property
    def newest(self) -> SnapshotFile | None:
        """The one of the highest index."""
        kept = self._kept
        return kept[-1] if kept else None

    @property
    def kept(self) -> tuple[SnapshotFile, ...]:
        """All that are sound, oldest first."""
        return self._kept

    def write(
        self,
        meta: Snapshot,
        chunks: Iterable[bytes],
        *,
        cluster_id: str,
        sessions: Iterable[bytes] = (),
    ) -> SnapshotFile:
        """Write a snapshot of what a module gave; blocks until it is on disk and was read back.

        Args:
            meta: What it stands for.
            chunks: The module's bytes, in parts of any size. What it raises comes out as it is.
            cluster_id: Whose it is.
            sessions: The records of sessions, without line ends.

        Raises:
            StorageFailed: The disk failed; the `OSError` is its ``__cause__``. Nothing is left
                behind, the older snapshots stand, and it may be tried again.
        """
        header = Header(secrets.randbelow(2**63 - 1) + 1, cluster_id, meta)
        path = self._directory / snapshot_name(meta.index, header.id)
        temporary = path.with_name(path.name + TEMPORARY)
        with ExitStack() as undo:
            with harmless(temporary):
                file = self._disk.create(temporary)
            undo.callback(self._forget, file, temporary)
            with harmless(temporary):
                writer = FrameWriter(file, header)
            for records in in_frames(sessions):
                with harmless(temporary):
                    writer.add(records, FrameKind.SNAPSHOT_SESSIONS)
            for chunk in recut(chunks):
                with harmless(temporary):
                    writer.add(chunk)
            with harmless(temporary):
                writer.finish()
                try:
                    written = self._publish(file, header, temporary=temporary, path=path)
                except BadSnapshot as bad:
                    raise OSError(errno.EIO, f"reads back otherwise ({bad})") from bad
            undo.pop_all()
        return written

    def receive(self, *, id: int, index: Index, term: Term, size: int) -> Incoming:
        """Begin to receive a snapshot, or go on with the same; another one is abandoned.

        Args:
            id: Its id, by which its sender knows it.
            index: The last entry in it.
            term: That entry's term.
            size: Bytes of its file.

        Raises:
            StorageFailed: The disk failed, as in `write`.
        """
        what = Wanted(id, index, term, size)
        with self._receiving:
            former = self._incoming
            if former is not None and former.is_open:
                if former.wanted == what:
                    return former
                former.abandon()
            path = self._directory / snapshot_name(index, id)
            with harmless(path):
                self._incoming = Incoming(self, what, path=path)
            return self._incoming

    def prune(self, *, keep: int = 2, spare: Collection[SnapshotFile] = ()) -> Index:
        """Remove all but the newest *keep* snapshots; return the index of the oldest of them, or 0.

        Those to *spare* stay besides. Of several of one index the last one counts. What is being
        received goes, too, when there is a newer one: its sender may never come back.

        Raises:
            StorageFailed: The disk failed; what is still there may be removed by the next call.
        """
        assert keep > 0, "one snapshot stays: the log no longer has what is in it"
        self._abandon_overtaken()
        with self._lock, harmless(self._directory):
            of_index = {file.meta.index: file for file in self._kept}
            newest = [file for _, file in sorted(of_index.items())][-keep:]
            for file in [f for f in self._kept if f not in newest and f not in spare]:
                self._disk.unlink(file.path)
                self._kept = tuple(other for other in self._kept if other is not file)
            while self._damaged and len(newest) >= keep:
                self._disk.unlink(self._damaged[0])
                del self._damaged[0]
            self._disk.sync_dir(self._directory)
            return newest[0].meta.index if newest else 0

    def _abandon_overtaken(self) -> None:
        with self._receiving:
            newest, incoming = self.newest, self._incoming
            if incoming and newest and incoming.wanted.index <= newest.meta.index:
                incoming.abandon()

    def read(self, snapshot: SnapshotFile) -> Iterator[bytes]:
        """Read what the module gave, chunk by chunk, each verified.

        Only who reads to the end knows that it was whole.

        Raises:
            CorruptLog: It is damaged.
            FormatTooNew: A newer tinyraft wrote it.
            StorageFailed: The disk failed, or the file was pruned before the first chunk.
        """
        with self._reading(snapshot) as reader:
            yield from reader.chunks()

    def sessions(self, snapshot: SnapshotFile) -> list[bytes]:
        """Read the records of sessions in it; raises as `read`."""
        with self._reading(snapshot) as reader:
            return reader.sessions()

    @contextmanager
    def _reading(self, snapshot: SnapshotFile) -> Iterator[FrameReader]:
        path = snapshot.path
        with failures(path):
            file = self._disk.open(path)
            try:
                reader = FrameReader(file, index=snapshot.meta.index)
                if reader.header.id != snapshot.id:
                    raise BadSnapshot(f"its id is {reader.header.id:x}", offset=0)
                yield reader
            except BadSnapshot as bad:
                refuse(f"the snapshot can't be read: {bad}", path=path, offset=bad.offset)
            finally:
                file.close()

    def raw(self, snapshot: SnapshotFile, *, offset: int, size: int) -> bytes:
        """Read *size* bytes of the file from *offset* on, fewer at its end, to send them.

        They are not verified here: whoever receives them verifies the whole.

        Raises:
            OSError: The disk failed; `FileNotFoundError`: the file was pruned.
        """
        file = self._disk.open(snapshot.path)
        try:
            return file.pread(size, offset)
        finally:
            file.close()

    def close(self) -> None:
        """Abandon what is being received. Idempotent."""
        with self._receiving:
            if self._incoming is not None:
                self._incoming.abandon()

    # --- what is kept -------------------------------------------------------------------------

    def _read_all(self, cluster_id: str) -> None:
        found = [(parse_name(name), name) for name in self._disk.names(self._directory)]
        kept: list[SnapshotFile] = []
        bad: list[tuple[Path, BadSnapshot]] = []
        for place, name in found:
            path = self._directory / name
            if place is None:
                continue
            index, id = place
            file = self._disk.open(path)
            try:
                kept.append(verified(file, path, index=index, id=id))
                if cluster_id not in ("", kept[-1].cluster_id):
                    refuse(
                        f"the snapshot is of cluster {kept[-1].cluster_id!r}, this node of "
                        f"{cluster_id!r}",
                        path=path,
                        offset=0,
                    )
                file.sync()  # a crash may have left it in the page cache only
            except BadSnapshot as error:
                bad.append((path, error))
            finally:
                file.close()
        if bad and not kept:
            path, why = bad[-1]
            refuse(f"the snapshot is damaged: {why}", path=path, offset=why.offset)
        self._kept = tuple(kept)
        self._damaged = [path for path, _ in bad]
        self.notices = tuple(
            Notice("snapshot_damaged", {"path": str(p), "offset": e.offset, "why": str(e)})
            for p, e in bad
        )

    def _publish(self, file: File, header: Header, *, temporary: Path, path: Path) -> SnapshotFile:
        """Give a synced file its name, once it was read back."""
        meta = header.meta
        published = verified(file, temporary, index=meta.index, id=header.id)
        file.close()
        published = SnapshotFile(
            published.meta, header.id, published.cluster_id, path, published.size
        )
        with self._lock, ExitStack() as undo:
            self._disk.rename(temporary, path)
            undo.callback(self._forget, file, path)
            self._disk.sync_dir(self._directory)
            undo.pop_all()
            others = [old for old in self._kept if old.path != path]
            self._kept = tuple(sorted([*others, published], key=lambda one: one.path.name))
        return published

    def _forget(self, file: File, temporary: Path) -> None:
        """Remove what was not finished, and free its space; the next start would do it too."""
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            self._disk.unlink(temporary)


@dataclass(slots=True, frozen=True)
class Wanted:
    """Which snapshot is being received."""

    id: int
    index: Index
    term: Term
    size: int


class Incoming:
    """A snapshot that is being received, piece by piece."""

    def __init__(self, snapshots: Snapshots, wanted: Wanted, *, path: Path) -> None:
        """Begin with an empty file; `Snapshots.receive` is the way to make one."""
        self.wanted = wanted
        self.is_open = True
        self._snapshots = snapshots
        self._lock = snapshots._receiving
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY)
        self._offset = 0
        self._synced = 0
        self._file = snapshots._disk.create(self._temporary)

    @property
    def offset(self) -> int:
        """How many bytes are here; the next ones belong there."""
        return self._offset

    @property
    def is_whole(self) -> bool:
        """Tell whether all bytes are here."""
        return self._offset == self.wanted.size

    def add(self, offset: int, data: bytes) -> int:
        """Take *data* if it belongs at the end of what is here and fits; return the new end.

        Raises:
            StorageFailed: The disk failed, as in `Snapshots.write`; the rest is abandoned too, so
                that its space is free.
        """
        with self._lock:
            fits = offset == self._offset and offset + len(data) <= self.wanted.size
            if self.is_open and fits:
                with self._or_abandon():
                    self._file.pwrite(data, offset)
                    if offset + len(data) - self._synced >= SYNC_BYTES:
                        self._file.sync()
                        self._synced = offset + len(data)
                self._offset += len(data)
            return self._offset

    def publish(self) -> SnapshotFile:
        """Sync and verify what is here, and keep it; blocks for the disk.

        Raises:
            BadSnapshot: It is not whole, not sound, or not what was announced: send it again.
            FormatTooNew: A newer tinyraft wrote it.
            StorageFailed: The disk failed, as in `Snapshots.write`.
        """
        with self._lock:
            if not self.is_open or not self.is_whole:
                raise BadSnapshot(f"{self._offset} of {self.wanted} are here", offset=self._offset)
            with self._or_abandon():
                published = self._publish()
            self.is_open = False
            return published

    def abandon(self) -> None:
        """Drop what is here. Idempotent."""
        with self._lock:
            if self.is_open:
                self.is_open = False
                self._offset = 0
                self._snapshots._forget(self._file, self._temporary)

    def _publish(self) -> SnapshotFile:
        self._file.sync()
        header = FrameReader(self._file, index=self.wanted.index).header
        if (header.id, header.meta.term) != (self.wanted.id, self.wanted.term):
            raise BadSnapshot(f"{header} is not {self.wanted}", offset=0)
        return self._snapshots._publish(
            self._file, header, temporary=self._temporary, path=self._path
        )

    @contextmanager
    def _or_abandon(self) -> Iterator[None]:
        try:
            with harmless(self._temporary):
                yield
        except BaseException:
            self.abandon()
            raise


def verified(file: File, path: Path, *, index: Index, id: int) -> SnapshotFile:
    """Read a whole file that must be that snapshot.

    Raises:
        BadSnapshot: It is not.
        FormatTooNew: A newer tinyraft wrote it.
        OSError: The disk failed.
    """
    try:
        reader = FrameReader(file, index=index)
        header = reader.header
        if header.id != id:
            raise BadSnapshot(f"the id in it is {header.id:x}", offset=0)
        reader.verify()
    except FormatTooNew as newer:
        raise FormatTooNew(f"{path}: {newer}") from newer
    return SnapshotFile(header.meta, id, header.cluster_id, path, reader.size)


def harmless(path: Path) -> AbstractContextManager[None]:
    """Turn an `OSError` into a `StorageFailed` that says what still stands."""
    return failures(path, is_fatal=False)
