"""One segment: a preallocated, append-only file of frames.

Law: a segment comes into being whole (written under a temporary name, synced, renamed, its
directory synced), with a header and the hard state as its first two frames; so a segment without
them is corrupt, never young. Bytes behind its end are zeros. Its name is its number, nothing else.

The body of the header, little-endian:

    u32 format version · u64 log id · u64 number · u64 next index · u64 end of the segment before ·
    u64 previous term

The *log id* is random, made once for a log and the same in all its segments. The *end of the
segment before* tells how long that one was when it was left, all of it synced. The *previous term*
is that of the entry before the next index: a log whose older segments are gone begins there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tinyraft.core.effects import HardState
from tinyraft.core.entry import LIMIT, Index, NodeId, Term
from tinyraft.errors import CorruptLog, FormatTooNew
from tinyraft.storage.disk import NO_ROOM, Disk, File, NoRoom
from tinyraft.storage.frame import (
    FRAME_BYTES,
    BadFrame,
    FrameKind,
    frame_header,
    place_seed,
    read_frame,
)

FORMAT_VERSION = 1
VERSION = struct.Struct("<I")
HEADER = struct.Struct("<IQQQQQ")
TERM = struct.Struct("<Q")
CUT_FROM = struct.Struct("<Q")  # the body of a cut: everything at or above is gone
BASE = struct.Struct("<QQ")  # of a base: index and term; the log goes on behind them
NAME = re.compile(r"([0-9]{16})\.wal")
TEMPORARY = ".tmp"
ZEROS = bytes(64 * 1024)


def segment_name(number: int) -> str:
    """Name the file of segment *number*."""
    return f"{number:016d}.wal"


def segment_number(name: str) -> int | None:
    """Return the number in a segment's name, None for any other file."""
    match = NAME.fullmatch(name)
    return int(match[1]) if match else None


def refuse(why: str, *, path: Path, offset: int) -> NoReturn:
    """Refuse to go on with damaged files.

    Raises:
        CorruptLog: Always.
    """
    where = f"{path} at byte {offset}" if offset >= 0 else f"{path}"
    raise CorruptLog(
        f"{where}: {why}. Something that was synced is damaged or missing, so this node may have "
        "forgotten entries or votes that it vouched for. Repair nothing by hand: remove this "
        "member from the cluster, then start it with a new NODE_ID and an empty data directory, so "
        "that the others restore it; keep the old directory for study",
        path=str(path),
        offset=offset,
    )


@dataclass(slots=True)
class SegmentHeader:
    """Who a segment is, and what went before it."""

    log_id: int
    number: int
    next_index: Index
    previous_end: int
    previous_term: Term = 0

    @property
    def seed(self) -> int:
        """The seed of the checksums of all other frames of the segment."""
        return place_seed(log_id=self.log_id, number=self.number)

    @property
    def size(self) -> int:
        """Bytes of the header's frame; the hard state's comes next."""
        return FRAME_BYTES + HEADER.size

    def encode(self) -> bytes:
        """Make the body of the header's frame."""
        return HEADER.pack(
            FORMAT_VERSION,
            self.log_id,
            self.number,
            self.next_index,
            self.previous_end,
            self.previous_term,
        )

    @property
    def is_sound(self) -> bool:
        """Tell whether the fields agree with each other."""
        indexes = 0 < self.next_index < LIMIT and self.previous_term < LIMIT
        return indexes and self.log_id > 0 and (self.next_index > 1) == (self.previous_term > 0)


def header_seed(number: int) -> int:
    """Make the seed of the header's own frame, which can't know the log's id beforehand."""
    return place_seed(log_id=0, number=number)


def read_segment_header(data: bytes, *, number: int, path: Path) -> SegmentHeader:
    """Read the header of the segment that is called *number*.

    Raises:
        CorruptLog: It is damaged, or belongs to a segment of another number.
        FormatTooNew: A newer tinyraft wrote it.
    """
    try:
        frame, body = read_frame(data, 0, seed=header_seed(number))
    except BadFrame as bad:
        refuse(f"the header of segment {number} can't be read ({bad})", path=path, offset=0)
    if frame.kind != FrameKind.SEGMENT_HEADER or frame.length < VERSION.size:
        refuse(f"the first frame is of kind {frame.kind}, no header", path=path, offset=0)
    (version,) = VERSION.unpack_from(body)
    if version > FORMAT_VERSION:
        raise FormatTooNew(
            f"{path} has format version {version}, this tinyraft reads up to {FORMAT_VERSION}: "
            "install the newer tinyraft that wrote it"
        )
    if version != FORMAT_VERSION or frame.length != HEADER.size:
        refuse(f"a header of version {version}, {frame.length} bytes", path=path, offset=0)
    header = SegmentHeader(*HEADER.unpack(body)[1:])
    if header.number != number or not header.is_sound:
        refuse(f"the header contradicts itself: {header}", path=path, offset=0)
    return header


def encode_hard_state(state: HardState) -> bytes:
    """Make the body of a hard state's frame: u64 term, then the vote in UTF-8, empty for none."""
    assert state.voted_for != "", "a vote needs a name"
    return TERM.pack(state.term) + (state.voted_for or "").encode()


