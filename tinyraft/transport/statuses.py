"""Errors as gRPC statuses and streamed answers, and back: the one table of them.

Law: no other file chooses a gRPC code. What the other side must know is in our trailers, never in
the code, because gRPC, proxies and retry policies make codes of their own. `UNAVAILABLE` is what
retry policies repeat, so it is sent only with the promise that the command had no effect; and an
answer without our trailers promises nothing.

Trailers: ``tinyraft-outcome`` (one of `Promise`), ``tinyraft-error`` (the class), and for
`NotLeader` ``tinyraft-leader-id``, ``-address`` and ``-term``, where known. A stream of commands
that a node ends on purpose says with ``tinyraft-taken`` how many it took.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias, TypedDict, cast
from urllib.parse import quote, unquote

from grpc import RpcError, StatusCode

from tinyraft.errors import (
    ApplyTimeout,
    ChangeInProgress,
    CommandTooLarge,
    ConfigurationChanged,
    ConnectionLost,
    IdReused,
    LeadershipLost,
    MaybeApplied,
    MembershipError,
    ModuleError,
    ModuleFailed,
    NodeRemoved,
    NoQuorum,
    NotApplied,
    NotCaughtUp,
    NotLeader,
    NotStarted,
    Overloaded,
    ReadFailed,
    Rejected,
    RequestIdReused,
    ServerStopped,
    SessionExpired,
    StorageFull,
    TinyraftError,
    UnknownMember,
    WrongCluster,
)
from tinyraft.transport.envelope import Malformed
from tinyraft.wire import raft_pb2 as pb

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Outcome: TypeAlias = pb.Outcome.ValueType

OUTCOME = "tinyraft-outcome"
ERROR = "tinyraft-error"
LEADER_ID = "tinyraft-leader-id"
LEADER_ADDRESS = "tinyraft-leader-address"
LEADER_TERM = "tinyraft-leader-term"
TAKEN = "tinyraft-taken"

# gRPC drops an answer whose metadata passes 8 KiB, and each byte of a text can become three.
LONGEST_TEXT = 2_000
PLAIN = ":/[]@,;=+ "  # beside letters, digits and "_.-~": kept as they are in a trailer


class Promise(StrEnum):
    """What an answer says about its command."""

    NOT_APPLIED = "not-applied"  # no effect, now or ever
    MAYBE_APPLIED = "maybe-applied"  # appended, and not known to have been applied or lost
    ANSWERED = "answered"  # in the log for good, and the module has given its answer


class Status(NamedTuple):
    """How a unary call ends."""

    code: StatusCode
    details: str
    trailing_metadata: Metadata


class AnswerFields(TypedDict):
    """How a streamed command ends: ``pb.StreamedAnswer(id=..., **fields)``."""

    outcome: Outcome
    message: str
    leader: pb.LeaderHint | None


class ResultFields(TypedDict):
    """How a streamed query fails: ``pb.StreamedResult(id=..., **fields)``."""

    error: str
    outcome: str
    message: str


@dataclass(slots=True, frozen=True)
class Row:
    """One error. Without an *outcome* it is never the answer to a streamed command."""

    error: type[TinyraftError]
    code: StatusCode
    promise: Promise
    outcome: Outcome = pb.OUTCOME_UNSPECIFIED


NOT, MAYBE, ANSWERED = Promise

TABLE = (
    # No effect: the only rows that may say UNAVAILABLE.
    Row(NotLeader, StatusCode.UNAVAILABLE, NOT, pb.OUTCOME_NOT_LEADER),
    Row(NoQuorum, StatusCode.UNAVAILABLE, NOT, pb.OUTCOME_NO_QUORUM),
    Row(NotStarted, StatusCode.UNAVAILABLE, NOT),
    Row(ReadFailed, StatusCode.UNAVAILABLE, NOT),
    Row(Overloaded, StatusCode.RESOURCE_EXHAUSTED, NOT, pb.OUTCOME_OVERLOADED),
    Row(StorageFull, StatusCode.RESOURCE_EXHAUSTED, NOT, pb.OUTCOME_STORAGE_FULL),
    Row(CommandTooLarge, StatusCode.INVALID_ARGUMENT, NOT, pb.OUTCOME_COMMAND_TOO_LARGE),
    # Unknown. Not ABORTED either: its readers take it for "nothing happened".
    Row(ApplyTimeout, StatusCode.DEADLINE_EXCEEDED, MAYBE, pb.OUTCOME_APPLY_TIMEOUT),
    Row(LeadershipLost, StatusCode.UNKNOWN, MAYBE, pb.OUTCOME_LEADERSHIP_LOST),
    Row(ConnectionLost, StatusCode.UNKNOWN, MAYBE, pb.OUTCOME_CONNECTION_LOST),
    Row(SessionExpired, StatusCode.UNKNOWN, MAYBE, pb.OUTCOME_SESSION_EXPIRED),
    Row(ServerStopped, StatusCode.UNKNOWN, MAYBE, pb.OUTCOME_SERVER_STOPPED),
    # This node's module broke; the others apply the command all the same.
    Row(ModuleFailed, StatusCode.INTERNAL, MAYBE, pb.OUTCOME_MODULE_FAILED),
    # The module's answers. A refusal depends on the state and stays until that changes; anything
    # else that a module raises is a bug of the module.
    Row(Rejected, StatusCode.FAILED_PRECONDITION, ANSWERED, pb.OUTCOME_REJECTED),
    Row(RequestIdReused, StatusCode.FAILED_PRECONDITION, ANSWERED, pb.OUTCOME_REQUEST_ID_REUSED),
    Row(ModuleError, StatusCode.INTERNAL, ANSWERED, pb.OUTCOME_MODULE_ERROR),
    # Membership: refused before anything was appended.
    Row(MembershipError, StatusCode.FAILED_PRECONDITION, NOT),
    Row(ChangeInProgress, StatusCode.FAILED_PRECONDITION, NOT),
    Row(ConfigurationChanged, StatusCode.FAILED_PRECONDITION, NOT),
    Row(NotCaughtUp, StatusCode.FAILED_PRECONDITION, NOT),
    Row(WrongCluster, StatusCode.FAILED_PRECONDITION, NOT),
    Row(NodeRemoved, StatusCode.FAILED_PRECONDITION, NOT),
    Row(IdReused, StatusCode.ALREADY_EXISTS, NOT),
    Row(UnknownMember, StatusCode.NOT_FOUND, NOT),
)
BY_CLASS = {row.error: row for row in TABLE}
BY_NAME = {row.error.__name__: row.error for row in TABLE}
BY_OUTCOME = {row.outcome: row.error for row in TABLE if row.outcome != pb.OUTCOME_UNSPECIFIED}


# --- out --------------------------------------------------------------------------------------


def to_status(error: TinyraftError | Malformed) -> Status:
    """Say how a unary call ends that met *error*.

    An error outside the table becomes UNKNOWN and `Promise.MAYBE_APPLIED`: less than is known, and
    never a false promise.
    """
    if isinstance(error, Malformed):
        trailers = ((OUTCOME, str(NOT)), (ERROR, Malformed.__name__))
        return Status(StatusCode.INVALID_ARGUMENT, short(str(error)), trailers)
    code, promise, name = said_of(error)
    hint = leader_trailers(error) if isinstance(error, NotLeader) else ()
    return Status(code, short(str(error)), ((OUTCOME, str(promise)), (ERROR, name), *hint))


def said_of(error: TinyraftError) -> tuple[StatusCode, Promise, str]:
    """Look up what stands for *error* on the wire: its code, its promise and its name."""
    row = row_of(error)
    if row is None:
        return StatusCode.UNKNOWN, MAYBE, type(error).__name__
    return row.code, row.promise, row.error.__name__


def to_result_fields(error: TinyraftError | Malformed) -> ResultFields:
    """Say why a streamed query has no result, in the words of `to_status`."""
    if isinstance(error, Malformed):
        promise, name = NOT, Malformed.__name__
    else:
        _, promise, name = said_of(error)
    return ResultFields(error=name, outcome=str(promise), message=short(str(error)))


def to_answer_fields(error: TinyraftError) -> AnswerFields:
    """Say how a streamed command ends that met *error*."""
    row = row_of(error)
    leader = None
    if isinstance(error, NotLeader):
        leader = pb.LeaderHint(id=error.leader_id, address=error.leader_address, term=error.term)
    outcome = row.outcome if row else pb.OUTCOME_UNSPECIFIED
    return AnswerFields(outcome=outcome, message=short(str(error)), leader=leader)


def row_of(error: TinyraftError) -> Row | None:
    """Find the row of *error*, or of the nearest class that it is a kind of."""
    rows = (BY_CLASS.get(kind) for kind in type(error).__mro__)
    return next((row for row in rows if row), None)


def leader_trailers(error: NotLeader) -> Metadata:
    """Write down what *error* knows of the leader, in ASCII."""
    hints = (
        (LEADER_ID, error.leader_id),
        (LEADER_ADDRESS, error.leader_address),
        (LEADER_TERM, str(error.term) if error.term else ""),
    )
    return tuple((key, quote(value, safe=PLAIN)) for key, value in hints if value)


def short(text: str) -> str:
    """Cut *text* to what an answer can carry, between two characters."""
    return text.encode(errors="replace")[:LONGEST_TEXT].decode(errors="ignore")


# --- in ---------------------------------------------------------------------------------------


def from_rpc_error(error: RpcError, *, request_id: str = "") -> TinyraftError:
    """Say what became of a command that was sent and whose call ended in *error*.

    With our trailers it is the error that the node had. Without them gRPC or something between made
    it, also after the node had taken the command, so it is `MaybeApplied` whatever the code.
    """
    text = error.details() or ""
    trailers = dict(text_trailers(error))
    if OUTCOME in trailers:
        hint = pb.LeaderHint(
            id=trailers.get(LEADER_ID, ""),
            address=trailers.get(LEADER_ADDRESS, ""),
            term=number(trailers.get(LEADER_TERM, "")),
        )
        kind = BY_NAME.get(trailers.get(ERROR, "")) or stand_in(trailers[OUTCOME])
        return rebuild(kind, text, leader=hint, request_id=request_id)
    kind = ApplyTimeout if error.code() is StatusCode.DEADLINE_EXCEEDED else ConnectionLost
    lost = f"the call ended without the node's answer ({error.code().name}: {text})"
    return kind(f"{lost}; the command may have been applied", request_id=request_id)


def from_answer(answer: pb.StreamedAnswer, *, request_id: str = "") -> TinyraftError | None:
    """Say what became of a streamed command; ``None`` when it was applied.

    An outcome that this version does not know is `MaybeApplied`.
    """
    if answer.outcome == pb.OUTCOME_APPLIED:
        return None
    kind = BY_OUTCOME.get(answer.outcome, MaybeApplied)
    return rebuild(kind, answer.message, leader=answer.leader, request_id=request_id)


def from_result(result: pb.StreamedResult) -> TinyraftError | None:
    """Say why a streamed query has no result; ``None`` when it has one."""
    if not result.error:
        return None
    kind = BY_NAME.get(result.error) or stand_in(result.outcome)
    return rebuild(kind, result.message, leader=pb.LeaderHint(), request_id="")


def rebuild(
    kind: type[TinyraftError], text: str, *, leader: pb.LeaderHint, request_id: str
) -> TinyraftError:
    """Make the error that the other side had."""
    if issubclass(kind, NotLeader):
        return kind(text, leader_id=leader.id, leader_address=leader.address, term=leader.term)
    if issubclass(kind, MaybeApplied):
        return kind(text, request_id=request_id)
    return kind(text)


def stand_in(promise: str) -> type[TinyraftError]:
    """Choose for an error of a newer tinyraft the branch that its promise allows."""
    return NotApplied if promise == NOT else MaybeApplied


def text_trailers(error: RpcError) -> Iterable[tuple[str, str]]:
    """Read the trailers that are text; there are none when the call never reached a server."""
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    return ((key, unquote(value)) for key, value in pairs if isinstance(value, str))


def number(digits: str) -> int:
    """Read a term; what is none counts as unknown."""
    value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0
    return value if value < 2**63 else 0
