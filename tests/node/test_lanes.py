"""The lanes to one peer, with real cores and without a wire; and the table of all peers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event
from time import monotonic
from typing import Any

import pytest

from tests.cluster import DEADLINE, empty_shelf, until
from tests.node.cores import configuration, make_core, make_leader
from tinyraft.core.effects import Synced
from tinyraft.core.entry import Entry, Index, NodeId
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
)
from tinyraft.core.raft import Raft
from tinyraft.logs import Log
from tinyraft.node.bell import Bell
from tinyraft.node.clock import Clock
from tinyraft.node.lanes import BulkLane, ControlLane
from tinyraft.node.peers import Peers
from tinyraft.node.shipment import Shipments
from tinyraft.node.sightings import Sightings

B = NodeId("b")


def nothing(after: Index, to: Index, max_bytes: int) -> list[Entry]:
    """Read from a disk that is never asked."""
    raise AssertionError(f"({after}, {to}] is in memory, and {max_bytes} bytes have room")


class FakeStream:
    """A stream whose replies the test gives."""

    def __init__(self, appends: Iterator[AppendEntries]) -> None:
        self.appends = appends
        self.replies: SimpleQueue[AppendReply | None] = SimpleQueue()
        self.sent: list[AppendEntries] = []
        self.said_goodbye = Event()
        self.cancelled = Event()
        self.sender = threading.Thread(target=self.send, daemon=True)
        self.sender.start()

    def send(self) -> None:
        """Do what gRPC's sending thread does."""
        for append in self.appends:
            self.sent.append(append)
        self.said_goodbye.set()
        self.replies.put(None)

    def __iter__(self) -> Iterator[AppendReply]:
        return iter(self.replies.get, None)

    def cancel(self) -> None:
        """Break off."""
        self.cancelled.set()
        self.replies.put(None)


class FakeLink:
    """A peer that is a list of calls and streams."""

    def __init__(self, *where: str) -> None:
        self.where = where
        self.streams: list[FakeStream] = []
        self.calls: list[Any] = []
        self.closed = Event()

    def call(self, request: Any, *, timeout: float) -> Any:
        """Note the call; there is never an answer."""
        self.calls.append(request)

    def open_stream(self, appends: Iterator[AppendEntries]) -> FakeStream:
        """Open another."""
        self.streams.append(FakeStream(appends))
        return self.streams[-1]

    def close(self) -> None:
        """Break everything off."""
        self.closed.set()
        for stream in self.streams:
            stream.cancel()


