"""Pools: whoever waits for a command keeps no peer waiting."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Semaphore
from typing import Any

import grpc
import pytest

from tests.cluster import DEADLINE
from tinyraft.core.entry import NodeId
from tinyraft.core.messages import RequestVote, VoteReply
from tinyraft.errors import Overloaded
from tinyraft.transport import codec
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.hosting import Admission
from tinyraft.transport.options import caller_options, server_options
from tinyraft.transport.pools import UNARY_CALLS, Pools
from tinyraft.transport.remote import Applied
from tinyraft.transport.service import Service, register
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

ENVELOPE = Envelope("the-cluster", NodeId("a"), NodeId("b"), 1)


class SlowGate:
    """A node whose commands wait, and which answers peers at once."""

    def __init__(self) -> None:
        self.arrived, self.release = Semaphore(0), Event()

    def greeting(self, *, patience: float = 0.0) -> tuple[tuple[str, str], ...]:
        """Say nothing."""
        return ()

    def apply(self, command: bytes, **_: object) -> Applied:
        """Wait."""
        self.arrived.release()
        self.release.wait(DEADLINE)
        return Applied(1, 1, command)

    def receive(self, request: Any, _envelope: Envelope, *, timeout: float) -> VoteReply:
        """Vote."""
        return VoteReply(request.term, True)


@pytest.fixture
def served() -> Iterator[tuple[SlowGate, RaftServiceV1Stub]]:
    """Lend the gate of a node, and a client of it."""
    gate, pools = SlowGate(), Pools("test")
    server = grpc.server(pools.unknown, options=server_options())
    register(Service(lambda: gate, pools), server)  # type: ignore[arg-type, return-value]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address, options=caller_options()) as channel:
        yield gate, RaftServiceV1Stub(channel)
        gate.release.set()
    server.stop(0).wait(DEADLINE)
    pools.retire()


def test_peers_never_wait_behind_callers(served: tuple[SlowGate, RaftServiceV1Stub]) -> None:
    """With every place for commands taken, a vote is answered at once."""
    gate, stub = served
    calls = [
        stub.Apply.future(pb.Cmd(payload=b"x"), timeout=DEADLINE)  # type: ignore[attr-defined]
        for _ in range(UNARY_CALLS)
    ]
    waiting = sum(gate.arrived.acquire(timeout=DEADLINE / 4) for _ in calls[:64])
    vote = codec.encode_request(RequestVote(2, 1, 1), ENVELOPE)
    assert codec.decode_reply(stub.Vote(vote, timeout=DEADLINE / 4)) == VoteReply(2, True)
    assert 64 == waiting
    gate.release.set()
    assert {grpc.StatusCode.OK} == {call.code() for call in calls}


def test_places_are_limited_and_given_back() -> None:
    """Above the limit a call is refused at once; a call that ends makes room, however it ends."""
    admission = Admission(2, "calls")
    first, _ = admission.enter(), admission.enter()
    with pytest.raises(Overloaded, match="2 calls"):
        admission.enter()
    admission.leave(first)

    def fail(_request: object, _context: object) -> None:
        raise ValueError("a defect")

    for _ in range(3):
        with pytest.raises(ValueError, match="a defect"):
            admission.guarding(fail)(None, None)  # type: ignore[arg-type]
