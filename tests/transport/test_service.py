"""The RPCs of running nodes over real gRPC: garbage, strangers, limits, and old clients."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from time import monotonic
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.cluster import DEADLINE, LocalCluster, node_of, until
from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import EntryKind, encode_entries, make_entry
from tinyraft.transport import service
from tinyraft.transport.statuses import ERROR, LEADER_ID, OUTCOME, TAKEN
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub, RaftServiceV1Stub

Code = grpc.StatusCode
SERVICE = "/trevatk.raft.v1.RaftServiceV1/"
UNARY: dict[str, type[Message]] = {
    "Apply": pb.Cmd,
    "Join": pb.JoinRequest,
    "AppendEntries": pb.AppendEntriesRequest,
    "Vote": pb.VoteRequest,
    "PreVote": pb.PreVoteRequest,
    "TimeoutNow": pb.TimeoutNowRequest,
    "Query": pb.QueryRequest,
    "ReadIndex": pb.ReadIndexRequest,
}
STREAMS: dict[str, type[Message]] = {
    "AppendStream": pb.AppendStreamRequest,
    "ApplyStream": pb.ApplyStreamRequest,
    "QueryStream": pb.QueryStreamRequest,
}
NUMBERS = [0, 1, 2, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS = ["", "a", "b", "x" * 65, "../../etc/passwd", "a\nb", "\0", "é", "x" * 10_000]
BLOBS = [b"", b"\0", b"x" * 100, b"\xff" * 1000]
# What a server answers to garbage. INTERNAL and UNKNOWN would be a handler that fell over.
CLEAR = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.FAILED_PRECONDITION,
    Code.ALREADY_EXISTS,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.RESOURCE_EXHAUSTED,
}


def envelope(cluster: LocalCluster, name: str, **change: Any) -> pb.Envelope:
    """Address *name* as a member that its configuration does not list yet."""
    fields: dict[str, Any] = {
        "cluster_id": cluster[name].status().cluster_id,
        "sender": "stranger",
        "recipient": name,
        "incarnation": 99,
        "protocol": 1,
    }
    return pb.Envelope(**{**fields, **change})


def error_of(call: Callable[[], object]) -> grpc.RpcError:
    """Return what a call ended with."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value


def trailers(error: Any) -> dict[str, str]:
    """Read our trailers."""
    return {key: value for key, value in error.trailing_metadata() or ()}


def raw(cluster: LocalCluster, name: str, method: str) -> Callable[..., Any]:
    """Return an RPC that takes and gives bytes."""
    channel = cluster.channel(name)
    if method in STREAMS:
        return channel.stream_stream(SERVICE + method)
    return channel.unary_unary(SERVICE + method)


def code_of(call: Callable[..., Any], data: bytes, *, is_stream: bool) -> grpc.StatusCode:
    """Send *data* and say how that ended."""
    try:
        if is_stream:
            list(call(iter([data]), timeout=2.0))
        else:
            call(data, timeout=2.0)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[no-any-return,attr-defined]
    return Code.OK


# --- garbage ----------------------------------------------------------------------------------


def scalar(chance: random.Random, field: FieldDescriptor) -> Any:
    """Choose an edge value for a field."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice(BLOBS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    limit = {
        FieldDescriptor.TYPE_INT32: 2**31,
        FieldDescriptor.TYPE_ENUM: 2**31,
        FieldDescriptor.TYPE_UINT32: 2**32,
        FieldDescriptor.TYPE_INT64: 2**63,
    }.get(field.type, 2**64)
    return chance.choice([n for n in NUMBERS if n < limit])


def scramble(chance: random.Random, message: Any, *, spare: Callable[[], pb.Envelope]) -> None:
    """Fill some fields of *message* with edge values; an envelope is a good one half the time."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.3:
            continue
        if field.message_type is not None and field.message_type.name == "Envelope":
            if chance.random() < 0.7:
                getattr(message, field.name).CopyFrom(spare())
            else:
                scramble(chance, getattr(message, field.name), spare=spare)
        elif field.message_type is not None and field.is_repeated:
            for _ in range(chance.choice([1, 2, 50])):
                scramble(chance, getattr(message, field.name).add(), spare=spare)
        elif field.message_type is not None:
            scramble(chance, getattr(message, field.name), spare=spare)
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, scalar(chance, field))
    if "candidate_id" in message.DESCRIPTOR.fields_by_name and chance.random() < 0.7:
        message.candidate_id = "stranger"
    if "leader_id" in message.DESCRIPTOR.fields_by_name and chance.random() < 0.7:
        message.leader_id = "stranger"


