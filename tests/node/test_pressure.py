"""More work than can be done: what a node holds of it is bounded, and who is refused is certain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import DEADLINE, LocalCluster, node_of, until
from tests.node.cores import SETTINGS, make_leader, sync
from tests.node.test_node import Alone
from tinyraft.core.effects import OnDisk
from tinyraft.core.entry import NodeId
from tinyraft.core.log import Log
from tinyraft.core.messages import AppendEntries, AppendReply
from tinyraft.errors import Overloaded, TinyraftError
from tinyraft.node.waiters import Waiter

MANY = SETTINGS.max_pending_commands


@pytest.fixture
def alone() -> Iterator[Alone]:
    """Lend a node that leads."""
    made = Alone()
    made.node.start()
    until(lambda: made.node.leads and made.node.status().is_ready)
    yield made
    assert [] == made.stop()


def refused(alone: Alone, command: bytes) -> str:
    """Propose what has to be refused, at once or in the answer; tell why."""
    with pytest.raises(Overloaded) as caught:
        alone.propose(command).wait(DEADLINE)
    return str(caught.value)


def test_what_waits_for_a_slow_disk_is_bounded(alone: Alone) -> None:
    """One batch is under way, one waits at the door, and there is no room for a third (P93)."""
    alone.journal.open.clear()
    taken = [alone.propose(b"first")]
    taken += [alone.propose(b"%d" % number) for number in range(MANY)]
    assert f"{MANY} commands of" in refused(alone, b"too many")
    alone.journal.open.set()
    assert [b"%d" % place for place in range(1, MANY + 2)] == [w.wait(DEADLINE) for w in taken]
    assert b"too many" not in alone.module.words


def test_who_sends_more_at_once_than_there_is_room_for_gets_some_in(alone: Alone) -> None:
    """And the rest is refused, so nobody tries the same for ever."""
    alone.journal.open.clear()
    first = alone.propose(b"first")
    waiters = [Waiter() for _ in range(2 * MANY)]
    alone.node.propose([b"%d" % number for number in range(2 * MANY)], waiters)
    for waiter in waiters[MANY:]:
        with pytest.raises(Overloaded):
            waiter.wait(0)
    alone.journal.open.set()
    assert b"1" == first.wait(DEADLINE)
    assert b"%d" % (MANY + 1) == waiters[MANY - 1].wait(DEADLINE)
    assert MANY + 1 == len(alone.module.words)


def hold_the_module(alone: Alone) -> list[Waiter]:
    """Let the module take its time with a command."""
    alone.module.misbehave[b"wait"] = alone.module.wait
    waiters = [alone.propose(b"wait")]
    assert alone.module.waits.wait(DEADLINE)
    return waiters


def propose_and_commit(alone: Alone, command: bytes) -> Waiter:
    """Propose *command*, and wait till it is committed."""
    waiter = alone.propose(command)
    until(lambda: 0 < waiter.index <= alone.node.status().commit_index)
    return waiter


def test_what_waits_for_a_slow_module_is_bounded(alone: Alone) -> None:
    """A module slower than the commits: so many are committed, and no more are appended."""
    taken = hold_the_module(alone)
    taken += [propose_and_commit(alone, b"%d" % number) for number in range(MANY - 1)]
    last = alone.node.status().last_index
    assert f"the module is {MANY} commands and" in refused(alone, b"too many")
    assert last == alone.node.status().last_index
    alone.module.gate.set()
    assert b"waited" == taken[0].wait(DEADLINE)
    assert b"%d" % MANY == taken[-1].wait(DEADLINE)
    assert b"%d" % (MANY + 1) == alone.propose(b"now").wait(DEADLINE)
    assert b"too many" not in alone.module.words


def test_bytes_that_wait_for_a_slow_module_are_bounded(alone: Alone) -> None:
    """Few long commands are as much as many short ones."""
    alone.node.intake.backlog._max_bytes = 3000
    taken = hold_the_module(alone)
    taken += [propose_and_commit(alone, bytes(1000)) for _ in range(3)]
    assert "the module is 4 commands and 3004 bytes behind" in refused(alone, b"too much")
    alone.module.gate.set()
    assert [b"waited", b"2", b"3", b"4"] == [waiter.wait(DEADLINE) for waiter in taken]
    assert b"5" == alone.propose(b"now").wait(DEADLINE)


def test_a_snapshot_that_is_not_yet_restored_is_no_backlog() -> None:
    """Only what has to be applied one by one keeps others waiting. Here nothing is applied."""
    made = Alone()
    node = made.node

    def write() -> None:
        while batch := node.writer.next_batch():
            assert node.writer.persist(batch)
            node.writer.finish(batch)

    while not node.leads or node.status().commit_index < node.status().last_index:
        node._tick(1, 0)
        write()
    while node.status().commit_index < MANY:
        made.propose(b"word")
        write()
    assert "the module is" in refused(made, b"too many")
    node.look(lambda raft: setattr(raft, "snapshot_index", raft.commit_index))
    waiter = made.propose(b"word")
    assert MANY + 1 == waiter.index
    assert [] == made.stop()


def test_a_silent_follower_costs_no_memory() -> None:
    """One append is in flight, nothing is queued, and old entries are left to the disk (P117)."""
    core = make_leader("a", "a", "b", "c")
    core.log._memory_bytes = limit = 20_000
    core.take()
    in_flight = None
    for _ in range(200):
        proposed = core.propose([bytes(1000)], time_us=0)
        sync(core)
        core.answer(AppendReply(core.term, True, proposed.first), sender=NodeId("b"))
        core.take()
        append = core.next_append(NodeId("c"), max_bytes=1 << 20)
        if append is not None:
            assert in_flight is None, "one at a time"
            assert isinstance(append, AppendEntries)
            in_flight = append
        assert in_memory(core.log) <= limit + 2 * 1100
    assert core.commit_index == core.log.last_index
    core.unreachable(NodeId("c"))
    found = core.next_append(NodeId("c"), max_bytes=1 << 20)
    assert isinstance(found, OnDisk), "it is fetched from the disk, when it is wanted"


def in_memory(log: Log) -> int:
    """Count the bytes that entries take in memory."""
    entries = log.between(log.in_memory_from - 1, log.last_index, max_bytes=1 << 62)
    return sum(entry.footprint for entry in entries)


def test_without_a_quorum_nothing_piles_up(cluster: LocalCluster) -> None:
    """Two of three are gone and callers go on trying: all are told, and nothing of them is kept."""
    cluster.start(3, timeout=0.3)
    leader = cluster.leader()
    for name in cluster.followers():
        cluster[name].shutdown(timeout=1.0)
    node = node_of(cluster[leader])
    outcomes: list[TinyraftError] = []
    tries = (
        lambda: cluster[leader].apply(b"word", timeout=0.02),
        lambda: cluster[leader].read(len, timeout=0.02),
    )
    for _ in range(20):
        for attempt in tries:
            try:
                attempt()
            except TinyraftError as error:
                outcomes.append(error)
    assert 40 == len(outcomes)
    until(lambda: not node.leads, what="it steps down")
    status = node.status()
    assert status.last_index - status.commit_index <= 20
    assert (0, 0, 0) == (len(node.waiters), len(node.readers), len(node.intake.inbox))
