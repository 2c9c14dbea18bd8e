"""What the outside may ask of a node, and who may ask it (dissertation 4.4, 6.2).

Law: who speaks is checked before what is said: another cluster, another recipient or another disk
under a known id never reaches the core. A command that this node can't take is forwarded once, or
refused with the leader's address; success is never said of a command that was dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from time import monotonic
from typing import Any

from tinyraft.core.entry import Index, Stamp, Term
from tinyraft.core.messages import Reply, Request
from tinyraft.core.sessions import LIMITS
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.status import Health, Status
from tinyraft.errors import (
    ApplyTimeout,
    CommandTooLarge,
    NodeRemoved,
    NoQuorum,
    NotLeader,
    NotStarted,
    ReadFailed,
    TinyraftError,
    WrongCluster,
)
from tinyraft.module import Module
from tinyraft.node.applier import shown as described
from tinyraft.node.membership import (
    Membership,
    known_leader,
    other_disk,
    refuse_other_epoch,
    removed_ids,
    was_removed,
)
from tinyraft.node.node import Node
from tinyraft.node.observers import Ringing
from tinyraft.node.reading import Reading
from tinyraft.node.waiters import Waiter
from tinyraft.storage.data_dir import Identity
from tinyraft.transport.envelope import Envelope, shown
from tinyraft.transport.hosting import Outcome
from tinyraft.transport.remote import Applied, Remote

VISIT_QUERIES = 64  # of a batch, before the module's next entries
VISIT_SECONDS = 0.020  # likewise
MAX_TERM_JUMP = 2**32  # one forged message must not use up the terms for ever


class StreamedWaiter(Waiter):
    """A waiter that knows the number of its command in the caller's stream."""

    __slots__ = ("id",)

    def __init__(
        self, number: int, on_done: Callable[[Sequence[Any]], None], *, stamp: Stamp
    ) -> None:
        """Answer *on_done* for the command *number*."""
        super().__init__(on_done, stamp=stamp)
        self.id = number


