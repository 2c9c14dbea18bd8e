"""The data files: one story each, told by a cluster of real cores (`tinyraft.testing.script`).

``pytest tests/core --rewrite`` writes the files anew. Read the difference line by line, and commit
only lines that you can explain from the dissertation: what is printed is what the core *does*, and
only the reader knows whether it is what it *should* do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyraft.testing.script import run_script

FILES = sorted((Path(__file__).parent / "data").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem.replace("_", " ") for path in FILES])
def test_story(path: Path, pytestconfig: pytest.Config) -> None:
    """Every command of the file does exactly what is written below it."""
    text = path.read_text()
    actual = run_script(text)
    if pytestconfig.getoption("--rewrite", default=False):
        path.write_text(actual)
        return
    assert text == actual


@pytest.mark.parametrize("path", FILES, ids=[path.stem.replace("_", " ") for path in FILES])
def test_story_says_what_it_promises(path: Path) -> None:
    """A file opens with its promise and where that comes from."""
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(").")
