"""The RPCs as a node hosts them: decode, ask the gate, encode.

Law: no decision is made here, and no error code is chosen (`statuses` has the table). Peers,
callers' streams and everything else run in pools of their own, so that waiting callers never keep
a vote or an append waiting. A handler's pool is an attribute of its function, which a bound method
can't have: that is why the handlers are closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, NoReturn, Protocol, TypeVar, cast

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tinyraft._version import __version__
from tinyraft.core.configuration import Change
from tinyraft.core.entry import Index
from tinyraft.core.members import Members
from tinyraft.core.messages import Reply, Request
from tinyraft.core.role import Role
from tinyraft.core.status import Status
from tinyraft.errors import Overloaded, TinyraftError
from tinyraft.transport import announce, codec
from tinyraft.transport.envelope import Envelope, Malformed
from tinyraft.transport.members import (
    decode_change,
    encode_configuration,
    encode_member,
    id_of,
)
from tinyraft.transport.pools import STREAMS, UNARY_CALLS, Pools
from tinyraft.transport.remote import FORWARDED, Applied, Joined, JoinOrder
from tinyraft.transport.statuses import TAKEN, to_answer_fields, to_status
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import (
    add_RaftAdminV1Servicer_to_server,
    add_RaftServiceV1Servicer_to_server,
)

T = TypeVar("T")
Context = grpc.ServicerContext

UNTIMED_SECONDS = 60.0  # how long a call without a deadline may hold a thread
GREETING_SECONDS = 0.15  # how long a caller is kept who would only look elsewhere: an election
ANSWER_BYTES = 1 << 20  # of results in one message, unless one is longer
PEER_SECONDS = 30.0  # how long a peer's append may wait for the disk


class Outcome(Protocol):
    """A streamed command that has its answer."""

    id: int
    index: int
    term: int
    result: bytes | None
    error: TinyraftError | None


class Gate(Protocol):
    """What the handlers ask of the node; `tinyraft.node.gate` says what each raises."""

    def receive(self, request: Request, envelope: Envelope, *, timeout: float) -> Reply:
        """Take a peer's request; block until the reply may leave."""

    def admit(self, envelope: Envelope) -> None:
        """Check who speaks."""

    def peer_lost(self, envelope: Envelope, *, term: int) -> None:
        """Learn that a leader's stream ended without a goodbye."""

    def apply(self, command: bytes, *, timeout: float, forwarded: bool) -> Applied:
        """Apply a command; block for the answer."""

    def propose(
        self, commands: Sequence[tuple[int, bytes]], answer: Callable[[Outcome], None]
    ) -> None:
        """Propose numbered commands; *answer* is called for each."""

    @property
    def membership(self) -> Membership:
        """Who belongs to the cluster."""

    def query(self, request: bytes) -> tuple[bytes, int]:
        """Ask the module; return its answer and what was applied."""

    def status(self) -> Status:
        """Describe the node."""

    def greeting(self, *, patience: float = 0.0) -> tuple[tuple[str, str], ...]:
        """Say which cluster this is, and where its leader; wait *patience* seconds to know it."""


class Membership(Protocol):
    """What the handlers ask about members; `tinyraft.node.membership` says what each raises."""

    def join(self, order: JoinOrder, *, timeout: float, forwarded: bool) -> Joined:
        """Let a node in; block until that is committed."""

    def announced(self, announcement: announce.Announcement) -> announce.Answer:
        """Hear where a member is now."""

    def members(self) -> Members:
        """Tell who is there."""

    def change(
        self, change: Change, *, expect: Index | None, timeout: float, forwarded: bool
    ) -> Index:
        """Change one member; block until that is committed."""

    def transfer(self, to: str, *, timeout: float, forwarded: bool) -> str:
        """Hand leadership over; block until somebody has it."""


