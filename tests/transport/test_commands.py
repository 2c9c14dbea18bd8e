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
from tinyraft.transport.statuses import LEADER_ADDRESS, LEADER_ID, LEADER_TERM, TAKEN
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
def servicer(request: pytest.FixtureRequest) -> Breaking:
    """Make the node's side of the stream."""
    return getattr(request, "param", Breaking)()


@pytest.fixture
def node(servicer: Breaking) -> Iterator[Breaking]:
    """Lend a node that breaks, with its address."""
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


class Parting(Breaking):
    """A node that takes one batch, leaves the next, and ends the stream on purpose."""

    def ApplyStream(self, requests: Iterator[pb.ApplyStreamRequest], context: Any) -> Any:
        """Say at the end how much was taken, and who leads."""
        context.send_initial_metadata(())
        self.taken += [command.command for command in next(requests).commands]
        yield pb.ApplyStreamResponse()
        self.breaks.wait(DEADLINE)
        context.set_trailing_metadata(
            ((TAKEN, "1"), (LEADER_ID, "b"), (LEADER_ADDRESS, "b.example:1"), (LEADER_TERM, "7"))
        )


@pytest.mark.parametrize("servicer", [Parting], indirect=True)
def test_what_a_parting_node_never_took_is_certain(node: Breaking) -> None:
    """Sent, but not taken: certainly not applied, and there is word of the leader (P89)."""
    with (
        grpc.insecure_channel(node.address, options=caller_options()) as channel,
        ThreadPoolExecutor(2) as caller,
    ):
        stream = CommandStream(channel, node.address)
        assert stream.wait_open(DEADLINE)
        taken = caller.submit(stream.apply, b"taken", timeout=DEADLINE)
        until(lambda: node.taken, what="the first has arrived")
        untaken = caller.submit(stream.apply, b"untaken", timeout=DEADLINE)
        until(lambda: len(stream._pending) == 2, what="the second was sent")
        node.breaks.set()
        with pytest.raises(ConnectionLost, match="after the command was sent"):
            taken.result(DEADLINE)
        with pytest.raises(NotLeader, match="before it took the command") as raised:
            untaken.result(DEADLINE)
        error = raised.value
        assert ("b", "b.example:1", 7) == (error.leader_id, error.leader_address, error.term)
        assert ([b"taken"], False) == (node.taken, stream.is_usable)
