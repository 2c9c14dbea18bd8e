"""One entry of the log, and the bytes that disk and wire share (dissertation 3.3).

Law: an entry is encoded once, by whoever appends it first; from then on its bytes are copied, never
made again. What the decoder does not know it refuses, never skips: two members that read one entry
differently would differ for ever.

The bytes, little-endian:

    u32 size of all that follows · u8 kind · u8 flags · u16 machine version ·
    u64 index · u64 term · u64 leader's time in microseconds ·
    [flag 1: u64 session index · u64 session term · u64 sequence · u64 all answers seen below] ·
    [flag 2: u16 length · request id in UTF-8] ·
    command

Sessions, request ids and machine versions have their room from the first day; nothing writes them
yet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType, TypeAlias

Index: TypeAlias = int
Term: TypeAlias = int
NodeId = NewType("NodeId", str)

HEADER = struct.Struct("<IBBHQQQ")
SESSION = struct.Struct("<QQQQ")
REQUEST_ID = struct.Struct("<H")
SESSION_FLAG = 1
REQUEST_ID_FLAG = 2
LIMIT = 2**63  # indexes and terms above are damage or malice (pitfall 121)


class EntryKind(IntEnum):
    """What an entry is for. None is 0, so that zeros on disk are never an entry."""

    COMMAND = 1
    NOOP = 2
    CONFIGURATION = 3
    SESSION = 4
    DIGEST = 5  # a check: members compare what they have come to; see `check`


KINDS = {int(kind): kind for kind in EntryKind}


@dataclass(slots=True)
class Entry:
    """One place in the log. ``header + command`` is its encoding."""

    index: Index
    term: Term
    kind: EntryKind
    header: bytes
    command: bytes

    @property
    def size(self) -> int:
        """Bytes of the encoding."""
        return len(self.header) + len(self.command)

    @property
    def time_us(self) -> int:
        """The leader's clock when it appended this, in microseconds since 1970."""
        return int(HEADER.unpack_from(self.header)[6])


class MalformedEntry(ValueError):
    """Bytes that are no entry."""


def make_entry(
    *, index: Index, term: Term, kind: EntryKind, command: bytes, time_us: int = 0
) -> Entry:
    """Encode a new entry."""
    header = HEADER.pack(HEADER.size - 4 + len(command), kind, 0, 0, index, term, time_us)
    return Entry(index, term, kind, header, command)


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """Join the encodings of *entries*."""
    parts: list[bytes] = []
    for entry in entries:
        parts += (entry.header, entry.command)
    return b"".join(parts)


def decode_entries(data: bytes) -> list[Entry]:
    """Split *data* into its entries.

    Raises:
        MalformedEntry: A length, kind or flag is not ours, or bytes are left over.
    """
    entries: list[Entry] = []
    start, end = 0, len(data)
    while start < end:
        if end - start < HEADER.size:
            raise MalformedEntry(f"{end - start} bytes at {start} are too few for an entry")
        size, kind, flags, _version, index, term, _time = HEADER.unpack_from(data, start)
        stop = start + 4 + size
        if size < HEADER.size - 4 or stop > end:
            raise MalformedEntry(f"the entry at {start} has a length of {size}")
        if kind not in KINDS:
            raise MalformedEntry(f"the entry at {start} is of the unknown kind {kind}")
        if not 0 < index < LIMIT or not 0 < term < LIMIT:
            raise MalformedEntry(f"the entry at {start} claims index {index}, term {term}")
        body = start + HEADER.size
        if flags:
            body = after_options(data, body, stop, flags)
        entries.append(Entry(index, term, KINDS[kind], data[start:body], data[body:stop]))
        start = stop
    return entries


def after_options(data: bytes, at: int, stop: int, flags: int) -> int:
    """Find where the command starts behind the optional parts."""
    if flags & ~(SESSION_FLAG | REQUEST_ID_FLAG):
        raise MalformedEntry(f"unknown flags {flags:#x}; a newer tinyraft wrote this entry")
    if flags & SESSION_FLAG:
        at += SESSION.size
    if flags & REQUEST_ID_FLAG:
        if at + REQUEST_ID.size > stop:
            raise MalformedEntry("the request id is cut off")
        at += REQUEST_ID.size + REQUEST_ID.unpack_from(data, at)[0]
    if at > stop:
        raise MalformedEntry("the optional parts are longer than the entry")
    return at
