"""Programs that end without a shutdown: each is gone in time, and says no more than it should."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from tests.processes import Processes
from tests.scenario.forgetful import SITUATIONS, THREADS
from tests.scenario.journal import __file__ as JOURNAL

ROOT = Path(__file__).parents[2]
PROMISE = 5.0
DEADLINE = 25.0
ENDINGS = {"return": 0, "exception": 1, "sys.exit": 3, "Ctrl-C": -signal.SIGINT}
LAST_LINE = {"exception": "ValueError: forgotten", "Ctrl-C": "KeyboardInterrupt"}


@dataclass
class End:
    """How a program ended."""

    code: int
    seconds: float
    output: list[str]
    errors: str


@pytest.fixture(scope="module")
def member_without_quorum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of one of three members; the others are gone."""
    directory = tmp_path_factory.mktemp("three")
    with Processes(3, directory=directory, program=[JOURNAL]) as cluster:
        for node in range(3):
            assert 0 == cluster.stop(node)
    return directory / "n1"


@pytest.fixture(scope="module")
def endings(
    member_without_quorum: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], End]]:
    """Run every combination, a few at once, from the first one asked for."""
    directory = tmp_path_factory.mktemp("endings")

    def run(situation: str, ending: str) -> End:
        data = directory / f"{situation} {ending}".replace(" ", "-")
        if situation == "no quorum":
            shutil.copytree(member_without_quorum, data)
        return ended(situation, ending, data)

    with ThreadPoolExecutor(3) as pool:
        futures: dict[tuple[str, str], Future[End]] = {}

        def result(situation: str, ending: str) -> End:
            if not futures:
                every = [(s, e) for s in SITUATIONS for e in ENDINGS]
                futures.update({(s, e): pool.submit(run, s, e) for s, e in every})
            return futures[situation, ending].result()

        yield result
        for future in futures.values():
            future.cancel()


def ended(situation: str, ending: str, data: Path) -> End:
    """Run the program until it waits, let it end, and watch it go."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("RAFT_", "NODE_"))} | {
        "RAFT_DATA_DIR": str(data),
        "RAFT_TIMEOUT_MS": "300",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.scenario.forgetful", situation, ending],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdin is not None
            assert program.stdout is not None
            first = program.stdout.readline()
            began = monotonic()
            if ending == "Ctrl-C":
                program.send_signal(signal.SIGINT)
            else:
                program.stdin.write("x")
                program.stdin.flush()
            output, errors = program.communicate(timeout=DEADLINE)
        finally:
            program.kill()
    return End(program.returncode, monotonic() - began, [first, *output.splitlines()], errors)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_program_without_shutdown_ends(
    endings: Callable[[str, str], End],
    measured: Callable[[str, float], None],
    situation: str,
    ending: str,
) -> None:
    """It ends in time with its own exit code; who waits is told; no traceback but its own."""
    end = endings(situation, ending)
    measured(f"end without shutdown, {situation}, s", end.seconds)
    assert "started\n" == end.output[0], end.errors
    assert ENDINGS[ending] == end.code, end.errors
    assert end.seconds < PROMISE
    assert THREADS == len(end.output) - 1, end.output
    assert (ending in LAST_LINE) == end.errors.count("Traceback"), end.errors
    assert LAST_LINE.get(ending, "") in end.errors