def decode_hard_state(body: bytes) -> HardState:
    """Read a hard state.

    Raises:
        ValueError: It is too short, its term too high, or the vote is not UTF-8.
    """
    if len(body) < TERM.size:
        raise ValueError(f"a hard state of {len(body)} bytes")
    (term,) = TERM.unpack_from(body)
    if term >= LIMIT:
        raise ValueError(f"a hard state of term {term}")
    voted_for = body[TERM.size :].decode()
    return HardState(term, NodeId(voted_for) if voted_for else None)


def used_bytes(data: bytes) -> int:
    """Return where the zeros at the end of *data* begin, to the byte."""
    end = len(data)
    while end >= len(ZEROS) and data[end - len(ZEROS) : end] == ZEROS:
        end -= len(ZEROS)
    block = max(0, end - len(ZEROS))
    return block + len(data[block:end].rstrip(b"\0"))


def encode_head(header: SegmentHeader, hard_state: HardState) -> bytes:
    """Make the first two frames of a segment."""
    body, state = header.encode(), encode_hard_state(hard_state)
    seed = header_seed(header.number)
    first = frame_header(FrameKind.SEGMENT_HEADER, body, seed=seed, offset=0, synced=0) + body
    second = frame_header(
        FrameKind.HARD_STATE, state, seed=header.seed, offset=len(first), synced=0
    )
    return first + second + state


def temporary_of(path: Path) -> Path:
    """Name the file that is to become the segment at *path*."""
    return path.with_name(path.name + TEMPORARY)


def reserve(disk: Disk, path: Path, *, capacity: int) -> File:
    """Take the room of the segment that is to be at *path*: a temporary file of that size.

    Nothing depends on it yet, so a full disk is met where it can do no harm.

    Raises:
        NoRoom: The disk is full. Nothing is left of the attempt.
    """
    temporary = temporary_of(path)
    if disk.exists(temporary):
        disk.unlink(temporary)  # of an attempt that could not be tidied
    try:
        file = disk.create(temporary)
    except OSError as error:
        raise no_room(error, temporary) from error
    with leaving_nothing(disk, file, temporary):
        file.allocate(capacity)
    return file


@contextmanager
def leaving_nothing(disk: Disk, file: File, temporary: Path) -> Iterator[None]:
    """Remove the *temporary* file, and say `NoRoom`, when the disk is full."""
    try:
        yield
    except OSError as error:
        file.close()
        full = no_room(error, temporary)
        disk.unlink(temporary)
        raise full from error


def no_room(error: OSError, path: Path) -> NoRoom:
    """Tell a full disk from a broken one.

    Raises:
        OSError: *error* itself, when it says something else.
    """
    if error.errno not in NO_ROOM:
        raise error
    return NoRoom(error, path)


class Segment:
    """The last segment: frames are collected, then written behind its end in one go."""

    def __init__(
        self, file: File, header: SegmentHeader, *, path: Path, capacity: int, end: int
    ) -> None:
        """Go on behind *end*, where everything before is synced and everything behind is zeros."""
        self.path = path
        self.number = header.number
        self.log_id = header.log_id
        self.end = end  # behind everything added
        self.synced = end  # a finished sync covers what is before
        self._file = file
        self._seed = header.seed
        self._capacity = capacity
        self._parts: list[bytes] = []  # added, not yet written
        self._written = end

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: Path,
        *,
        header: SegmentHeader,
        hard_state: HardState,
        capacity: int,
        spare: File | None = None,
    ) -> Segment:
        """Make a segment of *capacity* bytes, of a *spare* where there is one.

        Nothing of it is seen before it is whole.

        Raises:
            NoRoom: The disk is full. Nothing is left of the attempt, nor of the spare.
        """
        path = directory / segment_name(header.number)
        temporary = temporary_of(path)
        head = encode_head(header, hard_state)
        file = spare or reserve(disk, path, capacity=capacity)
        with leaving_nothing(disk, file, temporary):
            try:
                if file.size() < capacity:
                    file.allocate(capacity)
                file.pwrite(head, 0)
                file.sync()
            finally:
                file.close()
            disk.rename(temporary, path)
        disk.sync_dir(directory)
        file = disk.open(path)  # again, so that its errors name it rightly
        return cls(file, header, path=path, capacity=capacity, end=len(head))

    def fits(self, size: int) -> bool:
        """Tell whether a frame of *size* bytes has room."""
        return self.end + size <= self._capacity

    @property
    def is_half_full(self) -> bool:
        """Whether the next one will soon be needed."""
        return 2 * self.end >= self._capacity

    def add(self, kind: FrameKind, *body: bytes) -> None:
        """Put a frame behind the others, its body in parts; `flush` writes it."""
        header = frame_header(kind, *body, seed=self._seed, offset=self.end, synced=self.synced)
        self._parts += (header, *body)
        self.end += sum(map(len, body), len(header))

    def flush(self) -> None:
        """Write what was added, in one go and without a copy."""
        if self._parts:
            self._file.pwritev(self._parts, self._written)
            self._parts.clear()
            self._written = self.end

    def sync(self) -> None:
        """Write what was added and sync the file."""
        self.flush()
        self._file.sync()
        self.synced = self.end

    def close(self) -> None:
        """Close the file; syncs nothing."""
        self._file.close()
