"""What goes out to one peer: a control lane and a bulk lane (dissertation 3.4, 3.5, 10.2.1).

Law: a lane pulls the newest message when its wire is free, and never blocks another lane: a vote or
a heartbeat does not wait behind an append that waits for a disk. One ordered stream carries the
appends, one at a time; what is not in memory is read from the disk by the lane that needs it, and a
follower for whom the log begins too late gets a snapshot first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Protocol

from tinyraft.core.effects import InSnapshot, OnDisk
from tinyraft.core.entry import Entry, Index, NodeId
from tinyraft.core.messages import AppendEntries, AppendReply, Reply, Request
from tinyraft.core.raft import Raft
from tinyraft.logs import Log
from tinyraft.node.bell import Bell
from tinyraft.node.clock import CLOCK, Clock
from tinyraft.node.shipment import Shipment, Shipments

PIECE_SECONDS = 30.0  # the last piece of a snapshot waits until all of it is synced and read back
MOST_DOUBLINGS = 6
NOTE_SECONDS = 0.00025  # a newer commit index waits this long for an append to ride with
APPEND_BYTES = 2 << 20  # below gRPC's default limit of 4 MiB


class AppendStream(Protocol):
    """One open stream of appends."""

    def __iter__(self) -> Iterator[AppendReply]:
        """Give the replies in order; ends, and never raises, when the stream is over."""

    def cancel(self) -> None:
        """End it from any thread."""


class PeerLink(Protocol):
    """The way to one peer."""

    def call(self, request: Request, *, timeout: float) -> Reply | None:
        """Send *request* and wait for the reply; None when there was none in *timeout* seconds."""

    def open_stream(self, appends: Iterator[AppendEntries]) -> AppendStream:
        """Send *appends* as they come; says goodbye when they end."""

    def close(self) -> None:
        """Break off everything."""


class Fetch(Protocol):
    """Reads entries from this disk."""

    def __call__(self, after: Index, to: Index, max_bytes: int, /) -> list[Entry]:
        """Give those in (*after*, *to*] that fit, at least one; none when they are gone."""


Turn = Callable[[Callable[[Raft], object]], object]


class Lane:
    """What both lanes share: a bell, and an end."""

    def __init__(
        self, peer: NodeId, link: PeerLink, *, raft: Raft, turn: Turn, glance: Turn, log: Log
    ) -> None:
        """Serve *peer* over *link*.

        Every visit to *raft* goes through *turn*, or *glance* where nothing follows from it.
        """
        self.peer = peer
        self.bell = Bell()
        self._link = link
        self._raft = raft
        self._turn = turn
        self._glance = glance
        self._log = log
        self._stopping = Event()

    @property
    def is_stopping(self) -> bool:
        """Whether its thread is to end."""
        return self._stopping.is_set()

    def ring(self) -> None:
        """There may be something to send."""
        self.bell.ring()

    def stop(self) -> None:
        """Let the lane's thread end; the bulk lane says goodbye."""
        self._stopping.set()
        self.ring()


