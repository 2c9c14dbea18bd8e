"""One snapshot's file: a stream of frames that any node can copy byte for byte (dissertation 5.1).

Law: a file counts only as a whole. The header says which snapshot it is, the last frame how many
chunks and bytes came before it, and every byte is covered by a checksum that starts from the
snapshot's own id; so a file that is cut, mixed from two, renamed or flipped is no snapshot. What is
not known is refused as newer, never skipped.

    header · sessions · … · chunk · chunk · … · end

The header's body is JSON: format_version, id, cluster_id, index, term, configuration (as in its
entry), configuration_index, time_us (of the entry index; 0 where it is missing), digest (of the
outcomes up to that entry; null or missing where it is unknown), machine_version; fields that are
not known are passed over. The body of sessions is whole records of `core.sessions`,
a line each. A chunk's body is a part of what the module gave, at most 256 KiB. The end's body is
u64 frames between header and end · u64 bytes in them. The header's frame has a seed of the index
alone, since a reader learns the id from it; the id, of 63 random bits, is made with the file: two
nodes' snapshots of one index may differ.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyraft.checksum import crc32
from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import LIMIT, Index, MalformedEntry
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import FormatTooNew
from tinyraft.storage.disk import File
from tinyraft.storage.frame import (
    PLACE,
    BadFrame,
    FrameHeader,
    FrameKind,
    frame_header,
    frames_between,
)

FORMAT_VERSION = 1
SEED = 0x736E_6170
CHUNK_BYTES = 256 * 1024
SYNC_BYTES = 64 * 1024 * 1024  # a sync of gigabytes at once would hold up the log's
END = struct.Struct("<QQ")
NAME = re.compile(r"([0-9]{20})-([0-9a-f]{16})\.snapshot")
TEMPORARY = ".tmp"


class BadSnapshot(ValueError):
    """The bytes are no whole snapshot; the text says why, `offset` where."""

    def __init__(self, why: str, *, offset: int) -> None:
        """Say *why*."""
        super().__init__(why)
        self.offset = offset


@dataclass(slots=True, frozen=True)
class SnapshotFile:
    """A whole snapshot on this disk.

    Attributes:
        meta: What it stands for.
        id: Its own; the same for every copy of these bytes.
        cluster_id: Whose it is.
        path: Where it is, until it is pruned.
        size: Bytes of the file.
    """

    meta: Snapshot
    id: int
    cluster_id: str
    path: Path
    size: int


@dataclass(slots=True, frozen=True)
class Header:
    """What the first frame says."""

    id: int
    cluster_id: str
    meta: Snapshot

    def encode(self) -> bytes:
        """Make the body of the first frame."""
        meta = self.meta
        fields = {
            "format_version": FORMAT_VERSION,
            "id": self.id,
            "cluster_id": self.cluster_id,
            "index": meta.index,
            "term": meta.term,
            "configuration": meta.configuration.encode().decode(),
            "configuration_index": meta.configuration_index,
            "time_us": meta.time_us,
            "digest": meta.digest,
            "machine_version": 0,
        }
        return json.dumps(fields, separators=(",", ":")).encode()


def snapshot_name(index: Index, id: int) -> str:
    """Name the file of a snapshot."""
    return f"{index:020d}-{id:016x}.snapshot"


def parse_name(name: str) -> tuple[Index, int] | None:
    """Return index and id in a snapshot's name, None for any other file."""
    match = NAME.fullmatch(name)
    return (int(match[1]), int(match[2], 16)) if match else None


def frame_seed(*, index: Index, id: int) -> int:
    """Make the seed of a snapshot's frames; of the first one with id 0."""
    return crc32(PLACE.pack(id, index), SEED)


def decode_header(body: bytes) -> Header:
    """Read the body of the first frame.

    Raises:
        BadSnapshot: It is none.
        FormatTooNew: A newer tinyraft wrote it.
    """
    try:
        fields = json.loads(body)
        version = fields["format_version"]
        if type(version) is int and version > FORMAT_VERSION:
            raise FormatTooNew(
                f"a snapshot of format version {version}, this tinyraft reads up to "
                f"{FORMAT_VERSION}: install the newer tinyraft that wrote it"
            )
        names = fields["cluster_id"], fields["configuration"]
        keys = ("id", "index", "term", "configuration_index", "machine_version")
        digest = fields.get("digest")
        numbers = [
            *(fields[key] for key in keys),
            fields.get("time_us", 0),
            0 if digest is None else digest,
        ]
        if not all(type(number) is int and 0 <= number < LIMIT for number in numbers):
            raise ValueError("a number is out of its range")
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a text is none")
        id, index, term, configuration_index, machine_version, time_us, _ = numbers
        configuration = Configuration.decode(names[1].encode())
    except (ValueError, TypeError, KeyError, MalformedEntry, RecursionError) as error:
        raise BadSnapshot(f"its header is not ours: {error!r}", offset=0) from error
    if version != FORMAT_VERSION or not id or not index or not term or configuration_index > index:
        raise BadSnapshot(f"its header contradicts itself: {body[:200]!r}", offset=0)
    if machine_version:
        raise FormatTooNew(f"a snapshot for the machine version {machine_version}; I know only 0")
    meta = Snapshot(index, term, configuration, configuration_index, time_us, digest)
    return Header(id, names[0], meta)


