"""The open streams of queries: a batch comes in, its results leave, and then the next one.

Law: the queries of a batch share one visit to the leader, which begins after the batch has come.
While it is under way the caller gathers the next batch, so the load decides how large they are. A
query has no effect: whatever ends a stream, its caller asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic

import grpc

from tinyraft.errors import NoQuorum, TinyraftError
from tinyraft.transport.envelope import Malformed
from tinyraft.transport.hosting import UNTIMED_SECONDS, Admission, Context, Gate, refuse
from tinyraft.transport.packing import in_parts
from tinyraft.transport.statuses import to_result_fields
from tinyraft.wire import raft_pb2 as pb

LONGEST_RESULT = 7 << 20  # below the shortest limit of any caller


class QueryStreams:
    """The open streams of one node."""

    def __init__(self, limit: int) -> None:
        """Serve at most *limit* streams; each takes a thread."""
        self._admission = Admission(limit, "streams of queries")
        self._idle: set[Context] = set()
        self._closing = False

    def serve(
        self,
        entrance: Callable[[], Gate],
        requests: Iterator[pb.QueryStreamRequest],
        context: Context,
    ) -> Iterator[pb.QueryStreamResponse]:
        """Answer batch after batch."""
        try:
            gate = entrance()
            place = self._admission.enter()
        except TinyraftError as error:
            refuse(context, error)
        self._idle.add(context)
        if self._closing:
            context.cancel()  # `close` may have come before
        try:
            for message in requests:
                self._idle.discard(context)
                yield from answers(gate, message.queries)
                self._idle.add(context)
                if self._closing:
                    return
        except grpc.RpcError:
            return  # the caller is gone, or `close` was called
        finally:
            self._idle.discard(context)
            self._admission.leave(place)

    def close(self) -> None:
        """End every stream, behind the batch that it is at."""
        self._closing = True
        for context in tuple(self._idle):
            context.cancel()


def answers(gate: Gate, queries: Sequence[pb.StreamedQuery]) -> Iterator[pb.QueryStreamResponse]:
    """Answer a batch: first what may be stale, which waits for nobody's word."""
    came_at = monotonic()
    stale = [one for one in queries if one.consistency == pb.CONSISTENCY_STALE]
    if stale:
        yield from answer(gate, stale, came_at=came_at, is_stale=True)
    current = [one for one in queries if one.consistency == pb.CONSISTENCY_LINEARIZABLE]
    if current:
        yield from answer(gate, current, came_at=came_at, is_stale=False)
    if len(stale) + len(current) < len(queries):
        error = Malformed("consistency must be CONSISTENCY_LINEARIZABLE or CONSISTENCY_STALE")
        known = (pb.CONSISTENCY_STALE, pb.CONSISTENCY_LINEARIZABLE)
        yield refused((one for one in queries if one.consistency not in known), error)


def answer(
    gate: Gate, queries: Sequence[pb.StreamedQuery], *, came_at: float, is_stale: bool
) -> Iterator[pb.QueryStreamResponse]:
    """Answer queries of one kind, as long as somebody waits for them."""
    longest = max(one.timeout_ms for one in queries) / 1000
    left = min(longest - min(0.1, longest / 5), UNTIMED_SECONDS)
    min_index = max(one.min_index for one in queries) if is_stale else 0
    current_in = None if is_stale else left
    while queries:
        try:
            found, index = gate.query_many(
                [one.request for one in queries],
                current_in=current_in,
                min_index=min_index,
                timeout=left,
            )
        except TinyraftError as error:
            yield refused(queries, error)
            return
        for part in in_parts(map(encode, queries, found, [index] * len(found))):
            yield pb.QueryStreamResponse(results=part)
        passed = (monotonic() - came_at) * 1000
        rest = queries[len(found) :]
        queries = [one for one in rest if one.timeout_ms > passed]
        if len(queries) < len(rest):
            late = NoQuorum("the module was busy with other queries")
            yield refused((one for one in rest if one.timeout_ms <= passed), late)
        current_in, min_index = None, 0  # that much has been seen


def refused(
    queries: Iterable[pb.StreamedQuery], error: TinyraftError | Malformed
) -> pb.QueryStreamResponse:
    """Say to all of *queries* why there is no result."""
    fields = to_result_fields(error)
    results = [pb.StreamedResult(id=one.id, **fields) for one in queries]
    return pb.QueryStreamResponse(results=results)


def encode(query: pb.StreamedQuery, found: bytes | TinyraftError, index: int) -> pb.StreamedResult:
    """Write down what the module answered."""
    if isinstance(found, TinyraftError):
        return pb.StreamedResult(id=query.id, index=index, **to_result_fields(found))
    if len(found) > LONGEST_RESULT:
        return pb.StreamedResult(id=query.id, index=index, too_long=True)
    return pb.StreamedResult(id=query.id, index=index, result=found)
