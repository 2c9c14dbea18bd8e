"""A disk in memory that forgets what was not synced, and fails when it is told to.

Law: it stands behind the `Disk` seam and promises no more than the worst real disk. Until a file is
synced, each change of it (where sectors have a size: each sector of it) may be kept, lost or torn
on its own; until a directory is synced, its changes may be lost from any of them on. A sync that
fails has dropped what it should have written, and the next one succeeds all the same (as Linux
does it).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(slots=True)
class Change:
    """One change of a file that no sync has covered yet."""

    kind: str  # write, allocate, truncate
    path: Path  # when it was made
    offset: int  # for allocate and truncate: the size
    data: bytes = b""


@dataclass(slots=True)
class SimInode:
    """A file's content: as the system shows it, and as the disk has it."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)
    locked: bool = False


Entries: TypeAlias = dict[str, "SimInode | SimDirectory"]


@dataclass(slots=True)
class SimDirectory:
    """A directory's names, as the system shows them and as the disk has them."""

    entries: Entries = field(default_factory=dict)
    durable: Entries = field(default_factory=dict)
    pending: list[Callable[[Entries], object]] = field(default_factory=list)


@dataclass(slots=True)
class Fault:
    """The call that fails: the *nth* of that name (any name: None), counted from 0, from now on."""

    nth: int
    code: int = errno.EIO
    call: str | None = None
    forever: bool = False
    partial: int = 0  # bytes that a failing pwrite writes before


ROOM = 1 << 40  # bytes: more than anybody asks for

Keep: TypeAlias = Callable[[Change], tuple[int, int] | None]
"""What a crash does to an unsynced change: lost (None), or those of its bytes reached the disk."""


def lost(change: Change) -> tuple[int, int] | None:  # noqa: ARG001 - a Keep
    """Lose a change."""
    return None


def kept(change: Change) -> tuple[int, int] | None:
    """Keep a change whole."""
    return 0, len(change.data)


