"""The open streams of callers: commands come in one thread, answers leave in another.

Law: a stream's last word says how many commands it took, so that nobody has to guess about the rest
when a node is shut down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition

import grpc

from tinyraft.core.entry import OPENS_SESSION, PLAIN, MalformedEntry, Origin, Stamp, stamp
from tinyraft.errors import CommandTooLarge, NotApplied, Overloaded, TinyraftError
from tinyraft.session import SPAN
from tinyraft.transport.hosting import Admission, Context, Gate, Outcome, refuse
from tinyraft.transport.packing import in_parts, pack_answers, unpack_commands
from tinyraft.transport.queues import take_all
from tinyraft.transport.statuses import TAKEN, to_answer_fields
from tinyraft.wire import raft_pb2 as pb

GREETING_SECONDS = 0.15  # how long a caller is kept who would only look elsewhere: an election
MOST_IN_SESSION = 2 * SPAN  # our own callers keep half of that
MOST_OWED = 2 * SPAN  # commands of one stream that were taken, and whose answers nobody has read


class Streams:
    """The open streams of callers."""

    def __init__(self, limit: int, pool: ThreadPoolExecutor) -> None:
        """Serve at most *limit* streams; each takes two threads of *pool*."""
        self._admission = Admission(limit, "streams")
        self._pool = pool
        self._open: set[SimpleQueue[Sequence[Outcome]]] = set()
        self._closing = False

    def serve(
        self,
        entrance: Callable[[], Gate],
        requests: Iterator[pb.ApplyStreamRequest],
        context: Context,
    ) -> Iterator[pb.ApplyStreamResponse]:
        """Take a caller's commands in one thread, give the answers in another."""
        answers: SimpleQueue[Sequence[Outcome]] = SimpleQueue()
        try:
            gate = entrance()
            place = self._admission.enter()
        except TinyraftError as error:
            refuse(context, error)
        self._open.add(answers)
        if self._closing:
            answers.put(())  # `close` may have come before
        try:
            context.send_initial_metadata(gate.greeting(patience=GREETING_SECONDS))
            commands = Commands(gate, requests, answers)
            context.add_callback(commands.forsake)
            self._pool.submit(commands.read)
            yield from self._answers(commands, answers, context)
            if self._closing:
                context.set_trailing_metadata(((TAKEN, str(commands.taken)), *gate.greeting()))
        finally:
            self._open.discard(answers)
            self._admission.leave(place)

    def _answers(
        self, commands: Commands, outcomes: SimpleQueue[Sequence[Outcome]], context: Context
    ) -> Iterator[pb.ApplyStreamResponse]:
        while context.is_active():
            batches = [outcomes.get(), *take_all(outcomes)]
            done = [outcome for batch in batches for outcome in batch]
            for part in in_parts(done):
                yield encode_outcomes(part, packs=commands.are_packed)
            commands.answered(len(done))
            if self._closing:
                commands.close()
            if commands.ended and (commands.is_forsaken or not commands.owed):
                return

    def close(self) -> None:
        """End every stream behind the answers that it owes; what it did not take it takes no more.

        The last word of a stream says how many commands it took: the others are certain to be
        without effect, though they were sent.
        """
        self._closing = True
        for answers in tuple(self._open):
            answers.put(())


