"""What one node asks of another on behalf of somebody else: Apply, Join, Status.

Law: asked once. A forwarded call says so and is not forwarded again; its answer, or the lack of
one, is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tinyraft.core.configuration import Change
from tinyraft.core.entry import Index, NodeId, Term
from tinyraft.errors import NotStarted
from tinyraft.transport import announce
from tinyraft.transport.announce import Announcement, Answer
from tinyraft.transport.channels import Channels
from tinyraft.transport.envelope import PROTOCOL, Envelope, seal
from tinyraft.transport.members import encode_change
from tinyraft.transport.options import Options
from tinyraft.transport.statuses import from_rpc_error
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub, RaftServiceV1Stub

FORWARDED = "tinyraft-forwarded"


@dataclass(slots=True, frozen=True)
class Applied:
    """A command that the module has answered."""

    index: Index
    term: Term
    result: bytes | None


@dataclass(slots=True, frozen=True)
class JoinOrder:
    """A node that wants to be a member, or to be dialled elsewhere."""

    node_id: str  # "" from the original's client
    address: str
    wants_vote: bool
    incarnation: int = 0
    cluster_id: str = ""  # "" while it knows none
    recovery_epoch: int = 0


@dataclass(slots=True, frozen=True)
class Joined:
    """Where a node now belongs."""

    node_id: str
    leader_id: str
    term: Term
    cluster_id: str
    index: Index
    recovery_epoch: int = 0


class Remote:
    """Other nodes, by address. Thread-safe; channels are kept."""

    def __init__(self, *, me: NodeId, options: Options) -> None:
        """Ask in the name of *me*."""
        self._metadata = ((FORWARDED, me),)
        self._channels = Channels(
            options, closed="this node is shutting down; nothing was passed on"
        )

    def apply(self, address: str, command: bytes, *, timeout: float) -> Applied:
        """Pass *command* on.

        Raises:
            TinyraftError: What the other node answered, or `MaybeApplied` without an answer.
        """
        stub = RaftServiceV1Stub(self._channels.to(address))
        with answers():
            answer = stub.Apply(pb.Cmd(payload=command), timeout=timeout, metadata=self._metadata)
        result = answer.result if answer.HasField("result") else None
        return Applied(answer.index, answer.term, result)

    def join(
        self, address: str, order: JoinOrder, *, timeout: float, forward: bool = True
    ) -> Joined:
        """Ask the node at *address* to let somebody in; it may *forward* that to its leader.

        Raises:
            TinyraftError: What the other node answered, or `MaybeApplied` without an answer.
        """
        now = Timestamp()
        now.GetCurrentTime()
        request = pb.JoinRequest(
            advertise_addr=order.address,
            voter=order.wants_vote,
            requested_at=now,
            node_id=order.node_id,
            incarnation=order.incarnation,
            cluster_id=order.cluster_id,
            protocol=PROTOCOL,
            recovery_epoch=order.recovery_epoch,
        )
        metadata = () if forward else self._metadata
        stub = RaftServiceV1Stub(self._channels.to(address))
        with answers():
            answer = stub.Join(request, timeout=timeout, metadata=metadata)
        return Joined(
            answer.assigned_id,
            answer.leader_id,
            answer.term,
            answer.cluster_id,
            answer.index,
            answer.recovery_epoch,
        )

    def read_index(self, address: str, envelope: Envelope, *, timeout: float) -> Index:
        """Ask the leader, at *address*, how far a read that begins now must have seen the log.

        Raises:
            TinyraftError: What the other node answered, or `MaybeApplied` without an answer.
        """
        stub = RaftServiceV1Stub(self._channels.to(address))
        message = pb.ReadIndexRequest(envelope=seal(envelope))
        with answers():
            return stub.ReadIndex(message, timeout=timeout).index

    def announce(self, address: str, announcement: Announcement, *, timeout: float) -> Answer:
        """Tell the node at *address* where this one is, and hear what it knows.

        Raises:
            TinyraftError: What the other node answered, or `MaybeApplied` without an answer.
        """
        stub = RaftServiceV1Stub(self._channels.to(address))
        with answers():
            answer = stub.Announce(announce.encode(announcement), timeout=timeout)
        return announce.decode_answer(answer)

    def change(
        self, address: str, change: Change, *, expect: Index | None, timeout: float
    ) -> Index:
        """Pass a change of members on to the leader at *address*.

        Raises:
            TinyraftError: What the leader answered, or `MaybeApplied` without an answer.
        """
        message = encode_change(change, expect=expect)
        stub = RaftAdminV1Stub(self._channels.to(address))
        with answers():
            return stub.ChangeMembers(message, timeout=timeout, metadata=self._metadata).index

    def transfer(self, address: str, to: str, *, timeout: float) -> str:
        """Let the leader at *address* hand its leadership over; return who has it then.

        Raises:
            TinyraftError: What the leader answered, or `MaybeApplied` without an answer.
        """
        message = pb.TransferLeadershipRequest(to=to)
        stub = RaftAdminV1Stub(self._channels.to(address))
        with answers():
            answer = stub.TransferLeadership(message, timeout=timeout, metadata=self._metadata)
        return answer.leader_id

    def cluster_at(self, address: str, *, timeout: float) -> str:
        """Tell which cluster answers at *address*; "" when none does."""
        try:
            return (
                RaftAdminV1Stub(self._channels.to(address))
                .Status(pb.StatusRequest(), timeout=timeout)
                .cluster_id
            )
        except grpc.RpcError:
            return ""

    def close(self) -> None:
        """Break off every call, and take no more."""
        self._channels.close()


def query(
    channel: grpc.Channel, request: bytes, *, is_stale: bool, min_index: Index, timeout: float
) -> bytes:
    """Ask the module of the node behind *channel*, when that has applied *min_index*.

    Raises:
        ReadFailed: The module could not answer.
        TinyraftError: The node could not be asked.
    """
    consistency = pb.CONSISTENCY_STALE if is_stale else pb.CONSISTENCY_LINEARIZABLE
    message = pb.QueryRequest(request=request, consistency=consistency, min_index=min_index)
    with answers():
        return RaftServiceV1Stub(channel).Query(message, timeout=timeout).result


@contextmanager
def answers() -> Iterator[None]:
    """Turn what gRPC raises into what the other node meant."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    except ValueError as error:  # grpc's word for a channel that was closed before the call
        raise NotStarted("this node is shutting down; nothing was passed on") from error