class Bench:
    """A core behind a lock, as the node has it, with lanes to b."""

    def __init__(self, core: Raft) -> None:
        self.core = core
        self.lock = threading.Lock()
        self.link = FakeLink()
        self.silences: list[bool] = []
        self.now = 0.0
        clock = Clock(monotonic=lambda: self.now)
        shared: dict[str, Any] = {
            "raft": core,
            "turn": self.turn,
            "glance": self.glance,
            "log": Log("test"),
        }
        self.control = ControlLane(
            B,
            self.link,
            timeout=0.2,
            silent_too_long=lambda: self.silences.append(True),
            clock=clock,
            **shared,
        )
        self.bulk = BulkLane(
            B, self.link, fetch=nothing, shipments=Shipments(empty_shelf()), backoff=0.01, **shared
        )

    def turn(self, event: Callable[[Raft], object]) -> object:
        """Visit the core, let the disk finish at once, and ring whom that concerns."""
        with self.lock:
            led = self.core.leadership is not None
            result = event(self.core)
            effects = self.core.take()
            if effects.write is not None:
                self.core.synced(Synced(effects.write.mark))
            later = self.core.take()
            changed = led != (self.core.leadership is not None)
        if changed or B in effects.control | later.control:
            self.control.ring()
        if changed:
            self.bulk.ring()
        elif B in effects.bulk | later.bulk:
            self.bulk.news()
        return result

    def glance(self, event: Callable[[Raft], object]) -> object:
        """Take something from the core."""
        with self.lock:
            return event(self.core)

    def propose(self, *commands: bytes) -> None:
        """Append commands."""
        self.turn(lambda raft: raft.propose(commands, time_us=0))

    def match(self, index: int) -> None:
        """Let b confirm everything up to *index*."""
        self.bulk.deliver(AppendReply(self.core.term, True, index))

    def run(self, *lanes: Any) -> list[threading.Thread]:
        """Run threads of lanes."""
        threads = [threading.Thread(target=lane.run, daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        return threads


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Lend a leader of three, with lanes to one follower."""
    made = Bench(make_leader("a", "a", "b", "c"))
    yield made
    made.control.stop()
    made.bulk.stop()
    made.link.close()


# --- the control lane -------------------------------------------------------------------------


def test_the_control_lane_pulls_what_is_due_once(bench: Bench) -> None:
    """A heartbeat is sent once a beat, with the newest round."""
    first = bench.control.next_request()
    assert isinstance(first, Heartbeat)
    assert bench.control.next_request() is None
    bench.turn(Raft.tick)
    bench.turn(Raft.tick)
    second = bench.control.next_request()
    assert isinstance(second, Heartbeat)
    assert first.round + 2 == second.round


def test_the_control_lane_asks_for_votes() -> None:
    """A candidate's question comes over the same lane."""
    bench = Bench(make_core("a", "a", "b", "c"))
    while bench.core.candidacy is None:
        bench.turn(Raft.tick)
    assert isinstance(bench.control.next_request(), RequestPreVote)
    assert bench.control.next_request() is None


def test_a_reply_reaches_the_core(bench: Bench) -> None:
    """A heartbeat's round is noted."""
    bench.control.deliver(HeartbeatReply(bench.core.term, 1))
    assert bench.core.leadership is not None
    assert 1 == bench.core.leadership.progress[B].acked_round
    bench.control.deliver(HeartbeatReply(bench.core.term + 5, 1))
    assert bench.core.leadership is None


def test_a_silent_peer_is_told_once_and_its_stream_is_broken_off(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it goes, one when it comes back; after two timeouts the stream goes too."""
    with caplog.at_level(logging.INFO):
        bench.control.deliver(HeartbeatReply(bench.core.term, 1))
        bench.control.deliver(None)
        bench.now += 0.39
        bench.control.deliver(None)
        assert [] == bench.silences
        bench.now += 0.02
        bench.control.deliver(None)
        bench.control.deliver(HeartbeatReply(bench.core.term, 2))
    assert [True] == bench.silences
    assert [
        "event='peer_unreachable' peer='b'",
        "event='peer_reachable' peer='b' failures=3",
    ] == [r.message for r in caplog.records]


def test_a_silence_begins_with_a_question(bench: Bench) -> None:
    """A leader that was busy itself asked nobody: that time is no silence of its peer (P95)."""
    bench.control.deliver(HeartbeatReply(bench.core.term, 1))
    bench.now += 1.0
    for late in (0.2, 0.19):
        assert bench.control.next_request() is not None
        bench.turn(Raft.tick)
        bench.now += late
        bench.control.deliver(None)
        assert [] == bench.silences
    assert bench.control.next_request() is not None
    bench.now += 0.02
    bench.control.deliver(None)
    assert [True] == bench.silences


def test_the_control_lane_ends_when_told(bench: Bench) -> None:
    """Waiting for its bell or not."""
    (thread,) = bench.run(bench.control)
    until(lambda: bench.link.calls)
    bench.control.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()


# --- the bulk lane ----------------------------------------------------------------------------


def test_one_append_is_in_flight(bench: Bench) -> None:
    """What arrives meanwhile rides with the next, all of it in one message."""
    first, _ = bench.bulk.next_request(notes=False)
    assert first is not None
    assert [2] == [e.index for e in first.entries]
    bench.propose(b"x")
    bench.propose(b"y", b"z")
    assert (None, False) == bench.bulk.next_request(notes=False)
    bench.match(2)
    second, _ = bench.bulk.next_request(notes=False)
    assert second is not None
    assert [3, 4, 5] == [e.index for e in second.entries]


def test_a_lost_append_is_sent_again(bench: Bench) -> None:
    """An unanswered append is not taken for received."""
    first, _ = bench.bulk.next_request(notes=False)
    bench.bulk.lost()
    again, _ = bench.bulk.next_request(notes=False)
    assert first is not None
    assert again is not None
    assert [e.index for e in first.entries] == [e.index for e in again.entries]


def test_an_append_that_was_taken_for_a_stream_that_ended_is_sent_again(bench: Bench) -> None:
    """The sending thread may take it just when the stream ends: else that peer never gets more."""
    lane, over, usual = bench.bulk, Event(), bench.bulk._glance

    def glance(event: Callable[[Raft], object]) -> object:
        result = usual(event)
        over.set()
        return result

    lane._glance = glance
    assert [] == list(lane._appends(over, Bell()))
    lane._glance = usual
    assert lane.next_request(notes=False)[0] is not None


def test_a_newer_commit_index_waits_for_an_append_to_ride_with(bench: Bench) -> None:
    """Without entries it is only a note, which is sent when it is asked for."""
    append, _ = bench.bulk.next_request(notes=False)
    assert append is not None
    assert not append.is_note, "somebody waits for the answer"
    bench.match(2)  # a majority of three: committed
    assert 2 == bench.core.commit_index
    assert (None, True) == bench.bulk.next_request(notes=False)
    note, _ = bench.bulk.next_request(notes=True)
    assert note is not None
    assert (0, 2, True) == (len(note.entries), note.commit_index, note.is_note)
    assert (None, False) == bench.bulk.next_request(notes=False)


def test_a_commit_wakes_nobody_who_will_look_by_himself(bench: Bench) -> None:
    """Entries do; and so does a commit behind that look."""
    lane = bench.bulk
    lane.next_request(notes=False)
    lane._looks_again = True
    lane.bell.take()
    bench.match(2)
    assert not lane.wire_bell.take()
    bench.propose(b"x")
    assert lane.wire_bell.take()
    lane._looks_again = False
    lane.next_request(notes=False)
    bench.match(3)
    assert lane.wire_bell.take()


def test_who_looked_in_vain_is_rung(bench: Bench) -> None:
    """It waited for company, found nothing committed, and sleeps until somebody rings."""
    lane, bell = bench.bulk, Bell()
    lane.next_request(notes=False)
    assert not lane._wait_for_company(bell)
    bench.match(2)
    assert lane.wire_bell.take()


def test_the_sending_thread_notes_the_commit_a_little_later(bench: Bench) -> None:
    """Nobody proposes, and yet the follower learns soon what is committed."""
    bench.run(bench.bulk)
    stream = until(lambda: bench.link.streams)[0]
    until(lambda: stream.sent)
    stream.replies.put(AppendReply(bench.core.term, True, 2))
    note = until(lambda: stream.sent[1:])[0]
    assert (0, 2) == (len(note.entries), note.commit_index)


def test_a_leader_that_steps_down_says_goodbye(bench: Bench) -> None:
    """The stream ends on purpose, and none is opened until the node leads again."""
    bench.run(bench.bulk)
    stream = until(lambda: bench.link.streams)[0]
    bench.turn(lambda raft: raft.answer(HeartbeatReply(99, 1), sender=B))
    assert stream.said_goodbye.wait(DEADLINE)
    assert not stream.cancelled.is_set()
    assert 1 == len(bench.link.streams)


def test_a_broken_stream_is_opened_again(bench: Bench) -> None:
    """What was in flight is sent anew, and the old stream's sending thread ends."""
    bench.run(bench.bulk)
    first = until(lambda: bench.link.streams)[0]
    until(lambda: first.sent)
    first.replies.put(None)  # the wire broke
    second = until(lambda: bench.link.streams[1:])[0]
    until(lambda: second.sent)
    assert [2] == [e.index for e in second.sent[0].entries]
    first.sender.join(DEADLINE)
    assert not first.sender.is_alive()


def test_silence_breaks_the_stream_off(bench: Bench) -> None:
    """A peer that hangs without closing its connection does not hold the lane."""
    bench.bulk.break_off()  # before there is one
    bench.run(bench.bulk)
    first = until(lambda: bench.link.streams)[0]
    bench.bulk.break_off()
    assert first.cancelled.is_set()
    until(lambda: bench.link.streams[1:])


def test_the_bulk_lane_ends_when_told(bench: Bench) -> None:
    """With an open stream it says goodbye; while it waits to lead it just ends."""
    (thread,) = bench.run(bench.bulk)
    stream = until(lambda: bench.link.streams)[0]
    bench.bulk.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert stream.said_goodbye.is_set()
    follower = Bench(make_core("a", "a", "b"))
    (thread,) = follower.run(follower.bulk)
    follower.bulk.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert [] == follower.link.streams


def test_commands_proposed_at_any_moment_are_all_sent(bench: Bench) -> None:
    """No ring is lost between the look and the wait, whoever proposes when."""
    bench.run(bench.bulk)
    stream = until(lambda: bench.link.streams)[0]
    answered = 0

    def answer() -> bool:
        nonlocal answered
        for append in stream.sent[answered:]:
            answered += 1
            last = append.prev_index + len(append.entries)
            stream.replies.put(AppendReply(bench.core.term, True, last))
        return bench.core.commit_index >= 2 + 200

    def propose() -> None:
        for number in range(50):
            bench.propose(b"%d" % number)
            until(lambda: bench.core.log.last_index - bench.core.commit_index < 90)

    threads = [threading.Thread(target=propose, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(answer, what="all are committed")


# --- all peers --------------------------------------------------------------------------------


class Table:
    """The peers of node a, with links that are only noted."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.core = make_core("a", "a", "b", "c")
        self.deaths: list[object] = []
        self.sightings = Sightings(NodeId("a"))
        self.peers = Peers(
            me=NodeId("a"),
            connect=self.connect,
            sightings=self.sightings,
            turn=lambda event: event(self.core),
            glance=lambda event: event(self.core),
            fetch=nothing,
            shipments=Shipments(empty_shelf()),
            died=lambda *facts: self.deaths.append(facts),
            election_timeout=0.4,
            log=Log("test"),
        )

    def connect(self, peer: NodeId, address: str, /) -> FakeLink:
        self.links.append(FakeLink(peer, address))
        return self.links[-1]

    def threads(self) -> set[str]:
        """Name the lanes' threads."""
        return {t.name for t in threading.enumerate() if t.name.startswith("tinyraft-a-")}


@pytest.fixture
def table() -> Iterator[Table]:
    """Lend a table of peers."""
    made = Table()
    yield made
    made.peers.say_goodbye()
    made.peers.close(deadline=monotonic() + DEADLINE)
    assert set() == made.threads()
    assert all(link.closed.is_set() for link in made.links)
    assert [] == made.deaths


def test_each_peer_has_two_threads_and_oneself_none(table: Table) -> None:
    """Everybody in the configuration is served, voter or not."""
    table.peers.reconcile(configuration("a", "b", learners="d"), table.core)
    assert {("b", "b.example:1"), ("d", "d.example:1")} == {link.where for link in table.links}
    names = {f"tinyraft-a-{lane}-{peer}" for lane in ("control", "bulk") for peer in "bd"}
    assert names == table.threads()


def test_who_stays_keeps_its_link(table: Table) -> None:
    """Only who came, went or moved is touched; who went is broken off."""
    table.peers.reconcile(configuration("a", "b", "c"), table.core)
    before = {link.where[0]: link for link in table.links}
    moved = configuration("a", "b", "d")
    table.peers.reconcile(moved, table.core)
    assert ["b", "c", "d"] == [link.where[0] for link in table.links]
    assert (False, True) == (before["b"].closed.is_set(), before["c"].closed.is_set())
    until(lambda: not {name for name in table.threads() if name.endswith("-c")})


def test_who_moved_gets_another_link(table: Table) -> None:
    """A peer at another address is dialled there; the old link is broken off."""
    table.peers.reconcile(configuration("a", "b"), table.core)
    at = configuration("a", "b")
    there = at.with_member(type(at.members[1])(B, "elsewhere:9", voter=True))
    table.peers.reconcile(there, table.core)
    assert [("b", "b.example:1"), ("b", "elsewhere:9")] == [link.where for link in table.links]
    assert [True, False] == [link.closed.is_set() for link in table.links]


def test_rings_for_nobody_are_no_error(table: Table) -> None:
    """The core may know a peer a moment before the table does."""
    table.peers.ring_bulk([B])
    table.peers.ring_control([B])
    table.peers.ring_all()
    assert [] == table.links