class Service:
    """Both services of one node, for the ``add_…_to_server`` functions of generated code."""

    Apply: Any
    Join: Any
    AppendEntries: Any
    Vote: Any
    PreVote: Any
    AppendStream: Any
    ApplyStream: Any
    TimeoutNow: Any
    InstallSnapshot: Any
    Query: Any
    Announce: Any
    Status: Any
    Members: Any
    ChangeMembers: Any
    TransferLeadership: Any

    def __init__(self, gate: Callable[[], Gate], pools: Pools) -> None:
        """Host what *gate* gives, or answer what it raises."""
        self.streams = Streams(STREAMS, pools.callers)
        unary = Admission(UNARY_CALLS, "calls")
        peer = in_pool(answering(lambda r, c: peer_rpc(gate(), r, c)), pools.peers)
        self.AppendEntries = self.Vote = self.PreVote = self.TimeoutNow = peer
        self.InstallSnapshot = peer
        self.AppendStream = in_pool(lambda r, c: append_stream(gate, r, c), pools.peers)
        self.ApplyStream = in_pool(lambda r, c: self.streams.serve(gate, r, c), pools.callers)

        def limited(handler: Callable[[Any, Context], T]) -> Callable[[Any, Context], T]:
            return in_pool(answering(unary.guarding(handler)), pools.unary)

        self.Apply = limited(lambda r, c: apply_rpc(gate(), r, c))
        self.Join = limited(lambda r, c: join_rpc(gate().membership, r, c))
        self.Query = limited(lambda r, _c: query_rpc(gate(), r))
        self.ChangeMembers = limited(lambda r, c: change_rpc(gate().membership, r, c))
        self.TransferLeadership = limited(lambda r, c: transfer_rpc(gate().membership, r, c))

        def at_once(handler: Callable[[Any], T]) -> Callable[[Any, Context], T]:
            return in_pool(answering(lambda r, _c: handler(r)), pools.admin)

        self.Status = at_once(lambda _r: encode_status(gate().status()))
        self.Members = at_once(lambda _r: encode_configuration(gate().membership.members()))
        self.Announce = at_once(lambda r: announce_rpc(gate().membership, r))


def register(service: Service, server: grpc.Server) -> None:
    """Host *service* on *server*, which must not run yet."""
    add_RaftServiceV1Servicer_to_server(service, server)  # type: ignore[arg-type]
    add_RaftAdminV1Servicer_to_server(service, server)  # type: ignore[arg-type]


def in_pool(handler: Callable[..., T], pool: ThreadPoolExecutor) -> Callable[..., T]:
    """Let gRPC run *handler* in *pool*."""

    def closure(request: Any, context: Context) -> T:
        return handler(request, context)

    closure.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return closure


def answering(handler: Callable[[Any, Context], T]) -> Callable[[Any, Context], T]:
    """Turn what *handler* raises into a status."""

    def answered(request: Any, context: Context) -> T:
        try:
            return handler(request, context)
        except (TinyraftError, Malformed) as error:
            refuse(context, error)

    return answered


def refuse(context: Context, error: TinyraftError | Malformed) -> NoReturn:
    """End a call with *error*."""
    code, details, trailers = to_status(error)
    context.set_trailing_metadata(trailers)
    context.abort(code, details)


class Admission:
    """Counts what is under way below the pool's size: above it gRPC queues without a word."""

    def __init__(self, limit: int, what: str) -> None:
        """Let *limit* in at once."""
        self._limit = limit
        self._what = what
        self._inside: set[object] = set()

    def enter(self) -> object:
        """Take a place.

        Raises:
            Overloaded: There is none.
        """
        if len(self._inside) >= self._limit:
            raise Overloaded(f"{self._limit} {self._what} are being served; try again later")
        place = object()
        self._inside.add(place)
        return place

    def leave(self, place: object) -> None:
        """Give the place back."""
        self._inside.discard(place)

    def guarding(self, handler: Callable[[Any, Context], T]) -> Callable[[Any, Context], T]:
        """Take a place for each call of *handler*."""

        def guarded(request: Any, context: Context) -> T:
            place = self.enter()
            try:
                return handler(request, context)
            finally:
                self.leave(place)

        return guarded


def time_left(context: Context) -> float:
    """Seconds to work in; what remains of the caller's is for the answer to arrive in time."""
    left = cast("float | None", context.time_remaining())
    return UNTIMED_SECONDS if left is None else min(left - min(0.1, left / 5), UNTIMED_SECONDS)


def is_forwarded(context: Context) -> bool:
    """Tell whether another node passed this call on."""
    return any(key == FORWARDED for key, _ in context.invocation_metadata() or ())


# --- peers ------------------------------------------------------------------------------------


def peer_rpc(gate: Gate, message: codec.RequestMessage, context: Context) -> codec.ReplyMessage:
    """Vote, PreVote, AppendEntries, TimeoutNow, InstallSnapshot."""
    request, envelope = codec.decode_request(message)
    timeout = min(time_left(context), PEER_SECONDS)
    return codec.encode_reply(gate.receive(request, envelope, timeout=timeout))


