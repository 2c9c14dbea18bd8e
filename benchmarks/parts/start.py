"""A start on a long log, and the memory that it takes; and the memory of nodes under load."""

from __future__ import annotations

from pathlib import Path
from time import time_ns

import tinyraft
from benchmarks.module import Keeper
from benchmarks.process import resident_mb
from benchmarks.suite import Suite
from benchmarks.systems import nodes
from tinyraft.core.effects import Mark, Write
from tinyraft.core.entry import EntryKind, make_entry
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.wal import Wal

PART = "start"
BATCH = 2_000
COMMAND = b"x" * 128
ENVIRON = {"BENCH_KEEPS_LOG": "1", "RAFT_TIMEOUT_MS": "300"}  # no snapshots; elected soon


def measure(suite: Suite) -> None:
    """Start a node on a log of so many entries, several times."""
    entries = suite.options.entries
    directory = suite.directory / "start"
    fill(directory, entries)
    for round_ in suite.rounds():
        with nodes.running(directory, size=1, environ=ENVIRON) as cluster:
            node = cluster.nodes[0]
            applied = node.ask("caught_up", count=entries)
            figures = {
                "seconds": round(node.ask("start_seconds"), 2),
                "applied_after_seconds": round(applied, 2),
                "resident_mb": round(resident_mb(node.pid), 1),
            }
            suite.take(PART, f"{entries:,} entries of 128 B", round_, figures)
    most = max(resident_mb(node.pid) for node in suite.nodes.nodes)
    suite.take(PART, "a node after the loads", 0, {"resident_mb": round(most, 1)})


def fill(directory: Path, entries: int) -> None:
    """Make the data directory of a cluster of one, and lengthen its log."""
    config = tinyraft.Config.from_env(
        {}, node_id="n0", listen_address="127.0.0.1:0", bootstrap=True, data_dir=directory / "n0"
    )
    with tinyraft.Server(config, Keeper()):
        pass  # founded
    wal, recovered = Wal.open(RealDisk(), directory / "n0" / "wal")
    last, term = recovered.terms.last_index, recovered.hard_state.term
    now = time_ns() // 1000
    for number, first in enumerate(range(last + 1, last + 1 + entries, BATCH), 1):
        stop = min(first + BATCH, last + 1 + entries)
        batch = [
            make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=COMMAND, time_us=now)
            for index in range(first, stop)
        ]
        wal.write([Write(Mark(number), None, None, batch)])
        wal.sync()
    wal.close()
