"""The demo's words on their way: several threads send them through one `Caller`.

Law: the fate of every word is written down. A word that is certainly not applied is sent again; one
whose outcome is unknown never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from threading import Condition, Thread
from time import monotonic

from tinyraft.caller import Caller
from tinyraft.errors import CommandTooLarge, MaybeApplied, NotApplied, TinyraftError

APPLY_SECONDS = 10.0


class Outcome(Enum):
    """What the sender knows of a word."""

    WAITING = "waiting"  # not sent, or not answered
    ACKNOWLEDGED = "acknowledged"  # applied: on every node exactly once
    UNKNOWN = "unknown"  # MaybeApplied: on every node, or on none
    REFUSED = "refused"  # any other error, in the end: on none


@dataclass(slots=True)
class Sending:
    """A word and its fate; the times are monotonic."""

    command: bytes
    outcome: Outcome = Outcome.WAITING
    began: float = 0.0
    ended: float = 0.0
    position: int = 0  # the module's answer: its place in the list
    retries: int = 0  # how often it was certainly not applied and sent again
    why: str = ""


class Traffic:
    """Sends all words; thread-safe. What lies behind *barrier* waits until that is lifted."""

    def __init__(
        self,
        caller: Caller,
        commands: Sequence[bytes],
        *,
        barrier: int,
        advance: Callable[[], object],
    ) -> None:
        """Prepare; *advance* is called for every word that has met its fate."""
        self.sendings = [Sending(command) for command in commands]
        self.acknowledged = 0
        self.settled = 0
        self._caller = caller
        self._advance = advance
        self._changed = Condition()  # guards the counts, the outcomes and all below; leaf
        self._barrier = barrier
        self._next = 0
        self._stopped = False
        self._threads: list[Thread] = []

    def start(self, threads: int) -> None:
        """Send with so many threads."""
        for number in range(1, threads + 1):
            thread = Thread(target=self._work, name=f"tinyraft-demo-{number}")
            thread.start()
            self._threads.append(thread)  # now: a Ctrl-C in between must not join what never began

    def lift_barrier(self) -> None:
        """Let the rest of the words go."""
        with self._changed:
            self._barrier = len(self.sendings)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], *, deadline: float) -> bool:
        """Wait until *condition* holds, looked at after every word; False at *deadline*."""
        with self._changed:
            return self._changed.wait_for(condition, max(0.0, deadline - monotonic()))

    def first_ended_of(self, *, begun_after: float) -> float | None:
        """When the first word was acknowledged that was begun later than that."""
        with self._changed:
            ends = (
                sending.ended
                for sending in self.sendings
                if sending.outcome is Outcome.ACKNOWLEDGED and sending.began > begun_after
            )
            return min(ends, default=None)

    def is_done(self) -> bool:
        """Whether every word has met its fate."""
        return self.settled == len(self.sendings)

    def stop(self) -> None:
        """Send no more, and wait for the threads; close the caller first, or it takes a while."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # --- in the threads -----------------------------------------------------------------------

    def _work(self) -> None:
        while (sending := self._take()) is not None:
            outcome = self._send(sending)
            with self._changed:
                sending.outcome = outcome
                self.settled += 1
                self.acknowledged += outcome is Outcome.ACKNOWLEDGED
                self._changed.notify_all()
            self._advance()

    def _take(self) -> Sending | None:
        """Take the next word; None when there is none left."""
        with self._changed:
            while not self._stopped and self._barrier <= self._next < len(self.sendings):
                self._changed.wait()
            if self._stopped or self._next == len(self.sendings):
                return None
            self._next += 1
            return self.sendings[self._next - 1]

    def _send(self, sending: Sending) -> Outcome:
        """Send a word until its fate is known, or known to be unknown."""
        sending.began = monotonic()
        while True:
            outcome = self._try(sending)
            if outcome is not Outcome.WAITING:
                sending.ended = monotonic()
                return outcome
            sending.retries += 1

    def _try(self, sending: Sending) -> Outcome:
        """Send a word once; `WAITING` means that it may be sent again."""
        try:
            answer = self._caller.apply(sending.command, timeout=APPLY_SECONDS)
        except MaybeApplied as error:
            sending.why = str(error)
            return Outcome.UNKNOWN
        except TinyraftError as error:
            sending.why = str(error)
            is_certain = isinstance(error, NotApplied) and not isinstance(error, CommandTooLarge)
            return Outcome.WAITING if is_certain and not self._stopped else Outcome.REFUSED
        sending.position = int(answer or b"0")
        return Outcome.ACKNOWLEDGED