class Tenure:
    """What a stream of appends told of its leader: the term, and whether it said goodbye."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.term = 0
        self.parted = False


def append_stream(
    entrance: Callable[[], Gate], requests: Iterator[pb.AppendStreamRequest], context: Context
) -> Iterator[codec.ReplyMessage]:
    """Take the leader's appends one by one; tell the node when the leader dies."""
    try:
        gate = entrance()
        envelope = codec.decode_hello(next(requests, pb.AppendStreamRequest()))
        gate.admit(envelope)
        tenure = Tenure()

        def ended() -> None:
            if tenure.term and not tenure.parted:
                gate.peer_lost(envelope, term=tenure.term)

        context.add_callback(ended)
        for message in requests:
            append = codec.decode_append(message, envelope)
            if append is None:
                tenure.parted = True
                return
            tenure.term = append.term
            yield codec.encode_reply(gate.receive(append, envelope, timeout=PEER_SECONDS))
    except (TinyraftError, Malformed) as error:
        refuse(context, error)
    except TimeoutError as error:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))


# --- callers ----------------------------------------------------------------------------------


def apply_rpc(gate: Gate, message: pb.Cmd, context: Context) -> pb.ApplyResponse:
    """Apply one command.

    The initial metadata leaves before anything is proposed: gRPC's own retries end there, and a
    command whose leader dies is not sent twice behind the caller's back.
    """
    context.send_initial_metadata(gate.greeting())
    applied = gate.apply(
        message.payload, timeout=time_left(context), forwarded=is_forwarded(context)
    )
    return pb.ApplyResponse(term=applied.term, index=applied.index, result=applied.result)


class Streams:
    """The open streams of callers."""

    def __init__(self, limit: int, pool: ThreadPoolExecutor) -> None:
        """Serve at most *limit* streams; each takes two threads of *pool*."""
        self._admission = Admission(limit, "streams")
        self._pool = pool
        self._open: set[SimpleQueue[Outcome | None]] = set()
        self._closing = False

    def serve(
        self,
        entrance: Callable[[], Gate],
        requests: Iterator[pb.ApplyStreamRequest],
        context: Context,
    ) -> Iterator[pb.ApplyStreamResponse]:
        """Take a caller's commands in one thread, give the answers in another."""
        answers: SimpleQueue[Outcome | None] = SimpleQueue()
        try:
            gate = entrance()
            place = self._admission.enter()
        except TinyraftError as error:
            refuse(context, error)
        self._open.add(answers)
        if self._closing:
            answers.put(None)  # `close` may have come before
        try:
            context.send_initial_metadata(gate.greeting(patience=GREETING_SECONDS))
            commands = Commands(gate, requests, answers)
            context.add_callback(lambda: answers.put(None))
            self._pool.submit(commands.read)
            yield from self._answers(commands, answers, context)
            if self._closing:
                context.set_trailing_metadata(((TAKEN, str(commands.taken)), *gate.greeting()))
        finally:
            self._open.discard(answers)
            self._admission.leave(place)

    def _answers(
        self, commands: Commands, outcomes: SimpleQueue[Outcome | None], context: Context
    ) -> Iterator[pb.ApplyStreamResponse]:
        given = 0
        while context.is_active():
            done = [outcome for outcome in drain(outcomes) if outcome is not None]
            given += len(done)
            for answers in in_messages(encode_outcome(outcome) for outcome in done):
                yield pb.ApplyStreamResponse(answers=answers)
            if self._closing:
                commands.close()
            if commands.ended and (commands.is_forsaken or given >= commands.taken):
                return

    def close(self) -> None:
        """End every stream behind the answers that it owes; what it did not take it takes no more.

        The last word of a stream says how many commands it took: the others are certain to be
        without effect, though they were sent.
        """
        self._closing = True
        for answers in tuple(self._open):
            answers.put(None)


class Commands:
    """The incoming side of one caller's stream."""

    def __init__(
        self,
        gate: Gate,
        requests: Iterator[pb.ApplyStreamRequest],
        answers: SimpleQueue[Outcome | None],
    ) -> None:
        """Propose what comes in; the answers go to *answers*."""
        self.taken = 0
        self.ended = False
        self.is_forsaken = False  # the caller is gone: nobody reads the answers
        self._lock = Lock()  # guards taken and ended; leaf
        self._gate = gate
        self._requests = requests
        self._answers = answers

    def read(self) -> None:
        """Propose until the caller has no more, or is gone."""
        try:
            for message in self._requests:
                if not self._take(len(message.commands)):
                    return
                self._gate.propose([(c.id, c.command) for c in message.commands], self._answers.put)
        except grpc.RpcError:
            self.is_forsaken = True
        finally:
            self.close()
            self._answers.put(None)

    def _take(self, count: int) -> bool:
        with self._lock:
            if self.ended:
                return False
            self.taken += count
            return True

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self.ended = True