@pytest.fixture
def unharmed(shared: LocalCluster, caplog: pytest.LogCaptureFixture) -> Iterator[LocalCluster]:
    """Lend the cluster, and see that it works as before when the test is over."""
    caller = shared.caller()
    before = caller.apply(b"before")
    assert before is not None
    yield shared
    after = caller.apply(b"after", timeout=DEADLINE)
    assert after is not None
    assert int(before) < int(after)
    for server in shared:
        assert "" == server.status().failed
        assert server.status().term < 2**40, "terms were used up"
    words = [m.words for m in shared.modules.values()]
    until(lambda: words[0] == words[1] == words[2], what="all have the same words")
    assert [] == [r for r in caplog.records if r.name.startswith("grpc")]


@pytest.mark.parametrize("method", [*UNARY, *STREAMS])
@pytest.mark.parametrize("name", ["a", "b"])
def test_random_bytes_are_refused(unharmed: LocalCluster, name: str, method: str) -> None:
    """Bytes that are no message, or some other, never make a handler fall over."""
    chance = random.Random(f"{name}{method}")
    call, kind = raw(unharmed, name, method), {**UNARY, **STREAMS}[method]
    for _ in range(15):
        data = chance.randbytes(chance.choice([1, 3, 20, 300]))
        code = code_of(call, data, is_stream=method in STREAMS)
        try:
            kind.FromString(data)
        except DecodeError:
            assert code in {Code.INTERNAL, Code.UNKNOWN}  # gRPC's own answer
        else:
            assert code in CLEAR


@pytest.mark.parametrize("method", [m for m in [*UNARY, *STREAMS] if "Apply" not in m])
@pytest.mark.parametrize("name", ["a", "b"])
def test_edge_values_are_refused(unharmed: LocalCluster, name: str, method: str) -> None:
    """Whatever stands in the fields of a stranger's message, the answer is clear.

    Only messages that can't be a member's are made: the fields are drawn apart from each other.
    """
    chance = random.Random(f"{name}{method}")
    call, kind = raw(unharmed, name, method), {**UNARY, **STREAMS}[method]
    for _ in range(40):
        message = kind()
        scramble(chance, message, spare=lambda: envelope(unharmed, name))
        if getattr(message, "term", 0) >= unharmed[name].status().term:
            message.term = chance.choice([0, 1, 2**62, 2**63, 2**64 - 1])  # type: ignore[attr-defined]
        code = code_of(call, message.SerializeToString(), is_stream=method in STREAMS)
        assert code in CLEAR, f"{method} answered {code} to {message}"


def test_a_stream_that_a_node_ends_says_what_it_took(cluster: LocalCluster) -> None:
    """A leader that is shut down answers what it took, says how much that was, and who leads."""
    leader = cluster.start().leader()
    requests: SimpleQueue[pb.ApplyStreamRequest | None] = SimpleQueue()
    call = RaftServiceV1Stub(cluster.channel(leader)).ApplyStream(iter(requests.get, None))
    for number in (5, 6):
        one = pb.StreamedCommand(id=number, command=b"word")
        requests.put(pb.ApplyStreamRequest(commands=[one]))
        assert [number] == [answer.id for answer in next(call).answers]
    cluster[leader].shutdown()
    assert [] == list(call)
    said = trailers(call)
    successor = cluster.leader(without=leader)
    assert ("2", successor) == (said[TAKEN], said[LEADER_ID])
    requests.put(None)


