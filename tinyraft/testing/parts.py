"""The loops of a node's threads, as events: each calls the two halves of a real part.

Law: mirrors the part's own `run`, and decides nothing. Where the thread would block (a bell, the
disk, a call, a stream) the simulated time goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from tinyraft.core.effects import InSnapshot, Write
from tinyraft.core.entry import NodeId
from tinyraft.core.messages import AppendReply, Reply, Request
from tinyraft.errors import StorageError, TinyraftError
from tinyraft.node.applier import Applier
from tinyraft.node.bell import Bell
from tinyraft.node.lanes import NOTE_SECONDS, BulkLane, ControlLane
from tinyraft.node.loop import Died, Part
from tinyraft.node.shipment import Shipment
from tinyraft.node.snapshotter import Copy, Snapshotter
from tinyraft.node.space import Space
from tinyraft.node.ticker import Ticker
from tinyraft.node.writer import RETRY_SECONDS, Writer
from tinyraft.testing.schedule import Event
from tinyraft.testing.stream import KEEPALIVE, SimStream
from tinyraft.testing.surroundings import Process

T = TypeVar("T")


class Driver(Protocol):
    """A part at work in simulated time."""

    @property
    def bell(self) -> Bell | None:
        """What is rung when there may be something to do; None: it works by itself."""

    def poll(self) -> None:
        """Look whether its bell was rung."""

    def join(self, timeout: float, /) -> bool:
        """Tell that nothing is waited for here."""


class Busy:
    """What most drivers share: one thing at a time, begun a moment after the bell."""

    def __init__(self, member: Process, name: str, bell: Bell) -> None:
        """Work for *member* when *bell* is rung; it is for the first look."""
        self.member = member
        self.name = name
        self.bell = bell
        self.is_busy = False
        bell.ring()

    def poll(self) -> None:
        """Begin if the bell was rung and nothing is under way."""
        if not self.is_busy and self.bell.take():
            self.is_busy = True
            self.member.after(self.member.wake_up(), self.name, self.step)

    def step(self) -> None:
        """Do one round."""
        raise NotImplementedError

    def join(self, timeout: float, /) -> bool:
        """Tell that nothing is waited for here."""
        del timeout
        return True


class WriterDriver(Busy):
    """Write, let the disk take its time, sync."""

    def __init__(self, member: Process, part: Writer, died: Died) -> None:
        """Drive *part*."""
        super().__init__(member, "writer", part.bell)
        self._part = part
        self._died = died

    def step(self) -> None:
        """Write what is queued."""
        batch = self._part.next_batch()
        if not batch:
            self.is_busy = False
            return
        self.member.writes(batch[len(self._part.stuck) :])
        if not self._tried(lambda: self._part.write(batch)):
            return
        if not self._part.stuck:
            self.member.after(self.member.sync_seconds(), "sync", lambda: self._sync(batch))
        else:
            self.member.world.see("writer waits for room")
            self.member.after(RETRY_SECONDS, "writer", self.step)

    def _sync(self, batch: Sequence[Write]) -> None:
        if self._tried(self._part.sync):
            self.member.synced(batch)
            if self._tried(lambda: self._part.finish(batch)):
                self.step()

    def _tried(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001  # as the loop of the real thread
            self._died("writer", error)
            return False
        return True


class ApplierDriver(Busy):
    """Apply what is committed."""

    def __init__(self, member: Process, part: Applier, died: Died) -> None:
        """Drive *part*."""
        super().__init__(member, "applier", part.bell)
        self._part = part
        self._died = died

    def step(self) -> None:
        """Apply one batch."""
        if self._part.failure is not None or self.member.is_out_of_service:
            return
        batch = self._part.next_batch()
        if isinstance(batch, InSnapshot):
            try:
                self._part.restore()
            except StorageError as error:
                self._died("applier", error)
                return
            self.member.after(self.member.apply_seconds(), self.name, self.step)
        elif batch:
            self._part.apply(batch)
            self.member.after(self.member.apply_seconds(), self.name, self.step)
        else:
            self.is_busy = False


class SnapshotterDriver(Busy):
    """Take a snapshot when it is due; the module goes on while it is written."""

    def __init__(self, member: Process, part: Snapshotter) -> None:
        """Drive *part*."""
        super().__init__(member, "snapshotter", part.bell)
        self._part = part

    def step(self) -> None:
        """Tidy up, and have the module make its copy."""
        self._part.tidy()
        copy = self._tried(self._part.begin) if self._part.is_due() else None
        if copy is None:
            self.is_busy = False
        else:
            self.member.after(self.member.sync_seconds(), self.name, lambda: self._write(copy))

    def _write(self, copy: Copy) -> None:
        file = self._tried(lambda: self._part.write(copy))
        if file is not None:
            self._tried(lambda: self._part.finish(file))
        self.step()

    def _tried(self, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except TinyraftError as error:  # as `try_to_take`
            self.member.world.see(f"snapshot {type(error).__name__}")
            return None


class TickerDriver:
    """Tick at the member's own pace; who was paused or starves wakes up late, and is told."""

    def __init__(self, member: Process, part: Ticker) -> None:
        """Drive *part*."""
        self._member = member
        self._part = part
        self.bell = part.bell
        self._waits = 0
        self._begin()

    def _begin(self) -> None:
        self._last = self._member.world.schedule.now
        self._wait()

    def _wait(self) -> None:
        """Wait anew, as long as it is now; the wait before, if it has not ended, counts no more."""
        self._waits = number = self._waits + 1
        self._due = self._last + self._part.ticks * self._part.seconds * self._member.pace
        left = max(0.0, self._due - self._member.world.schedule.now)
        self._member.after(left + self._member.oversleep(), "tick", lambda: self._step(number))

    def _step(self, number: int) -> None:
        if number == self._waits and not self._part.is_stopping:
            self._part.wake(self._member.world.schedule.now - self._due)
            self._begin()

    def poll(self) -> None:
        """Sleep no longer than to the end of this tick, if its bell was rung."""
        if self.bell.take() and not self._part.is_stopping:
            ticks, passed = self._part.ticks, self._member.world.schedule.now - self._last
            self._part.hasten(passed / self._member.pace)
            if self._part.ticks < ticks:
                self._wait()

    def join(self, timeout: float, /) -> bool:
        """Tell that nothing is waited for here."""
        del timeout
        return True


