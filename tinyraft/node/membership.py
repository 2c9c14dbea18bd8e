"""Who belongs to the cluster: what nodes and operators ask, answered by the leader (4.1 to 4.4).

Law: decided by the leader alone; any other node passes a call on once. What is so already is no
change, so a call whose answer was lost may be repeated. An id stands for one data directory: a
member that was added by its address only is known with the directory that joins first.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from tinyraft.core.configuration import AddLearner, Change, Configuration, Member, Relocate
from tinyraft.core.entry import Index, NodeId
from tinyraft.core.members import Members
from tinyraft.core.raft import Raft
from tinyraft.core.sighting import Sighting
from tinyraft.errors import (
    ApplyTimeout,
    ChangeInProgress,
    IdReused,
    MembershipError,
    NodeRemoved,
    NoQuorum,
    NotCaughtUp,
    NotLeader,
    NotStarted,
    TinyraftError,
    WrongCluster,
)
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.announce import Announcement, Answer
from tinyraft.transport.envelope import ID, Malformed, shown
from tinyraft.transport.members import checked_address
from tinyraft.transport.remote import Joined, JoinOrder, Remote

T = TypeVar("T")

LOOK_SECONDS = 0.02


class Membership:
    """The members of one node's cluster. Thread-safe."""

    def __init__(
        self,
        node: Node,
        *,
        identity: Callable[[], Identity],
        remote: Remote,
        address: str,
        since_us: int,
    ) -> None:
        """Answer for *node*, which others dial at *address* and which started at *since_us*."""
        self._node = node
        self._identity = identity
        self._remote = remote
        self._address = address
        self._since_us = since_us

    # --- who is there -------------------------------------------------------------------------

    def members(self) -> Members:
        """Tell what this node knows, of one moment."""
        leader, address, term = self._node.leader()

        def event(raft: Raft) -> Members:
            index = raft.history.latest_index
            return Members(
                index=index,
                is_committed=index <= raft.commit_index,
                members=raft.configuration.members,
                removed=raft.configuration.removed,
                leader_id=leader or "",
                leader_address=address,
                term=term,
            )

        return self._node.look(event)

    # --- what operators ask -------------------------------------------------------------------

    def change(
        self, change: Change, *, expect: Index | None, timeout: float, forwarded: bool
    ) -> Index:
        """Change one member; block until that is committed, and return the entry's index.

        Raises:
            ChangeInProgress: Another change was not committed in all that time.
            ConfigurationChanged: The configuration is not that of entry *expect*.
            MembershipError: Refused; the subclass says why.
            NotLeader: Another member leads, and this call was forwarded already.
            NoQuorum: No leader is known.
            MaybeApplied: It was appended, and time ran out before it was committed.
        """

        def here(deadline: float) -> Index:
            waiter = Waiter()
            self._node.change_members(change, waiter, expect=expect)
            self._wait(waiter, deadline)
            return waiter.index

        def there(address: str, left: float) -> Index:
            return self._remote.change(address, change, expect=expect, timeout=left)

        return self._at_leader(here, there, timeout=timeout, forwarded=forwarded)

    def wait_promoted(self, node: str, *, index: Index, timeout: float) -> Index:
        """Wait until *node*, added at *index*, has its vote; return that configuration's index.

        Raises:
            NotCaughtUp: It is still a learner, and stays one that is promoted when it can be.
            MembershipError: Somebody removed or demoted it meanwhile.
        """

        def look() -> Index | None:
            return promoted(self.members(), node, index=index)

        found = self._node.wait_until(look, timeout=timeout)
        if found is None:
            raise still_learner(self.members().get(node), node, timeout=timeout)
        return found

    def transfer(self, to: str, *, timeout: float, forwarded: bool) -> str:
        """Hand leadership to *to* ("": the best voter); block until somebody has it, and say who.

        Raises:
            MembershipError: Nobody can take it, or *to* did not in time.
            NotLeader: Another member leads, and this call was forwarded already.
            NoQuorum: No leader is known.
        """

        def here(deadline: float) -> str:
            if to == self._node.me:
                return to
            target = self._node.turn(lambda raft: raft.transfer(NodeId(to) if to else None))

            def is_over() -> bool:
                return not self._node.leads or not self._node.look(is_handing_over)

            self._node.wait_until(is_over, timeout=deadline - monotonic())
            if self._node.leads:
                raise MembershipError(
                    f"{target} has not taken over in time, {self._node.me} leads on: is it up?"
                )
            found = self._node.wait_until(
                lambda: self._node.leader()[0], timeout=deadline - monotonic()
            )
            if found is None:
                raise NoQuorum(f"{self._node.me} has handed over to {target}, and nobody leads yet")
            return found

        def there(address: str, left: float) -> str:
            return self._remote.transfer(address, to, timeout=left)

        return self._at_leader(here, there, timeout=timeout, forwarded=forwarded)

    # --- what nodes ask -----------------------------------------------------------------------

    def join(self, order: JoinOrder, *, timeout: float, forwarded: bool) -> Joined:
        """Let a node in, or dial it elsewhere from now on; block until that is committed.

        Raises:
            MembershipError: Refused; the subclass says why.
            NotStarted: This node has not joined a cluster itself.
            NotLeader: Another member leads, and this call was forwarded already.
            NoQuorum: No leader is known.
            ChangeInProgress: Another change was not committed in all that time.
            MaybeApplied: This one was appended, and not committed in time.
        """
        address = checked_address(order.address, field="advertise_addr")
        if order.node_id and not ID.fullmatch(order.node_id):
            raise Malformed(f"node_id {shown(order.node_id)} is no id")
        identity = self._identity()
        if not identity.cluster_id:  # who asks has better addresses: don't make it wait here
            raise NotStarted(f"{identity.node_id} has not finished joining itself")
        return self._at_leader(
            lambda deadline: self._join_here(order, address, deadline=deadline),
            lambda where, left: self._remote.join(where, order, timeout=left, forward=False),
            timeout=timeout,
            forwarded=forwarded,
        )

    def _join_here(self, order: JoinOrder, address: str, *, deadline: float) -> Joined:
        identity, configuration = self._identity(), self._node.configuration()
        if order.cluster_id not in ("", identity.cluster_id):
            raise WrongCluster(
                f"{shown(order.node_id)} belongs to cluster {shown(order.cluster_id)}, this is"
                f" cluster {identity.cluster_id}: check RAFT_JOIN and RAFT_DATA_DIR"
            )
        if order.cluster_id:
            refuse_other_epoch(identity, order.node_id, order.recovery_epoch)
        node = NodeId(order.node_id) if order.node_id else assigned(configuration, address)
        if node in self._node.look(removed_ids):
            raise was_removed(node)
        waiter = Waiter()
        change = change_for(order, node, address, configuration)
        if change is not None:
            self._node.change_members(change, waiter)
            self._wait(waiter, deadline)
        leader, _, term = self._node.leader()
        epoch = identity.recovery_epoch
        return Joined(node, leader or "", term, identity.cluster_id, waiter.index, epoch)

    def announced(self, announcement: Announcement) -> Answer:
        """Hear where a member is now, and say what is known here. Does not block.

        Raises:
            NotStarted: This node belongs to no cluster, or no longer.
            WrongCluster: It is a member of another one, or from before a repair.
            NodeRemoved: It was removed.
            IdReused: It is another disk than the member of that id.
        """
        identity, sender = self._identity(), announcement.sender
        if not identity.cluster_id:
            raise NotStarted(f"{identity.node_id} has not finished joining; try again")
        if announcement.cluster_id != identity.cluster_id:
            raise WrongCluster(
                f"{sender.id} is of cluster {announcement.cluster_id}, {identity.node_id} of"
                f" cluster {identity.cluster_id}: check the addresses"
            )
        refuse_other_epoch(identity, sender.id, announcement.recovery_epoch)
        if self._node.is_removed:
            raise NotStarted(f"{identity.node_id} was removed itself; ask another member")
        if sender.id in self._node.look(removed_ids):
            raise was_removed(sender.id)
        configuration, sightings = self._node.configuration(), self._node.sightings
        member = configuration.get(sender.id)
        if member is not None and member.incarnation not in (0, sender.incarnation):
            raise other_disk(sender.id)
        sightings.take(sender, configuration, first_hand=True)
        for sighting in announcement.known:
            sightings.take(sighting, configuration, first_hand=False)
        leader, address, term = self._node.leader()
        known = (self.sighting(), *sightings.known(configuration))
        return Answer(known, leader or "", address, term)

    def announcement(self) -> Announcement:
        """Say where this node is, and where it has seen others."""
        known = self._node.sightings.known(self._node.configuration())
        identity = self._identity()
        return Announcement(
            identity.cluster_id, self.sighting(), tuple(known), identity.recovery_epoch
        )

    def sighting(self) -> Sighting:
        """Say where this node is."""
        identity = self._identity()
        return Sighting(
            NodeId(identity.node_id), self._address, identity.incarnation, self._since_us
        )

    def heard(self, answer: Answer) -> None:
        """Take what another node has answered."""
        configuration = self._node.configuration()
        for sighting in answer.known:
            self._node.sightings.take(sighting, configuration, first_hand=False)

    # --- finding the leader -------------------------------------------------------------------

    def _at_leader(
        self,
        here: Callable[[float], T],
        there: Callable[[str, float], T],
        *,
        timeout: float,
        forwarded: bool,
    ) -> T:
        """Do it where the leader is, when the change before it is committed."""
        node = self._node
        deadline = monotonic() + timeout
        refusal: TinyraftError = NoQuorum(f"{node.me} found no leader in {timeout:.3g} s")
        while True:
            if node.is_removed:
                raise NotStarted(f"{node.me} was removed from its cluster; ask another member")
            if node.leads:
                try:
                    return here(deadline)
                except ChangeInProgress as error:
                    refusal = error
                except NotLeader as error:
                    if forwarded:
                        raise
                    refusal = error
            elif leader := known_leader(node):
                address, hint = leader
                if forwarded:
                    raise hint
                try:
                    return there(address, deadline - monotonic())
                except NotLeader as error:  # nothing was done; this node will hear who leads now
                    refusal = error
            left = deadline - monotonic()
            if left <= 0 or node.is_stopping:
                raise refusal
            node.wait_for_news(min(left, LOOK_SECONDS))

    def _wait(self, waiter: Waiter, deadline: float) -> None:
        try:
            waiter.wait(deadline - monotonic())
        except ApplyTimeout:
            self._node.waiters.discard(waiter)
            raise


