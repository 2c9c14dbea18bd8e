"""What the parts of a simulation know of each other.

Law: names only, so that each file can be read alone and none imports in a circle: a member, its
parts, its streams and the callers stand in a `Surroundings`, which `world` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from tinyraft.core.effects import HardState, Write
from tinyraft.core.entry import Entry, Index, NodeId
from tinyraft.core.messages import Reply, Request
from tinyraft.core.raft import Raft
from tinyraft.node.node import Node
from tinyraft.testing.history import Operation
from tinyraft.testing.network import SimNetwork
from tinyraft.testing.schedule import Event, Schedule
from tinyraft.testing.story import Story

Action = Callable[[], object]
Over = Callable[[Reply | None], None]


class Process(Protocol):
    """A member, as its parts, its peers and the judges see it."""

    name: NodeId
    life: int
    is_up: bool
    is_flipped: bool
    is_out: bool
    pace: float
    applied: int
    raft: Raft
    node: Node
    hard_state: HardState
    durable: list[Entry]
    lost_writes: list[Write]
    heard_at: dict[NodeId, int]
    search: Any  # how it is found, in this life

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def world(self) -> Surroundings:
        """Where it stands."""

    @property
    def is_out_of_service(self) -> bool:
        """Whether the node has stopped working."""

    def run(self, life: int, what: str, action: Action) -> None:
        """Let *action* happen in that *life*."""

    def after(self, seconds: float, what: str, action: Action) -> Event:
        """Let *action* happen to this life in *seconds*."""

    def wake_up(self) -> float:
        """Draw how long a thread takes to wake up."""

    def oversleep(self) -> float:
        """Draw how much later than due a timer wakes up."""

    def sync_seconds(self) -> float:
        """Draw how long a sync takes."""

    def apply_seconds(self) -> float:
        """Draw how long the module takes."""

    def writes(self, batch: Sequence[Write]) -> None:
        """Learn that *batch* is about to be written."""

    def synced(self, batch: Sequence[Write]) -> None:
        """Learn that *batch* is on disk."""

    def heard(self, peer: NodeId) -> None:
        """Learn that a reply of *peer* came in."""

    def call(self, address: str, peer: NodeId, request: Request, over: Over) -> None:
        """Send *request*; *over* is told the reply."""

    def take(self, request: Request, sender: NodeId, reply: Over) -> None:
        """Take a peer's request."""

    def peer_lost(self, peer: NodeId, term: int) -> None:
        """Learn that a stream of *peer* ended without a goodbye."""


class Judge(Protocol):
    """Who checks the rules."""

    def look(self, member: Any, /) -> None:
        """Check what an event may have changed."""

    def persisted(self, member: Any, write: Write, /) -> None:
        """Learn that *write* is on disk."""

    committed: list[Entry]

    def recovered(
        self, member: Any, state: HardState, entries: list[Entry], snapshot: Index, /
    ) -> list[Entry]:
        """Learn what a member came back with: its whole log."""

    def refused(self, member: Any, /) -> None:
        """Learn that a member refused its disk."""

    def leaves(self, member: Any, to: NodeId, message: Request | Reply, /) -> None:
        """Learn what leaves a member."""


class Surroundings(Protocol):
    """What surrounds all processes."""

    story: Story
    random: Random
    schedule: Schedule
    network: SimNetwork
    streams: list[Any]
    operations: list[Operation]
    acknowledged: Index  # the highest entry whose outcome a client knows

    @property
    def truth(self) -> Judge:
        """Who checks the rules."""

    def see(self, what: str) -> None:
        """Count that something rare was met."""

    def member_at(self, address: str) -> Process | None:
        """Find who listens at *address*."""

    def named(self, address: str) -> Process | None:
        """Find whom a caller reaches that knows *address* as a name."""

    def judge(self, operation: Operation) -> None:
        """Look at an answer."""

    def repeated(self, before: Operation, again: Operation, /) -> None:
        """Look at the second answer to a request id."""

    def judge_failure(self, member: Any, /) -> None:
        """Learn that a node has stopped working."""

    def make_module(self, member: Any, /) -> Any:
        """Make the module of a new life of *member*."""

    def lose_streams(self, member: Any, /) -> None:
        """Break the streams of a process that is gone."""

    def lose_clients(self, member: Any, /) -> None:
        """Let callers learn that a process is gone."""
