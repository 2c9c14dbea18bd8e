"""A caller's commands on their way: to the leader, and again until their fate is known (6.2, 6.3).

Law: a command is started in its own thread and goes straight to the leader that is known; whatever
does not go straight is done in one thread, the courier's, in order: looking for the leader, opening
the session, sending again. A command is over once; while a sending of it may have been applied, it
is sent again only under its number, and ends in `MaybeApplied` if time ends first.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Condition, Lock
from time import monotonic
from typing import Protocol

from tinyraft.chain import Chain
from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    MaybeApplied,
    ModuleError,
    ModuleFailed,
    NoQuorum,
    NotApplied,
    NotStarted,
    Overloaded,
    Rejected,
    ServerStopped,
    SessionExpired,
    TinyraftError,
)
from tinyraft.leader_search import LeaderSearch
from tinyraft.logs import Log
from tinyraft.node.loop import Loop
from tinyraft.route import Retry, Route
from tinyraft.session import Session
from tinyraft.transport.channels import Channels
from tinyraft.transport.commands import Answer, Answered, CommandStream
from tinyraft.transport.guard import Guard
from tinyraft.transport.queues import take_all
from tinyraft.transport.slots import HERE, Slot
from tinyraft.transport.undivided import undivided

LOOK_AGAIN_SECONDS = 1.0  # a thread that waits has the courier look whether its node is silent
SESSION_SECONDS = 2.0  # how long a node may take to open a session before another look
JOIN_SECONDS = 1.0
LONGEST_BLOCK = 16.0  # seconds, behind which a thread that waits for room looks again
LOOK_SECONDS = 0.1  # between two looks at deadlines and silent lanes, while futures are open
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


class Courier:
    """Delivers commands. Thread-safe."""

    def __init__(
        self, addresses: Sequence[str], *, channels: Channels, is_exactly_once: bool = True
    ) -> None:
        """Prepare; nothing is dialled yet."""
        self._log = Log("caller")
        self.last_index = 0  # the highest one that an answer told
        self._home: Lane | None = None  # the program's own node, where it has one
        self._channels = channels
        self._is_exactly_once = is_exactly_once
        self._route = Route(addresses, random=random.Random())
        self._lock = Lock()  # guards all below, and the slots; leaf, but for session and inbox
        self._search = LeaderSearch(
            self._route, channels=channels, lock=self._lock, answered=self.answered
        )
        self._changed = Condition(self._lock)  # room, or the end
        self._open: dict[Slot, None] = {}
        self._bytes = 0
        self._blocked = 0  # threads that wait for room
        self._behind: set[Slot] = set()  # what the courier's thread has to send
        self._lane: CommandStream | None = None
        self._session: Session | None = None
        self._watches = False  # some are open that no thread waits for: the courier ends them
        self._is_closed = False
        self._why = "this caller was closed"
        self._thread: Loop | None = None
        self._guard: Guard | None = None
        self._queue: SimpleQueue[Slot | None] = SimpleQueue()  # None: look
        self._ended: SimpleQueue[Slot] = SimpleQueue()  # at home; the thread tells their owners
        self._waiting: deque[Slot] = deque()  # the thread's own
        self._pauses = False  # likewise
        self._look_at = 0.0  # likewise, at deadlines

    def live_at(self, make: Callable[..., Lane]) -> None:
        """Go the short way to the program's own node while that leads; before the first command.

        *make* gets the ``lock`` of the slots, and who is to be told what they are ``answered``.
        """
        self._home = make(lock=self._lock, answered=self.answered)

    # --- the caller's thread --------------------------------------------------------------------

    def begin(self) -> None:
        """Start the courier's own threads, unless they run; they notice the program's end, too.

        Raises:
            NotStarted: The caller was closed.
        """
        if self._guard is None:
            undivided(self._begin, name="tinyraft-caller-beginning")

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
                self._give_up(slot)  # Ctrl-C, at whatever line: nobody waits for it any more
            slot.pass_on()

    def post(self, slot: Slot) -> None:
        """Send *slot* for which no thread waits, as `start` does; an interrupt takes it back."""
        try:
            self.start(slot)
        except BaseException:
            self._give_up(slot)
            raise

    def start(self, slot: Slot) -> None:
        """Send *slot* as soon as that can be done; blocks only while too much is under way.

        Raises:
            Overloaded: There was no room until the deadline.
            NotStarted: The caller was closed.
        """
        self.begin()
        with self._lock:
            self._admit(slot)
            lane = self._usable_lane()
            session = self._session
            is_direct = not self._behind and lane is not None
            is_direct = is_direct and (session is not None or not self._is_exactly_once)
            if is_direct:
                self._assign(slot, lane)
            else:
                self._behind.add(slot)
            if slot.on_done is not None and not self._watches:
                self._watches = True
                self._queue.put(None)  # from now on the courier looks at the clock
        if is_direct:
            assert lane is not None, "it is usable"
            lane.send(slot)
        else:
            self._queue.put(slot)

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
                    self._give_up(slot)  # Ctrl-C

    def _admit(self, slot: Slot) -> None:
        """Wait for room, under the lock."""
        while True:
            self.refuse_closed()
            size, session = len(slot.command), self._session
            has_room = len(self._open) < MOST_COMMANDS and (
                not self._bytes or self._bytes + size <= MOST_BYTES
            )
            if has_room and (session is None or not session.is_full):
                break
            left = None if slot.deadline is None else slot.deadline - monotonic()
            if HERE.is_telling or (left is not None and left <= 0):
                raise Overloaded(
                    f"this caller has {len(self._open)} commands of {self._bytes} bytes under way,"
                    " and none of them ended in time"
                )
            self._blocked += 1
            try:
                self._changed.wait(left if left is None else min(left, LONGEST_BLOCK))
            finally:
                self._blocked -= 1
        self._open[slot] = None
        self._bytes += size

    def _usable_lane(self) -> Lane | None:
        home = self._home
        if home is not None and home.is_usable:
            return home
        return self._lane if self._lane is not None and self._lane.is_usable else None

    def _assign(self, slot: Slot, lane: Lane | None) -> None:
        """Number *slot* for its next sending, by *lane*; under the lock."""
        session = self._session
        if slot.session is not session and not slot.is_in_doubt and not slot.opens_session:
            if slot.session is not None:
                slot.session.settle(slot.sequence)
            slot.session, slot.sequence = session, 0
            if session is not None:
                slot.sequence = session.next_number  # known before it is waited for: Ctrl-C
                session.begin()
        slot.lane, slot.was_written = lane, False

    def _begin(self) -> None:
        with self._lock:
            self.refuse_closed()
            if self._thread is None:
                thread = Loop("tinyraft-caller-courier", self._run, died=self._died)
                thread.start()
                self._thread = thread
            if self._guard is None:
                guard = Guard("tinyraft-caller-guard", self.close)
                guard.start()
                self._guard = guard

    def _wait(self, slot: Slot) -> None:
        while True:
            left = None if slot.deadline is None else slot.deadline - monotonic()
            if left is not None and left <= 0:
                self._give_up(slot)
            patience = LOOK_AGAIN_SECONDS
            if left is not None and not slot.is_over:
                patience = min(patience, left)
            if slot.done.acquire(timeout=max(0.0, patience)) or slot.is_over:
                return  # or the word was lost (see `chain`)
            self._queue.put(None)  # is its node silent?

    def _give_up(self, slot: Slot) -> None:
        """Time is up: end *slot* with what is known of it, unless it is over already."""
        with self._lock:
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
            self._end(slot)
        slot.tell()

    def _take_back(self, slot: Slot) -> bool:
        """Withdraw *slot*, under the lock; False when any sending of it may have been applied.

        What the last one was answered may not have been looked at yet.
        """
        lane, answer = slot.lane, slot.error
        is_unsent = lane is None or lane.withdraw(slot)  # type: ignore[attr-defined]
        is_in_doubt = slot.is_in_doubt or isinstance(answer, MaybeApplied | ModuleFailed)
        return is_unsent and not is_in_doubt

    def _end(self, slot: Slot) -> None:
        """Mark it as over; under the lock."""
        slot.is_over = True
        self._behind.discard(slot)
        if slot in self._open:
            del self._open[slot]
            self._bytes -= len(slot.command)
        if slot.session is not None:
            slot.session.settle(slot.sequence)
        if self._blocked:
            self._changed.notify_all()

    # --- answers --------------------------------------------------------------------------------

    def answered(self, lane: Lane, answers: Sequence[Answer]) -> None:
        """Take what a lane's node said of commands; from any thread, without locks.

        At home that is a thread of the node, in which nothing of the program runs.
        """
        chain = lane.waking()
        over: list[Slot] = []
        again: list[Slot | None] = []
        leaves_to_thread = lane is self._home and not self._is_closed
        with self._lock:
            for answer in answers:
                slot, error = answer.slot, answer.error
                is_last = error is None or isinstance(error, Rejected | ModuleError)
                if slot.is_over or (slot.lane is not lane and not is_last):
                    continue  # given up, or on another way: only the module's word still counts
                slot.error, slot.result = error, answer.result
                slot.index, slot.term = answer.index, answer.term
                if not (is_last or slot.opens_session):
                    slot.lane = None
                    self._behind.add(slot)
                    again.append(slot)
                    continue
                self.last_index = max(self.last_index, answer.index)
                is_waited_for = slot.on_done is None and not slot.is_one_of_many
                if is_waited_for:
                    slot.chain = chain
                    chain.join(slot.done)
                elif slot.is_future:
                    slot.stages = answer.stages
                self._end(slot)
                if slot.is_future and leaves_to_thread:
                    self._ended.put(slot)
                elif not is_waited_for:
                    over.append(slot)
        chain.open()
        if leaves_to_thread and not self._ended.empty():
            again.append(None)
        for slot in over:
            slot.tell()
        for left in again:
            self._queue.put(left)

    # --- the courier's thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._tell_ended()  # `close` lets no more come

    def _work(self) -> None:
        while not self._is_closed:
            self._collect()
            self._look()
            if not self._waiting or self._is_closed:
                continue
            if self._pauses:
                self._pauses = False
                self._pause()
                continue
            try:
                lane = self._find_lane()
                if lane is not None and self._has_session(lane):
                    self._send(lane)
            except TinyraftError as error:  # another cluster, or closed
                self._fail_waiting(error)

    def _collect(self) -> None:
        """Take what has come; wait for it if there is nothing to do."""
        try:
            item = self._queue.get(timeout=self._patience())
            while True:
                if item is not None:
                    self._take(item)
                item = self._queue.get_nowait()
        except Empty:
            pass

    def _patience(self) -> float | None:
        if self._waiting:
            return 0.0
        return LOOK_SECONDS if self._watches else None

    def _take(self, slot: Slot) -> None:
        """Decide what follows from the last answer to *slot*, if there was one."""
        with self._lock:
            error = None if slot.is_over else slot.error  # else that is what it ended with
        if error is not None:
            retry = self._route.after(
                error, is_numbered=slot.session is not None, is_in_doubt=slot.is_in_doubt
            )
            if retry is None:
                self._fail(slot, error)
                return
            self._prepare(slot, error, retry)
        self._waiting.append(slot)

    def _prepare(self, slot: Slot, error: TinyraftError, retry: Retry) -> None:
        self._pauses |= not retry.at_once
        with self._lock:
            if not isinstance(slot.why, SessionExpired):  # else it is in the log, without effect
                slot.why = error
            slot.is_in_doubt |= retry.is_in_doubt
            if not slot.is_over:
                slot.error = None
            if retry.in_new_session and slot.session is self._session:
                self._session = None
        if retry.elsewhere:
            self._leave()

    def _leave(self) -> None:
        """Look for another leader next time."""
        with self._lock:
            lane, self._lane = self._lane, None
        if lane is not None:
            lane.finish()

    def _fail(self, slot: Slot, error: TinyraftError) -> None:
        """End *slot*; what one sending may have done, no later refusal undoes."""
        with self._lock:
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
            self._end(slot)
        slot.tell()

    def _fail_waiting(self, error: TinyraftError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for slot in waiting:
            self._fail(slot, type(error)(str(error)))

    def _look(self) -> None:
        """End what is out of time, forget what is over, and take back what a silent node has."""
        self._end_due()
        with self._lock:
            self._waiting = deque(slot for slot in self._waiting if not slot.is_over)
            lane = self._lane
        if lane is not None and not lane.is_usable:
            self._leave_silent(lane)

    def _end_due(self) -> None:
        """End the futures that are out of time, and tell those that ended at home."""
        now = monotonic()
        if self._watches and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            with self._lock:
                watched = [slot for slot in self._open if slot.on_done is not None]
                self._watches = bool(watched)
            for slot in watched:
                if slot.deadline is not None and slot.deadline <= now:
                    self._give_up(slot)
        self._tell_ended()

    def _tell_ended(self) -> None:
        for slot in take_all(self._ended):
            slot.tell()

    def _wait_for(self, over: Callable[[float], bool], seconds: float) -> bool:
        """Wait for *over*, which itself waits so long as it is told; futures end in time."""
        until = monotonic() + seconds
        while not self._is_closed and (left := until - monotonic()) > 0:
            if over(min(left, LOOK_SECONDS)):
                return True
            self._end_due()
        return False

    def _leave_silent(self, lane: CommandStream) -> None:
        self._leave()
        self._search.left_silent(lane)
        if not self._is_exactly_once:
            return  # what was sent waits: only its answer can tell
        with self._lock:
            slots = [slot for slot in self._open if slot.lane is lane]
        why = f"{lane.address} is silent; the command was sent and may be applied"
        self.answered(lane, [Answered(slot, ConnectionLost(why)) for slot in slots])

    def _find_lane(self) -> Lane | None:
        """Return the way to the leader; None when one try was in vain."""
        with self._lock:
            lane = self._usable_lane()
        if lane is not None:
            return lane
        self._leave()
        found = self._search.try_next(self._wait_for)
        if found is None and self._route.tried():
            self._pause()
        with self._lock:
            self._lane = found
        return found

    def _has_session(self, lane: Lane) -> bool:
        """Make sure that there is a session; False when the leader could not open one now."""
        if self._session is not None or not self._is_exactly_once:
            return True
        slot = Slot(b"", opens_session=True, on_done=self._opened)
        with self._lock:
            self._open[slot] = None
            self._assign(slot, lane)
        lane.send(slot)

        def is_told(seconds: float) -> bool:
            return slot.done.acquire(timeout=seconds) or self._session is not None

        if not self._wait_for(is_told, SESSION_SECONDS):
            self._leave()  # but its answer counts when it comes
            return False
        error = slot.error
        if error is None:
            return True
        retry = self._route.after(error, is_numbered=True)  # one session too many does no harm
        if retry is None:
            raise error
        if isinstance(error, NotApplied):  # what became of a session is not what became of them
            for waiting in self._waiting:
                waiting.why = waiting.why or error
        self._pauses |= not retry.at_once
        if retry.elsewhere:
            self._leave()
        return False

    def _opened(self, slot: Slot) -> None:
        """Use the session that *slot* opened, however late, if there is none yet."""
        if slot.error is None:
            with self._lock:
                self._session = self._session or Session(slot.index, slot.term)
        slot.done.release()

    def _send(self, lane: Lane) -> None:
        """Send everything that waits."""
        waiting, self._waiting = self._waiting, deque()
        with self._lock:
            sent = [slot for slot in waiting if not slot.is_over]
            for slot in sent:
                self._assign(slot, lane)
        for slot in sent:
            lane.send(slot)
        with self._lock:
            # Who was refused meanwhile is on the way back to this thread.
            self._behind.difference_update([slot for slot in sent if slot.lane is lane])

    def _pause(self) -> None:
        """Wait a little."""
        self.sleep(self._route.pause())

    # --- the end --------------------------------------------------------------------------------

    def refuse_closed(self) -> None:
        """Raise `NotStarted` when the caller was closed."""
        if self._is_closed:
            raise NotStarted(self._why)

    def sleep(self, seconds: float) -> None:
        """Wait, but not after the end."""
        with self._lock:
            if not self._is_closed:
                self._changed.wait(seconds)

    def _died(self, thread: str, error: BaseException) -> None:
        """End with the thread: nobody else would send again, or end what is out of time."""
        self._log.error("caller_failed", thread=thread, error=repr(error), exc_info=error)
        self._why = f"this caller stopped: {thread} ended with {error!r}"
        self.close()

    def close(self) -> None:
        """Break off everything: whoever waits gets `MaybeApplied`, or `NotStarted` if unsent."""
        with self._lock:
            self._is_closed = True
            slots = list(self._open)
            for slot in slots:
                self._stop(slot)
            lane, self._lane = self._lane, None
            guard, self._guard = self._guard, None
            thread = self._thread
            self._changed.notify_all()
        for slot in slots:
            slot.tell()
        self._queue.put(None)
        if lane is not None:
            lane.break_off()
        self._channels.close()
        if guard is not None:
            guard.cancel()
        if thread is not None:
            thread.join(JOIN_SECONDS)

    def _stop(self, slot: Slot) -> None:
        if self._take_back(slot):
            slot.error = NotStarted(f"{self._why}; nothing was sent")
        else:
            slot.error = ServerStopped(
                f"{self._why}; the command may be applied", request_id=slot.request_id
            )
        self._end(slot)
