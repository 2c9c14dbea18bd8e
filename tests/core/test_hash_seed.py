"""The core is told nothing by the order of its sets: a process with other hashes does the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
PROGRAM = """
import sys
from pathlib import Path
from tinyraft.testing.script import run_script
print(hash("tinyraft"), file=sys.stderr)
for path in sorted(Path(sys.argv[1]).glob("*.txt")):
    print(path.name)
    print(run_script(path.read_text()))
"""


def told(seed: int) -> tuple[str, str]:
    """Run all stories in a process with that hash seed; return the hash of a text, and the rest."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(DATA)],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    return done.stderr, done.stdout


@pytest.mark.parametrize("seed", [1, 2, 3], ids="hash seed {}".format)
def test_every_story_is_the_same_in_a_process_with_other_hashes(seed: int) -> None:
    """Equal events give equal effects, byte for byte, in whatever process (P115)."""
    hash_of_0, story_of_0 = told(0)
    hash_here, story_here = told(seed)
    assert hash_of_0 != hash_here
    assert story_of_0 == story_here
    assert "figure_8_committed.txt" in story_here
