"""Where a process was seen: a value that nodes tell each other; the core itself ignores it."""

from __future__ import annotations

from dataclasses import dataclass

from tinyraft.core.entry import NodeId


@dataclass(slots=True, frozen=True)
class Sighting:
    """Where a process listens, and since when, by its own clock."""

    id: NodeId
    address: str
    incarnation: int
    since_us: int
