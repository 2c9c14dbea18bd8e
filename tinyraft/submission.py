"""A command that nobody waits for yet, and what is known of it when it is done."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, PENDING
from threading import Condition, RLock
from typing import Any, NamedTuple

from tinyraft.transport.slots import Slot


class Stages(NamedTuple):
    """Where a command spent its time on the leader, in seconds; all 0 where an answer is repeated.

    Attributes:
        waited: For a place in the log.
        replicated: Until a majority had it on disk.
        applied: For the module, and in it.
    """

    waited: float
    replicated: float
    applied: float


NO_STAGES = 0, 0, 0
LOCK = RLock()  # of all submissions: held for a few steps, never while anybody waits


class Submission(Future[bytes | None]):
    """A command on its way: a future of its result, which can't be cancelled.

    A plain future is a dozen objects, most of them for threads that wait for it. Thousands of these
    are under way at once, and who submits seldom waits for one: so here they are made on demand.

    Attributes:
        index: Where it was applied, once it is done; 0 when that is not known.
        term: That entry's term.
    """

    def __init__(self) -> None:
        """Begin."""
        self.index = 0
        self.term = 0
        self._stages = NO_STAGES
        self._state = PENDING
        self._result: bytes | None = None
        self._exception: BaseException | None = None
        self._meeting: Condition | None = None
        self._observers: list[Any] | None = None
        self._callbacks: list[Callable[[Any], object]] | None = None

    @property
    def stages(self) -> Stages:
        """Where its time went."""
        waited, replicated, applied = self._stages
        return Stages(waited / 1e6, replicated / 1e6, applied / 1e6)

    # --- what a future's own methods use ----------------------------------------------------------

    @property
    def _condition(self) -> Condition:  # type: ignore[override]
        with LOCK:
            if self._meeting is None:
                self._meeting = Condition(LOCK)
            return self._meeting

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        with LOCK:
            if self._observers is None:
                self._observers = []
            return self._observers

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        with LOCK:
            if self._callbacks is None:
                self._callbacks = []
            return self._callbacks

    # --- a future's methods, without a wait where there is nothing to wait for --------------------

    def cancel(self) -> bool:
        """Refuse: a command that was sent can't be taken back."""
        return False

    def running(self) -> bool:
        """Tell whether its outcome is still open."""
        return not self.done()

    def done(self) -> bool:
        """Tell whether it is over."""
        return self._state == FINISHED

    def result(self, timeout: float | None = None) -> bytes | None:
        """Wait for the module's answer, or raise what `Caller.apply` would."""
        if self._state == FINISHED and self._exception is None:
            return self._result
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end, and return what `result` would raise."""
        return self._exception if self._state == FINISHED else super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call *fn* with this when it is done, in the caller's thread; at once, here, if it is."""
        with LOCK:
            if self._state != FINISHED:
                self._done_callbacks.append(fn)
                return
        super().add_done_callback(fn)

    def settle(self, slot: Slot) -> None:
        """Take the outcome of *slot*."""
        with LOCK:
            self.index, self.term, self._stages = slot.index, slot.term, slot.stages
            has_met = self._meeting is not None
            if not has_met:
                self._result, self._exception = slot.result, slot.error
                self._state = FINISHED
        if not has_met:
            if self._callbacks is not None:
                self._invoke_callbacks()  # type: ignore[attr-defined]
        elif slot.error is not None:
            self.set_exception(slot.error)
        else:
            self.set_result(slot.result)
