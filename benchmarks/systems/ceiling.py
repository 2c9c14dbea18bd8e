"""The ceiling (`benchmarks.ceiling`), and what it stands on: one gRPC call, one fdatasync.

Promises: a command is answered when two of three processes have synced it; no elections, no
recovery, no state machine, nothing that would make it usable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.ceiling import Client, Leader, follower, open_log, serve
from benchmarks.load import Row, load
from benchmarks.process import Child, answer

NAME = "ceiling"
BLOCK = 1 << 20


@dataclass(slots=True)
class Ceiling:
    """Two followers, a leader, and a process of callers."""

    leader: Child
    followers: list[Child]
    client: Child

    def local(self, **how: object) -> Row:
        """Load from the leader's process."""
        row: Row = self.leader.ask("load", **how)
        return row

    def remote(self, **how: object) -> Row:
        """Load from another process."""
        row: Row = self.client.ask("load", **how)
        return row

    def echo(self, **how: object) -> Row:
        """Raw unary gRPC calls to the leader's process, which does nothing with them."""
        row: Row = self.client.ask("echo", **how)
        return row

    def sync(self, **how: object) -> Row:
        """Write 128 bytes and fdatasync, alone."""
        row: Row = self.client.ask("sync", **how)
        return row

    def write_mb(self, **how: object) -> float:
        """MB a second that one process gets onto the disk in blocks of 1 MiB, each synced."""
        return float(self.client.ask("write", **how))


@contextmanager
def running(directory: Path) -> Iterator[Ceiling]:
    """Start it in *directory*."""
    directory.mkdir()
    with ExitStack() as undo:
        followers = [
            undo.enter_context(Child(__name__, "follower", str(directory / name)))
            for name in ("f1", "f2")
        ]
        ports = [child.address for child in followers]
        leader = undo.enter_context(Child(__name__, "leader", str(directory / "l"), *ports))
        client = Child(__name__, "client", str(directory / "s"), leader.address)
        undo.enter_context(client)
        yield Ceiling(leader, followers, client)


def be_leader(path: Path, ports: list[int]) -> None:
    """The leader's process."""
    leader = Leader(path, ports)
    server = serve({"/c/remote": leader.remote})

    def task(threads: int, seconds: float, warm: float, size: int = 128) -> Row:
        command = b"x" * size
        return load(lambda: leader.apply(command), threads=threads, seconds=seconds, warm=warm)

    answer({"load": task})
    server.stop(0)


def be_client(path: Path, port: int) -> None:
    """The callers' process."""
    client = Client(port)
    fd = open_log(path)
    print("ready", flush=True)
    command = b"x" * 128
    at = 0

    def sync_one() -> None:
        nonlocal at
        os.pwrite(fd, command, at)
        at += len(command)
        os.fdatasync(fd)

    def write(seconds: float) -> float:
        block, place, began = os.urandom(BLOCK), 0, perf_counter()
        while (took := perf_counter() - began) < seconds:
            os.pwrite(fd, block, place % (400 * BLOCK))
            os.fdatasync(fd)
            place += BLOCK
        return place / took / 1e6

    answer(
        {
            "load": partial(load, lambda: client.apply(command)),
            "echo": partial(load, lambda: client.echo(command)),
            "sync": partial(load, sync_one),
            "write": write,
        }
    )
    os.close(fd)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["follower", path]:
            follower(Path(path))
        case ["leader", path, *ports]:
            be_leader(Path(path), [int(port) for port in ports])
        case ["client", path, port]:
            be_client(Path(path), int(port))
