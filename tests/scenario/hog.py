"""The node of the starvation scenarios: its module keeps the interpreter for as long as it is told.

As C code does that never gives it back: no other Python thread of the process runs meanwhile. It
is made of built-in functions alone; only the evaluation of Python code offers the interpreter.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from time import monotonic

import tinyraft


class Hog:
    def __init__(self) -> None:
        self.count = 0

    def apply(self, command: bytes) -> bytes:
        self.count += 1
        end = monotonic() + int(command) / 1e6
        any(map(end.__lt__, iter(monotonic, None)))
        return b"%d" % self.count


def die_with_the_test() -> None:
    os.read(0, 1)
    os._exit(99)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    threading.Thread(target=die_with_the_test, daemon=True).start()
    with tinyraft.Server(tinyraft.Config.from_env(), Hog()):
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
