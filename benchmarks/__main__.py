"""Beside the ceiling: latency and throughput of three durable nodes on this machine.

usage: python -m benchmarks [--threads 1,16,64] [--seconds 3] [--rounds 1] [--json FILE]

Each row is measured for the ceiling and for tinyraft in turn, so that a noisy spell meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import tinyraft
from benchmarks.ceiling import Client, Leader, follower, serve
from benchmarks.load import load

COMMAND = b"x" * 128
Row = dict[str, float]


class Nothing:
    """A module that does nothing, so that the rest is measured."""

    def apply(self, command: bytes, /) -> None:
        """Take it."""


# --- the processes ----------------------------------------------------------------------------


def serve_loads(apply: Callable[[bytes], object]) -> None:
    """Run the loads that are asked for on standard input, one line each."""
    for line in sys.stdin:
        threads, seconds = line.split()
        row = load(lambda: apply(COMMAND), threads=int(threads), seconds=float(seconds))
        print(json.dumps(row), flush=True)


def run_node() -> None:
    """One tinyraft node, configured by its environment."""
    with tinyraft.Server(tinyraft.Config.from_env(), Nothing()) as server:
        print(server.status().address, flush=True)
        serve_loads(server.apply)


def run_ceiling_leader(path: str, ports: list[str]) -> None:
    """The ceiling's leader."""
    leader = Leader(Path(path), [int(port) for port in ports])
    server = serve({"/c/remote": leader.remote})
    serve_loads(leader.apply)
    server.stop(0)


class Child:
    """A process that prints where it listens, and measures on request."""

    def __init__(self, *args: str, environ: dict[str, str] | None = None) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        self.address = self.line()

    def line(self) -> str:
        """Read one line."""
        assert self.process.stdout is not None, "piped"
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended: {self.process.wait()}")
        return line.strip()

    def measure(self, threads: int, seconds: float) -> Row:
        """Let it measure in its own process."""
        assert self.process.stdin is not None, "piped"
        print(threads, seconds, file=self.process.stdin, flush=True)
        row: Row = json.loads(self.line())
        return row

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None, "piped"
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """Let the system choose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ceiling(directory: Path) -> Iterator[tuple[Child, Client]]:
    """Two followers, a leader, and a client in this process."""
    with ExitStack() as undo:
        ports = []
        for name in ("f1", "f2"):
            child = Child("follower", str(directory / name))
            undo.callback(child.stop)
            ports.append(child.address)
        boss = Child("leader", str(directory / "l"), *ports)
        undo.callback(boss.stop)
        yield boss, Client(int(boss.address))


@contextmanager
def cluster(directory: Path, size: int = 3) -> Iterator[tuple[Child, tinyraft.Caller]]:
    """*size* nodes, the first of which leads, and a caller in this process."""
    with ExitStack() as undo:
        nodes: list[Child] = []
        for number in range(size):
            environ = {
                "NODE_ID": f"n{number}",
                "NODE_LISTEN_ADDR": f"127.0.0.1:{free_port()}",
                "RAFT_DATA_DIR": str(directory / f"n{number}"),
                "RAFT_VOTER": "true",
            }
            environ |= {"RAFT_JOIN": nodes[0].address} if nodes else {"RAFT_BOOTSTRAP": "true"}
            nodes.append(Child("node", environ=environ))
            undo.callback(nodes[-1].stop)
        caller = undo.enter_context(tinyraft.Caller(nodes[0].address))
        caller.apply(COMMAND, timeout=20)
        nodes[0].measure(1, 1.0)  # until the others vote, and everything is warm
        yield nodes[0], caller


# --- the table ---------------------------------------------------------------------------------


def middle(rows: list[Row]) -> Row:
    """Take the median of each figure."""
    return {key: median(row[key] for row in rows) for key in rows[0]}


def compare(threads: list[int], *, seconds: float, rounds: int) -> list[dict[str, object]]:
    """Measure the ceiling and tinyraft in turn."""
    table: list[dict[str, object]] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        ceiling(Path(directory)) as (boss, client),
        cluster(Path(directory)) as (leader, caller),
    ):
        for count in threads:
            rows: dict[str, list[Row]] = {}
            for _ in range(rounds):
                for name, row in (
                    ("ceiling local", boss.measure(count, seconds)),
                    ("tinyraft local", leader.measure(count, seconds)),
                    (
                        "ceiling remote",
                        load(lambda: client.apply(COMMAND), threads=count, seconds=seconds),
                    ),
                    (
                        "tinyraft remote",
                        load(lambda: caller.apply(COMMAND), threads=count, seconds=seconds),
                    ),
                ):
                    rows.setdefault(name, []).append(row)
            table += [{"what": name, **middle(found)} for name, found in rows.items()]
    return table


def show(table: list[dict[str, object]]) -> None:
    """Print the table; the ratio is tinyraft's throughput to the ceiling's."""
    print(f"{'what':18}{'threads':>8}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>7}")
    reference: dict[object, float] = {}
    for row in table:
        system, _, where = str(row["what"]).partition(" ")
        rate, ratio = float(str(row["per_second"])), ""
        if system == "ceiling":
            reference[where, row["threads"]] = rate
        else:
            ratio = f"{rate / reference[where, row['threads']]:.2f}"
        print(
            f"{row['what']:18}{row['threads']:>8}{rate:>12,.0f}"
            f"{row['p50_ms']:>9}{row['p99_ms']:>9}{ratio:>7}"
        )


def main() -> None:
    """Be one of the processes, or measure."""
    match sys.argv[1:]:
        case ["follower", path]:
            return follower(Path(path))
        case ["leader", path, *ports]:
            return run_ceiling_leader(path, ports)
        case ["node"]:
            return run_node()
    assert __doc__, "it has one"
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,16,64")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    counts = [int(count) for count in options.threads.split(",")]
    table = compare(counts, seconds=options.seconds, rounds=options.rounds)
    show(table)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    return None


if __name__ == "__main__":
    main()
