"""The ceiling: what three processes reach on this machine with no Raft logic at all.

A leader takes commands, frames each with a CRC, sends each batch to two followers over one stream
each, and syncs it in parallel; followers write, sync, acknowledge; a majority commits; one batch is
uncommitted at a time, so whatever arrives meanwhile makes up the next. "local" callers are threads
of the leader's process, "remote" ones threads of another process that share one stream.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import grpc

T = TypeVar("T")
FRAME = struct.Struct("<IIQ")
U64 = struct.Struct("<Q")
LOG_BYTES = 512 << 20
WRAP_BYTES = 400 << 20


class Slot:
    """One command, waited for by one thread."""

    __slots__ = ("command", "done")

    def __init__(self, command: bytes) -> None:
        """Begin unanswered."""
        self.command = command
        self.done = threading.Lock()
        self.done.acquire()


Batch = tuple[list[bytes], Callable[[int, int], None], int]


def open_log(path: Path) -> int:
    """Make a preallocated file."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    os.posix_fallocate(fd, 0, LOG_BYTES)
    os.fsync(fd)
    return fd


def drain(queue: SimpleQueue[T]) -> list[T]:
    """Wait for one item and take what else is there."""
    items = [queue.get()]
    try:
        while True:
            items.append(queue.get_nowait())
    except Empty:
        return items


def serve(streams: dict[str, Any]) -> grpc.Server:
    """Host raw byte streams, and an echo; print the port."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method == "/c/echo":
                return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
            return grpc.stream_stream_rpc_method_handler(streams[str(details.method)])

    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    return server


def follower(path: Path) -> None:
    """Write, sync, acknowledge."""
    fd = open_log(path)

    def append(batches: Iterator[bytes], _context: object) -> Iterator[bytes]:
        at = 0
        for batch in batches:
            os.pwrite(fd, batch[8:], at % WRAP_BYTES)
            at += len(batch) - 8
            os.fdatasync(fd)
            yield batch[:8]

    server = serve({"/c/append": append})
    sys.stdin.read()
    server.stop(0)


class Leader:
    """Group commit over two streams, and nothing else."""

    def __init__(self, path: Path, ports: list[int]) -> None:
        """Connect to the followers at *ports*."""
        self.queue: SimpleQueue[Slot | Batch] = SimpleQueue()
        self.uncommitted: deque[tuple[int, list[Slot | Batch]]] = deque()
        self.index = 0
        self.match = [0] * (1 + len(ports))
        self.lock = threading.Lock()
        self.window = threading.Semaphore(1)
        self.fd = open_log(path)
        self.peers: list[SimpleQueue[bytes]] = []
        for number, port in enumerate(ports, 1):
            queue: SimpleQueue[bytes] = SimpleQueue()
            self.peers.append(queue)
            channel = grpc.insecure_channel(f"127.0.0.1:{port}")
            answers = channel.stream_stream("/c/append")(iter(queue.get, None))
            threading.Thread(target=self.acknowledge, args=(number, answers), daemon=True).start()
        threading.Thread(target=self.write, daemon=True).start()

    def acknowledge(self, number: int, answers: Iterator[bytes]) -> None:
        """Learn what a follower has."""
        try:
            for answer in answers:
                self.match[number] = U64.unpack(answer)[0]
                self.advance()
        except grpc.RpcError:
            return  # the run is over

    def advance(self) -> None:
        """Answer what a majority has."""
        with self.lock:
            majority = sorted(self.match)[(len(self.match) - 1) // 2]
            while self.uncommitted and self.uncommitted[0][0] <= majority:
                index, items = self.uncommitted.popleft()
                self.window.release()
                for item in items:
                    if isinstance(item, Slot):
                        item.done.release()
                    else:
                        item[1](index, item[2])

    def write(self) -> None:
        """Send, write and sync one batch after another."""
        at = 0
        while True:
            self.window.acquire()
            items, out = drain(self.queue), []
            for item in items:
                for command in [item.command] if isinstance(item, Slot) else item[0]:
                    self.index += 1
                    out += (FRAME.pack(len(command), zlib.crc32(command), self.index), command)
            batch = b"".join(out)
            with self.lock:
                self.uncommitted.append((self.index, items))
            for queue in self.peers:
                queue.put(U64.pack(self.index) + batch)
            os.pwrite(self.fd, batch, at % WRAP_BYTES)
            at += len(batch)
            os.fdatasync(self.fd)
            self.match[0] = self.index
            self.advance()

    def apply(self, command: bytes) -> None:
        """Block until a majority has *command* on disk."""
        slot = Slot(command)
        self.queue.put(slot)
        slot.done.acquire()

    def remote(self, batches: Iterator[bytes], _context: object) -> Iterator[bytes]:
        """Take another process's commands."""
        answers: SimpleQueue[bytes] = SimpleQueue()

        def read() -> None:
            try:
                for batch in batches:
                    commands, at = [], 0
                    while at < len(batch):
                        size = int.from_bytes(batch[at : at + 4], "little")
                        commands.append(batch[at + 4 : at + 4 + size])
                        at += 4 + size
                    self.queue.put((commands, reply, len(commands)))
            except grpc.RpcError:
                pass  # the client hung up
            answers.put(b"")

        def reply(index: int, count: int) -> None:
            answers.put(U64.pack(index) * count)

        threading.Thread(target=read, daemon=True).start()
        while True:
            got = drain(answers)
            yield b"".join(got)
            if got[-1] == b"":
                return


class Client:
    """Threads of another process, over one stream."""

    def __init__(self, port: int) -> None:
        """Connect to the leader at *port*."""
        self.queue: SimpleQueue[Slot] = SimpleQueue()
        self.waiting: deque[Slot] = deque()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.echo = channel.unary_unary("/c/echo")
        self.answers = channel.stream_stream("/c/remote")(self.send())
        threading.Thread(target=self.receive, daemon=True).start()

    def send(self) -> Iterator[bytes]:
        """Batch what waits."""
        while True:
            slots = drain(self.queue)
            self.waiting.extend(slots)
            yield b"".join(len(s.command).to_bytes(4, "little") + s.command for s in slots)

    def receive(self) -> None:
        """Answer in order."""
        try:
            for message in self.answers:
                for _ in range(0, len(message), 8):
                    self.waiting.popleft().done.release()
        except grpc.RpcError:
            return  # the run is over

    def apply(self, command: bytes) -> None:
        """Block until it is answered."""
        slot = Slot(command)
        self.queue.put(slot)
        slot.done.acquire()
