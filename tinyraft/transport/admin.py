"""What a node says of itself, asked from outside.

Law: asked once, over a new connection, so that no earlier failure delays the answer. No answer is
an answer here (None), never an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc

from tinyraft.core.role import Role
from tinyraft.core.status import Status
from tinyraft.transport.members import decode_members
from tinyraft.transport.options import caller_options
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub


def ask(address: str, *, timeout: float) -> Status | None:
    """Ask the node at *address* for its status; None when there was no answer in time."""
    with grpc.insecure_channel(address, options=caller_options()) as channel:
        try:
            return decode(RaftAdminV1Stub(channel).Status(pb.StatusRequest(), timeout=timeout))
        except grpc.RpcError:
            return None


def ask_all(addresses: Iterable[str], *, timeout: float) -> dict[str, Status | None]:
    """Ask several at once; the answers keep the order of *addresses*."""
    unique = list(dict.fromkeys(addresses))
    with ThreadPoolExecutor(max_workers=16, thread_name_prefix="tinyraft-ask") as pool:
        answers = pool.map(lambda address: ask(address, timeout=timeout), unique)
        return dict(zip(unique, answers, strict=True))


def decode(answer: pb.StatusResponse) -> Status:
    """Read what a node wrote."""
    return Status(
        node_id=answer.node_id,
        cluster_id=answer.cluster_id,
        address=answer.address,
        role=role(answer.role),
        term=answer.term,
        leader_id=answer.leader.id,
        leader_address=answer.leader.address,
        commit_index=answer.commit_index,
        last_applied=answer.last_applied,
        last_index=answer.last_index,
        durable_index=answer.durable_index,
        members=decode_members(answer.members),
        is_ready=answer.ready,
        failed=answer.failed,
        incarnation=answer.incarnation,
        removed=answer.removed,
        storage_full=answer.storage_full,
        snapshot_index=answer.snapshot_index,
        first_index=answer.first_index,
        diverged=answer.diverged,
        sessions=answer.sessions,
        request_ids=answer.request_ids,
    )


def role(number: pb.Role.ValueType) -> Role:
    """Read a role; one that this version does not know counts as a follower's."""
    roles = {
        pb.ROLE_PRE_CANDIDATE: Role.PRE_CANDIDATE,
        pb.ROLE_CANDIDATE: Role.CANDIDATE,
        pb.ROLE_LEADER: Role.LEADER,
    }
    return roles.get(number, Role.FOLLOWER)
