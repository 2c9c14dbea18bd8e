"""When a snapshot is taken, and what may go once it is there (dissertation 5.1, 5.2).

Law: the module is only asked for a quick copy under its mutex; everything slow happens outside. A
snapshot counts when it is synced and was read back; only then older ones go, and of the log no
more than what the *older* of two kept ones covers. A snapshot that fails costs nothing but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Protocol, cast

from tinyraft.core.entry import Index
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import ModuleError, NotStarted, TinyraftError
from tinyraft.logs import Log
from tinyraft.module import Module
from tinyraft.node.applier import Applier
from tinyraft.node.bell import Bell
from tinyraft.node.installer import Turn
from tinyraft.node.shipment import PIECE_BYTES, Shipments
from tinyraft.storage.disk import failures
from tinyraft.storage.snapshot_file import SnapshotFile
from tinyraft.storage.snapshots import Snapshots

KEPT = 2


@dataclass(slots=True, frozen=True)
class SnapshotPolicy:
    """When, and how much log stays behind.

    Attributes:
        bytes: Of commands that were applied since the last one.
        entries: Likewise, their number.
        trailing_bytes: Of log that stay for followers that lag a little.
    """

    bytes: int = 64 << 20
    entries: int = 100_000
    trailing_bytes: int = 16 << 20


POLICY = SnapshotPolicy()


class Compacting(Protocol):
    """The log on disk, as far as it can be shortened."""

    def index_before_bytes(self, size: int) -> Index:
        """Return an index behind which about *size* bytes of log lie."""

    def compact(self, index: Index) -> None:
        """Remove what lies wholly at or below *index*."""


@dataclass(slots=True)
class Copy:
    """The replicated state at one index, still to be written."""

    snapshot: Snapshot
    chunks: Iterable[bytes]
    sessions: Iterable[bytes]


class Snapshotter:
    """Takes snapshots and shortens the log. Thread-safe."""

    def __init__(
        self,
        module: Module,
        *,
        applier: Applier,
        shelf: Snapshots,
        journal: Compacting,
        shipments: Shipments,
        turn: Turn,
        cluster_id: Callable[[], str],
        policy: SnapshotPolicy,
        log: Log,
    ) -> None:
        """Take them of *module*, when *policy* says so; one that has no ``snapshot`` has none."""
        self.bell = Bell()
        self.is_stopping = False
        self._copy = cast("Callable[[], Iterable[bytes]] | None", getattr(module, "snapshot", None))
        self._applier = applier
        self._shelf = shelf
        self._journal = journal
        self._shipments = shipments
        self._turn = turn
        self._cluster_id = cluster_id
        self._policy = policy
        self._log = log
        self._lock = Lock()  # one at a time; held over disk calls, never with the core's
        newest = shelf.newest
        self._index: Index = newest.meta.index if newest else 0
        self._bytes = 0
        self._has_come = False

    @property
    def can(self) -> bool:
        """Whether the module has snapshots at all."""
        return self._copy is not None

    def look(self) -> None:
        """Ring when enough was applied. Called by the applier between two batches."""
        if self._copy is not None and self.is_due():
            self.bell.ring()

    def is_due(self) -> bool:
        """Tell whether enough was applied since the last one."""
        applier, policy = self._applier, self._policy
        if applier.bytes_applied - self._bytes >= policy.bytes:
            return True
        if applier.last_applied - self._index < policy.entries:
            return False
        newest = self._shelf.newest  # perhaps the leader's
        return newest is None or applier.last_applied - newest.meta.index >= policy.entries

    def take(self) -> SnapshotFile:
        """Take a snapshot now, in the calling thread; blocks until it is safe on disk.

        Raises:
            ModuleError: The module has no ``snapshot``, or it raised or gave no bytes.
            ModuleFailed: The module applies nothing more.
            NotStarted: Nothing was applied yet.
            ReentrantCall: Called from inside the module.
            StorageFailed: The disk has no room or failed; everything is as it was.
        """
        self._applier.mutex.refuse_reentry()  # before our lock: who has that may want the mutex
        with self._lock:
            copy = self.begin()
            if copy is None:
                newest = self._shelf.newest
                assert newest is not None, "only a newer snapshot makes this one superfluous"
                return newest
            file = self.write(copy)
        self.finish(file)
        return file

    @contextmanager
    def exporting(self) -> Iterator[tuple[Snapshot, Iterator[bytes]]]:
        """Take a snapshot now, and give its file piece by piece; it stays until that is over.

        Raises:
            TinyraftError: As for `take`.
        """
        self.take()
        shipment = self._shipments.begin(term=0)
        try:
            yield shipment.file.meta, self._pieces(shipment.file)
        finally:
            self._shipments.end(shipment)

    def _pieces(self, file: SnapshotFile) -> Iterator[bytes]:
        for offset in range(0, file.size, PIECE_BYTES):
            with failures(file.path):
                yield self._shelf.raw(file, offset=offset, size=PIECE_BYTES)

    # --- the halves around the disk ----------------------------------------------------------

    def begin(self) -> Copy | None:
        """Have the module make its copy; None when there is a newer snapshot, the leader's say."""
        applier, make_copy = self._applier, self._copy
        if make_copy is None:
            raise ModuleError("the module has no snapshot(): the log is kept whole")
        index, (chunks, sessions, time_us, digest) = applier.copy(
            lambda: (
                make_copy(),
                applier.sessions.snapshot(),
                applier.last_time_us,
                applier.agreement.state,
            )
        )
        self._index, self._bytes = index, applier.bytes_applied
        snapshot = self._turn(lambda raft: raft.snapshot_at(index, time_us=time_us, digest=digest))
        if snapshot is None:
            return None
        if not index:
            raise NotStarted("nothing was applied yet, there is nothing to be kept; try again")
        return Copy(snapshot, chunks, sessions)

    def write(self, copy: Copy) -> SnapshotFile:
        """Put *copy* on disk: the blocking call."""
        chunks = self._while_running(only_bytes(copy.chunks))
        return self._shelf.write(
            copy.snapshot, chunks, cluster_id=self._cluster_id(), sessions=copy.sessions
        )

    def _while_running(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self.is_stopping:
                raise NotStarted("the node is shutting down; the snapshot was given up")
            yield chunk

    def finish(self, file: SnapshotFile) -> None:
        """Tell the core, and let go what is not needed any more."""
        index = file.meta.index
        self._turn(lambda raft: raft.snapshot_taken(index))
        self._log.info("snapshot_taken", index=index, bytes=file.size)
        self.shorten()

    def shorten(self) -> None:
        """Remove snapshots and log that nobody needs: not us, not one who lags a little."""
        oldest = self._shelf.prune(keep=KEPT, spare=self._shipments.pinned())
        if len({file.meta.index for file in self._shelf.kept}) < KEPT:
            return  # if the only one rots, the log has it all
        tail = self._policy.trailing_bytes
        limit = min(oldest, self._journal.index_before_bytes(tail)) if tail else oldest
        limit = min([limit, *self._shipments.continued()])
        base = self._turn(lambda raft: raft.compacted(limit))
        self._journal.compact(base)

    # --- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Take one whenever it is due, until stopped."""
        while not self.is_stopping:
            self.bell.wait()
            self.tidy()
            if self.is_due():
                self.try_to_take()

    def try_to_take(self) -> None:
        """Take one; what goes wrong is told, and tried again when as much was applied again."""
        try:
            self.take()
        except TinyraftError as error:
            self._log.warning("snapshot_failed", why=str(error), exc_info=error.__cause__)

    def came(self) -> None:
        """The leader's snapshot is on the shelf: ring, as it takes the place of older ones."""
        self._has_come = True
        self.bell.ring()

    def tidy(self) -> None:
        """Remove what the leader's snapshot took the place of; what fails is tried again later."""
        if not self._has_come:
            return
        self._has_come = False
        try:
            self.shorten()
        except TinyraftError as error:
            self._log.warning("snapshots_not_pruned", why=str(error), exc_info=error.__cause__)

    def stop(self) -> None:
        """Let the thread end, behind what it is writing."""
        self.is_stopping = True
        self.bell.ring()


def only_bytes(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give the module's chunks; what it raises, or gives else, is the module's error."""
    try:
        for chunk in chunks:
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise ModuleError(f"the module's snapshot gave a {type(chunk).__name__}, not bytes")
            yield bytes(chunk)
    except TinyraftError:
        raise
    except Exception as error:
        raise ModuleError(f"the module's snapshot raised {error!r}") from error
