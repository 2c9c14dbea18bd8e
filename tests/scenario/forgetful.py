"""A program that starts a node or a caller, has threads that wait for ever, and never shuts down.

``forgetful.py SITUATION ENDING``; each waiting thread prints the error that it got in the end.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

import tinyraft
from tests.scenario.journal import Journal

THREADS = 3


def wait_for_ever(apply) -> None:
    try:
        while True:
            apply(b"x", timeout=None)
    except tinyraft.TinyraftError as error:
        print(type(error).__name__, flush=True)  # noqa: T201  # the test reads it


def node(grpc_server: grpc.Server | None = None, **overrides) -> list:
    server = tinyraft.Server(
        tinyraft.Config.from_env(**overrides), Journal(), grpc_server=grpc_server
    )
    server.start()
    if grpc_server is not None:
        grpc_server.start()
    if not overrides.get("join"):
        server.wait_ready(0.5)
    callers = [tinyraft.Caller(server.status().address or overrides["listen_address"])] * 2
    return [server.apply, *(caller.apply for caller in callers)]


def hosted() -> list:
    mine = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    port = mine.add_insecure_port("127.0.0.1:0")
    return node(mine, listen_address=f"127.0.0.1:{port}", bootstrap=True)


def silent_address() -> str:
    """Somebody listens there, and never says anything."""
    global silent
    silent = socket.create_server(("127.0.0.1", 0))
    return f"127.0.0.1:{silent.getsockname()[1]}"


def asking(caller: tinyraft.Caller):
    return lambda request, timeout: caller.query(request, timeout=timeout or 1e6)


SITUATIONS = {
    "alone": lambda: node(listen_address="127.0.0.1:0", bootstrap=True),
    "hosted": hosted,
    "no quorum": lambda: node(listen_address="127.0.0.1:0"),
    "joining": lambda: node(listen_address="127.0.0.1:0", join=(silent_address(),)),
    "caller": lambda: [tinyraft.Caller(silent_address()).apply] * THREADS,
    "caller that asks": lambda: [asking(tinyraft.Caller(silent_address()))] * THREADS,
    "caller of nobody": lambda: [tinyraft.Caller("127.0.0.1:1").apply] * THREADS,
}


def main(situation: str, ending: str) -> None:
    for apply in SITUATIONS[situation]():
        threading.Thread(target=wait_for_ever, args=(apply,)).start()
    threading.Event().wait(0.2)  # let them get to where they wait
    print("started", flush=True)  # noqa: T201  # the test reads it
    os.read(0, 1)
    if ending == "exception":
        raise ValueError("forgotten")
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "Ctrl-C":
        while True:  # a Ctrl-C that the system hands to another thread does not end a wait
            threading.Event().wait(0.2)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