def test_a_stream_of_commands_takes_any_ids(unharmed: LocalCluster) -> None:
    """Duplicate ids, empty batches, the highest ids: each command is answered under its id."""
    leader = unharmed.leader()
    stub = RaftServiceV1Stub(unharmed.channel(leader))
    ids = [0, 0, 2**64 - 1, 7, 7, 7]
    batches = [
        pb.ApplyStreamRequest(),
        pb.ApplyStreamRequest(commands=[pb.StreamedCommand(id=i, command=b"same id") for i in ids]),
        pb.ApplyStreamRequest(),
    ]
    answers = [a for r in stub.ApplyStream(iter(batches), timeout=DEADLINE) for a in r.answers]
    assert sorted(ids) == sorted(a.id for a in answers)
    assert {pb.OUTCOME_APPLIED} == {a.outcome for a in answers}


@pytest.mark.parametrize(
    "command",
    [
        b"garbage",
        b"{}",
        b"null",
        b'{"version":2}',
        b'{"version":1,"members":[[1,2]],"removed":[]}',
        b'{"version":1,"members":7,"removed":[]}',
        b'{"version":[],"members":[],"removed":{}}',
    ],
)
def test_a_configuration_that_is_none_stops_nobody(unharmed: LocalCluster, command: bytes) -> None:
    """It is looked at before the core sees it: the core could only die of it."""
    name = unharmed.followers()[0]
    status = unharmed[name].status()
    entry = make_entry(
        index=status.last_index + 1,
        term=status.term,
        kind=EntryKind.CONFIGURATION,
        command=command,
    )
    last = node_of(unharmed[name]).turn(lambda raft: raft.log.last_term)
    request = pb.AppendEntriesRequest(
        term=status.term,
        leader_id="stranger",
        envelope=envelope(unharmed, name),
        prev_log_index=status.last_index,
        prev_log_term=last,
        frames=encode_entries([entry]),
    )
    stub = RaftServiceV1Stub(unharmed.channel(name))
    error = error_of(lambda: stub.AppendEntries(request, timeout=2.0))
    assert (Code.INVALID_ARGUMENT, "") == (error.code(), unharmed[name].status().failed)  # type: ignore[attr-defined]
    assert Configuration.decode(Configuration().encode()) == Configuration()


# --- who speaks -------------------------------------------------------------------------------


def test_the_originals_vote_is_refused(unharmed: LocalCluster) -> None:
    """A vote request that has only a term would elect two leaders."""
    stub = RaftServiceV1Stub(unharmed.channel("b"))
    error: Any = error_of(lambda: stub.Vote(pb.VoteRequest(term=2**20), timeout=2.0))
    assert Code.INVALID_ARGUMENT == error.code()
    assert "candidate_id" in error.details()


@pytest.mark.parametrize("method", ["Vote", "PreVote", "AppendEntries", "TimeoutNow"])
@pytest.mark.parametrize(
    ("change", "named"),
    [({"cluster_id": "foreign"}, ["'foreign'"]), ({"recipient": "zoe"}, ["'zoe'", "b"])],
    ids=["cluster", "recipient"],
)
def test_a_message_for_another_names_both(
    unharmed: LocalCluster, method: str, change: dict[str, str], named: list[str]
) -> None:
    """An address that is used twice, or a wrong cluster, can be found from the message."""
    message: Any = UNARY[method](term=2**62, envelope=envelope(unharmed, "b", **change))
    if method in ("Vote", "PreVote"):
        message.candidate_id = "stranger"
    if method == "AppendEntries":
        message.leader_id, message.heartbeat_round = "stranger", 1
    stub = RaftServiceV1Stub(unharmed.channel("b"))
    error: Any = error_of(lambda: getattr(stub, method)(message, timeout=2.0))
    assert Code.FAILED_PRECONDITION == error.code()
    cluster_id = unharmed["b"].status().cluster_id
    wanted = named if "recipient" in change else [*named, cluster_id]
    assert [] == [name for name in wanted if name not in error.details()]
    assert ("not-applied", "WrongCluster") == tuple(trailers(error)[k] for k in (OUTCOME, ERROR))


def test_a_stream_for_another_is_refused(unharmed: LocalCluster) -> None:
    """Likewise on the stream of appends."""
    stub = RaftServiceV1Stub(unharmed.channel("b"))
    hello = pb.AppendStreamRequest(hello=envelope(unharmed, "b", cluster_id="foreign"))
    error: Any = error_of(lambda: list(stub.AppendStream(iter([hello]), timeout=2.0)))
    assert (Code.FAILED_PRECONDITION, True) == (error.code(), "'foreign'" in error.details())


