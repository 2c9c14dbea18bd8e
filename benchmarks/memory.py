"""What a leader's process holds in memory while more is asked of it than can be done.

usage: python -m benchmarks.memory [--seconds 60] [--threads 64] [--rate 2000]
                                   [--command-bytes 1024] [--only NAME] [--json FILE]

Three durable nodes and a client, each a process; the client's threads send through one `Caller`, at
a bounded rate, and go on whatever the answer is. The resident size of the leader's process is
looked at after a warm-up, after one and two thirds of the time, and at its end:

    healthy          all is well
    dead follower    one follower was killed after the warm-up
    quorum lost      both were; the client keeps trying, for half a second each time
    slow module      each command takes 5 ms, so that they wait for the module

Linux only: sizes are read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import tinyraft

HEALTHY, DEAD, LOST, SLOW = "healthy", "dead follower", "quorum lost", "slow module"
STATES = (HEALTHY, DEAD, LOST, SLOW)
SLOW_SECONDS = 0.005
TRY_SECONDS = 0.5
MIB = 1 << 20
START_SECONDS = 60.0


@dataclass(slots=True, frozen=True)
class Load:
    """What the client does."""

    seconds: float = 60.0
    threads: int = 64
    rate: float = 2000.0  # commands a second, at most
    command_bytes: int = 1024
    timeout: float = 10.0  # of one call
    warm_seconds: float = 5.0


# --- the processes ----------------------------------------------------------------------------


class Count:
    """A module whose state never grows, and whose `apply` may take its time."""

    def __init__(self, seconds: float) -> None:
        """Take *seconds* for each command."""
        self.count = 0
        self._seconds = seconds
        self._never = Event()

    def apply(self, _command: bytes, /) -> None:
        """Count it."""
        self.count += 1
        if self._seconds:
            self._never.wait(self._seconds)

    def snapshot(self) -> Iterator[bytes]:
        """Write the count down."""
        return iter([b"%d" % self.count])

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Read it."""
        self.count = int(b"".join(chunks))


def run_node(apply_seconds: float) -> None:
    """Be a node, configured by the environment; each line of input is answered with its state."""
    with tinyraft.Server(tinyraft.Config.from_env(), Count(apply_seconds)) as server:
        print(server.status().address, flush=True)
        for _ in sys.stdin:
            status = server.status()
            voters = sum(member.voter for member in status.members)
            print(json.dumps({"leads": server.is_leader, "voters": voters}), flush=True)


