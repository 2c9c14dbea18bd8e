"""The benchmarks measure, and judge what they measured. No figure of this run means anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.goals import goals
from benchmarks.load import load
from benchmarks.report import tables, verdicts
from benchmarks.scale import Setting, measure
from benchmarks.suite import Found, Sample

ROOT = Path(__file__).parent.parent
PARTS = "threads,trail,start" if sys.platform == "linux" else "threads,trail"
SYSTEMS = ("ceiling, local", "tinyraft, local", "ceiling, remote", "tinyraft, remote", "gRPC echo")


def sample(what: str, *, round_: int, part: str = "threads", **figures: float) -> Sample:
    """Make a measurement."""
    return Sample(part, what, round_, figures)


@pytest.mark.timeout(180)
def test_a_small_run_fills_in_every_field(tmp_path: Path) -> None:
    """`python -m benchmarks` starts all processes, measures, judges, writes JSON, and ends."""
    file = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--only", PARTS]
    run = subprocess.run(
        [*command, "--directory", str(tmp_path), "--json", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert 0 == run.returncode, run.stderr
    found = json.loads(file.read_text())
    assert {"machine", "options", "samples", "goals", "notes"} == set(found)
    assert {"system", "python", "grpcio", "processors", "load_average"} == set(found["machine"])
    figures = {(one["part"], one["what"]): one["figures"] for one in found["samples"]}
    for threads in found["options"]["threads"]:
        for system in SYSTEMS:
            row = figures["threads", f"{system} @{threads}"]
            assert {"threads", "per_second", "p50_ms", "p99_ms"} <= set(row)
            assert row["per_second"] > 0
    assert figures["threads", "tinyraft, local @1"]["syncs_per_command"] > 0
    assert figures["trail", "followers' modules @4"]["p50_ms"] > 0
    if "start" in PARTS:
        assert figures["start", "5,000 entries of 128 B"]["resident_mb"] > 0
    assert {"goal", "figure", "asked", "is_met", "note"} == set(found["goals"][0])
    assert "| goal " in run.stdout
    assert ["run.json"] == [path.name for path in tmp_path.iterdir()], "something is left behind"


def test_a_ratio_is_taken_within_each_round() -> None:
    """A noisy round, in which both systems were slow, does not count as slowness of one."""
    found = Found()
    for round_, (reference, ours) in enumerate([(1000, 800), (100, 80), (2000, 1600)]):
        found.samples.append(sample("ceiling, local @16", round_=round_, per_second=reference))
        found.samples.append(sample("tinyraft, local @16", round_=round_, per_second=ours))
    ratio = found.ratio("threads", "tinyraft, local @16", "ceiling, local @16", "per_second")
    assert 0.8 == ratio
    assert 800 == found.middle("threads", "tinyraft, local @16", "per_second")


def test_a_goal_is_met_missed_or_not_measured() -> None:
    """What was not measured is not called met, and not missed either."""
    found = Found()
    for threads, ours in ((16, 900), (64, 300)):
        for what, rate in (("ceiling, local", 1000), ("tinyraft, local", ours)):
            row = {"per_second": rate, "p50_ms": 1.0, "p99_ms": 2.0}
            found.samples.append(sample(f"{what} @{threads}", round_=0, **row))
    judged = {goal.name: goal for goal in goals(found)}
    met = [judged[f"server.apply / ceiling, {n} threads"].is_met for n in (16, 64, 256)]
    assert [True, False, None] == met
    text = verdicts(list(judged.values()))
    assert "NOT MET" in text
    assert "256" not in text
    assert any("900/s, 1, 2" in one for one in tables(found))


def test_a_run_without_any_system_names_no_goal_as_met() -> None:
    """An empty run proves nothing."""
    assert {None} == {goal.is_met for goal in goals(Found())}


def test_a_load_counts_what_was_answered_in_time() -> None:
    """Rate and latency come from the same calls; the first one counts, however slow."""
    row = load(lambda: None, threads=2, seconds=0.05, warm=0.01)
    assert row["per_second"] > 0
    assert row["p50_ms"] <= row["p99_ms"]


def test_a_load_fails_with_its_call() -> None:
    """A failing call is no fast call."""

    def fail() -> None:
        raise KeyError("no")

    with pytest.raises(RuntimeError, match="KeyError"):
        load(fail, threads=2, seconds=5.0, warm=0.0)


def test_the_simulated_latency_is_what_the_protocol_allows() -> None:
    """One caller waits for one round trip and one sync of a follower, whatever the leader syncs."""
    found = measure(Setting(members=3, round_trip_ms=5.0, sync_ms=2.0))
    assert 7.0 == pytest.approx(found.p50_ms)
    assert 1.0 == pytest.approx(found.syncs_per_command, rel=0.01)  # now and then a digest


def test_simulated_batches_grow_with_the_callers() -> None:
    """Who comes while a batch is under way rides with the next: no more syncs for more commands."""
    found = measure(Setting(callers=64))
    assert found.p50_ms <= 2 * Setting().cycle * 1e3
    assert found.syncs_per_command <= 2 / 64
