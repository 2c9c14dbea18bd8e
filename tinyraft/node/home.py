"""The way from a program to its own node, while that leads: no wire, no thread in between.

Law: the same promises as a stream to another node: a command is withdrawn only if it was certainly
not appended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock

from tinyraft.core.entry import OPENS_SESSION, PLAIN, Origin, Stamp, session_stamp, stamp
from tinyraft.core.sessions import LIMITS
from tinyraft.errors import TinyraftError
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter
from tinyraft.transport.commands import Answer, Answered
from tinyraft.transport.slots import Slot


class Ticket(Waiter):
    """A waiter that knows whose command it is."""

    __slots__ = ("slot",)

    def __init__(self, slot: Slot, on_done: Callable[[Sequence[Ticket]], None]) -> None:
        """Wait for *slot*."""
        super().__init__(on_done, stamp=stamp_of(slot))
        self.slot = slot


class Home:
    """The lane to the program's own node. Thread-safe."""

    def __init__(
        self,
        node: Node,
        *,
        lock: Lock,
        answered: Callable[[object, Sequence[Answer]], None],
    ) -> None:
        """Propose to *node*; *lock* guards the slots of their owner, who is told what came."""
        self._node = node
        self._lock = lock
        self._answered = answered
        self._tell = partial(answered, self)

    @property
    def is_usable(self) -> bool:
        """Whether this node leads, and belongs to its cluster."""
        return self._node.leads and not self._node.is_removed

    def send(self, slot: Slot) -> None:
        """Propose *slot*, whose lane this is."""
        with self._lock:
            if slot.is_over or slot.lane is not self:
                return
            slot.was_written = True
            ticket = slot.ticket = Ticket(slot, self._tell)
        try:
            self._node.propose([LIMITS if slot.opens_session else slot.command], [ticket])
        except TinyraftError as error:
            self._answered(self, [Answered(slot, error)])

    def withdraw(self, slot: Slot) -> bool:
        """Take *slot* back, under the lock; False when it was, or may be, appended."""
        if not slot.was_written:
            return True
        assert isinstance(slot.ticket, Ticket), "made when it was sent"
        return self._node.withdraw(slot.ticket)

    def finish(self) -> None:
        """Nothing is open."""

    def break_off(self) -> None:
        """Nothing is open."""


def stamp_of(slot: Slot) -> Stamp:
    """Encode what the entry says beside the command."""
    if slot.opens_session:
        return OPENS_SESSION
    session = slot.session
    if session is None:
        return stamp(Origin(0, 0, 0, 0, slot.request_id)) if slot.request_id else PLAIN
    below = session.answered_below
    if not slot.request_id:
        return session_stamp(session.index, session.term, slot.sequence, below)
    return stamp(Origin(session.index, session.term, slot.sequence, below, slot.request_id))
