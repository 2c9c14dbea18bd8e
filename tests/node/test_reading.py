"""Reads on one node before a leader that the test plays: what is asked, again, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from tinyraft.core.entry import NodeId
from tinyraft.core.reads import ReadAnswer
from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    ModuleFailed,
    NodeRemoved,
    NoQuorum,
    NotLeader,
    TinyraftError,
    WrongCluster,
)
from tinyraft.node.readers import Readers
from tinyraft.node.reading import Reading
from tinyraft.node.waiters import Waiter
from tinyraft.storage.data_dir import Identity

A, B = NodeId("a"), NodeId("b")


class Bench:
    """A follower, a of a and b, whose leader b answers from a list."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any, float]] = []
        self.me = A
        self.leads = self.is_removed = self.is_stopping = False
        self.applier = SimpleNamespace(last_applied=5)
        self.readers = Readers(last_applied=lambda: self.applier.last_applied)
        self.when_applied = self.readers.when_applied
        self.between: Callable[[], object] = lambda: None
        identity = Identity(A, "the-cluster", 7, 3)
        self.reading = Reading(self, identity=lambda: identity, remote=self)  # type: ignore[arg-type]

    def leader(self) -> tuple[NodeId | None, str, int]:
        return B, "b.example:1", 4

    def wait_for_news(self, timeout: float) -> None:
        assert timeout <= 0.02

    def read_index(self, address: str, envelope: Any, *, timeout: float) -> int:
        self.asked.append((address, envelope, timeout))
        self.between()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, int)
        return answer


def test_a_follower_says_who_it_is_and_whom_it_means() -> None:
    """Else another cluster at the same address could answer."""
    bench = Bench(5)
    bench.reading.make_current(timeout=3.0)
    ((address, envelope, timeout),) = bench.asked
    assert ("b.example:1", "the-cluster") == (address, envelope.cluster_id)
    assert (A, B, 7, 3) == (
        envelope.sender,
        envelope.recipient,
        envelope.incarnation,
        envelope.recovery_epoch,
    )
    assert timeout <= 1.0, "a frozen leader is not waited for all the time"


@pytest.mark.parametrize(
    "error", [NotLeader("x"), NoQuorum("x"), ConnectionLost("x"), WrongCluster("x")], ids=repr
)
def test_whatever_goes_wrong_is_tried_again_in_time(error: TinyraftError) -> None:
    """A read has no effect; when time is over the last reason is told."""
    bench = Bench(error, error, 5)
    bench.reading.make_current(timeout=20.0)
    assert 3 == len(bench.asked)
    bench, began = Bench(error), monotonic()
    with pytest.raises(NoQuorum, match=r"last: x"):
        bench.reading.make_current(timeout=0.1)
    assert 0.1 <= monotonic() - began < 5


def test_a_silent_leader_gets_more_time_each_time() -> None:
    """It may be frozen, or only slow: both must come to an end."""
    bench = Bench(ApplyTimeout("silent"), ApplyTimeout("silent"), 5)
    bench.reading.make_current(timeout=60.0)
    assert [1.0, 2.0, 4.0] == [timeout for _, _, timeout in bench.asked]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_removed_node_is_told(when: str) -> None:
    """Nobody answers it any more."""
    bench = Bench(NodeRemoved("gone") if when == "meanwhile" else 5)
    bench.is_removed = when == "before"
    with pytest.raises(NodeRemoved):
        bench.reading.make_current(timeout=60.0)


def test_a_node_that_ends_does_not_try_again() -> None:
    """Its shutdown waits for nobody."""
    bench = Bench(NotLeader("x"))
    bench.is_stopping = True
    with pytest.raises(NoQuorum):
        bench.reading.make_current(timeout=60.0)
    assert 1 == len(bench.asked)


def test_a_bound_counts_from_the_beginning() -> None:
    """What was committed while the leader was asked may be missing."""
    bench = Bench(5)
    times: list[float] = []
    bench.between = lambda: times.append(monotonic()) or spin(0.05)
    bench.reading.make_current(timeout=60.0)
    bench.reading.make_current(timeout=60.0, max_staleness=60.0)
    assert 1 == len(bench.asked)
    age = monotonic() - times[0]
    bench.reading.make_current(timeout=60.0, max_staleness=min(age, 0.05))
    assert 2 == len(bench.asked)


def spin(seconds: float) -> None:
    """Let time pass."""
    end = monotonic() + seconds
    while monotonic() < end:
        pass


# --- who waits ----------------------------------------------------------------------------------


def asked(readers: Readers) -> Waiter:
    """Begin to wait for an index."""
    waiter = Waiter()
    readers.ask(waiter)
    return waiter


def test_an_index_and_a_lost_leadership_are_answers() -> None:
    """The first with the index, the second certain."""
    readers = Readers(last_applied=lambda: 0)
    found, lost, gone = asked(readers), asked(readers), asked(readers)
    assert readers.discard(gone)
    readers.answered([ReadAnswer(w, i) for w, i in ((found, 7), (lost, None), (gone, 8))])
    assert (None, 7) == (found.wait(0), found.index)
    with pytest.raises(NotLeader):
        lost.wait(0)
    with pytest.raises(ApplyTimeout):
        gone.wait(0)
    assert 0 == len(readers)


def test_who_is_behind_waits_for_exactly_that_entry() -> None:
    """Not one entry less, and not longer."""
    readers = Readers(last_applied=lambda: 5)
    waiters = {index: Waiter() for index in (5, 6, 7)}
    for index, waiter in waiters.items():
        readers.when_applied(index, waiter)
    assert 2 == len(readers)
    waiters[5].wait(0)
    readers.applied(6)
    waiters[6].wait(0)
    assert 1 == len(readers)
    readers.fail(ModuleFailed("broken"))
    with pytest.raises(ModuleFailed):
        waiters[7].wait(0)
