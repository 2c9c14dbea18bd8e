"""Taking the leader's snapshot, piece by piece (dissertation 5.3).

Law: what is acknowledged as complete was synced, read back and given its name before; the core
learns of it only then. Pieces go to the disk as they come, outside the core's lock, and one that
does not fit the place is answered with the place.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol, TypeAlias, TypeVar

from tinyraft.core.effects import Held
from tinyraft.core.entry import NodeId
from tinyraft.core.messages import InstallReply, InstallSnapshot, Reply
from tinyraft.core.raft import Raft
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import StorageError
from tinyraft.storage.snapshot_file import BadSnapshot
from tinyraft.storage.snapshots import Incoming, Snapshots

T = TypeVar("T")
Answer: TypeAlias = Held[Reply] | Reply


class Turn(Protocol):
    """`Node.turn`."""

    def __call__(self, event: Callable[[Raft], T], *, rings_writer: bool = True) -> T:
        """Visit the core."""


class Installer:
    """The follower's side. Thread-safe."""

    def __init__(
        self, shelf: Snapshots, *, turn: Turn, came: Callable[[], None] = lambda: None
    ) -> None:
        """Put what comes on *shelf*, and tell that it *came*."""
        self._shelf = shelf
        self._turn = turn
        self._came = came
        self._lock = Lock()  # one piece at a time; held over disk calls, never with the core's

    def take(self, piece: InstallSnapshot, sender: NodeId) -> Answer:
        """Write *piece*; the last one makes the snapshot the beginning of this log.

        Raises:
            StorageFailed: The disk has no room, or failed. Nothing that was there is harmed.
            StorageError: What came is no sound snapshot.
        """
        answer = self._turn(lambda raft: raft.step_install(piece, sender), rings_writer=False)
        if answer is not None:
            return answer
        with self._lock:
            incoming = self._shelf.receive(
                id=piece.id, index=piece.index, term=piece.snapshot_term, size=piece.size
            )
            there = incoming.add(piece.offset, piece.data)
            if there < piece.size:
                return InstallReply(piece.term, there)
            snapshot = self._publish(incoming)
        answer = self._turn(
            lambda raft: raft.install(snapshot, term=piece.term, sender=sender),
            rings_writer=False,
        )
        self._came()
        return answer

    def _publish(self, incoming: Incoming) -> Snapshot:
        try:
            return incoming.publish().meta
        except BadSnapshot as bad:
            raise StorageError(
                f"the leader's snapshot {incoming.wanted} can't be read: {bad}; it was dropped"
            ) from bad