class ControlLane(Lane):
    """Votes, heartbeats, transfers: unary calls with a short deadline."""

    def __init__(
        self,
        peer: NodeId,
        link: PeerLink,
        *,
        raft: Raft,
        turn: Turn,
        glance: Turn,
        log: Log,
        timeout: float,
        silent_too_long: Callable[[], None],
        clock: Clock = CLOCK,
    ) -> None:
        """Give a call *timeout* seconds; tell *silent_too_long* when none got through for long."""
        super().__init__(peer, link, raft=raft, turn=turn, glance=glance, log=log)
        self.timeout = timeout
        self._monotonic = clock.monotonic
        self._silent_too_long = silent_too_long
        self._asked_at = self._silent_since = self._monotonic()
        self._failures = 0  # in a row

    def next_request(self) -> Request | None:
        """Take what is due."""
        request: Request | None = None

        def event(raft: Raft) -> None:
            nonlocal request
            request = raft.next_control(self.peer)

        self._glance(event)
        self._asked_at = self._monotonic()
        return request

    def deliver(self, reply: Reply | None) -> None:
        """Hand a reply to the core, or note that none came.

        A silence begins with the first question that is not answered: when this node itself was
        busy before, nobody was asked.
        """
        if reply is None:
            self._failures += 1
            if self._failures == 1:
                self._silent_since = self._asked_at
                self._log.warning("peer_unreachable", peer=self.peer)
            if self._monotonic() - self._silent_since >= 2 * self.timeout:
                self._silent_too_long()
            return
        if self._failures:
            self._log.info("peer_reachable", peer=self.peer, failures=self._failures)
        self._failures = 0
        self._turn(lambda raft: raft.answer(reply, sender=self.peer))

    def run(self) -> None:
        """Send until stopped."""
        while not self._stopping.is_set():
            request = self.next_request()
            if request is None:
                self.bell.wait()
            else:
                self.deliver(self._link.call(request, timeout=self.timeout))


