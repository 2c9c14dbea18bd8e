"""Callers' streams that a node ends: what it says of the commands that were on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster import DEADLINE
from tinyraft.transport.caller_streams import Streams
from tinyraft.transport.statuses import TAKEN
from tinyraft.wire import raft_pb2 as pb


class Call:
    """One stream from its caller's side, without gRPC; the node answers every command at once."""

    def __init__(self, streams: Streams) -> None:
        self.proposed: list[int] = []
        self.requests: SimpleQueue[pb.ApplyStreamRequest | None] = SimpleQueue()
        self.trailers: dict[str, str] = {}
        self.answers = streams.serve(lambda: self, iter(self.requests.get, None), self)  # type: ignore[arg-type]

    def send(self, number: int) -> None:
        """Send a command."""
        one = pb.StreamedCommand(id=number, command=b"word")
        self.requests.put(pb.ApplyStreamRequest(commands=[one]))

    # what the stream asks of its context and of the node

    def is_active(self) -> bool:
        return True

    def add_callback(self, callback: Callable[[], None]) -> None:
        del callback

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        assert metadata == self.greeting()

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        self.trailers = dict(metadata)

    def greeting(self, *, patience: float = 0.0) -> tuple[tuple[str, str], ...]:
        assert patience < 1.0  # or a caller looks elsewhere
        return (("tinyraft-leader-id", "b"),)

    def propose(self, commands: Sequence[tuple[int, bytes]], answer: Callable[[Any], None]) -> None:
        for number, _ in commands:
            self.proposed.append(number)
            answer(SimpleNamespace(id=number, index=1, term=1, result=None, error=None))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Lend the threads of the streams."""
    with ThreadPoolExecutor(4) as made:
        yield made


def test_nothing_is_taken_behind_the_last_word(pool: ThreadPoolExecutor) -> None:
    """What comes after the number of commands taken was told is not proposed (P89)."""
    streams = Streams(2, pool)
    call = Call(streams)
    call.send(0)
    assert [0] == [answer.id for answer in next(call.answers).answers]
    streams.close()
    assert [] == list(call.answers)
    assert {TAKEN: "1", "tinyraft-leader-id": "b"} == call.trailers
    call.send(1)
    call.requests.put(None)
    pool.shutdown()  # waits for whoever reads
    assert [0] == call.proposed


def test_a_stream_that_opens_while_all_are_ended_ends_too(pool: ThreadPoolExecutor) -> None:
    """It came between the last look and the end: it takes nothing, and says so."""
    streams = Streams(2, pool)
    streams.close()
    call = Call(streams)
    ended = pool.submit(list, call.answers)
    assert [] == ended.result(DEADLINE)
    call.requests.put(None)
    assert "0" == call.trailers[TAKEN]
