"""Reads on real processes: nothing old, whoever is asked, whatever happened to it.

``TINYRAFT_RUNS=50`` freezes as many leaders.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import pytest

from tests.processes import Processes, wait
from tests.scenario.conftest import runs
from tinyraft.caller import Caller
from tinyraft.errors import TinyraftError

TIMEOUT = 0.5  # of the clusters here
READERS = 8


class Watch:
    """Readers that ask one node all the time: what they are told must not go back."""

    def __init__(self, caller: Caller, told: int = 0) -> None:
        self.told = told  # commands whose outcome somebody knows
        self.asked = 0
        self.old: list[tuple[int, int]] = []
        self.answers = 0
        self._caller = caller
        self._ended = Event()
        self._threads = [Thread(target=self._read) for _ in range(READERS)]

    def _read(self) -> None:
        while not self._ended.is_set():
            least = self.told
            self.asked += 1
            try:
                found = self._caller.query(b"%d" % max(0, least - 1), timeout=20.0)
            except TinyraftError:
                continue  # the node is frozen, or its time was over before it had caught up
            self.answers += 1
            if least and not found:
                self.old.append((least, self.told))

    def wait_answers(self, more: int) -> None:
        """Wait until so many more reads were answered."""
        goal = self.answers + more
        wait(lambda: self.answers >= goal, f"{more} more answers")

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive()


@pytest.mark.timeout(60 + 15 * runs(2))
def test_a_leader_that_was_frozen_tells_nothing_old(
    cluster: Processes, measured: Callable[[str, float], None]
) -> None:
    """While it sleeps another is elected and writes; who asks it gets all that was answered."""
    for _ in range(runs(2)):
        leader = cluster.leader()
        others = [node for node in range(3) if node != leader]
        caller, writer = cluster.caller([leader]), cluster.caller()
        with Watch(caller) as watch:
            for _ in range(20):
                watch.told = int(writer.apply(b"before") or 0)
            cluster.pause(leader)
            cluster.leader(others)
            writer = cluster.caller(others)
            for _ in range(20):
                told = watch.told = int(writer.apply(b"while it sleeps", timeout=20.0) or 0)
            with Watch(caller, told) as late:
                # The connection stands: these reads are the first thing that it finds.
                wait(lambda late=late: late.asked >= READERS, "reads on their way")
                Event().wait(0.1)
                cluster.resume(leader)
                late.wait_answers(3 * READERS)
        assert [] == watch.old + late.old
        measured("reads beside a frozen leader", watch.answers + late.answers)
        cluster.wait_converged()


def test_every_node_tells_what_was_answered(cluster: Processes) -> None:
    """One reader a node, while commands are applied."""
    writer = cluster.caller()
    readers = [cluster.caller([node]) for node in range(3)]
    for number in range(50):
        place = int(writer.apply(b"%d" % number) or 0)
        for reader in readers:
            assert b"%d" % number == reader.query(b"%d" % (place - 1))