def known_leader(node: Node) -> tuple[str, NotLeader] | None:
    """Tell where the leader is, if that is known and not here, and the refusal that names it."""
    leader, address, term = node.leader()
    if leader is None or not address or leader == node.me:
        return None
    text = f"{node.me} does not lead; leader: {leader} at {address}, term {term}"
    return address, NotLeader(text, leader_id=leader, leader_address=address, term=term)


def removed_ids(raft: Raft) -> tuple[NodeId, ...]:
    """Name the ids whose removal is committed."""
    return raft.committed_configuration.removed


def is_handing_over(raft: Raft) -> bool:
    """Tell whether this node leads and is giving that away."""
    return raft.leadership is not None and raft.leadership.transfer is not None


def change_for(
    order: JoinOrder, node: NodeId, address: str, configuration: Configuration
) -> Change | None:
    """Say what *order* is to change, if anything. Whether it votes is its own wish only at first.

    Raises:
        IdReused: The member of that id has another disk.
    """
    member = configuration.get(node)
    if member is None:
        return AddLearner(Member(node, address, False, order.wants_vote, order.incarnation))
    if order.incarnation and member.incarnation not in (0, order.incarnation):
        raise other_disk(node)
    is_so = member.address == address and order.incarnation in (0, member.incarnation)
    return None if is_so else Relocate(node, address, order.incarnation)