# --- sizes ------------------------------------------------------------------------------------


def test_commands_of_any_size_end_clearly(unharmed: LocalCluster) -> None:
    """1 MiB works; 5 MiB is CommandTooLarge; 20 MiB is gRPC's to refuse; the node goes on."""
    name = unharmed.followers()[0]
    limit = ("grpc.max_send_message_length", 64 << 20)
    stub = RaftServiceV1Stub(unharmed.channel(name, limit))
    assert stub.Apply(pb.Cmd(payload=b"1" * (1 << 20)), timeout=DEADLINE).HasField("result")
    error: Any = error_of(lambda: stub.Apply(pb.Cmd(payload=b"5" * (5 << 20)), timeout=DEADLINE))
    assert (Code.INVALID_ARGUMENT, "not-applied") == (error.code(), trailers(error)[OUTCOME])
    assert str(5 << 20) in error.details()
    error = error_of(lambda: stub.Apply(pb.Cmd(payload=b"2" * (20 << 20)), timeout=DEADLINE))
    assert (Code.RESOURCE_EXHAUSTED, False) == (error.code(), OUTCOME in trailers(error))
    assert stub.Apply(pb.Cmd(payload=b"small"), timeout=DEADLINE).HasField("result")


def test_a_long_command_on_a_stream_is_refused_alone(unharmed: LocalCluster) -> None:
    """Its neighbours are applied."""
    leader = unharmed.leader()
    stub = RaftServiceV1Stub(unharmed.channel(leader))
    commands = [
        pb.StreamedCommand(id=number, command=b"x" * size)
        for number, size in enumerate([1, 5 << 20, 2])
    ]
    requests = iter([pb.ApplyStreamRequest(commands=commands)])
    answers = [a for r in stub.ApplyStream(requests, timeout=DEADLINE) for a in r.answers]
    outcomes = {a.id: a.outcome for a in answers}
    assert {
        0: pb.OUTCOME_APPLIED,
        1: pb.OUTCOME_COMMAND_TOO_LARGE,
        2: pb.OUTCOME_APPLIED,
    } == outcomes


def test_answers_that_are_long_together_are_sent_apart(unharmed: LocalCluster) -> None:
    """Twenty results of 1 MiB are more than one message may hold; all arrive."""
    module = unharmed.modules[unharmed.leader()]
    module.misbehave[b"long"] = lambda: b"r" * (1 << 20)
    for other in unharmed.modules.values():
        other.misbehave[b"long"] = module.misbehave[b"long"]
    limit = ("grpc.max_receive_message_length", 8 << 20)
    stub = RaftServiceV1Stub(unharmed.channel(unharmed.leader(), limit))
    commands = [pb.StreamedCommand(id=number, command=b"long") for number in range(20)]
    requests = iter([pb.ApplyStreamRequest(commands=commands)])
    answers = [a for r in stub.ApplyStream(requests, timeout=DEADLINE) for a in r.answers]
    assert {1 << 20} == {len(a.result) for a in answers}
    assert 20 == len(answers)


# --- a client of the original -----------------------------------------------------------------


