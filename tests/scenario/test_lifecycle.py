"""Servers and callers in one process: what they hold is given back, whenever they are ended.

``TINYRAFT_RUNS=50`` starts and ends fifty servers at random moments.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic

import grpc
import pytest

import tinyraft
from tests.processes import Processes, wait
from tests.scenario.conftest import runs
from tests.scenario.journal import Journal
from tinyraft.storage.data_dir import DataDir
from tinyraft.storage.disk import RealDisk
from tinyraft.transport.options import check_bind
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftAdminV1Stub, RaftServiceV1Stub


def config(directory: Path, address: str = "127.0.0.1:0") -> tinyraft.Config:
    return tinyraft.Config(
        data_dir=directory, node_id="a", listen_address=address, bootstrap=True, timeout=0.1
    )


@contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait(lambda: not set(threading.enumerate()) - before, "the threads to end", seconds=5)


def assert_free(directory: Path, address: str) -> None:
    check_bind(address)
    DataDir.open(RealDisk(), directory).close()


def test_a_shutdown_leaves_nothing(tmp_path: Path) -> None:
    """After `shutdown` no thread, port or lock is held, and a second one is no error."""
    with no_thread_left():
        server = tinyraft.Server(config(tmp_path), Journal())
        server.start()
        assert server.wait_ready(10)
        address = server.status().address
        with tinyraft.Caller(address) as caller:
            assert [b"1", b"2"] == [server.apply(b"x"), caller.apply(b"y")]
            assert b"x\ny" == caller.query(b"", consistency="stale")
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/nobody/knows")(b"", timeout=5)
        server.shutdown()
        assert_free(tmp_path, address)
        server.shutdown()
        for call in (server.status, server.wait_ready, lambda: server.apply(b"x")):
            with pytest.raises(tinyraft.NotStarted):
                call()
        with pytest.raises(tinyraft.AlreadyStarted):
            server.start()


@pytest.mark.timeout(60 + 3 * runs(10))
def test_servers_end_at_any_moment(tmp_path: Path, measured: Callable[[str, float], None]) -> None:
    """However young it is and whoever waits, a server ends in time; all that was answered stays."""
    random = Random(10)
    acknowledged: list[bytes] = []
    journal = Journal()
    for life in range(runs(10)):
        with no_thread_left():
            journal = Journal()
            server = tinyraft.Server(config(tmp_path), journal)
            server.start()
            address = server.status().address
            caller = tinyraft.Caller(address)
            threads = [
                threading.Thread(target=apply_until_refused, args=(apply, name, acknowledged))
                for name, apply in {
                    b"%d server" % life: server.apply,
                    b"%d caller" % life: caller.apply,
                    b"%d caller too" % life: caller.apply,
                }.items()
            ]
            for thread in threads:
                thread.start()
            threading.Event().wait(random.random() * 0.3)
            began = monotonic()
            ends = [server.shutdown, caller.close]
            for end in random.sample(ends, 2):
                end()
            measured("shutdown at a random moment, s", monotonic() - began)
            for thread in threads:
                thread.join(5)
            assert [] == [thread.name for thread in threads if thread.is_alive()]
        assert_free(tmp_path, address)
    assert set() == set(acknowledged) - set(journal.commands) or not journal.commands


def apply_until_refused(apply: Callable, name: bytes, acknowledged: list[bytes]) -> None:
    """Apply until that ends; anything but an error of ours makes the test fail."""
    count = 0
    try:
        while True:
            count += 1
            apply(b"%s %d" % (name, count), timeout=None)
            acknowledged.append(b"%s %d" % (name, count))
    except tinyraft.TinyraftError:
        pass


def test_a_closed_caller_tells_who_waits(make_cluster: Callable[..., Processes]) -> None:
    """`close` at any moment ends every call with an error of ours, and leaves no thread."""
    cluster = make_cluster(1)
    random = Random(11)
    for _ in range(5 * runs(10)):
        with no_thread_left():
            caller = tinyraft.Caller(["127.0.0.1:1", cluster.addresses[0]])
            threads = [
                threading.Thread(target=apply_until_refused, args=(caller.apply, b"x", []))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            threading.Event().wait(random.random() * 0.05)
            caller.close()
            for thread in threads:
                thread.join(5)
            assert [] == [thread.name for thread in threads if thread.is_alive()]


def test_the_programs_own_server_outlives_the_node(tmp_path: Path) -> None:
    """A grpc.Server of the program serves on when its node was shut down; the node says so."""
    mine = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    echo = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    mine.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mine", {"Echo": echo}),))
    address = f"127.0.0.1:{mine.add_insecure_port('127.0.0.1:0')}"
    server = tinyraft.Server(config(tmp_path, address), Journal(), grpc_server=mine)
    server.start()
    mine.start()
    try:
        assert server.wait_ready(10)
        with grpc.insecure_channel(address) as channel:
            assert b"1" == RaftServiceV1Stub(channel).Apply(pb.Cmd(payload=b"x"), timeout=5).result
            server.shutdown()
            for _ in range(100):  # more than a pool has threads
                with pytest.raises(grpc.RpcError, match="not running"):
                    RaftAdminV1Stub(channel).Status(pb.StatusRequest(), timeout=5)
            assert b"hello" == channel.unary_unary("/mine/Echo")(b"hello", timeout=5)
    finally:
        assert mine.stop(1).wait(5)
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        DataDir.open(RealDisk(), tmp_path).close()
