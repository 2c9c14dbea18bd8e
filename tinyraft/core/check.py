"""What a check of agreement says: the word on an earlier one (DIGEST entries of the log).

Law: a check changes no state, so one that a newer tinyraft wrote otherwise is passed over. Its
place in the log is all that members need to compare what they have there.

The command is empty, or u64 index · 16 bytes digest, little-endian; a digest of zeros says that no
majority had the same.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tinyraft.core.entry import Index

FIELDS = struct.Struct("<Q16s")
NONE = bytes(16)


@dataclass(slots=True, frozen=True)
class Verdict:
    """What a majority of voters had at the check *index*; nothing when they had no one thing."""

    index: Index
    digest: bytes


def encode_verdict(verdict: Verdict | None) -> bytes:
    """Make a check's command."""
    return b"" if verdict is None else FIELDS.pack(verdict.index, verdict.digest or NONE)


def decode_verdict(command: bytes) -> Verdict | None:
    """Read a check's command."""
    if len(command) != FIELDS.size:
        return None
    index, digest = FIELDS.unpack(command)
    return Verdict(index, b"" if digest == NONE else digest)
