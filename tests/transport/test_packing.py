"""Many commands in one message say the same as many messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tinyraft.core.entry import Origin, stamp
from tinyraft.session import Session
from tinyraft.transport import packing
from tinyraft.transport.packing import (
    in_parts,
    pack_answers,
    pack_commands,
    unpack_answers,
    unpack_commands,
)
from tinyraft.transport.slots import Slot
from tinyraft.wire import raft_pb2 as pb


def slots(*commands: bytes, session: Session | None) -> list[tuple[int, Slot]]:
    """Make numbered commands, sent in *session*."""
    made = [Slot(command) for command in commands]
    for slot in made:
        slot.session = session
        slot.sequence = session.begin() if session is not None else 0
    return list(enumerate(made, 40))


def outcome(number: int, result: bytes | None) -> Any:
    """Make the outcome of a command that was applied."""
    return SimpleNamespace(
        id=number, result=result, index=number + 100, term=3, error=None, stages=(number, 2, 3)
    )


def test_commands_come_back_as_they_were() -> None:
    """Numbers, commands, and what their entries say."""
    session = Session(7, 3)
    batch = slots(b"a", b"", b"c", session=session)
    session.settle(1)
    packed = pack_commands(batch)
    assert packed is not None
    again = pb.PackedCommands.FromString(packed.SerializeToString())
    stamps = [stamp(Origin(7, 3, sequence, 2)) for sequence in (1, 2, 3)]
    assert list(zip((40, 41, 42), (b"a", b"", b"c"), stamps, strict=True)) == unpack_commands(again)


def test_what_shares_no_session_goes_by_itself() -> None:
    """No session, two of them, or a name of its own."""
    session = Session(7, 3)
    assert pack_commands(slots(b"a", session=None)) is None
    mixed = [*slots(b"a", session=session), *slots(b"b", session=Session(9, 3))]
    assert pack_commands(mixed) is None
    named = slots(b"a", b"b", session=session)
    named[1][1].request_id = "order-1"
    assert pack_commands(named) is None


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([None, None], id="all are None"),
        pytest.param([b"", b"x"], id="none is None"),
        pytest.param([None, b"", b"x", None], id="some are"),
    ],
)
def test_answers_come_back_as_they_were(results: list[bytes | None]) -> None:
    """None is not b""."""
    packed = pack_answers([outcome(number, result) for number, result in enumerate(results)])
    again = pb.PackedAnswers.FromString(packed.SerializeToString())
    expected = [
        (number, result, number + 100, 3, (number, 2, 3)) for number, result in enumerate(results)
    ]
    assert expected == list(unpack_answers(again))


def test_an_answer_that_is_not_complete_is_passed_over() -> None:
    """Its caller goes on waiting, and asks again; nothing is made up."""
    packed = pack_answers([outcome(1, b"x"), outcome(2, b"y")])
    del packed.indexes[1]
    assert [1] == [number for number, *_ in unpack_answers(packed)]
    assert [] == list(unpack_answers(pb.PackedAnswers(without_result=[5])))


def test_long_results_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order; one that is longer than a message goes alone."""
    monkeypatch.setattr(packing, "ANSWER_BYTES", 10)
    outcomes = [outcome(n, b"x" * size) for n, size in enumerate((4, 6, 1, 50, 3, 3))]
    assert [[0, 1], [2], [3], [4, 5]] == [[o.id for o in part] for part in in_parts(outcomes)]
    assert [] == list(in_parts([]))
