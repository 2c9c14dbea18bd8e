"""Who speaks, for which cluster, to whom: what every message between members carries.

Law: an envelope is checked before anything else of its message is looked at, and what a stranger
wrote is shown with `repr`, shortened. Whether the cluster and the recipient are *ours* is for the
service to say; here they are only well formed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinyraft.core.entry import NodeId
from tinyraft.wire import raft_pb2 as pb

PROTOCOL = 1
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHOWN = 40  # characters of a stranger's text: an id of ours (a UUID has 36) stays whole


class Malformed(ValueError):
    """A message that no tinyraft of this protocol sends; its text starts with the field's name."""


@dataclass(slots=True, frozen=True)
class Envelope:
    """The sender's data directory is named by *incarnation*: two disks are never one member."""

    cluster_id: str
    sender: NodeId
    recipient: NodeId
    incarnation: int
    recovery_epoch: int = 0
    protocol: int = PROTOCOL


def shown(text: str) -> str:
    """Show what a stranger wrote: escaped, and not longer than an id."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}... ({len(text)} characters)"


def seal(envelope: Envelope) -> pb.Envelope:
    """Encode *envelope*."""
    return pb.Envelope(
        cluster_id=envelope.cluster_id,
        sender=envelope.sender,
        recipient=envelope.recipient,
        incarnation=envelope.incarnation,
        recovery_epoch=envelope.recovery_epoch,
        protocol=envelope.protocol,
    )


def unseal(message: pb.Envelope) -> Envelope:
    """Decode an envelope.

    Raises:
        Malformed: An id is none, or the sender speaks another protocol.
    """
    if message.protocol != PROTOCOL:
        raise Malformed(
            f"envelope.protocol is {message.protocol}, this node speaks {PROTOCOL}: "
            "run versions of tinyraft that have a protocol in common"
        )
    return Envelope(
        cluster_id=checked_id(message.cluster_id, field="envelope.cluster_id"),
        sender=NodeId(checked_id(message.sender, field="envelope.sender")),
        recipient=NodeId(checked_id(message.recipient, field="envelope.recipient")),
        incarnation=message.incarnation,
        recovery_epoch=message.recovery_epoch,
        protocol=message.protocol,
    )


def checked_id(text: str, *, field: str) -> str:
    """Return *text* if it can be an id.

    Raises:
        Malformed: It is empty, too long, or has a character that an id never has.
    """
    if not text:
        raise Malformed(f"{field} is empty")
    if ID.fullmatch(text) is None:
        raise Malformed(
            f"{field} is {shown(text)}: an id is 1 to 64 letters, digits, '.', '_' or '-', "
            "and starts with a letter or digit"
        )
    return text
