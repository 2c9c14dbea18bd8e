"""A cluster of servers in this very process, for the tests of the shell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, TypeVar

import grpc

import tinyraft
from tinyraft.core.effects import Write
from tinyraft.core.entry import Entry, Index
from tinyraft.node.node import Node
from tinyraft.storage.snapshots import Snapshots
from tinyraft.testing.disk import SimDisk

T = TypeVar("T")

TIMEOUT = 0.4  # the election timeout: fast, and far above what a busy machine needs for a wake-up
DEADLINE = 20.0


def until(condition: Callable[[], T], *, deadline: float = DEADLINE, what: str = "") -> T:
    """Wait for *condition* to give something true, and return that."""
    end = monotonic() + deadline
    while not (found := condition()):
        assert monotonic() < end, f"not within {deadline} s: {what or condition}"
        Event().wait(0.002)
    return found


def our_threads(*, but: Sequence[str] = ()) -> list[str]:
    """Name the library's threads, except those that begin with one of *but*."""
    names = [thread.name for thread in threading.enumerate()]
    return [n for n in names if n.startswith("tinyraft-") and not n.startswith(tuple(but))]


class Words:
    """A module that notes commands and answers their number; some commands make it misbehave."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.misbehave: dict[bytes, Callable[[], object]] = {
            b"refuse": self.refuse,
            b"raise": lambda: {}["missing"],
            b"none": lambda: None,
            b"number": lambda: 7,
            b"empty": lambda: b"",
        }
        self.gate = Event()
        self.waits = Event()

    def refuse(self) -> None:
        """Refuse."""
        raise tinyraft.Rejected("not that word")

    def wait(self) -> bytes:
        """Hold the applier until the gate opens."""
        self.waits.set()
        assert self.gate.wait(DEADLINE)
        return b"waited"

    def apply(self, command: bytes, /) -> bytes | None:
        """Note a word."""
        self.words.append(command)
        act = self.misbehave.get(command)
        if act is not None:
            return act()  # type: ignore[return-value]  # some answer nonsense on purpose
        return str(len(self.words)).encode()

    def query(self, request: bytes, /) -> bytes:
        """Count the words, or misbehave."""
        act = self.misbehave.get(request)
        if act is not None:
            return act()  # type: ignore[return-value]
        return str(len(self.words)).encode()


class GatedJournal:
    """A journal whose syncs can be held up or made to fail."""

    def __init__(self, journal: Any = None) -> None:
        self.journal = journal
        self.open = Event()
        self.open.set()
        self.syncing = Event()
        self.failure: BaseException | None = None
        self.has_room = True
        self.batches: list[list[Write]] = []
        self.syncs = 0

    def write(self, writes: Sequence[Write]) -> None:
        """Pass *writes* on."""
        self.batches.append(list(writes))
        if self.journal is not None:
            self.journal.write(writes)

    def sync(self) -> None:
        """Wait for the gate, fail if told to, and pass it on."""
        self.syncs += 1
        self.syncing.set()
        assert self.open.wait(DEADLINE)
        if self.failure is not None:
            raise self.failure
        if self.journal is not None:
            self.journal.sync()

    def provide(self, *, again: bool) -> bool:
        """Pass it on."""
        return self.has_room and (self.journal is None or self.journal.provide(again=again))

    def read(self, after: Index, to: Index, *, max_bytes: int) -> list[Entry]:
        """Pass it on."""
        found: list[Entry] = self.journal.read(after, to, max_bytes=max_bytes)
        return found

    def index_before_bytes(self, size: int) -> Index:
        """Pass it on."""
        found: Index = self.journal.index_before_bytes(size)
        return found

    def compact(self, index: Index) -> None:
        """Pass it on."""
        self.journal.compact(index)


def empty_shelf() -> Snapshots:
    """Make a directory without snapshots, in memory."""
    return Snapshots.open(SimDisk(), Path("/snapshots"))


def node_of(server: tinyraft.Server) -> Node:
    """Return the node inside a running server."""
    running = server._running
    assert running is not None
    return running.node


def gate_journal(server: tinyraft.Server) -> GatedJournal:
    """Put a gate before the disk of *server*."""
    writer = node_of(server).writer
    gate = GatedJournal(writer._journal)
    writer._journal = gate
    return gate


class LocalCluster:
    """Servers on ports that the system chose, in directories of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: dict[str, tinyraft.Server] = {}
        self.modules: dict[str, Words] = {}
        self.made: list[Any] = []

    def config(self, name: str, **options: Any) -> tinyraft.Config:
        """Make the configuration of a node."""
        options.setdefault("listen_address", "127.0.0.1:0")
        options.setdefault("timeout", TIMEOUT)
        options.setdefault("voter", True)
        return tinyraft.Config(data_dir=self.directory / name, node_id=name, **options)

    def make(
        self, name: str, *, module: Any = None, grpc_server: Any = None, **options: Any
    ) -> tinyraft.Server:
        """Make a server, not yet started."""
        if self.servers and not options.get("bootstrap"):
            options.setdefault("join", tuple(self.addresses))
        module = module or Words()
        server = tinyraft.Server(self.config(name, **options), module, grpc_server=grpc_server)
        self.servers[name], self.modules[name] = server, module
        self.made.append(server)
        return server

    def start(self, count: int = 3, **options: Any) -> LocalCluster:
        """Found a cluster of *count* voters called a, b, c, ..."""
        names = [chr(ord("a") + number) for number in range(count)]
        for name in names:
            self.make(name, bootstrap=name == "a", **options).start()
            self.wait_voters(list(self.servers))
        return self

    def wait_voters(self, names: Sequence[str]) -> None:
        """Wait until every node of *names* knows all of them as voters, and all are ready."""

        def is_whole(name: str) -> bool:
            status = self[name].status()
            return {m.id for m in status.members if m.voter} >= set(names) and status.is_ready

        until(lambda: all(is_whole(name) for name in names), what=f"{names} vote and are ready")

    def __getitem__(self, name: str) -> tinyraft.Server:
        return self.servers[name]

    def __iter__(self) -> Iterator[tinyraft.Server]:
        return iter(self.servers.values())

    @property
    def addresses(self) -> list[str]:
        """Where all that run are dialled."""
        return [server.status().address for server in self if server._running is not None]

    def leader(self, *, without: str = "") -> str:
        """Wait until one leads, and name it."""

        def find() -> str:
            names = [n for n, s in self.servers.items() if n != without and s.is_leader]
            return names[0] if len(names) == 1 else ""

        return until(find, what="a leader")

    def followers(self) -> list[str]:
        """Name all that do not lead."""
        leader = self.leader()
        until(lambda: all(s.status().leader_id == leader for s in self), what="all know the leader")
        return [name for name in self.servers if name != leader]

    def caller(self, *names: str, **options: Any) -> tinyraft.Caller:
        """Make a caller that knows the addresses of *names*, or of all."""
        found = [self[name].status().address for name in names] or self.addresses
        caller = tinyraft.Caller(found, **options)
        self.made.append(caller)
        return caller

    def channel(self, name: str, *options: tuple[str, int]) -> grpc.Channel:
        """Open a plain channel to *name*."""
        channel = grpc.insecure_channel(self[name].status().address, options=options)
        self.made.append(channel)
        return channel

    def close(self) -> None:
        """End everything."""
        for module in self.modules.values():
            if isinstance(module, Words):
                module.gate.set()
        for one in reversed(self.made):
            if isinstance(one, tinyraft.Server):
                one.shutdown(timeout=1.0)
            else:
                one.close()
