"""Linearizable reads on any node: an index from the leader, then this node's own module (6.4).

Law: the index is asked for after the read began, and the module has seen it before it is read. No
clock of another node counts. A read has no effect, so within its time it is tried again whatever
went wrong.

Reads that wait at the same time share a question (`Questions`): on the leader one visit to the core
and one round of heartbeats, elsewhere one call to the leader.
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
from tinyraft.node.questions import Question, Questions
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
        self._questions = Questions(self._ask)
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
            self._catch_up_with_leader(deadline=began + timeout)
            self._current_at = began

    def _catch_up_with_leader(self, *, deadline: float) -> None:
        node, patience = self._node, PATIENCE
        why: TinyraftError | None = None
        while True:
            if node.is_removed:
                raise NodeRemoved(
                    f"{node.me} was removed from the cluster: it has only stale reads; ask a member"
                )
            question, is_answered = self._questions.share(deadline=deadline, patience=patience)
            if not is_answered and question.index is not None:
                self._forget(question)
                raise self._lags(question.index)
            if is_answered:
                why = question.error
                if why is None:
                    return
                if question.index is not None or isinstance(why, NodeRemoved):
                    raise why
            if isinstance(why, ApplyTimeout):
                patience *= 2
            left = deadline - monotonic()
            if left <= 0 or node.is_stopping:
                last = f"last: {why}" if why else "nobody confirmed in time who leads"
                raise NoQuorum(f"{node.me} has no leader's word for a read; {last}") from why
            node.wait_for_news(min(left, LOOK_SECONDS))

    def _forget(self, question: Question) -> None:
        """Nobody waits any more for the module to see what *question* needs."""
        if not len(question.chain) and question.waiter is not None:
            self._node.readers.discard(question.waiter)

    def _lags(self, index: Index) -> NoQuorum:
        applied = self._node.applier.last_applied
        return NoQuorum(f"{self._node.me} has applied {applied} entries; a read needs {index}")

    # --- one question -------------------------------------------------------------------------

    def _ask(self, question: Question, deadline: float | None) -> bool:
        """Ask who leads for the index; False when *deadline* was too early for an answer."""
        if self._node.leads:
            self._ask_here(question)
            return True
        if deadline is None:
            return False
        left = max(0.0, deadline - monotonic())
        try:
            index = self._ask_leader(timeout=min(left, question.patience))
        except ApplyTimeout as error:
            if left < question.patience:
                return False
            question.close(error)
        except TinyraftError as error:
            question.close(error)
        else:
            self._found(question, index)
        return True

    def _ask_leader(self, *, timeout: float) -> Index:
        node = self._node
        leader, address, _ = node.leader()
        if leader is None or not address or leader == node.me:
            raise NotLeader(f"{node.me} knows no leader")
        me = self._identity()
        envelope = Envelope(me.cluster_id, me.node_id, leader, me.incarnation, me.recovery_epoch)
        return self._remote.read_index(address, envelope, timeout=timeout)

    def _ask_here(self, question: Question) -> None:
        """Ask the own core, which leads."""
        waiter: Waiter = Waiter(lambda _: self._confirmed(question, waiter))
        try:
            self._node.ask_read_index(waiter)
        except TinyraftError as error:
            question.close(error)

    def _confirmed(self, question: Question, waiter: Waiter) -> None:
        if waiter.error is not None:
            question.close(waiter.error)
        else:
            self._found(question, waiter.index)

    def _found(self, question: Question, index: Index) -> None:
        """Let the readers go as soon as the module has seen *index*."""
        question.index = index
        if self._node.applier.last_applied >= index:
            question.close(None)
        else:
            waiter: Waiter = Waiter(lambda _: question.close(waiter.error))
            question.waiter = waiter
            self._node.when_applied(index, waiter)
            self._questions.go_on(question)

    # --- alone --------------------------------------------------------------------------------

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
        waiter = Waiter()
        self._node.when_applied(index, waiter)
        if not self._wait(waiter, timeout):
            raise self._lags(index)

    def _wait(self, waiter: Waiter, timeout: float) -> bool:
        """Tell whether *waiter* was answered in time; raise what it was answered."""
        try:
            waiter.wait(timeout)
        except ApplyTimeout:
            if self._node.readers.discard(waiter):
                return False
            waiter.wait(None)  # just answered
        return True
