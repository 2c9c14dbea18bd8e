"""The node's side of a caller's queries: batches before a gate that the test plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
from time import monotonic
from typing import Any

import grpc
import pytest

from tests.cluster import DEADLINE, LocalCluster, until
from tinyraft.errors import NodeRemoved, NoQuorum, ReadFailed, TinyraftError
from tinyraft.transport.packing import ANSWER_BYTES
from tinyraft.transport.query_streams import LONGEST_RESULT, answers
from tinyraft.transport.statuses import from_result
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

STALE, CURRENT = pb.CONSISTENCY_STALE, pb.CONSISTENCY_LINEARIZABLE


class PlayedGate:
    """Answers at most three queries in a visit."""

    def __init__(self) -> None:
        self.visits: list[tuple[list[bytes], dict[str, Any]]] = []
        self.does: Callable[[bytes], bytes | TinyraftError] = lambda request: request
        self.refusal: TinyraftError | None = None

    def query_many(
        self, requests: Sequence[bytes], **how: Any
    ) -> tuple[list[bytes | TinyraftError], int]:
        self.visits.append((list(requests), how))
        if self.refusal is not None:
            raise self.refusal
        return [self.does(one) for one in requests[:3]], 7


def ask(
    gate: PlayedGate, *requests: bytes, consistency: Any = CURRENT, **fields: Any
) -> dict[int, pb.StreamedResult]:
    """Send a batch; find the result of each."""
    queries = [
        pb.StreamedQuery(
            id=number, request=one, consistency=consistency, **{"timeout_ms": 1000, **fields}
        )
        for number, one in enumerate(requests)
    ]
    messages = list(answers(gate, queries))  # type: ignore[arg-type]
    assert all(message.ByteSize() < 8 << 20 for message in messages)
    found = [result for message in messages for result in message.results]
    assert sorted(one.id for one in found) == list(range(len(requests))), "each once"
    return {one.id: one for one in found}


def test_a_batch_asks_the_leader_once() -> None:
    """What a second visit to the module gives has seen as much as the first."""
    gate = PlayedGate()
    words = [b"%d" % number for number in range(7)]
    found = ask(gate, *words)
    assert words == [found[number].result for number in range(7)]
    assert {7} == {one.index for one in found.values()}
    (_, first), *others = gate.visits
    assert 0.8 <= first["current_in"] <= 0.95
    assert [7, 4, 1] == [len(requests) for requests, _ in gate.visits]
    assert {None} == {how["current_in"] for _, how in others}


def test_a_stale_batch_waits_for_its_callers_commands_and_nobody_else() -> None:
    """The newest that any of them was told."""
    gate = PlayedGate()
    ask(gate, b"x", b"y", consistency=STALE, min_index=5)
    ((_, how),) = gate.visits
    assert (None, 5) == (how["current_in"], how["min_index"])


def test_what_keeps_a_node_from_answering_is_told_to_all() -> None:
    """Each may ask another."""
    gate = PlayedGate()
    gate.refusal = NodeRemoved("gone")
    found = ask(gate, b"x", b"y")
    assert [NodeRemoved] * 2 == [type(from_result(one)) for one in found.values()]


def test_what_a_module_does_wrong_is_told_to_who_asked_it() -> None:
    """The others have their results."""
    gate = PlayedGate()
    gate.does = lambda request: ReadFailed("no") if request == b"bad" else request
    found = ask(gate, b"good", b"bad")
    assert (b"good", None) == (found[0].result, from_result(found[0]))
    assert isinstance(from_result(found[1]), ReadFailed)


def test_a_query_that_says_nothing_of_consistency_is_refused_alone() -> None:
    """An old answer is given to nobody who did not ask for one."""
    gate = PlayedGate()
    queries = [
        pb.StreamedQuery(id=kind, request=b"x", consistency=kind, timeout_ms=1000)
        for kind in (CURRENT, pb.CONSISTENCY_UNSPECIFIED, STALE)
    ]
    messages = answers(gate, queries)  # type: ignore[arg-type]
    found = {one.id: one for message in messages for one in message.results}
    assert {STALE: "", CURRENT: "", 0: "Malformed"} == {key: found[key].error for key in found}
    assert "not-applied" == found[0].outcome


def test_long_results_are_sent_apart_and_longer_ones_not_at_all() -> None:
    """A caller asks alone for what no message of a stream can hold."""
    gate = PlayedGate()
    gate.does = lambda request: b"r" * int(request)
    found = ask(gate, *[b"%d" % ANSWER_BYTES] * 20, b"%d" % LONGEST_RESULT, b"%d" % (9 << 20))
    assert {ANSWER_BYTES} == {len(found[number].result) for number in range(20)}
    assert (LONGEST_RESULT, False) == (len(found[20].result), found[20].too_long)
    assert (b"", True) == (found[21].result, found[21].too_long)


def test_nobody_is_answered_who_waits_no_more() -> None:
    """Behind a slow module that would only keep the others waiting."""
    gate = PlayedGate()

    def slow(request: bytes) -> bytes:
        until = monotonic() + 0.01
        while monotonic() < until:
            pass
        return request

    gate.does = slow
    found = ask(gate, *[b"x"] * 9, timeout_ms=25)
    assert [3] == [len(requests[:3]) for requests, _ in gate.visits]
    assert {NoQuorum} == {type(from_result(found[number])) for number in range(3, 9)}


# --- over real gRPC -----------------------------------------------------------------------------


def test_a_shutdown_ends_idle_streams_at_once(cluster: LocalCluster) -> None:
    """They would hold its threads, and gRPC's own end up."""
    server, caller = cluster.start(1)["a"], cluster.caller()
    assert b"0" == caller.query(b"")
    assert b"0" == caller.query(b"", consistency="stale")
    began = monotonic()
    server.shutdown()
    assert monotonic() - began < 3
    streams = caller._queries._streams.values()
    until(lambda: all(stream.is_over for stream in streams), what="the caller is told")
    assert 2 == len(streams)


def test_above_the_limit_streams_are_refused_at_once(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC would queue them without a word; the refusal promises that nothing happened."""
    server = cluster.start(1)["a"]
    monkeypatch.setattr(server.servicer.query_streams._admission, "_limit", 1)
    first, second = cluster.caller(), cluster.caller()
    assert b"0" == first.query(b"")
    stub = RaftServiceV1Stub(cluster.channel("a"))
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.QueryStream(iter([pb.QueryStreamRequest()]), timeout=DEADLINE))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == raised.value.code()  # type: ignore[attr-defined]
    read: list[bytes] = []
    waits = Thread(target=lambda: read.append(second.query(b"", timeout=DEADLINE)), daemon=True)
    waits.start()
    first.close()
    waits.join(DEADLINE)
    assert [b"0"] == read
