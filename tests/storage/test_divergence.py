"""The note that keeps a node out: over restarts, power losses and damage."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tinyraft.errors import StorageFailed
from tinyraft.storage.divergence import NAME, Divergence, note_divergence, read_divergence
from tinyraft.testing.disk import Fault, SimDisk

ROOT = Path("/")
FOUND = Divergence(120, 140)


def test_what_is_noted_is_read() -> None:
    """Promise: the range comes back, also after a power loss."""
    disk = SimDisk()
    assert read_divergence(disk, ROOT) is None
    note_divergence(disk, ROOT, FOUND)
    assert FOUND == read_divergence(disk.crash(), ROOT)
    note_divergence(disk, ROOT, Divergence(1, 2))
    assert Divergence(1, 2) == read_divergence(disk.crash(), ROOT)


@pytest.mark.parametrize("content", [b"", b"x", b"after 1", b"after 1 until 2", b"\0" * 2000])
def test_a_damaged_note_still_counts(content: bytes) -> None:
    """Promise: whoever was out stays out."""
    disk = SimDisk()
    note_divergence(disk, ROOT, FOUND)
    disk.put(ROOT / NAME, content)
    found = read_divergence(disk, ROOT)
    assert Divergence(0, 0) == found
    assert "empty data directory" in str(found)


def test_a_crash_leaves_a_whole_note_or_none() -> None:
    """Promise: at each call of the disk, and what is left behind is in nobody's way."""
    for nth in range(20):
        disk = SimDisk()
        disk.fail(Fault(nth, errno.EIO, forever=True))
        try:
            note_divergence(disk, ROOT, FOUND)
        except StorageFailed:
            disk.heal()
            disk = disk.crash(lambda change: (0, len(change.data)), names=lambda count: count)
            assert read_divergence(disk, ROOT) in (None, FOUND)
            note_divergence(disk, ROOT, FOUND)
            assert FOUND == read_divergence(disk.crash(), ROOT)
        else:
            assert nth > 3
            return
    pytest.fail("it never went through")
