"""A caller's streams of queries: batches, ends, and nodes of before there were such streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from time import monotonic
from typing import Any

import grpc
import pytest

from tests.cluster import DEADLINE, until
from tinyraft.errors import ApplyTimeout, ConnectionLost, NodeRemoved, NotStarted, ReadFailed
from tinyraft.transport import queries as queries_module
from tinyraft.transport.channels import Channels
from tinyraft.transport.options import caller_options, server_options
from tinyraft.transport.queries import LONGEST_REQUEST, Queries
from tinyraft.transport.statuses import to_result_fields
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Servicer, add_RaftServiceV1Servicer_to_server

Answers = list[pb.StreamedResult]


class Echo(RaftServiceV1Servicer):
    """A node that answers a query with itself, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.streams = 0
        self.alone: list[bytes] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.answers: Callable[[Any, Any], Answers] = lambda queries, _context: [
            pb.StreamedResult(id=one.id, result=one.request) for one in queries
        ]

    def QueryStream(self, requests: Iterator[pb.QueryStreamRequest], context: Any) -> Any:
        self.streams += 1
        for message in requests:
            self.batches.append([one.request for one in message.queries])
            self.may_answer.wait(DEADLINE)
            yield pb.QueryStreamResponse(results=self.answers(message.queries, context))

    def Query(self, request: pb.QueryRequest, context: Any) -> pb.QueryResponse:
        self.alone.append(request.request)
        return pb.QueryResponse(result=request.request)


