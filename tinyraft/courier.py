"""A caller's commands that don't go straight, and what is answered to all of them (6.2, 6.3).

Law: one thread, the courier's, does in order whatever needs more than one step: looking for the
leader, opening the session, sending again. While a sending of a command may have been applied, that
is sent again only under its number, and ends in `MaybeApplied` if time ends first.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic

from tinyraft.errors import (
    ConnectionLost,
    ModuleError,
    NotApplied,
    Rejected,
    SessionExpired,
    TinyraftError,
)
from tinyraft.leader_search import LeaderSearch
from tinyraft.ledger import Lane, Ledger
from tinyraft.node.loop import Loop
from tinyraft.route import Retry, Route
from tinyraft.session import Session
from tinyraft.transport.channels import Channels
from tinyraft.transport.commands import Answer, Answered, CommandStream
from tinyraft.transport.queues import take_all
from tinyraft.transport.slots import Slot

SESSION_SECONDS = 2.0  # how long a node may take to open a session before another look
JOIN_SECONDS = 1.0
LOOK_SECONDS = 0.1  # between two looks at deadlines and silent lanes, while futures are open


class Courier:
    """The thread of one caller. What has no underscore is thread-safe."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        channels: Channels,
        ledger: Ledger,
        died: Callable[[str, BaseException], None],
    ) -> None:
        """Prepare; nothing is dialled yet. *died* is told if the thread ends early."""
        self.last_index = 0  # the highest one that an answer told
        self._ledger = ledger
        self._route = Route(addresses, random=random.Random())
        self._search = LeaderSearch(
            self._route, channels=channels, lock=ledger.lock, answered=self.answered
        )
        self._died = died
        self._thread: Loop | None = None
        self._queue: SimpleQueue[Slot | None] = SimpleQueue()  # None: look
        self._ended: SimpleQueue[Slot] = SimpleQueue()  # at home; the thread tells their owners
        self._waiting: deque[Slot] = deque()  # the thread's own
        self._pauses = False  # likewise
        self._look_at = 0.0  # likewise, at deadlines

    def start(self) -> None:
        """Start the thread, unless it runs. Called under the lock."""
        if self._thread is None:
            thread = Loop("tinyraft-caller-courier", self._run, died=self._died)
            thread.start()
            self._thread = thread

    def take(self, slot: Slot) -> None:
        """Send *slot* as soon as there is a way."""
        self._queue.put(slot)

    def look(self) -> None:
        """Look whether a node is silent, or something is out of time."""
        self._queue.put(None)

    def join(self) -> None:
        """Wait a little for the thread, behind the end."""
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    # --- answers --------------------------------------------------------------------------------

    def answered(self, lane: Lane, answers: Sequence[Answer]) -> None:
        """Take what a lane's node said of commands; from any thread, without locks.

        At home that is a thread of the node, in which nothing of the program runs.
        """
        ledger = self._ledger
        chain = lane.waking()
        over: list[Slot] = []
        again: list[Slot | None] = []
        leaves_to_thread = lane is ledger.home and not ledger.is_closed
        with ledger.lock:
            for answer in answers:
                slot, error = answer.slot, answer.error
                is_last = error is None or isinstance(error, Rejected | ModuleError)
                if slot.is_over or (slot.lane is not lane and not is_last):
                    continue  # given up, or on another way: only the module's word still counts
                slot.error, slot.result = error, answer.result
                slot.index, slot.term = answer.index, answer.term
                if not (is_last or slot.opens_session):
                    slot.lane = None
                    ledger.behind.add(slot)
                    again.append(slot)
                    continue
                self.last_index = max(self.last_index, answer.index)
                is_waited_for = slot.on_done is None and not slot.is_one_of_many
                if is_waited_for:
                    slot.chain = chain
                    chain.join(slot.done)
                elif slot.is_future:
                    slot.stages = answer.stages
                ledger.end(slot)
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
        while not self._ledger.is_closed:
            self._collect()
            self._look()
            if not self._waiting or self._ledger.is_closed:
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
        return LOOK_SECONDS if self._ledger.watches else None

    def _take(self, slot: Slot) -> None:
        """Decide what follows from the last answer to *slot*, if there was one."""
        with self._ledger.lock:
            error = None if slot.is_over else slot.error  # else that is what it ended with
        if error is not None:
            retry = self._route.after(
                error, is_numbered=slot.session is not None, is_in_doubt=slot.is_in_doubt
            )
            if retry is None:
                self._ledger.fail(slot, error)
                return
            self._prepare(slot, error, retry)
        self._waiting.append(slot)

    def _prepare(self, slot: Slot, error: TinyraftError, retry: Retry) -> None:
        self._pauses |= not retry.at_once
        with self._ledger.lock:
            if not isinstance(slot.why, SessionExpired):  # else it is in the log, without effect
                slot.why = error
            slot.is_in_doubt |= retry.is_in_doubt
            if not slot.is_over:
                slot.error = None
            if retry.in_new_session and slot.session is self._ledger.session:
                self._ledger.session = None
        if retry.elsewhere:
            self._leave()

    def _leave(self) -> None:
        """Look for another leader next time."""
        with self._ledger.lock:
            lane, self._ledger.lane = self._ledger.lane, None
        if lane is not None:
            lane.finish()

    def _fail_waiting(self, error: TinyraftError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for slot in waiting:
            self._ledger.fail(slot, type(error)(str(error)))

    def _look(self) -> None:
        """End what is out of time, forget what is over, and take back what a silent node has."""
        self._end_due()
        with self._ledger.lock:
            self._waiting = deque(slot for slot in self._waiting if not slot.is_over)
            lane = self._ledger.lane
        if lane is not None and not lane.is_usable:
            self._leave_silent(lane)

    def _end_due(self) -> None:
        """End the futures that are out of time, and tell those that ended at home."""
        now = monotonic()
        if self._ledger.watches and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            with self._ledger.lock:
                watched = [slot for slot in self._ledger.slots if slot.on_done is not None]
                self._ledger.watches = bool(watched)
            for slot in watched:
                if slot.deadline is not None and slot.deadline <= now:
                    self._ledger.give_up(slot)
        self._tell_ended()

    def _tell_ended(self) -> None:
        for slot in take_all(self._ended):
            slot.tell()

    def _wait_for(self, over: Callable[[float], bool], seconds: float) -> bool:
        """Wait for *over*, which itself waits so long as it is told; futures end in time."""
        until = monotonic() + seconds
        while not self._ledger.is_closed and (left := until - monotonic()) > 0:
            if over(min(left, LOOK_SECONDS)):
                return True
            self._end_due()
        return False

    def _leave_silent(self, lane: CommandStream) -> None:
        self._leave()
        self._search.left_silent(lane)
        if not self._ledger.is_exactly_once:
            return  # what was sent waits: only its answer can tell
        with self._ledger.lock:
            slots = [slot for slot in self._ledger.slots if slot.lane is lane]
        why = f"{lane.address} is silent; the command was sent and may be applied"
        self.answered(lane, [Answered(slot, ConnectionLost(why)) for slot in slots])

    def _find_lane(self) -> Lane | None:
        """Return the way to the leader; None when one try was in vain."""
        with self._ledger.lock:
            lane = self._ledger.usable_lane
        if lane is not None:
            return lane
        self._leave()
        found = self._search.try_next(self._wait_for)
        if found is None and self._route.tried():
            self._pause()
        with self._ledger.lock:
            self._ledger.lane = found
        return found

    def _has_session(self, lane: Lane) -> bool:
        """Make sure that there is a session; False when the leader could not open one now."""
        if self._ledger.session is not None or not self._ledger.is_exactly_once:
            return True
        slot = Slot(b"", opens_session=True, on_done=self._opened)
        with self._ledger.lock:
            self._ledger.slots[slot] = None
            self._ledger.assign(slot, lane)
        lane.send(slot)

        def is_told(seconds: float) -> bool:
            return slot.done.acquire(timeout=seconds) or self._ledger.session is not None

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
            with self._ledger.lock:
                self._ledger.session = self._ledger.session or Session(slot.index, slot.term)
        slot.done.release()

    def _send(self, lane: Lane) -> None:
        """Send everything that waits."""
        waiting, self._waiting = self._waiting, deque()
        with self._ledger.lock:
            sent = [slot for slot in waiting if not slot.is_over]
            for slot in sent:
                self._ledger.assign(slot, lane)
        for slot in sent:
            lane.send(slot)
        with self._ledger.lock:
            # Who was refused meanwhile is on the way back to this thread.
            self._ledger.behind.difference_update([slot for slot in sent if slot.lane is lane])

    def _pause(self) -> None:
        """Wait a little."""
        self._ledger.sleep(self._route.pause())
