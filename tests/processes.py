"""A cluster of real processes on this machine: started, killed, paused, asked, and always ended.

Law: a node is configured by its environment alone, as in production, and judged by what it answers
and by how it ends; nothing here reaches into it. All waiting is for a condition, with a deadline.

Each cluster has a loopback address of its own. A port of 127.0.0.1 whose node is down may be taken
by any outgoing connection of this machine, even by one that was meant for that very port.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

import grpc

from tinyraft.caller import Caller
from tinyraft.transport.options import peer_options
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub, RaftServiceV1Stub

T = TypeVar("T")

LOOK_SECONDS = 0.01
CALL_SECONDS = 1.0
PATIENCE = 20.0  # a shared machine may stall for seconds
LOG_LINES = 40


@dataclass(slots=True)
class NodeProcess:
    """One node: what stays the same over its lives, and the present life."""

    name: str
    address: str
    log: Path
    environ: dict[str, str]
    program: subprocess.Popen[bytes] | None = None
    channel: grpc.Channel | None = None
    exits: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process id of the present life."""
        assert self.program is not None, f"{self.name} does not run"
        return self.program.pid


class Processes:
    """*count* nodes ``n0``, ``n1``, ...; `n0` founds the cluster, the others join it as voters."""

    def __init__(
        self,
        count: int,
        *,
        directory: Path,
        program: Sequence[str | Path],
        started: int | None = None,
        timeout_ms: int = 500,
        environ: Mapping[str, str] | None = None,
        host: Callable[[int], str] | None = None,
        wrap: Callable[[int], Sequence[str]] = lambda _node: (),
    ) -> None:
        """Prepare; nothing runs before the context is entered.

        Args:
            count: How many nodes.
            directory: Where data directories and logs go.
            program: The Python program (its file and arguments) of every node. It must end when
                its standard input does, so that nothing outlives a test that was killed.
            started: How many of them the context starts; None: all.
            timeout_ms: RAFT_TIMEOUT_MS of every node.
            environ: More variables for every node.
            host: Gives the address of each node, where it is not to be a loopback one.
            wrap: Gives what stands before each node's command line, such as ``ip netns exec``.
        """
        own = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.2"
        loopback = own if sys.platform == "linux" else "127.0.0.1"
        hosts = [host(node) if host else loopback for node in range(count)]
        ports = free_ports(["" if host else where for where in hosts])
        addresses = [f"{where}:{port}" for where, port in zip(hosts, ports, strict=True)]
        self._started = count if started is None else started
        self._program = [sys.executable, *map(str, program)]
        self._wrap = wrap
        self._ending = ExitStack()
        base = {k: v for k, v in os.environ.items() if not k.startswith(("RAFT_", "NODE_"))}
        self.nodes = []
        for node, address in enumerate(addresses):
            own_environ = {
                **base,
                "NODE_ID": f"n{node}",
                "NODE_LISTEN_ADDR": address,
                "RAFT_DATA_DIR": str(directory / f"n{node}"),
                "RAFT_BOOTSTRAP": "true" if node == 0 else "false",
                "RAFT_JOIN": ",".join(addresses),
                "RAFT_VOTER": "true",
                "RAFT_TIMEOUT_MS": str(timeout_ms),
                **(environ or {}),
            }
            log = directory / f"n{node}.log"
            self.nodes.append(NodeProcess(f"n{node}", address, log, own_environ))

    @property
    def addresses(self) -> list[str]:
        """Where each node listens."""
        return [one.address for one in self.nodes]

    def move(self, node: int, address: str) -> None:
        """Let *node*, which does not run, listen at *address* from now on."""
        one = self.nodes[node]
        assert one.program is None, f"{one.name} runs"
        one.address = one.environ["NODE_LISTEN_ADDR"] = address
        one.channel = None

    # --- life of a node -------------------------------------------------------------------------

    def start(self, node: int, **environ: str) -> None:
        """Start *node*, with *environ* over its usual environment; does not wait for it."""
        one = self.nodes[node]
        assert one.program is None, f"{one.name} runs already"
        with one.log.open("ab") as log:
            one.program = subprocess.Popen(
                [*self._wrap(node), *self._program],
                env={**one.environ, **environ},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # In a group of its own a paused node is woken and ended when its parent dies.
                process_group=0,
            )

    def signal(self, node: int, number: signal.Signals) -> None:
        """Send *node* a signal."""
        os.kill(self.nodes[node].pid, number)

    def pause(self, node: int) -> None:
        """Freeze *node*: its connections stay open, and nothing is answered."""
        self.signal(node, signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """Let *node* go on."""
        self.signal(node, signal.SIGCONT)

    def kill(self, node: int) -> None:
        """End *node* without a warning, and wait until it is gone."""
        with suppress(ProcessLookupError):  # it may have ended by itself
            self.signal(node, signal.SIGKILL)
        self.wait_exit(node)

    def stop(self, node: int, *, seconds: float = PATIENCE) -> int:
        """Ask *node* to end, wait for that, and return its exit code."""
        self.signal(node, signal.SIGTERM)
        return self.wait_exit(node, seconds=seconds)

    def wait_exit(self, node: int, *, seconds: float = PATIENCE) -> int:
        """Wait until *node* has ended, and return its exit code."""
        one = self.nodes[node]
        assert one.program is not None, f"{one.name} does not run"
        code = one.program.wait(seconds)
        assert one.program.stdin is not None
        one.program.stdin.close()
        one.program = None
        one.exits.append(code)
        return code

    def restart(self, node: int, **environ: str) -> None:
        """Kill *node* where it still runs, and start it again."""
        if self.nodes[node].program is not None:
            self.kill(node)
        self.start(node, **environ)

    def free_address(self, node: int) -> str:
        """Return another address for *node* on the same host."""
        host = self.nodes[node].address.rpartition(":")[0]
        return f"{host}:{free_ports([host])[0]}"

    def running(self) -> list[int]:
        """Name the nodes that were started and not ended."""
        return [number for number, one in enumerate(self.nodes) if one.program is not None]

    # --- what a node says -----------------------------------------------------------------------

    def channel(self, node: int) -> grpc.Channel:
        """Return a channel to *node*; it lives as long as this cluster."""
        one = self.nodes[node]
        if one.channel is None:
            one.channel = grpc.insecure_channel(one.address, options=peer_options(0.5))
            self._ending.callback(one.channel.close)
        return one.channel

    def status(self, node: int) -> pb.StatusResponse | None:
        """Ask *node* how it is; None when it does not answer."""
        stub = RaftAdminV1Stub(self.channel(node))
        try:
            return stub.Status(pb.StatusRequest(), timeout=CALL_SECONDS)
        except grpc.RpcError:
            return None

    def query(self, node: int, request: bytes = b"") -> bytes:
        """Ask the module of *node*, as stale as that node is."""
        stub = RaftServiceV1Stub(self.channel(node))
        message = pb.QueryRequest(request=request, consistency=pb.CONSISTENCY_STALE)
        return stub.Query(message, timeout=PATIENCE).result

    def data_dir(self, node: int) -> Path:
        """Return where *node* keeps its data."""
        return Path(self.nodes[node].environ["RAFT_DATA_DIR"])

    def log(self, node: int) -> str:
        """Return everything that *node* wrote, over all its lives."""
        return self.nodes[node].log.read_text(errors="replace")

    def leader(self, among: Sequence[int] | None = None, *, seconds: float = PATIENCE) -> int:
        """Wait until exactly one of *among* (all that run) leads, and return it."""

        def only_leader() -> int | None:
            all_status = {n: self.status(n) for n in (among or self.running())}
            leading = [n for n, s in all_status.items() if s and s.role == pb.ROLE_LEADER]
            return leading[0] + 1 if len(leading) == 1 else None

        return self.wait(only_leader, "one leader", seconds=seconds) - 1

    def caller(self, among: Sequence[int] | None = None) -> Caller:
        """Make a caller of this cluster that knows the addresses of *among* (all)."""
        addresses = [self.addresses[n] for n in among or range(len(self.nodes))]
        return self._ending.enter_context(Caller(addresses))

    # --- waiting --------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], T | None], what: str, *, seconds: float = PATIENCE) -> T:
        """Wait until *condition* gives something, and return that; else say *what* is missing."""
        return wait(condition, what, seconds=seconds)

    def wait_ready(self, among: Sequence[int] | None = None, *, seconds: float = PATIENCE) -> None:
        """Wait until *among* (all that run) are ready, and all that ever ran are voters."""
        voters = sum(one.log.exists() for one in self.nodes)  # all that ever ran

        def are_ready() -> bool:
            for one in self.nodes:
                assert one.program is None or one.program.poll() is None, f"{one.name} has ended"
            found = [self.status(node) for node in among or self.running()]
            return all(s and s.ready and voters == sum(m.voter for m in s.members) for s in found)

        self.wait(are_ready, f"{among or self.running()} to be ready", seconds=seconds)

    def wait_converged(self, among: Sequence[int] | None = None) -> pb.StatusResponse:
        """Wait until *among* (all that run) have one leader and have all applied the same."""

        def converged() -> pb.StatusResponse | None:
            found = [self.status(node) for node in among or self.running()]
            leading = [s for s in found if s and s.role == pb.ROLE_LEADER]
            places = {(s.term, s.last_index, s.last_applied) if s else None for s in found}
            same = len(leading) == len(places) == 1
            return leading[0] if same and leading[0].last_applied == leading[0].last_index else None

        return self.wait(converged, f"{among or self.running()} to converge")

    # --- the end --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start every node, and wait until all are voters."""
        try:
            for node in range(self._started):
                self.start(node)
            self.wait_ready()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process; after a failure, show what the nodes wrote last."""
        for node in self.running():
            self.kill(node)
        self._ending.close()
        if kind is not None:
            for one in self.nodes:
                sys.stderr.write(self.last_words(one) + "\n")

    def last_words(self, one: NodeProcess) -> str:
        """Return what a reader of a failed test wants to know of *one*."""
        written = one.log.read_text(errors="replace") if one.log.exists() else ""
        first = f"{one.name} at {one.address}, exits {one.exits}, wrote last:"
        return "\n  ".join([first, *written.splitlines()[-LOG_LINES:]])


def wait(condition: Callable[[], T | None], what: str, *, seconds: float = PATIENCE) -> T:
    """Wait until *condition* gives something, and return that.

    Raises:
        AssertionError: It did not within *seconds*.
    """
    deadline, never = monotonic() + seconds, Event()
    while True:
        found = condition()
        if found:
            return found
        assert monotonic() < deadline, f"waited {seconds:g} s for {what}"
        never.wait(LOOK_SECONDS)


def free_ports(hosts: Sequence[str]) -> list[int]:
    """Let the system choose a port on each of *hosts*, all different."""
    with ExitStack() as until_all_are_chosen:
        ports = []
        for host in hosts:
            plain = until_all_are_chosen.enter_context(socket.socket())
            plain.bind((host, 0))
            ports.append(plain.getsockname()[1])
        return ports
