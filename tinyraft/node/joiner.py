"""Getting in, and being dialled at the right place (dissertation 4.2.1, 4.4).

Law: asks again and again until it is a member at its present address and a leader has found it
there; its id is on disk before the first word, so that an answer which was lost can't leave a ghost
in the configuration.

A node that belongs to a cluster announces where it is: to the addresses of RAFT_JOIN, and to the
members where the configuration has them and where they were seen since. Who is told passes on what
it knows, so that members which all moved at once find each other as long as one address leads to
one of them: A hears of B and C, B hears of A and C from A, and any of them can be elected. The
leader then writes the new addresses into the log, one after another. A leader that misses somebody
announces itself at RAFT_JOIN: who came late may be the very one that all the others' name leads to,
and knows nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Event
from typing import TypeVar

from tinyraft.errors import MembershipError, NodeRemoved, TinyraftError
from tinyraft.logs import Log
from tinyraft.node.clock import CLOCK, Clock
from tinyraft.node.membership import Membership
from tinyraft.node.node import Node
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.announce import Answer
from tinyraft.transport.remote import Joined, JoinOrder, Remote

T = TypeVar("T")

PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
CALL_SECONDS = 5.0
ANNOUNCE_SECONDS = 1.0
IDLE_SECONDS = 0.5  # between two looks whether all is still well
MOST_REASONS = 100  # in the log, of one search


class Joiner:
    """Asks to be let in, or to be dialled at another address."""

    def __init__(
        self,
        node: Node,
        membership: Membership,
        *,
        identity: Callable[[], Identity],
        joined: Callable[[str, int], None],
        remote: Remote,
        address: str,
        ask: tuple[str, ...],
        wants_vote: bool,
        patience: float,
        log: Log,
        clock: Clock = CLOCK,
    ) -> None:
        """Ask the nodes at *ask*, and all known members; tell *joined* the cluster's id and epoch.

        A node that was well and hears no leader waits *patience* seconds before it asks again: it
        may have been removed without a word of it in its log.
        """
        self._node = node
        self._membership = membership
        self._identity = identity
        self._joined = joined
        self._remote = remote
        self._address = address
        self._ask = ask
        self._wants_vote = wants_vote
        self._patience = patience
        self._log = log
        self._monotonic = clock.monotonic
        self._stopping = Event()
        self._well_at: float | None = None
        self._pause = PAUSE_SECONDS
        self._told: set[str] = set()

    def is_done(self) -> bool:
        """Whether the cluster knows this node at its present address, and a leader found it there.

        Its own log alone can't tell: a node that moved, moved back, and missed the first move on
        disk still reads its old address there. Who was removed is done for good.
        """
        if self._node.is_removed:
            return True
        address = self._node.configuration().address_of(self._node.me)
        is_found = self._node.leader()[0] is not None
        return bool(self._identity().cluster_id) and address == self._address and is_found

    def order(self) -> JoinOrder:
        """Say who wants what."""
        identity = self._identity()
        return JoinOrder(
            node_id=identity.node_id,
            address=self._address,
            wants_vote=self._wants_vote,
            incarnation=identity.incarnation,
            cluster_id=identity.cluster_id,
            recovery_epoch=identity.recovery_epoch,
        )

    def addresses(self) -> Iterator[str]:
        """Name where somebody may answer: RAFT_JOIN, where members were seen, where they were."""
        members = self._node.configuration().members
        seen = map(self._node.sightings.address_of, members)
        everywhere = dict.fromkeys((*self._ask, *seen, *(member.address for member in members)))
        return (address for address in everywhere if address != self._address)

    # --- one round ----------------------------------------------------------------------------

    def step(self) -> float:
        """Do one round, if there is need; return the seconds until the next."""
        now = self._monotonic()
        if self.is_done():
            self._well_at, self._pause = now, PAUSE_SECONDS
            self._told.clear()
            if self._node.misses_somebody and not self._node.is_removed:
                self._announce(self._ask)
                return LONGEST_PAUSE_SECONDS
            return IDLE_SECONDS
        if self._well_at is not None and now - self._well_at < self._patience:
            return PAUSE_SECONDS
        joined = self._come_back() if self._identity().cluster_id else self._come_in()
        if joined is not None:
            self._log.info("joined", cluster=joined.cluster_id, leader=joined.leader_id)
            return LONGEST_PAUSE_SECONDS  # the log follows
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return pause

    def _come_in(self) -> Joined | None:
        """Ask one after another to be let in."""
        for address in self.addresses():
            joined = self._try(
                lambda at=address: self._remote.join(at, self.order(), timeout=CALL_SECONDS)  # type: ignore[misc]
            )
            if joined is not None:
                self._joined(joined.cluster_id, joined.recovery_epoch)
                return joined
        return None

    def _come_back(self) -> Joined | None:
        """Announce where this node is, and have the leader write it down."""
        leaders = self._announce(self.addresses())
        if self._node.is_removed:
            return None
        if self._node.leader()[0] is not None:
            return self._try(
                lambda: self._membership.join(self.order(), timeout=CALL_SECONDS, forwarded=False)
            )
        if not leaders:
            return None
        where = max(leaders, key=lambda answer: answer.term).leader_address
        if where == self._address:
            return None  # they take this node for the leader: it soon is, or another
        return self._try(lambda: self._remote.join(where, self.order(), timeout=CALL_SECONDS))

    def _announce(self, addresses: Iterable[str]) -> list[Answer]:
        """Tell all *addresses* where this node is; return the answers that name a leader."""
        leaders: list[Answer] = []
        for address in [address for address in addresses if address != self._address]:
            answer = self._try(
                lambda at=address: self._remote.announce(  # type: ignore[misc]
                    at, self._membership.announcement(), timeout=ANNOUNCE_SECONDS
                )
            )
            if self._node.is_removed:
                break
            if answer is not None:
                self._membership.heard(answer)
                leaders += [answer] if answer.leader_address else []
        return leaders

    def _try(self, attempt: Callable[[], T]) -> T | None:
        """Make one *attempt*; None when it was in vain, or when it is too late for it."""
        if self._stopping.is_set():
            return None
        try:
            return attempt()
        except NodeRemoved as error:
            if self._identity().cluster_id:
                self._node.turn(lambda raft: raft.learn_removed(by="a member that was asked"))
            self._complain(error)
        except TinyraftError as error:
            self._complain(error)
        return None

    def _complain(self, error: TinyraftError) -> None:
        """Log why it was in vain: each reason once, until all is well."""
        text = str(error)
        if text not in self._told and len(self._told) < MOST_REASONS:
            self._told.add(text)
            log = self._log.warning if isinstance(error, MembershipError) else self._log.info
            log("not_joined_yet", why=text)

    # --- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Ask whenever there is need, until stopped."""
        while not self._stopping.is_set():
            self._stopping.wait(self.step())

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()
