"""The rules that no step may break, looked at after every one (dissertation figure 3.2, 3.6).

Law: reads, never repairs. Cheap enough to stay on in production.
"""

from __future__ import annotations

from typing import Protocol

from tinyraft.core.effects import InvariantViolated
from tinyraft.core.entry import Index, NodeId, Term
from tinyraft.core.log import Log
from tinyraft.core.role import Role


class Watched(Protocol):
    """What is looked at."""

    term: Term
    voted_for: NodeId | None
    commit_index: Index
    log: Log
    role: Role

    @property
    def leadership(self) -> object | None:
        """Whatever only a leader has."""


class Watch:
    """Remembers what was, so that it can tell what must not have changed."""

    __slots__ = ("_commit_index", "_term", "_voted_for")

    def __init__(self, raft: Watched) -> None:
        """Begin with *raft* as recovery left it."""
        self._term = raft.term
        self._voted_for = raft.voted_for
        self._commit_index = raft.commit_index

    def look(self, raft: Watched) -> None:
        """Compare *raft* with the last look, and with itself.

        Raises:
            InvariantViolated: A rule is broken; the node must stop.
        """
        log = raft.log
        if raft.term < self._term:
            raise InvariantViolated(f"the term fell from {self._term} to {raft.term}")
        if raft.term == self._term and self._voted_for not in (None, raft.voted_for):
            raise InvariantViolated(f"a second vote in term {raft.term}")
        if not self._commit_index <= raft.commit_index <= log.last_index:
            raise InvariantViolated(
                f"commit index {self._commit_index} became {raft.commit_index}"
                f" in a log that ends at {log.last_index}"
            )
        if log.durable_index > log.last_index:
            raise InvariantViolated(f"{log.durable_index} is durable, {log.last_index} the end")
        if log.last_term > raft.term:
            raise InvariantViolated(f"an entry of term {log.last_term} in term {raft.term}")
        if (raft.role is Role.LEADER) != (raft.leadership is not None):
            raise InvariantViolated(f"the role is {raft.role}, but the leadership differs")
        self._term, self._voted_for = raft.term, raft.voted_for
        self._commit_index = raft.commit_index
