"""Load from threads: calls a second and latencies, after a warm-up.

Law: counts only calls that began and ended within the measured time (the first one, if none was so
quick); every thread is a caller that waits for its answer, so throughput times latency gives the
number of threads. How often threads of this process waited, a call, tells of its hand-offs.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from time import perf_counter

WARM_SECONDS = 0.5

Row = dict[str, float]


def load(
    call: Callable[[], object], *, threads: int, seconds: float, warm: float = WARM_SECONDS
) -> Row:
    """Run *call* in a loop on each of *threads* for *warm* and then *seconds* seconds."""
    begin = perf_counter() + warm
    end = begin + seconds
    took: list[list[float]] = [[] for _ in range(threads)]
    late: list[float] = []  # when the first call came back, if that was after the end
    failures: list[BaseException] = []

    def work(mine: list[float]) -> None:
        try:
            while not failures:
                started = perf_counter()
                if started > end and any(took):
                    return
                call()
                ended = perf_counter()
                if started >= begin and (ended <= end or not any(took)):
                    mine.append(ended - started)
                    if ended > end:
                        late.append(ended)
        except BaseException as error:  # noqa: BLE001  # the whole run fails with it, below
            failures.append(error)

    switched = switches()
    workers = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in took]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise RuntimeError(f"a call of {threads} threads failed: {failures[0]!r}") from failures[0]
    latencies = sorted(latency for mine in took for latency in mine)
    lasted = max([end, *late]) - begin
    calls = len(latencies) * (warm + lasted) / lasted  # those of the warm-up too, about
    return {
        "threads": threads,
        "per_second": round(len(latencies) / lasted, 1),
        "p50_ms": round(latencies[len(latencies) // 2] * 1e3, 4),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 4),
        "switches_per_call": round((switches() - switched) / calls, 2),
    }


def switches() -> int:
    """How often a thread of this process has waited: for another one, the interpreter, I/O."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
