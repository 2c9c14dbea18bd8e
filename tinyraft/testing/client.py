"""A simulated caller: the real decisions (`Route`, `Session`), without threads.

Law: some number their commands, and send them again until their fate is known, as `Caller` does;
the others send each command once, and again only what is certain not to have been applied. Two that
number share their session, as threads of one program do.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyraft.core.entry import OPENS_SESSION, PLAIN, Origin, Stamp, stamp
from tinyraft.core.sessions import Limits
from tinyraft.errors import (
    ConnectionLost,
    MaybeApplied,
    ModuleError,
    NotApplied,
    Rejected,
    SessionExpired,
    TinyraftError,
    may_have_applied,
)
from tinyraft.node.waiters import Waiter
from tinyraft.route import Route
from tinyraft.session import Session
from tinyraft.testing.history import Operation
from tinyraft.testing.schedule import Event
from tinyraft.testing.surroundings import Process, Surroundings

LIE = b"?"  # what a module that differs answers behind the truth, so that histories can be judged
OPEN_SECONDS = 1.0
KEYS = 3


class Program:
    """A program whose threads share a session."""

    session: Session | None = None


class SimClient:
    """One thread of a program; of one that numbers its commands, when *program* is given."""

    def __init__(
        self,
        world: Surroundings,
        name: str,
        addresses: list[str],
        program: Program | None = None,
    ) -> None:
        """Begin to work at once."""
        self.name = name
        self._program = program
        self._session: Session | None = None  # of the present operation
        self._number = 0
        self._in_doubt = False
        self._was_expired = False
        self._request_id = ""
        self._again: tuple[Operation, str] | None = None  # its request id is to be used once more
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
        self._request_id = ""
        if self._program is not None and world.random.random() < 0.2:
            self._request_id = f"{self.name}.{self._count}"
        if self._again is not None:
            before, self._request_id = self._again
            self.operation.key, self.operation.asked = before.key, before.asked
        else:
            world.operations.append(self.operation)
        timeout = world.random.choice((0.3, 2.0, 5.0)) * world.story.timeout
        self._deadline = self._later(timeout, self._too_late)
        self._attempt += 1
        self._in_doubt = self._was_expired = False
        self._session, self._number = None, 0
        self._try()

    def _finish(self, error: TinyraftError | None, answer: object = None) -> None:
        operation, world = self.operation, self._world
        assert operation is not None, "one is under way"
        if self._session is not None:
            self._session.settle(self._number)
        operation.ended = world.schedule.now
        operation.answer = answer
        if error is None or isinstance(error, Rejected | ModuleError):
            operation.outcome = "applied"
        elif self._in_doubt or may_have_applied(error):
            operation.outcome, operation.ended = "maybe", float("inf")
        else:
            operation.outcome = "not"
        if isinstance(error, SessionExpired):
            world.see("session expired in doubt")
        again, self._again = self._again, None
        if again is not None:
            world.repeated(again[0], operation)
        else:
            world.see(f"outcome {operation.outcome}")
            world.judge(operation)
            if operation.outcome == "applied" and self._request_id:
                self._again = (operation, self._request_id)
        self.operation = None
        self._attempt += 1
        if self._deadline is not None:
            self._deadline.cancel()
        self._later(world.story.think_seconds * world.random.expovariate(1.0), self._begin)

    def _too_late(self) -> None:
        self._deadline = None
        if self._sent or self._was_expired:
            self._leader = None  # its stream may be silent for ever
            self._finish(MaybeApplied("no answer in time"))
        else:
            self._finish(NotApplied("no leader in time"))

    def _try(self) -> None:
        self._sent = self._in_doubt
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
        operation, program = self.operation, self._program
        assert operation is not None, "one is under way"
        if program is not None and program.session is None and not self._in_doubt:
            limits = Limits(sessions=self._world.story.sessions).encode()
            self._propose(leader, limits, OPENS_SESSION)
            return
        if program is not None and self._session is not program.session and not self._in_doubt:
            if self._session is not None:
                self._session.settle(self._number)
            self._session = program.session
            assert self._session is not None, "it was opened"
            self._number = self._session.begin()
        self._sent = True
        kind, value = operation.asked
        command = b" ".join((value, operation.key.encode(), kind.encode()))
        self._propose(leader, command, self._stamp())

    def _stamp(self) -> Stamp:
        session = self._session
        if session is None:
            return PLAIN
        below = session.answered_below
        return stamp(Origin(session.index, session.term, self._number, below, self._request_id))

    def _propose(self, leader: Process, command: bytes, stamp: Stamp) -> None:
        world, attempt = self._world, self._attempt
        life = self._life

        def propose() -> None:
            waiter = Waiter(answered, stamp=stamp)
            try:
                leader.node.propose([command], [waiter])
            except TinyraftError as error:
                waiter.resolve(None, error)

        def answered(waiters: Sequence[Waiter]) -> None:
            (waiter,) = waiters
            error = waiter.error
            world.see("answer" if error is None else f"answer {type(error).__name__}")
            world.network.send(
                leader.name,
                self.name,
                "answer",
                lambda: self._answered(attempt, waiter, error),
            )

        if self._program is not None:
            self._later(2 * world.story.timeout, lambda: self._is_silent(attempt))
        network = world.network
        if network.loses(self.name, leader.name):
            return  # the stream is silent from now on; the deadline tells
        network_delay = network.delay(self.name, leader.name)
        world.schedule.after(
            network_delay,
            f"{self.name}>{leader.name} command",
            lambda: leader.run(life, "command", propose),
        )

    def _is_silent(self, attempt: int) -> None:
        """No answer for long: try elsewhere."""
        if attempt == self._attempt and self.operation is not None:
            self._world.see("sent elsewhere")
            self._leader = None
            self._after(ConnectionLost("silent"))

    def _answered(self, attempt: int, waiter: Waiter, error: TinyraftError | None) -> None:
        if attempt != self._attempt or self.operation is None:
            return
        program = self._program
        if waiter.stamp.opens_session and program is not None:
            if error is None:
                self._world.see("session opened")
                if program.session is None:
                    program.session = Session(waiter.index, waiter.term)
                self._attempt += 1
                self._try()
            else:
                self._after(error)
            return
        if error is None or isinstance(error, Rejected | ModuleError):
            self._world.acknowledged = max(self._world.acknowledged, waiter.index)
            result = waiter.result
            if result is not None and result.endswith(LIE):
                self._world.see("lie answered")
                result = result.removesuffix(LIE)
            self._finish(error, result if error is None else type(error).__name__)
            return
        self._after(error)

    def _after(self, error: TinyraftError) -> None:
        """Do what the caller would do after *error*."""
        is_numbered = self._program is not None
        retry = self._route.after(error, is_numbered=is_numbered, is_in_doubt=self._in_doubt)
        if retry is None:
            self._leader = None
            self._finish(error)
            return
        program = self._program
        if retry.in_new_session and program is not None:
            self._world.see("session expired")
            self._was_expired = True  # it is in the log, without effect
            if program.session is self._session:
                program.session = None
        self._attempt += 1
        self._in_doubt |= retry.is_in_doubt and self._sent
        self._sent = self._in_doubt
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
                self._after(ConnectionLost("the connection broke"))
