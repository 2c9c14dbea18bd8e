"""What the handlers share: whom they ask, in which pool they run, how they refuse.

Law: no decision is made here, and no error code is chosen (`statuses` has the table). A handler's
pool is an attribute of its function, which a bound method can't have: that is why the handlers are
closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol, TypeVar, cast

import grpc

from tinyraft.core.configuration import Change
from tinyraft.core.entry import Index, Stamp
from tinyraft.core.members import Members
from tinyraft.core.messages import Reply, Request
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.status import Health, Status
from tinyraft.errors import Overloaded, TinyraftError
from tinyraft.transport import announce
from tinyraft.transport.envelope import Envelope, Malformed
from tinyraft.transport.remote import FORWARDED, Applied, Joined, JoinOrder
from tinyraft.transport.statuses import to_status

T = TypeVar("T")
Context = grpc.ServicerContext

UNTIMED_SECONDS = 60.0  # how long a call without a deadline may hold a thread


class Outcome(Protocol):
    """A streamed command that has its answer."""

    id: int
    index: int
    term: int
    result: bytes | None
    error: TinyraftError | None

    @property
    def stages(self) -> tuple[int, int, int]:
        """Microseconds that it waited, was replicated and was applied."""


class Gate(Protocol):
    """What the handlers ask of the node; `tinyraft.node.gate` says what each raises."""

    def receive(self, request: Request, envelope: Envelope, *, timeout: float) -> Reply:
        """Take a peer's request; block until the reply may leave."""

    def admit(self, envelope: Envelope) -> None:
        """Check who speaks."""

    def peer_lost(self, envelope: Envelope, *, term: int) -> None:
        """Learn that a leader's stream ended without a goodbye."""

    def apply(self, command: bytes, *, timeout: float, forwarded: bool) -> Applied:
        """Apply a command; block for the answer."""

    def propose(
        self,
        commands: Sequence[tuple[int, bytes, Stamp]],
        answer: Callable[[Sequence[Outcome]], None],
    ) -> None:
        """Propose numbered commands; *answer* is called with each of them once."""

    @property
    def membership(self) -> Membership:
        """Who belongs to the cluster."""

    def snapshot(self) -> Snapshot:
        """Take a snapshot; block until it is safe."""

    def exporting(self) -> AbstractContextManager[tuple[Snapshot, Iterator[bytes]]]:
        """Take a snapshot, and give its file in pieces."""

    def read_index(self, envelope: Envelope, *, timeout: float) -> Index:
        """Give a follower the index of its read."""

    def query(
        self,
        request: bytes,
        *,
        current_in: float | None = None,
        min_index: Index = 0,
        timeout: float = 0.0,
    ) -> tuple[bytes, Index]:
        """Ask the module; return its answer and what was applied."""

    def query_many(
        self,
        requests: Sequence[bytes],
        *,
        current_in: float | None = None,
        min_index: Index = 0,
        timeout: float = 0.0,
    ) -> tuple[list[bytes | TinyraftError], Index]:
        """Ask the module the first of several *requests*; likewise."""

    def status(self) -> Status:
        """Describe the node."""

    def health(self) -> Health:
        """Tell what a probe asks."""

    def watching(self, ring: Callable[[], object]) -> AbstractContextManager[None]:
        """Call *ring* whenever that may have changed."""

    def greeting(self, *, patience: float = 0.0) -> tuple[tuple[str, str], ...]:
        """Say which cluster this is, and where its leader; wait *patience* seconds to know it."""


class Membership(Protocol):
    """What the handlers ask about members; `tinyraft.node.membership` says what each raises."""

    def join(self, order: JoinOrder, *, timeout: float, forwarded: bool) -> Joined:
        """Let a node in; block until that is committed."""

    def announced(self, announcement: announce.Announcement) -> announce.Answer:
        """Hear where a member is now."""

    def members(self) -> Members:
        """Tell who is there."""

    def change(
        self, change: Change, *, expect: Index | None, timeout: float, forwarded: bool
    ) -> Index:
        """Change one member; block until that is committed."""

    def transfer(self, to: str, *, timeout: float, forwarded: bool) -> str:
        """Hand leadership over; block until somebody has it."""


def in_pool(handler: Callable[..., T], pool: ThreadPoolExecutor) -> Callable[..., T]:
    """Let gRPC run *handler* in *pool*."""

    def closure(request: Any, context: Context) -> T:
        return handler(request, context)

    closure.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return closure


def answering(handler: Callable[[Any, Context], T]) -> Callable[[Any, Context], T]:
    """Turn what *handler* raises into a status."""

    def answered(request: Any, context: Context) -> T:
        try:
            return handler(request, context)
        except (TinyraftError, Malformed) as error:
            refuse(context, error)

    return answered


def refuse(context: Context, error: TinyraftError | Malformed) -> NoReturn:
    """End a call with *error*."""
    code, details, trailers = to_status(error)
    context.set_trailing_metadata(trailers)
    context.abort(code, details)


class Admission:
    """Counts what is under way below the pool's size: above it gRPC queues without a word."""

    def __init__(self, limit: int, what: str) -> None:
        """Let *limit* in at once."""
        self._limit = limit
        self._what = what
        self._inside: set[object] = set()

    def enter(self) -> object:
        """Take a place.

        Raises:
            Overloaded: There is none.
        """
        if len(self._inside) >= self._limit:
            raise Overloaded(f"{self._limit} {self._what} are being served; try again later")
        place = object()
        self._inside.add(place)
        return place

    def leave(self, place: object) -> None:
        """Give the place back."""
        self._inside.discard(place)

    def guarding(self, handler: Callable[[Any, Context], T]) -> Callable[[Any, Context], T]:
        """Take a place for each call of *handler*."""

        def guarded(request: Any, context: Context) -> T:
            place = self.enter()
            try:
                return handler(request, context)
            finally:
                self.leave(place)

        return guarded


def time_left(context: Context) -> float:
    """Seconds to work in; what remains of the caller's is for the answer to arrive in time."""
    left = cast("float | None", context.time_remaining())
    return UNTIMED_SECONDS if left is None else min(left - min(0.1, left / 5), UNTIMED_SECONDS)


def is_forwarded(context: Context) -> bool:
    """Tell whether another node passed this call on."""
    return any(key == FORWARDED for key, _ in context.invocation_metadata() or ())
