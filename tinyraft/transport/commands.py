"""A caller's stream of commands to one node, from its own side.

Law: no command is given to gRPC before the node's initial metadata has arrived, so gRPC never
repeats one by itself. A command that was not yet taken from the queue when the stream ended was
certainly not applied, nor was one of which the node's last word says that it never took it; any
other that was sent, and has no answer, may have been.
"""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from urllib.parse import unquote

import grpc

from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    NoQuorum,
    NotLeader,
    ServerStopped,
    TinyraftError,
)
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


class Slot:
    """One command on its way."""

    __slots__ = ("command", "done", "error", "result", "was_written")

    def __init__(self, command: bytes) -> None:
        """Begin unwritten and unanswered."""
        self.command = command
        self.result: bytes | None = None
        self.error: TinyraftError | None = None
        self.was_written = False
        self.done = Lock()
        self.done.acquire()


class CommandStream:
    """One open stream. Thread-safe."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        """Begin to open a stream to *address*; see `wait_open`."""
        self.address = address
        self.greeting: dict[str, str] = {}
        self.failure: TinyraftError | None = None
        self._lock = Lock()  # guards _pending, _ended, and every slot's was_written
        self._queue: SimpleQueue[Slot | None] = SimpleQueue()
        self._pending: dict[int, Slot] = {}
        self._next_id = 0
        self._heard_at = 0.0  # the last answer, or the first command after a time without any
        self._ended = False
        self._greeted = Event()
        self._call = RaftServiceV1Stub(channel).ApplyStream(self._requests())
        self._receiver = Thread(
            target=self._receive, name=f"tinyraft-caller-{address}", daemon=True
        )
        self._receiver.start()

    def wait_open(self, timeout: float) -> bool:
        """Wait for the node's greeting; False when there was none in *timeout* seconds."""
        return self._greeted.wait(timeout) and not self._ended

    @property
    def is_usable(self) -> bool:
        """Whether it takes commands, and the node is not silent.

        A paused process keeps its connections. What was sent to it may still be applied and waits
        for its own deadline; what was not sent yet is better off elsewhere.
        """
        if self._ended:
            return False
        return not self._pending or monotonic() - self._heard_at < SILENT_SECONDS

    # --- one command ----------------------------------------------------------------------------

    def apply(self, command: bytes, *, timeout: float | None) -> bytes | None:
        """Send *command* and wait for its answer.

        Raises:
            NotLeader: It was certainly not applied; look for the leader again.
            TinyraftError: Whatever became of it.
        """
        slot = Slot(command)
        self._queue.put(slot)
        if self._ended:
            self._abandon()
        if not slot.done.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._give_up(slot, timeout or 0.0)
        if slot.error is not None:
            raise slot.error
        return slot.result

    def _give_up(self, slot: Slot, timeout: float) -> None:
        """Raise what is known of *slot* when time is up, unless its answer came meanwhile."""
        with self._lock:
            was_written, slot.was_written = slot.was_written, True  # not to be sent any more
        if slot.done.acquire(blocking=False):
            return
        if was_written:
            raise ApplyTimeout(
                f"{self.address} did not answer within {timeout:.3g} s; the command may be applied"
            )
        raise NoQuorum(f"the command could not be sent to {self.address} in {timeout:.3g} s")

    # --- the two threads of the stream ------------------------------------------------------------

    def _requests(self) -> Iterator[pb.ApplyStreamRequest]:
        """Give gRPC's sending thread everything queued, batch by batch."""
        self._greeted.wait()
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            if batch:
                commands = [
                    pb.StreamedCommand(id=number, command=slot.command) for number, slot in batch
                ]
                yield pb.ApplyStreamRequest(commands=commands)

    def _next_batch(self) -> list[tuple[int, Slot]] | None:
        """Take what is queued; None ends the stream's sending side."""
        try:
            taken = self._take()
        except Empty:
            return None if self._end_idle() else []
        with self._lock:
            slots = [slot for slot in taken if slot is not None and not slot.was_written]
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

    def _take(self) -> list[Slot | None]:
        taken = [self._queue.get(timeout=IDLE_SECONDS)]
        room = BATCH_BYTES
        try:
            while (last := taken[-1]) is not None and room > len(last.command):
                room -= len(last.command)
                taken.append(self._queue.get_nowait())
        except Empty:
            pass
        return taken

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
        for answer in message.answers:
            with self._lock:
                slot = self._pending.pop(answer.id, None)
            if slot is None:
                continue  # never asked: the node's mistake
            slot.error = from_answer(answer)
            if slot.error is None and answer.HasField("result"):
                slot.result = answer.result
            slot.done.release()

    def _was_parted(self, trailers: dict[str, str]) -> None:
        """Answer what the node, which ended the stream on purpose, says that it never took."""
        if TAKEN not in trailers:
            return
        with self._lock:
            self._ended = True
            untaken = [number for number in self._pending if number >= int(trailers[TAKEN])]
            slots = [self._pending.pop(number) for number in untaken]
        for slot in slots:
            slot.error = NotLeader(
                f"{self.address} ended the stream before it took the command",
                leader_id=trailers.get(LEADER_ID, ""),
                leader_address=trailers.get(LEADER_ADDRESS, ""),
                term=int(trailers.get(LEADER_TERM, "0")),
            )
            slot.done.release()

    def _end(self) -> None:
        """Answer everybody: the stream is over."""
        with self._lock:
            self._ended = True
            pending, self._pending = self._pending, {}
        self._greeted.set()
        self._queue.put(None)  # ends the sending thread
        why = f": {self.failure}" if self.failure is not None else ""
        for slot in pending.values():
            slot.error = slot.error or ConnectionLost(
                f"the stream to {self.address} ended after the command was sent{why}"
            )
            slot.done.release()
        self._abandon()

    def _abandon(self) -> None:
        """Answer what was never sent."""
        try:
            while True:
                slot = self._queue.get_nowait()
                if slot is None:
                    continue
                with self._lock:
                    unsent, slot.was_written = not slot.was_written, True
                if unsent:
                    slot.error = NotLeader(f"the stream to {self.address} ended; nothing was sent")
                    slot.done.release()
        except Empty:
            self._queue.put(None)

    # --- the end ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """Take no more commands; end when the answers that are owed have come."""
        with self._lock:
            was_ended, self._ended = self._ended, True
        if not was_ended:
            self._abandon()
            self._queue.put(None)

    def break_off(self, why: str) -> None:
        """End at once; whoever waits is told *why*."""
        with self._lock:
            for slot in self._pending.values():
                slot.error = ServerStopped(f"{why}; the command may be applied")
        self._call.cancel()
