"""The members as one node knows them: a value for people and programs."""

from __future__ import annotations

from dataclasses import dataclass

from tinyraft.core.configuration import Member
from tinyraft.core.entry import Index, NodeId


@dataclass(slots=True, frozen=True)
class Members:
    """A configuration and where it stands in the log.

    Attributes:
        index: Its entry: what ``expect=`` of a change compares with.
        is_committed: Whether this node knows that a majority has it; until then it may be undone.
        members: Everybody, by id.
        removed: The ids that are refused for ever.
        leader_id: Who leads, as far as this node knows; "" when it knows nobody.
        leader_address: Where the leader is dialled; "" when unknown.
        term: The term of that knowledge.
    """

    index: Index
    is_committed: bool
    members: tuple[Member, ...]
    removed: tuple[NodeId, ...]
    leader_id: str = ""
    leader_address: str = ""
    term: int = 0

    def get(self, node_id: str) -> Member | None:
        """Look a member up by its id; None for a stranger."""
        return next((m for m in self.members if m.id == node_id), None)
