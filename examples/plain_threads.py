"""A program of plain threads: several workers count together, and the count survives the program.

    RAFT_DATA_DIR=/tmp/counter RAFT_BOOTSTRAP=true python examples/plain_threads.py

Each run adds to what earlier runs have counted. The program has no `if leader`: `Server.apply`
works on every node, whoever leads.
"""

from __future__ import annotations

import threading
from collections import Counter

import tinyraft

WORKERS = 4
STEPS = 25


class Counters:
    """The state machine: counts how often each name was given."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def apply(self, command: bytes) -> bytes:
        name = command.decode()
        self.counts[name] += 1
        return b"%d" % self.counts[name]


def work(server: tinyraft.Server, name: str) -> None:
    for _ in range(STEPS):
        try:
            server.apply(name.encode(), timeout=10)
        except tinyraft.MaybeApplied as error:
            print(f"{name}: this step may count or not: {error}")
        except tinyraft.NotApplied as error:
            print(f"{name}: this step does not count: {error}")


def main() -> None:
    server = tinyraft.Server(tinyraft.Config.from_env(), Counters())
    server.start()
    try:
        server.wait_ready(timeout=10)  # not needed by apply, which waits for a leader by itself
        names = [f"worker-{number}" for number in range(1, WORKERS + 1)]
        workers = [threading.Thread(target=work, args=(server, name)) for name in names]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        counts = server.read(lambda module: dict(module.counts), consistency="stale")
        for name, count in sorted(counts.items()):
            print(name, count)
    finally:
        server.shutdown()


if __name__ == "__main__":
    main()
