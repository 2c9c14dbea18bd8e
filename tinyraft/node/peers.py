"""The lanes to all present peers: made, moved and ended as the configuration changes.

Law: reconciled by one thread (the ticker's), looked up by any; the table is replaced, never
changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import NodeId
from tinyraft.core.raft import Raft
from tinyraft.logs import Log
from tinyraft.node.clock import CLOCK, Clock
from tinyraft.node.lanes import APPEND_BYTES, BulkLane, ControlLane, Fetch, PeerLink, Turn
from tinyraft.node.loop import Died, Launch, Running, in_thread
from tinyraft.node.shipment import Shipments
from tinyraft.node.sightings import Sightings


class Connect(Protocol):
    """Makes the link to one peer."""

    def __call__(self, peer: NodeId, address: str, /) -> PeerLink:
        """Return a link; nothing is dialled yet."""


@dataclass(slots=True)
class Peer:
    """One peer's lanes, threads and link."""

    address: str
    link: PeerLink
    control: ControlLane
    bulk: BulkLane
    loops: tuple[Running, Running]

    def stop(self) -> None:
        """Let both threads end."""
        self.control.stop()
        self.bulk.stop()

    def has_ended(self) -> bool:
        """Tell whether both threads have ended. Does not wait."""
        return all([loop.join(0.0) for loop in self.loops])


class Peers:
    """Every peer that the configuration in force names."""

    def __init__(
        self,
        *,
        me: NodeId,
        connect: Connect,
        sightings: Sightings,
        turn: Turn,
        glance: Turn,
        fetch: Fetch,
        shipments: Shipments,
        died: Died,
        election_timeout: float,
        log: Log,
        launch: Launch = in_thread,
        clock: Clock = CLOCK,
        append_bytes: int = APPEND_BYTES,
    ) -> None:
        """Begin with nobody."""
        self._me = me
        self._connect = connect
        self._sightings = sightings
        self._turn = turn
        self._glance = glance
        self._fetch = fetch
        self._shipments = shipments
        self._died = died
        self._election_timeout = election_timeout
        self._log = log
        self._launch = launch
        self._clock = clock
        self._append_bytes = append_bytes
        self._peers: dict[NodeId, Peer] = {}
        self._gone: list[Peer] = []

    def reconcile(self, configuration: Configuration, raft: Raft) -> None:
        """Serve exactly the members of *configuration*. Does not wait for the threads that end."""
        where = self._sightings.address_of
        wanted = {m.id: where(m) for m in configuration.members if m.id != self._me}
        peers = dict(self._peers)
        for node, peer in self._peers.items():
            if wanted.get(node) != peer.address:
                peer.stop()
                peer.link.close()
                self._gone.append(peers.pop(node))
        self._gone = [peer for peer in self._gone if not peer.has_ended()]  # members move for ever
        for node, address in wanted.items():
            if node not in peers:
                peers[node] = self._open(node, address, raft)
        self._peers = peers

    def _open(self, node: NodeId, address: str, raft: Raft) -> Peer:
        link = self._connect(node, address)
        bulk = BulkLane(
            node,
            link,
            raft=raft,
            turn=self._turn,
            glance=self._glance,
            log=self._log,
            fetch=self._fetch,
            shipments=self._shipments,
            backoff=min(0.1, self._election_timeout / 10),
            append_bytes=self._append_bytes,
        )
        control = ControlLane(
            node,
            link,
            raft=raft,
            turn=self._turn,
            glance=self._glance,
            log=self._log,
            timeout=max(0.1, self._election_timeout / 2),
            silent_too_long=lambda: self._is_silent(node, bulk),
            clock=self._clock,
        )
        prefix = f"tinyraft-{self._me}"
        loops = (
            self._launch(f"{prefix}-control-{node}", control, died=self._died),
            self._launch(f"{prefix}-bulk-{node}", bulk, died=self._died),
        )
        return Peer(address, link, control, bulk, loops)

    def _is_silent(self, node: NodeId, bulk: BulkLane) -> None:
        """*node* was not heard for an election timeout: perhaps it is not where it was seen."""
        bulk.break_off()
        self._sightings.doubt(node)

    def ring_control(self, nodes: Iterable[NodeId]) -> None:
        """Wake the control lanes of *nodes*. Called under the core's lock."""
        for node in nodes:
            peer = self._peers.get(node)
            if peer is not None:
                peer.control.ring()

    def ring_bulk(self, nodes: Iterable[NodeId]) -> None:
        """Wake the bulk lanes of *nodes*. Called under the core's lock."""
        for node in nodes:
            peer = self._peers.get(node)
            if peer is not None:
                peer.bulk.news()

    def ring_all(self) -> None:
        """Wake every lane: the role changed, or there are new peers."""
        for peer in self._peers.values():
            peer.control.ring()
            peer.bulk.ring()

    def say_goodbye(self) -> None:
        """Let the lanes end; open streams say that they end on purpose."""
        for peer in self._peers.values():
            peer.stop()

    def close(self, *, deadline: float) -> None:
        """Wait for the threads until *deadline* (monotonic), then break their links off."""
        everybody = [*self._peers.values(), *self._gone]
        for peer in everybody:
            peer.stop()  # again: one may have come behind the goodbye
        for patient in (True, False):
            for peer in everybody:
                for loop in peer.loops:
                    loop.join(max(0.0, deadline - monotonic()) / 2 if patient else 1.0)
                peer.link.close()
