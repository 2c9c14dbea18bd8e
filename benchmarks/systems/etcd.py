"""etcd where it is installed: three processes, and callers in Python over its gRPC.

Promises: a put is answered when a majority has synced it and the leader has applied it, like ours.

The two fields of a put are encoded by hand: no client library is needed for that.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import grpc

from benchmarks.load import Row, load
from benchmarks.process import Child, answer, free_ports

NAME = "etcd"
PATIENCE = 20.0
CALL_SECONDS = 10.0


def is_installed() -> bool:
    """Whether it can be measured."""
    return shutil.which("etcd") is not None


def varint(number: int) -> bytes:
    """Encode a length."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def put_request(key: bytes, value: bytes) -> bytes:
    """Encode an ``etcdserverpb.PutRequest``: key is field 1, value field 2."""
    return b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(value)) + value


class Cluster:
    """Three members, and a process of callers of the one that leads."""

    def __init__(self, client: Child) -> None:
        """Call from *client*."""
        self._client = client

    def remote(self, **how: object) -> Row:
        """Load from another process."""
        row: Row = self._client.ask("load", **how)
        return row


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    """Run three members in *directory*."""
    directory.mkdir()
    with ExitStack() as undo:
        ports = free_ports(6)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        members = ",".join(f"e{n}={urls[3 + n]}" for n in range(3))
        for number in range(3):
            client, peer = urls[number], urls[3 + number]
            arguments = {
                "name": f"e{number}",
                "data-dir": str(directory / f"e{number}"),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": members,
                "initial-cluster-state": "new",
                "log-level": "error",
            }
            program = subprocess.Popen(
                ["etcd", *(f"--{name}={value}" for name, value in arguments.items())],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            undo.callback(program.wait)
            undo.callback(program.kill)
        targets = [f"127.0.0.1:{port}" for port in ports[:3]]
        yield Cluster(undo.enter_context(Child(__name__, *targets)))


def leader_of(targets: list[str]) -> grpc.Channel:
    """Wait for a leader, and connect to it."""
    end = monotonic() + PATIENCE
    while monotonic() < end:
        for target in targets:
            channel = grpc.insecure_channel(target)
            status = channel.unary_unary("/etcdserverpb.Maintenance/Status")
            try:
                fields = decode(status(b"", timeout=1.0))
            except grpc.RpcError:
                fields = {}
            header = decode(fields.get(1, b""))
            if header and fields.get(4) == header.get(2):  # the leader's id, and its own
                return channel
            channel.close()
        sleep(0.1)
    raise RuntimeError(f"etcd has no leader within {PATIENCE:g} s")


def decode(data: object) -> dict[int, object]:
    """Read the numbers and the byte fields of a message."""
    assert isinstance(data, bytes), "a message"
    fields: dict[int, object] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        value: object = number()
        if tag & 7 == 2:
            size = int(str(value))
            value = data[at : at + size]
            at += size
        fields[tag >> 3] = value
    return fields


def be_client(targets: list[str]) -> None:
    """The callers' process: one channel, as a Python client library has."""
    channel = leader_of(targets)
    put = channel.unary_unary("/etcdserverpb.KV/Put")
    request = put_request(b"key", b"x" * 128)
    print("ready", flush=True)
    answer({"load": partial(load, lambda: put(request, timeout=CALL_SECONDS))})
    channel.close()


if __name__ == "__main__":
    be_client(sys.argv[1:])
