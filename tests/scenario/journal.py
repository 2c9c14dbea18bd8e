"""The node of the scenarios: appends commands, answers their places, and shows all when asked."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator

import tinyraft

SLICE = 50_000  # what an answer has room for


class Journal:
    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.commands.append(command)
        return b"%d" % len(self.commands)

    def snapshot(self) -> Iterator[bytes]:
        commands = list(self.commands)
        return (command + b"\n" for command in commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.commands = b"".join(chunks).splitlines()

    def query(self, request: bytes) -> bytes:
        first = int(request or b"0")
        return b"\n".join(self.commands[first : first + SLICE])


def die_with_the_test() -> None:
    os.read(0, 1)  # not sys.stdin: its lock, held here, would break the interpreter's own end
    os._exit(99)


def main() -> None:
    # Blocked in all threads, and waited for: a signal that the system hands to another thread does
    # not wake a main thread that waits for an event.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    threading.Thread(target=die_with_the_test, daemon=True).start()
    with tinyraft.Server(tinyraft.Config.from_env(), Journal()):
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
