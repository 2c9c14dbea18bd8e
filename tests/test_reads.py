"""Reads: nothing old is given to who did not ask for it, on any node, and nobody waits for ever."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from time import monotonic

import pytest

import tinyraft
from tests.cluster import LocalCluster, gate_journal, node_of, until
from tinyraft.core.raft import Raft


def words(server: tinyraft.Server, **options: object) -> list[bytes]:
    """Read all words."""
    return server.read(lambda module: list(module.words), **options)  # type: ignore[arg-type]


def rounds(server: tinyraft.Server) -> int:
    """Count the rounds of heartbeats that a leader has begun."""

    def look(raft: Raft) -> int:
        assert raft.leadership is not None
        return raft.leadership.heartbeat_round

    return node_of(server).look(look)


def test_no_read_is_stale_unless_it_says_so(cluster: LocalCluster) -> None:
    """Who may get an old answer has written the word: the default is none (P86)."""
    for read in (tinyraft.Server.read, tinyraft.Caller.query):
        consistency = inspect.signature(read).parameters["consistency"]
        assert consistency.default == "linearizable"
        assert consistency.kind is inspect.Parameter.KEYWORD_ONLY
    server, caller = cluster.start(1)["a"], cluster.caller()
    for word in ("bounded", "", "STALE", None):
        with pytest.raises(tinyraft.ReadFailed, match="neither"):
            server.read(lambda module: module, consistency=word)  # type: ignore[arg-type]
        with pytest.raises(tinyraft.ReadFailed, match="neither"):
            caller.query(b"", consistency=word)  # type: ignore[arg-type]
    with pytest.raises(tinyraft.ReadFailed, match="goes with consistency='stale'"):
        server.read(lambda module: module, max_staleness=1.0)
    for consistency in ("linearizable", "stale"):
        assert [] == words(server, consistency=consistency)
        assert b"0" == caller.query(b"", consistency=consistency)  # type: ignore[arg-type]


def test_every_node_reads_what_was_answered(cluster: LocalCluster) -> None:
    """After each answer every node, asked directly or over the wire, has that command."""
    cluster.start(3)
    writer = cluster.caller()
    callers = {name: cluster.caller(name) for name in cluster.servers}
    written: list[bytes] = []
    for number in range(30):
        written.append(b"%d" % number)
        writer.apply(written[-1])
        for name in cluster.servers:
            assert written == words(cluster[name])
            assert b"%d" % len(written) == callers[name].query(b"")


def test_a_read_writes_nothing(cluster: LocalCluster) -> None:
    """No entry, no sync, on no node."""
    cluster.start(3)
    cluster.caller().apply(b"x")
    until(lambda: all([b"x"] == words(s, consistency="stale") for s in cluster))
    disks = [gate_journal(server) for server in cluster]
    before = [server.status().last_index for server in cluster]
    for server in cluster:
        assert [b"x"] == words(server)
    assert [[], [], []] == [disk.batches for disk in disks]
    assert before == [server.status().last_index for server in cluster]


def test_reads_share_rounds(cluster: LocalCluster) -> None:
    """A hundred at once, on leader and follower, need a few rounds."""
    cluster.start(3, timeout=2.0)
    leader, follower = cluster.leader(), cluster.followers()[0]
    for name in (leader, follower):
        gate = Barrier(101)

        def read(name: str = name, gate: Barrier = gate) -> list[bytes]:
            gate.wait()
            return words(cluster[name])

        with ThreadPoolExecutor(100) as pool:
            reading = [pool.submit(read) for _ in range(100)]
            before = rounds(cluster[leader])
            gate.wait()
            assert all([] == one.result() for one in reading)
        assert rounds(cluster[leader]) - before < 60


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_queries_share_rounds(cluster: LocalCluster, where: str) -> None:
    """A hundred threads of one caller need a few messages, and as many rounds."""
    cluster.start(3, timeout=2.0)
    leader = cluster.leader()
    caller = cluster.caller(leader if where == "leader" else cluster.followers()[0])
    gate = Barrier(101)

    def query() -> bytes:
        gate.wait()
        return caller.query(b"")

    assert b"0" == caller.query(b"")
    with ThreadPoolExecutor(100) as pool:
        asking = [pool.submit(query) for _ in range(100)]
        before = rounds(cluster[leader])
        gate.wait()
        assert {b"0"} == {one.result() for one in asking}
    assert rounds(cluster[leader]) - before < 60


def test_a_follower_waits_for_its_module(cluster: LocalCluster) -> None:
    """It has the entry and has not applied it: the read waits, or says why it did not (P84)."""
    cluster.start(3)
    follower = cluster.followers()[0]
    module = cluster.modules[follower]
    module.misbehave[b"wait"] = module.wait
    caller = cluster.caller(cluster.leader())
    caller.apply(b"wait")
    caller.apply(b"behind it")
    assert module.waits.wait(20)
    server = cluster[follower]
    began = monotonic()
    with pytest.raises(tinyraft.ReadFailed, match=r"has applied .* a read needs"):
        words(server, timeout=0.3)
    assert 0.3 <= monotonic() - began < 3
    found: list[list[bytes]] = []
    thread = Thread(target=lambda: found.append(words(server)))
    thread.start()
    until(lambda: len(node_of(server).readers) == 1)
    module.gate.set()
    thread.join(20)
    assert [[b"wait", b"behind it"]] == found
    assert 0 == len(node_of(server).readers)


def test_without_a_majority_nothing_is_read(cluster: LocalCluster) -> None:
    """They say so in time; a stale read still works, and a bounded one within its bound."""
    cluster.start(3)
    cluster.caller().apply(b"x")
    leader, (follower, gone) = cluster.leader(), cluster.followers()
    assert [b"x"] == words(cluster[leader])
    assert [b"x"] == words(cluster[follower], consistency="stale", max_staleness=0.0)
    cluster[gone].shutdown(timeout=1.0)
    loser = cluster.caller(leader)
    cluster[follower].shutdown(timeout=1.0)
    began = monotonic()
    for read in (
        lambda: words(cluster[leader], timeout=0.5),
        lambda: words(cluster[leader], timeout=0.5, consistency="stale", max_staleness=0.0),
        lambda: loser.query(b"", timeout=0.5),
    ):
        with pytest.raises(tinyraft.ReadFailed):
            read()
    assert monotonic() - began < 6
    assert [b"x"] == words(cluster[leader], consistency="stale")
    assert [b"x"] == words(cluster[leader], consistency="stale", max_staleness=3600.0)
    assert b"1" == loser.query(b"", consistency="stale")


def test_a_bounded_read_is_as_fresh_as_it_says(cluster: LocalCluster) -> None:
    """Within the bound nobody is asked; behind it the leader is."""
    cluster.start(3)
    leader, follower = cluster.leader(), cluster.followers()[0]
    assert [] == words(cluster[follower])
    server = cluster[follower]
    before = rounds(cluster[leader])
    for _ in range(1000):
        words(server, consistency="stale", max_staleness=3600.0)
    assert rounds(cluster[leader]) - before < 500
    cluster.caller().apply(b"x")
    assert [b"x"] == words(server, consistency="stale", max_staleness=0.0)


def test_reads_go_on_over_a_change_of_leader(cluster: LocalCluster) -> None:
    """One that began under the old leader is answered by the new one."""
    cluster.start(3)
    caller = cluster.caller()
    caller.apply(b"x")
    for _ in range(3):
        leader = cluster.leader()
        with ThreadPoolExecutor(8) as pool:
            reading = [
                pool.submit(words, cluster[name]) for name in cluster.servers for _ in range(20)
            ]
            cluster[leader].transfer_leadership()
            assert all([b"x"] == one.result() for one in reading)


def test_a_module_that_reads_is_told(cluster: LocalCluster) -> None:
    """It would wait for itself."""
    server = cluster.start(1)["a"]
    with pytest.raises(tinyraft.ReentrantCall):
        server.read(lambda _: server.read(len))


def test_a_shutdown_answers_who_reads(cluster: LocalCluster) -> None:
    """A read that waits for a majority is told, and does not hold the end up."""
    cluster.start(3, timeout=3.0)
    leader, others = cluster.leader(), cluster.followers()
    for other in others:
        cluster[other].shutdown(timeout=1.0)
    found: list[BaseException] = []

    def read() -> None:
        try:
            words(cluster[leader], timeout=60.0)
        except tinyraft.TinyraftError as error:
            found.append(error)

    thread = Thread(target=read)
    thread.start()
    until(lambda: len(node_of(cluster[leader]).readers) == 1)
    cluster[leader].shutdown(timeout=1.0)
    thread.join(10)
    assert [tinyraft.ReadFailed] == [type(error) for error in found]
