"""Who belongs to the cluster, and how that changes (dissertation 4.1 to 4.3).

Law: a configuration is a value. It is in force from the moment its entry is appended, is undone
when that entry is cut, and differs from the one before it by one member.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tinyraft.core.entry import Entry, EntryKind, Index, MalformedEntry, NodeId
from tinyraft.errors import FormatTooNew, IdReused, MembershipError, UnknownMember

VERSION = 1


@dataclass(slots=True, frozen=True)
class Member:
    """One member: its id for ever, and where it is dialled now."""

    id: NodeId
    address: str
    voter: bool
    wants_vote: bool = False  # a learner that is to be promoted once it has caught up
    incarnation: int = 0  # of its data directory: two disks are never one member


@dataclass(slots=True, frozen=True)
class Configuration:
    """The members, by id, and the ids that may never come back."""

    members: tuple[Member, ...] = ()
    removed: tuple[NodeId, ...] = ()
    voters: frozenset[NodeId] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Keep the set of voters at hand: it is asked for at every commit."""
        voters = frozenset(m.id for m in self.members if m.voter)
        object.__setattr__(self, "voters", voters)

    def get(self, node: NodeId | None) -> Member | None:
        """Look *node* up."""
        return next((m for m in self.members if m.id == node), None)

    def address_of(self, node: NodeId | None) -> str:
        """Tell where *node* is dialled; "" for a stranger."""
        member = self.get(node)
        return member.address if member else ""

    def with_member(self, member: Member) -> Configuration:
        """Put *member* in, in place of an older record of the same id."""
        others = (m for m in self.members if m.id != member.id)
        return replace(self, members=tuple(sorted((*others, member), key=lambda m: m.id)))

    def without(self, node: NodeId) -> Configuration:
        """Take *node* out for ever."""
        members = tuple(m for m in self.members if m.id != node)
        return replace(self, members=members, removed=(*self.removed, node))

    def encode(self) -> bytes:
        """Write it as the command of a configuration entry."""
        members = [[m.id, m.address, m.voter, m.wants_vote, m.incarnation] for m in self.members]
        value = {"version": VERSION, "members": members, "removed": list(self.removed)}
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, command: bytes) -> Configuration:
        """Read what `encode` wrote.

        Raises:
            FormatTooNew: A newer tinyraft wrote it.
            MalformedEntry: Nobody wrote it.
        """
        try:
            value = json.loads(command)
            version = value["version"]
            if type(version) is int and version > VERSION:
                raise FormatTooNew(f"a configuration of version {version}; I know {VERSION}")
            members, removed = value["members"], value["removed"]
            if [int, list, list] != [type(version), type(members), type(removed)]:
                raise TypeError("its parts are of other types")
            return cls(tuple(map(read_member, members)), tuple(map(read_id, removed)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise MalformedEntry(f"{command[:100]!r} is no configuration: {error!r}") from error


def read_member(values: object) -> Member:
    """Read what `Configuration.encode` wrote of one member, down to the types."""
    if not isinstance(values, list) or [str, str, bool, bool, int] != [type(v) for v in values]:
        raise ValueError(f"{values!r} is no member")
    return Member(*values)


def read_id(value: object) -> NodeId:
    """Read an id."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no id")
    return NodeId(value)


@dataclass(slots=True, frozen=True)
class AddLearner:
    """Take *member* in without a vote; one that wants it is promoted when it has caught up."""

    member: Member


@dataclass(slots=True, frozen=True)
class Promote:
    """Give a learner its vote."""

    id: NodeId


@dataclass(slots=True, frozen=True)
class Demote:
    """Take a voter's vote away; it stays as a learner that wants none."""

    id: NodeId


@dataclass(slots=True, frozen=True)
class Remove:
    """Take a member out. Its id is refused for ever."""

    id: NodeId


@dataclass(slots=True, frozen=True)
class Relocate:
    """Dial a member elsewhere from now on; a data directory not yet known is noted."""

    id: NodeId
    address: str
    incarnation: int = 0


Change: TypeAlias = AddLearner | Promote | Demote | Remove | Relocate


def changed(present: Configuration, change: Change) -> Configuration:
    """Work out what *present* becomes: *present* itself when it is so already.

    Raises:
        IdReused: The new member's id is taken, or was removed.
        UnknownMember: Nobody has that id.
        MembershipError: The address belongs to another member, or no voter would be left.
    """
    match change:
        case AddLearner(member):
            if member.id in present.removed or present.get(member.id):
                return added_again(present, member)
            refuse_taken(present, member.id, member.address)
            return present.with_member(replace(member, voter=False))
        case Promote(node):
            return present.with_member(replace(known(present, node), voter=True, wants_vote=False))
        case Demote(node):
            demoted = replace(known(present, node), voter=False, wants_vote=False)
            refuse_last_vote(present, node)
            return present.with_member(demoted)
        case Remove(node):
            if node in present.removed:
                return present
            known(present, node)
            refuse_last_vote(present, node)
            return present.without(node)
        case Relocate(node, address, incarnation):
            refuse_taken(present, node, address)
            member = known(present, node)
            refuse_another_disk(member, incarnation)
            number = member.incarnation or incarnation
            return present.with_member(replace(member, address=address, incarnation=number))


def added_again(present: Configuration, member: Member) -> Configuration:
    """Add somebody who is there: by an operator first, then by itself, or once more.

    A learner that is added as a voter now wants its vote.
    """
    there = present.get(member.id)
    if there is None:
        raise IdReused(f"the id {member.id!r} was removed; start the node with a new NODE_ID")
    refuse_another_disk(there, member.incarnation)
    if there.address != member.address:
        raise IdReused(
            f"the id {member.id!r} is that of the member at {there.address}; a node that moves"
            " announces its new address itself, a new one needs a new NODE_ID"
        )
    wants_vote = there.wants_vote or (member.wants_vote and not there.voter)
    number = there.incarnation or member.incarnation
    return present.with_member(replace(there, wants_vote=wants_vote, incarnation=number))


def refuse_another_disk(member: Member, incarnation: int) -> None:
    """Refuse a data directory that is not the one *member* is known with."""
    if incarnation and member.incarnation not in (0, incarnation):
        raise IdReused(
            f"{member.id} is a member with another data directory: bring that directory back, or"
            " start with an empty one and a new NODE_ID"
        )


def refuse_last_vote(present: Configuration, node: NodeId) -> None:
    """Refuse to take the last vote away: nobody could decide anything any more."""
    if present.voters == {node}:
        raise MembershipError(
            f"{node!r} is the last voter: add another voter first, and wait until it votes"
        )


def known(present: Configuration, node: NodeId) -> Member:
    """Look *node* up, or refuse."""
    member = present.get(node)
    if member is None:
        raise UnknownMember(f"no member is called {node!r}")
    return member


def refuse_taken(present: Configuration, node: NodeId, address: str) -> None:
    """Refuse an *address* that another member has."""
    for member in present.members:
        if member.address == address and member.id != node:
            raise MembershipError(
                f"{address} is the address of {member.id!r}; {node!r} can't share it"
            )


class History:
    """The configurations of this log, oldest first; the last one is in force."""

    def __init__(self) -> None:
        """Start with nobody, before the log."""
        self._past: list[tuple[Index, Configuration]] = []
        self.begin_with(0, Configuration())

    def begin_with(self, index: Index, configuration: Configuration) -> None:
        """Forget everything; a snapshot says that *configuration* was appended at *index*."""
        self._past = [(index, configuration)]

    def at(self, index: Index) -> tuple[Index, Configuration]:
        """Tell where the one stands that was in force at *index*, and which it is.

        With the commit index, that is the committed one.
        """
        return next(past for past in reversed(self._past) if past[0] <= index)

    def compact(self, index: Index) -> None:
        """Forget what was replaced by *index* at the latest."""
        while len(self._past) > 1 and self._past[1][0] <= index:
            del self._past[0]

    @property
    def latest(self) -> Configuration:
        """The one in force."""
        return self._past[-1][1]

    @property
    def previous(self) -> Configuration:
        """The one before it; nobody, when a snapshot or the log begins with the latest."""
        return self._past[-2][1] if len(self._past) > 1 else Configuration()

    @property
    def latest_index(self) -> Index:
        """Where its entry stands."""
        return self._past[-1][0]

    def append(self, entry: Entry) -> bool:
        """Look at a new *entry*; tell whether it changed the configuration."""
        if entry.kind is not EntryKind.CONFIGURATION:
            return False
        self._past.append((entry.index, Configuration.decode(entry.command)))
        return True

    def cut(self, index: Index) -> bool:
        """Undo everything at *index* and above; tell whether that changed the configuration."""
        before = len(self._past)
        while self._past[-1][0] >= index:
            self._past.pop()
        return len(self._past) < before
