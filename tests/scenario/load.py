"""Unique commands from many threads, and the judgement of what became of each.

Every command is sent once. Afterwards: what was acknowledged is there once, at the place that the
answer named; what may have been applied is there once or not at all; what was certainly not applied
is not there; and of two commands the one that was answered before the other began stands first.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Literal, Self

import grpc

import tinyraft
from tests.processes import Processes, wait
from tinyraft.transport.statuses import from_rpc_error
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

Send = Callable[[bytes], bytes | None]


@dataclass(slots=True)
class Sent:
    """One command: what became of it, and when."""

    command: bytes
    began: float
    ended: float
    outcome: Literal["applied", "maybe", "not"]
    place: int = 0
    error: Exception | None = None


class Load:
    """Threads that send until the context is left."""

    def __init__(self, senders: Sequence[Send]) -> None:
        """One thread for each of *senders*."""
        self.sent: list[Sent] = []
        self.unexpected: list[Exception] = []
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, send), name=f"load-{number}")
            for number, send in enumerate(senders)
        ]

    def _run(self, number: int, send: Send) -> None:
        count = 0
        while not self._stopping.is_set():
            count += 1
            try:
                one = self._send(b"%x-%d-%d" % (id(self), number, count), send)
                self.sent.append(one)
                if one.error is not None:
                    self._stopping.wait(0.02)  # else a dead node is asked as fast as we can
            except Exception as error:  # noqa: BLE001  # judged by `check`
                self.unexpected.append(error)
                return

    def _send(self, command: bytes, send: Send) -> Sent:
        began = monotonic()
        try:
            answer = send(command)
        except (tinyraft.NotApplied, tinyraft.NotStarted, tinyraft.NodeRemoved) as error:
            return Sent(command, began, monotonic(), "not", error=error)
        except tinyraft.MaybeApplied as error:
            return Sent(command, began, monotonic(), "maybe", error=error)
        return Sent(command, began, monotonic(), "applied", place=int(answer or 0))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
        assert [] == [thread.name for thread in self._threads if thread.is_alive()]

    def count(self, outcome: str) -> int:
        return sum(one.outcome == outcome for one in list(self.sent))

    def wait_applied(self, more: int, *, seconds: float = 20.0) -> None:
        """Wait until *more* commands than now were acknowledged."""
        wanted = self.count("applied") + more
        wait(lambda: self.count("applied") >= wanted, f"{more} more answers", seconds=seconds)

    def first_applied_since(self, moment: float) -> float:
        """Seconds from *moment* to the first answer to a command that was sent after it."""
        return min(
            one.ended - moment
            for one in list(self.sent)
            if one.outcome == "applied" and one.began > moment
        )

    def check(self, commands: Sequence[bytes]) -> None:
        """Judge every command against *commands*, what a node's module was given."""
        assert [] == self.unexpected
        assert [] == [c for c, n in Counter(commands).items() if n > 1], "applied twice"
        places = {command: place for place, command in enumerate(commands, 1)}
        for one in self.sent:
            place = places.get(one.command)
            if one.outcome == "applied":
                assert one.place == place, f"{one.command!r} was acknowledged"
            elif one.outcome == "not":
                assert one.error is not None
                assert not tinyraft.may_have_applied(one.error)
                assert place is None, f"{one.command!r} was refused: {one.error!r}"
        self._check_order()

    def _check_order(self) -> None:
        earliest_end_behind = float("inf")
        acknowledged = [one for one in self.sent if one.outcome == "applied"]
        for one in sorted(acknowledged, key=lambda one: -one.place):
            assert one.began < earliest_end_behind, f"{one.command!r} stands before an older one"
            earliest_end_behind = min(earliest_end_behind, one.ended)


def through_caller(caller: tinyraft.Caller, *, timeout: float = 15.0) -> Send:
    return lambda command: caller.apply(command, timeout=timeout)


def through_unary(cluster: Processes, node: int, *, timeout: float = 5.0) -> Send:
    """Use *node*'s own Apply as a program in any language would: whoever leads, or not."""
    stub = RaftServiceV1Stub(cluster.channel(node))

    def send(command: bytes) -> bytes | None:
        try:
            return stub.Apply(pb.Cmd(payload=command), timeout=timeout).result
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    return send


def mixed(cluster: Processes, *, threads: int = 8, unary_timeout: float = 5.0) -> list[Send]:
    """Most threads share one caller; one thread a node calls that node's Apply."""
    unary = [
        through_unary(cluster, node, timeout=unary_timeout) for node in range(len(cluster.nodes))
    ]
    return [through_caller(cluster.caller())] * (threads - len(unary)) + unary


def journal_of(cluster: Processes, node: int) -> list[bytes]:
    """What the module of *node* was given."""
    commands: list[bytes] = []
    while answer := cluster.query(node, b"%d" % len(commands)):
        commands += answer.split(b"\n")
    return commands


def check_all(cluster: Processes, *loads: Load) -> list[bytes]:
    """Wait until all nodes that run agree, and judge *loads* by what they have."""
    cluster.wait_converged()
    first, *others = [journal_of(cluster, node) for node in cluster.running()]
    assert [] == [n for n, other in enumerate(others, 1) if first != other], "nodes differ"
    for load in loads:
        load.check(first)
    return first