class Commands:
    """The incoming side of one caller's stream: takes no more than somebody reads answers to."""

    def __init__(
        self,
        gate: Gate,
        requests: Iterator[pb.ApplyStreamRequest],
        answers: SimpleQueue[Sequence[Outcome]],
    ) -> None:
        """Propose what comes in; the answers go to *answers*."""
        self.taken = 0
        self.owed = 0  # of those, not yet answered
        self.ended = False
        self.is_forsaken = False  # the caller is gone: nobody reads the answers
        self.are_packed = False  # it sends many at once, so it reads their answers so, too
        self._changed = Condition()  # guards taken, owed and ended; leaf
        self._gate = gate
        self._requests = requests
        self._answers = answers

    def read(self) -> None:
        """Propose until the caller has no more, or is gone."""
        try:
            for message in self._requests:
                packed = message.packed.commands
                if not self._take(len(message.commands) + len(packed)):
                    return
                if packed:
                    self.are_packed = True
                    self._propose_packed(message.packed)
                self._propose(message.commands)
        except grpc.RpcError:
            self.forsake()
        finally:
            self.close()
            self._answers.put(())

    def _propose(self, commands: Iterable[pb.StreamedCommand]) -> None:
        stamped: list[tuple[int, bytes, Stamp]] = []
        for command in commands:
            try:
                stamped.append((command.id, command.command, stamp_of(command)))
            except NotApplied as error:
                self._answers.put([Refused(command.id, error)])
        self._gate.propose(stamped, self._answers.put)

    def _propose_packed(self, packed: pb.PackedCommands) -> None:
        count = len(packed.commands)
        try:
            if not packed.session_index or len(packed.sequences) != count:
                raise CommandTooLarge("packed commands have a session, and one number each")
            refuse_if_many(max(packed.sequences), packed.answered_below)
        except NotApplied as error:
            ids = range(packed.first_id, packed.first_id + count)
            self._answers.put([Refused(number, error) for number in ids])
            return
        self._gate.propose(unpack_commands(packed), self._answers.put)

    def _take(self, count: int) -> bool:
        with self._changed:
            while self.owed >= MOST_OWED and not self.ended:
                self._changed.wait()  # gRPC's flow control makes the caller wait, too
            if self.ended:
                return False
            self.taken += count
            self.owed += count
            return True

    def answered(self, count: int) -> None:
        """The caller's side has taken so many answers."""
        with self._changed:
            self.owed -= count
            self._changed.notify()

    def close(self) -> None:
        """Take no more."""
        with self._changed:
            self.ended = True
            self._changed.notify()

    def forsake(self) -> None:
        """The call is over: nobody reads the answers."""
        self.is_forsaken = True
        self.close()
        self._answers.put(())


@dataclass(slots=True)
class Refused:
    """The outcome of a command that was not proposed."""

    id: int
    error: TinyraftError | None
    index: int = 0
    term: int = 0
    result: bytes | None = None
    stages: tuple[int, int, int] = (0, 0, 0)


def stamp_of(command: pb.StreamedCommand) -> Stamp:
    """Encode what the entry says beside the command.

    Raises:
        CommandTooLarge: The request id is.
        Overloaded: The session has too many commands under way.
    """
    if command.opens_session:
        return OPENS_SESSION
    if not command.session_index and not command.request_id:
        return PLAIN
    refuse_if_many(command.sequence, command.answered_below)
    origin = Origin(
        command.session_index,
        command.session_term,
        command.sequence,
        command.answered_below,
        command.request_id,
    )
    try:
        return stamp(origin)
    except MalformedEntry as error:
        raise CommandTooLarge(str(error)) from error


def refuse_if_many(sequence: int, answered_below: int) -> None:
    """Refuse a command of a session that has too many under way.

    Raises:
        Overloaded: It has.
    """
    under_way = sequence - answered_below
    if under_way > MOST_IN_SESSION:
        raise Overloaded(
            f"the session has {under_way} commands under way; at most {MOST_IN_SESSION} are"
            " answered for"
        )


def encode_outcomes(outcomes: Sequence[Outcome], *, packs: bool) -> pb.ApplyStreamResponse:
    """Write down how commands ended: those that were applied all at once, where that is known."""
    applied = [outcome for outcome in outcomes if packs and outcome.error is None]
    others = [outcome for outcome in outcomes if not packs or outcome.error is not None]
    return pb.ApplyStreamResponse(
        answers=map(encode_outcome, others), packed=pack_answers(applied) if applied else None
    )


def encode_outcome(outcome: Outcome) -> pb.StreamedAnswer:
    """Write down how one command ended."""
    if outcome.error is not None:
        return pb.StreamedAnswer(id=outcome.id, **to_answer_fields(outcome.error))
    waited, replicated, applied = outcome.stages
    return pb.StreamedAnswer(
        id=outcome.id,
        outcome=pb.OUTCOME_APPLIED,
        term=outcome.term,
        index=outcome.index,
        result=outcome.result,
        waited_us=waited,
        replicated_us=replicated,
        applied_us=applied,
    )
