"""Members and their changes as messages, both ways.

Law: pure functions. What a stranger wrote is checked here, so that the node sees only ids and
addresses.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinyraft.addresses import dialled, is_wildcard, split_address
from tinyraft.core.configuration import AddLearner, Change, Demote, Member, Promote, Remove
from tinyraft.core.entry import Index, NodeId
from tinyraft.core.members import Members
from tinyraft.errors import ConfigError, MembershipError
from tinyraft.transport.envelope import Malformed, checked_id
from tinyraft.wire import raft_pb2 as pb


def encode_change(change: Change, *, expect: Index | None) -> pb.ChangeMembersRequest:
    """Write down what an operator wants."""
    message = pb.ChangeMembersRequest()
    match change:
        case AddLearner(member):
            message.add.id, message.add.address = member.id, member.address
            message.add.voter = member.wants_vote
        case Promote(node):
            message.promote = node
        case Demote(node):
            message.demote = node
        case Remove(node):
            message.remove = node
        case _:
            raise AssertionError(f"no operator asks for {change!r}")
    if expect is not None:
        message.expect = expect
    return message


def decode_change(message: pb.ChangeMembersRequest) -> tuple[Change, Index | None]:
    """Read what an operator wants, and which configuration it is to change.

    Raises:
        Malformed: It names no change.
        MembershipError: It names an id or an address that is none.
    """
    expect = message.expect if message.HasField("expect") else None
    match message.WhichOneof("change"):
        case "add":
            return add(message.add.id, message.add.address, voter=message.add.voter), expect
        case "promote":
            return Promote(id_of(message.promote)), expect
        case "demote":
            return Demote(id_of(message.demote)), expect
        case "remove":
            return Remove(id_of(message.remove)), expect
        case _:
            raise Malformed("change is missing, or of a newer tinyraft")


def add(node: str, address: str, *, voter: bool) -> AddLearner:
    """Make the change that takes a node in.

    Raises:
        MembershipError: *node* is no id, or *address* none that can be dialled.
    """
    where = checked_address(address, field="address")
    if is_wildcard(split_address(address)[0]):
        raise MembershipError(
            f"address: {address!r} names no host, and every node would dial itself there"
        )
    return AddLearner(Member(id_of(node), where, False, voter))


def id_of(text: str) -> NodeId:
    """Read the id of a member.

    Raises:
        MembershipError: It is none.
    """
    try:
        return NodeId(checked_id(text, field="id"))
    except Malformed as error:
        raise MembershipError(str(error)) from None


def checked_address(address: str, *, field: str) -> str:
    """Return *address* in the form that is dialled.

    Raises:
        MembershipError: It is no address.
    """
    try:
        return dialled(address)
    except ConfigError as error:
        raise MembershipError(f"{field}: {error}") from None


def encode_configuration(members: Members) -> pb.MembersResponse:
    """Write down a configuration."""
    leader = pb.LeaderHint(id=members.leader_id, address=members.leader_address, term=members.term)
    return pb.MembersResponse(
        index=members.index,
        committed=members.is_committed,
        members=map(encode_member, members.members),
        removed=members.removed,
        leader=leader,
    )


def encode_member(member: Member) -> pb.Member:
    """Write down one member."""
    return pb.Member(
        id=member.id,
        address=member.address,
        voter=member.voter,
        wants_vote=member.wants_vote,
        incarnation=member.incarnation,
    )


def decode_members(messages: Iterable[pb.Member]) -> tuple[Member, ...]:
    """Read members."""
    return tuple(
        Member(NodeId(m.id), m.address, m.voter, m.wants_vote, m.incarnation) for m in messages
    )


def decode_configuration(message: pb.MembersResponse) -> Members:
    """Read a configuration."""
    return Members(
        index=message.index,
        is_committed=message.committed,
        members=decode_members(message.members),
        removed=tuple(map(NodeId, message.removed)),
        leader_id=message.leader.id,
        leader_address=message.leader.address,
        term=message.leader.term,
    )
