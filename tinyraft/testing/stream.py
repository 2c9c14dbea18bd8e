"""A stream of appends between two simulated members: in order, or broken.

Law: what was sent on a stream that broke may still arrive, late; its answers never do. The receiver
takes one append after the other, and hears of the sender's end only through the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from tinyraft.core.entry import NodeId
from tinyraft.core.messages import AppendEntries, AppendReply, Reply
from tinyraft.testing.surroundings import Process

KEEPALIVE = 4.0  # election timeouts until a silent connection is given up


class SimStream:
    """Both ends of one stream."""

    def __init__(
        self,
        sender: Process,
        address: str,
        peer: NodeId,
        answered: Callable[[AppendReply], None],
        *,
        closed: Callable[[], None],
    ) -> None:
        """Open it from *sender* to whoever listens at *address*, meaning *peer*.

        The sender is *answered*, and told when it is *closed*.
        """
        self.sender = sender
        self.is_open = True
        self._life = sender.life
        self._world = sender.world
        self._target = self._world.member_at(address)
        self._target_life = 0 if self._target is None else self._target.life
        self._peer = peer
        self._answered = answered
        self._closed = closed
        self._arrives = 0.0  # when the last message does: the order is kept
        self._returns = 0.0
        self._inbox: deque[AppendEntries] = deque()
        self._is_busy = False
        self._term = 0
        self._has_parted = False
        self._is_ended = False  # at the receiver
        self._is_dead = False  # nothing gets through any more
        self._world.streams.append(self)

    def __iter__(self) -> Iterator[AppendReply]:
        """Not used: the driver is called back."""
        raise NotImplementedError

    # --- the sender's end -----------------------------------------------------------------------

    def send(self, append: AppendEntries) -> None:
        """Send one append."""
        self._pass(f"append {append.prev_index}+{len(append.entries)}", lambda: self._take(append))

    def goodbye(self) -> None:
        """End it on purpose."""
        self._pass("goodbye", self._part)
        self.is_open = False

    def cancel(self) -> None:
        """End it: the peer was silent for too long."""
        self.break_off()

    def break_off(self, *, is_told: bool = True) -> None:
        """Let it end at both ends; the receiver is told if the network lets it."""
        if self.is_open:
            self.is_open = False
            self._closed()
            self.sender.run(self._life, "stream broke", lambda: None)
        if is_told and self._target is not None:
            self._world.network.send(self.sender.name, self._peer, "reset", self._ended)

    def _pass(self, what: str, action: Callable[[], None]) -> None:
        network, name = self._world.network, self.sender.name
        if self._is_dead or self._target is None or network.loses(name, self._peer):
            self.die()
            return
        now = self._world.schedule.now
        self._arrives = max(self._arrives, now + network.delay(name, self._peer))
        self._world.schedule.after(
            self._arrives - now, f"{name}>{self._peer} {what}", lambda: self._arrive(action)
        )

    def leads_to(self, member: Process) -> bool:
        """Tell whether *member* is at the other end."""
        return self._target is member

    def die(self) -> None:
        """Nothing arrives any more; the sender finds out when it has waited for long."""
        if self._is_dead:
            return
        self._is_dead = True
        seconds = KEEPALIVE * self._world.story.timeout
        self._world.schedule.after(seconds, f"{self.sender.name} keepalive", self.break_off)

    # --- the receiver's end ---------------------------------------------------------------------

    def _arrive(self, action: Callable[[], None]) -> None:
        target = self._target
        assert target is not None, "nothing is sent to nobody"
        if not target.is_up or target.life != self._target_life or target.name != self._peer:
            self._world.network.send(target.name, self.sender.name, "refused", self.break_off)
            self.die()
            return
        target.run(self._target_life, "take", action)

    def _take(self, append: AppendEntries) -> None:
        self._inbox.append(append)
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        target = self._target
        assert target is not None, "it took what is in the inbox"
        self._is_busy = bool(self._inbox)
        if self._is_busy:
            append = self._inbox.popleft()
            self._term = append.term
            target.take(append, self.sender.name, lambda reply: self._reply(append, reply))

    def _reply(self, append: AppendEntries, reply: Reply | None) -> None:
        target = self._target
        assert target is not None, "it took the append"
        network = self._world.network
        if not isinstance(reply, AppendReply):  # the node does not work any more
            network.send(target.name, self.sender.name, "refused", self.break_off)
            return
        if append.is_note and reply.success:
            self._next()  # nobody waits for it
            return
        if self._is_dead or network.loses(target.name, self.sender.name):
            self.die()
        else:
            now = self._world.schedule.now
            delay = network.delay(target.name, self.sender.name)
            self._returns = max(self._returns, now + delay)
            self._world.schedule.after(
                self._returns - now,
                f"{target.name}>{self.sender.name} {'ok' if reply.success else 'no'}",
                lambda: self._return(reply),
            )
        self._next()

    def _return(self, reply: AppendReply) -> None:
        if self.is_open:
            self.sender.run(self._life, "answer", lambda: self._answered(reply))

    def _part(self) -> None:
        self._has_parted = True

    def _ended(self) -> None:
        """The receiver learns that the stream is over."""
        target = self._target
        if self._is_ended or target is None:
            return
        self._is_ended = True
        if self._term and not self._has_parted:
            lost = self.sender.name
            target.run(self._target_life, "lost", lambda: target.peer_lost(lost, self._term))
