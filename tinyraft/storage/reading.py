"""Entries from the disk, for a follower or an applier that is behind what is in memory (5.1).

Law: an entry comes back only with its frame's checksums right, below the limit of its span and in
its place. Only as much is held in memory as is asked for, and a window of one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyraft.core.entry import Entry, Index, MalformedEntry, decode_entries
from tinyraft.storage.disk import Disk, File
from tinyraft.storage.frame import BadFrame, FrameKind, frames_between
from tinyraft.storage.places import Span
from tinyraft.storage.segment import refuse, segment_name


def read_entries(
    disk: Disk, directory: Path, spans: Sequence[Span], *, after: Index, to: Index, max_bytes: int
) -> list[Entry]:
    """Read the entries behind *after* up to *to*, as many as fit *max_bytes* but at least one.

    Raises:
        CorruptLog: A frame is damaged.
        OSError: The disk failed; `FileNotFoundError`: a segment was removed.
    """
    entries: list[Entry] = []
    size = 0
    for span in spans:
        path = directory / segment_name(span.header.number)
        file = disk.open(path)
        try:
            for entry in entries_of(span, file, path):
                if entry.index <= after:
                    continue
                size += entry.size
                if entry.index > to or (entries and size > max_bytes):
                    return entries
                entries.append(entry)
        finally:
            file.close()
        if after + len(entries) + 1 < span.limit:
            return entries  # the rest of the span is not written yet
    return entries


def entries_of(span: Span, file: File, path: Path) -> Iterator[Entry]:
    """Read the entries of one span.

    Raises:
        CorruptLog: A frame is damaged, or has other entries than belong there.
        OSError: The disk failed.
    """
    place, expected = span.start, span.first
    try:
        for frame, body in frames_between(file, span.start, span.stop, seed=span.header.seed):
            if frame.kind == FrameKind.ENTRIES:
                for entry in decode_entries(body):
                    if entry.index >= span.limit:
                        return
                    if entry.index != expected:
                        raise BadFrame(f"entry {entry.index} where {expected} belongs")
                    expected += 1
                    yield entry
            place = frame.end
    except (BadFrame, MalformedEntry) as bad:
        refuse(f"the entries from {expected} on can't be read ({bad})", path=path, offset=place)