def assigned(configuration: Configuration, address: str) -> NodeId:
    """Choose an id for a node without one: the same again for the same address."""
    for member in configuration.members:
        if member.address == address:
            return member.id
    return NodeId(str(uuid.uuid4()))


def promoted(members: Members, node: str, *, index: Index) -> Index | None:
    """Tell where *node*, added at *index*, got its vote; None while it has not.

    Raises:
        MembershipError: It will never get it.
    """
    if members.index < index or not members.is_committed:
        return None  # not heard of it yet
    member = members.get(node)
    if member is None:
        raise MembershipError(f"{node} was removed while it caught up")
    if member.voter:
        return members.index
    if not member.wants_vote:
        raise MembershipError(f"{node} was made a learner for good while it caught up")
    return None


def still_learner(member: Member | None, node: str, *, timeout: float) -> NotCaughtUp:
    """Make the error for a new member whose vote takes too long."""
    where = f" at {member.address}" if member else ""
    return NotCaughtUp(
        f"{node} has no vote after {timeout:.3g} s. It is a learner and gets its vote as soon as it"
        f" has caught up: see that it runs{where}"
    )


def was_removed(node: NodeId) -> NodeRemoved:
    """Make the error for a member that is none any more."""
    return NodeRemoved(
        f"{node} was removed from the cluster, and its id is never used again: to bring the machine"
        " back, start it with an empty data directory and a new NODE_ID"
    )


def other_disk(node: NodeId) -> IdReused:
    """Make the error for a disk that is not the member's."""
    return IdReused(
        f"{node} is a member with another data directory: bring that directory back, or start with"
        " an empty one and a new NODE_ID"
    )


def refuse_other_epoch(identity: Identity, sender: str, epoch: int) -> None:
    """Refuse who was not there when the cluster was repaired; or whom it was repaired without.

    Raises:
        WrongCluster: The epochs differ; the older one may hold what was given up since.
    """
    if epoch == identity.recovery_epoch:
        return
    older, newer = sorted((epoch, identity.recovery_epoch))
    who = shown(sender) if epoch == older else identity.node_id
    raise WrongCluster(
        f"{who} is from before repair {newer} of cluster {identity.cluster_id} (it is of recovery"
        f" epoch {older}): the cluster went on without it. Start it with an empty data directory"
        " and a new NODE_ID; keep the old directory if it may hold commands that were lost"
    )
