"""A command's way, in the thread of whoever asked for it.

Law: it goes straight to the leader that is known, and whatever does not is the courier's. Whoever
waits for it ends it: its answer, its deadline, or an interrupt at whatever line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from tinyraft.courier import Courier
from tinyraft.errors import NotApplied, NotStarted
from tinyraft.ledger import Lane, Ledger
from tinyraft.logs import Log
from tinyraft.transport.channels import Channels
from tinyraft.transport.guard import Guard
from tinyraft.transport.slots import Slot
from tinyraft.transport.undivided import undivided

LOOK_AGAIN_SECONDS = 1.0  # a thread that waits has the courier look whether its node is silent


class Delivery:
    """Delivers commands. Thread-safe."""

    def __init__(
        self, addresses: Sequence[str], *, channels: Channels, is_exactly_once: bool = True
    ) -> None:
        """Prepare; nothing is dialled yet."""
        self._log = Log("caller")
        self._channels = channels
        self._ledger = Ledger(is_exactly_once=is_exactly_once)
        self._courier = Courier(addresses, channels=channels, ledger=self._ledger, died=self._died)
        self._guard: Guard | None = None

    @property
    def last_index(self) -> int:
        """The highest index that an answer told."""
        return self._courier.last_index

    def live_at(self, make: Callable[..., Lane]) -> None:
        """Go the short way to the program's own node while that leads; before the first command.

        *make* gets the ``lock`` of the slots, and who is to be told what they are ``answered``.
        """
        self._ledger.home = make(lock=self._ledger.lock, answered=self._courier.answered)

    def begin(self) -> None:
        """Start the caller's own threads, unless they run; they notice the program's end, too.

        Raises:
            NotStarted: The caller was closed.
        """
        if self._guard is None:
            undivided(self._begin, name="tinyraft-caller-beginning")

    def _begin(self) -> None:
        with self._ledger.lock:
            self.refuse_closed()
            self._courier.start()
            if self._guard is None:
                guard = Guard("tinyraft-caller-guard", self.close)
                guard.start()
                self._guard = guard

    # --- on the way -----------------------------------------------------------------------------

    def deliver(self, slot: Slot) -> None:
        """Send *slot* and block until it is over: its deadline ends it, too, and an interrupt.

        Raises:
            Overloaded: As `start` does.
            NotStarted: Likewise.
        """
        try:
            self.start(slot)
            self._wait(slot)
        finally:
            if not slot.is_over:
                self._ledger.give_up(slot)  # Ctrl-C: nobody waits for it any more
            slot.pass_on()

    def post(self, slot: Slot) -> None:
        """Send *slot* for which no thread waits, as `start` does; an interrupt takes it back."""
        try:
            self.start(slot)
        except BaseException:
            self._ledger.give_up(slot)
            raise

    def deliver_all(self, slots: Sequence[Slot]) -> None:
        """Send *slots*, in order, and block until all are over, as `deliver` does for one.

        Who finds no room, or comes behind the end, is over at once.
        """
        try:
            for slot in slots:
                try:
                    self.start(slot)
                except (NotApplied, NotStarted) as error:
                    slot.error, slot.is_over = error, True
                    slot.tell()
            for slot in slots:
                self._wait(slot)
        finally:
            for slot in slots:
                if not slot.is_over:
                    self._ledger.give_up(slot)  # Ctrl-C

    def start(self, slot: Slot) -> None:
        """Send *slot* as soon as that can be done; blocks only while too much is under way.

        Raises:
            Overloaded: There was no room until the deadline.
            NotStarted: The caller was closed.
        """
        self.begin()
        ledger = self._ledger
        with ledger.lock:
            ledger.admit(slot)
            lane = ledger.usable_lane
            is_direct = not ledger.behind and lane is not None
            is_direct = is_direct and (ledger.session is not None or not ledger.is_exactly_once)
            if is_direct:
                ledger.assign(slot, lane)
            else:
                ledger.behind.add(slot)
            if slot.on_done is not None and not ledger.watches:
                ledger.watches = True
                self._courier.look()  # from now on it looks at the clock
        if is_direct:
            assert lane is not None, "it is usable"
            lane.send(slot)
        else:
            self._courier.take(slot)

    def _wait(self, slot: Slot) -> None:
        while True:
            left = None if slot.deadline is None else slot.deadline - monotonic()
            if left is not None and left <= 0:
                self._ledger.give_up(slot)
            patience = LOOK_AGAIN_SECONDS
            if left is not None and not slot.is_over:
                patience = min(patience, left)
            if slot.done.acquire(timeout=max(0.0, patience)) or slot.is_over:
                return  # or the word was lost (see `chain`)
            self._courier.look()  # is its node silent?

    # --- the end --------------------------------------------------------------------------------

    def refuse_closed(self) -> None:
        """Raise `NotStarted` when the caller was closed."""
        self._ledger.refuse_closed()

    def sleep(self, seconds: float) -> None:
        """Wait, but not after the end."""
        self._ledger.sleep(seconds)

    def _died(self, thread: str, error: BaseException) -> None:
        """End with the courier: nobody else would send again, or end what is out of time."""
        self._log.error("caller_failed", thread=thread, error=repr(error), exc_info=error)
        self.close(f"this caller stopped: {thread} ended with {error!r}")

    def close(self, why: str = "this caller was closed") -> None:
        """Break off everything: whoever waits gets `MaybeApplied`, or `NotStarted` if unsent."""
        ledger = self._ledger
        with ledger.lock:
            slots = ledger.close(why)
            lane, ledger.lane = ledger.lane, None
            guard, self._guard = self._guard, None
        for slot in slots:
            slot.tell()
        self._courier.look()
        if lane is not None:
            lane.break_off()
        self._channels.close()
        if guard is not None:
            guard.cancel()
        self._courier.join()