class Old(Echo):
    """A node of before there were streams."""

    def QueryStream(self, requests: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")


class Bench:
    """A caller's queries, and the node that they go to."""

    def __init__(self, node: Echo, address: str, queries: Queries) -> None:
        self.node, self.address, self.queries = node, address, queries
        self.pool = ThreadPoolExecutor(64)

    def ask(self, request: bytes, *, is_stale: bool = False, timeout: float = DEADLINE) -> bytes:
        return self.queries.ask(
            self.address, request, is_stale=is_stale, min_index=0, timeout=timeout
        )

    def begin(self, *requests: bytes, timeout: float = DEADLINE) -> list[Any]:
        """Ask in threads of their own."""
        return [self.pool.submit(self.ask, one, timeout=timeout) for one in requests]


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Lend them; no thread stays."""
    node = getattr(request, "param", Echo)()
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=server_options())
        add_RaftServiceV1Servicer_to_server(node, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        channels = Channels(caller_options(), closed="closed")
        bench = Bench(node, address, Queries(channels))
        yield bench
        node.may_answer.set()
        channels.close()
        bench.queries.close()
        bench.pool.shutdown()
        server.stop(0).wait(DEADLINE)
    until(
        lambda: not [t for t in threading.enumerate() if "caller-queries" in t.name],
        what="the receivers end",
    )


def test_what_comes_while_a_batch_is_under_way_goes_with_the_next(bench: Bench) -> None:
    """All of it, in one message, and each thread gets its own answer."""
    bench.node.may_answer.clear()
    first = bench.begin(b"first")
    until(lambda: bench.node.batches, what="it has come")
    words = [b"%d" % number for number in range(30)]
    rest = bench.begin(*words)
    (stream,) = bench.queries._streams.values()
    # One of them was taken out of the queue already, by the thread that waits to send.
    until(lambda: stream._queue.qsize() >= 29, what="they are queued")
    assert [[b"first"]] == bench.node.batches
    bench.node.may_answer.set()
    assert [b"first", *words] == [one.result(DEADLINE) for one in first + rest]
    assert ([b"first"], sorted(words)) == (bench.node.batches[0], sorted(bench.node.batches[1]))


def test_what_may_be_stale_waits_for_nobody(bench: Bench) -> None:
    """It has a stream of its own, beside one that waits for a leader."""
    bench.node.answers = lambda queries, _context: (
        [] if queries[0].consistency == pb.CONSISTENCY_LINEARIZABLE else echo(queries)
    )
    waits = bench.begin(b"current", timeout=3.0)
    until(lambda: bench.node.batches, what="it has come")
    assert b"stale" == bench.ask(b"stale", is_stale=True)
    assert isinstance(waits[0].exception(DEADLINE), ApplyTimeout)


def echo(queries: Any) -> Answers:
    """Answer all."""
    return [pb.StreamedResult(id=one.id, result=one.request) for one in queries]


def test_errors_come_as_what_they_are(bench: Bench) -> None:
    """Of each query by itself; of a newer node as what it promises."""
    said = {
        b"removed": to_result_fields(NodeRemoved("gone")),
        b"failed": to_result_fields(ReadFailed("module")),
        b"new": {"error": "NewsOfTomorrow", "outcome": "not-applied", "message": "?"},
    }
    bench.node.answers = lambda queries, _context: [
        pb.StreamedResult(id=one.id, **said.get(one.request, {})) for one in queries
    ]
    with pytest.raises(NodeRemoved, match="gone"):
        bench.ask(b"removed")
    with pytest.raises(ReadFailed, match="module"):
        bench.ask(b"failed")
    with pytest.raises(queries_module.TinyraftError, match=r"\?"):
        bench.ask(b"new")
    assert b"" == bench.ask(b"fine")
    assert 1 == bench.node.streams


def test_who_gives_up_holds_nobody_up(bench: Bench) -> None:
    """The batch is over when the node has answered, whoever still waits."""
    bench.node.may_answer.clear()
    began = monotonic()
    hasty = bench.begin(b"a", timeout=0.2)
    until(lambda: bench.node.batches, what="it has come")
    hasty += bench.begin(b"b", b"c", timeout=0.2)
    patient = bench.begin(b"d")
    for one in hasty:
        assert isinstance(one.exception(DEADLINE), ApplyTimeout)
    assert monotonic() - began < 5
    bench.node.may_answer.set()
    assert b"d" == patient[0].result(DEADLINE)
    assert [b"d"] == bench.node.batches[-1], "nobody waits for the others any more"


@pytest.mark.parametrize("when", ["before an answer", "between two"])
def test_a_stream_that_breaks_is_told_and_another_is_opened(bench: Bench, when: str) -> None:
    """Everybody may ask again: nothing had an effect."""
    breaks = True

    def answers(queries: Any, context: Any) -> Answers:
        if breaks:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the process is gone")
        return echo(queries)

    bench.node.answers = answers
    if when == "between two":
        breaks = False
        assert b"x" == bench.ask(b"x")
        breaks = True
    bench.node.may_answer.clear()
    lost = bench.begin(b"y")
    until(lambda: [b"y"] in bench.node.batches, what="it has come")
    lost += bench.begin(b"z")
    (stream,) = bench.queries._streams.values()
    until(lambda: stream._may_send.locked(), what="it waits to be sent")
    bench.node.may_answer.set()
    assert isinstance(lost[0].exception(DEADLINE), ConnectionLost)
    lost[1].exception(DEADLINE)  # sent in a new stream, which broke, or with the first
    breaks = False
    assert b"again" == bench.ask(b"again")


def test_a_node_that_is_not_there_is_told_at_once(bench: Bench) -> None:
    """Not after the query's time."""
    bench.address, began = "127.0.0.1:1", monotonic()
    with pytest.raises(ConnectionLost):
        bench.ask(b"x")
    assert monotonic() - began < DEADLINE / 2


def test_an_idle_stream_ends_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a thread of the node; the next query opens another."""
    monkeypatch.setattr(queries_module, "IDLE_SECONDS", 0.01)
    bench.ask(b"x")
    (stream,) = bench.queries._streams.values()
    until(lambda: stream.is_over and not stream._receiver.is_alive(), what="it ends")
    assert b"y" == bench.ask(b"y")
    assert 2 == bench.node.streams
    for number in range(200):  # whatever the moment is, the query gets through
        word = b"%d" % number
        assert word == bench.ask(word)


@pytest.mark.parametrize("bench", [Old], indirect=True)
def test_an_older_node_is_asked_alone(bench: Bench) -> None:
    """It knows no such streams, and is not asked for one again."""
    assert [b"x", b"y"] == [bench.ask(b"x"), bench.ask(b"y")]
    assert ([b"x", b"y"], {bench.address}) == (bench.node.alone, bench.queries._old)


def test_what_is_too_long_goes_alone(bench: Bench) -> None:
    """A request that would burst a batch, a result that would burst a message."""
    long = b"x" * (LONGEST_REQUEST + 1)
    assert long == bench.ask(long)
    assert ([long], []) == (bench.node.alone, bench.node.batches)
    bench.node.answers = lambda queries, _context: [
        pb.StreamedResult(id=one.id, too_long=True) for one in queries
    ]
    assert b"y" == bench.ask(b"y")
    assert [long, b"y"] == bench.node.alone


def test_a_closed_caller_tells_who_waits(bench: Bench) -> None:
    """And takes no more."""
    bench.node.may_answer.clear()
    waits = bench.begin(b"x")
    until(lambda: bench.node.batches, what="it has come")
    bench.queries._channels.close()
    bench.queries.close()
    assert isinstance(waits[0].exception(DEADLINE), ConnectionLost)
    with pytest.raises(NotStarted):
        bench.ask(b"y")


class Unstartable:
    """A thread too many."""

    def __init__(self, **_: object) -> None:
        """Nothing."""

    def start(self) -> None:
        """Fail as the system does."""
        raise RuntimeError("can't start new thread")


def test_a_stream_without_its_thread_is_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has none left: whoever asks is told, and may ask elsewhere."""
    with monkeypatch.context() as patch:
        patch.setattr(queries_module, "Thread", Unstartable)
        with pytest.raises(ConnectionLost):
            bench.ask(b"x")
    bench.queries._streams.clear()
    assert b"y" == bench.ask(b"y")


def test_an_interrupt_leaves_nobody_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits: the others are answered."""

    class Interrupted:
        def __init__(self) -> None:
            self._lock = threading.Lock()

        def acquire(self, **how: object) -> bool:
            if how:
                self._lock.acquire(timeout=DEADLINE)  # woken, and then
                raise KeyboardInterrupt
            return self._lock.acquire()

        def release(self) -> None:
            self._lock.release()

    made: SimpleQueue[object] = SimpleQueue()
    bench.ask(b"x")
    bench.node.may_answer.clear()
    under_way = bench.begin(b"first")
    until(lambda: [b"first"] in bench.node.batches, what="it has come")
    with monkeypatch.context() as patch:
        patch.setattr(queries_module, "Lock", lambda: made.put(1) or Interrupted())
        hit = bench.begin(b"hit")
        until(lambda: made.qsize() == 1, what="its place is made")
    (stream,) = bench.queries._streams.values()
    until(lambda: stream._may_send.locked(), what="it waits to be sent")
    others = bench.begin(*[b"%d" % number for number in range(8)], timeout=DEADLINE)
    until(lambda: stream._queue.qsize() >= 8, what="they are queued")
    bench.node.may_answer.set()
    assert isinstance(hit[0].exception(DEADLINE), KeyboardInterrupt)
    assert b"first" == under_way[0].result(DEADLINE)
    assert [b"%d" % number for number in range(8)] == [one.result(DEADLINE / 2) for one in others]
