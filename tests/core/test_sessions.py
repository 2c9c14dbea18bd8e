"""What is remembered of clients: each command once, within bounds that stand in the log."""

from __future__ import annotations

from typing import Any

import pytest

from tinyraft.core.entry import (
    LONGEST_REQUEST_ID,
    OPENS_SESSION,
    PLAIN,
    EntryKind,
    MalformedEntry,
    Origin,
    decode_entries,
    encode_entries,
    make_entry,
    stamp,
)
from tinyraft.core.sessions import LIMITS, Answer, Limits, Sessions
from tinyraft.errors import (
    ModuleError,
    Rejected,
    RequestIdReused,
    SessionExpired,
)


class Table(Sessions):
    """The sessions, and a module that counts how often it was asked."""

    def __init__(self, **limits: int) -> None:
        super().__init__()
        self.index = 0
        self.applied: list[bytes] = []
        self.limits = Limits(**limits)

    def opened(self) -> int:
        """Open a session; return its index."""
        self.index += 1
        self.open(
            make_entry(
                index=self.index,
                term=1,
                kind=EntryKind.COMMAND,
                command=self.limits.encode(),
                stamp=OPENS_SESSION,
            )
        )
        return self.index

    def apply(
        self,
        session: int,
        sequence: int,
        command: bytes = b"x",
        *,
        below: int = 0,
        request_id: str = "",
        error: Any = None,
        term: int = 1,
    ) -> Answer:
        """Apply an entry with that origin, as an applier does."""
        self.index += 1
        origin = Origin(session, term if session else 0, sequence, below, request_id)
        answer = self.find(origin, command)
        if answer is None:
            self.applied.append(command)
            result = b"%d" % len(self.applied)
            answer = Answer(self.index, 1, None if error else result, error)
            self.remember(origin, command, answer)
        return answer


def test_a_command_that_comes_twice_is_applied_once() -> None:
    """The second time it gets the first answer, with its place (P87)."""
    table = Table()
    session = table.opened()
    first = table.apply(session, 1, b"pay")
    assert first == table.apply(session, 1, b"pay")
    assert (2, b"1") == (first.place, first.result)
    assert b"2" == table.apply(session, 2, b"pay").result
    assert [b"pay", b"pay"] == table.applied


def test_a_refusal_and_a_failure_are_answers_too() -> None:
    """Said again as they were, shortened; the module is not asked again."""
    table = Table()
    session = table.opened()

    class Broke(Rejected):
        """A module's own refusal."""

    table.apply(session, 1, error=Broke("no money"))
    table.apply(session, 2, error=ModuleError("oops " * 1000))
    again, failed = table.apply(session, 1), table.apply(session, 2)
    assert (Rejected, "no money") == (type(again.error), str(again.error))
    assert ModuleError is type(failed.error)
    assert 500 == len(str(failed.error))
    assert 2 == len(table.applied)


def test_numbers_of_another_session_are_other_commands() -> None:
    """A session is an index *and* a term (P87)."""
    table = Table()
    one, other = table.opened(), table.opened()
    table.apply(one, 1)
    table.apply(other, 1)
    assert 2 == len(table.applied)
    assert isinstance(table.apply(one, 1, term=2).error, SessionExpired)
    assert 2 == len(table.applied)


def test_answers_go_when_their_caller_has_seen_them() -> None:
    """What it says it has seen it does not ask for again; a late copy is not applied (P87)."""
    table = Table()
    session = table.opened()
    for number in (1, 2, 3):
        table.apply(session, number)
    table.apply(session, 4, below=3)
    assert [3, 4] == list(table._sessions[session].answers)
    assert isinstance(table.apply(session, 2, below=1).error, SessionExpired)
    assert table.apply(session, 3).result == b"3"
    assert 4 == len(table.applied)


