"""A slice of the simulator's seeds, and proof that it would see a bug.

``tox -e sim -- --seeds 20000`` is the same with larger numbers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.simulation.bugs import BUGS, confirms_itself
from tinyraft.testing import world
from tinyraft.testing.__main__ import report, shrink
from tinyraft.testing.marks import missing
from tinyraft.testing.story import LEADER, Fault, Story, draw, shorter
from tinyraft.testing.world import play

SEEDS = int(os.environ.get("TINYRAFT_SIM_SEEDS", "40"))


@pytest.mark.timeout(300)
def test_no_seed_breaks_a_rule(capsys):
    """Whatever is drawn: safe after every event, and well again when all is mended."""
    found = [play(draw(seed)) for seed in range(SEEDS)]
    assert [] == [(result.seed, result.failure) for result in found if result.failure]
    assert {} == missing(found)
    report(found, took=1.0, jobs=1)
    assert f"{SEEDS} seeds" in capsys.readouterr().out


def test_equal_seeds_give_equal_traces_in_any_process():
    """Also where sets and dictionaries of strings come in another order."""
    here = {f"{seed} {play(draw(seed)).trace}" for seed in range(700, 706)}
    for hash_seed in ("1", "77"):
        there = subprocess.run(
            [sys.executable, "-m", "tinyraft.testing", "--start", "700", "--seeds", "6", "--trace"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert here <= set(there.stdout.splitlines())


def test_another_seed_is_another_story():
    """Else a million seeds would be one."""
    assert 5 == len({play(draw(seed)).trace for seed in range(5)})


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
@pytest.mark.timeout(120)
def test_a_seeded_bug_is_seen(bug, monkeypatch):
    """The simulator fails when the product is wrong."""
    bug(monkeypatch)
    assert any(play(draw(seed)).failure for seed in range(20, 420))


@pytest.mark.timeout(120)
def test_an_old_leader_that_confirms_itself_is_seen(monkeypatch):
    """While a cut-off leader has not noticed and another has written, somebody reads there."""
    calm = {"latency": 0.001, "sync_seconds": 0.001, "think_seconds": 0.01, "max_pending": 1000}
    room = {"snapshot_entries": 10**6, "memory_bytes": 1 << 20, "append_bytes": 2 << 20}
    cuts = tuple(Fault(1.0 + 1.5 * k, "isolate", LEADER, 1.0, 0.9) for k in range(6))
    stories = [
        replace(draw(seed), members=3, clients=4, seconds=11.0, faults=cuts, **calm, **room)
        for seed in range(40)  # it shows in one of five
    ]
    assert "" == play(stories[0]).failure
    confirms_itself(monkeypatch)
    assert any("(I16)" in play(story).failure for story in stories)


def test_a_failure_is_cut_short_and_kept(monkeypatch, tmp_path):
    """What is left still fails in the same way, from a file as well."""
    BUGS[0](monkeypatch)
    long = next(story for story in map(draw, range(400)) if play(story).failure)
    short = shrink(long, tries=60)
    assert len(short.faults) < len(long.faults)
    short.save(tmp_path / "story.json")
    again = Story.load(tmp_path / "story.json")
    assert short == again
    assert play(short).failure == play(again).failure != ""


def test_nothing_is_shorter_than_nothing():
    """The cutting ends."""
    story = replace(draw(1), faults=(), clients=1, members=1)
    assert [] == shorter(story)


def test_a_run_that_met_too_little_is_not_green():
    """Silence counts only for what was tried."""
    tame = [play(replace(draw(seed), faults=())) for seed in range(4)] * 50
    assert "crash in recovery" in missing(tame)


def test_progress_is_demanded(monkeypatch):
    """A cluster that never gets well again is a failure, not a green run."""
    monkeypatch.setattr(world.World, "_is_well", lambda self: False)
    assert "(I22)" in play(draw(3)).failure
