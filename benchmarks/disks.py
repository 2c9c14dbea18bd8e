"""What becomes of a sync in a node that is measured: counted, left out, or made slower.

Law: for a process of the benchmarks only. `tinyraft.storage.disk` sends every sync of a file and of
a directory through one function each, and these two names are replaced here, before a node starts.
A node whose syncs are only counted pays one more call of a function for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tinyraft.storage import disk

KINDS = ("durable", "no sync", "slow sync")
SLOW_SECONDS = 0.002  # what a cloud disk adds

Sync = Callable[[int], None]


class Counter:
    """How many syncs of files there were."""

    def __init__(self) -> None:
        """Begin at none."""
        self.count = 0


def install(kind: str) -> Counter:
    """Let this process's disk be of *kind*, and count the syncs of its files."""
    counter = Counter()
    really = disk.sync_data

    def sync(fd: int) -> None:
        counter.count += 1
        if kind == "slow sync":
            time.sleep(SLOW_SECONDS)
        if kind != "no sync":
            really(fd)

    assert kind in KINDS, kind
    disk.sync_data = sync
    if kind == "no sync":
        disk.sync_directory = ignore
    return counter


def ignore(fd: int) -> None:
    """Promise nothing."""
    del fd
