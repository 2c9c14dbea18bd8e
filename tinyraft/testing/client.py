"""A simulated caller: the real decisions (`Route`), without threads.

Law: sends each command once; tries again only what the error of the answer says is certainly not
applied, as `Caller` does.
"""

from __future__ import annotations

from tinyraft.errors import (
    MaybeApplied,
    ModuleError,
    NotApplied,
    Rejected,
    TinyraftError,
    may_have_applied,
)
from tinyraft.node.waiters import Waiter
from tinyraft.route import Route
from tinyraft.testing.history import Operation
from tinyraft.testing.schedule import Event
from tinyraft.testing.surroundings import Process, Surroundings

OPEN_SECONDS = 1.0
KEYS = 3


class SimClient:
    """One thread of a program, with a caller of its own."""

    def __init__(self, world: Surroundings, name: str, addresses: list[str]) -> None:
        """Begin to work at once."""
        self.name = name
        self.operation: Operation | None = None
        self.is_stopping = False
        self._world = world
        self._route = Route(addresses, random=world.random)
        self._leader: Process | None = None  # the stream to it is open
        self._life = 0
        self._count = 0
        self._attempt = 0  # of the present operation; an answer to an older one is late
        self._sent = False
        self._deadline: Event | None = None
        self._later(world.random.random() * 0.2, self._begin)

    def _later(self, seconds: float, action: object) -> Event:
        assert callable(action), "something to do"
        return self._world.schedule.after(seconds, self.name, action)

    # --- one operation --------------------------------------------------------------------------

    def _begin(self) -> None:
        world = self._world
        if self.is_stopping:
            return
        self._count += 1
        key = f"k{world.random.randrange(KEYS)}"
        kind = world.random.choices(("swap", "get", "refuse", "raise"), (60, 30, 5, 5))[0]
        asked = (kind, f"{self.name}.{self._count}".encode())
        self.operation = Operation(self.name, key, asked, began=world.schedule.now)
        world.operations.append(self.operation)
        timeout = world.random.choice((0.3, 2.0, 5.0)) * world.story.timeout
        self._deadline = self._later(timeout, self._too_late)
        self._attempt += 1
        self._try()

    def _finish(self, error: TinyraftError | None, answer: object = None) -> None:
        operation, world = self.operation, self._world
        assert operation is not None, "one is under way"
        operation.ended = world.schedule.now
        operation.answer = answer
        if error is None or isinstance(error, Rejected | ModuleError):
            operation.outcome = "applied"
        elif may_have_applied(error):
            operation.outcome, operation.ended = "maybe", float("inf")
        else:
            operation.outcome = "not"
        world.see(f"outcome {operation.outcome}")
        world.judge(operation)
        self.operation = None
        self._attempt += 1
        if self._deadline is not None:
            self._deadline.cancel()
        self._later(world.story.think_seconds * world.random.expovariate(1.0), self._begin)

    def _too_late(self) -> None:
        self._deadline = None
        if self._sent:
            self._leader = None  # its stream may be silent for ever
            self._finish(MaybeApplied("no answer in time"))
        else:
            self._finish(NotApplied("no leader in time"))

    def _try(self) -> None:
        self._sent = False
        leader = self._leader
        if leader is not None and leader.is_up and leader.life == self._life:
            self._send(leader)
        else:
            self._leader = None
            self._look()

    # --- looking for the leader -----------------------------------------------------------------

    def _look(self) -> None:
        world, attempt = self._world, self._attempt
        address = self._route.next()
        member = world.named(address)
        is_over = False

        def over(found: tuple[str, str, str, int, int] | None) -> None:
            nonlocal is_over
            if is_over or attempt != self._attempt:
                return
            is_over = True
            if found is not None and member is not None:
                node, leader, where, term, life = found
                if self._route.greeted(node, leader=leader, address=where, term=term):
                    self._leader, self._life = member, life
                    self._send(member)
                    return
            if self._route.tried():
                self._later(self._route.pause(), again)
            else:
                self._look()

        def again() -> None:
            if attempt == self._attempt:
                self._look()

        self._later(min(OPEN_SECONDS, world.story.timeout), lambda: over(None))
        if member is None:
            self._later(world.network.latency, lambda: over(None))
            return

        def greet() -> None:
            leader, where, term = member.node.leader()
            found = (member.name, leader or "", where, term, member.life)
            world.network.send(member.name, self.name, "greeting", lambda: over(found))

        def arrive() -> None:
            if member.is_up:
                member.run(member.life, "greet", greet)
            else:
                world.network.send(member.name, self.name, "refused", lambda: over(None))

        world.network.send(self.name, member.name, "hello", arrive)

    # --- sending --------------------------------------------------------------------------------

    def _send(self, leader: Process) -> None:
        """Send it on the open stream: once it has left, only an answer can tell."""
        world, operation, attempt = self._world, self.operation, self._attempt
        assert operation is not None, "one is under way"
        self._sent = True
        kind, value = operation.asked
        command = b" ".join((value, operation.key.encode(), kind.encode()))
        life = self._life

        def propose() -> None:
            waiter = Waiter(answered)
            try:
                leader.node.propose([command], [waiter])
            except TinyraftError as error:
                waiter.resolve(None, error)

        def answered(waiter: Waiter) -> None:
            error = waiter.error
            world.see("answer" if error is None else f"answer {type(error).__name__}")
            world.network.send(
                leader.name,
                self.name,
                "answer",
                lambda: self._answered(attempt, waiter, error),
            )

        network = world.network
        if network.loses(self.name, leader.name):
            return  # the stream is silent from now on; the deadline tells
        network_delay = network.delay(self.name, leader.name)
        world.schedule.after(
            network_delay,
            f"{self.name}>{leader.name} command",
            lambda: leader.run(life, "command", propose),
        )

    def _answered(self, attempt: int, waiter: Waiter, error: TinyraftError | None) -> None:
        if attempt != self._attempt or self.operation is None:
            return
        if error is None or isinstance(error, Rejected | ModuleError):
            self._world.acknowledged = max(self._world.acknowledged, waiter.index)
            self._finish(error, waiter.result if error is None else type(error).__name__)
            return
        retry = self._route.after(error)
        if retry is None:
            self._leader = None
            self._finish(error)
            return
        self._attempt += 1
        self._sent = False
        if retry.elsewhere:
            self._leader = None
        if retry.at_once:
            self._try()
        else:
            attempt = self._attempt
            self._later(
                self._route.pause(), lambda: self._try() if attempt == self._attempt else None
            )

    def lost(self, member: Process, life: int) -> None:
        """The connection to a former life of *member* broke."""
        if self._leader is member and self._life < life:
            self._leader = None
            if self.operation is not None and self._sent:
                self._finish(MaybeApplied("the connection broke"))