def varint(value: int) -> bytes:
    """Encode a number as protobuf does."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def text(number: int, value: bytes) -> bytes:
    """Encode a string, bytes or message field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields_of(data: bytes) -> dict[int, Any]:
    """Decode the fields of a message, by number."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 0x80:
                return value, at

    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = number(at)
        if key & 7 == 0:
            found[key >> 3], at = number(at)
        else:
            size, at = number(at)
            found[key >> 3], at = data[at : at + size], at + size
    return found


def original_join(address: str, *, requested_at: bool = True) -> bytes:
    """Write the original's JoinRequest by hand: advertise_addr=1, voter=2, commit_index=3, at=4."""
    at = Timestamp()
    at.GetCurrentTime()
    asked = text(4, at.SerializeToString()) if requested_at else b""
    return text(1, address.encode()) + varint(2 << 3) + b"\0" + varint(3 << 3) + b"\0" + asked


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_an_original_client_applies(unharmed: LocalCluster, where: str) -> None:
    """Knowing only ``Cmd: payload=1`` it is served by any node; the answer reads as Empty."""
    name = unharmed.leader() if where == "leader" else unharmed.followers()[0]
    apply = raw(unharmed, name, "Apply")
    word = f"original {where}".encode()
    apply(text(1, word), timeout=DEADLINE)
    assert word in unharmed.modules[unharmed.leader()].words


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_an_original_client_joins(cluster: LocalCluster, where: str) -> None:
    """It gets an id, and the same one again for the same address, from any node."""
    cluster.start(3)
    name = cluster.leader() if where == "leader" else cluster.followers()[0]
    join = raw(cluster, name, "Join")
    first = fields_of(join(original_join("127.0.0.1:9"), timeout=DEADLINE))
    again = fields_of(join(original_join("127.0.0.1:9"), timeout=DEADLINE))
    other = fields_of(join(original_join("127.0.0.1:10"), timeout=DEADLINE))
    assert 36 == len(first[1])
    assert first[1] == again[1] != other[1]
    assert (cluster.leader().encode(), True) == (first[2], first[3] >= 1)
    assert Timestamp.FromString(first[4]).seconds > 1_700_000_000
    members = {m.id: m.voter for m in cluster[cluster.leader()].status().members}
    assert members[first[1].decode()] is False


def test_a_join_without_its_time_is_refused(unharmed: LocalCluster) -> None:
    """As the original did."""
    join = raw(unharmed, "a", "Join")
    error: Any = error_of(
        lambda: join(original_join("127.0.0.1:9", requested_at=False), timeout=2.0)
    )
    assert (Code.INVALID_ARGUMENT, True) == (error.code(), "requested_at" in error.details())


# --- statuses on the wire ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "outcome", "error"),
    [
        (b"refuse", Code.FAILED_PRECONDITION, "answered", "Rejected"),
        (b"raise", Code.INTERNAL, "answered", "ModuleError"),
        (b"number", Code.INTERNAL, "answered", "ModuleError"),
        (b"1" * ((1 << 20) + 1), Code.INVALID_ARGUMENT, "not-applied", "CommandTooLarge"),
    ],
    ids=["Rejected", "ModuleError", "no bytes", "CommandTooLarge"],
)
@pytest.mark.parametrize("where", ["leader", "follower"])
def test_answers_arrive_as_what_they_are(
    unharmed: LocalCluster, where: str, command: bytes, code: Any, outcome: str, error: str
) -> None:
    """Also when a follower passes the leader's answer on."""
    name = unharmed.leader() if where == "leader" else unharmed.followers()[0]
    stub = RaftServiceV1Stub(unharmed.channel(name))
    met: Any = error_of(lambda: stub.Apply(pb.Cmd(payload=command), timeout=DEADLINE))
    found = trailers(met)
    assert (code, outcome, error) == (met.code(), found[OUTCOME], found[ERROR])


@pytest.mark.parametrize("command", [b"none", b"empty", b"word"])
def test_no_result_is_not_an_empty_one(unharmed: LocalCluster, command: bytes) -> None:
    """None and b"" can be told apart."""
    stub = RaftServiceV1Stub(unharmed.channel(unharmed.followers()[0]))
    answer = stub.Apply(pb.Cmd(payload=command), timeout=DEADLINE)
    assert (command != b"none", command == b"word") == (
        answer.HasField("result"),
        bool(answer.result),
    )
    assert answer.index > 0 < answer.term


def test_a_forwarded_call_is_not_forwarded_again(unharmed: LocalCluster) -> None:
    """It is refused with where the leader is, so that no two nodes pass it back and forth."""
    name, leader = unharmed.followers()[0], unharmed.leader()
    stub = RaftServiceV1Stub(unharmed.channel(name))
    metadata = (("tinyraft-forwarded", "c"),)
    error: Any = error_of(lambda: stub.Apply(pb.Cmd(payload=b"x"), timeout=2.0, metadata=metadata))
    found = trailers(error)
    assert (Code.UNAVAILABLE, "not-applied") == (error.code(), found[OUTCOME])
    assert (leader, unharmed[leader].status().address) == (
        found["tinyraft-leader-id"],
        found["tinyraft-leader-address"],
    )


