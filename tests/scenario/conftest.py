"""What the scenarios share: the cluster of processes, their sizes, and the figures they measure.

Default sizes are small. ``TINYRAFT_RUNS=50`` repeats the rounds of each scenario that has rounds so
often; the figures (failover times, exits) are printed at the end of the run.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.scenario.load")

from tests.processes import Processes  # noqa: E402  # after its helpers are registered

JOURNAL = Path(__file__).with_name("journal.py")
FIGURES = pytest.StashKey[dict[str, list[float]]]()
CLUSTERS = pytest.StashKey[list[Processes]]()


def runs(usual: int) -> int:
    """How many rounds: *usual*, or what TINYRAFT_RUNS says."""
    return int(os.environ.get("TINYRAFT_RUNS", usual))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Note a figure under a name."""
    figures = request.config.stash.setdefault(FIGURES, {})
    return lambda name, value: figures.setdefault(name, []).append(value)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, {})
    if figures:
        terminalreporter.section("figures of the scenarios")
    for name, values in sorted(figures.items()):
        middle = statistics.median(values)
        terminalreporter.write_line(
            f"{name}: n={len(values)} median={middle:.3f} max={max(values):.3f} sum={sum(values):g}"
        )


@pytest.fixture
def make_cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make clusters that end with the test, and show their logs when it fails."""
    made = request.node.stash.setdefault(CLUSTERS, [])
    with ExitStack() as ending:

        def make(count: int = 3, *, name: str = "", **options: Any) -> Processes:
            directory = tmp_path / (name or "cluster")
            directory.mkdir()
            options.setdefault("program", [JOURNAL])
            cluster = Processes(count, directory=directory, **options)
            made.append(cluster)
            return ending.enter_context(cluster)

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the nodes wrote beside what the test wrote."""
    report = yield
    if report.failed and report.when == "call":
        for cluster in item.stash.get(CLUSTERS, []):
            report.sections += [(one.name, cluster.last_words(one)) for one in cluster.nodes]
    return report


@pytest.fixture
def cluster(make_cluster: Callable[..., Processes]) -> Processes:
    """Three voters, ready."""
    return make_cluster()
