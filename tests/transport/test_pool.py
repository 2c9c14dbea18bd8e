"""The pool: an executor that gRPC takes, and that no program's end waits for."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import grpc
import pytest

from tinyraft.transport.pool import DaemonPool

DEADLINE = 10.0


@pytest.fixture
def pool() -> Iterator[DaemonPool]:
    """Lend a pool of two threads."""
    made = DaemonPool(2, name="tinyraft-test-pool")
    yield made
    made.shutdown(wait=False)
    assert made.join(DEADLINE)


def thread_name() -> str:
    """Name the thread that this runs in."""
    return threading.current_thread().name


def until_idle(pool: DaemonPool) -> None:
    """Wait until a thread that has answered is idle too, a moment later."""
    deadline = time.monotonic() + DEADLINE
    while pool._idle < 1:
        assert time.monotonic() < deadline


def test_results_and_exceptions_come_back(pool: DaemonPool) -> None:
    """A future has what the call returned or raised, whatever the arguments are called."""
    assert pool.submit(divmod, 7, 2).result(DEADLINE) == (3, 1)
    assert pool.submit(dict, fn=1, self=2).result(DEADLINE) == {"fn": 1, "self": 2}
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(DEADLINE)
    with pytest.raises(SystemExit):
        pool.submit(sys.exit, 3).result(DEADLINE)
    assert list(pool.map(abs, [-1, 2])) == [1, 2]


def test_threads_are_named_daemons_made_on_demand(pool: DaemonPool) -> None:
    """Nothing runs before it is needed, no more than allowed, and never as a plain thread."""
    prefix = "tinyraft-test-pool-"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]
    go = threading.Event()
    waiting = [pool.submit(go.wait, DEADLINE) for _ in range(5)]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]
    go.set()
    assert all(future.result(DEADLINE) for future in waiting)
    assert {thread.name for thread in threads} == {f"{prefix}1", f"{prefix}2"}
    assert all(thread.daemon for thread in threads)


def test_an_idle_thread_is_used_again(pool: DaemonPool) -> None:
    """A second thread is made only when the first is at work."""
    names = set()
    for _ in range(20):
        names.add(pool.submit(thread_name).result(DEADLINE))
        until_idle(pool)
    assert names == {"tinyraft-test-pool-1"}


def test_an_idle_thread_holds_no_arguments(pool: DaemonPool) -> None:
    """What a call was given can be freed when it has returned, also if it raised."""

    class Big:
        def fail(self) -> None:
            raise ValueError(self)

    big = Big()
    alive = weakref.ref(big)
    gc.disable()  # nothing may need the collector
    try:
        future = pool.submit(big.fail)
        wait([future], DEADLINE)
        del future, big
        until_idle(pool)
        assert alive() is None
    finally:
        gc.enable()


def test_shutdown_finishes_what_was_taken(pool: DaemonPool) -> None:
    """Without `cancel_futures` every accepted call still runs."""
    go = threading.Event()
    blocked = [pool.submit(go.wait, DEADLINE) for _ in range(2)]
    queued = [pool.submit(abs, -number) for number in range(5)]
    pool.shutdown(wait=False)
    assert not pool.join(0.0)
    go.set()
    pool.shutdown(wait=True)
    assert all(future.result(0) for future in blocked)
    assert [future.result(0) for future in queued] == [0, 1, 2, 3, 4]


def test_shutdown_can_cancel_what_was_not_begun(pool: DaemonPool) -> None:
    """With `cancel_futures` only the calls that run are finished."""
    go, begun = threading.Event(), threading.Barrier(3)

    def block() -> bool:
        begun.wait(DEADLINE)
        return go.wait(DEADLINE)

    blocked = [pool.submit(block) for _ in range(2)]
    queued = [pool.submit(abs, -1) for _ in range(5)]
    begun.wait(DEADLINE)
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    go.set()
    pool.shutdown(wait=True)
    assert all(future.result(0) for future in blocked)


def test_a_cancelled_call_never_runs(pool: DaemonPool) -> None:
    """A future that was cancelled in the queue is passed over."""
    go, ran = threading.Event(), threading.Event()
    blocked = [pool.submit(go.wait, DEADLINE) for _ in range(2)]
    doomed = pool.submit(ran.set)
    assert doomed.cancel()
    go.set()
    assert all(future.result(DEADLINE) for future in blocked)
    pool.shutdown()
    assert not ran.is_set()


def test_a_pool_that_was_shut_down_takes_nothing(pool: DaemonPool) -> None:
    """The error is the stock executor's, which gRPC and users expect."""
    pool.shutdown()
    pool.shutdown()
    with pytest.raises(RuntimeError, match="tinyraft-test-pool was shut down"):
        pool.submit(int)


