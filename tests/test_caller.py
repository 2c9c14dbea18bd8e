"""Callers: each command once, whatever breaks on the way, and no call beyond its time."""

from __future__ import annotations

import socket
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from threading import Event, current_thread
from time import monotonic

import pytest

import tinyraft
from tests.cluster import DEADLINE, LocalCluster, gate_journal, node_of, until
from tinyraft import ledger as ledger_module
from tinyraft.core.sessions import Limits
from tinyraft.node import gate as gate_module
from tinyraft.node import home as home_module


def hold(cluster: LocalCluster, name: str, word: bytes = b"hold") -> None:
    """Let the module of *name* wait at *word*."""
    module = cluster.modules[name]
    module.misbehave[word] = module.wait


def break_stream(caller: tinyraft.Caller) -> None:
    """Break the caller's connection."""
    lane = caller._delivery._ledger.lane
    assert lane is not None
    lane.break_off()


def test_a_command_whose_answer_was_lost_is_applied_once(cluster: LocalCluster) -> None:
    """The second sending gets the answer of the first (P87)."""
    cluster.start(1)
    hold(cluster, "a")
    module = cluster.modules["a"]
    caller = cluster.caller()
    with ThreadPoolExecutor(1) as program:
        sent = program.submit(caller.apply, b"hold", timeout=DEADLINE)
        assert module.waits.wait(DEADLINE)
        break_stream(caller)
        last = node_of(cluster["a"]).look(lambda raft: raft.log.last_index)
        until(
            lambda: node_of(cluster["a"]).look(lambda raft: raft.log.last_index) > last,
            what="it was sent again",
        )
        module.gate.set()
        assert b"waited" == sent.result(DEADLINE)
    assert b"2" == caller.apply(b"next")
    assert [b"hold", b"next"] == module.words


def test_without_numbers_what_was_sent_is_not_sent_again(cluster: LocalCluster) -> None:
    """The program is told that it may be applied."""
    cluster.start(1)
    hold(cluster, "a")
    caller = cluster.caller(exactly_once=False)
    with ThreadPoolExecutor(1) as program:
        sent = program.submit(caller.apply, b"hold", timeout=DEADLINE)
        assert cluster.modules["a"].waits.wait(DEADLINE)
        break_stream(caller)
        with pytest.raises(tinyraft.ConnectionLost, match="after the command was sent"):
            sent.result(DEADLINE)
    cluster.modules["a"].gate.set()
    assert b"2" == caller.apply(b"next")


def test_every_command_is_applied_once_over_changes_of_leader(cluster: LocalCluster) -> None:
    """From threads of a caller and of the servers' own programs; nobody sees an error (P87)."""
    cluster.start(3)
    caller = cluster.caller()
    ends = Event()
    sent: list[bytes] = []

    def work(name: str, apply: tinyraft.Caller | tinyraft.Server) -> None:
        count = 0
        while not ends.is_set():
            count += 1
            command = f"{name}.{count}".encode()
            answer = apply.apply(command, timeout=DEADLINE)
            assert answer is not None
            sent.append(command)

    with ThreadPoolExecutor(8) as program:
        jobs = [program.submit(work, f"c{n}", caller) for n in range(4)]
        jobs += [program.submit(work, name, server) for name, server in cluster.servers.items()]
        try:
            for _ in range(6):
                goal = len(sent) + 50
                until(lambda goal=goal: len(sent) > goal, what="work goes on")
                cluster[cluster.leader()].transfer_leadership()
        finally:
            ends.set()
        for job in jobs:
            job.result(DEADLINE)
    for module in cluster.modules.values():
        until(lambda module=module: len(module.words) >= len(sent), what="all have all")
        assert Counter(sent) == Counter(module.words)


def test_a_request_id_gets_its_first_answer_from_anywhere(cluster: LocalCluster) -> None:
    """From another caller, from a server, and behind a snapshot and a restart (M47)."""
    cluster.start(1)
    one, other = cluster.caller(), cluster.caller()
    assert b"1" == one.apply(b"pay 10", request_id="order-1")
    assert b"2" == one.apply(b"word")
    assert b"1" == other.apply(b"pay 10", request_id="order-1")
    assert b"1" == cluster["a"].apply(b"pay 10", request_id="order-1")
    submission = other.submit(b"pay 10", request_id="order-1")
    assert b"1" == submission.result(DEADLINE)
    assert 0 == sum(submission.stages)
    with pytest.raises(tinyraft.RequestIdReused, match="order-1"):
        other.apply(b"pay 20", request_id="order-1")
    with pytest.raises(tinyraft.CommandTooLarge, match="request_id"):
        other.apply(b"x", request_id="x" * 257)
    assert [b"pay 10", b"word"] == cluster.modules["a"].words
    status = cluster["a"].status()
    assert (3, 1) == (status.sessions, status.request_ids)


