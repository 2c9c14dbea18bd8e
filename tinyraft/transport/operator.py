"""What an operator asks of a cluster from outside: members, changes, transfers.

Law: any of the addresses will do; those that don't answer are passed over, as long as it is certain
that they did nothing. New connections, so that no earlier failure delays an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

import grpc
from grpc.experimental import ChannelOptions

from tinyraft.core.configuration import Change
from tinyraft.core.entry import Index
from tinyraft.core.members import Members
from tinyraft.errors import NoQuorum, NotLeader, NotStarted
from tinyraft.transport.members import decode_configuration, encode_change
from tinyraft.transport.options import caller_options
from tinyraft.transport.remote import answers
from tinyraft.transport.statuses import OUTCOME, text_trailers
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub

T = TypeVar("T")

LOOK_SECONDS = 2.0  # for a node to say who the members are


class Unreachable(Exception):
    """Nobody answered; nothing was done."""


class Operator:
    """The admin service of a cluster, by the addresses of some of its nodes."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Ask at *addresses*."""
        self._addresses = addresses

    def members(self) -> Members:
        """Tell who the members are, as the best informed of those who answer knows it.

        Raises:
            Unreachable: Nobody answered.
        """
        found: list[Members] = []
        asked: set[str] = set()
        for address in self._addresses:
            found += self._ask_members(address, asked)
        for leader in {members.leader_address for members in found} - {""}:
            found += self._ask_members(leader, asked)
        if not found:
            raise Unreachable(f"nobody answers at {', '.join(self._addresses)}")
        return max(found, key=lambda members: (members.term, members.index))

    def _ask_members(self, address: str, asked: set[str]) -> list[Members]:
        if address in asked:
            return []
        asked.add(address)
        with grpc.insecure_channel(address, options=caller_options()) as channel:
            try:
                answer = RaftAdminV1Stub(channel).Members(pb.MembersRequest(), timeout=LOOK_SECONDS)
            except grpc.RpcError:
                return []
        return [decode_configuration(answer)]

    def change(self, change: Change, *, expect: Index | None, timeout: float) -> Index:
        """Change one member, and return the index of its configuration.

        Raises:
            Unreachable: Nobody answered, and nothing was changed.
            TinyraftError: What the cluster answered.
        """
        message = encode_change(change, expect=expect)

        def call(stub: RaftAdminV1Stub, left: float) -> Index:
            return stub.ChangeMembers(message, timeout=left).index

        return self._anywhere(call, timeout=timeout)

    def transfer(self, to: str, *, timeout: float) -> str:
        """Hand leadership over, and return who has it.

        Raises:
            Unreachable: Nobody answered, and nothing was changed.
            TinyraftError: What the cluster answered.
        """

        def call(stub: RaftAdminV1Stub, left: float) -> str:
            message = pb.TransferLeadershipRequest(to=to)
            return stub.TransferLeadership(message, timeout=left).leader_id

        return self._anywhere(call, timeout=timeout)

    def snapshot(self, *, timeout: float) -> tuple[str, Index]:
        """Have the first node that answers take a snapshot; return who, and the entry.

        Raises:
            Unreachable: Nobody answered.
            TinyraftError: Why it could not.
        """

        def call(stub: RaftAdminV1Stub, left: float) -> tuple[str, Index]:
            answer = stub.TakeSnapshot(pb.TakeSnapshotRequest(), timeout=left)
            return answer.node_id, answer.index

        return self._anywhere(call, timeout=timeout)

    @contextmanager
    def exporting(self, *, timeout: float) -> Iterator[Iterator[bytes]]:
        """Give the state of the first node that answers, as the pieces of a snapshot's file.

        Raises:
            Unreachable: Nobody answered.
            TinyraftError: Why it could not; also while the pieces are taken.
        """
        # The pieces come in this thread, as unary answers do: with one of gRPC's in between, Ctrl-C
        # can leave a call that nobody ends, for which a channel's close waits for ever.
        options = [*caller_options(), (ChannelOptions.SingleThreadedUnaryStream, 1)]
        for address in self._addresses:
            with grpc.insecure_channel(address, options=options) as channel:
                if is_there(channel, timeout=min(timeout, LOOK_SECONDS)):
                    yield exported(channel, timeout=timeout)
                    return
        raise Unreachable(f"nobody answers at {', '.join(self._addresses)}")

    def _anywhere(self, call: Callable[[RaftAdminV1Stub, float], T], *, timeout: float) -> T:
        """Make *call* at the first address that can pass it on."""
        deadline = monotonic() + timeout
        for last, address in enumerate(self._addresses, 1 - len(self._addresses)):
            with grpc.insecure_channel(address, options=caller_options()) as channel:
                left = max(0.1, deadline - monotonic())
                try:
                    if not is_there(channel, timeout=min(left, LOOK_SECONDS)):
                        continue
                    with answers():
                        return call(RaftAdminV1Stub(channel), left)
                except (NotStarted, NotLeader, NoQuorum):  # certain: it did nothing
                    if last == 0:
                        raise
        raise Unreachable(f"nobody answers at {', '.join(self._addresses)}")


def exported(channel: grpc.Channel, *, timeout: float) -> Iterator[bytes]:
    """Take the pieces of a node's state."""
    with answers():
        for answer in RaftAdminV1Stub(channel).Export(pb.ExportRequest(), timeout=timeout):
            yield answer.data


def is_there(channel: grpc.Channel, *, timeout: float) -> bool:
    """Tell whether a node answers, before it is asked for anything that changes something."""
    try:
        RaftAdminV1Stub(channel).Status(pb.StatusRequest(), timeout=timeout)
    except grpc.RpcError as error:
        return OUTCOME in dict(text_trailers(error))
    return True
