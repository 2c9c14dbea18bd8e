"""The table of pitfalls is honest: what it names exists, and it leaves nothing out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "pitfalls.md"
ROW = re.compile(r"\| (?P<number>\d+) \| (?P<pitfall>[^|]+) \| (?P<verdict>[^|]*) \|")
STORY = re.compile(r"tests/core/data/\w+\.txt")
TEST = re.compile(r"(?P<file>tests/(?:\w+/)*test_\w+\.py)::(?P<name>test_\w+)(?:\[[^\]]+\])?")
PROOFS = r"`[^`]+`(?:, `[^`]+`)*"
VERDICT = re.compile(
    rf"(?P<proofs>{PROOFS})(?:; not yet: [^`]+)?|not yet: [^`]+|does not apply: [^`]+"
)
LAST = 124


def rows() -> list[re.Match[str]]:
    """Read the table."""
    lines = PAGE.read_text().splitlines()
    found = [ROW.fullmatch(line) for line in lines if re.match(r"\| *\d", line)]
    assert None not in found, "a row is not: number, pitfall, verdict"
    return [row for row in found if row is not None]


def proofs() -> list[str]:
    """Name every test and story of the table, once."""
    verdicts = [VERDICT.fullmatch(row["verdict"]) for row in rows()]
    named = [re.findall(r"`([^`]+)`", found["proofs"] or "") for found in verdicts if found]
    return sorted({name for names in named for name in names})


@cache
def functions_of(file: str) -> set[str]:
    """Name the test functions of a file."""
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_numbers_run_without_a_gap() -> None:
    """Every pitfall has its row, and only one."""
    assert list(range(1, LAST + 1)) == [int(row["number"]) for row in rows()]


def test_every_row_has_a_verdict() -> None:
    """Proved by tests, not yet built, or not ours: nothing else is an answer."""
    without = [row["number"] for row in rows() if not VERDICT.fullmatch(row["verdict"])]
    assert [] == without


@pytest.mark.parametrize("name", proofs())
def test_every_named_test_exists(name: str) -> None:
    """Who renames or removes a test is told which pitfall it stood for."""
    if STORY.fullmatch(name):
        assert (ROOT / name).is_file()
        return
    found = TEST.fullmatch(name)
    assert found, f"{name} is neither a story nor a test"
    assert (ROOT / found["file"]).is_file()
    assert found["name"] in functions_of(found["file"])


def test_every_story_stands_for_a_pitfall_that_it_names() -> None:
    """A story whose promise names a pitfall is in that pitfall's row."""
    named = {int(row["number"]): row["verdict"] for row in rows()}
    for story in sorted((ROOT / "tests" / "core" / "data").glob("*.txt")):
        promise = story.read_text().splitlines()[0]
        for number in map(int, re.findall(r"\bP(\d+)\b", promise)):
            assert f"tests/core/data/{story.name}" in named[number], f"{story.name}: {number}"
