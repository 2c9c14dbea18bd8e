"""The standard health service, as clients of other languages see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Thread
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

import tinyraft
from tests.cluster import DEADLINE, LocalCluster, gate_journal, node_of, until
from tinyraft.errors import StorageFailed
from tinyraft.transport import health
from tinyraft.transport.health import LEADER, READY, SERVING
from tinyraft.wire import raft_pb2 as pb

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
ALL = ["", READY, *LEADER]
SERVES, NOT, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"  # a HealthCheckResponse


def asked(service: str) -> bytes:
    """Write a HealthCheckRequest."""
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


def check(channel: grpc.Channel, service: str) -> bytes:
    """Call Check."""
    answer: bytes = channel.unary_unary(CHECK)(asked(service), timeout=DEADLINE)
    return answer


def serves(channel: grpc.Channel) -> list[bool]:
    """Ask for every service that there is."""
    return [check(channel, service) == SERVES for service in ALL]


class Watch:
    """A Watch, and what came of it."""

    def __init__(self, channel: grpc.Channel, service: str) -> None:
        self.call = channel.unary_stream(WATCH)(asked(service))
        self.told: list[bytes] = []
        self.code: Any = None
        self.thread = Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        """Take what comes."""
        try:
            self.told.extend(self.call)  # one by one
            self.code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            self.code = error.code()  # type: ignore[attr-defined]

    def close(self) -> None:
        """End it."""
        self.call.cancel()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


def test_the_bytes_are_those_of_health_proto() -> None:
    """A string 1 comes in, an enum 1 goes out; an empty message is the empty name."""
    assert [READY, ""] == [health.decode(asked(READY)), health.decode(b"")]
    assert [SERVES, NOT, UNKNOWN] == [health.encode(status) for status in (1, 2, 3)]
    assert READY == StringValue.FromString(asked(READY)).value
    assert SERVING == Int32Value.FromString(SERVES).value


def test_a_check_says_who_is_alive_ready_and_leads(cluster: LocalCluster) -> None:
    """Only the leader serves the two names for it; an unknown name is NOT_FOUND."""
    cluster.start(3)
    leader = cluster.leader()
    for name in cluster.servers:
        until(lambda n=name: cluster[n].status().is_ready)
        leads = name == leader
        assert [True, True, leads, leads] == serves(cluster.channel(name))
    with pytest.raises(grpc.RpcError) as caught:
        check(cluster.channel(leader), "someone.Else")
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()  # type: ignore[attr-defined]


def test_a_watch_follows_leadership(cluster: LocalCluster) -> None:
    """It tells the present state at once, then only changes."""
    cluster.start(3)
    old = cluster.leader()
    new = cluster.followers()[0]
    with (
        closing(Watch(cluster.channel(old), LEADER[0])) as first,
        closing(Watch(cluster.channel(new), LEADER[1])) as second,
        closing(Watch(cluster.channel(new), "someone.Else")) as strange,
    ):
        until(lambda: (first.told, second.told) == ([SERVES], [NOT]))
        cluster[old].transfer_leadership(new)
        until(lambda: (first.told, second.told) == ([SERVES, NOT], [NOT, SERVES]))
        until(lambda: strange.told == [UNKNOWN])


def test_a_client_that_checks_health_finds_the_leader_and_follows_it(cluster: LocalCluster) -> None:
    """gRPC's own client, told the addresses and a service's name, calls only the leader."""
    cluster.start(3)
    target = "ipv4:" + ",".join(cluster.addresses)
    service_config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": LEADER[1]},
    }
    options = [("grpc.service_config", json.dumps(service_config))]
    with grpc.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary(
            "/trevatk.raft.v1.RaftAdminV1/Status",
            request_serializer=pb.StatusRequest.SerializeToString,
            response_deserializer=pb.StatusResponse.FromString,
        )

        def reached() -> set[str]:
            return {
                call(pb.StatusRequest(), wait_for_ready=True, timeout=DEADLINE).node_id
                for _ in range(6)
            }

        old = cluster.leader()
        until(lambda: reached() == {old}, what="only the leader is called")
        new = cluster[old].transfer_leadership()
        until(lambda: reached() == {new}, what="the new leader is called")
        cluster[new].shutdown()
        last = cluster.leader(without=new)
        until(lambda: reached() == {last}, what="the last leader is called")


def break_disk(server: tinyraft.Server) -> None:
    """Let a sync fail."""
    gate_journal(server).failure = StorageFailed("gone")
    with pytest.raises(tinyraft.TinyraftError):
        server.apply(b"x", timeout=1.0)  # nobody else can take it


def break_module(server: tinyraft.Server) -> None:
    """Let the module have trouble of its own."""

    def no_room() -> bytes:
        raise OSError(28, "no room")

    server.read(lambda words: words.misbehave.update({b"full": no_room}), consistency="stale")  # type: ignore[attr-defined]
    with pytest.raises(tinyraft.ModuleFailed):
        server.apply(b"full", timeout=DEADLINE)


@pytest.mark.parametrize("breaks", [break_disk, break_module])
def test_a_node_that_has_failed_serves_nothing(
    cluster: LocalCluster, breaks: Callable[[tinyraft.Server], None]
) -> None:
    """Who watches learns of it, and the stream stays: the node has not left."""
    cluster.start(1)
    channel = cluster.channel("a")
    with closing(Watch(channel, "")) as watch:
        until(lambda: watch.told == [SERVES])
        breaks(cluster["a"])
        until(lambda: watch.told == [SERVES, NOT])
        assert [False] * 4 == serves(channel)
        assert watch.code is None


def test_a_removed_node_serves_nothing(cluster: LocalCluster) -> None:
    """It runs, and belongs to nobody."""
    cluster.start(3)
    name = cluster.followers()[0]
    channel = cluster.channel(name)
    with closing(Watch(channel, READY)) as watch:
        until(lambda: watch.told == [SERVES])
        cluster[cluster.leader()].remove(name, timeout=DEADLINE)
        until(lambda: serves(channel) == [False] * 4)
        assert [SERVES, NOT] == watch.told


@pytest.fixture
def own_server() -> Iterator[grpc.Server]:
    """Lend a gRPC server of the program."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        yield server
        server.stop(0).wait(DEADLINE)


