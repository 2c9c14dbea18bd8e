"""Announcements between nodes that moved: where am I, where did I see others.

Law: what a stranger wrote is checked field by field; a sighting that is none is passed over, since
the others of the same message may be right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tinyraft.addresses import dialled
from tinyraft.core.entry import NodeId, Term
from tinyraft.core.sighting import Sighting
from tinyraft.errors import ConfigError
from tinyraft.transport.envelope import ID, PROTOCOL, Malformed, checked_id
from tinyraft.wire import raft_pb2 as pb

MOST = 256  # sightings in one message


@dataclass(slots=True, frozen=True)
class Announcement:
    """What a node says of itself, and of others."""

    cluster_id: str
    sender: Sighting
    known: tuple[Sighting, ...] = ()
    recovery_epoch: int = 0


@dataclass(slots=True, frozen=True)
class Answer:
    """What the other node knows: of itself, of others, and who leads."""

    known: tuple[Sighting, ...] = field(default=())
    leader_id: str = ""
    leader_address: str = ""
    term: Term = 0


def encode(announcement: Announcement) -> pb.AnnounceRequest:
    """Write down an announcement."""
    return pb.AnnounceRequest(
        cluster_id=announcement.cluster_id,
        sender=sighted(announcement.sender),
        known=map(sighted, announcement.known),
        protocol=PROTOCOL,
        recovery_epoch=announcement.recovery_epoch,
    )


def decode(message: pb.AnnounceRequest) -> Announcement:
    """Read an announcement.

    Raises:
        Malformed: Cluster or sender are none, or the sender speaks another protocol.
    """
    if message.protocol != PROTOCOL:
        raise Malformed(f"protocol is {message.protocol}, this node speaks {PROTOCOL}")
    sender = read(message.sender)
    if sender is None:
        raise Malformed("sender is no node at an address")
    cluster = checked_id(message.cluster_id, field="cluster_id")
    return Announcement(cluster, sender, read_all(message.known), message.recovery_epoch)


def encode_answer(answer: Answer) -> pb.AnnounceResponse:
    """Write down an answer."""
    leader = pb.LeaderHint(id=answer.leader_id, address=answer.leader_address, term=answer.term)
    return pb.AnnounceResponse(known=map(sighted, answer.known), leader=leader)


def decode_answer(message: pb.AnnounceResponse) -> Answer:
    """Read an answer."""
    leader = message.leader
    return Answer(read_all(message.known), leader.id, leader.address, leader.term)


def sighted(sighting: Sighting) -> pb.Sighting:
    """Write down one sighting."""
    return pb.Sighting(
        id=sighting.id,
        address=sighting.address,
        incarnation=sighting.incarnation,
        since_us=sighting.since_us,
    )


def read(message: pb.Sighting) -> Sighting | None:
    """Read one sighting; None when it is none."""
    if ID.fullmatch(message.id) is None:
        return None
    try:
        address = dialled(message.address)
    except ConfigError:
        return None
    return Sighting(NodeId(message.id), address, message.incarnation, message.since_us)


def read_all(messages: Iterable[pb.Sighting]) -> tuple[Sighting, ...]:
    """Read those that are sightings, not more than a cluster can need."""
    found = [sighting for sighting in map(read, messages) if sighting is not None]
    return tuple(found[:MOST])
