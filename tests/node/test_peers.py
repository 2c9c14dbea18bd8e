"""The peers of a node: served exactly as the configuration says, and all of them ended."""

from __future__ import annotations

from time import monotonic
from typing import Any

from tests.cluster import empty_shelf
from tests.node.cores import configuration, make_core
from tinyraft.core.entry import NodeId
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


def test_a_peer_that_comes_behind_the_goodbye_ends_too() -> None:
    """The ticker may see a new member while the node says goodbye; no lane outlives the node."""
    launched: list[AtWork] = []

    def launch(name: str, part: Any, *, died: Any) -> AtWork:
        del name, died
        launched.append(AtWork(part))
        return launched[-1]

    peers = Peers(
        me=make_core("a", "a", "b").me,
        connect=lambda node, address: SilentLink(),  # type: ignore[arg-type,return-value]
        sightings=Sightings(NodeId("a")),
        turn=lambda event: None,
        fetch=lambda after, to, max_bytes: [],
        shipments=Shipments(empty_shelf()),
        died=lambda thread, error: None,
        election_timeout=1.0,
        log=Log("peers"),
        launch=launch,
    )
    peers.reconcile(configuration("a", "b"), make_core("a", "a", "b"))
    peers.say_goodbye()
    peers.reconcile(configuration("a", "b", "c"), make_core("a", "a", "b", "c"))
    peers.close(deadline=monotonic() + 1.0)
    assert [True] * 4 == [loop.join(0) for loop in launched]
