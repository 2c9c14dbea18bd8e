"""Every node is restarted in turn, under load, and no caller notices more than a short breath.

``TINYRAFT_RUNS=30`` goes round thirty times. The election timeout is the default one, of which a
gap is bounded to a share: no caller waits until a silence tells of a leader that left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from time import monotonic

import pytest

from tests.processes import Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, check_all, through_caller

TIMEOUT = 3.0  # the default
CALLERS = 4


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(runs(1)), ids="round {}".format)
def test_a_rolling_restart_fails_no_call(
    make_cluster: Callable[..., Processes], measured: Callable[[str, float], None], number: int
) -> None:
    """SIGTERM, the exit, the start and readiness, node after node: every call succeeds, soon."""
    del number  # each round has a cluster of its own
    cluster = make_cluster(timeout_ms=round(1000 * TIMEOUT))
    senders = [through_caller(cluster.caller(), timeout=10.0) for _ in range(CALLERS)]
    with Load([sender for sender in senders for _ in range(2)]) as load:
        load.wait_applied(100)
        for node in range(len(cluster.nodes)):
            asked = monotonic()
            assert 0 == cluster.stop(node), cluster.log(node)
            measured("rolling restart, end after SIGTERM, s", monotonic() - asked)
            cluster.start(node)
            cluster.wait_ready()
            load.wait_applied(50)
    measured("rolling restart, calls", len(load.sent))
    assert [] == [(one.outcome, one.error) for one in load.sent if one.error is not None]
    check_all(cluster, load)
    gap = longest_gap(sorted(one.ended for one in load.sent))
    measured("rolling restart, longest gap over all callers, s", gap)
    call = max(one.ended - one.began for one in load.sent)
    measured("rolling restart, longest call, s", call)
    assert max(gap, call) < TIMEOUT / 3


def longest_gap(moments: Sequence[float]) -> float:
    """The longest time between two of *moments*."""
    return max(later - earlier for earlier, later in pairwise(moments))
