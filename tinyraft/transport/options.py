"""gRPC's settings for servers and channels, and the port's check before gRPC binds it.

Law: what both ends of a connection must agree on stands here once. All retries are ours (gRPC's own
are off), so nothing is repeated behind our back. Units are gRPC's: milliseconds and bytes.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import TypeAlias

from tinyraft.addresses import is_wildcard, split_address
from tinyraft.errors import ConfigError, StartFailed

Options: TypeAlias = list[tuple[str, int]]

MIB = 1024 * 1024

# Half-open connections are found by pings: a peer or caller pings a silent server, a server its
# silent callers, whose streams hold threads. A server must allow what the others send, else it ends
# their connections with "too many pings".
PING_MS = 10_000
PING_ALLOWED_MS = 5_000
PING_ANSWER_MS = 5_000
FASTEST_PING_ANSWER_MS = 1_000

# gRPC-core raises any backoff below 100 ms to 100 ms. Its default grows to 120 s.
FIRST_RECONNECT_MS = 100
LAST_RECONNECT_MS = 500


def message_limit(max_command_bytes: int) -> int:
    """Bytes of the longest message: one command always fits, and a batch far above gRPC's 4 MiB."""
    return max(8 * MIB, max_command_bytes + MIB)


def server_options(*, max_command_bytes: int = MIB) -> Options:
    """Settings of a `grpc.server`."""
    return [
        ("grpc.so_reuseport", 0),  # 1: two servers share one port silently
        *limits(max_command_bytes),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_ALLOWED_MS),
        ("grpc.http2.max_ping_strikes", 0),  # never end a connection over its pings
        *pings(PING_ANSWER_MS),
    ]


def peer_options(timeout_seconds: float, *, max_command_bytes: int = MIB) -> Options:
    """Settings of a channel to another member, for an election timeout of *timeout_seconds*.

    A member that comes back is tried again within a sixth of that, so that it is heard before its
    own timer runs out.
    """
    timeout_ms = round(timeout_seconds * 1000)
    answer_ms = min(max(timeout_ms, FASTEST_PING_ANSWER_MS), PING_ANSWER_MS)
    return channel_options(
        reconnect_ms=min(max(timeout_ms // 6, FIRST_RECONNECT_MS), LAST_RECONNECT_MS),
        answer_ms=answer_ms,
        max_command_bytes=max_command_bytes,
    )


def caller_options(*, max_command_bytes: int = MIB) -> Options:
    """Settings of a `Caller`'s channels."""
    return channel_options(
        reconnect_ms=LAST_RECONNECT_MS,
        answer_ms=PING_ANSWER_MS,
        max_command_bytes=max_command_bytes,
    )


def channel_options(*, reconnect_ms: int, answer_ms: int, max_command_bytes: int) -> Options:
    """Settings of any channel."""
    return [
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", reconnect_ms),  # also how long one attempt may take
        ("grpc.max_reconnect_backoff_ms", reconnect_ms),
        ("grpc.enable_retries", 0),  # every attempt is ours
        ("grpc.use_local_subchannel_pool", 1),  # its own connection, and its own backoff
        ("grpc.enable_http_proxy", 0),
        *limits(max_command_bytes),
        *pings(answer_ms),
    ]


def limits(max_command_bytes: int) -> Options:
    """Both directions are limited alike."""
    limit = message_limit(max_command_bytes)
    return [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
    ]


def pings(answer_ms: int) -> Options:
    """Ping a silent connection that has calls, and end it without an answer (TCP's too)."""
    return [
        ("grpc.keepalive_time_ms", PING_MS),
        ("grpc.keepalive_timeout_ms", answer_ms),
        ("grpc.http2.max_pings_without_data", 0),  # an idle stream has no data, and matters
    ]


# --- the port ---------------------------------------------------------------------------------


def check_bind(address: str) -> None:
    """Bind *address* and let it go, because gRPC does not say why it can't.

    Raises:
        StartFailed: With the reason, its `errno`, and what to do.
    """
    try:
        host, port = split_address(address)
        places = list(resolve(host, port))
    except (ConfigError, OSError) as error:
        raise failed(address, reason=f"{error}; set NODE_LISTEN_ADDR", cause=error) from error
    problems = [problem for place in places if (problem := try_bind(*place))]
    taken = [problem for problem in problems if problem.errno == errno.EADDRINUSE]
    # A name may stand for addresses that this machine lacks; gRPC is content with one of them.
    if taken or len(problems) == len(places):
        cause = (taken or problems)[0]
        raise failed(address, reason=explain(cause, host=host, port=port), cause=cause) from cause


def resolve(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Find what gRPC will bind: for a wildcard both families, whichever was written."""
    name = None if is_wildcard(host) else host
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, place in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            yield family, place  # type: ignore[misc]  # typeshed has it looser


def try_bind(family: socket.AddressFamily, place: tuple[str, int]) -> OSError | None:
    """Bind *place* as gRPC does, and say what was in the way."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as plain:
            if os.name == "posix":  # else connections of the last run would hold the port
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            plain.bind(place)
    except OSError as error:
        return error
    return None


def explain(error: OSError, *, host: str, port: int) -> str:
    """Say in an operator's words why a bind failed, and what to do."""
    where = host if not is_wildcard(host) else "all interfaces"
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {where} is in use by another program (or another run of this one); "
            "stop that, or choose another port in NODE_LISTEN_ADDR"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"this machine has no address {host}; NODE_LISTEN_ADDR must be one of its own, or "
            f":{port} for all of them (NODE_ADVERTISE_ADDR is what others dial)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen on port {port}; choose one above 1023 in NODE_LISTEN_ADDR"
    return f"{error.strerror or error}; see NODE_LISTEN_ADDR"


def failed(address: str, *, reason: str, cause: BaseException) -> StartFailed:
    """Make the error, which knows the system's number too."""
    error = StartFailed(f"can't listen on {address!r}: {reason}")
    error.errno = getattr(cause, "errno", None)
    return error
