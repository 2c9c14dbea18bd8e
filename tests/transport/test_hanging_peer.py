"""A peer that takes calls and never answers them: connected, alive to TCP, and of no use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import pytest

from tests.cluster import DEADLINE
from tinyraft.core.entry import NodeId
from tinyraft.core.messages import Heartbeat, Request, RequestPreVote, RequestVote, TimeoutNow
from tinyraft.logs import Log
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.link import Link
from tinyraft.transport.options import peer_options, server_options

REQUESTS = [RequestVote(1, 1, 1), RequestPreVote(1, 1, 1), Heartbeat(1, 0, 1), TimeoutNow(1)]


class Hanging(grpc.GenericRpcHandler):
    """Takes every unary call, and holds it until it is let go."""

    def __init__(self) -> None:
        self.entered, self.release = Event(), Event()

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self.hang)

    def hang(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.entered.set()
        self.release.wait(DEADLINE)
        return b""


@pytest.fixture
def hanging() -> Iterator[tuple[Hanging, str]]:
    """Lend a peer that hangs, and its address."""
    handler = Hanging()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[handler], options=server_options())
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield handler, f"127.0.0.1:{port}"
        handler.release.set()
        server.stop(0).wait(DEADLINE)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_call_that_was_taken_ends_in_time(
    hanging: tuple[Hanging, str], request_: Request
) -> None:
    """The connection is up and the call has arrived; its deadline alone ends it."""
    handler, address = hanging
    envelope = Envelope("the-cluster", NodeId("a"), NodeId("b"), 1)
    link = Link(address, envelope=envelope, options=peer_options(3.0), log=Log("test"))
    with ThreadPoolExecutor(1) as caller:
        call = caller.submit(link.call, request_, timeout=1.0)
        try:
            assert handler.entered.wait(DEADLINE)
            assert call.result(DEADLINE / 4) is None
        finally:
            handler.release.set()
            link.close()
