"""Many commands in flight: `Caller.submit`, without waiting for each.

Law: the number in flight is limited, so memory is; what counts is what was answered in time.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

from benchmarks.load import Row

IN_FLIGHT = 8_000  # below what a leader takes by default (RAFT_MAX_PENDING_COMMANDS)
COMMAND = b"x" * 128


def pipeline(caller: Any, *, seconds: float, warm: float) -> Row | None:
    """Submit as fast as answers come; None when *caller* has no ``submit``."""
    submit = getattr(caller, "submit", None)
    if submit is None:
        return None
    room = threading.Semaphore(IN_FLIGHT)
    begin = perf_counter() + warm
    end = begin + seconds
    answered, failed = 0, 0

    def done(future: Any) -> None:  # on the caller's receiving thread, one at a time
        nonlocal answered, failed
        room.release()
        if future.exception() is not None:
            failed += 1
        elif begin <= perf_counter() <= end:
            answered += 1

    while perf_counter() < end:
        room.acquire()
        submit(COMMAND).add_done_callback(done)
    for _ in range(IN_FLIGHT):
        room.acquire()
    if failed:
        raise RuntimeError(f"{failed} submitted commands failed")
    return {"threads": 1, "per_second": round(answered / seconds)}
