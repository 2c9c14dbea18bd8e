"""The options: both ends agree, and a port that can't be had says why."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import grpc
import pytest

from tinyraft.errors import StartFailed
from tinyraft.transport import options
from tinyraft.transport.options import MIB, check_bind
from tinyraft.transport.pool import DaemonPool

SERVER = options.server_options()
CHANNELS = {
    "peer": options.peer_options(3.0),
    "fast peer": options.peer_options(0.05),
    "slow peer": options.peer_options(600.0),
    "caller": options.caller_options(),
}


@pytest.mark.parametrize(
    ("longest", "limit"), [(1, 8 * MIB), (7 * MIB, 8 * MIB), (7 * MIB + 1, 8 * MIB + 1)]
)
def test_a_message_holds_the_longest_command(longest: int, limit: int) -> None:
    """The limit leaves 1 MiB beside one command, and both ends and directions have the same."""
    assert options.message_limit(longest) == limit
    for made in (
        options.server_options(max_command_bytes=longest),
        options.peer_options(3.0, max_command_bytes=longest),
        options.caller_options(max_command_bytes=longest),
    ):
        assert dict(made)["grpc.max_receive_message_length"] == limit
        assert dict(made)["grpc.max_send_message_length"] == limit


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)
def test_pings_are_never_too_many(channel: options.Options) -> None:
    """A server allows the pings that channels send, and every end finds a dead one."""
    asked, allowed = dict(channel), dict(SERVER)
    interval = allowed["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert asked["grpc.keepalive_time_ms"] >= interval
    assert allowed["grpc.http2.max_ping_strikes"] == 0
    for end in (asked, allowed):
        assert 0 < end["grpc.keepalive_timeout_ms"] <= end["grpc.keepalive_time_ms"]


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)
def test_a_channel_repeats_and_shares_nothing(channel: options.Options) -> None:
    """Every attempt is ours, over a connection and a backoff of its own, through no proxy."""
    made = dict(channel)
    assert len(made) == len(channel)
    assert made["grpc.enable_retries"] == 0
    assert made["grpc.use_local_subchannel_pool"] == 1
    assert made["grpc.enable_http_proxy"] == 0


@pytest.mark.parametrize(
    ("timeout", "backoff"), [(0.05, 100), (0.6, 100), (1.5, 250), (3.0, 500), (600.0, 500)]
)
def test_a_peer_is_dialled_again_before_its_timer_runs_out(timeout: float, backoff: int) -> None:
    """The backoff follows the election timeout, between 100 and 500 ms."""
    made = dict(options.peer_options(timeout))
    assert made["grpc.initial_reconnect_backoff_ms"] == 100
    assert made["grpc.min_reconnect_backoff_ms"] == backoff
    assert made["grpc.max_reconnect_backoff_ms"] == backoff


def test_a_message_above_grpc_s_default_passes() -> None:
    """gRPC takes these options: 5 MiB cross a connection, and its port is nobody else's."""
    pool = DaemonPool(2, name="options")
    server = grpc.server(pool, options=SERVER)

    def repeat(request: bytes, context: grpc.ServicerContext) -> bytes:
        return request

    echo: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(repeat)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"Echo": echo}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNELS["peer"]) as channel:
            sent = bytes(5 * MIB)
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/t/Echo")
            assert sent == method(sent, timeout=20)
        with pytest.raises(StartFailed, match="in use"):
            check_bind(f"127.0.0.1:{port}")
        rival = grpc.server(pool, options=SERVER)
        with pytest.raises(RuntimeError):
            rival.add_insecure_port(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait(10)
        pool.shutdown()


# --- the port ---------------------------------------------------------------------------------


def has_ipv6() -> bool:
    """Tell whether this machine has the IPv6 loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=NEEDS_IPV6)])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Let another program listen, on each family in turn."""
    host = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as other:
        yield (f"[{host}]" if ":" in host else host), other.getsockname()[1]


def test_a_port_in_use_is_told(taken: tuple[str, int]) -> None:
    """The error names the port and host, what to do, and the system's number for it."""
    host, port = taken
    with pytest.raises(StartFailed, match=f"port {port} on .* is in use by another") as refused:
        check_bind(f"{host}:{port}")
    assert host.strip("[]") in str(refused.value)
    assert "NODE_LISTEN_ADDR" in str(refused.value)
    assert refused.value.errno == errno.EADDRINUSE
    assert isinstance(refused.value, OSError)


@pytest.mark.parametrize("wildcard", ["", "0.0.0.0", "[::]"])
def test_all_interfaces_are_in_use_when_one_is(taken: tuple[str, int], wildcard: str) -> None:
    """gRPC binds both families for a wildcard, so a program on either is in the way."""
    with pytest.raises(StartFailed, match="on all interfaces is in use"):
        check_bind(f"{wildcard}:{taken[1]}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "0.0.0.0"])
def test_port_0_passes(host: str) -> None:
    """The system chooses a free port."""
    check_bind(f"{host}:0")


@NEEDS_IPV6
@pytest.mark.parametrize("host", ["[::1]", "[::]"])
def test_port_0_passes_with_ipv6(host: str) -> None:
    """So it does for the other family."""
    check_bind(f"{host}:0")


def test_a_free_port_stays_free(taken: tuple[str, int]) -> None:
    """The check lets go of what it bound, so gRPC and a second check can have it."""
    host, _ = taken
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host.strip("[]"), 0), family=family) as other:
        port = other.getsockname()[1]
    check_bind(f"{host}:{port}")
    check_bind(f"{host}:{port}")


