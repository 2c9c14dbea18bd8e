"""The standard health service, `grpc.health.v1.Health`, for load balancers and gRPC's own clients.

Law: tells, and decides nothing. A watcher is told when something changed and looks then; nobody
polls. Hosted by generic handlers, without generated code: a program that hosts grpcio's own health
service beside the node is answered by that one, which gRPC prefers.

    ""                               the node works
    trevatk.raft.v1.RaftServiceV1    it is ready: it has seen what a leader had committed
    tinyraft.Leader, quis.RaftLeader it leads (the second is what the Go tools ask for)

A node that has failed, is removed or shuts down serves none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from threading import Event
from typing import Protocol

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from tinyraft.core.status import Health
from tinyraft.errors import NotStarted, TinyraftError
from tinyraft.transport.hosting import Admission, Context, in_pool, refuse
from tinyraft.transport.pools import WATCHES, Pools

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
ALIVE, READY = "", "trevatk.raft.v1.RaftServiceV1"
LEADER = ("tinyraft.Leader", "quis.RaftLeader")


GONE = Health()


def status_of(health: Health, service: str) -> int:
    """Give the status of *service* where a node's health is that."""
    served = {ALIVE: health.is_alive, READY: health.is_ready}
    served |= dict.fromkeys(LEADER, health.leads)
    if service not in served:
        return SERVICE_UNKNOWN
    return SERVING if served[service] else NOT_SERVING


class Patient(Protocol):
    """Whose health it is."""

    def health(self) -> Health:
        """Tell how it is."""

    def watching(self, ring: Callable[[], object]) -> AbstractContextManager[None]:
        """Call *ring* whenever that may have changed; it only sets a flag."""


def health_handlers(patient: Callable[[], Patient], pools: Pools) -> grpc.GenericRpcHandler:
    """Make the handlers that answer for *patient*, or that it is gone."""
    watches = Admission(WATCHES, "watches of the health service")

    def check(service: str, context: Context) -> int:
        try:
            status = status_of(patient().health(), service)
        except NotStarted:
            status = status_of(GONE, service)
        if status == SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{SERVICE} does not know this service")
        return status

    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(
            in_pool(check, pools.admin), request_deserializer=decode, response_serializer=encode
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            in_pool(lambda s, c: watch(patient, watches, s, c), pools.health),
            request_deserializer=decode,
            response_serializer=encode,
        ),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def watch(
    patient: Callable[[], Patient], watches: Admission, service: str, context: Context
) -> Iterator[int]:
    """Tell the status of *service* now, and at each change till the caller or the node leaves."""
    changed = Event()
    context.add_callback(changed.set)
    try:
        place = watches.enter()
    except TinyraftError as error:
        refuse(context, error)
    try:
        one = patient()
        with one.watching(changed.set):
            told = 0
            while context.is_active():
                changed.clear()
                health = one.health()
                if status_of(health, service) != told:
                    told = status_of(health, service)
                    yield told
                if health.is_leaving:
                    return
                changed.wait()
    except NotStarted:
        yield status_of(GONE, service)
    finally:
        watches.leave(place)


def decode(request: bytes) -> str:
    """Read a HealthCheckRequest: its one field is the string 1, as in a StringValue."""
    return StringValue.FromString(request).value


def encode(status: int) -> bytes:
    """Write a HealthCheckResponse: its one field is the enum 1, as in an Int32Value."""
    return Int32Value(value=status).SerializeToString()
