"""What clients were answered, so that a command which comes twice is applied once (6.3).

Law: part of the replicated state, beside the module's: a function of the log alone, in snapshots,
equal on every member. Nobody's clock and nobody's settings decide what is forgotten: the bounds
stand in the log, in the entries that open sessions. What was forgotten is refused, never applied
again.

A session is named by the index and the term of its entry. Its caller numbers the commands, and says
with each below which number it waits for nothing any more: those answers go. The sessions used
least recently go when there are too many, or too many bytes of answers.

A request id is the program's own name for a command; its first answer is remembered for whoever
asks again, from any process, while it is among the last so many of the cluster.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from tinyraft.core.entry import Entry, Index, MalformedEntry, Origin, Term
from tinyraft.errors import (
    ModuleError,
    Rejected,
    RequestIdReused,
    SessionExpired,
    TinyraftError,
)

ANSWER_BYTES = 64  # of an answer without its content, about
LONGEST_REASON = 500  # characters of what the module said, as far as it is remembered
REFUSALS: dict[str, type[TinyraftError]] = {
    "rejected": Rejected,
    "error": ModuleError,
    "reused": RequestIdReused,
}
NAMES = {kind: name for name, kind in REFUSALS.items()}


class Limits(NamedTuple):
    """How much is remembered. In each entry that opens a session; the last one applied counts.

    Attributes:
        sessions: Callers, as many as used theirs last.
        answer_bytes: Of answers that their callers have not seen yet, in all sessions.
        request_ids: The last so many.
        request_bytes: Of their answers.
    """

    sessions: int = 10_000
    answer_bytes: int = 64 << 20
    request_ids: int = 100_000
    request_bytes: int = 64 << 20

    def encode(self) -> bytes:
        """Make the command of an entry that opens a session."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, command: bytes) -> Limits:
        """Read it.

        Raises:
            MalformedEntry: It is none.
        """
        try:
            limits = cls(**json.loads(command))
            if not all(type(limit) is int and limit > 0 for limit in limits):
                raise ValueError("a limit is no positive number")
        except (ValueError, TypeError, RecursionError) as error:
            raise MalformedEntry(f"{command[:200]!r} opens no session: {error}") from error
        return limits


LIMITS = Limits().encode()  # what this version writes into every entry that opens a session


class Answer(NamedTuple):
    """What became of a command, and at which entry it was applied."""

    place: Index
    term: Term
    result: bytes | None
    error: TinyraftError | None

    @property
    def size(self) -> int:
        """Bytes in memory, about; the same on every member, so no error's text counts."""
        if self.error is not None:
            return ANSWER_BYTES + LONGEST_REASON
        return ANSWER_BYTES + len(self.result or b"")


class Session:
    """One caller: the answers that it may still ask for, and below which number there are none."""

    __slots__ = ("answers", "floor", "term")

    def __init__(self, term: Term, floor: int = 0) -> None:
        """Begin without answers."""
        self.term = term
        self.floor = floor
        self.answers: dict[int, Answer] = {}


