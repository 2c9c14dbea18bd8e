"""A simulated program that reads, linearizably, on whichever member it meets.

Law: the halves of `node.reading` around its waits: the index, asked of the own core or of the
leader's, then the module that has seen it. A read that fails is tried again elsewhere, as `Caller`
does, and was never answered when its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinyraft.core.entry import Index
from tinyraft.errors import NotLeader, TinyraftError
from tinyraft.node.waiters import Waiter
from tinyraft.testing.client import KEYS
from tinyraft.testing.history import Operation
from tinyraft.testing.schedule import Event
from tinyraft.testing.surroundings import Process, Surroundings
from tinyraft.testing.truth import hold

Back = Callable[[bytes | None], None]
LEAST_THINK_SECONDS = 0.01


class SimReader:
    """One thread of a program that only reads."""

    def __init__(self, world: Surroundings, name: str, addresses: list[str]) -> None:
        """Begin to work at once."""
        self.name = name
        self.operation: Operation | None = None
        self.is_stopping = False
        self._world = world
        self._addresses = addresses
        self._count = 0
        self._attempt = 0
        self._deadline: Event | None = None
        self._later(world.random.random() * 0.2, self._begin)

    def _later(self, seconds: float, action: Callable[[], object]) -> Event:
        return self._world.schedule.after(seconds, self.name, action)

    def lost(self, member: Process, life: int) -> None:
        """The connection to a former life of *member* broke: the attempt's own time tells too."""

    def _begin(self) -> None:
        world = self._world
        if self.is_stopping:
            return
        self._count += 1
        key = f"k{world.random.randrange(KEYS)}"
        asked = ("read", f"{self.name}.{self._count}".encode())
        self.operation = Operation(self.name, key, asked, began=world.schedule.now)
        world.operations.append(self.operation)
        self._floor = world.acknowledged
        timeout = world.random.choice((0.3, 2.0, 5.0)) * world.story.timeout
        self._deadline = self._later(timeout, lambda: self._finish(None))
        self._try()

    def _finish(self, value: bytes | None) -> None:
        operation, world = self.operation, self._world
        assert operation is not None, "one is under way"
        assert self._deadline is not None, "it was begun"
        operation.ended = world.schedule.now
        operation.answer = value
        operation.outcome = "not" if value is None else "applied"
        world.see("read failed" if value is None else "read")
        self.operation = None
        self._attempt += 1
        self._deadline.cancel()
        think = max(LEAST_THINK_SECONDS, world.story.think_seconds)
        self._later(think * world.random.expovariate(1.0), self._begin)

    def _choose(self) -> Process | None:
        """Anybody; half of the time somebody who believes to lead, of whom there may be two."""
        world = self._world
        members = [world.named(address) for address in self._addresses]
        leading = [m for m in members if m is not None and m.is_up and m.node.leads]
        return world.random.choice(leading if leading and world.random.random() < 0.5 else members)

    def _try(self) -> None:
        world = self._world
        self._attempt += 1
        attempt, operation, floor = self._attempt, self.operation, self._floor
        assert operation is not None, "one is under way"
        key = operation.key.encode()
        member = self._choose()

        def over(value: bytes | None) -> None:
            if attempt != self._attempt:
                return
            if value is not None:
                self._finish(value)
            else:
                self._attempt += 1
                self._later(world.random.random() * 0.1, again(self._attempt))

        def again(number: int) -> Callable[[], None]:
            return lambda: self._try() if number == self._attempt else None

        self._later(world.story.timeout, lambda: over(None))
        if member is None:
            return

        def back(value: bytes | None) -> None:
            world.network.send(member.name, self.name, "read", lambda: over(value))

        def arrive() -> None:
            if member.is_up:
                serve = Serving(member, key, floor, back).begin
                member.run(member.life, "read", serve)
            else:
                back(None)

        world.network.send(self.name, member.name, "read", arrive)


class Serving:
    """One read on one member."""

    def __init__(self, member: Process, key: bytes, floor: Index, back: Back) -> None:
        """Read *key* there, after at least entry *floor*; *back* is told the value, or None."""
        self._member = member
        self._life = member.life
        self._key = key
        self._floor = floor
        self._back = back
        self._where = "follower"

    def begin(self) -> None:
        """Ask for the index, here or at the leader."""
        member, world = self._member, self._member.world
        node = member.node
        if node.is_removed:
            self._back(None)
            return
        if node.leads:
            self._where = "leader"
            ask(member, self._indexed)
            return
        leader, address, _ = node.leader()
        target = world.member_at(address) if leader else None
        if target is None or target.name != leader:
            self._back(None)  # nobody leads, or somebody else is there now, and says so
            return

        def answered(index: Index | None) -> None:
            world.network.send(
                target.name,
                member.name,
                "index",
                lambda: member.run(self._life, "index", lambda: self._indexed(index)),
            )

        def arrive() -> None:
            target.run(target.life, "read index", lambda: ask(target, answered))

        world.network.send(member.name, target.name, "read index", arrive)

    def _indexed(self, index: Index | None) -> None:
        if index is None:
            self._back(None)
            return
        node = self._member.node
        if node.applier.last_applied < index:
            self._member.world.see("read waits for the module")
        node.when_applied(index, Waiter(self._seen))

    def _seen(self, waiters: Sequence[Waiter]) -> None:
        """The module has seen the index; the thread wakes up in a moment."""
        (waiter,) = waiters
        if waiter.error is not None:
            self._back(None)
        else:
            member = self._member
            member.after(member.wake_up(), "reader", lambda: self._read(waiter.index))

    def _read(self, index: Index) -> None:
        name = self._member.name
        hold(index >= self._floor, f"{name} reads at {index}, {self._floor} was acknowledged (I16)")
        try:
            value = self._member.node.read(lambda module: module.value(self._key))  # type: ignore[attr-defined]
        except TinyraftError:
            self._back(None)  # the module failed meanwhile
            return
        self._member.world.see(f"read on the {self._where}")
        self._back(value)


def ask(member: Process, over: Callable[[Index | None], None]) -> None:
    """Ask *member*, as the leader, for an index."""

    def answered(waiters: Sequence[Waiter]) -> None:
        (waiter,) = waiters
        if isinstance(waiter.error, NotLeader):
            member.world.see("read lost")
        over(waiter.index if waiter.error is None else None)

    try:
        member.node.ask_read_index(Waiter(answered))
    except TinyraftError:
        over(None)
