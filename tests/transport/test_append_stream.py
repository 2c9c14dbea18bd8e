"""The receiving end of a stream of appends: what is answered, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tinyraft.core.messages import AppendEntries, AppendReply
from tinyraft.transport import codec
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.service import append_stream
from tinyraft.wire import raft_pb2 as pb

ENVELOPE = Envelope("abc", "a", "b", 1, 0)


class Door:
    """Stands in for a node that follows, and for gRPC's context."""

    def __init__(self, *replies: AppendReply) -> None:
        """Answer with *replies*, in order."""
        self.came: list[AppendEntries] = []
        self.lost: list[int] = []
        self._replies = iter(replies)
        self._at_end: list[Callable[[], None]] = []

    def admit(self, envelope: Envelope) -> None:
        """Take everybody."""
        assert envelope == ENVELOPE

    def receive(self, append: AppendEntries, _: Envelope, *, timeout: float) -> AppendReply:
        """Take an append."""
        assert timeout > 0
        self.came.append(append)
        return next(self._replies)

    def peer_lost(self, _: Envelope, *, term: int) -> None:
        """The leader's stream ended without a goodbye."""
        self.lost.append(term)

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call it when the stream is over."""
        self._at_end.append(callback)

    def end(self) -> None:
        """The stream is over."""
        for callback in self._at_end:
            callback()


def answers(door: Any, *appends: AppendEntries) -> list[AppendReply]:
    """Send *appends*, and take what is answered."""

    def requests() -> Iterator[pb.AppendStreamRequest]:
        yield codec.hello(ENVELOPE)
        for append in appends:
            yield pb.AppendStreamRequest.FromString(codec.append_on_wire(append))

    found = [codec.decode_reply(reply) for reply in append_stream(lambda: door, requests(), door)]
    assert all(isinstance(reply, AppendReply) for reply in found)
    return found  # type: ignore[return-value]


def test_a_note_is_taken_and_not_answered() -> None:
    """Nobody waits for it; what comes behind it is answered as ever."""
    door = Door(AppendReply(3, True, 7), AppendReply(3, True, 8))
    note, append = AppendEntries(3, 7, 3, [], 7, is_note=True), AppendEntries(3, 8, 3, [], 7)
    assert [AppendReply(3, True, 8)] == answers(door, note, append)
    assert [note, append] == door.came


def test_the_refusal_of_a_note_is_answered() -> None:
    """It may tell of a higher term, or of a log that went back."""
    refusal = AppendReply(4, False, 0, 3, 2)
    assert [refusal] == answers(Door(refusal), AppendEntries(3, 7, 3, [], 7, is_note=True))


def test_a_leader_that_only_sent_notes_is_missed() -> None:
    """The end of its stream is the end of it, whatever was last said."""
    door = Door(AppendReply(3, True, 7))
    answers(door, AppendEntries(3, 7, 3, [], 7, is_note=True))
    door.end()
    assert [3] == door.lost