@pytest.mark.parametrize("below", [4, 5, 9, 10**15])
def test_a_caller_may_leave_numbers_out(below: int) -> None:
    """As many as it likes: that costs nobody anything, and what it waits for stays."""
    table = Table()
    session = table.opened()
    for number in (1, 2, 4, 5, 9):
        table.apply(session, number)
    last = below + 10
    table.apply(session, last, below=below)
    kept = [number for number in (4, 5, 9, last) if number >= below]
    assert sorted(kept) == sorted(table._sessions[session].answers)
    held = sum(answer.size for answer in table._sessions[session].answers.values())
    assert held == table._bytes


def test_the_session_used_longest_ago_is_forgotten_first() -> None:
    """And what it would have done again is refused (P88)."""
    table = Table(sessions=2)
    one, two = table.opened(), table.opened()
    table.apply(one, 1)
    three = table.opened()
    assert isinstance(table.apply(two, 1).error, SessionExpired)
    assert [None, None] == [table.apply(s, n).error for s, n in ((one, 2), (three, 1))]
    assert (2, 0) == table.counts


def test_bytes_of_answers_are_bounded() -> None:
    """Other sessions go first; in the last one the oldest answers, which are not given twice."""
    table = Table(answer_bytes=300)
    other, session = table.opened(), table.opened()
    table.apply(other, 1)
    for number in range(1, 6):
        table.apply(session, number)
    assert isinstance(table.apply(other, 2).error, SessionExpired)
    assert isinstance(table.apply(session, 1).error, SessionExpired)
    assert b"6" == table.apply(session, 5).result
    assert table._bytes <= 300


def test_an_error_that_is_told_again_is_a_new_one() -> None:
    """Who raises it leaves a traceback in it, with all that its frames hold: more every time."""
    table = Table()
    session = table.opened()
    table.apply(session, 1, error=Rejected("no"), request_id="order-1")
    told = [table.apply(session, 1).error for _ in range(2)]
    told += [table.apply(session, n, request_id="order-1").error for n in (2, 2)]
    told += [table.apply(session, n, b"other", request_id="order-1").error for n in (3, 3)]
    assert 6 == len({id(error) for error in told})
    kept = [answer.error for answer in table._sessions[session].answers.values()]
    assert not {id(error) for error in told} & {id(error) for error in kept}


def test_an_errors_text_decides_nothing() -> None:
    """It may differ between members, as addresses and versions do: what is forgotten may not."""
    one, other = Table(answer_bytes=2000), Table(answer_bytes=2000)
    for table, error in (
        (one, ModuleError("<at 0x7f>")),
        (other, ModuleError("<at 0x55dcb0>" * 99)),
    ):
        sessions = [table.opened() for _ in range(3)]
        for session in sessions:
            table.apply(session, 1, error=error)
            table.apply(session, 2, error=Rejected(str(error)), request_id=f"r{session}")
    assert (one._bytes, one._request_bytes) == (other._bytes, other._request_bytes)
    assert list(one._sessions) == list(other._sessions)
    copy = Table()
    copy.restore(list(other.snapshot()))
    assert (one._bytes, one._request_bytes) == (copy._bytes, copy._request_bytes)


def test_a_request_id_is_answered_once_for_everybody() -> None:
    """From another session, or from none; another command under it is refused."""
    table = Table()
    one, two = table.opened(), table.opened()
    first = table.apply(one, 1, b"pay 10", request_id="order-1")
    assert first == table.apply(two, 1, b"pay 10", request_id="order-1")
    assert first == table.apply(0, 0, b"pay 10", request_id="order-1")
    reused = table.apply(two, 2, b"pay 20", request_id="order-1")
    assert RequestIdReused is type(reused.error)
    repeated = table.apply(two, 2, b"pay 20", request_id="order-1")
    assert (RequestIdReused, str(reused.error)) == (type(repeated.error), str(repeated.error))
    assert [b"pay 10"] == table.applied


def test_request_ids_are_bounded_by_number_and_bytes() -> None:
    """The oldest go."""
    table = Table(request_ids=2)
    session = table.opened()
    for number in (1, 2, 3):
        table.apply(session, number, request_id=f"r{number}")
    table.apply(session, 4, request_id="r3")
    assert 3 == len(table.applied)
    table.apply(session, 5, request_id="r1")
    assert 4 == len(table.applied)
    small = Table(request_bytes=150)
    session = small.opened()
    for number in range(1, 9):
        small.apply(session, number, request_id=f"r{number}")
    assert (1, 2) == small.counts


