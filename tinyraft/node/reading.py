"""Linearizable reads on any node: an index from the leader, then this node's own module (6.4).

Law: the index is asked for after the read began, and the module has seen it before it is read. No
clock of another node counts. A read has no effect, so within its time it is tried again whatever
went wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from tinyraft.core.entry import Index
from tinyraft.errors import (
    ApplyTimeout,
    NodeRemoved,
    NoQuorum,
    NotLeader,
    TinyraftError,
)
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.remote import Remote

PATIENCE = 1.0  # seconds for a leader's first answer, then twice as many: it may be frozen
LOOK_SECONDS = 0.02


class Reading:
    """What reads on one node. Thread-safe."""

    def __init__(self, node: Node, *, identity: Callable[[], Identity], remote: Remote) -> None:
        """Read on *node*; other nodes are asked through *remote*."""
        self._node = node
        self._identity = identity
        self._remote = remote
        self._current_at = float("-inf")  # this node has seen all that was committed then

    def make_current(self, *, timeout: float, max_staleness: float | None = None) -> None:
        """Wait until the module has seen all that was committed when this was called.

        With *max_staleness*: all that was committed so many seconds before.

        Raises:
            NoQuorum: No leader confirmed it in *timeout* seconds, or this node lags behind.
            NodeRemoved: This node is in no cluster.
            ModuleFailed: The module stopped applying.
        """
        began = monotonic()
        if max_staleness is None or began - self._current_at > max_staleness:
            deadline = began + timeout
            self._catch_up(self.index(deadline=deadline), deadline=deadline)
            self._current_at = began

    def index(self, *, deadline: float) -> Index:
        """Find the index that a read which begins now must have seen, whoever leads.

        Raises:
            NoQuorum: No leader confirmed it until *deadline*.
            NodeRemoved: This node is in no cluster.
        """
        node, patience = self._node, PATIENCE
        while True:
            if node.is_removed:
                raise NodeRemoved(
                    f"{node.me} was removed from the cluster: it has only stale reads; ask a member"
                )
            try:
                return self._ask(deadline, patience)
            except NodeRemoved:
                raise
            except TinyraftError as error:
                why = error
            if isinstance(why, ApplyTimeout):
                patience *= 2
            left = deadline - monotonic()
            if left <= 0 or node.is_stopping:
                raise NoQuorum(f"{node.me} has no leader's word for a read; last: {why}") from why
            node.wait_for_news(min(left, LOOK_SECONDS))

    def _ask(self, deadline: float, patience: float) -> Index:
        node = self._node
        left = max(0.0, deadline - monotonic())
        if node.leads:
            return self.index_here(timeout=left)
        leader, address, _ = node.leader()
        if leader is None or not address or leader == node.me:
            raise NotLeader(f"{node.me} knows no leader")
        me = self._identity()
        envelope = Envelope(me.cluster_id, me.node_id, leader, me.incarnation, me.recovery_epoch)
        return self._remote.read_index(address, envelope, timeout=min(left, patience))

    def index_here(self, *, timeout: float) -> Index:
        """Find the index for a read that begins now, as the leader.

        Raises:
            NotLeader: This node does not lead, or not any more.
            NoQuorum: No majority confirmed that in *timeout* seconds.
        """
        waiter = Waiter()
        self._node.ask_read_index(waiter)
        if self._wait(waiter, timeout):
            return waiter.index
        raise NoQuorum(f"no majority confirmed in {timeout:.3g} s that {self._node.me} leads")

    def wait_applied(self, index: Index, *, timeout: float) -> None:
        """Wait until the module has seen the entry *index*; raises as `make_current`."""
        self._catch_up(index, deadline=monotonic() + timeout)

    def _catch_up(self, index: Index, *, deadline: float) -> None:
        waiter = Waiter()
        self._node.when_applied(index, waiter)
        if not self._wait(waiter, deadline - monotonic()):
            applied = self._node.applier.last_applied
            raise NoQuorum(f"{self._node.me} has applied {applied} entries; a read needs {index}")

    def _wait(self, waiter: Waiter, timeout: float) -> bool:
        """Tell whether *waiter* was answered in time; raise what it was answered."""
        try:
            waiter.wait(timeout)
        except ApplyTimeout:
            if self._node.readers.discard(waiter):
                return False
            waiter.wait(None)  # just answered
        return True