def recut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut what a module gave anew, into chunks of `CHUNK_BYTES` and a last, smaller one."""
    rest = bytearray()
    for chunk in chunks:
        view, at = memoryview(chunk).cast("B"), 0
        while len(rest) + len(view) - at >= CHUNK_BYTES:
            stop = at + CHUNK_BYTES - len(rest)
            yield bytes(rest) + view[at:stop]
            rest.clear()
            at = stop
        rest += view[at:]
    if rest:
        yield bytes(rest)


def in_frames(records: Iterable[bytes]) -> Iterator[bytes]:
    """Put records of sessions together, lines that fill a frame."""
    lines: list[bytes] = []
    size = 0
    for record in records:
        lines.append(record)
        size += len(record) + 1
        if size >= CHUNK_BYTES:
            yield b"\n".join(lines)
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines)


class FrameWriter:
    """Puts frames behind each other into a new file."""

    def __init__(self, file: File, header: Header) -> None:
        """Write to *file*, which is empty, the snapshot that has this *header*."""
        self.size = 0
        self._file = file
        self._synced = 0
        self._chunks = 0
        self._bytes = 0
        index = header.meta.index
        self._add(FrameKind.SNAPSHOT_HEADER, header.encode(), seed=frame_seed(index=index, id=0))
        self._seed = frame_seed(index=index, id=header.id)

    def add(self, chunk: bytes, kind: FrameKind = FrameKind.SNAPSHOT_CHUNK) -> None:
        """Write one chunk, or records of sessions before the first one."""
        self._chunks += 1
        self._bytes += len(chunk)
        self._add(kind, chunk, seed=self._seed)

    def finish(self) -> None:
        """Write the end, and sync."""
        self._add(FrameKind.SNAPSHOT_END, END.pack(self._chunks, self._bytes), seed=self._seed)
        self._file.sync()

    def _add(self, kind: FrameKind, body: bytes, *, seed: int) -> None:
        head = frame_header(kind, body, seed=seed, offset=self.size, synced=0)
        self._file.pwrite(head + body, self.size)
        self.size += len(head) + len(body)
        if self.size - self._synced >= SYNC_BYTES:
            self._file.sync()
            self._synced = self.size


class FrameReader:
    """Reads a snapshot frame by frame, and holds it to the rules."""

    def __init__(self, file: File, *, index: Index) -> None:
        """Read the header of the snapshot of *index*.

        Raises:
            BadSnapshot: As for `chunks`.
            FormatTooNew: A newer tinyraft wrote it.
            OSError: The disk failed.
        """
        self.size = file.size()
        self._file = file
        self._at = 0
        frame, body = self._next(frame_seed(index=index, id=0))
        if frame.kind != FrameKind.SNAPSHOT_HEADER:
            raise BadSnapshot(f"the first frame is of kind {frame.kind}, no header", offset=0)
        self.header = decode_header(body)
        if self.header.meta.index != index:
            raise BadSnapshot(f"the header says index {self.header.meta.index}", offset=0)
        self._seed = frame_seed(index=index, id=self.header.id)
        self._count = self._bytes = 0  # of what was read between header and end

    def sessions(self) -> list[bytes]:
        """Read the records of sessions, if the module's chunks were not begun yet.

        Raises: As `chunks`.
        """
        records: list[bytes] = []
        while True:
            start = self._at
            frame, body = self._next(self._seed)
            if frame.kind != FrameKind.SNAPSHOT_SESSIONS:
                self._at = start
                return records
            self._count, self._bytes = self._count + 1, self._bytes + len(body)
            records += body.splitlines()

    def chunks(self) -> Iterator[bytes]:
        """Read what the module gave, chunk by chunk; the end only comes for a whole file.

        Raises:
            BadSnapshot: A frame is damaged or missing, or too many.
            FormatTooNew: A newer tinyraft wrote it.
            OSError: The disk failed.
        """
        self.sessions()
        while True:
            start = self._at
            frame, body = self._next(self._seed)
            if frame.kind == FrameKind.SNAPSHOT_END:
                break
            if frame.kind != FrameKind.SNAPSHOT_CHUNK:
                raise FormatTooNew(
                    f"a snapshot with a frame of kind {frame.kind} at byte {start}; its checksums "
                    "are right, so a newer tinyraft wrote it: install that one"
                )
            self._count, self._bytes = self._count + 1, self._bytes + len(body)
            yield body
        if body != END.pack(self._count, self._bytes):
            count = f"{self._count} frames of {self._bytes} bytes"
            raise BadSnapshot(f"{count} are not all", offset=start)
        if self._at != self.size:
            raise BadSnapshot(f"{self.size - self._at} bytes follow its end", offset=self._at)

    def verify(self) -> None:
        """Read all of it; raises as `chunks`."""
        for _ in self.chunks():
            pass

    def _next(self, seed: int) -> tuple[FrameHeader, bytes]:
        frames = frames_between(self._file, self._at, self.size, seed=seed)
        try:
            frame, body = next(frames)
        except BadFrame as bad:
            raise BadSnapshot(str(bad), offset=self._at) from bad
        except StopIteration:
            raise BadSnapshot("its end is missing", offset=self._at) from None
        self._at = frame.end
        return frame, body
