"""A caller's queries on their way to one node: its threads share a stream.

Law: one batch is under way; what comes meanwhile goes with the next. A query has no effect, so
whoever asks may ask again, here or elsewhere, whatever became of the stream.

A thread that gives up leaves its query behind: the batch is under way till the node has answered
all of it, or the stream is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic

import grpc

from tinyraft.chain import Chain, nothing
from tinyraft.core.entry import Index
from tinyraft.errors import ApplyTimeout, ConnectionLost, NotStarted, TinyraftError
from tinyraft.transport.channels import Channels
from tinyraft.transport.queues import take_all, take_rest
from tinyraft.transport.remote import query as ask_alone
from tinyraft.transport.statuses import from_result, from_rpc_error
from tinyraft.transport.undivided import undivided
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

BATCH_BYTES = 2 << 20
LONGEST_REQUEST = 1 << 20  # goes with others; a longer one goes alone
IDLE_SECONDS = 60.0
JOIN_SECONDS = 1.0
LOOK_SECONDS = 0.5  # between two looks at what nobody said (see `chain`)


class Query:
    """One query, and the thread that waits for its answer."""

    __slots__ = ("chain", "deadline", "error", "has_left", "message", "place", "result")

    def __init__(self, message: pb.StreamedQuery, *, deadline: float) -> None:
        """Ask *message*, whose number the stream chooses."""
        self.message = message
        self.deadline = deadline
        self.result: pb.StreamedResult | None = None
        self.error: TinyraftError | None = None
        self.chain: Chain | None = None  # of those who are told with it, once they are
        self.has_left = False
        self.place = Lock()
        self.place.acquire()


class QueryStream:
    """One open stream. Thread-safe."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        """Begin to open a stream to *address*."""
        self.address = address
        self.is_over = False
        self.is_unknown = False  # a node of before there were such streams
        self._lock = Lock()  # guards is_over, _pending, and chain and has_left of every query; leaf
        self._queue: SimpleQueue[Query | None] = SimpleQueue()
        self._pending: dict[int, Query] = {}  # the batch under way
        self._may_send = Lock()  # held while there is one
        self._next_id = 0
        self._call = RaftServiceV1Stub(channel).QueryStream(self._requests())
        self._receiver = Thread(
            target=self._receive, name=f"tinyraft-caller-queries-{address}", daemon=True
        )
        try:
            self._receiver.start()
        except RuntimeError as error:  # the system has no thread for it
            self._call.cancel()
            self._end(ConnectionLost(str(error)))

    def ask(self, query: Query) -> pb.StreamedResult:
        """Send *query* and wait for its result.

        Raises:
            ApplyTimeout: There was none until its deadline.
            TinyraftError: The node could not be asked, or said so.
        """
        if not self._put_and_wait(query):
            raise ApplyTimeout(f"{self.address} did not answer a query in time")
        if query.error is not None:
            raise query.error
        assert query.result is not None, "one of both"
        error = from_result(query.result)
        if error is not None:
            raise error
        return query.result

    def _put_and_wait(self, query: Query) -> bool:
        """Wait for the answer, and wake the next who has one; False when time is over."""
        try:
            self._queue.put(query)
            if self.is_over:
                self._abandon()
            while not query.place.acquire(timeout=self._patience(query)):
                if query.chain is not None or monotonic() >= query.deadline:
                    return self._leave(query)
        except BaseException:
            self._leave(query)
            raise
        assert query.chain is not None, "it was woken"
        query.chain.pass_on()
        return True

    def _patience(self, query: Query) -> float:
        return max(0.0, min(LOOK_SECONDS, query.deadline - monotonic()))

    def _leave(self, query: Query) -> bool:
        """Wait no more to be woken; tell whether the answer is there all the same."""
        with self._lock:
            chain = query.chain
            query.has_left = chain is None
        if chain is None:
            return False
        if not chain.leave(query.place):
            chain.pass_on()
        return True

    # --- the two threads of the stream ----------------------------------------------------------

    def _requests(self) -> Iterator[pb.QueryStreamRequest]:
        """Give gRPC's sending thread everything queued, batch by batch."""
        while True:
            try:
                first = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                if self._end_idle():
                    return
                continue
            self._wait_for_batch()  # and meanwhile more may come
            batch = self._take(first)
            if batch is None:
                return
            if batch:
                yield pb.QueryStreamRequest(queries=batch)
            else:
                self._let_send()

    def _wait_for_batch(self) -> None:
        """Wait until the batch under way is over, and who asked is awake (who may not say so)."""
        while not self._may_send.acquire(timeout=LOOK_SECONDS):
            with self._lock:
                if not self._pending:
                    return

    def _take(self, first: Query | None) -> list[pb.StreamedQuery] | None:
        """Take what is queued; None when the stream is over."""
        queries = take_rest(self._queue, first, room=BATCH_BYTES, size=size_of)
        now = monotonic()
        batch: list[pb.StreamedQuery] = []
        with self._lock:
            if not self.is_over:
                for query in queries:
                    if query is None or query.has_left:
                        continue
                    message = query.message
                    message.id = self._next_id = self._next_id + 1
                    message.timeout_ms = max(1, int((query.deadline - now) * 1000))
                    self._pending[message.id] = query
                    batch.append(message)
                return batch
        for query in queries:
            self._queue.put(query)
        self._abandon()
        return None

    def _end_idle(self) -> bool:
        """End a stream that nobody used for a while, so that it holds no thread of the node."""
        with self._lock:
            if not self._pending and self._queue.empty():
                self.is_over = True
            return self.is_over

    def _receive(self) -> None:
        error: TinyraftError = ConnectionLost(f"{self.address} ended the stream of queries")
        try:
            for message in self._call:
                self._answer(message.results)
        except grpc.RpcError as ended:
            self.is_unknown = ended.code() is grpc.StatusCode.UNIMPLEMENTED
            error = from_rpc_error(ended)
        finally:
            self._end(error)

    def _answer(self, results: Iterable[pb.StreamedResult]) -> None:
        answered: list[Query] = []
        with self._lock:
            for result in results:
                query = self._pending.pop(result.id, None)
                if query is not None and not query.has_left:
                    query.result = result
                    answered.append(query)
            at_end = nothing if self._pending else self._let_send
            chain = self._line_up(answered, at_end)
        chain.open()

    def _let_send(self) -> None:
        """The batch is over, and all who waited for it are awake: many ask again."""
        with suppress(RuntimeError):  # the stream's end did it
            self._may_send.release()

    def _line_up(self, queries: Iterable[Query], at_end: Callable[[], object] = nothing) -> Chain:
        """Put who is told now into a line. Under the lock."""
        chain = Chain(at_end)
        for query in queries:
            query.chain = chain
            chain.join(query.place)
        return chain

    def _end(self, error: TinyraftError) -> None:
        """Answer everybody: the stream is over."""
        with self._lock:
            self.is_over = True
            pending, self._pending = list(self._pending.values()), {}
            waiting = [query for query in pending if not query.has_left]
            for query in waiting:
                query.error = error
            chain = self._line_up(waiting)
        chain.open()
        self._queue.put(None)  # ends the sending thread
        self._let_send()
        self._abandon()

    def _abandon(self) -> None:
        """Answer what was never sent."""
        left = take_all(self._queue)
        self._queue.put(None)
        with self._lock:
            waiting = [query for query in left if query is not None and not query.has_left]
            for query in waiting:
                query.error = ConnectionLost(f"the stream of queries to {self.address} is over")
            chain = self._line_up(waiting)
        chain.open()

    def break_off(self) -> None:
        """End at once."""
        self._call.cancel()
        self._receiver.join(JOIN_SECONDS)


