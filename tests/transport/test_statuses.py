"""Statuses: an error crosses the wire as itself, and no code ever promises too much."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc import StatusCode

from tinyraft import errors
from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    MaybeApplied,
    ModuleError,
    ModuleFailed,
    NotApplied,
    NotLeader,
    Overloaded,
    Rejected,
    ServerStopped,
    StorageFailed,
    TinyraftError,
)
from tinyraft.transport import statuses
from tinyraft.transport.envelope import Malformed
from tinyraft.transport.pool import DaemonPool
from tinyraft.transport.statuses import Promise
from tinyraft.wire import raft_pb2 as pb

Metadata = tuple[tuple[str, str | bytes], ...]


class Ended(grpc.RpcError):
    """A call's end, as gRPC shows it to a client."""

    def __init__(self, code: StatusCode, details: str, trailers: Metadata | None) -> None:
        super().__init__()
        self._end = (code, details, trailers)

    def code(self) -> StatusCode:
        return self._end[0]

    def details(self) -> str:
        return self._end[1]

    def trailing_metadata(self) -> Metadata | None:  # type: ignore[override]
        return self._end[2]


def concrete(branch: type[TinyraftError]) -> list[type[TinyraftError]]:
    """List the classes under *branch* that nothing is derived from."""
    below = branch.__subclasses__()
    return [leaf for kind in below for leaf in concrete(kind)] if below else [branch]


COMMANDS = [
    kind
    for branch in (NotApplied, MaybeApplied, Rejected, ModuleError, ModuleFailed)
    for kind in concrete(branch)
    if kind.__module__ == errors.__name__
]
ROWS = pytest.mark.parametrize("row", statuses.TABLE, ids=lambda row: row.error.__name__)


def example(kind: type[TinyraftError]) -> TinyraftError:
    """Make an error that says something in every attribute."""
    if issubclass(kind, NotLeader):
        return kind("müde", leader_id="n-1", leader_address="[fe80::1%eth0]:50051", term=7)
    if issubclass(kind, MaybeApplied):
        return kind("müde", request_id="order-1")
    return kind("müde")


def facts(error: TinyraftError) -> tuple[object, ...]:
    """Everything that a program can read from an error."""
    return type(error), str(error), vars(error)


@ROWS
def test_a_status_becomes_the_same_error_again(row: statuses.Row) -> None:
    """Class, text, leader hint and request id survive a unary call."""
    error = example(row.error)
    code, details, trailers = statuses.to_status(error)
    back = statuses.from_rpc_error(Ended(code, details, trailers), request_id="order-1")
    assert row.code is code
    assert (row.error, "müde", vars(error)) == facts(back)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_an_answer_becomes_the_same_error_again(kind: type[TinyraftError]) -> None:
    """Every end that a command can have is an outcome of its own on a stream."""
    answer = pb.StreamedAnswer(id=1, **statuses.to_answer_fields(example(kind)))
    back = statuses.from_answer(
        pb.StreamedAnswer.FromString(answer.SerializeToString()), request_id="order-1"
    )
    assert answer.outcome not in (pb.OUTCOME_UNSPECIFIED, pb.OUTCOME_APPLIED)
    assert back is not None
    assert facts(example(kind)) == facts(back)


@ROWS
def test_a_result_becomes_the_same_error_again(row: statuses.Row) -> None:
    """Class and text survive a stream of queries."""
    said = pb.StreamedResult(id=1, **statuses.to_result_fields(row.error("müde")))
    back = statuses.from_result(pb.StreamedResult.FromString(said.SerializeToString()))
    assert (row.error, "müde") == (type(back), str(back))
    assert row.promise == said.outcome
    assert statuses.from_result(pb.StreamedResult(id=1, result=b"x")) is None


