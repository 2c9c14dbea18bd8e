"""A caller's stream that breaks: what is said of commands that were sent, and that were not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

import grpc
import pytest

from tests.cluster import DEADLINE, until
from tinyraft.errors import ConnectionLost, NotLeader, TinyraftError
from tinyraft.transport import commands as commands_module
from tinyraft.transport.commands import Answered, CommandStream
from tinyraft.transport.options import caller_options, server_options
from tinyraft.transport.slots import Slot
from tinyraft.transport.statuses import LEADER_ADDRESS, LEADER_ID, LEADER_TERM, TAKEN
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Servicer, add_RaftServiceV1Servicer_to_server


class Breaking(RaftServiceV1Servicer):
    """A node that takes the first batch of commands and breaks the stream without an answer."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.breaks = Event()

    def ApplyStream(self, requests: Iterator[pb.ApplyStreamRequest], context: Any) -> Any:
        """Take a batch, then fail as a process that dies."""
        context.send_initial_metadata(())
        self.taken += [command.command for command in next(requests).commands]
        self.breaks.wait(DEADLINE)
        context.abort(grpc.StatusCode.UNAVAILABLE, "the process is gone")
        yield


@pytest.fixture
def servicer(request: pytest.FixtureRequest) -> Breaking:
    """Make the node's side of the stream."""
    return getattr(request, "param", Breaking)()


@pytest.fixture
def node(servicer: Breaking) -> Iterator[Breaking]:
    """Lend a node that breaks, with its address."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=server_options())
        add_RaftServiceV1Servicer_to_server(servicer, server)
        servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield servicer
        servicer.breaks.set()
        server.stop(0).wait(DEADLINE)


class Sender:
    """Whoever owns the commands of a stream."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self.lock = Lock()
        self.answers: SimpleQueue[Answered] = SimpleQueue()
        self.stream = CommandStream(channel, address, lock=self.lock, answered=self.answered)
        assert self.stream.wait_open(DEADLINE)

    def answered(self, lane: object, answers: Sequence[Answered]) -> None:
        """Keep them."""
        for answer in answers:
            assert lane is self.stream
            self.answers.put(answer)

    def send(self, command: bytes) -> Slot:
        """Send one command."""
        slot = Slot(command)
        slot.lane = self.stream
        self.stream.send(slot)
        return slot

    def next(self) -> tuple[bytes, TinyraftError | None]:
        """Wait for an answer."""
        answer = self.answers.get(timeout=DEADLINE)
        return answer.slot.command, answer.error


@pytest.fixture
def sender(node: Breaking) -> Iterator[Sender]:
    """Lend a stream to the node."""
    with grpc.insecure_channel(node.address, options=caller_options()) as channel:
        yield Sender(channel, node.address)


def test_a_stream_that_breaks_tells_sent_from_unsent(node: Breaking, sender: Sender) -> None:
    """What was sent and not answered may be applied; what comes after the end was never sent."""
    sender.send(b"sent")
    until(lambda: node.taken, what="the command has arrived")
    node.breaks.set()
    command, error = sender.next()
    assert (b"sent", ConnectionLost) == (command, type(error))
    assert "after the command was sent" in str(error)
    sender.send(b"unsent")
    command, error = sender.next()
    assert (b"unsent", NotLeader) == (command, type(error))
    assert "nothing was sent" in str(error)
    assert ([b"sent"], False) == (node.taken, sender.stream.is_usable)


def test_a_command_can_be_withdrawn_until_it_is_sent(node: Breaking, sender: Sender) -> None:
    """Then only an answer tells."""
    slot = Slot(b"still here")
    slot.lane = sender.stream
    with sender.lock:
        assert sender.stream.withdraw(slot)
    sent = sender.send(b"sent")
    until(lambda: node.taken, what="the command has arrived")
    with sender.lock:
        assert not sender.stream.withdraw(sent)


class Unstartable:
    """A thread too many."""

    def __init__(self, **_: object) -> None:
        """Nothing."""

    def start(self) -> None:
        """Fail as the system does."""
        raise RuntimeError("can't start new thread")


def test_a_stream_without_its_thread_is_over(
    node: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has none left: nothing was sent, and no other thread of it stays."""

    with grpc.insecure_channel(node.address, options=caller_options()) as channel:
        with monkeypatch.context() as patch:
            patch.setattr(commands_module, "Thread", Unstartable)
            sender = Sender(channel, node.address)
        assert not sender.stream.is_usable
        sender.send(b"unsent")
        command, error = sender.next()
        assert (b"unsent", NotLeader) == (command, type(error))


class Parting(Breaking):
    """A node that takes one batch, leaves the next, and ends the stream on purpose."""

    def ApplyStream(self, requests: Iterator[pb.ApplyStreamRequest], context: Any) -> Any:
        """Say at the end how much was taken, and who leads."""
        context.send_initial_metadata(())
        self.taken += [command.command for command in next(requests).commands]
        yield pb.ApplyStreamResponse()
        self.breaks.wait(DEADLINE)
        context.set_trailing_metadata(
            ((TAKEN, "1"), (LEADER_ID, "b"), (LEADER_ADDRESS, "b.example:1"), (LEADER_TERM, "7"))
        )


@pytest.mark.parametrize("servicer", [Parting], indirect=True)
def test_what_a_parting_node_never_took_is_certain(node: Breaking, sender: Sender) -> None:
    """Sent, but not taken: certainly not applied, and there is word of the leader (P89)."""
    sender.send(b"taken")
    until(lambda: node.taken, what="the first has arrived")
    sender.send(b"untaken")
    until(lambda: len(sender.stream._pending) == 2, what="the second was sent")
    node.breaks.set()
    command, error = sender.next()
    assert (b"untaken", NotLeader) == (command, type(error))
    assert "before it took the command" in str(error)
    assert isinstance(error, NotLeader)
    assert ("b", "b.example:1", 7) == (error.leader_id, error.leader_address, error.term)
    command, error = sender.next()
    assert (b"taken", ConnectionLost) == (command, type(error))
    assert ([b"taken"], False) == (node.taken, sender.stream.is_usable)


class Counting(Breaking):
    """A node that notes how many commands come in each message."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: SimpleQueue[list[bytes]] = SimpleQueue()

    def ApplyStream(self, requests: Iterator[pb.ApplyStreamRequest], context: Any) -> Any:
        """Take them, and answer nothing."""
        context.send_initial_metadata(())
        for message in requests:
            self.messages.put([command.command for command in message.commands])
        yield from ()


@pytest.mark.parametrize("servicer", [Counting], indirect=True)
def test_who_wakes_up_together_speaks_together(
    node: Counting, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent until the last of those who were answered is awake, or for a moment."""
    monkeypatch.setattr(commands_module, "GATHER_SECONDS", DEADLINE)
    places = [Lock(), Lock()]
    chain = sender.stream.waking()
    for place in places:
        place.acquire()
        chain.join(place)
    sender.send(b"first")
    chain.open()
    sender.send(b"second")
    chain.pass_on()  # the first one's thread
    sender.send(b"third")
    assert node.messages.empty()
    chain.pass_on()
    assert [b"first", b"second", b"third"] == node.messages.get(timeout=DEADLINE)
    monkeypatch.setattr(commands_module, "GATHER_SECONDS", 0.001)
    sender.stream.waking().join(Lock())  # one that never wakes
    sender.send(b"fourth")
    assert [b"fourth"] == node.messages.get(timeout=DEADLINE)
