"""The file `synced`: how far the log is known to be on disk.

Law: it claims only what a finished sync covered, and is written after it. It is not synced itself
while the log runs: after a killed process it is exact, after a power loss perhaps older, and a
damaged one is no knowledge. So it never accuses a legal crash, and it tells rot in the last synced
frame from a torn tail.

The bytes, little-endian (36): 8 bytes "tRsynced" · u64 log id · u64 segment number ·
u64 bytes of that segment that are synced · u32 CRC of the 32 bytes before
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from tinyraft.storage.disk import Disk, File

NAME = "synced"
FIELDS = struct.Struct("<8sQQQ")
CHECKSUM = struct.Struct("<I")
MAGIC = b"tRsynced"
SEED = 0x7379_6E63


@dataclass(slots=True)
class Known:
    """A place in the log; everything before is on disk."""

    log_id: int
    number: int
    offset: int


def encode_known(known: Known) -> bytes:
    """Make the file's bytes."""
    fields = FIELDS.pack(MAGIC, known.log_id, known.number, known.offset)
    return fields + CHECKSUM.pack(crc32(fields, SEED))


def decode_known(data: bytes) -> Known | None:
    """Read the file's bytes; None when they are damaged."""
    if len(data) != FIELDS.size + CHECKSUM.size:
        return None
    fields = data[: FIELDS.size]
    magic, log_id, number, offset = FIELDS.unpack(fields)
    if magic != MAGIC or CHECKSUM.unpack_from(data, FIELDS.size)[0] != crc32(fields, SEED):
        return None
    return Known(log_id, number, offset)


class SyncedFile:
    """The open file."""

    def __init__(self, file: File) -> None:
        """Use an open *file*."""
        self._file = file

    @classmethod
    def open(cls, disk: Disk, directory: Path) -> SyncedFile:
        """Open the file in *directory*, or make it."""
        path = directory / NAME
        return cls(disk.open(path) if disk.exists(path) else disk.create(path))

    def write(self, known: Known) -> None:
        """Note a place, without a sync."""
        self._file.pwrite(encode_known(known), 0)

    def sync(self) -> None:
        """Put what was noted on disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file; syncs nothing."""
        self._file.close()


def read_known(disk: Disk, directory: Path) -> Known | None:
    """Return what the file in *directory* knows, None without a sound one."""
    path = directory / NAME
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        return decode_known(file.pread(FIELDS.size + CHECKSUM.size, 0))
    finally:
        file.close()
