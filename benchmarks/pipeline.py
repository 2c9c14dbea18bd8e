"""Many commands in flight, without waiting for each.

Law: the number in flight is limited, so memory is; what counts is what was answered in time. A
failed command fails the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from benchmarks.load import Row, load

IN_FLIGHT = 8_000  # below what a leader takes by default (RAFT_MAX_PENDING_COMMANDS)
AT_ONCE = 1_000  # commands in one `apply_many`
COMMAND = b"x" * 128

Done = Callable[[object], None]  # is told what went wrong, or None


def pipeline(submit: Callable[[bytes, Done], object], *, seconds: float, warm: float) -> Row:
    """Submit from one thread, as fast as answers come."""
    room = threading.Semaphore(IN_FLIGHT)
    begin = perf_counter() + warm
    end = begin + seconds
    answered = 0
    failures: list[object] = []

    def done(failure: object) -> None:  # on the receiving thread, one at a time
        nonlocal answered
        room.release()
        if failure is not None:
            failures.append(failure)
        elif begin <= perf_counter() <= end:
            answered += 1

    while perf_counter() < end and not failures:
        room.acquire()
        submit(COMMAND, done)
    for _ in range(IN_FLIGHT):
        room.acquire()
    if failures:
        raise RuntimeError(f"{len(failures)} submitted commands failed: {failures[0]!r}")
    return {"threads": 1, "per_second": round(answered / seconds)}


def of_caller(caller: Any, *, seconds: float, warm: float) -> dict[str, Row]:
    """Use what *caller* has of `submit` and `apply_many`."""
    rows: dict[str, Row] = {}
    if hasattr(caller, "submit"):

        def submit(command: bytes, done: Done) -> None:
            future = caller.submit(command)
            future.add_done_callback(lambda over: done(over.exception()))

        rows["submit"] = pipeline(submit, seconds=seconds, warm=warm)
    if hasattr(caller, "apply_many"):
        commands = [COMMAND] * AT_ONCE
        row = load(lambda: caller.apply_many(commands), threads=1, seconds=seconds, warm=warm)
        rows["apply_many"] = {"threads": 1, "per_second": row["per_second"] * AT_ONCE}
    return rows
