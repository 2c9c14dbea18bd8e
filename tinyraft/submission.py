"""Commands that nobody waits for yet, and what is known of them when they are done."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import NamedTuple

from tinyraft.errors import TinyraftError
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


class Submission(Future[bytes | None]):
    """A command on its way: a future of its result, which can't be cancelled.

    Attributes:
        index: Where it was applied, once it is done; 0 when that is not known.
        term: That entry's term.
        stages: Where its time went.
    """

    def __init__(self) -> None:
        """Begin."""
        super().__init__()
        self.index = 0
        self.term = 0
        self.stages = Stages(0.0, 0.0, 0.0)
        self.set_running_or_notify_cancel()

    def settle(self, slot: Slot) -> None:
        """Take the outcome of *slot*."""
        self.index, self.term = slot.index, slot.term
        self.stages = Stages(*(microseconds / 1e6 for microseconds in slot.stages))
        if slot.error is not None:
            self.set_exception(slot.error)
        else:
            self.set_result(slot.result)


class Many:
    """Commands that are waited for together."""

    def __init__(self, count: int) -> None:
        """Expect so many."""
        self._left = count
        self._lock = Lock()  # guards the count; leaf
        self._over = Lock()
        if count:
            self._over.acquire()

    def settle(self, _slot: Slot) -> None:
        """Count one that is over."""
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._over.release()

    def wait(self, slots: list[Slot]) -> list[bytes | None]:
        """Wait for all of them; raise the error of the first that has one."""
        with self._over:
            pass
        for slot in slots:
            error: TinyraftError | None = slot.error
            if error is not None:
                raise error
        return [slot.result for slot in slots]