def run_client(addresses: list[str], load: Load) -> None:
    """Send, and count what became of it."""
    outcomes: list[Counter[str]] = [Counter() for _ in range(load.threads)]
    command, never = bytes(load.command_bytes), Event()
    end = monotonic() + load.seconds
    period = load.threads / load.rate
    with tinyraft.Caller(addresses) as caller:

        def work(number: int) -> None:
            due = end - load.seconds + number / load.rate
            while (now := monotonic()) < end:
                never.wait(max(0.0, min(due, end) - now))
                due = max(due, now) + period
                try:
                    caller.apply(command, timeout=load.timeout)
                    outcomes[number]["applied"] += 1
                except tinyraft.TinyraftError as error:
                    outcomes[number][type(error).__name__] += 1

        workers = [threading.Thread(target=work, args=(n,)) for n in range(load.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(json.dumps(sum(outcomes, Counter())), flush=True)


class Child:
    """A process of this benchmark that answers in lines."""

    def __init__(self, *args: str, environ: dict[str, str] | None = None) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environ or {})},
        )

    def line(self) -> str:
        """Read one line."""
        assert self.process.stdout is not None, "piped"
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended: {self.process.wait()}")
        return line.strip()

    def ask(self) -> dict[str, Any]:
        """Ask a node for its state."""
        assert self.process.stdin is not None, "piped"
        print(file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def rss(self) -> int:
        """Bytes that are resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """End it without a warning."""
        with self.process:
            self.process.kill()


def free_port() -> int:
    """Let the system choose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cluster(directory: Path, *, apply_seconds: float) -> Iterator[tuple[list[Child], list[str]]]:
    """Three voters, the first of which leads, and their addresses."""
    with ExitStack() as undo:
        nodes: list[Child] = []
        addresses: list[str] = []
        for number in range(3):
            environ = {
                "NODE_ID": f"n{number}",
                "NODE_LISTEN_ADDR": f"127.0.0.1:{free_port()}",
                "RAFT_DATA_DIR": str(directory / f"n{number}"),
                "RAFT_VOTER": "true",
                "RAFT_TIMEOUT_MS": "1000",
            }
            environ |= {"RAFT_JOIN": addresses[0]} if nodes else {"RAFT_BOOTSTRAP": "true"}
            nodes.append(Child("node", str(apply_seconds), environ=environ))
            undo.callback(nodes[-1].kill)
            addresses.append(nodes[-1].line())
        deadline, never = monotonic() + START_SECONDS, Event()
        while not (state := nodes[0].ask())["leads"] or state["voters"] < len(nodes):
            assert monotonic() < deadline, f"three voters within {START_SECONDS} s: {state}"
            never.wait(0.05)
        yield nodes, addresses


# --- the measurement --------------------------------------------------------------------------


def client(addresses: Sequence[str], load: Load) -> Child:
    """Start a client; its one line comes at the end."""
    return Child("client", ",".join(addresses), json.dumps(asdict(load)))


def measure(state: str, load: Load) -> dict[str, Any]:
    """Bring a cluster into *state* and look at the leader's process under *load*."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as undo:
        apply_seconds = SLOW_SECONDS if state == SLOW else 0.0
        nodes, addresses = undo.enter_context(cluster(Path(directory), apply_seconds=apply_seconds))
        leader = nodes[0]
        run(client(addresses, replace(load, seconds=load.warm_seconds)))
        for node in nodes[1 : {DEAD: 2, LOST: 3}.get(state, 1)]:
            node.kill()
        patience = TRY_SECONDS if state == LOST else load.timeout
        sizes = [leader.rss()]
        sender = client(addresses, replace(load, timeout=patience))
        begun, never = monotonic(), Event()
        for third in (1, 2, 3):
            never.wait(begun + third * load.seconds / 3 - monotonic())
            sizes.append(leader.rss())
        outcomes = run(sender)
        return {"what": state, "rss_mib": [round(s / MIB, 1) for s in sizes], "outcomes": outcomes}


def run(sender: Child) -> dict[str, int]:
    """Wait for a client's end, and give its counts."""
    try:
        found: dict[str, int] = json.loads(sender.line())
    finally:
        sender.kill()
    return found


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'':16}{'start':>8}{'1/3':>8}{'2/3':>8}{'end':>8}  RSS of the leader, MiB; commands")
    for row in rows:
        sizes = "".join(f"{size:>8.1f}" for size in row["rss_mib"])
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(row["outcomes"].items()))
        print(f"{row['what']:16}{sizes}  {outcomes}")


def main() -> None:
    """Be one of the processes, or measure."""
    if sys.argv[1:2] == ["node"]:
        run_node(float(sys.argv[2]))
        return
    if sys.argv[1:2] == ["client"]:
        run_client(sys.argv[2].split(","), Load(**json.loads(sys.argv[3])))
        return
    usual = Load()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=usual.seconds)
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--rate", type=float, default=usual.rate)
    parser.add_argument("--command-bytes", type=int, default=usual.command_bytes)
    parser.add_argument("--only", choices=STATES, action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = Load(
        seconds=options.seconds,
        threads=options.threads,
        rate=options.rate,
        command_bytes=options.command_bytes,
    )
    rows = []
    for state in options.only or STATES:
        rows.append(measure(state, load))
        print(f"{state}: done", file=sys.stderr)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps({"load": asdict(load), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