class SpaceDriver:
    """Look at the disk's room now and then."""

    def __init__(self, member: Process, part: Space, died: Died) -> None:
        """Drive *part*."""
        self._member = member
        self._part = part
        self._died = died
        self._member.after(0.0, "space", self._step)

    def _step(self) -> None:
        if self._part.is_stopping:
            return
        self._member.after(self._part.seconds, "space", self._step)
        try:
            self._part.look()
        except Exception as error:  # noqa: BLE001  # as the loop of the real thread
            self._died("space", error)

    @property
    def bell(self) -> None:
        """Has none: time is enough."""

    def poll(self) -> None:
        """Has no bell."""

    def join(self, timeout: float, /) -> bool:
        """Tell that nothing is waited for here."""
        del timeout
        return True


def call(
    member: Process,
    address: str,
    peer: NodeId,
    request: Request,
    over: Callable[[Reply | None], None],
    *,
    timeout: float,
) -> None:
    """Make one call; *over* is told the reply, or None after *timeout* seconds."""
    deadline: Event | None = None
    is_over = False

    def once(reply: Reply | None) -> None:
        nonlocal is_over
        if is_over:
            return
        is_over = True
        assert deadline is not None, "set before anything can answer"
        deadline.cancel()
        if reply is not None:
            member.heard(peer)
        over(reply)

    deadline = member.after(timeout, f"call {peer} timeout", lambda: once(None))
    member.call(address, peer, request, once)


class ControlDriver(Busy):
    """One unary call at a time."""

    def __init__(self, member: Process, part: ControlLane, address: str) -> None:
        """Drive *part* towards *address*."""
        super().__init__(member, f"control {part.peer}", part.bell)
        self._part = part
        self._address = address

    def step(self) -> None:
        """Make the call that is due."""
        request = None if self._part.is_stopping else self._part.next_request()
        if request is None:
            self.is_busy = False
            return

        def over(reply: Reply | None) -> None:
            self._part.deliver(reply)
            self.step()

        timeout = self._part.timeout
        call(self.member, self._address, self._part.peer, request, over, timeout=timeout)