class Sessions:
    """All that is remembered. Not thread-safe: the module mutex guards it."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._begin(Limits())

    def _begin(self, limits: Limits) -> None:
        self._limits = limits
        self._sessions: OrderedDict[Index, Session] = OrderedDict()  # used longest ago first
        self._bytes = 0
        self._requests: dict[str, tuple[str, Answer]] = {}
        self._order: deque[str] = deque()  # the same names, oldest first
        self._request_bytes = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Count the sessions and the request ids."""
        return len(self._sessions), len(self._requests)

    # --- the log ------------------------------------------------------------------------------

    def open(self, entry: Entry) -> None:
        """Open the session that *entry* asks for.

        Raises:
            MalformedEntry: It asks for none.
        """
        self._limits = Limits.decode(entry.command)
        self._sessions[entry.index] = Session(entry.term)
        self._forget()

    def find(self, origin: Origin, command: bytes) -> Answer | None:
        """Give the answer to a command that must not be applied; None when it must."""
        if origin.session_index:
            answer = self._find_in_session(origin)
            if answer is not None:
                return again(answer)
        if origin.request_id in self._requests:
            known, answer = self._requests[origin.request_id]
            if known != fingerprint(command):
                why = f"request_id {origin.request_id!r} belongs to another command"
                answer = answer._replace(result=None, error=RequestIdReused(why))
            self._remember_in_session(origin, answer)
            return again(answer)
        return None

    def _find_in_session(self, origin: Origin) -> Answer | None:
        index, term, sequence, answered_below, _ = origin
        session = self._sessions.get(index)
        if session is None or session.term != term:
            return expired(f"the session of entry {index} was forgotten")
        self._sessions.move_to_end(index)
        if answered_below > session.floor:
            self._forget_below(answered_below, session)
        if sequence < session.floor:
            return expired(f"command {sequence} of session {index} is below {session.floor}")
        return session.answers.get(sequence)

    def _forget_below(self, floor: int, session: Session) -> None:
        answers = session.answers
        seen: Iterable[int] = range(session.floor, floor)
        if floor - session.floor > len(answers):  # a caller may leave out as many as it likes
            seen = [number for number in answers if number < floor]
        session.floor = floor
        for number in seen:
            answer = answers.pop(number, None)
            if answer is not None:
                self._bytes -= answer.size

    def remember(self, origin: Origin, command: bytes, answer: Answer) -> None:
        """Remember what became of a command that `find` did not find."""
        if answer.error is not None:
            kind = Rejected if isinstance(answer.error, Rejected) else ModuleError
            answer = answer._replace(error=kind(str(answer.error)[:LONGEST_REASON]))
        if origin.request_id:
            self._requests[origin.request_id] = fingerprint(command), answer
            self._order.append(origin.request_id)
            self._request_bytes += answer.size
            self._forget()
        self._remember_in_session(origin, answer)

    def _remember_in_session(self, origin: Origin, answer: Answer) -> None:
        session = self._sessions.get(origin.session_index)
        if session is not None:
            session.answers[origin.sequence] = answer
            self._bytes += answer.size
            if self._bytes > self._limits.answer_bytes:
                self._forget()

    def _forget(self) -> None:
        """Keep the bounds; who used its session last keeps that, and at least its last answer."""
        limits, sessions = self._limits, self._sessions
        while len(sessions) > limits.sessions or (
            len(sessions) > 1 and self._bytes > limits.answer_bytes
        ):
            _, session = sessions.popitem(last=False)
            self._bytes -= sum(answer.size for answer in session.answers.values())
        if self._bytes > limits.answer_bytes:
            (session,) = sessions.values()
            for number in sorted(session.answers)[:-1]:
                self._bytes -= session.answers.pop(number).size
                session.floor = max(session.floor, number + 1)
                if self._bytes <= limits.answer_bytes:
                    break
        while len(self._order) > limits.request_ids or (
            len(self._order) > 1 and self._request_bytes > limits.request_bytes
        ):
            self._request_bytes -= self._requests.pop(self._order.popleft())[1].size

    # --- snapshots ----------------------------------------------------------------------------

    def snapshot(self) -> Iterator[bytes]:
        """Copy everything, quickly; what is returned makes the bytes, later and anywhere."""
        sessions = [
            (index, session.term, session.floor, list(session.answers.items()))
            for index, session in self._sessions.items()
        ]
        return encoded(self._limits, sessions, list(self._requests.items()))

    def restore(self, records: Iterable[bytes]) -> None:
        """Replace everything by what a `snapshot` gave.

        Raises:
            MalformedEntry: The records are not ours.
        """
        self._begin(Limits())
        for record in records:
            try:
                self._restore(json.loads(record))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise MalformedEntry(f"{record[:200]!r} is no session: {error!r}") from error

    def _restore(self, record: dict[str, Any]) -> None:
        if "limits" in record:
            self._limits = Limits(**record["limits"])
        elif "session" in record:
            session = Session(record["term"], record["floor"])
            for number, *fields in record["answers"]:
                session.answers[number] = answer = decode_answer(fields)
                self._bytes += answer.size
            self._sessions[record["session"]] = session
        else:
            name, answer = record["request"], decode_answer(record["answer"])
            self._requests[name] = record["command"], answer
            self._order.append(name)
            self._request_bytes += answer.size


def again(answer: Answer) -> Answer:
    """Give *answer* once more; who raises its error leaves a traceback in it, so that is a copy."""
    error = answer.error
    return answer if error is None else answer._replace(error=type(error)(str(error)))


def expired(why: str) -> Answer:
    """Refuse a command that may be a repetition."""
    return Answer(0, 0, None, SessionExpired(f"{why}; nothing was applied this time"))


def fingerprint(command: bytes) -> str:
    """Tell commands apart."""
    return blake2b(command, digest_size=8).hexdigest()


def encoded(
    limits: Limits,
    sessions: list[tuple[Index, Term, int, list[tuple[int, Answer]]]],
    requests: list[tuple[str, tuple[str, Answer]]],
) -> Iterator[bytes]:
    """Make the records, one a session and one a request id; their order is part of the state."""
    yield encode({"limits": limits._asdict()})
    for index, term, floor, answers in sessions:
        listed = [[number, *encode_answer(answer)] for number, answer in answers]
        yield encode({"session": index, "term": term, "floor": floor, "answers": listed})
    for name, (command, answer) in requests:
        yield encode({"request": name, "command": command, "answer": encode_answer(answer)})


def encode(record: dict[str, object]) -> bytes:
    """Make one record."""
    return json.dumps(record, separators=(",", ":")).encode()


def encode_answer(answer: Answer) -> list[object]:
    """Write an answer down."""
    index, term, result, error = answer
    if error is not None:
        return [index, term, NAMES[type(error)], str(error)]
    if result is None:
        return [index, term, "none", ""]
    return [index, term, "bytes", b64encode(result).decode()]


def decode_answer(fields: list[Any]) -> Answer:
    """Read it back."""
    index, term, kind, text = fields
    if kind in REFUSALS:
        return Answer(index, term, None, REFUSALS[kind](text))
    return Answer(index, term, None if kind == "none" else b64decode(text), None)