def size_of(query: Query | None) -> int:
    """Count the bytes of a request."""
    return len(query.message.request) if query is not None else 0


class Queries:
    """The streams of one caller, by node. Thread-safe; its lock is a leaf.

    What may be stale has streams of its own: it never waits behind what needs a leader.
    """

    def __init__(self, channels: Channels) -> None:
        """Open them, when they are needed, over *channels*."""
        self._channels = channels
        self._lock = Lock()  # guards _streams; leaf
        self._streams: dict[tuple[str, bool], QueryStream] = {}
        self._old: set[str] = set()  # addresses of nodes without such streams

    def ask(
        self, address: str, request: bytes, *, is_stale: bool, min_index: Index, timeout: float
    ) -> bytes:
        """Ask the module of the node at *address*, when that has applied *min_index*.

        Raises:
            ReadFailed: The module could not answer.
            TinyraftError: The node could not be asked.
        """
        deadline = monotonic() + timeout
        if len(request) <= LONGEST_REQUEST and address not in self._old:
            consistency = pb.CONSISTENCY_STALE if is_stale else pb.CONSISTENCY_LINEARIZABLE
            message = pb.StreamedQuery(
                request=request, consistency=consistency, min_index=min_index
            )
            found = self._ask_in_stream(address, message, is_stale=is_stale, deadline=deadline)
            if found is not None and not found.too_long:
                return found.result
        return ask_alone(
            self._channels.to(address),
            request,
            is_stale=is_stale,
            min_index=min_index,
            timeout=max(0.0, deadline - monotonic()),
        )

    def _ask_in_stream(
        self, address: str, message: pb.StreamedQuery, *, is_stale: bool, deadline: float
    ) -> pb.StreamedResult | None:
        """Ask in the open stream, or in a new one; None when the node knows no such streams."""
        for is_last in (False, True):
            stream = self._stream(address, is_stale=is_stale)
            query = Query(message, deadline=deadline)
            try:
                return stream.ask(query)
            except TinyraftError:
                if stream.is_unknown:
                    self._old.add(address)
                    return None
                if is_last or not stream.is_over or message.id:
                    raise  # else it was idle for too long just now, and nothing was sent
        raise AssertionError("the last one raises")

    def _stream(self, address: str, *, is_stale: bool) -> QueryStream:
        place = address, is_stale
        stream = self._streams.get(place)
        if stream is not None and not stream.is_over:
            return stream
        undivided(lambda: self._open(place), name="tinyraft-caller-opening")
        return self._streams[place]

    def _open(self, place: tuple[str, bool]) -> None:
        address, _ = place
        channel = self._channels.to(address)
        with self._lock:
            stream = self._streams.get(place)
            if stream is None or stream.is_over:
                try:
                    self._streams[place] = QueryStream(channel, address)
                except ValueError as error:  # grpc's word for a channel that was closed
                    raise NotStarted("this caller was closed; nothing was asked") from error

    def close(self) -> None:
        """Break off everything. The channels were closed before, so nothing new comes."""
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.break_off()
