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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from tinyraft.checksum import crc32
from tinyraft.storage.disk import File

MAGIC = b"\xa7tRf"
FIELDS = struct.Struct("<4sB3xIIQQ")
CHECKSUM = struct.Struct("<I")
FRAME_BYTES = FIELDS.size + CHECKSUM.size
MAX_BODY_BYTES = 2**32 - 1
BODY_SEED = 0x7472_6674  # not 0, or a body of zeros would have a checksum of nearly nothing
PLACE = struct.Struct("<QQ")
WINDOW_BYTES = 128 * 1024  # what is read at once where a whole file would be too much


class FrameKind(IntEnum):
    """What a frame says: up to 5 in a log, then in a snapshot.

    None is 0: zeros on disk are never a frame. 10 to 15 are kept free.
    """

    SEGMENT_HEADER = 1
    HARD_STATE = 2
    ENTRIES = 3
    CUT = 4
    BASE = 5
    SNAPSHOT_HEADER = 6
    SNAPSHOT_CHUNK = 7
    SNAPSHOT_SESSIONS = 8
    SNAPSHOT_END = 9


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


def frame_header(kind: FrameKind, *body: bytes, seed: int, offset: int, synced: int) -> bytes:
    """Make the bytes that precede *body*, which may come in parts."""
    length, crc = 0, BODY_SEED
    for part in body:
        length, crc = length + len(part), crc32(part, crc)
    assert length <= MAX_BODY_BYTES, f"a frame can't hold {length} bytes"
    fields = FIELDS.pack(MAGIC, kind, length, crc, offset, synced)
    return fields + CHECKSUM.pack(crc32(fields, seed))


def read_header(data: bytes, offset: int, *, seed: int, start: int = 0) -> FrameHeader:
    """Read the header at *offset* of a file, of which *data* is what begins at *start*.

    Raises:
        BadFrame: Its magic, checksum or place is wrong, or the bytes end before.
    """
    at = offset - start
    if len(data) - at < FRAME_BYTES:
        raise BadFrame(f"{len(data) - at} bytes are too few for a frame")
    magic, kind, length, body_crc, place, synced = FIELDS.unpack_from(data, at)
    if magic != MAGIC:
        raise BadFrame("no frame starts here")
    fields = data[at : at + FIELDS.size]
    if crc32(fields, seed) != CHECKSUM.unpack_from(data, at + FIELDS.size)[0]:
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
    check_body(header, body)
    return header, body


def check_body(header: FrameHeader, body: bytes) -> None:
    """Hold *body* against its header.

    Raises:
        BadFrame: The checksum is wrong.
    """
    if crc32(body, BODY_SEED) != header.body_crc:
        raise BadFrame("the checksum of the frame's body is wrong")


def frames_between(
    file: File, start: int, stop: int, *, seed: int
) -> Iterator[tuple[FrameHeader, bytes]]:
    """Read the frames of *file* from *start* on, window by window, until *stop* or a bad one.

    Raises:
        BadFrame: As for `read_frame`; all frames before it were yielded.
        OSError: The disk failed.
    """
    offset = start
    while offset < stop:
        window = file.pread(min(WINDOW_BYTES, stop - offset), offset)
        begin = offset
        while offset < stop:
            at = offset - begin
            if len(window) - at < FRAME_BYTES and at:
                break  # the window ends in this header: look again from here
            header = read_header(window, offset, seed=seed, start=begin)
            if header.end > stop:
                raise BadFrame(f"the frame's {header.length} bytes are more than the file holds")
            body = window[at + FRAME_BYTES : at + FRAME_BYTES + header.length]
            if len(body) < header.length:
                if at:
                    break
                body += file.pread(header.length - len(body), offset + FRAME_BYTES + len(body))
                window = b""
            check_body(header, body)
            yield header, body
            offset = header.end
            if not window:
                break


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
