"""Threads for gRPC's handlers that never keep a program from ending.

Law: its workers are daemons and unknown to the interpreter's own exit, which joins every stock
executor's threads before anything else runs: a program that forgot `shutdown` would hang there for
ever. So a worker must hold nothing that its process's end could tear.

gRPC wants a `ThreadPoolExecutor`, and runs a handler in its own pool when the handler's function
has one as ``experimental_thread_pool`` (the same code in grpcio 1.74 and 1.85; a bound method can't
have that attribute, so handlers are closures). Of the stock class only the type and `map` are used.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonPool(ThreadPoolExecutor):
    """Named daemon threads, made when there is work and none of them is idle.

    Whoever makes a pool shuts it down: its threads keep it alive until then.
    """

    def __init__(self, max_workers: int, *, name: str) -> None:
        """Start nothing yet; threads will be called *name*-1, *name*-2, ..."""
        super().__init__(max_workers, thread_name_prefix=name)
        self.name = name
        self.max_workers = max_workers
        self._changed = threading.Condition()  # guards all below; leaf
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._workers: list[threading.Thread] = []
        self._idle = 0
        self._closed = False
        self._retired = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run *fn* in one of the threads.

        Raises:
            RuntimeError: The pool was shut down, or the system has no thread for it.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the pool {self.name} was shut down and takes no more work")
            if self._idle <= len(self._work) and len(self._workers) < self.max_workers:
                self._hire()
            self._work.append((future, partial(fn, *args, **kwargs)))
            self._changed.notify()
        return future

    def retire(self) -> None:
        """Keep no thread that has nothing to do; work that still comes is still done.

        gRPC's serving thread submits calls that arrived before it was stopped, or for as long as
        the program's own server lives, and a pool that refused one would end that very thread.
        """
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; finish what was taken, or cancel what was not begun.

        With *wait* it returns when every thread has ended, except the one that calls it.
        """
        with self._changed:
            self._closed = True
            cancelled = list(self._work) if cancel_futures else []
            if cancel_futures:
                self._work.clear()
            self._changed.notify_all()
        for future, _ in cancelled:
            future.cancel()
        if wait:
            self.join()

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to *timeout* seconds for the threads to end, and tell whether they have.

        Only a pool that was shut down ends. The calling thread is not waited for.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            others = [one for one in self._workers if one is not threading.current_thread()]
        for worker in others:
            worker.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(worker.is_alive() for worker in others)

    def _hire(self) -> None:
        """Start one more thread; without one, work waits for those that there are."""
        name = f"{self.name}-{len(self._workers) + 1}"
        worker = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the system's limit, or the interpreter is ending
            if not self._workers:
                raise
        else:
            self._workers.append(worker)

    def _serve(self) -> None:
        """Work until the pool is shut down and nothing is left."""
        while (job := self._next()) is not None:
            run(*job)
            del job  # an idle thread must not keep the last call's arguments alive

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Wait for work."""
        with self._changed:
            self._idle += 1
            while not (self._work or self._closed or self._retired):
                self._changed.wait()
            self._idle -= 1
            if self._work:
                return self._work.popleft()
            if self._retired:
                self._workers.remove(threading.current_thread())  # makes room for the next
            return None


def run(future: Future[T], call: Callable[[], T]) -> None:
    """Do the work, and hand its result or its exception to the future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  an executor's promise: the future has it
        future.set_exception(error)
        del future, call  # else the traceback, which holds this frame, would hold itself
    else:
        future.set_result(result)