def test_a_node_that_shuts_down_says_so_first(
    cluster: LocalCluster, own_server: grpc.Server
) -> None:
    """Before it is gone every watcher hears it; on a server that goes on it stays NOT_SERVING."""
    port = own_server.add_insecure_port("127.0.0.1:0")
    server = cluster.make(
        "a", grpc_server=own_server, bootstrap=True, listen_address=f"127.0.0.1:{port}"
    )
    own_server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert [False] * 4 == serves(channel), "not started yet"
        server.start()
        cluster.wait_voters(["a"])
        assert [True] * 4 == serves(channel)
        with closing(Watch(channel, "")) as watch:
            until(lambda: watch.told == [SERVES])
            server.shutdown()
            until(lambda: watch.code is not None)
            assert ([SERVES, NOT], grpc.StatusCode.OK) == (watch.told, watch.code)
        assert [False] * 4 == serves(channel)
        with closing(Watch(channel, "")) as late:
            until(lambda: late.code is not None)
            assert [NOT] == late.told


def test_a_watcher_that_leaves_gives_its_thread_back(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch holds a thread, so they are counted; above the limit a call is told at once."""
    monkeypatch.setattr(health, "WATCHES", 3)
    cluster.start(1)
    channel = cluster.channel("a")
    watches = [Watch(channel, "") for _ in range(3)]
    until(lambda: all(watch.told == [SERVES] for watch in watches))
    with closing(Watch(channel, "")) as refused:
        until(lambda: refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED)
    for watch in watches:
        watch.close()
    until(lambda: not node_of(cluster["a"]).observers._watchers, what="nobody watches")
    with closing(Watch(channel, "")) as again:
        until(lambda: again.told == [SERVES])
    assert len(cluster["a"]._pools.health._workers) <= 4
