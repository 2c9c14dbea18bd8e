"""The catalogue of seeded bugs fits the source, and a few of them a day are tried for real.

``TINYRAFT_MUTATIONS_SLICE=17`` chooses which; by default the day of the year does, so that the
whole catalogue comes round by itself. `python -m tests.mutations` tries them all.
"""

from __future__ import annotations

import ast
import os
from datetime import date
from pathlib import Path

import pytest

from tests.mutations.__main__ import main
from tests.mutations.catalogue import MISTAKES, ROOT, Mutation, absent, load, part_of
from tests.mutations.runner import BEGUN, Bench, first_failure

CATALOGUE = load()
A_DAY = 3


def test_every_mistake_is_made_or_said_to_be_impossible() -> None:
    """None of them is forgotten, and none that can be made is still called impossible."""
    made = {mutation.mistake for mutation in CATALOGUE}
    assert sorted(MISTAKES) == sorted([*made, *absent()])
    assert all(absent().values())


def test_every_name_is_used_once() -> None:
    """Two bugs of one name would hide each other in the table."""
    names = [mutation.id for mutation in CATALOGUE]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("mutation", CATALOGUE, ids=lambda mutation: mutation.id)
def test_a_patch_fits(mutation: Mutation) -> None:
    """It stands where it says, exactly once; what it makes is Python, and differs from before."""
    assert 1 == mutation.occurrences(ROOT)
    before, after = (ROOT / mutation.file).read_text(), mutation.patched(ROOT)
    assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))


@pytest.mark.parametrize("mutation", CATALOGUE, ids=lambda mutation: mutation.id)
def test_every_named_test_exists(mutation: Mutation) -> None:
    """A test that was renamed takes its name in the catalogue along."""
    assert mutation.caught_by
    for test in mutation.caught_by:
        path, _, name = test.partition("::")
        function, _, case = name.partition("[")
        assert not function or f"\ndef {function}(" in (ROOT / path).read_text()
        if "test_story" in function:
            assert (ROOT / "tests/core/data" / f"{case[:-1].replace(' ', '_')}.txt").is_file()


def todays(number: int) -> list[Mutation]:
    """Choose a few; consecutive numbers go round the whole catalogue."""
    first = number * A_DAY
    return [CATALOGUE[(first + more) % len(CATALOGUE)] for more in range(A_DAY)]


def test_every_bug_has_its_day() -> None:
    """Within a year each is tried several times."""
    seen = {mutation.id for number in range(1, 123) for mutation in todays(number)}
    assert seen == {mutation.id for mutation in CATALOGUE}


@pytest.mark.timeout(300)  # seconds on a quiet machine, a minute where six others run
def test_the_bugs_of_the_day_are_noticed(tmp_path: Path) -> None:
    """Each by a test that the catalogue names for it, which passes without the bug."""
    default = str(date.today().timetuple().tm_yday)
    mutations = todays(int(os.environ.get("TINYRAFT_MUTATIONS_SLICE", default)))
    bench = Bench(tmp_path)
    bench.prepare()
    named = sorted({test for mutation in mutations for test in mutation.caught_by})
    assert [] == bench.failing_without_bug(named)
    survivors = [
        verdict
        for verdict in (bench.judge(mutation, only_named=True) for mutation in mutations)
        if not verdict.is_caught
    ]
    assert [] == survivors


def test_a_bug_that_is_none_survives(tmp_path: Path) -> None:
    """The runner believes no test that passes, and says so: else it would prove nothing."""
    harmless = Mutation(
        id="M0",
        breaks="nothing",
        file="tinyraft/core/quorum.py",
        old="    return size // 2 + 1\n",
        new="    return 1 + size // 2\n",
        caught_by=("tests/core/test_quorum.py",),
    )
    bench = Bench(tmp_path)
    bench.prepare()
    verdict = bench.judge(harmless, only_named=True)
    assert (False, "") == (verdict.is_caught, verdict.trouble)
    broken = Mutation(**{**{n: getattr(harmless, n) for n in Mutation.__slots__}, "new": "    (\n"})
    verdict = bench.judge(broken, only_named=True)
    assert not verdict.is_caught
    assert "imported" in verdict.trouble
    assert [] == list(ROOT.glob("tests/mutations/*.orig"))
    assert harmless.old in (ROOT / harmless.file).read_text()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("tests/a.py::test_x PASSED\n1 passed", ""),
        ("FAILED tests/a.py::test_x[a b] - assert 1 == 2\n", "tests/a.py::test_x[a b]"),
        ("ERROR tests/a.py::test_x - OSError\n", "tests/a.py::test_x"),
        (
            "tests/a.py::test_x PASSED [ 9%]\ntests/a.py::test_y[a b] \n+++ Timeout +++\n",
            "tests/a.py::test_y[a b]",
        ),
    ],
    ids=["nothing", "a failure", "an error", "a hang"],
)
def test_the_first_failure_is_read(output: str, expected: str) -> None:
    """A hang counts because pytest's timeout shows it; what is merely silent does not."""
    assert expected == first_failure(output)
    assert BEGUN.search("no test here") is None


def test_parts_make_up_the_whole() -> None:
    """Every bug is in exactly one part."""
    parts = [part_of(CATALOGUE, f"{number}/4") for number in range(1, 5)]
    assert sorted(m.id for m in CATALOGUE) == sorted(m.id for part in parts for m in part)
    for wrong in ("0/4", "5/4", "x"):
        with pytest.raises(ValueError, match="I/N"):
            part_of(CATALOGUE, wrong)


def test_an_unknown_name_is_refused() -> None:
    """A misspelt name does not pass as "all caught"."""
    with pytest.raises(SystemExit, match="M999"):
        main(["--only", "M999"])
