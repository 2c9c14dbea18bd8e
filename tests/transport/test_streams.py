"""Callers' streams that a node ends: what it says of the commands that were on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster import DEADLINE, until
from tinyraft.core.entry import LONGEST_REQUEST_ID, OPENS_SESSION, PLAIN, Origin, Stamp, stamp
from tinyraft.transport import caller_streams
from tinyraft.transport.caller_streams import MOST_IN_SESSION, Streams
from tinyraft.transport.packing import unpack_answers
from tinyraft.transport.statuses import TAKEN
from tinyraft.wire import raft_pb2 as pb


class Call:
    """One stream from its caller's side, without gRPC; the node answers every command at once."""

    def __init__(self, streams: Streams) -> None:
        self.proposed: list[int] = []
        self.stamps: list[Stamp] = []
        self.requests: SimpleQueue[pb.ApplyStreamRequest | None] = SimpleQueue()
        self.trailers: dict[str, str] = {}
        self.over: Callable[[], None] = lambda: None
        self.answers = streams.serve(lambda: self, iter(self.requests.get, None), self)  # type: ignore[arg-type]

    def send(self, number: int, **fields: Any) -> None:
        """Send a command."""
        one = pb.StreamedCommand(id=number, command=b"word", **fields)
        self.requests.put(pb.ApplyStreamRequest(commands=[one]))

    # what the stream asks of its context and of the node

    def is_active(self) -> bool:
        return True

    def add_callback(self, callback: Callable[[], None]) -> None:
        self.over = callback

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        assert metadata == self.greeting()

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        self.trailers = dict(metadata)

    def greeting(self, *, patience: float = 0.0) -> tuple[tuple[str, str], ...]:
        assert patience < 1.0  # or a caller looks elsewhere
        return (("tinyraft-leader-id", "b"),)

    def propose(
        self, commands: Sequence[tuple[int, bytes, Stamp]], answer: Callable[[Any], None]
    ) -> None:
        for number, _, stamped in commands:
            self.stamps.append(stamped)
            self.proposed.append(number)
            one = SimpleNamespace(
                id=number, index=1, term=1, result=None, error=None, stages=(1, 2, 3)
            )
            answer([one])


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


def test_each_command_is_stamped_with_what_its_caller_says_of_it(pool: ThreadPoolExecutor) -> None:
    """Without session or request id it is plain; who opens a session sends no command."""
    call = Call(Streams(2, pool))
    call.send(0)
    call.send(1, opens_session=True)
    call.send(2, session_index=7, session_term=3, sequence=5, answered_below=4)
    call.send(3, request_id="order-1")
    call.requests.put(None)
    assert 4 == sum(len(message.answers) for message in call.answers)
    numbered, named = Origin(7, 3, 5, 4), Origin(0, 0, 0, 0, "order-1")
    assert [PLAIN, OPENS_SESSION, stamp(numbered), stamp(named)] == call.stamps


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        pytest.param(
            {"request_id": "x" * (LONGEST_REQUEST_ID + 1)},
            pb.OUTCOME_COMMAND_TOO_LARGE,
            id="a long request id",
        ),
        pytest.param(
            {"session_index": 7, "sequence": MOST_IN_SESSION + 1},
            pb.OUTCOME_OVERLOADED,
            id="too many under way",
        ),
    ],
)
def test_what_a_session_can_not_hold_is_refused_alone(
    pool: ThreadPoolExecutor, fields: dict[str, Any], outcome: int
) -> None:
    """Before anything is appended; its neighbour is proposed."""
    call = Call(Streams(2, pool))
    call.send(0, **fields)
    call.send(1)
    call.requests.put(None)
    answers = [answer for message in call.answers for answer in message.answers]
    assert {0: outcome, 1: pb.OUTCOME_APPLIED} == {a.id: a.outcome for a in answers}
    assert [1] == call.proposed


def packed(first_id: int, *commands: bytes, **fields: Any) -> pb.ApplyStreamRequest:
    """Make a message of *commands* of session 7."""
    sequences = range(5, 5 + len(commands))
    shared = {"session_index": 7, "session_term": 3, "answered_below": 4, "sequences": sequences}
    whole: dict[str, Any] = {**shared, **fields}
    return pb.ApplyStreamRequest(
        packed=pb.PackedCommands(first_id=first_id, commands=commands, **whole)
    )


def test_packed_commands_are_stamped_and_answered_like_others(pool: ThreadPoolExecutor) -> None:
    """Each has its own stamp; who packs reads packed answers, and errors by themselves."""
    call = Call(Streams(2, pool))
    call.requests.put(packed(10, b"a", b"b"))
    call.send(12, request_id="order-1")
    call.requests.put(None)
    messages = list(call.answers)
    assert [10, 11, 12] == call.proposed
    numbered = [stamp(Origin(7, 3, sequence, 4)) for sequence in (5, 6)]
    assert [*numbered, stamp(Origin(0, 0, 0, 0, "order-1"))] == call.stamps
    answers = [answer for message in messages for answer in unpack_answers(message.packed)]
    assert [(number, None, 1, 1, (1, 2, 3)) for number in (10, 11, 12)] == answers
    assert not any(message.answers for message in messages)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        pytest.param({"sequences": [5]}, pb.OUTCOME_COMMAND_TOO_LARGE, id="a number is missing"),
        pytest.param({"session_index": 0}, pb.OUTCOME_COMMAND_TOO_LARGE, id="no session"),
        pytest.param(
            {"sequences": [5, MOST_IN_SESSION + 5]}, pb.OUTCOME_OVERLOADED, id="too many under way"
        ),
    ],
)
def test_packed_commands_that_can_not_be_are_refused_together(
    pool: ThreadPoolExecutor, fields: dict[str, Any], outcome: int
) -> None:
    """Before anything is appended; each gets its answer."""
    call = Call(Streams(2, pool))
    call.requests.put(packed(10, b"a", b"b", **fields))
    call.requests.put(None)
    answers = [answer for message in call.answers for answer in message.answers]
    assert {10: outcome, 11: outcome} == {a.id: a.outcome for a in answers}
    assert [] == call.proposed


def test_who_reads_no_answers_is_not_read_from(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands wait on its own side; a stream that is over keeps nobody waiting."""
    monkeypatch.setattr(caller_streams, "MOST_OWED", 2)
    call = Call(Streams(2, pool))
    call.send(0)
    next(call.answers)
    for number in range(1, 9):
        call.send(number)
    until(lambda: call.requests.qsize() == 6, what="the reader waits, with one in its hand")
    assert [0, 1] == call.proposed
    next(call.answers)
    until(lambda: len(call.proposed) > 2, what="it goes on")
    call.over()
    call.requests.put(None)
    pool.shutdown()
