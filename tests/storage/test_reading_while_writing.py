"""Readers beside the writer: whatever is cut, rolled or removed, nothing stale is read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Event

import pytest

from tests.storage.life import make_entries, snapshot_of, vote, write
from tinyraft.core.entry import Entry
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import Wal

ROUNDS = 1500


def read_at_random(wal: Wal, random: Random, stop: Event) -> tuple[int, int]:
    """Read the log at random places until told to stop; count reads and entries."""
    reads = total = 0
    while not stop.is_set():
        after = max(0, wal.first_index - 1 + random.randint(-3, 400))
        most = random.choice((1, 5000, 10**6))
        entries = wal.read(after, after + 300, max_bytes=most)
        check_run(entries, after)
        reads += 1
        total += len(entries)
    return reads, total


def check_run(entries: list[Entry], after: int) -> None:
    """What is read follows on *after*, and is of one branch: terms do not go back.

    Each command names its index and term, so no entry stands for another.
    """
    for at, entry in enumerate(entries, start=after + 1):
        assert at == entry.index
        assert b"%d/%d " % (entry.index, entry.term) == entry.command[:-100]
    terms = [entry.term for entry in entries]
    assert sorted(terms) == terms


def named(first: int, count: int, term: int) -> list[Entry]:
    """Return entries whose commands say who they are."""
    made = []
    for index in range(first, first + count):
        command = b"%d/%d " % (index, term) + b"c" * 100
        made += make_entries(index, 1, term=term, command=command)
    return made


def live(wal: Wal, random: Random, compact: Callable[[int], object]) -> tuple[list[Entry], int]:
    """Append, cut, roll and compact; return what must be there, and from which index on."""
    truth: list[Entry] = []
    term, floor = 1, 0
    wal.write([write(state=vote(1))])
    for turn in range(ROUNDS):
        cut = None
        if len(truth) > floor and random.random() < 0.2:
            cut = random.randint(max(floor + 1, len(truth) - 30), len(truth))
            del truth[cut - 1 :]
            term += 1
        new = named(len(truth) + 1, random.randint(0, 20), term)
        wal.write([write(new, state=vote(term), cut=cut)])
        truth += new
        if turn % 40 == 39 and len(truth) > 400:
            floor = max(floor, len(truth) - 300)
            compact(floor)
    return truth, floor


def test_readers_see_one_branch_and_nothing_stale(tmp_path: Path) -> None:
    """Promise: read, append, cut, roll and compact at the same time; in the end all is there."""
    wal, _ = Wal.open(RealDisk(), tmp_path / "wal", segment_bytes=40_000, log_id=7)
    stop = Event()
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read_at_random, wal, Random(seed), stop) for seed in range(2)]
        compactions: list[Future[None]] = []
        try:
            truth, floor = live(
                wal, Random(5), lambda at: compactions.append(pool.submit(wal.compact, at))
            )
        finally:
            stop.set()
        for compaction in compactions:
            compaction.result(30)
        for reader in readers:
            reads, entries = reader.result(30)
            assert reads > 50
            assert entries > 1000
    first = wal.first_index
    assert 1 < first <= floor + 1
    assert truth[first - 1 :] == wal.read(first - 1, 10**9, max_bytes=10**9)
    wal.close()
    snapshot = snapshot_of(floor, truth[floor - 1].term)
    _, recovered = Wal.open(RealDisk(), tmp_path / "wal", log_id=7, snapshots=[snapshot])
    assert truth[recovered.terms.base_index :] == recovered.entries
    assert recovered.terms.base_index < first


def read_newest(snapshots: Snapshots, stop: Event) -> int:
    """Read the newest snapshot again and again; count how often that went well."""
    reads = 0
    while not stop.is_set():
        newest = snapshots.newest
        assert newest is not None
        with suppress(FileNotFoundError):
            assert newest.size == len(snapshots.raw(newest, offset=0, size=newest.size))
            reads += 1
    return reads


@pytest.mark.parametrize("keep", [1, 2])
def test_snapshots_are_written_read_and_pruned_at_once(tmp_path: Path, keep: int) -> None:
    """Promise: a reader of the newest one either has it whole, or is told that it is gone."""
    snapshots = Snapshots.open(RealDisk(), tmp_path / "snapshots")
    snapshots.write(snapshot_of(1, 1), [b"1" * 1000], cluster_id="c")
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read_newest, snapshots, stop)
        try:
            for index in range(2, 60):
                snapshots.write(snapshot_of(index, 1), [b"%d" % index * 1000], cluster_id="c")
                assert max(1, index + 1 - keep) == snapshots.prune(keep=keep)
        finally:
            stop.set()
        assert reader.result(30) > 0
    assert keep == len(list((tmp_path / "snapshots").iterdir()))
