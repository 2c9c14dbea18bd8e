"""What a node says of itself: a value made in one visit, so its parts belong together."""

from __future__ import annotations

from dataclasses import dataclass

from tinyraft.core.configuration import Member
from tinyraft.core.entry import Index, Term
from tinyraft.core.role import Role


@dataclass(slots=True, frozen=True)
class Status:
    """A node at one moment.

    Attributes:
        node_id: This node.
        cluster_id: Its cluster; "" before it has joined one.
        address: Where its peers dial it.
        role: Follower, pre-candidate, candidate or leader.
        term: Its term.
        leader_id: Who leads, as far as it knows; "" when it knows nobody.
        leader_address: Where the leader is dialled; "" when unknown.
        commit_index: The last entry known to be committed.
        last_applied: The last entry that the module has seen.
        last_index: The end of its log.
        durable_index: The last entry on its disk.
        members: The configuration in force.
        is_ready: It knows a leader, and the module has seen what that leader had committed.
        failed: Why it stopped working; "" while it works.
        incarnation: The number of its data directory.
        removed: It was removed from the cluster: it takes no part, and only stale reads.
        snapshot_index: The last entry in its newest snapshot; 0 without one.
        first_index: The first entry that its log still has.
        diverged: Its module came to something else than a majority's: it only replicates.
        sessions: Callers whose answers it remembers (`docs/sessions.md` has the bounds).
        request_ids: Request ids whose answers it remembers.
        storage_full: Why it takes no commands, and what to do; "" while its disk has room.
    """

    node_id: str
    cluster_id: str
    address: str
    role: Role
    term: Term
    leader_id: str
    leader_address: str
    commit_index: Index
    last_applied: Index
    last_index: Index
    durable_index: Index
    members: tuple[Member, ...]
    is_ready: bool
    failed: str
    incarnation: int
    removed: bool = False
    storage_full: str = ""
    snapshot_index: Index = 0
    first_index: Index = 1
    diverged: bool = False
    sessions: int = 0
    request_ids: int = 0


@dataclass(slots=True, frozen=True)
class Health:
    """What a probe asks.

    Attributes:
        is_alive: It works: has not failed, is not removed, is not shutting down.
        is_ready: It is alive, and has seen what a leader had committed.
        leads: It is alive, and leads.
        is_leaving: It is shutting down: nothing more will change.
    """

    is_alive: bool = False
    is_ready: bool = False
    leads: bool = False
    is_leaving: bool = True
