"""A command that nobody waits for yet, and what is known of it when it is done."""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple

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


NO_STAGES = Stages(0.0, 0.0, 0.0)


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
        self.stages = NO_STAGES

    def cancel(self) -> bool:
        """Refuse: a command that was sent can't be taken back."""
        return False

    def running(self) -> bool:
        """Tell whether its outcome is still open."""
        return not self.done()

    def settle(self, slot: Slot) -> None:
        """Take the outcome of *slot*."""
        self.index, self.term = slot.index, slot.term
        waited, replicated, applied = slot.stages
        self.stages = Stages(waited / 1e6, replicated / 1e6, applied / 1e6)
        if slot.error is not None:
            self.set_exception(slot.error)
        else:
            self.set_result(slot.result)