class SimFile:
    """An open file of a `SimDisk`."""

    def __init__(self, disk: SimDisk, path: Path, inode: SimInode) -> None:
        """Open *inode*."""
        self._disk = disk
        self._path = path
        self._inode = inode
        self._life = disk.life
        self._holds_lock = False

    def pread(self, size: int, offset: int) -> bytes:
        """See `File`."""
        self._enter("pread")
        return bytes(self._inode.data[offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> None:
        """See `File`."""
        try:
            self._enter("pwrite")
        except OSError:
            partial = self._disk.partial
            if partial:
                self._change(Change("write", self._path, offset, data[:partial]))
            raise
        for start, stop in sectors(offset, len(data), size=self._disk.sector_bytes):
            part = bytes(data[start - offset : stop - offset])
            self._change(Change("write", self._path, start, part))

    def pwritev(self, parts: Sequence[bytes], offset: int) -> None:
        """See `File`."""
        self.pwrite(b"".join(parts), offset)

    def size(self) -> int:
        """See `File`."""
        self._enter("size")
        return len(self._inode.data)

    def allocate(self, size: int) -> None:
        """See `File`."""
        self._enter("allocate")
        self._change(Change("allocate", self._path, size))

    def truncate(self, size: int) -> None:
        """See `File`."""
        self._enter("truncate")
        self._change(Change("truncate", self._path, size))

    def sync(self) -> None:
        """See `File`."""
        try:
            self._enter("sync")
        except OSError:
            self._inode.pending.clear()
            raise
        for change in self._inode.pending:
            self._inode.durable = changed(self._inode.durable, change, kept(change))
        self._inode.pending.clear()

    def close(self) -> None:
        """See `File`."""
        if self._life != self._disk.life:
            return
        self._life = -1
        if self._holds_lock:
            self._inode.locked = False
        self._disk.enter("close", self._path)

    def hold(self) -> None:
        """Take the lock."""
        if self._inode.locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked", str(self._path))
        self._inode.locked = self._holds_lock = True

    def _enter(self, call: str) -> None:
        if self._life != self._disk.life:
            raise OSError(errno.EBADF, "the file is closed, or its process dead", str(self._path))
        self._disk.enter(call, self._path)

    def _change(self, change: Change) -> None:
        self._inode.pending.append(change)
        self._inode.data[:] = changed(bytes(self._inode.data), change, kept(change))


class SimDisk:
    """The disk, and the machine's view of it.

    Attributes:
        trace: Every call so far: its name and its path.
        before: Called before each call takes effect, to look at the disk at that moment.
        sector_bytes: What the disk writes at once, in any order; 0: a whole write.
        free_bytes: What it says is left; a `Fault` makes it refuse.
    """

    def __init__(self, *, sector_bytes: int = 0) -> None:
        """Begin with an empty root."""
        self.sector_bytes = sector_bytes
        self.free_bytes = ROOM
        self.life = 0
        self.trace: list[tuple[str, Path]] = []
        self.before: Callable[[], object] | None = None
        self.partial = 0
        self._root = SimDirectory()
        self._faults: list[Fault] = []

    # --- what storage calls -------------------------------------------------------------------

    def open(self, path: Path) -> SimFile:
        """See `Disk`."""
        self.enter("open", path)
        return SimFile(self, path, self._file(path))

    def create(self, path: Path) -> SimFile:
        """See `Disk`."""
        self.enter("create", path)
        entries = self._directory(path.parent).entries
        if path.name in entries:
            raise error(errno.EEXIST, path)
        inode = SimInode()
        self._link(path, inode)
        return SimFile(self, path, inode)

    def lock(self, path: Path) -> SimFile:
        """See `Disk`."""
        self.enter("lock", path)
        if path.name not in self._directory(path.parent).entries:
            self._link(path, SimInode())
        file = SimFile(self, path, self._file(path))
        file.hold()
        return file

    def rename(self, source: Path, target: Path) -> None:
        """See `Disk`."""
        self.enter("rename", source)
        assert source.parent == target.parent, "only within one directory"
        self._file(source)
        old, new = source.name, target.name
        self._alter(source.parent, lambda names: names.update({new: names.pop(old)}))

    def unlink(self, path: Path) -> None:
        """See `Disk`."""
        self.enter("unlink", path)
        self._file(path)
        self._alter(path.parent, lambda names: names.pop(path.name))

    def exists(self, path: Path) -> bool:
        """See `Disk`."""
        self.enter("exists", path)
        try:
            self._node(path)
        except FileNotFoundError:
            return False
        return True

    def names(self, path: Path) -> list[str]:
        """See `Disk`."""
        self.enter("names", path)
        return sorted(self._directory(path).entries)

    def mkdir(self, path: Path) -> None:
        """See `Disk`."""
        self.enter("mkdir", path)
        if path.name in self._directory(path.parent).entries:
            raise error(errno.EEXIST, path)
        self._link(path, SimDirectory())

    def sync_dir(self, path: Path) -> None:
        """See `Disk`."""
        self.enter("sync_dir", path)
        directory = self._directory(path)
        for alter in directory.pending:
            alter(directory.durable)
        directory.pending.clear()

    def free(self, path: Path) -> int:
        """See `Disk`."""
        self.enter("free", path)
        return self.free_bytes

    # --- what tests and simulations do ----------------------------------------------------------

    def crash(self, keep: Keep = lost, *, names: Callable[[int], int] = lambda _: 0) -> SimDisk:
        """Return the disk as a power loss at this moment leaves it; this one does not change.

        Args:
            keep: What becomes of each unsynced change of a file.
            names: Given how many changes of a directory are unsynced, how many are kept.
        """
        image = SimDisk(sector_bytes=self.sector_bytes)
        image.free_bytes = self.free_bytes
        image._root = crashed_directory(self._root, keep=keep, names=names, done={})
        return image

    def kill(self) -> None:
        """End the process that uses the disk: nothing is lost, open files and locks are gone."""
        self.life += 1
        for node in all_nodes(self._root):
            if isinstance(node, SimInode):
                node.locked = False

    def fail(self, fault: Fault) -> None:
        """Arm a fault."""
        self._faults.append(fault)

    def heal(self) -> None:
        """Disarm all faults, and make room."""
        self._faults.clear()
        self.free_bytes = ROOM

    def pending(self) -> list[Change]:
        """Return the unsynced changes of all files."""
        nodes = all_nodes(self._root)
        return [c for node in nodes if isinstance(node, SimInode) for c in node.pending]

    def pending_names(self) -> int:
        """Return the largest number of unsynced changes in one directory."""
        nodes = all_nodes(self._root)
        return max(len(node.pending) for node in nodes if isinstance(node, SimDirectory))

    def files(self) -> dict[Path, bytes]:
        """Return every file's bytes."""
        return dict(all_files(self._root, Path("/")))

    def content(self, path: Path) -> bytes:
        """Return a file's bytes."""
        return bytes(self._file(path).data)

    def put(self, path: Path, data: bytes | None) -> None:
        """Replace a file's bytes behind everybody's back (None: remove it), on the disk too."""
        directory = self._directory(path.parent)
        inode = None if data is None else SimInode(bytearray(data), data)
        for entries in (directory.entries, directory.durable):
            entries.pop(path.name, None)
            if inode is not None:
                entries[path.name] = inode

    def enter(self, call: str, path: Path) -> None:
        """Count a call, and fail it if it is its turn."""
        if self.before is not None:
            self.before()
        self.trace.append((call, path))
        self.partial = 0
        for fault in self._faults:
            if fault.call in (None, call):
                fault.nth -= 1
                if fault.nth == -1 or (fault.forever and fault.nth < 0):
                    self.partial = fault.partial
                    raise error(fault.code, path)

    # --- the tree -------------------------------------------------------------------------------

    def _node(self, path: Path) -> SimInode | SimDirectory:
        node: SimInode | SimDirectory = self._root
        for part in path.parts[1:]:
            if not isinstance(node, SimDirectory):
                raise error(errno.ENOTDIR, path)
            if part not in node.entries:
                raise error(errno.ENOENT, path)
            node = node.entries[part]
        return node

    def _directory(self, path: Path) -> SimDirectory:
        node = self._node(path)
        if not isinstance(node, SimDirectory):
            raise error(errno.ENOTDIR, path)
        return node

    def _file(self, path: Path) -> SimInode:
        node = self._node(path)
        if not isinstance(node, SimInode):
            raise error(errno.EISDIR, path)
        return node

    def _link(self, path: Path, node: SimInode | SimDirectory) -> None:
        self._alter(path.parent, lambda names: names.update({path.name: node}))

    def _alter(self, path: Path, alter: Callable[[Entries], object]) -> None:
        directory = self._directory(path)
        alter(directory.entries)
        directory.pending.append(alter)


def error(code: int, path: Path) -> OSError:
    """Make the error that the system would raise."""
    return OSError(code, os.strerror(code), str(path))


def changed(data: bytes, change: Change, part: tuple[int, int] | None) -> bytes:
    """Return *data* after that *part* of a change."""
    if part is None:
        return data
    if change.kind == "truncate":
        return data[: change.offset].ljust(change.offset, b"\0")
    if change.kind == "allocate":
        return data.ljust(change.offset, b"\0")
    start, stop = change.offset + part[0], change.offset + part[1]
    return data[:start].ljust(start, b"\0") + change.data[part[0] : part[1]] + data[stop:]


def sectors(offset: int, length: int, *, size: int) -> Iterator[tuple[int, int]]:
    """Part a write where sectors of *size* bytes begin."""
    start, end = offset, offset + length
    while start < end:
        stop = min(end, start - start % size + size) if size else end
        yield start, stop
        start = stop


def all_files(root: SimDirectory, path: Path) -> Iterator[tuple[Path, bytes]]:
    """Return what is reachable by today's names: each file's path and bytes, in order."""
    for name, node in sorted(root.entries.items()):
        if isinstance(node, SimDirectory):
            yield from all_files(node, path / name)
        else:
            yield path / name, bytes(node.data)


def all_nodes(root: SimDirectory) -> list[SimInode | SimDirectory]:
    """Return everything that is reachable by today's names, in order."""
    nodes: list[SimInode | SimDirectory] = [root]
    for _, node in sorted(root.entries.items()):
        nodes += all_nodes(node) if isinstance(node, SimDirectory) else [node]
    return nodes


def crashed_directory(
    old: SimDirectory,
    *,
    keep: Keep,
    names: Callable[[int], int],
    done: dict[int, SimInode | SimDirectory],
) -> SimDirectory:
    """Copy a directory as a crash leaves it."""
    entries = dict(old.durable)
    for alter in old.pending[: names(len(old.pending))]:
        alter(entries)
    new: Entries = {}
    for name, node in entries.items():
        if id(node) not in done:
            if isinstance(node, SimDirectory):
                done[id(node)] = crashed_directory(node, keep=keep, names=names, done=done)
            else:
                data = node.durable
                for change in node.pending:
                    data = changed(data, change, keep(change))
                done[id(node)] = SimInode(bytearray(data), data)
        new[name] = done[id(node)]
    return SimDirectory(new, dict(new))
