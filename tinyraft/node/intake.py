"""Commands on their way into the log: they wait for the batch before them, and may be refused.

Law: a batch begins with the visit to the core that ends the one before, or as soon as those have
come who are waited for. What is refused here was never appended. While leadership is handed over
everything waits: in a moment it is known where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from tinyraft.core.raft import Raft
from tinyraft.errors import NotLeader, StorageFull, TinyraftError
from tinyraft.node.applier import Applier
from tinyraft.node.backlog import Backlog
from tinyraft.node.clock import Clock
from tinyraft.node.gathering import Gathering
from tinyraft.node.inbox import Inbox
from tinyraft.node.space import Space
from tinyraft.node.waiters import Waiter, Waiters

Refused: TypeAlias = tuple[list[Waiter], TinyraftError] | None


class Intake:
    """What one node has been told to append. Whoever passes the core holds its lock."""

    def __init__(
        self, raft: Raft, *, waiters: Waiters, applier: Applier, space: Space, clock: Clock
    ) -> None:
        """Put what is appended among *waiters*; *applier* and *space* say when there is no room."""
        limits = raft.settings
        most, most_bytes = limits.max_pending_commands, limits.max_pending_bytes
        self.is_leaving = False  # takes no more
        self.has_left = False  # no longer waits for its successor to be known
        self.inbox = Inbox(max_commands=most, max_bytes=most_bytes)
        self.backlog = Backlog(raft.me, max_commands=most, max_bytes=most_bytes)
        self.gathering = Gathering()
        self._batch_is_open = False  # something is uncommitted: what is proposed waits
        self._me = raft.me
        self._waiters = waiters
        self._applier = applier
        self._space = space
        self._clock = clock

    # --- at the door --------------------------------------------------------------------------

    def put(self, commands: Sequence[bytes], waiters: Sequence[Waiter]) -> None:
        """Let *commands* wait, as many as there is room for; the others have their answer.

        Raises:
            Overloaded: There is no room at all.
        """
        refused = self.inbox.put(commands, waiters)
        if refused:
            why = self.inbox.overloaded()
            for waiter in refused:
                waiter.resolve(None, why)

    @property
    def may_begin(self) -> bool:
        """Whether a visit to the core would append what waits. Thread-safe."""
        return not self._batch_is_open and self.gathering.is_enough(len(self.inbox))

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody's command is here, or in the batch under way. Thread-safe."""
        return self._batch_is_open or len(self.inbox) > 0

    def refuse_all(self, why: str) -> None:
        """Answer everybody who waits at the door: nothing of theirs was appended. Thread-safe."""
        _, waiters = self.inbox.take()
        for waiter in waiters:
            waiter.resolve(None, NotLeader(why))

    # --- into the log -------------------------------------------------------------------------

    def look(self, raft: Raft) -> Refused:
        """Append what waits, unless a batch is still uncommitted; return who is to be refused."""
        is_open = raft.leadership is not None and raft.log.last_index > raft.commit_index
        is_open = is_open or (raft.awaits_successor and not self.has_left)
        if self._batch_is_open and not is_open and raft.leadership is not None:
            self.gathering.ended(waiting=len(self.inbox), now=self._clock.monotonic())
            self._applier.ring()  # it keeps the time, also where this disk is late
        self._batch_is_open = is_open
        waiting = len(self.inbox)
        if is_open or not waiting or (raft.leadership and self._is_gathering(waiting)):
            return None
        commands, waiters = self.inbox.take()
        try:
            self.refuse_if_leaving(raft)
            self._refuse_if_full(raft)
            self._refuse_if_behind(raft)
            stamps = [waiter.stamp for waiter in waiters]
            now = self._clock.time_ns() // 1000
            proposed = raft.propose(commands, time_us=now, stamps=stamps)
        except TinyraftError as error:
            return waiters, error
        self.backlog.proposed(
            first=proposed.first, count=len(commands), size=sum(map(len, commands))
        )
        self._waiters.add(waiters, first=proposed.first, term=proposed.term)
        self.gathering.begins(len(commands), now=self._clock.monotonic())
        self._batch_is_open = True
        return None

    def wait_no_longer(self) -> None:
        """Let the next batch begin with whoever has come, unless more do. Under the core's lock."""
        waiting = len(self.inbox)
        if not self._is_gathering(waiting):
            self.gathering.over(waiting)

    def _is_gathering(self, waiting: int) -> bool:
        return self.gathering.holds(waiting, now=self._clock.monotonic())

    # --- refusals -----------------------------------------------------------------------------

    def refuse_if_leaving(self, raft: Raft) -> None:
        """Refuse what somebody else has to take, or nobody can.

        Raises:
            NotLeader: This node is shutting down.
            ModuleFailed: Its module applies nothing more, and nobody takes over.
        """
        if self.is_leaving:
            raise raft.not_leader("is shutting down")
        leadership, broken = raft.leadership, self._applier.failure
        if broken is not None and leadership is not None and leadership.transfer is None:
            raise broken  # nobody can take over from here

    def _refuse_if_full(self, raft: Raft) -> None:
        """Refuse commands; whoever gets leadership for that takes them."""
        shortage = self._space.shortage
        if shortage and raft.leadership is not None and raft.leadership.transfer is None:
            raise StorageFull(f"{self._me} takes no commands: {shortage}")

    def _refuse_if_behind(self, raft: Raft) -> None:
        """Refuse commands that would wait for too many others; all in the log are committed."""
        if raft.leadership is not None:
            seen = max(self._applier.last_applied, raft.snapshot_index)
            self.backlog.refuse_if_long(committed=raft.commit_index, applied=seen)