class BulkDriver:
    """A stream of appends, opened again when it breaks."""

    def __init__(self, member: Process, part: BulkLane, address: str) -> None:
        """Drive *part* towards *address*."""
        self.member = member
        self._part = part
        self._address = address
        self._stream: SimStream | None = None
        self._is_waiting = False  # before it is opened again
        self._note: Event | None = None
        self._shipment: Shipment | None = None

    @property
    def bell(self) -> Bell:
        """Rung with all that may change what is to be done; the wire's bell with it."""
        return self._part.bell

    def poll(self) -> None:
        """Open a stream, send what is due, or end."""
        part, stream = self._part, self._stream
        if not part.bell.take() or self._shipment is not None:
            return
        if stream is None:
            if part.leads and not self._is_waiting:
                self._open()
        elif not stream.is_open:
            self._lost()
        elif part.wire_bell.take() or not part.leads:
            self._send()

    def _open(self) -> None:
        part = self._part
        self._stream = SimStream(
            self.member, self._address, part.peer, self._answered, closed=part.bell.ring
        )
        self._part.stream = self._stream
        self._send()

    def _send(self, *, notes: bool = False) -> None:
        stream = self._stream
        if stream is None or not stream.is_open:
            return
        if not self._part.leads:
            stream.goodbye()
            self._stream = self._part.stream = None
            self._part.lost()
            return
        append, has_note = self._part.next_request(notes=notes)
        if append is not None:
            stream.send(append)  # and no further look: whatever happens behind that one, rings
        if self._part.needs_snapshot:
            stream.goodbye()
            self._stream = self._part.stream = None
            self._part.lost()
            self._shipment = self._part.begin_shipment()
            self._ship(self._shipment)
            return
        if has_note and (self._note is None or self._note.action is None):
            self._note = self.member.after(NOTE_SECONDS, "note", self._send_note)

    def _send_note(self) -> None:
        self._note = None
        self._send(notes=True)

    def _answered(self, reply: AppendReply) -> None:
        self.member.heard(self._part.peer)
        self._part.deliver(reply)

    def _ship(self, shipment: Shipment) -> None:
        piece = shipment.next_piece() if self._part.leads else None
        if piece is None:
            self._part.end_shipment(shipment)
            self._shipment = None
            self._part.bell.ring()
            if not shipment.has_arrived:
                self._back_off()
            return

        def over(reply: Reply | None) -> None:
            shipment.answered(reply)
            if reply is not None:
                self._part.deliver(reply)
            self._ship(shipment)

        timeout = KEEPALIVE * self.member.world.story.timeout
        call(self.member, self._address, self._part.peer, piece, over, timeout=timeout)

    def _lost(self) -> None:
        self._stream = self._part.stream = None
        self._part.lost()
        self._back_off()

    def _back_off(self) -> None:
        if self._part.leads:
            self._is_waiting = True
            self.member.after(self._part.pause, f"bulk {self._part.peer} again", self._again)

    def _again(self) -> None:
        self._is_waiting = False
        self._part.bell.ring()

    def join(self, timeout: float, /) -> bool:
        """Tell that nothing is waited for here."""
        del timeout
        return True


def drive(member: Process, part: Part, *, address: str, died: Died) -> Driver:
    """Put *part* to work in simulated time."""
    match part:
        case Writer():
            return WriterDriver(member, part, died)
        case Applier():
            return ApplierDriver(member, part, died)
        case Snapshotter():
            return SnapshotterDriver(member, part)
        case Ticker():
            return TickerDriver(member, part)
        case Space():
            return SpaceDriver(member, part, died)
        case ControlLane():
            return ControlDriver(member, part, address)
        case BulkLane():
            return BulkDriver(member, part, address)
    raise TypeError(f"nobody drives a {type(part).__name__}")
