"""What a leader's process holds when more is asked of it than can be done; `benchmarks.memory`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.memory import DEAD, LOST, SLOW, Load, measure

COMMAND_BYTES = 256 << 10
GROWTH_MIB = 48.0  # the log has 16 MiB in memory; the rest is the allocator's
LOAD = Load(
    seconds=4.0, threads=8, rate=100.0, command_bytes=COMMAND_BYTES, timeout=20.0, warm_seconds=0.5
)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="sizes are read from /proc")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("state", [DEAD, LOST, SLOW])
def test_memory_stays_flat(state: str, measured: Callable[[str, float], None]) -> None:
    """Whatever is sent: a hundred MiB of commands leave no trace of their size (P117)."""
    row = measure(state, LOAD)
    start, *later = row["rss_mib"]
    growth = max(later) - start
    measured(f"memory, {state}, MiB more", growth)
    assert growth < GROWTH_MIB, f"{row} on {sys.platform}"
    if state != LOST:
        assert row["outcomes"]["applied"] > 0, f"{row}: a busy machine applies few, but some"