def test_queries_and_status(unharmed: LocalCluster) -> None:
    """A query works on any node, one that does not say how is refused; Status tells all."""
    channel = unharmed.channel("b")
    stub = RaftServiceV1Stub(channel)
    answer = stub.Query(pb.QueryRequest(request=b"?", consistency=pb.CONSISTENCY_STALE))
    assert answer.index > 0 < int(answer.result)
    message = pb.QueryRequest(request=b"?", consistency=pb.CONSISTENCY_LINEARIZABLE)
    newer = stub.Query(message, timeout=DEADLINE)
    assert newer.index >= answer.index > 0 < int(newer.result)
    error: Any = error_of(lambda: stub.Query(pb.QueryRequest(request=b"?")))
    assert Code.INVALID_ARGUMENT == error.code()
    status = RaftAdminV1Stub(channel).Status(pb.StatusRequest())
    assert ("b", True, 3) == (status.node_id, status.ready, len(status.members))
    assert unharmed.leader() == status.leader.id


def test_only_the_leader_gives_a_read_index_and_only_to_its_own(unharmed: LocalCluster) -> None:
    """A follower says who leads; another cluster, or another recipient, gets no index at all."""
    leader = unharmed.leader()
    follower = next(name for name in unharmed.servers if name != leader)

    def ask(name: str, **change: Any) -> int:
        sealed = envelope(unharmed, name, **change)
        stub = RaftServiceV1Stub(unharmed.channel(name))
        return stub.ReadIndex(pb.ReadIndexRequest(envelope=sealed), timeout=DEADLINE).index

    assert unharmed[leader].status().commit_index >= ask(leader) > 1
    assert leader == trailers(error_of(lambda: ask(follower)))[LEADER_ID]
    for change in ({"cluster_id": "other"}, {"recipient": "z"}):
        error: Any = error_of(lambda change=change: ask(leader, **change))
        assert Code.FAILED_PRECONDITION == error.code()


def test_the_greeting_comes_before_the_proposal(cluster: LocalCluster) -> None:
    """Initial metadata arrives while the disk still holds the command up: gRPC repeats no more."""
    cluster.start(1)
    from tests.cluster import gate_journal

    gate = gate_journal(cluster["a"])
    gate.open.clear()
    # Called as a stream: Python shows a unary call's metadata only together with its end.
    apply = cluster.channel("a").unary_stream(
        SERVICE + "Apply",
        request_serializer=pb.Cmd.SerializeToString,
        response_deserializer=pb.ApplyResponse.FromString,
    )
    call = apply(pb.Cmd(payload=b"x"), timeout=DEADLINE)
    greeting = dict(call.initial_metadata())
    assert call.is_active()
    assert ("a", "a") == (greeting["tinyraft-node"], greeting["tinyraft-leader-id"])
    gate.open.set()
    assert [b"1"] == [answer.result for answer in call]


def test_without_a_leader_the_answer_is_certain(cluster: LocalCluster) -> None:
    """A follower alone answers UNAVAILABLE with our promise, before the caller's deadline."""
    cluster.start(3)
    alone, *others = cluster.followers()
    for name in [cluster.leader(), *others]:
        cluster[name].shutdown(timeout=1.0)
    until(lambda: not cluster[alone].status().leader_id)
    stub = RaftServiceV1Stub(cluster.channel(alone))
    for timeout in (0.3, 1.0):
        error: Any = error_of(lambda t=timeout: stub.Apply(pb.Cmd(payload=b"x"), timeout=t))  # type: ignore[misc]
        found = trailers(error)
        assert (Code.UNAVAILABLE, "not-applied", "NoQuorum") == (
            error.code(),
            found.get(OUTCOME),
            found.get(ERROR),
        )
    assert b"x" not in cluster.modules[alone].words


