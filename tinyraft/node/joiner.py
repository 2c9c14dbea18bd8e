"""Getting in, and being dialled at the right place (dissertation 4.2.1, 4.4).

Law: asks again and again until it is a member at its present address; its id is on disk before the
first word, so that an answer which was lost can't leave a ghost in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

from tinyraft.errors import IdReused, MembershipError, NodeRemoved, TinyraftError, WrongCluster
from tinyraft.logs import Log
from tinyraft.node.gate import Gate
from tinyraft.node.node import Node
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.remote import Joined, JoinOrder, Remote

PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
CALL_SECONDS = 5.0


class Joiner:
    """Asks to be let in, or to be dialled at another address."""

    def __init__(
        self,
        node: Node,
        gate: Gate,
        *,
        identity: Callable[[], Identity],
        joined: Callable[[str], None],
        remote: Remote,
        address: str,
        ask: tuple[str, ...],
        wants_vote: bool,
        log: Log,
    ) -> None:
        """Ask the nodes at *ask*, and all known members; tell *joined* the cluster's id."""
        self._node = node
        self._gate = gate
        self._identity = identity
        self._joined = joined
        self._remote = remote
        self._address = address
        self._ask = ask
        self._wants_vote = wants_vote
        self._log = log
        self._stopping = Event()

    def is_done(self) -> bool:
        """Whether the cluster knows this node at its present address, and a leader found it there.

        Its own log alone can't tell: a node that moved, moved back, and missed the first move on
        disk still reads its old address there.
        """
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
        )

    def tries(self) -> Iterator[Callable[[], Joined]]:
        """Give every way to ask: here, at RAFT_JOIN, at the members of the configuration."""
        order = self.order()
        if order.cluster_id:
            yield lambda: self._gate.join(order, timeout=CALL_SECONDS, forwarded=False)
        members = (member.address for member in self._node.configuration().members)
        for address in dict.fromkeys((*self._ask, *members)):
            if address != self._address:
                yield lambda at=address: self._remote.join(at, order, timeout=CALL_SECONDS)  # type: ignore[misc]

    def run(self) -> None:
        """Ask until done or stopped."""
        pause, last = PAUSE_SECONDS, ""
        while not self._stopping.is_set() and not self.is_done():
            for attempt in self.tries():
                if self._stopping.is_set():
                    return
                try:
                    joined = attempt()
                except TinyraftError as error:
                    last = self._complain(error, last)
                    continue
                if not self._identity().cluster_id:
                    self._joined(joined.cluster_id)
                self._log.info("joined", cluster=joined.cluster_id, leader=joined.leader_id)
                return
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _complain(self, error: TinyraftError, last: str) -> str:
        """Log why it was refused, once for as long as the reason stays the same."""
        text = str(error)
        if text != last:
            serious = isinstance(error, MembershipError | IdReused | WrongCluster | NodeRemoved)
            log = self._log.warning if serious else self._log.info
            log("not_joined_yet", why=text)
        return text

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()
