"""The way to one peer: whatever is at its other end, a call is over in time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic

import pytest

from tinyraft.core.entry import NodeId
from tinyraft.core.messages import (
    AppendEntries,
    Heartbeat,
    Request,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
)
from tinyraft.logs import Log
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.link import Link
from tinyraft.transport.options import peer_options

ENVELOPE = Envelope("the-cluster", NodeId("a"), NodeId("b"), 1)
REQUESTS = [
    RequestVote(1, 1, 1),
    RequestPreVote(1, 1, 1),
    Heartbeat(1, 0, 1),
    AppendEntries(1, 0, 0, [], 0),
    TimeoutNow(1),
]
LONG = 20.0


@pytest.fixture
def dial() -> Iterator:
    """Make links that end with the test."""
    links: list[Link] = []

    def make(address: str) -> Link:
        log = Log("test")
        links.append(Link(address, envelope=ENVELOPE, options=peer_options(0.5), log=log))
        return links[-1]

    yield make
    for link in links:
        link.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Lend the address of somebody who listens and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_every_call_has_a_deadline(dial, silent: str, request_: Request) -> None:
    """A peer that keeps the connection and says nothing holds nobody up (P108)."""
    began = monotonic()
    assert dial(silent).call(request_, timeout=0.1) is None
    assert monotonic() - began < LONG / 2


def nobody() -> str:
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"127.0.0.1:{gone.getsockname()[1]}"


@pytest.mark.parametrize("address", [nobody(), "no-such-host.invalid:1"], ids=["a port", "a name"])
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_no_call_waits_for_a_connection(dial, address: str, request_: Request) -> None:
    """What can't be said now is not said later: it would be out of date by then (P111, P113)."""
    began = monotonic()
    assert dial(address).call(request_, timeout=LONG) is None
    assert monotonic() - began < LONG / 2


def test_a_stream_to_nobody_ends(dial) -> None:
    """Appends are not kept for a peer that may come back: its lane opens another stream (P111)."""
    began = monotonic()
    assert [] == list(dial(nobody()).open_stream(iter([AppendEntries(1, 0, 0, [], 0)])))
    assert monotonic() - began < LONG / 2


def test_a_stream_that_is_opened_while_its_link_is_closed_is_over(dial) -> None:
    """A member was removed at that moment: no reason for a node to stop."""
    link = dial("127.0.0.1:1")
    link.close()
    stream = link.open_stream(iter(()))
    assert [] == list(stream)
    stream.cancel()
