"""Modules that do not come to the same: found on running servers, and by whom they are kept out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from time import monotonic

import pytest

import tinyraft
from tests.cluster import DEADLINE, LocalCluster, Words, node_of, until
from tinyraft.core.raft import Raft

HEALTH = "/grpc.health.v1.Health/Check"
SECONDS = 10.0  # far above what it takes: two or three


class Clocked(Words):
    """A module with a mistake: what it answers depends on this machine."""

    def apply(self, command: bytes, /) -> bytes:
        """Answer the time."""
        super().apply(command)
        return str(time.time()).encode()


class Careless(Words):
    """A module whose answers are right, and whose state is not; it can say so itself."""

    def digest(self) -> bytes:
        """Say what the state is."""
        return b"".join(self.words)

    def apply(self, command: bytes, /) -> bytes | None:
        """Note something else."""
        answer = super().apply(command)
        self.words[-1] = str(time.time()).encode()
        return answer


class Careful(Words):
    """The same without the mistake, and with snapshots."""

    def digest(self) -> bytes:
        """Say what the state is."""
        return b"".join(self.words)

    def snapshot(self) -> Iterator[bytes]:
        """Copy."""
        return iter([word + b"\n" for word in self.words])

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Replace."""
        self.words = b"".join(chunks).splitlines()


def found_out(server: tinyraft.Server) -> str:
    """Wait until *server* has taken itself out; return what it says."""
    began = monotonic()
    why = until(lambda: server.status().failed, what="the one that differs is found")
    assert monotonic() - began < SECONDS
    return why


@pytest.mark.parametrize("planted", [Clocked, Careless], ids=["in an answer", "in the state"])
def test_a_planted_clock_is_found_within_seconds(
    cluster: LocalCluster, planted: type[Words]
) -> None:
    """The follower that has it takes itself out, for good; the others go on (P114)."""
    honest = Careful if planted is Careless else Words
    for name in "abc":
        module = planted() if name == "c" else honest()
        cluster.make(name, module=module, bootstrap=name == "a").start()
        cluster.wait_voters(list(cluster.servers))
    caller = cluster.caller("a", "b")
    if cluster.leader() == "c":
        cluster["c"].transfer_leadership("a")
    caller.apply(b"x")
    why = found_out(cluster["c"])
    assert "in the entries 1 to " in why
    assert "empty data directory" in why
    assert not cluster["c"].status().is_ready
    assert node_of(cluster["c"])._shipments.are_withheld
    assert b"\x08\x02" == cluster.channel("c").unary_unary(HEALTH)(b"", timeout=DEADLINE)
    with pytest.raises(tinyraft.ModuleFailed, match="majority"):
        cluster["c"].read(lambda module: module, consistency="stale")
    with pytest.raises(tinyraft.TinyraftError):
        cluster["c"].read(lambda module: module, timeout=5)
    with pytest.raises(tinyraft.TinyraftError):
        cluster["c"].snapshot()
    for number in range(5):
        caller.apply(b"%d" % number)
    commit = cluster[cluster.leader()].status().commit_index
    until(lambda: cluster["c"].status().durable_index >= commit, what="it replicates on")
    assert not any(cluster[name].status().failed for name in "ab")

    cluster["c"].shutdown()
    again = cluster.make("c", module=honest())  # with the mistake mended
    again.start()
    assert why == again.status().failed
    assert node_of(again)._shipments.are_withheld
    assert [] == cluster.modules["c"].words
    with pytest.raises(tinyraft.ModuleFailed):
        again.read(lambda module: module, consistency="stale")
    again.shutdown()
    cluster[cluster.leader()].remove("c")
    fresh = cluster.make("d", module=honest())
    fresh.start()
    assert fresh.wait_ready(DEADLINE)
    assert b"7" == caller.apply(b"last")
    until(lambda: fresh.read(lambda module: len(module.words)) == 7)  # type: ignore[attr-defined]


def test_a_leader_that_differs_resigns(cluster: LocalCluster) -> None:
    """Commands go on under another, and what it answers meanwhile is never a wrong result."""
    for name in "abc":
        module = Clocked() if name == "a" else Words()
        cluster.make(name, module=module, bootstrap=name == "a").start()
        cluster.wait_voters(list(cluster.servers))
    if cluster.leader() != "a":
        cluster[cluster.leader()].transfer_leadership("a")
    assert "a" == cluster.leader()
    caller = cluster.caller()
    caller.apply(b"x")
    found_out(cluster["a"])
    leader = until(lambda: next((n for n in "bc" if cluster[n].is_leader), ""), what="a successor")
    assert b"2" == cluster[leader].apply(b"y")
    assert "a" != cluster.leader()


def test_without_a_majority_all_only_warn(
    cluster: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """The mistake is in the module of all: each says so, and none stops."""
    for name in "abc":
        cluster.make(name, module=Clocked(), bootstrap=name == "a").start()
        cluster.wait_voters(list(cluster.servers))
    caller = cluster.caller()
    began = monotonic()

    def warned() -> int:
        caller.apply(b"x")
        return sum("modules_disagree" in record.getMessage() for record in caplog.records) >= 3

    with caplog.at_level(logging.WARNING):
        until(warned, what="all three warn")
    assert monotonic() - began < SECONDS
    assert not any(server.status().failed for server in cluster)
    told = [r.getMessage() for r in caplog.records if "modules_disagree" in r.getMessage()]
    assert len(told) < 9  # not at every check


def test_members_that_agree_write_one_check_and_rest(cluster: LocalCluster) -> None:
    """Behind the last command stands a check that all agree on, and nothing more."""
    cluster.start(3)
    cluster.caller().apply(b"x")
    leader = cluster.leader()

    node = node_of(cluster[leader])

    def agree(raft: Raft) -> bool:
        checks = node.applier.agreement.checks
        assert raft.leadership is not None
        said = {progress.check for progress in raft.leadership.progress.values()}
        return bool(checks) and said == {(checks[-1].index, checks[-1].digest)}

    until(lambda: node.look(agree))
    before, ticks = cluster[leader].status().last_index, node.look(lambda raft: raft.ticks)
    node._judge._due = 0.0  # as if the time had passed
    until(lambda: node.look(lambda raft: raft.ticks) > ticks + 20)
    assert before == cluster[leader].status().last_index
    assert 1 == len(node.applier.agreement.checks)