def test_a_slow_disk_is_answered_in_time(
    cluster: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A vote that the disk holds up ends with its deadline, not with a handler that fell over."""
    cluster.start(1)
    from tests.cluster import gate_journal

    gate = gate_journal(cluster["a"])
    gate.open.clear()
    status = cluster["a"].status()
    node_of(cluster["a"]).turn(lambda raft: raft._step_down("for the test"))
    request = pb.VoteRequest(
        term=status.term + 5,
        candidate_id="stranger",
        last_log_index=2**40,
        last_log_term=status.term + 4,
        leadership_transfer=True,
        envelope=envelope(cluster, "a"),
    )
    stub = RaftServiceV1Stub(cluster.channel("a"))
    error: Any = error_of(lambda: stub.Vote(request, timeout=0.2))
    assert Code.DEADLINE_EXCEEDED == error.code()
    gate.open.set()
    until(lambda: node_of(cluster["a"]).writer._synced >= 4)
    until(lambda: [] == [r for r in caplog.records if r.name == "grpc._server"])
    assert "" == cluster["a"].status().failed


# --- limits -----------------------------------------------------------------------------------


def test_above_the_limit_calls_are_refused_at_once(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting callers keep neither each other nor peers waiting without a word."""
    monkeypatch.setattr(service, "UNARY_CALLS", 3)
    monkeypatch.setattr(service, "STREAMS", 2)
    cluster.start(3)
    leader = cluster.leader()
    module = cluster.modules[leader]
    module.misbehave[b"wait"] = module.wait
    channel = cluster.channel(leader)
    stub = RaftServiceV1Stub(channel)
    calls = [
        stub.Apply.future(pb.Cmd(payload=b"wait"), timeout=DEADLINE)  # type: ignore[attr-defined]
        for _ in range(3)
    ]
    assert module.waits.wait(DEADLINE)
    until(lambda: len(node_of(cluster[leader]).waiters) == 3, what="all are under way")
    began = monotonic()
    error: Any = error_of(lambda: stub.Apply(pb.Cmd(payload=b"x"), timeout=DEADLINE))
    assert monotonic() - began < DEADLINE / 4
    found = trailers(error)
    assert (Code.RESOURCE_EXHAUSTED, "not-applied", "Overloaded") == (
        error.code(),
        found[OUTCOME],
        found[ERROR],
    )
    streams = [stub.ApplyStream(held(), timeout=DEADLINE) for _ in range(2)]
    for stream in streams:
        assert leader == dict(stream.initial_metadata())["tinyraft-node"]
    error = error_of(lambda: list(stub.ApplyStream(held(), timeout=DEADLINE)))
    assert (Code.RESOURCE_EXHAUSTED, "Overloaded") == (error.code(), trailers(error)[ERROR])
    assert leader == RaftAdminV1Stub(channel).Status(pb.StatusRequest(), timeout=2.0).node_id
    until(lambda: cluster[leader].is_leader)
    for stream in streams:
        stream.cancel()
    module.gate.set()
    assert {b"waited"} == {call.result().result for call in calls}
    until(lambda: not cluster[leader].servicer.streams._admission._inside, what="places are free")


def held() -> Iterator[pb.ApplyStreamRequest]:
    """Send nothing, for as long as the stream lives."""
    from threading import Event

    Event().wait(1.0)
    return
    yield


def test_waiting_callers_never_starve_peers(cluster: LocalCluster) -> None:
    """With every place of callers taken, heartbeats and votes pass: the leader stays in office."""
    cluster.start(3)
    leader = cluster.leader()
    term = cluster[leader].status().term
    module = cluster.modules[leader]
    module.misbehave[b"wait"] = module.wait
    stub = RaftServiceV1Stub(cluster.channel(leader))
    calls = [
        stub.Apply.future(pb.Cmd(payload=b"wait"), timeout=DEADLINE)  # type: ignore[attr-defined]
        for _ in range(service.UNARY_CALLS)
    ]
    assert module.waits.wait(DEADLINE)
    beats = node_of(cluster[leader])._raft.leadership
    assert beats is not None
    round_now = beats.heartbeat_round
    until(lambda: beats.heartbeat_round > round_now + 25, what="a few election timeouts")
    assert (True, term) == (cluster[leader].is_leader, cluster[leader].status().term)
    module.gate.set()
    assert {Code.OK} == {call.code() for call in calls}
