"""A node that forks; its child tries everything, and lives on."""

from __future__ import annotations

import os
import threading

from journal import Journal, die_with_the_test  # a script: its own directory is on the path

import tinyraft


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # the test reads it


def child(server: tinyraft.Server, caller: tinyraft.Caller) -> None:
    calls = {
        "server.start": server.start,
        "server.apply": lambda: server.apply(b"x"),
        "server.read": lambda: server.read(str, consistency="stale"),
        "server.status": server.status,
        "server.is_leader": lambda: server.is_leader,
        "server.wait_ready": server.wait_ready,
        "server.shutdown": server.shutdown,
        "caller.apply": lambda: caller.apply(b"x"),
        "caller.query": lambda: caller.query(b"x", consistency="stale"),
    }
    for name, call in calls.items():
        try:
            say(f"child: {name} answered {call()!r}")
        except Exception as error:  # noqa: BLE001  # the test judges it
            say(f"child: {name} {type(error).__name__}")
    say(f"child is done, {os.getpid()} ")
    threading.Event().wait()


def main() -> None:
    config = tinyraft.Config.from_env()
    with tinyraft.Server(config, Journal()) as server:
        server.wait_ready()
        caller = tinyraft.Caller(server.status().address)
        caller.apply(b"before the fork")
        if os.fork() == 0:
            child(server, caller)
        threading.Thread(target=die_with_the_test, daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main()
