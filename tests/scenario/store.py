"""The node of the size scenarios: state of any size, made by a few commands."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import tinyraft

MIB = 1 << 20


class Store:
    """Blocks of a mebibyte, and a count of all other commands."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.count = 0

    def apply(self, command: bytes) -> bytes:
        if command.startswith(b"grow "):
            for _ in range(int(command[5:])):
                self.blocks.append(blake2b(b"%d" % len(self.blocks)).digest() * (MIB // 64))
        else:
            self.count += 1
        return b"%d" % self.count

    def snapshot(self) -> Iterator[bytes]:
        blocks, count = list(self.blocks), self.count
        yield b"%20d" % count
        yield from blocks

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.blocks, rest = [], b""
        for chunk in chunks:
            rest += chunk
            if not self.blocks and rest is chunk:
                self.count, rest = int(rest[:20]), rest[20:]
            while len(rest) >= MIB:
                self.blocks.append(rest[:MIB])
                rest = rest[MIB:]

    def query(self, _request: bytes) -> bytes:
        digest = blake2b(digest_size=8)
        for block in self.blocks:
            digest.update(block)
        return b"%d %d %s" % (self.count, len(self.blocks), digest.hexdigest().encode())


def die_with_the_test() -> None:
    os.read(0, 1)
    os._exit(99)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    threading.Thread(target=die_with_the_test, daemon=True).start()
    with tinyraft.Server(tinyraft.Config.from_env(), Store()) as server:
        while signal.sigwait({signal.SIGTERM, signal.SIGUSR1}) == signal.SIGUSR1:
            server.snapshot()


if __name__ == "__main__":
    main()
