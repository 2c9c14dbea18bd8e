"""How long nobody answers when the leader is killed, with the timeout that everybody has: 3 s.

``TINYRAFT_RUNS=30`` kills thirty leaders in each cluster. The bounds are shares of the election
timeout: a machine that is busy may be slow, but not as slow as waiting for a silence to last.
"""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable
from threading import Thread
from time import monotonic

import pytest

from tests.processes import Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, through_caller
from tinyraft.caller import Caller
from tinyraft.errors import MaybeApplied

TIMEOUT = 3.0  # the default


class First:
    """A thread that applies until it succeeds once."""

    def __init__(self, caller: Caller) -> None:
        """Prepare; the first try is made by `start`."""
        self.ended = 0.0
        self._caller = caller
        self._thread = Thread(target=self._run, name="first")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while not self.ended:
            try:
                self._caller.apply(b"first-%x" % id(self), timeout=10.0)
            except MaybeApplied:
                continue
            self.ended = monotonic()

    def since(self, moment: float) -> float:
        """Wait for the success; seconds from *moment* to it."""
        self._thread.join()
        return self.ended - moment


@pytest.mark.parametrize("count", [3, 5], ids="of {}".format)
@pytest.mark.timeout(120 + 15 * runs(3))
def test_a_killed_leader_is_replaced_long_before_its_silence_would_tell(
    make_cluster: Callable[..., Processes], measured: Callable[[str, float], None], count: int
) -> None:
    """A leader dies: most callers have an answer within a tenth of the election timeout."""
    cluster = make_cluster(count, timeout_ms=round(1000 * TIMEOUT))
    found: list[float] = []
    for _ in range(runs(3)):
        cluster.wait_converged()
        leader = cluster.leader()
        idle = cluster.caller()
        idle.apply(b"warm")
        callers = {"that was idle": First(idle), "that is new": First(cluster.caller())}
        with Load([through_caller(cluster.caller())]) as load:
            load.wait_applied(20)
            killed = monotonic()
            cluster.signal(leader, signal.SIGKILL)
            for one in callers.values():
                one.start()
            cluster.wait_exit(leader)
            for name, one in callers.items():
                found.append(one.since(killed))
                measured(f"failover of {count}, a caller {name}, s", found[-1])
            load.wait_applied(20)
            found.append(load.first_applied_since(killed))
            measured(f"failover of {count}, a caller with a call under way, s", found[-1])
        cluster.start(leader)
        cluster.wait_ready()
    assert statistics.median(found) < TIMEOUT / 10
