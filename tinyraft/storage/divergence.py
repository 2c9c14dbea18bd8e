"""The file `diverged`: this node's module came to something else than a majority's.

Law: that it is there is what counts, so a damaged one still keeps the node out; its text is for
people. Nothing of tinyraft removes it: whoever empties the directory does.

The text: ``after 120 until 140``, the range of entries in which it happened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tinyraft.core.entry import Index
from tinyraft.storage.disk import Disk, failures
from tinyraft.storage.replacing import replace_file

NAME = "diverged"
MOST_BYTES = 1024
TEXT = re.compile(rb"after ([0-9]{1,19}) until ([0-9]{1,19})\n")


@dataclass(slots=True, frozen=True)
class Divergence:
    """Where this node's module left the majority's.

    Attributes:
        after: The last check at which they agreed; 0 when none is known.
        until: The check at which they did not; 0 when the note of it is damaged.
    """

    after: Index
    until: Index

    def __str__(self) -> str:
        """Say what it means and what to do."""
        where = f"in the entries {self.after + 1} to {self.until}" if self.until else "before"
        return (
            f"its module came to something else than those of a majority {where}: it gives no"
            " answers and takes no snapshots. Find what the module asks of this machine (time,"
            " chance, files, order of a set), remove this member, and start it with an empty data"
            " directory and a new NODE_ID"
        )


def note_divergence(disk: Disk, directory: Path, divergence: Divergence) -> None:
    """Keep *divergence* in *directory*; blocks until it is on disk.

    Raises:
        StorageFailed: The disk failed or is full; a restart may forget it.
    """
    path = directory / NAME
    with failures(path):
        replace_file(disk, path, b"after %d until %d\n" % (divergence.after, divergence.until))


def read_divergence(disk: Disk, directory: Path) -> Divergence | None:
    """Return what is noted in *directory*, None for nothing.

    Raises:
        StorageFailed: The disk failed.
    """
    path = directory / NAME
    with failures(path):
        if not disk.exists(path):
            return None
        file = disk.open(path)
        try:
            found = TEXT.fullmatch(file.pread(MOST_BYTES, 0))
        finally:
            file.close()
    return Divergence(int(found[1]), int(found[2])) if found else Divergence(0, 0)