def test_every_end_of_a_command_has_one_row() -> None:
    """A new error can't be forgotten here, and no class or outcome stands twice."""
    listed = [row.error for row in statuses.TABLE]
    outcomes = [row.outcome for row in statuses.TABLE if row.outcome != pb.OUTCOME_UNSPECIFIED]
    assert len(set(listed)) == len(listed)
    assert len(set(outcomes)) == len(outcomes)
    assert set(COMMANDS) <= set(listed)
    assert {pb.OUTCOME_UNSPECIFIED, pb.OUTCOME_APPLIED, *outcomes} == set(pb.Outcome.values())


@ROWS
def test_the_promise_is_that_of_the_branch(row: statuses.Row) -> None:
    """Everything below NotApplied says so, and nothing below MaybeApplied ever does."""
    if issubclass(row.error, NotApplied):
        assert row.promise is Promise.NOT_APPLIED
    if issubclass(row.error, MaybeApplied):
        assert row.promise is Promise.MAYBE_APPLIED
    trailers = dict(statuses.to_status(example(row.error)).trailing_metadata)
    assert row.promise == trailers["tinyraft-outcome"]


@ROWS
def test_unavailable_promises_that_nothing_happened(row: statuses.Row) -> None:
    """gRPC's retry policies repeat UNAVAILABLE, so it is never said of a command that may run."""
    if row.code is StatusCode.UNAVAILABLE:
        assert row.promise is Promise.NOT_APPLIED
    if issubclass(row.error, MaybeApplied):
        assert row.code is not StatusCode.UNAVAILABLE


@ROWS
def test_trailers_are_printable_ascii(row: statuses.Row) -> None:
    """gRPC fails the whole answer over one other character in its metadata."""
    error = row.error("x")
    if isinstance(error, NotLeader):
        error = NotLeader("x", leader_id="ü\n", leader_address="höhle:1", term=2**63 - 1)
    for key, value in statuses.to_status(error).trailing_metadata:
        assert key.islower()
        assert value.isascii()
        assert value.isprintable()


def test_a_leader_that_nobody_knows_has_no_trailers() -> None:
    """An empty hint comes back as an empty hint."""
    status = statuses.to_status(NotLeader("nobody leads"))
    keys = [key for key, _ in status.trailing_metadata]
    assert keys == ["tinyraft-outcome", "tinyraft-error"]
    assert facts(NotLeader("nobody leads")) == facts(statuses.from_rpc_error(Ended(*status)))


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
@pytest.mark.parametrize("trailers", [(), None, (("other", "not-applied"), ("other-bin", b"x"))])
def test_without_our_trailers_nothing_is_promised(
    code: StatusCode, trailers: Metadata | None
) -> None:
    """gRPC makes every code by itself, also after the command was appended."""
    back = statuses.from_rpc_error(Ended(code, "socket closed", trailers), request_id="order-1")
    expected = ApplyTimeout if code is StatusCode.DEADLINE_EXCEEDED else ConnectionLost
    assert isinstance(back, expected)
    assert back.request_id == "order-1"
    assert "socket closed" in str(back)
    assert code.name in str(back)


@pytest.mark.parametrize(
    ("promise", "kind"),
    [
        ("not-applied", NotApplied),
        ("maybe-applied", MaybeApplied),
        ("answered", MaybeApplied),
        ("", MaybeApplied),
    ],
)
def test_a_newer_error_keeps_its_promise(promise: str, kind: type[TinyraftError]) -> None:
    """An error class of a later version arrives as the branch that it stands under."""
    trailers = (("tinyraft-outcome", promise), ("tinyraft-error", "TooEarly"))
    back = statuses.from_rpc_error(Ended(StatusCode.UNAVAILABLE, "later", trailers))
    assert (kind, "later") == (type(back), str(back))


def test_a_newer_outcome_promises_nothing() -> None:
    """So does an outcome of a later version, and one that was not set."""
    for outcome in (99, pb.OUTCOME_UNSPECIFIED):
        back = statuses.from_answer(pb.StreamedAnswer(outcome=outcome))  # type: ignore[arg-type]
        assert type(back) is MaybeApplied


