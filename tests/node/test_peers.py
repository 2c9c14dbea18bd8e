"""The peers of a node: served exactly as the configuration says, and all of them ended."""

from __future__ import annotations

from time import monotonic
from typing import Any

from tests.cluster import empty_shelf
from tests.node.cores import configuration, make_core
from tinyraft.core.entry import NodeId
from tinyraft.core.sighting import Sighting
from tinyraft.logs import Log
from tinyraft.node.peers import Peers
from tinyraft.node.shipment import Shipments
from tinyraft.node.sightings import Sightings


class SilentLink:
    """A link that nobody uses."""

    def close(self) -> None:
        """End."""


class AtWork:
    """A part that ends as soon as it is told to."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def join(self, timeout: float, /) -> bool:
        """Tell whether it was told to."""
        del timeout
        return bool(self.part.is_stopping)


def make_peers(sightings: Sightings, launched: list[AtWork]) -> Peers:
    """Make the peers of `a`."""

    def launch(name: str, part: Any, *, died: Any) -> AtWork:
        del name, died
        launched.append(AtWork(part))
        return launched[-1]

    return Peers(
        me=NodeId("a"),
        connect=lambda node, address: SilentLink(),  # type: ignore[arg-type,return-value]
        sightings=sightings,
        turn=lambda event: None,
        glance=lambda event: None,
        fetch=lambda after, to, max_bytes: [],
        shipments=Shipments(empty_shelf()),
        died=lambda thread, error: None,
        election_timeout=1.0,
        log=Log("peers"),
        launch=launch,
    )


def test_a_peer_that_comes_behind_the_goodbye_ends_too() -> None:
    """The ticker may see a new member while the node says goodbye; no lane outlives the node."""
    launched: list[AtWork] = []
    peers = make_peers(Sightings(NodeId("a")), launched)
    peers.reconcile(configuration("a", "b"), make_core("a", "a", "b"))
    peers.say_goodbye()
    peers.reconcile(configuration("a", "b", "c"), make_core("a", "a", "b", "c"))
    peers.close(deadline=monotonic() + 1.0)
    assert [True] * 4 == [loop.join(0) for loop in launched]


def test_of_a_member_that_moves_again_and_again_nothing_stays() -> None:
    """Each address had a link and two threads; only those that have not ended yet are kept (P117).

    The last one hangs in a call.
    """
    launched: list[AtWork] = []
    sightings, core = Sightings(NodeId("a")), make_core("a", "a", "b")
    peers, members = make_peers(sightings, launched), configuration("a", "b")
    for number in range(50):
        seen = Sighting(NodeId("b"), f"b.example:{number + 2}", incarnation=98, since_us=number)
        sightings.take(seen, members, first_hand=True)
        peers.reconcile(members, core)
    assert 100 == len(launched)
    assert [] == peers._gone
    launched[-1].join = lambda timeout, /: False  # type: ignore[method-assign]
    sightings.doubt(NodeId("b"))
    peers.reconcile(members, core)
    assert [launched[-3]] == [peer.loops[1] for peer in peers._gone]