def test_a_handler_may_shut_its_own_pool_down(pool: DaemonPool) -> None:
    """The calling thread does not wait for itself."""
    pool.submit(pool.shutdown).result(DEADLINE)
    assert pool.join(DEADLINE)


@pytest.mark.parametrize("hired", [0, 1])
def test_without_a_new_thread_work_waits_for_an_old_one(
    pool: DaemonPool, monkeypatch: pytest.MonkeyPatch, hired: int
) -> None:
    """At the system's limit of threads calls queue; only a pool without any thread refuses."""

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    go = threading.Event()
    blocked = [pool.submit(go.wait, DEADLINE) for _ in range(hired)]
    monkeypatch.setattr(threading.Thread, "start", full)
    if hired:
        queued = pool.submit(thread_name)
        go.set()
        assert queued.result(DEADLINE) == "tinyraft-test-pool-1"
    else:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(thread_name)
    assert all(future.result(DEADLINE) for future in blocked)


def test_the_load_of_many_threads(pool: DaemonPool) -> None:
    """No call is lost or run twice when many threads submit at once."""
    seen: list[int] = []

    def submit_some(start: int) -> None:
        wait([pool.submit(seen.append, start + number) for number in range(200)], DEADLINE)

    submitters = [
        threading.Thread(target=submit_some, args=(base,)) for base in range(0, 1600, 200)
    ]
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join(DEADLINE)
    assert sorted(seen) == list(range(1600))


FORGETFUL = """
import threading
from tinyraft.transport.pool import DaemonPool
pool = DaemonPool(2, name="forgotten")
began = threading.Event()
pool.submit(lambda: (began.set(), threading.Event().wait()))
assert began.wait(10)
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("raise SystemExit(3)", 3), ("raise ValueError", 1)]
)
def test_a_program_that_forgets_its_pool_ends(end: str, code: int) -> None:
    """A handler that never returns does not keep the process alive (a stock executor's would)."""
    ended = subprocess.run(
        [sys.executable, "-c", FORGETFUL.format(end=end)], timeout=DEADLINE, capture_output=True
    )
    assert ended.returncode == code


# --- with gRPC --------------------------------------------------------------------------------

Handler = Callable[[bytes, grpc.ServicerContext], bytes]
Connect = Callable[..., Callable[[str], "grpc.UnaryUnaryMultiCallable[bytes, bytes]"]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Serve handlers in a server whose own pool has one thread."""
    closing: list[Callable[[], object]] = []

    def serve(
        **handlers: Handler,
    ) -> Callable[[str], grpc.UnaryUnaryMultiCallable[bytes, bytes]]:
        default = DaemonPool(1, name="default")
        server = grpc.server(default)
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        closing.extend([default.shutdown, lambda: server.stop(None).wait(DEADLINE), channel.close])
        return lambda name: channel.unary_unary(f"/t/{name}")

    yield serve
    while closing:
        closing.pop()()


def test_a_handler_runs_in_its_own_pool_while_the_server_s_is_busy(
    connect: Connect, pool: DaemonPool
) -> None:
    """`experimental_thread_pool` keeps peers apart from callers: a full pool stops only its own."""
    go, began = threading.Event(), threading.Event()

    def busy(_: bytes, context: grpc.ServicerContext) -> bytes:
        began.set()
        go.wait(DEADLINE)
        return thread_name().encode()

    def peer(_: bytes, context: grpc.ServicerContext) -> bytes:
        return thread_name().encode()

    peer.experimental_thread_pool = pool  # type: ignore[attr-defined]
    method = connect(Busy=busy, Peer=peer)
    running = method("Busy").future(b"", timeout=DEADLINE)
    assert began.wait(DEADLINE)
    assert method("Peer")(b"", timeout=DEADLINE).startswith(b"tinyraft-test-pool-")
    assert not running.done()
    go.set()
    assert running.result(DEADLINE) == b"default-1"


def test_a_bound_method_can_t_have_its_own_pool(pool: DaemonPool) -> None:
    """Why handlers are closures: Python refuses the attribute on a method."""
    assert isinstance(pool, ThreadPoolExecutor)
    with pytest.raises(AttributeError):
        pool.join.experimental_thread_pool = pool  # type: ignore[attr-defined]