def drain(queue: SimpleQueue[T]) -> list[T]:
    """Wait for one item and take what else is there."""
    items = [queue.get()]
    try:
        while True:
            items.append(queue.get_nowait())
    except Empty:
        return items


def in_messages(answers: Iterable[pb.StreamedAnswer]) -> Iterator[list[pb.StreamedAnswer]]:
    """Share *answers* out, so that many long results don't burst one message."""
    part: list[pb.StreamedAnswer] = []
    size = 0
    for answer in answers:
        if part and size + len(answer.result) > ANSWER_BYTES:
            yield part
            part, size = [], 0
        part.append(answer)
        size += len(answer.result)
    if part:
        yield part


def encode_outcome(outcome: Outcome) -> pb.StreamedAnswer:
    """Write down how one command ended."""
    if outcome.error is not None:
        return pb.StreamedAnswer(id=outcome.id, **to_answer_fields(outcome.error))
    return pb.StreamedAnswer(
        id=outcome.id,
        outcome=pb.OUTCOME_APPLIED,
        term=outcome.term,
        index=outcome.index,
        result=outcome.result,
    )


def announce_rpc(membership: Membership, message: pb.AnnounceRequest) -> pb.AnnounceResponse:
    """Hear of a node that moved."""
    return announce.encode_answer(membership.announced(announce.decode(message)))


def change_rpc(
    membership: Membership, message: pb.ChangeMembersRequest, context: Context
) -> pb.ChangeMembersResponse:
    """Change one member."""
    change, expect = decode_change(message)
    left, forwarded = time_left(context), is_forwarded(context)
    index = membership.change(change, expect=expect, timeout=left, forwarded=forwarded)
    return pb.ChangeMembersResponse(index=index)


def transfer_rpc(
    membership: Membership, message: pb.TransferLeadershipRequest, context: Context
) -> pb.TransferLeadershipResponse:
    """Hand leadership over."""
    to = id_of(message.to) if message.to else ""
    left, forwarded = time_left(context), is_forwarded(context)
    leader = membership.transfer(to, timeout=left, forwarded=forwarded)
    return pb.TransferLeadershipResponse(leader_id=leader)


def join_rpc(membership: Membership, message: pb.JoinRequest, context: Context) -> pb.JoinResponse:
    """Let a node in."""
    if not message.HasField("requested_at"):
        raise Malformed("requested_at is missing")
    order = JoinOrder(
        node_id=message.node_id,
        address=message.advertise_addr,
        wants_vote=message.voter,
        incarnation=message.incarnation,
        cluster_id=message.cluster_id,
        recovery_epoch=message.recovery_epoch,
    )
    joined = membership.join(order, timeout=time_left(context), forwarded=is_forwarded(context))
    now = Timestamp()
    now.GetCurrentTime()
    return pb.JoinResponse(
        assigned_id=joined.node_id,
        leader_id=joined.leader_id,
        term=joined.term,
        completed_at=now,
        cluster_id=joined.cluster_id,
        index=joined.index,
        recovery_epoch=joined.recovery_epoch,
    )


def query_rpc(gate: Gate, message: pb.QueryRequest) -> pb.QueryResponse:
    """Ask the module."""
    if message.consistency != pb.CONSISTENCY_STALE:
        raise Malformed("consistency must be CONSISTENCY_STALE: this version has no other reads")
    result, index = gate.query(message.request)
    return pb.QueryResponse(result=result, index=index)


ROLES = {
    Role.FOLLOWER: pb.ROLE_FOLLOWER,
    Role.PRE_CANDIDATE: pb.ROLE_PRE_CANDIDATE,
    Role.CANDIDATE: pb.ROLE_CANDIDATE,
    Role.LEADER: pb.ROLE_LEADER,
}


def encode_status(status: Status) -> pb.StatusResponse:
    """Write down what a node says of itself."""
    hint = pb.LeaderHint(id=status.leader_id, address=status.leader_address, term=status.term)
    return pb.StatusResponse(
        node_id=status.node_id,
        cluster_id=status.cluster_id,
        address=status.address,
        role=ROLES[status.role],
        term=status.term,
        leader=hint,
        commit_index=status.commit_index,
        last_applied=status.last_applied,
        last_index=status.last_index,
        durable_index=status.durable_index,
        members=map(encode_member, status.members),
        ready=status.is_ready,
        failed=status.failed,
        version=__version__,
        incarnation=status.incarnation,
        removed=status.removed,
        storage_full=status.storage_full,
        snapshot_index=status.snapshot_index,
        first_index=status.first_index,
    )