def test_connections_of_the_last_run_are_not_in_the_way() -> None:
    """A server that was stopped a moment ago left its port in TIME_WAIT, and may have it again."""
    with socket.create_server(("127.0.0.1", 0)) as last_run:
        port = last_run.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = last_run.accept()
            accepted.close()  # who closes first keeps the port waiting
            assert client.recv(1) == b""
    check_bind(f"127.0.0.1:{port}")


def test_an_address_of_another_machine_is_told() -> None:
    """An advertised address in the wrong variable is a usual mistake, and the text says so."""
    with pytest.raises(StartFailed, match=r"no address 192\.0\.2\.1.*NODE_ADVERTISE") as refused:
        check_bind("192.0.2.1:50051")
    assert refused.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("50051", "must have the form host:port"),
        ("127.0.0.1:99999", "must be a number from 0 to 65535"),
        ("no-such-host.invalid:1", r"can't listen on 'no-such-host\.invalid:1': "),
    ],
)
def test_no_address_is_told(address: str, text: str) -> None:
    """What is no address of any machine is a failed start, whoever let it through."""
    with pytest.raises(StartFailed, match=text):
        check_bind(address)


def test_other_reasons_are_the_system_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forbidden port says what is allowed; what we have no words for, the system has."""
    for number, text in ((errno.EACCES, "above 1023"), (errno.ENOBUFS, os.strerror(errno.ENOBUFS))):
        problem = OSError(number, os.strerror(number))
        monkeypatch.setattr(options, "try_bind", lambda *_, problem=problem: problem)
        with pytest.raises(StartFailed, match=text):
            check_bind("127.0.0.1:80")


def test_one_address_of_a_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` stands for two addresses, and a machine without IPv6 has only one of them."""
    v4, v6 = (socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET6, ("::1", 1))
    missing, used = OSError(errno.EADDRNOTAVAIL, "no"), OSError(errno.EADDRINUSE, "used")
    monkeypatch.setattr(options, "resolve", lambda host, port: iter([v6, v4]))
    found = {v4: None, v6: missing}
    monkeypatch.setattr(options, "try_bind", lambda *place: found[place])
    check_bind("localhost:1")
    found[v6] = used
    with pytest.raises(StartFailed, match="in use"):
        check_bind("localhost:1")


def test_a_port_is_never_shared_silently() -> None:
    """Two servers on one port would each get some of the calls: the second one is refused."""
    with DaemonPool(1, name="shared-port") as pool:
        first = grpc.server(pool, options=SERVER)
        second = grpc.server(pool, options=SERVER)
        port = first.add_insecure_port("127.0.0.1:0")
        with pytest.raises(RuntimeError, match="bind"):
            second.add_insecure_port(f"127.0.0.1:{port}")
        first.stop(0).wait(5.0)
