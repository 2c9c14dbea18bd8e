"""Damaged directories: bits flipped, files cut, lost, doubled, mixed up; and how they are judged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.storage.life import (
    DATA,
    LOG_ID,
    MEMBER,
    WAL,
    Life,
    Node,
    fixed_life,
    make_disk,
    make_entries,
    start,
    vote,
    write,
)
from tinyraft.errors import CorruptLog
from tinyraft.storage.data_dir import IDENTITY, LOCK
from tinyraft.storage.segment import segment_name
from tinyraft.storage.synced import NAME
from tinyraft.testing.disk import SimDisk, kept

Files: TypeAlias = dict[str, bytes]  # by their paths below the data directory
SYNCED = f"wal/{NAME}"


def segment(number: int) -> str:
    """Name a segment as `Files` does."""
    return f"wal/{segment_name(number)}"


def small_life(*, close: bool) -> Life:
    """Fill three segments; either close the log, or kill it with a write that was not synced."""
    life = Life(make_disk())
    life.open()
    life.write(write(make_entries(1, 2, term=1), state=vote(1, "a")))
    life.sync()
    life.write(write(make_entries(2, 2, term=2, command=b"y" * 60), state=vote(2), cut=2))
    life.write(write(make_entries(4, 1, term=2, command=b"w" * 60)))
    life.sync()
    life.write(write(make_entries(5, 1, term=2, command=b"v" * 60)))
    life.sync()
    if close:
        life.close()
    else:
        life.write(write(make_entries(6, 1, term=2), state=vote(3, "b")))
    life.disk = life.disk.crash(kept, names=lambda total: total)
    return life


def foreign_files() -> Files:
    """Return the directory of another node, which has as many segments."""
    life = Life(make_disk())
    fixed_life(life)
    files = files_of(life.disk)
    other = make_disk()
    data = {name: data for name, data in files.items()}
    del other
    return data


def files_of(disk: SimDisk) -> Files:
    """Return all files of the data directory."""
    return {str(path.relative_to(DATA)): data for path, data in disk.files().items()}


def disk_with(files: Files) -> SimDisk:
    """Return a disk with these files as the data directory."""
    disk = make_disk()
    disk.mkdir(WAL)
    disk.sync_dir(DATA)
    for name, data in files.items():
        disk.put(DATA / name, data)
    return disk


def outcome(files: Files) -> Node | CorruptLog:
    """Start with these files; a refusal says where and what to do, anything else is raised."""
    try:
        return start(disk_with(files))
    except CorruptLog as error:
        refusal = error
    assert refusal.path.startswith(f"{DATA}/")
    assert refusal.path in str(refusal)
    assert refusal.offset == -1 or f"byte {refusal.offset}" in str(refusal)
    assert "new NODE_ID" in str(refusal)
    return refusal