def test_an_applied_command_is_no_error() -> None:
    """Success has no error."""
    assert statuses.from_answer(pb.StreamedAnswer(outcome=pb.OUTCOME_APPLIED)) is None


def test_an_error_outside_the_table_promises_nothing() -> None:
    """A broken disk is told as itself, but not as a promise about a command."""
    code, details, trailers = statuses.to_status(StorageFailed("no space"))
    assert (code, details) == (StatusCode.UNKNOWN, "no space")
    assert dict(trailers)["tinyraft-outcome"] == "maybe-applied"
    assert statuses.to_answer_fields(StorageFailed("x"))["outcome"] == pb.OUTCOME_UNSPECIFIED
    assert type(statuses.from_rpc_error(Ended(code, details, trailers))) is MaybeApplied


def test_a_kind_of_a_known_error_is_sent_as_that() -> None:
    """A subclass made by a module's author is what it is a kind of."""

    class Bounced(Rejected):
        pass

    back = statuses.from_rpc_error(Ended(*statuses.to_status(Bounced("no money"))))
    assert (Rejected, "no money") == (type(back), str(back))


def test_a_malformed_message_was_not_applied() -> None:
    """A message that could not be read had no effect."""
    code, details, trailers = statuses.to_status(Malformed("term is 0"))
    assert (code, details) == (StatusCode.INVALID_ARGUMENT, "term is 0")
    assert type(statuses.from_rpc_error(Ended(code, details, trailers))) is NotApplied


@pytest.mark.parametrize("term", ["", "x", "-1", "²", str(2**63), "9" * 40])
def test_a_wild_term_is_unknown(term: str) -> None:
    """A hint whose term is no number is as good as none."""
    trailers = (
        ("tinyraft-outcome", "not-applied"),
        ("tinyraft-error", "NotLeader"),
        ("tinyraft-leader-term", term),
    )
    back = statuses.from_rpc_error(Ended(StatusCode.UNAVAILABLE, "", trailers))
    assert isinstance(back, NotLeader)
    assert back.term == 0


# --- over a real wire -------------------------------------------------------------------------


@pytest.fixture
def failing() -> Iterator[tuple[list[TinyraftError], grpc.UnaryUnaryMultiCallable[bytes, bytes]]]:
    """Serve a method that ends with whatever error stands in the list."""
    raised: list[TinyraftError] = []

    def fail(_: bytes, context: grpc.ServicerContext) -> bytes:
        status = statuses.to_status(raised[-1])
        context.set_trailing_metadata(status.trailing_metadata)
        context.abort(status.code, status.details)

    pool = DaemonPool(2, name="statuses")
    server = grpc.server(pool)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(fail)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"Fail": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield raised, channel.unary_unary("/t/Fail")
    finally:
        server.stop(None).wait(5)
        pool.shutdown()


@pytest.mark.parametrize(
    "error",
    [
        NotLeader("höhle", leader_id="ü\n", leader_address="[fe80::1%eth0]:1", term=2**63 - 1),
        NotLeader(""),
        Overloaded("zu viel " * 2_000),
        Rejected("語" * 20_000),
        Rejected("a line\nand \0 and \ud800"),
        ServerStopped("stopped", request_id="order-1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_a_real_connection(
    failing: tuple[list[TinyraftError], grpc.UnaryUnaryMultiCallable[bytes, bytes]],
    error: TinyraftError,
) -> None:
    """Neither a long text nor a strange one costs the caller what it must know."""
    raised, call = failing
    raised.append(error)
    with pytest.raises(grpc.RpcError) as ended:
        call(b"", timeout=10)
    back = statuses.from_rpc_error(ended.value, request_id="order-1")
    assert type(error) is type(back)
    assert vars(error) == vars(back)
    assert str(error).encode(errors="replace").startswith(str(back).encode())
    assert bool(str(error)) == bool(str(back))
