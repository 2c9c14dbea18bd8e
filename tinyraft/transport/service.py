"""The RPCs as a node hosts them: decode, ask the gate, encode.

Law: no decision is made here. Peers, callers' streams and everything else run in pools of their
own, so that waiting callers never keep a vote or an append waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tinyraft._version import __version__
from tinyraft.core.messages import AppendReply
from tinyraft.core.role import Role
from tinyraft.core.status import Status
from tinyraft.errors import TinyraftError
from tinyraft.transport import announce, codec
from tinyraft.transport.caller_streams import Streams
from tinyraft.transport.envelope import Malformed, unseal
from tinyraft.transport.health import health_handlers
from tinyraft.transport.hosting import (
    Admission,
    Context,
    Gate,
    Membership,
    answering,
    in_pool,
    is_forwarded,
    refuse,
    time_left,
)
from tinyraft.transport.members import decode_change, encode_configuration, encode_member, id_of
from tinyraft.transport.pools import QUERY_STREAMS, STREAMS, UNARY_CALLS, Pools
from tinyraft.transport.query_streams import QueryStreams
from tinyraft.transport.remote import JoinOrder
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import (
    add_RaftAdminV1Servicer_to_server,
    add_RaftServiceV1Servicer_to_server,
)

T = TypeVar("T")

PEER_SECONDS = 30.0  # how long a peer's append may wait for the disk


class Service:
    """The services of one node, for the ``add_…_to_server`` functions of generated code."""

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
    QueryStream: Any
    ReadIndex: Any
    Announce: Any
    Status: Any
    Members: Any
    ChangeMembers: Any
    TransferLeadership: Any
    TakeSnapshot: Any
    Export: Any

    def __init__(self, gate: Callable[[], Gate], pools: Pools) -> None:
        """Host what *gate* gives, or answer what it raises."""
        self.streams = Streams(STREAMS, pools.callers)
        self.query_streams = QueryStreams(QUERY_STREAMS)
        unary = Admission(UNARY_CALLS, "calls")
        peer = in_pool(answering(lambda r, c: peer_rpc(gate(), r, c)), pools.peers)
        self.AppendEntries = self.Vote = self.PreVote = self.TimeoutNow = peer
        self.InstallSnapshot = peer
        self.AppendStream = in_pool(lambda r, c: append_stream(gate, r, c), pools.peers)
        self.ApplyStream = in_pool(lambda r, c: self.streams.serve(gate, r, c), pools.callers)
        self.QueryStream = in_pool(lambda r, c: self.query_streams.serve(gate, r, c), pools.queries)

        def limited(handler: Callable[[Any, Context], T]) -> Callable[[Any, Context], T]:
            return in_pool(answering(unary.guarding(handler)), pools.unary)

        self.Apply = limited(lambda r, c: apply_rpc(gate(), r, c))
        self.Join = limited(lambda r, c: join_rpc(gate().membership, r, c))
        self.Query = limited(lambda r, c: query_rpc(gate(), r, c))
        self.ReadIndex = limited(lambda r, c: read_index_rpc(gate(), r, c))
        self.ChangeMembers = limited(lambda r, c: change_rpc(gate().membership, r, c))
        self.TransferLeadership = limited(lambda r, c: transfer_rpc(gate().membership, r, c))

        self.TakeSnapshot = limited(lambda _r, _c: snapshot_rpc(gate()))
        self.Export = in_pool(lambda _r, c: export_rpc(gate, unary, c), pools.unary)

        def at_once(handler: Callable[[Any], T]) -> Callable[[Any, Context], T]:
            return in_pool(answering(lambda r, _c: handler(r)), pools.admin)

        self.Status = at_once(lambda _r: encode_status(gate().status()))
        self.Members = at_once(lambda _r: encode_configuration(gate().membership.members()))
        self.Announce = at_once(lambda r: announce_rpc(gate().membership, r))
        self.health = health_handlers(gate, pools)


def register(service: Service, server: grpc.Server) -> None:
    """Host *service* on *server*, which must not run yet."""
    add_RaftServiceV1Servicer_to_server(service, server)  # type: ignore[arg-type]
    add_RaftAdminV1Servicer_to_server(service, server)  # type: ignore[arg-type]
    server.add_generic_rpc_handlers((service.health,))


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
            reply = gate.receive(append, envelope, timeout=PEER_SECONDS)
            if not (append.is_note and isinstance(reply, AppendReply) and reply.success):
                yield codec.encode_reply(reply)
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


def query_rpc(gate: Gate, message: pb.QueryRequest, context: Context) -> pb.QueryResponse:
    """Ask the module."""
    if message.consistency not in (pb.CONSISTENCY_LINEARIZABLE, pb.CONSISTENCY_STALE):
        raise Malformed("consistency must be CONSISTENCY_LINEARIZABLE or CONSISTENCY_STALE")
    is_stale = message.consistency == pb.CONSISTENCY_STALE
    left = time_left(context)
    if is_stale:
        result, index = gate.query(message.request, min_index=message.min_index, timeout=left)
    else:
        result, index = gate.query(message.request, current_in=left)
    return pb.QueryResponse(result=result, index=index)


def read_index_rpc(
    gate: Gate, message: pb.ReadIndexRequest, context: Context
) -> pb.ReadIndexResponse:
    """Give a follower the index of its read."""
    if not message.HasField("envelope"):
        raise Malformed("envelope is missing: members always say who they are and whom they mean")
    envelope = unseal(message.envelope)
    return pb.ReadIndexResponse(index=gate.read_index(envelope, timeout=time_left(context)))


def snapshot_rpc(gate: Gate) -> pb.TakeSnapshotResponse:
    """Have this node take one."""
    return pb.TakeSnapshotResponse(node_id=gate.status().node_id, index=gate.snapshot().index)


def export_rpc(
    entrance: Callable[[], Gate], calls: Admission, context: Context
) -> Iterator[pb.ExportResponse]:
    """Give this node's state, piece by piece, as fast as it is taken."""
    try:
        gate = entrance()
        place = calls.enter()
        try:
            with gate.exporting() as (_, pieces):
                for data in pieces:
                    yield pb.ExportResponse(data=data)
        finally:
            calls.leave(place)
    except TinyraftError as error:
        refuse(context, error)


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
        diverged=status.diverged,
        sessions=status.sessions,
        request_ids=status.request_ids,
    )
