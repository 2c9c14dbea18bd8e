"""Many commands of one session, and their answers, in one message: what they share is said once.

Law: says the same as one message each would, and no more. A command with a request id, or without a
session, and an answer that is an error, go by themselves.

A protobuf message costs Python ten times what an element of a list of numbers or bytes does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from tinyraft.core.entry import Index, Stamp, Term, session_stamp
from tinyraft.transport.hosting import Outcome
from tinyraft.transport.slots import Slot
from tinyraft.wire import raft_pb2 as pb

ANSWER_BYTES = 1 << 20  # of results in one message, unless one is longer


class HasResult(Protocol):
    """Whatever may be long."""

    @property
    def result(self) -> bytes | None:
        """What the module answered."""


T = TypeVar("T", bound=HasResult)
Applied = tuple[int, bytes | None, Index, Term, tuple[int, int, int]]


def pack_commands(batch: Sequence[tuple[int, Slot]]) -> pb.PackedCommands | None:
    """Write numbered commands down; None when they don't share one session, or one has a name."""
    session = batch[0][1].session
    if session is None or any(slot.session is not session or slot.request_id for _, slot in batch):
        return None
    return pb.PackedCommands(
        first_id=batch[0][0],
        session_index=session.index,
        session_term=session.term,
        answered_below=session.answered_below,
        sequences=[slot.sequence for _, slot in batch],
        commands=[slot.command for _, slot in batch],
    )


def unpack_commands(packed: pb.PackedCommands) -> list[tuple[int, bytes, Stamp]]:
    """Read them, each with its stamp; one without a sequence is passed over."""
    index, term, below = packed.session_index, packed.session_term, packed.answered_below
    stamps = [session_stamp(index, term, sequence, below) for sequence in packed.sequences]
    ids = range(packed.first_id, packed.first_id + len(stamps))
    return list(zip(ids, packed.commands, stamps, strict=False))


def pack_answers(outcomes: Sequence[Outcome]) -> pb.PackedAnswers:
    """Write down what became of commands that were applied."""
    results = [outcome.result for outcome in outcomes]
    without = [at for at, result in enumerate(results) if result is None]
    stages = [outcome.stages for outcome in outcomes]
    return pb.PackedAnswers(
        ids=[outcome.id for outcome in outcomes],
        terms=[outcome.term for outcome in outcomes],
        indexes=[outcome.index for outcome in outcomes],
        results=[result or b"" for result in results] if len(without) < len(results) else (),
        without_result=without if len(without) < len(results) else (),
        waited_us=[waited for waited, _, _ in stages],
        replicated_us=[replicated for _, replicated, _ in stages],
        applied_us=[applied for _, _, applied in stages],
    )


def unpack_answers(packed: pb.PackedAnswers) -> Iterator[Applied]:
    """Read them; what is not complete is passed over."""
    results: list[bytes | None] = list(packed.results) or [None] * len(packed.ids)
    for at in packed.without_result:
        if at < len(results):
            results[at] = None
    stages = zip(packed.waited_us, packed.replicated_us, packed.applied_us, strict=False)
    return zip(packed.ids, results, packed.indexes, packed.terms, stages, strict=False)


def in_parts(outcomes: Iterable[T]) -> Iterator[list[T]]:
    """Share *outcomes* out, so that many long results don't burst one message."""
    part: list[T] = []
    size = 0
    for outcome in outcomes:
        length = len(outcome.result or b"")
        if part and size + length > ANSWER_BYTES:
            yield part
            part, size = [], 0
        part.append(outcome)
        size += length
    if part:
        yield part
