"""Load from threads: calls a second and latencies, after a warm-up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter

WARM_SECONDS = 0.7


def load(call: Callable[[], object], *, threads: int, seconds: float) -> dict[str, float]:
    """Run *call* in a loop on each of *threads*; count what began and ended after the warm-up."""
    begin = perf_counter() + WARM_SECONDS
    end = begin + seconds
    took: list[list[float]] = [[] for _ in range(threads)]

    def work(mine: list[float]) -> None:
        while True:
            started = perf_counter()
            if started > end:
                return
            call()
            ended = perf_counter()
            if started >= begin and ended <= end:
                mine.append(ended - started)

    workers = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in took]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    latencies = sorted(latency for mine in took for latency in mine)
    if not latencies:
        raise RuntimeError(f"not one call of {threads} threads ended within {seconds} s")
    return {
        "threads": threads,
        "per_second": round(len(latencies) / seconds),
        "p50_ms": round(latencies[len(latencies) // 2] * 1e3, 3),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 3),
    }
