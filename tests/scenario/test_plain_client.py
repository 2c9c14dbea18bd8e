"""A client that has gRPC, its standard retry policy and the original's messages, and nothing else.

``TINYRAFT_RUNS=50`` strikes fifty times.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, islice
from threading import Event

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue

from tests.processes import PATIENCE, Processes
from tests.scenario.conftest import runs
from tests.scenario.load import Load, Send, check_all
from tinyraft.errors import MaybeApplied, NotApplied
from tinyraft.wire import raft_pb2 as pb

APPLY = "/trevatk.raft.v1.RaftServiceV1/Apply"
TIMEOUT = 2.0  # of a call; the nodes' election timeout is 0.5 s
POLICY = {
    "methodConfig": [
        {
            "name": [{"service": "trevatk.raft.v1.RaftServiceV1"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
FOLLOWS_THE_LEADER = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "quis.RaftLeader"},
}


class Endings:
    """How the calls of all clients ended."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def client(self, channel: grpc.Channel) -> Send:
        """Make a client that says what it was told in the words of `Load`."""
        apply = channel.unary_unary(APPLY, request_serializer=BytesValue.SerializeToString)

        def send(command: bytes) -> bytes:
            try:
                answer = apply(BytesValue(value=command), timeout=TIMEOUT)
            except grpc.RpcError as error:
                trailers = dict(error.trailing_metadata() or ())
                promise = trailers.get("tinyraft-outcome", "")
                self.counts[error.code().name, promise] += 1
                if promise == "not-applied":
                    raise NotApplied(str(error)) from None
                raise MaybeApplied(str(error)) from None
            Empty.FromString(answer)  # all that the original knows of it
            return pb.ApplyResponse.FromString(answer).result

        return send

    def check(self) -> None:
        """UNAVAILABLE is what gRPC repeats: of ours it is never anything but certain."""
        promises = {promise for code, promise in self.counts if code == "UNAVAILABLE"}
        assert promises <= {"", "not-applied"}


@pytest.fixture
def endings() -> Endings:
    return Endings()


@pytest.fixture
def clients(cluster: Processes, endings: Endings) -> Iterator[list[Send]]:
    """One client at each node, whoever leads, and two that follow the leader by its health."""
    targets: list[tuple[str, object]] = [(address, POLICY) for address in cluster.addresses]
    targets += [("ipv4:" + ",".join(cluster.addresses), POLICY | FOLLOWS_THE_LEADER)] * 2
    with ExitStack() as ending:
        yield [
            endings.client(ending.enter_context(channel_to(target, config)))
            for target, config in targets
        ]


def channel_to(target: str, config: object) -> grpc.Channel:
    return grpc.insecure_channel(
        target,
        options=[
            ("grpc.service_config", json.dumps(config)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 200),
        ],
    )


@pytest.mark.timeout(60 + 10 * runs(4))
def test_what_grpc_repeats_is_never_applied_twice(
    cluster: Processes,
    clients: Sequence[Send],
    endings: Endings,
    measured: Callable[[str, float], None],
) -> None:
    """Leaders are killed, or asked to end, under load: each word once, refused ones never."""
    ends = islice(cycle([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]), runs(4))
    for number in ends:
        with Load(clients * 2) as load:
            load.wait_applied(100)
            leader = cluster.leader()
            cluster.signal(leader, number)
            cluster.wait_exit(leader)
            load.wait_applied(100)
            cluster.start(leader)
            cluster.wait_ready([leader])
            load.wait_applied(100)
        check_all(cluster, load)
    endings.check()
    for (code, promise), count in endings.counts.items():
        measured(f"plain calls that ended with {code}, {promise or 'no promise'}", count)


def test_unavailable_with_our_promise_is_never_applied(
    cluster: Processes, clients: Sequence[Send], endings: Endings
) -> None:
    """Without a majority commands are refused for certain, and are not there when it is back."""
    with Load(clients * 2) as load:
        load.wait_applied(50)
        follower, *_, leader = sorted(range(3), key=lambda node: node == cluster.leader())
        cluster.kill(leader)
        cluster.kill(follower)
        refused = ("UNAVAILABLE", "not-applied")
        cluster.wait(lambda: endings.counts[refused] > 5, "refusals of the one that is left")
        cluster.start(leader)
        cluster.start(follower)
        load.wait_applied(50)
        cluster.wait_ready()
    check_all(cluster, load)
    endings.check()


@pytest.mark.parametrize(
    ("greets", "attempts"), [(False, 5), (True, 1)], ids=["refused", "taken, then refused"]
)
def test_the_policy_repeats_what_was_not_greeted(greets: bool, attempts: int) -> None:
    """What the tests above rely on: gRPC repeats a refusal, but none behind initial metadata."""
    seen = []
    may_end = Event()

    def handler(_request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(1)
        if greets:
            context.send_initial_metadata(())
            may_end.wait(TIMEOUT)  # till it has arrived: else both could become one message
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        method = grpc.unary_unary_rpc_method_handler(handler)
        service = "trevatk.raft.v1.RaftServiceV1"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Apply": method}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with channel_to(f"127.0.0.1:{port}", POLICY) as channel:
            # Called as a stream: Python shows a unary call's metadata only together with its end.
            call = channel.unary_stream(APPLY)(b"x", timeout=PATIENCE)
            if greets:
                call.initial_metadata()
            may_end.set()
            with pytest.raises(grpc.RpcError):
                list(call)
            assert grpc.StatusCode.UNAVAILABLE is call.code()
        server.stop(None).wait()
    assert attempts == len(seen)
