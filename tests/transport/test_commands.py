"""A caller's stream that breaks: what is said of commands that were sent, and that were not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
import pytest

from tests.cluster import DEADLINE, until
from tinyraft.errors import ConnectionLost, NotLeader
from tinyraft.transport.commands import CommandStream
from tinyraft.transport.options import caller_options, server_options
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Servicer, add_RaftServiceV1Servicer_to_server


class Breaking(RaftServiceV1Servicer):
    """A node that takes the first batch of commands and breaks the stream without an answer."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.breaks = Event()

    def ApplyStream(self, requests: Iterator[pb.ApplyStreamRequest], context: Any) -> Any:
        """Take a batch, then fail as a process that dies."""
        context.send_initial_metadata(())
        self.taken += [command.command for command in next(requests).commands]
        self.breaks.wait(DEADLINE)
        context.abort(grpc.StatusCode.UNAVAILABLE, "the process is gone")
        yield


@pytest.fixture
def node() -> Iterator[Breaking]:
    """Lend a node that breaks, with its address."""
    servicer = Breaking()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=server_options())
        add_RaftServiceV1Servicer_to_server(servicer, server)
        servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield servicer
        servicer.breaks.set()
        server.stop(0).wait(DEADLINE)


def test_a_stream_that_breaks_tells_sent_from_unsent(node: Breaking) -> None:
    """What was sent and not answered may be applied; what comes after the end was never sent."""
    with (
        grpc.insecure_channel(node.address, options=caller_options()) as channel,
        ThreadPoolExecutor(1) as caller,
    ):
        stream = CommandStream(channel, node.address)
        assert stream.wait_open(DEADLINE)
        sent = caller.submit(stream.apply, b"sent", timeout=DEADLINE)
        until(lambda: node.taken, what="the command has arrived")
        node.breaks.set()
        with pytest.raises(ConnectionLost, match="after the command was sent"):
            sent.result(DEADLINE)
        with pytest.raises(NotLeader, match="nothing was sent"):
            stream.apply(b"unsent", timeout=DEADLINE)
        assert ([b"sent"], False) == (node.taken, stream.is_usable)
