"""The node: one core, one lock, and what becomes of those who wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Event
from time import monotonic
from typing import Any

import pytest

from tests.cluster import DEADLINE, GatedJournal, Words, empty_shelf, until
from tests.node.cores import make_core
from tinyraft.core.effects import InvariantViolated, Mark
from tinyraft.core.raft import Raft
from tinyraft.errors import (
    MembershipError,
    ModuleFailed,
    NotLeader,
    ServerStopped,
    StorageFailed,
    TinyraftError,
)
from tinyraft.logs import Log
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter


class Alone:
    """A node that is its whole cluster."""

    def __init__(self) -> None:
        self.journal, self.module = GatedJournal(), Words()
        self.failed: list[bool] = []
        self.node = Node(
            make_core("a"),
            module=self.module,
            journal=self.journal,
            shelf=empty_shelf(),
            connect=self.connect,
            election_timeout=0.05,
            log=Log("test"),
            on_failure=lambda: self.failed.append(True),
        )

    def connect(self, *_: object) -> Any:
        raise AssertionError("there is nobody to connect to")

    def propose(self, command: bytes) -> Waiter:
        """Propose one command."""
        waiter = Waiter()
        self.node.propose([command], [waiter])
        return waiter

    def stop(self) -> list[str]:
        """End it."""
        self.journal.open.set()
        self.module.gate.set()
        return self.node.stop(deadline=monotonic() + DEADLINE)


@pytest.fixture
def alone() -> Iterator[Alone]:
    """Lend a node that leads."""
    made = Alone()
    made.node.start()
    until(lambda: made.node.leads and made.node.status().is_ready)
    yield made
    assert [] == made.stop()


def test_a_command_comes_back_with_its_result(alone: Alone) -> None:
    """Proposed, synced, applied, answered; the waiter knows where its entry stands."""
    waiter = alone.propose(b"word")
    assert b"1" == waiter.wait(DEADLINE)
    status = alone.node.status()
    assert waiter.index == status.last_index == status.durable_index == status.commit_index
    assert waiter.term == status.term
    assert 0 == len(alone.node.waiters)


def test_no_answer_before_the_disk(alone: Alone) -> None:
    """A cluster of one answers only after its own sync."""
    alone.journal.open.clear()
    waiter = alone.propose(b"word")
    with pytest.raises(TinyraftError, match="may still be applied"):
        waiter.wait(0.05)
    assert [] == alone.module.words
    alone.journal.open.set()
    until(lambda: alone.module.words)


def test_a_refusal_changes_nothing(alone: Alone) -> None:
    """What the core refuses is raised to who asked; the node goes on."""
    with pytest.raises(MembershipError):
        alone.node.turn(Raft.transfer)
    assert alone.node.failure is None
    assert b"1" == alone.propose(b"word").wait(DEADLINE)


def test_a_broken_rule_stops_the_node(alone: Alone) -> None:
    """A defect in a visit ends everything, and everybody is told."""
    alone.journal.open.clear()
    waiter = alone.propose(b"word")

    def broken(_: Raft) -> None:
        raise InvariantViolated("a rule")

    with pytest.raises(InvariantViolated):
        alone.node.turn(broken)
    with pytest.raises(ServerStopped, match="may be applied"):
        waiter.wait(DEADLINE)
    assert "a rule" in alone.node.status().failed
    with pytest.raises(NotLeader, match="does not work any more"):
        alone.propose(b"another").wait(DEADLINE)
    assert not alone.node.leads
    assert [True] == alone.failed


def test_a_failing_disk_stops_the_node_and_answers_who_waits(alone: Alone) -> None:
    """Nothing that was not synced is vouched for; later proposals are certainly not applied."""
    alone.journal.open.clear()
    waiter = alone.propose(b"word")
    alone.journal.failure = StorageFailed("no space left")
    alone.journal.open.set()
    with pytest.raises(ServerStopped):
        waiter.wait(DEADLINE)
    assert "no space left" in alone.node.status().failed
    with pytest.raises(NotLeader):
        alone.propose(b"another").wait(DEADLINE)
    assert [] == alone.module.words
    assert not alone.node.wait_until(lambda: False, timeout=None)


def test_whoever_is_let_in_while_the_node_dies_is_answered(alone: Alone) -> None:
    """Nobody waits for ever:

    1. a proposal is in its visit, behind the look at the failure
    2. the disk fails in another thread, which answers everybody who waits
    3. the proposal puts its waiter in place
    """
    waiter, dead = (
        Waiter(),
        threading.Thread(
            target=lambda: alone.node.died("writer", StorageFailed("gone")), daemon=True
        ),
    )

    def visit(_: Raft) -> None:
        dead.start()
        dead.join(0.1)
        alone.node.waiters.add([waiter], first=99, term=9)

    alone.node.turn(visit)
    with pytest.raises(ServerStopped):
        waiter.wait(DEADLINE)
    dead.join(DEADLINE)


def test_a_failed_module_does_not_hide_a_failed_disk(alone: Alone) -> None:
    """The same broken device may fail both; a node with a dead disk stays dead."""
    alone.module.misbehave[b"wait"] = alone.module.wait
    alone.propose(b"wait")
    assert alone.module.waits.wait(DEADLINE)
    alone.node.died("writer", StorageFailed("gone"))
    alone.module.gate.set()
    with pytest.raises(TinyraftError, match="gone"):
        alone.node._module_failed(ModuleFailed("the module too"))
    assert "gone" in alone.node.status().failed


def test_a_failed_module_alone_keeps_its_log(alone: Alone) -> None:
    """With nobody to hand over to, commands are refused at once, and reads too."""

    def fail() -> None:
        raise OSError(28, "full")

    alone.module.misbehave[b"fail"] = fail
    with pytest.raises(ModuleFailed):
        alone.propose(b"fail").wait(DEADLINE)
    with pytest.raises(ModuleFailed):
        alone.propose(b"word").wait(DEADLINE)
    with pytest.raises(ModuleFailed):
        alone.node.read(lambda m: m)
    assert "full" in alone.node.status().failed
    assert not alone.node.status().is_ready


def test_a_dead_thread_stops_the_node(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception in any thread is never just that thread's end."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    alone.journal.open.clear()
    waiter = alone.propose(b"word")
    monkeypatch.setattr(alone.node._ticker, "_tick", broken)
    with pytest.raises(ServerStopped, match=r"tinyraft-a-ticker ended with ZeroDivisionError"):
        waiter.wait(DEADLINE)


def test_an_unexpected_error_of_the_disk_is_a_failed_disk(alone: Alone) -> None:
    """Also what is no StorageFailed ends the writer, and a peer who waits is told so."""
    alone.journal.open.clear()
    waiter = alone.propose(b"word")
    alone.journal.failure = OSError(5, "input/output error")
    alone.journal.open.set()
    with pytest.raises(ServerStopped):
        waiter.wait(DEADLINE)
    with pytest.raises(StorageFailed, match="input/output"):
        alone.node.writer.wait(Mark(10**6), timeout=DEADLINE)


def test_on_its_way_out_a_node_takes_nothing_more(alone: Alone) -> None:
    """Handing over alone returns at once; what was accepted is finished, nothing new is taken."""
    alone.journal.open.clear()
    waiter = alone.propose(b"word")
    began = monotonic()
    alone.node.hand_over(timeout=DEADLINE)
    assert monotonic() - began < DEADLINE / 2
    late = alone.propose(b"another")
    alone.journal.open.set()
    with pytest.raises(NotLeader, match="shutting down"):
        late.wait(DEADLINE)
    alone.node.finish_commands(timeout=DEADLINE)
    assert b"1" == waiter.wait(0)


def test_a_stop_answers_who_waits_and_names_what_hangs() -> None:
    """With a disk that hangs, everybody is told in time, and the thread is named."""
    made = Alone()
    made.node.start()
    until(lambda: made.node.leads)
    made.journal.syncing.clear()
    made.journal.open.clear()
    waiter = made.propose(b"word")
    assert made.journal.syncing.wait(DEADLINE)
    late = made.node.stop(deadline=monotonic() + 0.1)
    with pytest.raises(ServerStopped, match="was shut down"):
        waiter.wait(0)
    assert ["writer"] == late
    made.journal.open.set()
    until(lambda: "tinyraft-a-writer" not in {t.name for t in threading.enumerate()})


def test_nobody_is_forgotten_while_the_node_stops() -> None:
    """Who proposes behind the last look at the inbox is refused, not forgotten."""
    made = Alone()
    made.node.start()
    until(lambda: made.node.leads)
    made.journal.syncing.clear()
    made.journal.open.clear()
    made.propose(b"word")  # a batch that is never committed: what follows waits in the inbox
    assert made.journal.syncing.wait(DEADLINE)
    late: list[Waiter] = []
    answer = made.node.answer_everybody

    def then_propose(why: str) -> None:
        answer(why)
        late.append(made.propose(b"late"))

    made.node.answer_everybody = then_propose  # type: ignore[method-assign]
    made.node.stop(deadline=monotonic() + 0.1)
    with pytest.raises(NotLeader):
        late[0].wait(DEADLINE)
    made.journal.open.set()
    until(lambda: "tinyraft-a-writer" not in {t.name for t in threading.enumerate()})


def test_a_visit_is_exclusive_and_waiting_for_news_is_bounded(alone: Alone) -> None:
    """Two visits never overlap; news that never comes does not block."""
    inside, overlaps, go = [0], [], Event()

    def visit(_: Raft) -> None:
        inside[0] += 1
        overlaps.append(inside[0])
        go.wait(0.0005)
        inside[0] -= 1

    threads = [
        threading.Thread(target=lambda: [alone.node.turn(visit) for _ in range(20)], daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert {1} == set(overlaps)
    assert alone.node.wait_until(lambda: None, timeout=0.03) is None
    assert 5 == alone.node.wait_until(lambda: 5, timeout=0)
