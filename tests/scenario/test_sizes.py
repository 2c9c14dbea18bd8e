"""Large logs and large states: how long they take, and what memory they cost the library.

Small by default. ``TINYRAFT_ENTRIES=1000000`` and ``TINYRAFT_STATE_MIB=1024`` are the sizes of the
figures in docs/snapshots.md, which the end of the run prints.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.processes import Processes
from tests.scenario.load import Load, through_caller

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
Measured = Callable[[str, float], None]
STORE = Path(__file__).with_name("store.py")
ENTRIES = int(os.environ.get("TINYRAFT_ENTRIES", 10_000))
STATE_MIB = int(os.environ.get("TINYRAFT_STATE_MIB", 48))
WHOLE = {"RAFT_SNAPSHOT_ENTRIES": str(10**9), "RAFT_SNAPSHOT_BYTES": str(1 << 40)}
SHORT = {**WHOLE, "RAFT_TRAILING_BYTES": "0"}
MOST_MIB = 64  # beyond the state itself


def memory(cluster: Processes, node: int, field: str) -> float:
    """What the system says of *node*'s memory, in MiB: VmRSS now, VmHWM at most."""
    for line in Path(f"/proc/{cluster.nodes[node].pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {field}")


def forget_peak(cluster: Processes, node: int) -> None:
    """Let VmHWM begin anew."""
    Path(f"/proc/{cluster.nodes[node].pid}/clear_refs").write_text("5")


def wait_like(cluster: Processes, node: int, other: int, *, seconds: float) -> None:
    """Wait until *node* has applied what *other* has."""

    def is_like() -> bool:
        mine, theirs = cluster.status(node), cluster.status(other)
        return bool(mine and theirs and mine.last_applied >= theirs.last_applied)

    cluster.wait(is_like, f"n{node} to catch up", seconds=seconds)


def take_snapshot(cluster: Processes, node: int) -> None:
    """Have *node* take one of all that it has applied."""
    before = cluster.status(node)
    assert before is not None
    cluster.signal(node, signal.SIGUSR1)

    def is_taken() -> bool:
        status = cluster.status(node)
        return bool(status and status.snapshot_index >= before.last_applied)

    cluster.wait(is_taken, f"a snapshot of n{node}", seconds=60 + STATE_MIB)


@pytest.mark.timeout(120 + ENTRIES / 1000)
def test_a_follower_catches_up_with_a_long_log_under_load(
    make_cluster: Callable[..., Processes], measured: Measured
) -> None:
    """It was down for all of it; what is not in memory any more is read from disk."""
    cluster = make_cluster(program=[STORE], environ=WHOLE, timeout_ms=3000)
    leader = cluster.leader()
    behind = (leader + 1) % 3
    others = [node for node in range(3) if node != behind]
    cluster.kill(behind)
    caller = cluster.caller(others)

    def send(command: bytes) -> bytes | None:
        return caller.apply(command.ljust(128), timeout=30.0)

    began = monotonic()
    with Load([send] * 64) as load:
        load.wait_applied(ENTRIES, seconds=60 + ENTRIES / 1000)
    measured("sizes: entries/s written by 64 threads", ENTRIES / (monotonic() - began))
    forget_peak(cluster, leader)
    before = memory(cluster, leader, "VmRSS")
    with Load([send] * 4) as load:
        started = monotonic()
        cluster.start(behind)
        cluster.wait_ready([behind], seconds=60 + ENTRIES / 1000)
        wait_like(cluster, behind, leader, seconds=60 + ENTRIES / 1000)
        measured("sizes: catching up under load, s", monotonic() - started)
        load.wait_applied(50)
    measured(
        "sizes: leader's memory beyond what it had, MiB", memory(cluster, leader, "VmHWM") - before
    )
    measured("sizes: follower's memory at most, MiB", memory(cluster, behind, "VmHWM"))
    cluster.wait_converged()
    assert len({cluster.query(node) for node in range(3)}) == 1
    cluster.stop(behind)
    started = monotonic()
    cluster.start(behind)
    cluster.wait_ready([behind], seconds=60)
    measured("sizes: restart with the whole log, s", monotonic() - started)


@pytest.mark.timeout(120 + STATE_MIB)
def test_a_large_state_is_installed_in_little_memory(
    make_cluster: Callable[..., Processes], measured: Measured
) -> None:
    """A new member gets the whole state; the library holds a piece of it at a time."""
    cluster = make_cluster(4, program=[STORE], environ=SHORT, started=3, timeout_ms=3000)
    leader = cluster.leader()
    caller = cluster.caller(range(3))
    for _ in range(STATE_MIB // 16):
        caller.apply(b"grow 16", timeout=30.0)
    for _ in range(2):  # the log goes only up to the older of two
        caller.apply(b"more", timeout=30.0)
        cluster.wait_converged()
        for node in range(3):
            take_snapshot(cluster, node)
    forget_peak(cluster, leader)
    before = memory(cluster, leader, "VmRSS")
    with Load([through_caller(caller)] * 2) as load:
        started = monotonic()
        cluster.start(3)
        cluster.wait_ready([3], seconds=60 + STATE_MIB)
        measured("sizes: install under load, s", monotonic() - started)
        load.wait_applied(20)
    assert "snapshot_restored" in cluster.log(3)
    leaders = memory(cluster, leader, "VmHWM") - before
    followers = memory(cluster, 3, "VmHWM") - STATE_MIB
    idle = memory(cluster, leader, "VmRSS") - STATE_MIB
    measured("sizes: install, leader's memory beyond what it had, MiB", leaders)
    measured("sizes: install, follower's memory beyond the state, MiB", followers)
    measured("sizes: a node's memory beyond the state, idle, MiB", idle)
    assert leaders < MOST_MIB
    assert followers - idle < MOST_MIB
    cluster.wait_converged()
    assert len({cluster.query(node) for node in range(4)}) == 1