def test_a_forgotten_session_is_renewed(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was applied under it, so the program does not notice (P88)."""
    for module in (gate_module, home_module):
        monkeypatch.setattr(module, "LIMITS", Limits(sessions=1).encode())
    cluster.start(1)
    one, other = cluster.caller(), cluster.caller()
    for number in range(1, 7, 2):
        assert str(number).encode() == one.apply(b"x")
        assert str(number + 1).encode() == other.apply(b"x")
    assert (1, 0) == node_of(cluster["a"]).applier.sessions.counts


def test_what_one_thread_submits_is_applied_in_order(shared: LocalCluster) -> None:
    """Its future knows where, and where the time went."""
    with tinyraft.Caller(shared.addresses) as caller:
        submissions = [caller.submit(b"s%d" % number) for number in range(200)]
        results = [submission.result(DEADLINE) for submission in submissions]
    places = [int(result or b"") for result in results]
    assert places == list(range(places[0], places[0] + 200))
    indexes = [submission.index for submission in submissions]
    assert indexes == sorted(set(indexes))
    assert all(submission.term >= 1 for submission in submissions)
    assert all(sum(submission.stages) > 0 for submission in submissions)
    assert all(not submission.cancel() for submission in submissions)


def test_many_are_applied_together_in_order(shared: LocalCluster) -> None:
    """By a caller and by a server; the first error is raised, the others are applied."""
    leader = shared[shared.leader()]
    with tinyraft.Caller(shared.addresses) as caller:
        for one in (caller, leader):
            before = int(one.apply(b"x") or b"")
            expected = [str(before + n).encode() for n in range(1, 101)]
            assert expected == one.apply_many([b"m%d" % n for n in range(100)])
        assert [] == caller.apply_many([])
        with pytest.raises(tinyraft.Rejected):
            caller.apply_many([b"x", b"refuse", b"y"])
        assert before + 104 == int(caller.apply(b"z") or b"")
        with pytest.raises(tinyraft.CommandTooLarge):
            caller.apply_many([b"x", b"x" * (1 << 20 | 1)])


def test_a_futures_callback_holds_up_no_node(cluster: LocalCluster) -> None:
    """Not even on the leader itself: it runs in the caller's own thread (P97)."""
    cluster.start(1)
    hold(cluster, "a")
    leader = cluster["a"]
    gate, inside = Event(), Event()
    names: list[str] = []

    def block(_future: Future[bytes | None]) -> None:
        names.append(current_thread().name)
        inside.set()
        assert gate.wait(DEADLINE)

    held = leader.submit(b"hold", timeout=DEADLINE)
    held.add_done_callback(block)
    cluster.modules["a"].gate.set()
    try:
        assert inside.wait(DEADLINE)
        assert b"2" == leader.apply(b"y", timeout=DEADLINE)
        assert [b"3", b"4"] == leader.apply_many([b"z", b"z"], timeout=DEADLINE)
        behind = leader.submit(b"z", timeout=DEADLINE)
    finally:
        gate.set()
    assert b"5" == behind.result(DEADLINE)
    assert ["tinyraft-caller-courier"] == names


def test_a_future_tells_what_apply_raises(shared: LocalCluster) -> None:
    """The module's answers among it."""
    with tinyraft.Caller(shared.addresses) as caller:
        with pytest.raises(tinyraft.Rejected, match="not that word"):
            caller.submit(b"refuse").result(DEADLINE)
        with pytest.raises(tinyraft.ModuleError):
            caller.submit(b"raise").result(DEADLINE)
        assert caller.submit(b"none").result(DEADLINE) is None


def test_nobody_waits_beyond_the_deadline_for_a_leader() -> None:
    """Certain not to be applied: it was never sent (P91)."""
    with tinyraft.Caller("127.0.0.1:1") as caller:
        began = monotonic()
        late = caller.submit(b"x", timeout=0.3)
        with pytest.raises(tinyraft.NoQuorum):
            caller.apply(b"x", timeout=0.2)
        assert isinstance(late.exception(DEADLINE), tinyraft.NoQuorum)
        with pytest.raises(tinyraft.NotApplied):
            caller.apply_many([b"x", b"y"], timeout=0.1)
        assert monotonic() - began < DEADLINE / 2


def test_a_query_ends_in_time_however_many_nodes_are_silent() -> None:
    """Each gets what is left of the time, not all of it (P91)."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in silent]
        caller = stack.enter_context(tinyraft.Caller(addresses))
        began = monotonic()
        with pytest.raises(tinyraft.ReadFailed):
            caller.query(b"x", timeout=0.4)
        assert monotonic() - began < 1.2


def test_nobody_waits_beyond_the_deadline_for_an_answer(cluster: LocalCluster) -> None:
    """It was sent, and may be applied; the request id says how to ask again (P91)."""
    cluster.start(1)
    caller = cluster.caller()
    caller.apply(b"x")
    hold(cluster, "a")
    late = caller.submit(b"hold", timeout=0.3, request_id="r")
    with pytest.raises(tinyraft.ApplyTimeout) as raised:
        caller.apply(b"y", timeout=0.2, request_id="order-2")
    assert "order-2" == raised.value.request_id
    assert isinstance(late.exception(DEADLINE), tinyraft.ApplyTimeout)
    cluster.modules["a"].gate.set()
    assert b"3" == caller.apply(b"y", request_id="order-2")
    assert [b"x", b"hold", b"y"] == cluster.modules["a"].words


def test_a_silent_leader_is_left_and_its_commands_are_sent_elsewhere(
    cluster: LocalCluster,
) -> None:
    """Its disk does not answer: it resigns, and another one takes them."""
    cluster.start(3)
    caller = cluster.caller()
    caller.apply(b"first")
    leader = cluster.leader()
    gate = gate_journal(cluster[leader])
    gate.open.clear()
    try:
        assert b"2" == caller.apply(b"second", timeout=DEADLINE)
        submissions = [caller.submit(b"s%d" % n, timeout=DEADLINE) for n in range(5)]
        assert [b"3", b"4", b"5", b"6", b"7"] == [s.result(DEADLINE) for s in submissions]
    finally:
        gate.open.set()


def test_a_caller_takes_no_more_than_it_can_hold(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes then waits, and is told that nothing was sent; there is room again later."""
    monkeypatch.setattr(ledger_module, "MOST_COMMANDS", 3)
    monkeypatch.setattr(ledger_module, "MOST_BYTES", 50)
    cluster.start(1)
    hold(cluster, "a")
    caller = cluster.caller()
    held = [caller.submit(command, timeout=None) for command in (b"hold", b"x", b"y")]
    with pytest.raises(tinyraft.Overloaded, match="under way"):
        caller.submit(b"z", timeout=0.05)
    with ThreadPoolExecutor(1) as program:
        waits = program.submit(caller.apply, b"z", timeout=DEADLINE)
        cluster.modules["a"].gate.set()
        assert b"4" == waits.result(DEADLINE)
    assert [b"waited", b"2", b"3"] == [one.result(DEADLINE) for one in held]
    assert b"5" == caller.apply(b"a command that is longer than all that may be under way" * 2)


def test_a_callers_reads_see_its_own_commands_on_any_node(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale read waits for what its caller was told, and for nothing else."""
    cluster.start(3)
    name = cluster.followers()[0]
    applier = node_of(cluster[name]).applier
    fetch = applier._fetch
    with monkeypatch.context() as patch:
        patch.setattr(applier, "_fetch", lambda _after, _size: [])  # it lags behind
        writer, reader = cluster.caller(), cluster.caller(name)
        writer.apply(b"word")
        assert b"0" == reader.query(b"", consistency="stale")
        reader.apply(b"another")
        with ThreadPoolExecutor(1) as program:
            read = program.submit(reader.query, b"", consistency="stale")
            until(lambda: node_of(cluster[name]).readers._behind, what="it waits")
            patch.setattr(applier, "_fetch", fetch)
            applier.ring()
            assert b"2" == read.result(DEADLINE)


def test_a_closed_caller_answers_everybody(cluster: LocalCluster) -> None:
    """What was sent may be applied, what was not is not; afterwards nothing is taken."""
    cluster.start(1)
    caller = cluster.caller()
    caller.apply(b"x")
    hold(cluster, "a")
    with ThreadPoolExecutor(2) as program:
        sent = [program.submit(caller.apply, b"hold"), caller.submit(b"y")]
        assert cluster.modules["a"].waits.wait(DEADLINE)
        caller.close()
        for one in sent:
            assert isinstance(one.exception(DEADLINE), tinyraft.ServerStopped)
    caller.close()
    for use in (caller.apply, caller.submit, caller.query):
        with pytest.raises(tinyraft.NotStarted, match="closed"):
            use(b"x")
    lost = tinyraft.Caller("127.0.0.1:1")
    waits = lost.submit(b"x", timeout=None)
    lost.close()
    assert isinstance(waits.exception(DEADLINE), tinyraft.NotStarted)


def test_a_futures_callback_does_not_wait(shared: LocalCluster) -> None:
    """It runs in a thread that others wait for; it may submit."""
    found: SimpleQueue[object] = SimpleQueue()

    def act(_future: object) -> None:
        for wait in (caller.apply, lambda command: caller.apply_many([command])):
            try:
                wait(b"x")
            except tinyraft.ReentrantCall as error:
                found.put(error)
        found.put(caller.submit(b"y"))

    with tinyraft.Caller(shared.addresses) as caller:
        caller.submit(b"x").add_done_callback(act)
        for _ in range(2):
            assert isinstance(found.get(timeout=DEADLINE), tinyraft.ReentrantCall)
        later = found.get(timeout=DEADLINE)
        assert isinstance(later, tinyraft.Submission)
        assert later.result(DEADLINE) is not None
