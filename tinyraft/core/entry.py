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

The optional parts say where a command comes from, so that it is applied once (6.3). Machine
versions have their room from the first day; nothing writes them yet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, NewType, TypeAlias

Index: TypeAlias = int
Term: TypeAlias = int
NodeId = NewType("NodeId", str)

HEADER = struct.Struct("<IBBHQQQ")
SESSION = struct.Struct("<QQQQ")
REQUEST_ID = struct.Struct("<H")
SESSION_FLAG = 1
REQUEST_ID_FLAG = 2
FLAGS_AT = 5  # in the header
LONGEST_REQUEST_ID = 256  # bytes in UTF-8
OBJECTS_BYTES = 200  # of the five objects that an entry is, beside the bytes it stands for
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
    def footprint(self) -> int:
        """Bytes of memory that it takes, about: of a short command more than twice the encoding."""
        return OBJECTS_BYTES + len(self.header) + len(self.command)

    @property
    def time_us(self) -> int:
        """The leader's clock when it appended this, in microseconds since 1970."""
        return int(HEADER.unpack_from(self.header)[6])

    @property
    def origin(self) -> Origin | None:
        """Where the command comes from, if its entry says that."""
        header = self.header
        flags, at = header[FLAGS_AT], HEADER.size
        if not flags:
            return None
        if flags == SESSION_FLAG:
            return Origin(*SESSION.unpack_from(header, at))
        session, request_id = (0, 0, 0, 0), ""
        if flags & SESSION_FLAG:
            session = SESSION.unpack_from(header, at)
            at += SESSION.size
        if flags & REQUEST_ID_FLAG:
            request_id = self.header[at + REQUEST_ID.size :].decode(errors="surrogateescape")
        return Origin(*session, request_id)


class Origin(NamedTuple):
    """Where a command comes from (6.3).

    Attributes:
        session_index: The entry that opened the caller's session; 0 for none.
        session_term: That entry's term.
        sequence: The caller's number for the command, from 1 on.
        answered_below: The caller waits for no command of a lower number any more.
        request_id: The program's own name for the command; "" for none.
    """

    session_index: Index
    session_term: Term
    sequence: int
    answered_below: int
    request_id: str = ""


class Stamp(NamedTuple):
    """The optional parts of an entry, encoded by whoever takes the command in.

    With *opens_session* the entry is no command: it opens a session.
    """

    flags: int = 0
    options: bytes = b""
    opens_session: bool = False


PLAIN = Stamp()
OPENS_SESSION = Stamp(opens_session=True)


def stamp(origin: Origin) -> Stamp:
    """Encode where a command comes from.

    Raises:
        MalformedEntry: The request id is longer than `LONGEST_REQUEST_ID` bytes.
    """
    flags, options = 0, b""
    if origin.session_index:
        flags, options = SESSION_FLAG, SESSION.pack(*origin[:4])
    if origin.request_id:
        name = origin.request_id.encode(errors="surrogateescape")
        if len(name) > LONGEST_REQUEST_ID:
            raise MalformedEntry(
                f"a request id of {len(name)} bytes; at most {LONGEST_REQUEST_ID} are kept"
            )
        flags, options = flags | REQUEST_ID_FLAG, options + REQUEST_ID.pack(len(name)) + name
    return Stamp(flags, options)


def session_stamp(index: Index, term: Term, sequence: int, answered_below: int) -> Stamp:
    """Encode where a command of a session comes from that has no request id."""
    return Stamp(SESSION_FLAG, SESSION.pack(index, term, sequence, answered_below))


class MalformedEntry(ValueError):
    """Bytes that are no entry."""


def make_entry(
    *,
    index: Index,
    term: Term,
    kind: EntryKind,
    command: bytes,
    time_us: int = 0,
    stamp: Stamp = PLAIN,
) -> Entry:
    """Encode a new entry."""
    flags, options, opens_session = stamp
    if opens_session:
        kind = EntryKind.SESSION
    size = HEADER.size - 4 + len(options) + len(command)
    header = HEADER.pack(size, kind, flags, 0, index, term, time_us) + options
    return Entry(index, term, kind, header, command)


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """Join the encodings of *entries*."""
    return b"".join(parts_of(entries))


def parts_of(entries: Iterable[Entry]) -> list[bytes]:
    """Give what `encode_entries` joins."""
    parts: list[bytes] = []
    for entry in entries:
        parts += (entry.header, entry.command)
    return parts


def decode_entries(data: bytes) -> list[Entry]:
    """Split *data* into its entries.

    Raises:
        MalformedEntry: A length, kind or flag is not ours, or bytes are left over.
    """
    entries: list[Entry] = []
    start, end, shortest, read = 0, len(data), HEADER.size, HEADER.unpack_from
    while start < end:
        if end - start < shortest:
            raise MalformedEntry(f"{end - start} bytes at {start} are too few for an entry")
        size, kind, flags, _, index, term, _ = read(data, start)
        stop = start + 4 + size
        body = start + shortest
        if stop < body or stop > end:
            raise MalformedEntry(f"the entry at {start} has a length of {size}")
        if kind not in KINDS:
            raise MalformedEntry(f"the entry at {start} is of the unknown kind {kind}")
        if not 0 < index < LIMIT or not 0 < term < LIMIT:
            raise MalformedEntry(f"the entry at {start} claims index {index}, term {term}")
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
