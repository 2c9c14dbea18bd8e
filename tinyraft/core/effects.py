"""What a visit to the core leaves to be done, as values (dissertation 3.8, 10.2.1).

Law: nothing that vouches for the disk overtakes the disk. Each write has a `Mark`; a reply that
depends on it is `Held`, and only a `Synced`, which the writer makes after a finished sync, opens
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NewType, TypeVar

from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import Entry, Index, NodeId, Term
from tinyraft.core.reads import ReadAnswer

T = TypeVar("T")

Mark = NewType("Mark", int)
Synced = NewType("Synced", int)


@dataclass(slots=True)
class HardState:
    """What a member must never forget: its term, and whom it voted for in it."""

    term: Term
    voted_for: NodeId | None


@dataclass(slots=True)
class Write:
    """One change of the disk: hard state, then the new base or the cut, then the entries behind it.

    A base says that a snapshot took the place of the whole log: it is dropped, and goes on behind
    that index and term.
    """

    mark: Mark
    hard_state: HardState | None
    cut_from: Index | None
    entries: Sequence[Entry]
    base: tuple[Index, Term] | None = None


class InvariantViolated(AssertionError):
    """A rule of Raft is broken: a defect. The node stops; it never repairs."""


class Held(Generic[T]):
    """A message that may not leave before its mark is synced."""

    __slots__ = ("_value", "after")

    def __init__(self, value: T, *, after: Mark) -> None:
        """Seal *value* until *after* is on disk."""
        self._value = value
        self.after = after

    def release(self, synced: Synced) -> T:
        """Open it.

        Raises:
            InvariantViolated: The disk is not that far.
        """
        if synced < self.after:
            raise InvariantViolated(f"released at {synced}, held until {self.after}")
        return self._value

    def __repr__(self) -> str:
        """Show the mark, and what waits for it."""
        return f"Held({self._value!r}, after={self.after})"


@dataclass(slots=True)
class Notice:
    """A fact for the log and for the test scripts; the core itself logs nothing."""

    name: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class OnDisk:
    """Entries in (*after*, *to*] are wanted, and only the disk still holds them."""

    after: Index
    to: Index


@dataclass(slots=True, frozen=True)
class InSnapshot:
    """What is wanted is not in the log any more, or never was: a snapshot has it."""


@dataclass(slots=True)
class Effects:
    """All that happened since the last `take`."""

    write: Write | None  # into the writer's queue before the lock is left
    bulk: frozenset[NodeId]  # peers with something to append: ring their bulk lane
    control: frozenset[NodeId]  # peers with a vote, heartbeat or transfer due: ring the other one
    commits: bool  # there may be more to apply: ring the applier
    configuration: Configuration | None  # another one is in force: peers may have come or gone
    notices: tuple[Notice, ...]
    reads: Sequence[ReadAnswer]  # answered: their index, or that leadership was lost