def test_a_snapshot_carries_all_of_it() -> None:
    """What is restored answers, forgets and counts as the original does (M47)."""
    table = Table(sessions=3, request_ids=5)
    one, two = table.opened(), table.opened()
    table.apply(one, 1, b"\x00\xff", request_id="ä" * 20)
    table.apply(two, 1, error=Rejected("no"))
    table.apply(one, 2, error=ModuleError("oops"))
    table.apply(two, 2, b"other", request_id="ä" * 20)
    table._remember_in_session(Origin(two, 1, 3, 0), Answer(9, 1, None, None))
    table.apply(one, 3)  # the older one is used last
    copy = Table()
    copy.apply(copy.opened(), 7)
    records = list(table.snapshot())
    copy.restore(records)
    assert records == list(copy.snapshot())
    assert not any(b"\n" in record for record in records)
    assert (table._bytes, table._request_bytes, table._limits) == (
        copy._bytes,
        copy._request_bytes,
        copy._limits,
    )
    copy.index = table.index
    copy.limits, copy.applied = table.limits, list(table.applied)
    for made in (table, copy):
        made.opened()
        made.opened()
        made.apply(two, 4, request_id="new")
    assert list(table.snapshot()) == list(copy.snapshot())


def test_a_snapshot_stays_as_it_was() -> None:
    """It is written while entries are applied."""
    table = Table()
    session = table.opened()
    table.apply(session, 1)
    before, made = list(table.snapshot()), table.snapshot()
    table.apply(session, 2, below=2, request_id="r")
    assert before == list(made)


@pytest.mark.parametrize(
    "command", [b"", b"[]", b"{", b'{"sessions":0}', b'{"sessions":true}', b'{"new":1}'], ids=repr
)
def test_an_entry_that_opens_nothing_is_refused(command: bytes) -> None:
    """Two members that read one entry differently would differ for ever."""
    with pytest.raises(MalformedEntry):
        Limits.decode(command)


@pytest.mark.parametrize("record", [b"", b"{}", b"7", b'{"session":1}', b'{"limits":7}'], ids=repr)
def test_records_that_are_not_ours_are_refused(record: bytes) -> None:
    """In a snapshot whose checksums are right."""
    with pytest.raises(MalformedEntry):
        Sessions().restore([record])


@pytest.mark.parametrize(
    "origin",
    [
        Origin(7, 3, 5, 4),
        Origin(7, 3, 5, 4, "order-1"),
        Origin(0, 0, 0, 0, "ä" * 128),
    ],
    ids=repr,
)
def test_an_origin_travels_in_its_entry(origin: Origin) -> None:
    """Through the bytes that disk and wire share."""
    entry = make_entry(
        index=9, term=4, kind=EntryKind.COMMAND, command=b"pay", time_us=5, stamp=stamp(origin)
    )
    (decoded,) = decode_entries(encode_entries([entry]))
    assert (entry, origin, 5) == (decoded, decoded.origin, decoded.time_us)


def test_what_has_no_origin_has_none() -> None:
    """Nor what opens a session; its limits are in it."""
    plain = make_entry(index=1, term=1, kind=EntryKind.COMMAND, command=b"x", stamp=PLAIN)
    opens = make_entry(index=1, term=1, kind=EntryKind.COMMAND, command=LIMITS, stamp=OPENS_SESSION)
    assert (None, None) == (plain.origin, opens.origin)
    assert (EntryKind.SESSION, Limits()) == (opens.kind, Limits.decode(opens.command))


def test_a_long_request_id_is_refused() -> None:
    """It would stand in every member's memory."""
    with pytest.raises(MalformedEntry):
        stamp(Origin(0, 0, 0, 0, "x" * (LONGEST_REQUEST_ID + 1)))
