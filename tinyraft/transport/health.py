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
from dataclasses import dataclass
from threading import Event
from typing import Protocol

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from tinyraft.errors import NotStarted, TinyraftError
from tinyraft.transport.hosting import Admission, Context, in_pool, refuse
from tinyraft.transport.pools import WATCHES, Pools

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
ALIVE, READY = "", "trevatk.raft.v1.RaftServiceV1"
LEADER = ("tinyraft.Leader", "quis.RaftLeader")


@dataclass(slots=True, frozen=True)
class Health:
    """What a probe asks.

    Attributes:
        is_alive: It works: has not failed, is not removed, is not shutting down.
        is_ready: It is alive, and has seen what a leader had committed.
        leads: It is alive, and leads.
        is_leaving: It is shutting down: nothing more will change.
    """

    is_alive: bool = False
    is_ready: bool = False
    leads: bool = False
    is_leaving: bool = True

    def of(self, service: str) -> int:
        """Give the status of *service*."""
        served = {ALIVE: self.is_alive, READY: self.is_ready, **dict.fromkeys(LEADER, self.leads)}
        if service not in served:
            return SERVICE_UNKNOWN
        return SERVING if served[service] else NOT_SERVING


GONE = Health()


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
            status = patient().health().of(service)
        except NotStarted:
            status = GONE.of(service)
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
                if health.of(service) != told:
                    told = health.of(service)
                    yield told
                if health.is_leaving:
                    return
                changed.wait()
    except NotStarted:
        yield GONE.of(service)
    finally:
        watches.leave(place)


def decode(request: bytes) -> str:
    """Read a HealthCheckRequest: its one field is the string 1, as in a StringValue."""
    return StringValue.FromString(request).value


def encode(status: int) -> bytes:
    """Write a HealthCheckResponse: its one field is the enum 1, as in an Int32Value."""
    return Int32Value(value=status).SerializeToString()
