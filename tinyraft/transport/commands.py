"""A caller's stream of commands to one node, from its own side.

Law: no command is given to gRPC before the node's initial metadata has arrived, so gRPC never
repeats one by itself. A command that was not yet taken from the queue when the stream ended was
certainly not applied, nor was one of which the node's last word says that it never took it; any
other that was sent, and has no answer, may have been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Protocol
from urllib.parse import unquote

import grpc

from tinyraft.chain import Chain
from tinyraft.errors import ConnectionLost, NotLeader, TinyraftError
from tinyraft.transport.packing import pack_commands, unpack_answers
from tinyraft.transport.queues import take_all, take_rest
from tinyraft.transport.slots import Slot
from tinyraft.transport.statuses import (
    LEADER_ADDRESS,
    LEADER_ID,
    LEADER_TERM,
    TAKEN,
    from_answer,
    from_rpc_error,
)
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

BATCH_BYTES = 2 << 20
IDLE_SECONDS = 60.0
SILENT_SECONDS = 1.0
GATHER_SECONDS = 0.02  # the first of those who wake up waits so long for the others, at most


class Answer(Protocol):
    """What a node said of one sending, or what is known without its word."""

    @property
    def slot(self) -> Slot:
        """Whose."""

    @property
    def error(self) -> TinyraftError | None:
        """Why it failed."""

    @property
    def result(self) -> bytes | None:
        """Else the module's result."""

    @property
    def index(self) -> int:
        """Where it was applied."""

    @property
    def term(self) -> int:
        """That entry's term."""

    @property
    def stages(self) -> tuple[int, int, int]:
        """Where its time went, in microseconds."""


@dataclass(slots=True)
class Answered:
    """What came over a stream, or is known of one."""

    slot: Slot
    error: TinyraftError | None
    result: bytes | None = None
    index: int = 0
    term: int = 0
    stages: tuple[int, int, int] = (0, 0, 0)


