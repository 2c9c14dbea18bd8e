"""One frame: the bytes around one write of the log, and how they are recognised.

Law: a frame passes only where it was written. Its header holds its own offset and the checksum of
its body, and the header's checksum starts from a seed made of the log's id and the segment's
number; so a frame that is torn, flipped, stale, moved or from another log is no frame. No length is
believed, and nothing allocated for it, before it is compared with the bytes that are there.

The bytes, little-endian (36 before the body):

    magic A7 't' 'R' 'f' · u8 kind · 3 zero bytes · u32 length of the body · u32 CRC of the body ·
    u64 offset of this frame · u64 bytes of this segment that were synced when it was written ·
    u32 CRC of the 32 bytes before · body

Why two checksums: after a damaged frame the next header can be found and believed without its body.
What such a header says was synced decides between a torn tail and corruption.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

MAGIC = b"\xa7tRf"
FIELDS = struct.Struct("<4sB3xIIQQ")
CHECKSUM = struct.Struct("<I")
FRAME_BYTES = FIELDS.size + CHECKSUM.size
MAX_BODY_BYTES = 2**32 - 1
BODY_SEED = 0x7472_6674  # not 0, or a body of zeros would have a checksum of nearly nothing
PLACE = struct.Struct("<QQ")


class FrameKind(IntEnum):
    """What a frame says. None is 0: zeros on disk are never a frame. 5 to 15 await snapshots."""

    SEGMENT_HEADER = 1
    HARD_STATE = 2
    ENTRIES = 3
    CUT = 4


class BadFrame(ValueError):
    """There is no believable frame; the text says why."""


@dataclass(slots=True)
class FrameHeader:
    """What the first 36 bytes say, once their checksum holds."""

    kind: int
    length: int
    body_crc: int
    offset: int
    end: int  # where the next frame begins
    synced: int


def place_seed(*, log_id: int, number: int) -> int:
    """Make the seed of all frames of segment *number* of one log."""
    return crc32(PLACE.pack(log_id, number), BODY_SEED)


def frame_header(kind: FrameKind, body: bytes, *, seed: int, offset: int, synced: int) -> bytes:
    """Make the bytes that precede *body*."""
    assert len(body) <= MAX_BODY_BYTES, f"a frame can't hold {len(body)} bytes"
    fields = FIELDS.pack(MAGIC, kind, len(body), crc32(body, BODY_SEED), offset, synced)
    return fields + CHECKSUM.pack(crc32(fields, seed))


def read_header(data: bytes, offset: int, *, seed: int) -> FrameHeader:
    """Read the header at *offset*.

    Raises:
        BadFrame: Its magic, checksum or place is wrong, or the bytes end before.
    """
    if len(data) - offset < FRAME_BYTES:
        raise BadFrame(f"{len(data) - offset} bytes are too few for a frame")
    magic, kind, length, body_crc, place, synced = FIELDS.unpack_from(data, offset)
    if magic != MAGIC:
        raise BadFrame("no frame starts here")
    fields = data[offset : offset + FIELDS.size]
    if crc32(fields, seed) != CHECKSUM.unpack_from(data, offset + FIELDS.size)[0]:
        raise BadFrame("the checksum of the frame's header is wrong for this file")
    if place != offset or not kind or synced > offset:
        raise BadFrame(f"the frame is of kind {kind}, for {place}, {synced} synced")
    return FrameHeader(kind, length, body_crc, offset, offset + FRAME_BYTES + length, synced)


def read_frame(data: bytes, offset: int, *, seed: int) -> tuple[FrameHeader, bytes]:
    """Read the frame at *offset*: its header and its body.

    Raises:
        BadFrame: As for `read_header`, or the body is cut off or its checksum wrong.
    """
    header = read_header(data, offset, seed=seed)
    if header.end > len(data):
        raise BadFrame(f"the frame's {header.length} bytes are more than the file holds")
    body = data[offset + FRAME_BYTES : header.end]
    if crc32(body, BODY_SEED) != header.body_crc:
        raise BadFrame("the checksum of the frame's body is wrong")
    return header, body


def synced_behind(data: bytes, offset: int, *, seed: int) -> int:
    """Return how far the headers behind *offset* say the segment was synced; 0 without any.

    A later header does not make an earlier damage corruption: of the writes since the last sync a
    crash may keep any. But what it says was synced before it was written, was.
    """
    synced = 0
    at = data.find(MAGIC, offset + 1)
    while at >= 0:
        with suppress(BadFrame):  # a command may hold the magic bytes, or the header is torn too
            synced = max(synced, read_header(data, at, seed=seed).synced)
        at = data.find(MAGIC, at + 1)
    return synced
