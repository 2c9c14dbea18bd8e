"""What a caller has under way: how much, by which way, under which numbers, and how it ends.

Law: one lock guards all of it, a leaf but for session and inbox. A command is over once; what ends
it early says what is known: nothing was sent, or it may be applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Condition, Lock
from time import monotonic
from typing import Protocol

from tinyraft.chain import Chain
from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    MaybeApplied,
    ModuleFailed,
    NoQuorum,
    NotStarted,
    Overloaded,
    ServerStopped,
    TinyraftError,
)
from tinyraft.session import Session
from tinyraft.transport.commands import CommandStream
from tinyraft.transport.slots import HERE, Slot

LONGEST_BLOCK = 16.0  # seconds, behind which a thread that waits for room looks again
MOST_COMMANDS = 16_384
MOST_BYTES = 64 << 20  # of commands under way


class Lane(Protocol):
    """A way to one node. Its answers go to `Courier.answered`."""

    @property
    def is_usable(self) -> bool:
        """Whether it takes commands."""

    def send(self, slot: Slot) -> None:
        """Send a command; called without the lock."""

    def withdraw(self, slot: Slot) -> bool:
        """Take it back, under the lock; False when it may have arrived."""

    def waking(self) -> Chain:
        """Make a chain for the threads that are told now what came this way."""

    def finish(self) -> None:
        """Take no more commands."""

    def break_off(self) -> None:
        """End at once."""


class Ledger:
    """The commands that one caller has under way. `lock` guards all that does not say otherwise."""

    def __init__(self, *, is_exactly_once: bool) -> None:
        """Begin with none."""
        self.is_exactly_once = is_exactly_once
        self.lock = Lock()  # guards all below, and the slots; leaf, but for session and inbox
        self.slots: dict[Slot, None] = {}
        self.behind: set[Slot] = set()  # what the courier's thread has to send
        self.home: Lane | None = None  # the program's own node, where it has one
        self.lane: CommandStream | None = None
        self.session: Session | None = None
        self.watches = False  # some are open that no thread waits for: the courier ends them
        self.is_closed = False
        self._why = ""  # is it closed
        self._bytes = 0
        self._blocked = 0  # threads that wait for room
        self._changed = Condition(self.lock)  # room, or the end

    # --- on the way -----------------------------------------------------------------------------

    def admit(self, slot: Slot) -> None:
        """Wait for room, under the lock.

        Raises:
            Overloaded: There was none until the deadline.
            NotStarted: The caller was closed.
        """
        while True:
            self.refuse_closed()
            size, session = len(slot.command), self.session
            has_room = len(self.slots) < MOST_COMMANDS and (
                not self._bytes or self._bytes + size <= MOST_BYTES
            )
            if has_room and (session is None or not session.is_full):
                break
            left = None if slot.deadline is None else slot.deadline - monotonic()
            if HERE.is_telling or (left is not None and left <= 0):
                raise Overloaded(
                    f"this caller has {len(self.slots)} commands of {self._bytes} bytes under way,"
                    " and none of them ended in time"
                )
            self._blocked += 1
            try:
                self._changed.wait(left if left is None else min(left, LONGEST_BLOCK))
            finally:
                self._blocked -= 1
        self.slots[slot] = None
        self._bytes += size

    @property
    def usable_lane(self) -> Lane | None:
        """The way to a node that is believed to lead."""
        home = self.home
        if home is not None and home.is_usable:
            return home
        return self.lane if self.lane is not None and self.lane.is_usable else None

    def assign(self, slot: Slot, lane: Lane | None) -> None:
        """Number *slot* for its next sending, by *lane*."""
        session = self.session
        if slot.session is not session and not slot.is_in_doubt and not slot.opens_session:
            if slot.session is not None:
                slot.session.settle(slot.sequence)
            slot.session, slot.sequence = session, 0
            if session is not None:
                slot.sequence = session.next_number  # known before it is waited for: Ctrl-C
                session.begin()
        slot.lane, slot.was_written = lane, False

    def end(self, slot: Slot) -> None:
        """Mark it as over; whoever does so tells its owner, without the lock."""
        slot.is_over = True
        self.behind.discard(slot)
        if slot in self.slots:
            del self.slots[slot]
            self._bytes -= len(slot.command)
        if slot.session is not None:
            slot.session.settle(slot.sequence)
        if self._blocked:
            self._changed.notify_all()

    # --- before its time ------------------------------------------------------------------------

    def give_up(self, slot: Slot) -> None:
        """Time is up: end *slot* with what is known of it, unless it is over. Thread-safe."""
        with self.lock:
            if slot.is_over:
                return
            if self._take_back(slot):
                slot.error = slot.why or NoQuorum("no leader was found in time; nothing was sent")
                if isinstance(slot.error, MaybeApplied):
                    slot.error.request_id = slot.request_id
            else:
                last = f" (the last sending: {slot.why})" if slot.why is not None else ""
                slot.error = ApplyTimeout(
                    f"no answer in time; the command was sent and may be applied{last}",
                    request_id=slot.request_id,
                )
            self.end(slot)
        slot.tell()

    def fail(self, slot: Slot, error: TinyraftError) -> None:
        """End *slot*; what one sending may have done, no later refusal undoes. Thread-safe."""
        with self.lock:
            if slot.is_over:
                return
            if slot.is_in_doubt and not isinstance(error, MaybeApplied | ModuleFailed):
                error = ConnectionLost(
                    f"an earlier sending of the command may have been applied; the last: {error}",
                    request_id=slot.request_id,
                )
            if isinstance(error, MaybeApplied):
                error.request_id = slot.request_id
            slot.error = error
            self.end(slot)
        slot.tell()

    def _take_back(self, slot: Slot) -> bool:
        """Withdraw *slot*; False when any sending of it may have been applied.

        What the last one was answered may not have been looked at yet.
        """
        lane, answer = slot.lane, slot.error
        is_unsent = lane is None or lane.withdraw(slot)  # type: ignore[attr-defined]
        is_in_doubt = slot.is_in_doubt or isinstance(answer, MaybeApplied | ModuleFailed)
        return is_unsent and not is_in_doubt

    # --- the end --------------------------------------------------------------------------------

    def refuse_closed(self) -> None:
        """Raise `NotStarted` when the caller was closed. Thread-safe."""
        if self.is_closed:
            raise NotStarted(self._why)

    def sleep(self, seconds: float) -> None:
        """Wait, but not after the end. Thread-safe."""
        with self.lock:
            if not self.is_closed:
                self._changed.wait(seconds)

    def close(self, why: str) -> Sequence[Slot]:
        """End everything, and take nothing more; *why* counts the first time.

        Returns:
            Those whose owners are to be told, without the lock.
        """
        if not self.is_closed:
            self._why, self.is_closed = why, True
        slots = list(self.slots)
        for slot in slots:
            self._stop(slot)
        self._changed.notify_all()
        return slots

    def _stop(self, slot: Slot) -> None:
        if self._take_back(slot):
            slot.error = NotStarted(f"{self._why}; nothing was sent")
        else:
            slot.error = ServerStopped(
                f"{self._why}; the command may be applied", request_id=slot.request_id
            )
        self.end(slot)