class BulkLane(Lane):
    """Appends: one ordered stream while this node leads.

    The transport's sending thread runs `_appends`, this lane's own thread reads the replies: no
    hand-off stands between the core and the wire on either way.
    """

    def __init__(
        self,
        peer: NodeId,
        link: PeerLink,
        *,
        raft: Raft,
        turn: Turn,
        glance: Turn,
        log: Log,
        fetch: Fetch,
        shipments: Shipments,
        backoff: float,
        append_bytes: int = APPEND_BYTES,
    ) -> None:
        """Wait *backoff* seconds before a broken stream is opened again."""
        super().__init__(peer, link, raft=raft, turn=turn, glance=glance, log=log)
        self.backoff = backoff
        self.needs_snapshot = False  # before any append
        self._failed_shipments = 0  # in a row
        self._fetch = fetch
        self._shipments = shipments
        self.stream: AppendStream | None = None  # the present one
        self.wire_bell = Bell()  # of its sending thread
        self._looks_again = False  # that will look for a note by itself, in a moment
        self._append_bytes = append_bytes

    def ring(self) -> None:
        """Wake whichever thread looks for appends."""
        self.wire_bell.ring()
        self.bell.ring()

    def news(self) -> None:
        """There may be something to send. Called under the core's lock.

        A newer commit index is no reason to wake a thread that will look for one anyway.
        """
        leadership = self._raft.leadership
        if self._looks_again and leadership is not None and not leadership.has_entries(self.peer):
            return
        self.ring()

    def next_request(self, *, notes: bool) -> tuple[AppendEntries | None, bool]:
        """Take the next append, one that only tells a newer commit index if *notes* are wanted.

        Returns:
            The append, and whether such a note will be wanted a little later. None, too, when the
            peer needs a snapshot first.
        """
        while True:
            found, has_note = self._look(notes=notes)
            if isinstance(found, OnDisk):
                found = self._from_disk(found)
                if found is None:
                    continue  # it was cut, or a snapshot took its place, while we read
            self.needs_snapshot = isinstance(found, InSnapshot)
            return None if isinstance(found, InSnapshot) else found, has_note

    def _from_disk(self, where: OnDisk) -> AppendEntries | None:
        entries = self._fetch(where.after, where.to, self._append_bytes)
        append: AppendEntries | None = None

        def event(raft: Raft) -> None:
            nonlocal append
            append = raft.append_fetched(self.peer, entries)

        self._turn(event)
        return append

    def _look(self, *, notes: bool) -> tuple[AppendEntries | OnDisk | InSnapshot | None, bool]:
        append: AppendEntries | OnDisk | InSnapshot | None = None
        has_note = False

        def event(raft: Raft) -> None:
            nonlocal append, has_note
            leadership = raft.leadership
            if leadership is not None and (notes or leadership.has_entries(self.peer)):
                append = raft.next_append(self.peer, max_bytes=self._append_bytes)
            elif leadership is not None:
                commit_index = raft.commit_index
                has_note = leadership.has_append(self.peer, commit_index=commit_index)

        self._glance(event)
        return append, has_note

    def begin_shipment(self) -> Shipment:
        """Get the newest snapshot ready for the peer; `end_shipment` must follow.

        It goes out in the name of a term that this node leads; if it leads none any more, in that
        of term 0, which everybody refuses: the next term may be another's.
        """
        self.needs_snapshot = False
        term = 0

        def event(raft: Raft) -> None:
            nonlocal term
            term = raft.leadership.term if raft.leadership is not None else 0

        self._turn(event)
        return self._shipments.begin(term=term)

    def end_shipment(self, shipment: Shipment) -> None:
        """It arrived, or it is given up."""
        self._shipments.end(shipment)
        index = shipment.file.meta.index
        self._failed_shipments = 0 if shipment.has_arrived else self._failed_shipments + 1
        if shipment.has_arrived:
            self._log.info("snapshot_sent", peer=self.peer, index=index)
        else:
            self._log.warning(
                "snapshot_not_sent", peer=self.peer, index=index, why=shipment.failure
            )

    @property
    def pause(self) -> float:
        """Seconds until a stream is opened again: a snapshot is not sent in vain all the time."""
        return self.backoff * (1 << min(self._failed_shipments, MOST_DOUBLINGS))

    def deliver(self, reply: Reply) -> None:
        """Hand a reply to the core."""
        if isinstance(reply, AppendReply) and reply.success:
            self._failed_shipments = 0  # it has the log, perhaps from another leader
        self._turn(lambda raft: raft.answer(reply, sender=self.peer))

    def lost(self) -> None:
        """What was in flight was not answered."""
        self._turn(lambda raft: raft.unreachable(self.peer))

    def break_off(self) -> None:
        """End the present stream: the peer was silent for too long."""
        stream = self.stream
        if stream is not None:
            stream.cancel()

    @property
    def leads(self) -> bool:
        """Whether there is anything to send appends for."""
        return self._raft.leadership is not None and not self._stopping.is_set()

    def _appends(self, over: Event, bell: Bell) -> Iterator[AppendEntries]:
        while self.leads and not over.is_set():
            append, has_note = self.next_request(notes=False)
            if has_note and not self._wait_for_company(bell):
                append, has_note = self.next_request(notes=True)
            if self.needs_snapshot:
                return
            if append is not None and over.is_set():
                self.lost()  # taken for a stream that ended meanwhile: nobody would send it again
                return
            if append is not None:
                yield append
            if not has_note:
                bell.wait()  # whatever happens behind the look, rings

    def _wait_for_company(self, bell: Bell) -> bool:
        """Let a note wait for entries to ride with; False when none came."""
        self._looks_again = True
        try:
            return bell.wait(NOTE_SECONDS)
        finally:
            self._looks_again = False  # before the look: what is committed after that, rings

    def run(self) -> None:
        """Keep a stream open while this node leads, until stopped."""
        while not self._stopping.is_set():
            if not self.leads:
                self.bell.wait()
                continue
            over, self.wire_bell = Event(), Bell()
            self.stream = self._link.open_stream(self._appends(over, self.wire_bell))
            for reply in self.stream:
                self.deliver(reply)
            over.set()
            self.wire_bell.ring()
            self.lost()
            if not (self.needs_snapshot and self._ship()) and self.leads:
                self._stopping.wait(self.pause)

    def _ship(self) -> bool:
        """Send a snapshot, piece by piece; tell whether it arrived."""
        shipment = self.begin_shipment()
        try:
            while (piece := shipment.next_piece()) is not None and self.leads:
                reply = self._link.call(piece, timeout=PIECE_SECONDS)
                shipment.answered(reply)
                if reply is not None:
                    self.deliver(reply)
        finally:
            self.end_shipment(shipment)
        return shipment.has_arrived
