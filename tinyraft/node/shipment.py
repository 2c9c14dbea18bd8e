"""Sending a snapshot to a follower whose entries are gone from this log (dissertation 5.3).

Law: one piece at a time, read from the file when its turn comes, so a snapshot of any size costs
the memory of one piece. What is being sent is pinned: neither the file nor the log behind it goes
while a follower waits for it, or it would have to begin again for ever (P53). A node whose module
has diverged sends none: what it kept may be wrong already.
"""

from __future__ import annotations

from threading import Lock

from tinyraft.core.entry import Index, Term
from tinyraft.core.messages import InstallReply, InstallSnapshot, Reply
from tinyraft.storage.snapshot_file import SnapshotFile
from tinyraft.storage.snapshots import Snapshots

PIECE_BYTES = 1 << 20  # with its envelope, below gRPC's default limit of 4 MiB
PATIENCE = 5  # answers in a row that want no later piece


class Shipment:
    """One snapshot on its way to one follower: its two halves around each call."""

    def __init__(
        self, shelf: Snapshots, file: SnapshotFile, *, term: Term, piece_bytes: int
    ) -> None:
        """Send *file* as the leader of *term*; the follower says from where."""
        self.file = file
        self.has_arrived = False
        self.failure = ""  # why it was given up here
        self._shelf = shelf
        self.term = term
        self._piece_bytes = piece_bytes
        self._offset = 0
        self._is_over = False
        self._in_vain = 0

    def next_piece(self) -> InstallSnapshot | None:
        """Read the next piece; None when there is nothing more to be sent, or no sense in it."""
        if self._is_over:
            return None
        file, meta = self.file, self.file.meta
        try:
            data = self._shelf.raw(file, offset=self._offset, size=self._piece_bytes)
        except OSError as error:
            self.failure, self._is_over = f"{file.path} can't be read: {error}", True
            return None
        return InstallSnapshot(
            self.term, file.id, meta.index, meta.term, file.size, self._offset, data
        )

    def answered(self, reply: Reply | None) -> None:
        """Learn how much the follower has."""
        if not isinstance(reply, InstallReply) or reply.term != self.term:
            self._is_over = True
            return
        self.has_arrived = self._is_over = reply.match_index >= self.file.meta.index
        offset = min(reply.offset, self.file.size)
        self._in_vain = 0 if offset > self._offset else self._in_vain + 1
        self._is_over |= self._in_vain >= PATIENCE
        self._offset = offset


class Shipments:
    """All that are under way. Thread-safe."""

    def __init__(self, shelf: Snapshots, *, piece_bytes: int = PIECE_BYTES) -> None:
        """Send what is on *shelf*."""
        self._shelf = shelf
        self._piece_bytes = piece_bytes
        self._lock = Lock()  # guards _open, and that what is pinned is still there; leaf
        self._open: list[Shipment] = []
        self.are_withheld = False

    def begin(self, *, term: Term) -> Shipment:
        """Pin the newest snapshot and get ready to send it, in the name of *term*'s leader.

        While they are withheld that is term 0, which everybody refuses.
        """
        with self._lock:
            term = 0 if self.are_withheld else term
            newest = self._shelf.newest
            assert newest is not None, "the log is only cut off behind a snapshot"
            shipment = Shipment(self._shelf, newest, term=term, piece_bytes=self._piece_bytes)
            self._open.append(shipment)
            return shipment

    def end(self, shipment: Shipment) -> None:
        """Let its snapshot go when its time comes."""
        with self._lock:
            self._open.remove(shipment)

    def pinned(self) -> list[SnapshotFile]:
        """What is being sent or exported: it stays."""
        with self._lock:
            return [shipment.file for shipment in self._open]

    def continued(self) -> list[Index]:
        """Where followers will go on in the log; who exports, in no leader's term, needs none."""
        with self._lock:
            return [shipment.file.meta.index for shipment in self._open if shipment.term]
