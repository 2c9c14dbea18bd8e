"""tinyraft: a cluster of processes, and processes of callers.

Promises: a command is answered when a majority has synced it and the leader's module has applied
it; every node recovers all of it after a loss of power.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import TypeVar

import tinyraft
from benchmarks.disks import Counter, install
from benchmarks.load import Row, load
from benchmarks.module import Keeper, Tally
from benchmarks.pipeline import of_caller
from benchmarks.process import Child, answer, resident_mb

T = TypeVar("T")

NAME = "tinyraft"
PATIENCE = 30.0
LOOK_SECONDS = 0.02


class Cluster:
    """*size* nodes on loopback; ports are the system's choice."""

    def __init__(
        self,
        directory: Path,
        *,
        size: int,
        disk: str = "durable",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start them, and wait until all of them vote."""
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._environ = {"BENCH_DISK": disk, **(environ or {})}
        self.nodes: list[Child] = []
        self._addresses: list[str] = []
        try:
            self.nodes.append(self._start(0, "127.0.0.1:0"))
            self._addresses.append(self.nodes[0].address)
            self.nodes += [self._start(number, "127.0.0.1:0") for number in range(1, size)]
            self._addresses += [node.address for node in self.nodes[1:]]
            self.wait_for(lambda: self.voters() == size, what="all of them vote")
        except BaseException:
            self.stop()
            raise

    def _start(self, number: int, address: str) -> Child:
        environ = {
            "NODE_ID": f"n{number}",
            "NODE_LISTEN_ADDR": address,
            "RAFT_DATA_DIR": str(self._directory / f"n{number}"),
            "RAFT_VOTER": "true",
        }
        first = {"RAFT_JOIN": self._addresses[0]} if number else {"RAFT_BOOTSTRAP": "true"}
        log = self._directory / f"n{number}.log"
        return Child(__name__, "node", environ={**environ, **first, **self._environ}, log=log)

    # --- who is there -------------------------------------------------------------------------

    @property
    def addresses(self) -> str:
        """Where they listen."""
        return ",".join(self._addresses)

    def wait_for(self, condition: Callable[[], T | None], *, what: str) -> T:
        """Wait until *condition* gives something true, and return that."""
        end = monotonic() + PATIENCE
        while not (found := condition()):
            if monotonic() > end:
                raise RuntimeError(f"not within {PATIENCE:g} s: {what}")
            sleep(LOOK_SECONDS)
        return found

    def voters(self) -> int:
        """How many vote, as the leader knows it."""
        leader = self.find_leader()
        return 0 if leader is None else int(leader.ask("status")["voters"])

    def find_leader(self) -> Child | None:
        """Find who leads now."""
        for node in self.nodes:
            if node.process.poll() is None and node.ask("status")["leads"]:
                return node
        return None

    @property
    def leader(self) -> Child:
        """Who leads; waits until somebody does."""
        return self.wait_for(self.find_leader, what="somebody leads")

    def followers(self) -> list[Child]:
        """Everybody else."""
        leader = self.leader
        return [node for node in self.nodes if node is not leader]

    # --- what is measured -----------------------------------------------------------------------

    def local(self, **how: object) -> Row:
        """`server.apply` in threads of the leader's process."""
        row: Row = self.leader.ask("load", **how)
        return row

    def syncs(self) -> list[int]:
        """How often each node has synced a file."""
        return [int(node.ask("syncs")) for node in self.nodes]

    def log_lines(self) -> int:
        """How many lines all nodes have logged."""
        files = self._directory.glob("n*.log")
        return sum(len(path.read_text().splitlines()) for path in files)

    def kill_leader(self) -> Child:
        """SIGKILL whoever leads."""
        leader = self.leader
        leader.kill()
        return leader

    def restart(self, node: Child) -> None:
        """Start a killed node anew, at its address, and wait until it has what the others have."""
        number = self.nodes.index(node)
        self.nodes[number] = new = self._start(number, self._addresses[number])

        def is_back() -> bool:
            there, here = self.leader.ask("status"), new.ask("status")
            return bool(here["ready"] and here["applied"] >= there["commit"])

        self.wait_for(is_back, what="a node that was started again has caught up")

    def stop(self) -> None:
        """End all."""
        for node in reversed(self.nodes):
            node.stop()


@contextmanager
def running(
    directory: Path,
    *,
    size: int = 3,
    disk: str = "durable",
    environ: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Run a cluster in *directory*."""
    with ExitStack() as undo:
        cluster = Cluster(directory, size=size, disk=disk, environ=environ)
        undo.callback(cluster.stop)
        yield cluster


@contextmanager
def callers(cluster: Cluster) -> Iterator[Child]:
    """Run a process of callers of *cluster*."""
    with Child(__name__, "caller", cluster.addresses) as child:
        yield child


# --- a node's process ---------------------------------------------------------------------------


class NodeTasks:
    """What a node's process can be asked."""

    def __init__(self, server: tinyraft.Server, module: Tally | Keeper, syncs: Counter) -> None:
        """Serve *server*."""
        self._server = server
        self._module = module
        self._syncs = syncs
        self._spinning: threading.Event | None = None

    def tasks(self) -> dict[str, Callable[..., object]]:
        """Name them."""
        names = ("load", "read", "status", "syncs", "threads", "trace", "times", "spin", "rest")
        return {name: getattr(self, name) for name in names}

    def load(self, threads: int, seconds: float, warm: float, size: int = 128) -> Row:
        """`apply` from *threads* threads."""
        server, command = self._server, b"x" * size
        return load(lambda: server.apply(command), threads=threads, seconds=seconds, warm=warm)

    def read(self, threads: int, seconds: float, warm: float, consistency: str) -> Row:
        """`read` from *threads* threads; "bare" is what no read can do without."""
        server, module, lock = self._server, self._module, threading.Lock()

        def count(module: object) -> int:
            assert isinstance(module, Tally | Keeper), "ours"
            return module.count

        def bare() -> int:
            with lock:
                return count(module)

        match consistency:
            case "bare":
                call: Callable[[], int] = bare
            case "stale":
                call = partial(server.read, count, consistency="stale")
            case _:
                call = partial(server.read, count)
        return load(call, threads=threads, seconds=seconds, warm=warm)

    def status(self) -> dict[str, object]:
        """How it stands."""
        status = self._server.status()
        return {
            "leads": self._server.is_leader,
            "voters": sum(member.voter for member in status.members),
            "term": status.term,
            "ready": status.is_ready,
            "applied": status.last_applied,
            "commit": status.commit_index,
            "failed": status.failed,
        }

    def syncs(self) -> int:
        """How often it has synced a file."""
        return self._syncs.count

    def threads(self) -> dict[int, str]:
        """Name its Python threads by their number in the system."""
        return {one.native_id: one.name for one in threading.enumerate() if one.native_id}

    def trace(self) -> None:
        """Begin to note when the module sees which command."""
        assert isinstance(self._module, Tally), "it can"
        self._module.times = {}

    def times(self) -> dict[int, float] | None:
        """End that, and tell."""
        assert isinstance(self._module, Tally), "it can"
        times, self._module.times = self._module.times, None
        return times

    def spin(self, interval_ms: float) -> None:
        """Begin to compute in a Python thread, under that switch interval."""
        sys.setswitchinterval(interval_ms / 1e3)
        self._spinning = over = threading.Event()

        def compute() -> None:
            number = 1
            while not over.is_set():
                for _ in range(1000):
                    number = number * 1103515245 % 2147483647

        threading.Thread(target=compute, name="spin", daemon=True).start()

    def rest(self) -> None:
        """End that."""
        assert self._spinning is not None, "it spins"
        self._spinning.set()
        sys.setswitchinterval(0.005)


def be_node() -> None:
    """One node, configured by its environment."""
    logging.basicConfig(level=logging.INFO)  # an idle node is to be silent at this level
    syncs = install(os.environ["BENCH_DISK"])
    module = Keeper() if os.environ.get("BENCH_KEEPS_LOG") else Tally()
    began = perf_counter()

    def caught_up(count: int) -> float:
        while module.count < count:
            sleep(0.005)
        return perf_counter() - began

    with tinyraft.Server(tinyraft.Config.from_env(), module) as server:
        took = perf_counter() - began
        print(server.status().address, flush=True)
        tasks = NodeTasks(server, module, syncs).tasks()
        answer({**tasks, "start_seconds": lambda: took, "caught_up": caught_up})


# --- a process of callers -------------------------------------------------------------------------


class CallerTasks:
    """What a process of callers can be asked."""

    def __init__(self, addresses: str) -> None:
        """Call the nodes at *addresses*."""
        self._addresses = addresses
        self._caller = tinyraft.Caller(addresses)
        self._idle: list[tinyraft.Caller] = []
        self._watching: threading.Event | None = None
        self._answered: list[float] = []

    def tasks(self) -> dict[str, Callable[..., object]]:
        """Name them."""
        names = ("load", "query", "pipeline", "hold", "release", "watch", "gap")
        return {name: getattr(self, name) for name in names}

    def load(self, threads: int, seconds: float, warm: float, size: int = 128) -> Row:
        """`apply` from *threads* threads that share one caller."""
        caller, command = self._caller, b"x" * size
        return load(lambda: caller.apply(command), threads=threads, seconds=seconds, warm=warm)

    def query(self, threads: int, seconds: float, warm: float) -> Row:
        """Linearizable queries, likewise."""
        caller = self._caller
        return load(lambda: caller.query(b""), threads=threads, seconds=seconds, warm=warm)

    def pipeline(self, seconds: float, warm: float) -> dict[str, Row]:
        """Commands without waiting for each, in the ways that `Caller` has."""
        rows = of_caller(self._caller, seconds=seconds, warm=warm)
        memory = {"resident_mb": round(resident_mb(os.getpid()), 1)}
        return {name: {**row, **memory} for name, row in rows.items()}

    def hold(self, count: int) -> None:
        """Open *count* callers that have called once."""
        for _ in range(count):
            self._idle.append(tinyraft.Caller(self._addresses))
            self._idle[-1].apply(b"x", timeout=PATIENCE)

    def release(self) -> None:
        """Close them."""
        while self._idle:
            self._idle.pop().close()

    def watch(self) -> None:
        """Begin to apply one command after the other."""
        self._watching = over = threading.Event()
        self._answered = answered = []

        def work() -> None:
            while not over.is_set():
                try:
                    self._caller.apply(b"x")
                except tinyraft.TinyraftError:
                    continue
                answered.append(monotonic())

        threading.Thread(target=work, name="watch", daemon=True).start()

    def gap(self, answers: int) -> float:
        """Wait for *answers* more answers, end, and tell the longest time without one (s)."""
        assert self._watching is not None, "it watches"
        answered, end = self._answered, monotonic() + PATIENCE
        wanted = len(answered) + answers
        while len(answered) < wanted and monotonic() < end:
            sleep(LOOK_SECONDS)
        self._watching.set()
        return max(after - before for before, after in pairwise(list(answered)))


def be_caller(addresses: str) -> None:
    """Callers, for as long as they are asked."""
    tasks = CallerTasks(addresses)
    print("ready", flush=True)
    answer(tasks.tasks())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["node"]:
            be_node()
        case ["caller", addresses]:
            be_caller(addresses)
