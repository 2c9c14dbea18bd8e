"""Ctrl-C, wherever it meets the main thread: nothing hangs, and nothing is left half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenario.conftest import runs

ROOT = Path(__file__).parents[2]
ROUNDS = 100


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * runs(1))
@pytest.mark.parametrize("seed", range(1, 1 + runs(1)))
def test_an_interrupt_leaves_nothing_half_done(tmp_path: Path, seed: int) -> None:
    """Calls, the closing of callers, exports and shutdowns, each met at a random moment."""
    program = subprocess.run(
        [sys.executable, "-m", "tests.scenario.interrupted", str(seed), str(ROUNDS)],
        cwd=ROOT,
        env=os.environ | {"RAFT_DATA_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50.0,
        check=False,
    )
    assert (0, ["fine"]) == (program.returncode, program.stdout.splitlines()), program.stderr
