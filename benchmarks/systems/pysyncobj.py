"""PySyncObj 0.3.17, what Python programs use for this today, in the leader's process.

Promises: a majority has a command in memory. It writes to no disk here: with its journal it still
never syncs, so either way a loss of power may lose what was acknowledged.

Tuned: ticks and appends every millisecond instead of every 50 and 100, which triples what it does.
It has more patience than by default (1 to 2 s instead of 0.4 to 1.4), for a busy machine. Its ticks
are given by us, so that it nearly rests while others are measured.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic, sleep
from typing import Any

from benchmarks.load import Row, load
from benchmarks.pipeline import Done, pipeline
from benchmarks.process import Child, answer, free_ports

NAME = "pysyncobj"
TICK_SECONDS = 0.001
PATIENCE = 20.0
REST_SECONDS = 0.05
TUNED = {"appendEntriesPeriod": TICK_SECONDS, "raftMinTimeout": 1.0, "raftMaxTimeout": 2.0}


def is_installed() -> bool:
    """Whether it can be measured."""
    return importlib.util.find_spec("pysyncobj") is not None


class Cluster:
    """Three processes."""

    def __init__(self, members: list[Child]) -> None:
        """They rest."""
        self.members = members

    def lead(self) -> Child:
        """Wait until somebody leads and is ready."""
        end = monotonic() + PATIENCE
        while monotonic() < end:
            for member in self.members:
                if member.process.poll() is None and member.ask("leads"):
                    return member
            sleep(0.02)
        raise RuntimeError(f"PySyncObj has no leader within {PATIENCE:g} s")

    def local(self, **how: object) -> Row:
        """Load from the leader's process."""
        return self._awake("load", **how)

    def pipeline(self, **how: object) -> Row:
        """Many commands in flight, from the leader's process."""
        return self._awake("pipeline", **how)

    def _awake(self, task: str, **how: object) -> Row:
        """Have the leader do *task*; all members tick for that long."""
        for member in self.members:
            member.ask("wake")
        try:
            row: Row = self.lead().ask(task, **how)
            return row
        finally:
            for member in self.members:
                member.ask("rest")

    def failover(self) -> float:
        """Kill the leader; seconds until another member has a command through."""
        leader = self.lead()
        leader.kill()
        began = monotonic()
        survivor = next(member for member in self.members if member is not leader)
        survivor.ask("apply")
        return monotonic() - began


@contextmanager
def running(*, kind: str = "tuned") -> Iterator[Cluster]:
    """Run three of *kind* "tuned", or "default" with its own ticks and settings."""
    with ExitStack() as undo:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        members = [
            undo.enter_context(
                Child(__name__, kind, address, *(one for one in addresses if one != address))
            )
            for address in addresses
        ]
        for member in members:
            assert member.address, "it is there"
        yield Cluster(members)


def be_member(kind: str, address: str, others: list[str]) -> None:
    """One process."""
    from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, SyncObjException, replicated

    leaderless = (
        FAIL_REASON.MISSING_LEADER,
        FAIL_REASON.DISCARDED,
        FAIL_REASON.NOT_LEADER,
        FAIL_REASON.LEADER_CHANGED,
        FAIL_REASON.UNKNOWN_OUTCOME,
    )

    class Tally(SyncObj):  # type: ignore[misc]  # it has no types
        def __init__(self, conf: Any) -> None:
            super().__init__(address, others, conf)
            self.count = 0

        @replicated  # type: ignore[untyped-decorator]
        def add(self, command: bytes) -> None:
            del command
            self.count += 1

    logging.disable(logging.CRITICAL)  # so tuned, followers warn of applied entries that are cut
    is_tuned = kind == "tuned"
    machine = Tally(SyncObjConf(autoTick=not is_tuned, **(TUNED if is_tuned else {})))
    awake = threading.Event()

    def tick() -> None:
        while True:
            if not awake.wait(REST_SECONDS):
                machine.doTick(0.0)  # often enough to keep its leader
            else:
                machine.doTick(TICK_SECONDS)

    if is_tuned:
        threading.Thread(target=tick, daemon=True).start()

    def task(threads: int, seconds: float, warm: float, size: int = 128) -> Row:
        command = b"x" * size

        def call() -> None:
            while True:
                try:
                    machine.add(command, sync=True, timeout=PATIENCE)
                    return
                except SyncObjException as error:
                    if error.errorCode not in leaderless:
                        raise  # else an election came between, and it is tried again

        return load(call, threads=threads, seconds=seconds, warm=warm)

    def submit(command: bytes, done: Done) -> None:
        machine.add(command, callback=lambda _result, failure: done(failure or None))

    def apply() -> None:
        end = monotonic() + PATIENCE
        while True:
            try:
                machine.add(b"x", sync=True, timeout=0.5)
                return
            except Exception:
                if monotonic() > end:
                    raise

    print(address, flush=True)
    answer(
        {
            "load": task,
            "pipeline": partial(pipeline, submit),
            "apply": apply,
            "wake": awake.set,
            "rest": awake.clear,
            "leads": lambda: machine._isLeader() and machine.isReady(),
        }
    )


if __name__ == "__main__":
    kind, address, *others = sys.argv[1:]
    be_member(kind, address, others)