class Gate:
    """The door of one node. Thread-safe."""

    def __init__(
        self,
        node: Node,
        *,
        identity: Callable[[], Identity],
        address: str,
        remote: Remote,
        membership: Membership,
        module_query: Callable[[bytes], bytes] | None,
        max_command_bytes: int,
    ) -> None:
        """Guard *node*."""
        self._node = node
        self._identity = identity
        self.address = address
        self._remote = remote
        self.membership = membership
        self.reading = Reading(node, identity=identity, remote=remote)
        self._module_query = module_query
        self._max_command_bytes = max_command_bytes

    # --- peers --------------------------------------------------------------------------------

    def admit(self, envelope: Envelope) -> None:
        """Check who speaks.

        Raises:
            NotStarted: This node has not joined a cluster yet; the sender tries again.
            WrongCluster: Another cluster, or another recipient.
            IdReused: Another disk under the id of a member.
            NodeRemoved: The sender was removed.
        """
        identity = self._identity()
        if not identity.cluster_id:
            raise NotStarted(f"{identity.node_id} has not finished joining; try again")
        if envelope.cluster_id != identity.cluster_id:
            raise WrongCluster(
                f"{shown(envelope.sender)} is of cluster {shown(envelope.cluster_id)},"
                f" {identity.node_id} of cluster {identity.cluster_id}: check the addresses"
            )
        refuse_other_epoch(identity, envelope.sender, envelope.recovery_epoch)
        if envelope.recipient != identity.node_id:
            raise WrongCluster(
                f"{envelope.sender} wants {shown(envelope.recipient)}, but this is"
                f" {identity.node_id}: an address is used twice"
            )
        configuration = self._node.configuration()
        sender = envelope.sender
        if sender in configuration.removed and sender in self._node.look(removed_ids):
            raise was_removed(sender)
        member = configuration.get(sender)
        if member is not None and member.incarnation not in (0, envelope.incarnation):
            raise other_disk(sender)

    def receive(self, request: Request, envelope: Envelope, *, timeout: float) -> Reply:
        """Take a peer's request; block until the disk vouches for the reply."""
        self.admit(envelope)
        if request.term > self._node.leader()[2] + MAX_TERM_JUMP:
            raise WrongCluster(
                f"{envelope.sender} claims term {request.term}; nobody gets that far ahead of"
                f" {self._node.me} by elections"
            )
        return self._node.receive(request, sender=envelope.sender, timeout=timeout)

    def peer_lost(self, envelope: Envelope, *, term: Term) -> None:
        """A leader's stream ended without a goodbye."""
        self._node.peer_lost(envelope.sender, term=term)

    # --- commands -----------------------------------------------------------------------------

    def apply(self, command: bytes, *, timeout: float, forwarded: bool) -> Applied:
        """Apply *command* here, or have the leader do it; block for the answer.

        Raises:
            NotApplied: Nothing was appended; the subclass says why.
            MaybeApplied: The outcome is unknown; likewise.
            Rejected: The module's answer.
            ModuleError: The module raised something else.
        """
        self.check_size(command)
        self.refuse_if_removed()
        deadline = monotonic() + timeout
        while True:
            if self._node.leads:
                try:
                    return self.apply_here(command, deadline=deadline)
                except NotLeader:
                    if self._node.leads:
                        raise  # it hands its leadership over
            elif leader := known_leader(self._node):
                address, refusal = leader
                if forwarded:
                    raise refusal
                return self._remote.apply(address, command, timeout=deadline - monotonic())
            left = deadline - monotonic()
            if left <= 0 or not self._node.wait_until(self._can_decide, timeout=left):
                raise NoQuorum(f"{self._node.me} knew no leader for {timeout:.3g} s")

    def apply_here(self, command: bytes, *, deadline: float | None) -> Applied:
        """Propose *command* to this very node and wait for the module's answer."""
        waiter = Waiter()
        self._node.propose([command], [waiter])
        try:
            left = None if deadline is None else deadline - monotonic()
            result = waiter.wait(left)
        except ApplyTimeout:
            if self._node.withdraw(waiter):
                raise NoQuorum(f"{self._node.me} could not append the command in time") from None
            raise
        return Applied(waiter.index, waiter.term, result)

    def propose(
        self,
        commands: Sequence[tuple[int, bytes, Stamp]],
        answer: Callable[[Sequence[Outcome]], None],
    ) -> None:
        """Propose numbered *commands*; *answer* is called with each of them once, in any order."""
        waiters: list[StreamedWaiter] = []
        proposed: list[bytes] = []
        for number, command, stamp in commands:
            waiter = StreamedWaiter(number, answer, stamp=stamp)
            if stamp.opens_session:
                waiters.append(waiter)
                proposed.append(LIMITS)
            elif len(command) > self._max_command_bytes:
                waiter.resolve(None, self._too_large(command))
            else:
                waiters.append(waiter)
                proposed.append(command)
        try:
            if proposed:
                self._node.propose(proposed, waiters)
        except TinyraftError as error:
            for waiter in waiters:
                waiter.resolve(None, error)

    def refuse_if_removed(self) -> None:
        """Refuse to take commands for a cluster that this node no longer belongs to.

        Raises:
            NodeRemoved: It does not.
        """
        if self._node.is_removed:
            raise NodeRemoved(
                f"{self._node.me} was removed from the cluster and takes no commands: send them to"
                " a member, and start this node with an empty data directory and a new NODE_ID to"
                " bring it back"
            )

    def check_size(self, command: bytes) -> None:
        """Refuse what is too long.

        Raises:
            CommandTooLarge: It is.
        """
        if len(command) > self._max_command_bytes:
            raise self._too_large(command)

    def _too_large(self, command: bytes) -> CommandTooLarge:
        return CommandTooLarge(
            f"a command of {len(command)} bytes; the limit is {self._max_command_bytes}"
            " (RAFT_MAX_COMMAND_BYTES)"
        )

    def _can_decide(self) -> bool:
        return self._node.leads or known_leader(self._node) is not None

    # --- reads --------------------------------------------------------------------------------

    def read_index(self, envelope: Envelope, *, timeout: float) -> Index:
        """Give a follower the index that its read must have seen.

        Raises:
            NotLeader: This node does not lead.
            NoQuorum: No majority confirmed in *timeout* seconds that it does.
        """
        self.admit(envelope)
        return self.reading.index_here(timeout=timeout)

    def query(
        self,
        request: bytes,
        *,
        current_in: float | None = None,
        min_index: Index = 0,
        timeout: float = 0.0,
    ) -> tuple[bytes, Index]:
        """Ask the module's ``query`` under the mutex: as stale as this node is.

        With *current_in* the answer is linearizable, found in so many seconds; with *min_index* it
        has seen at least that entry, within *timeout* seconds.

        Raises:
            ReadFailed: The module has none, or it raised or answered something else than bytes.
            NotApplied: This node could not make sure in time that it is not behind.
        """
        (answer, *_), index = self.query_many(
            [request], current_in=current_in, min_index=min_index, timeout=timeout
        )
        if isinstance(answer, TinyraftError):
            raise answer
        return answer, index

    def query_many(
        self,
        requests: Sequence[bytes],
        *,
        current_in: float | None = None,
        min_index: Index = 0,
        timeout: float = 0.0,
    ) -> tuple[list[bytes | TinyraftError], Index]:
        """Ask the module's ``query`` about the first of *requests*, in one visit; as `query`.

        How many are answered, one at least, is bounded: others want the mutex, too.

        Returns:
            Each result, or why there is none; and the entry that all of them have seen.
        """
        node, query = self._node, self._module_query
        if query is None:
            raise ReadFailed("the module has no query method")
        if current_in is not None:
            self.reading.make_current(timeout=current_in)
        elif min_index:
            self.reading.wait_applied(min_index, timeout=timeout)

        def ask(_module: Module) -> tuple[list[bytes | TinyraftError], Index]:
            answers: list[bytes | TinyraftError] = []
            until = monotonic() + VISIT_SECONDS
            for request in requests[:VISIT_QUERIES]:
                answers.append(asked(query, request))
                if monotonic() > until:
                    break
            return answers, node.applier.last_applied

        return node.read(ask)

    # --- snapshots ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Take a snapshot; block until it is safe on disk. Raises as `Snapshotter.take`."""
        return self._node.snapshotter.take().meta

    def exporting(self) -> AbstractContextManager[tuple[Snapshot, Iterator[bytes]]]:
        """Take a snapshot, and give its file in pieces. Raises as `Snapshotter.take`."""
        return self._node.snapshotter.exporting()

    def status(self) -> Status:
        """Describe this node; the parts are of one moment."""
        identity = self._identity()
        return replace(
            self._node.status(),
            cluster_id=identity.cluster_id,
            address=self.address,
            incarnation=identity.incarnation,
        )

    def health(self) -> Health:
        """Tell what a probe asks."""
        node = self._node
        known, is_alive = node.known_leader(), node.why_it_ends() is None
        return Health(is_alive, known.is_ready, is_alive and known.is_self, node.is_leaving)

    def watching(self, ring: Callable[[], object]) -> AbstractContextManager[None]:
        """Call *ring* whenever `health` may have changed; under locks, so it only sets a flag."""
        return self._node.observers.watching(Ringing(ring))

    def greeting(self, *, patience: float = 0.0) -> tuple[tuple[str, str], ...]:
        """Say at the start of an answer where the leader is, and which cluster this is.

        Where no leader is known this waits for one, at most *patience* seconds.
        """
        if patience > 0:
            self._node.wait_until(self._can_decide, timeout=patience)
        leader, address, term = self._node.leader()
        return (
            ("tinyraft-node", self._node.me),
            ("tinyraft-cluster", self._identity().cluster_id),
            ("tinyraft-leader-id", leader or ""),
            ("tinyraft-leader-address", address),
            ("tinyraft-leader-term", str(term)),
        )


def asked(query: Callable[[bytes], object], request: bytes) -> bytes | ReadFailed:
    """Ask a module's *query*; what it does wrong is an answer, too."""
    try:
        answer = query(request)
    except Exception as error:  # noqa: BLE001  # users' code
        failed = ReadFailed(f"the module's query raised {described(error)}")
        failed.__cause__ = error
        return failed
    if isinstance(answer, bytes):
        return answer
    return ReadFailed(f"the module's query answered a {type(answer).__name__}, not bytes")
