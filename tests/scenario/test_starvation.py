"""A process that hardly gets to run, or not at all for a while: who leads then."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from tests.processes import Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, check_all, through_caller

TIMEOUT = 1.0
ASLEEP, AWAKE = 0.4, 0.03  # well below the timeout, so that nobody takes the office away


@pytest.mark.timeout(60 + 20 * runs(1))
def test_a_starving_leader_hands_over(
    make_cluster: Callable[..., Processes], measured: Callable[[str, float], None]
) -> None:
    """A leader that sleeps nine tenths of the time is in nobody's way: it hands over by itself."""
    cluster = make_cluster(timeout_ms=round(1000 * TIMEOUT))
    for _ in range(runs(1)):
        leader, never = cluster.leader(), Event()
        others = [node for node in range(3) if node != leader]
        resigned = cluster.log(leader).count("event='resigns'")
        with Load([through_caller(cluster.caller())] * 2) as load:
            load.wait_applied(20)
            began = monotonic()
            while cluster.log(leader).count("event='resigns'") == resigned:
                assert monotonic() < began + 20 * TIMEOUT, "it stays in office"
                cluster.pause(leader)
                never.wait(ASLEEP)
                cluster.resume(leader)
                never.wait(AWAKE)
            cluster.resume(leader)
            measured("a starving leader resigns after, s", monotonic() - began)
            assert cluster.leader() in others
            load.wait_applied(20)
        check_all(cluster, load)


@pytest.mark.timeout(60 + 30 * runs(1))
def test_a_module_that_keeps_the_interpreter_costs_nobody_the_office(
    make_cluster: Callable[..., Processes],
) -> None:
    """For less than an election timeout each time, without a break: and the log names it (P95)."""
    hog = Path(__file__).with_name("hog.py")
    cluster = make_cluster(program=[hog], timeout_ms=round(1000 * TIMEOUT))
    before = cluster.leader()
    term = cluster.wait_converged().term
    caller = cluster.caller()
    commands = [b"%d" % (1e6 * TIMEOUT * share) for share in (0.3, 0.6, 0.4, 0.6)] * 3 * runs(1)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda command: caller.apply(command, timeout=60), commands))
    assert len(commands) == len(set(answers))
    after = cluster.wait_converged()
    assert (term, f"n{before}") == (after.term, after.leader.id)
    log = cluster.log(before)
    assert re.search(r"'module_slow' node='n\d' index=\d+ seconds=0\.[56]", log)
    assert re.search(r"'wake_up_late' .* index=\d+ .*Module\.apply of this entry", log)
    for node in range(3):
        assert "resigns" not in cluster.log(node)