class CommandStream:
    """One open stream. Thread-safe."""

    def __init__(
        self,
        channel: grpc.Channel,
        address: str,
        *,
        lock: Lock,
        answered: Callable[[CommandStream, Sequence[Answer]], None],
    ) -> None:
        """Begin to open a stream to *address*; see `wait_open`.

        *lock* guards all slots of their owner, who is told what they are *answered*.
        """
        self.address = address
        self.greeting: dict[str, str] = {}
        self.failure: TinyraftError | None = None
        self.patience = SILENT_SECONDS  # with a silent node
        self._lock = lock  # guards _pending, _ended, and every slot's was_written
        self._answered = answered
        self._queue: SimpleQueue[Slot | None] = SimpleQueue()
        self._pending: dict[int, Slot] = {}
        self._next_id = 0
        self._heard_at = 0.0  # the last answer, or the first command after a time without any
        self._ended = False
        self._all_awake = Event()  # who was told last
        self._all_awake.set()
        self._greeted = Event()
        self._call = RaftServiceV1Stub(channel).ApplyStream(self._requests())
        self._receiver = Thread(
            target=self._receive, name=f"tinyraft-caller-{address}", daemon=True
        )
        try:
            self._receiver.start()
        except RuntimeError as error:  # the system has no thread for it
            self.failure = ConnectionLost(str(error))
            self._call.cancel()
            self._end()

    def wait_open(self, timeout: float) -> bool:
        """Wait for the node's greeting, or the stream's end; False after *timeout* seconds."""
        return self._greeted.wait(timeout)

    @property
    def is_usable(self) -> bool:
        """Whether it takes commands, and the node is not silent.

        A paused process keeps its connections; what is not sent yet is better off elsewhere.
        """
        if self._ended:
            return False
        return not self._pending or monotonic() - self._heard_at < self.patience

    # --- one command ----------------------------------------------------------------------------

    def send(self, slot: Slot) -> None:
        """Send *slot*, whose lane this is."""
        self._queue.put(slot)
        if self._ended:
            self._abandon()

    def waking(self) -> Chain:
        """Make a chain for those who are told now: what they say next goes out together."""
        self._all_awake.clear()
        return Chain(self._all_awake.set)

    def withdraw(self, slot: Slot) -> bool:
        """Take *slot* back, under the lock; False when it was sent already."""
        return not slot.was_written

    # --- the two threads of the stream ------------------------------------------------------------

    def _requests(self) -> Iterator[pb.ApplyStreamRequest]:
        """Give gRPC's sending thread everything queued, batch by batch."""
        self._greeted.wait()
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            if batch:
                packed = pack_commands(batch)
                commands = encode(batch) if packed is None else ()
                yield pb.ApplyStreamRequest(commands=commands, packed=packed)

    def _next_batch(self) -> list[tuple[int, Slot]] | None:
        """Take what is queued; None ends the stream's sending side."""
        try:
            taken = self._take()
        except Empty:
            return None if self._end_idle() else []
        with self._lock:
            slots = [slot for slot in taken if slot is not None and self._is_mine(slot)]
            if not self._ended:
                if not self._pending:
                    self._heard_at = monotonic()
                first, self._next_id = self._next_id, self._next_id + len(slots)
                batch = list(enumerate(slots, first))
                self._pending.update(batch)
                for slot in slots:
                    slot.was_written = True
                return batch
        for slot in slots:
            self._queue.put(slot)
        self._abandon()
        return None

    def _is_mine(self, slot: Slot) -> bool:
        return slot.lane is self and not slot.is_over and not slot.was_written

    def _take(self) -> list[Slot | None]:
        first = self._queue.get(timeout=IDLE_SECONDS)
        self._all_awake.wait(GATHER_SECONDS)
        return take_rest(self._queue, first, room=BATCH_BYTES, size=size_of)

    def _end_idle(self) -> bool:
        """End a stream that nobody used for a while, so that it holds no threads of the node."""
        with self._lock:
            if not self._pending and self._queue.empty():
                self._ended = True
            return self._ended

    def _receive(self) -> None:
        try:
            self.greeting = {
                key: unquote(value) for key, value in self._call.initial_metadata() if key
            }
            if self._call.is_active():
                self._greeted.set()
            for message in self._call:
                self._answer(message)
            self._was_parted({key: unquote(value) for key, value in self._call.trailing_metadata()})
        except grpc.RpcError as error:
            self.failure = from_rpc_error(error)
        finally:
            self._end()

    def _answer(self, message: pb.ApplyStreamResponse) -> None:
        self._heard_at = monotonic()
        self.patience = SILENT_SECONDS
        applied = list(unpack_answers(message.packed))
        with self._lock:
            slots = [self._pending.pop(number, None) for number, *_ in applied]
            found = [(self._pending.pop(answer.id, None), answer) for answer in message.answers]
        self._answered(
            self,
            [
                Answered(slot, None, *answer[1:])
                for slot, answer in zip(slots, applied, strict=True)
                if slot is not None
            ]
            + [decode(slot, answer) for slot, answer in found if slot is not None],
        )

    def _was_parted(self, trailers: dict[str, str]) -> None:
        """Answer what the node, which ended the stream on purpose, says that it never took."""
        if TAKEN not in trailers:
            return
        with self._lock:
            self._ended = True
            untaken = [number for number in self._pending if number >= int(trailers[TAKEN])]
            slots = [self._pending.pop(number) for number in untaken]
        self._tell(
            slots,
            lambda: NotLeader(
                f"{self.address} ended the stream before it took the command",
                leader_id=trailers.get(LEADER_ID, ""),
                leader_address=trailers.get(LEADER_ADDRESS, ""),
                term=int(trailers.get(LEADER_TERM, "0")),
            ),
        )

    def _end(self) -> None:
        """Answer everybody: the stream is over."""
        with self._lock:
            self._ended = True
            pending, self._pending = self._pending, {}
        self._greeted.set()
        self._queue.put(None)  # ends the sending thread
        why = f": {self.failure}" if self.failure is not None else ""
        lost = f"the stream to {self.address} ended after the command was sent{why}"
        self._tell(pending.values(), lambda: ConnectionLost(lost))
        self._abandon()

    def _tell(self, slots: Iterable[Slot], error: Callable[[], TinyraftError]) -> None:
        self._answered(self, [Answered(slot, error()) for slot in slots])

    def _abandon(self) -> None:
        """Answer what was never sent."""
        left = take_all(self._queue)
        self._queue.put(None)
        with self._lock:
            unsent = [slot for slot in left if slot is not None and self._is_mine(slot)]
        why = f"the stream to {self.address} ended; nothing was sent"
        self._tell(unsent, lambda: NotLeader(why))

    # --- the end ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """Take no more commands; end when the answers that are owed have come."""
        with self._lock:
            was_ended, self._ended = self._ended, True
        if not was_ended:
            self._abandon()
            self._queue.put(None)

    def break_off(self) -> None:
        """End at once."""
        self._call.cancel()


def size_of(slot: Slot | None) -> int:
    """Count the bytes of a command."""
    return len(slot.command) if slot is not None else 0


def encode(batch: Sequence[tuple[int, Slot]]) -> list[pb.StreamedCommand]:
    """Write the commands down; what their sessions wait for is the same for all of them."""
    below = {slot.session: slot.session.answered_below for _, slot in batch if slot.session}
    return [
        pb.StreamedCommand(
            id=number,
            command=slot.command,
            session_index=slot.session.index,
            session_term=slot.session.term,
            sequence=slot.sequence,
            answered_below=below[slot.session],
            request_id=slot.request_id,
        )
        if slot.session
        else pb.StreamedCommand(
            id=number,
            command=slot.command,
            request_id=slot.request_id,
            opens_session=slot.opens_session,
        )
        for number, slot in batch
    ]


def decode(slot: Slot, answer: pb.StreamedAnswer) -> Answered:
    """Read what became of the command in *slot*."""
    error = from_answer(answer, request_id=slot.request_id)
    result = answer.result if error is None and answer.HasField("result") else None
    stages = (answer.waited_us, answer.replicated_us, answer.applied_us)
    return Answered(slot, error, result, answer.index, answer.term, stages)
