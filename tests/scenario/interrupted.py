"""A program whose main thread is interrupted at random moments, and that works on each time.

``interrupted.py SEED COUNT``: prints what was left behind, if anything was. It never waits longer
than `STUCK_SECONDS` without saying where every thread stands.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import tinyraft
from tests.cluster import until
from tests.scenario.journal import Journal
from tinyraft.transport.operator import Operator

STUCK_SECONDS = 20.0
LONGEST_SECONDS = 0.008  # of what is interrupted, about


def close(caller: tinyraft.Caller) -> None:
    caller.apply(b"x")
    caller.query(b"")
    caller.close()


WORK: dict[str, Callable[[tinyraft.Caller], object]] = {
    "apply": lambda caller: caller.apply(b"x"),
    "apply_many": lambda caller: caller.apply_many([b"x", b"y"]),
    "submit": lambda caller: caller.submit(b"x", timeout=None).result(),
    "query": lambda caller: caller.query(b""),
    "close": close,
}


def interrupt(work: Callable[[], object], random: Random) -> None:
    """Let Ctrl-C come within the next milliseconds, perhaps behind the end of the *work*."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + random.random() * LONGEST_SECONDS)
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass


def use(address: str, work: Callable[[tinyraft.Caller], object], random: Random) -> None:
    """Interrupt *work* with a new caller; that must then work as if nothing had been."""
    caller = tinyraft.Caller(address)
    interrupt(lambda: work(caller), random)
    if work is not close:
        caller.apply(b"again")
        caller.query(b"")
        ledger = caller._delivery._ledger
        assert not ledger.slots, ledger.slots
        assert not ledger._bytes, ledger._bytes
        assert not ledger.behind, ledger.behind
        assert ledger.session is not None
        assert not ledger.session._open, ledger.session._open
    caller.close()


def export(address: str) -> None:
    with Operator([address]).exporting(timeout=5.0) as pieces:
        for _ in pieces:
            pass


def end(random: Random) -> None:
    """Interrupt the end of a node; that goes on, and frees everything."""
    server = start()
    interrupt(server.shutdown, random)
    server.shutdown()
    until(lambda: not threads("tinyraft"), what="the node's threads to end")


def start() -> tinyraft.Server:
    config = tinyraft.Config(
        node_id="n1",
        listen_address="127.0.0.1:0",
        data_dir=Path(tempfile.mkdtemp(dir=os.environ["RAFT_DATA_DIR"])),
        bootstrap=True,
        timeout=0.3,
    )
    server = tinyraft.Server(config, Journal())
    server.start()
    server.wait_ready(10.0)
    return server


def threads(start: str) -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(start)]


def main(seed: int, count: int) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    random = Random(seed)
    server = start()
    try:
        address = server.status().address
        for number in range(count):
            for name, work in WORK.items():
                faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
                try:
                    use(address, work, random)
                except Exception as error:
                    raise AssertionError(f"{name}, number {number}") from error
            interrupt(lambda: export(address), random)
            until(lambda: not threads("tinyraft-caller"), what="the callers' threads to end")
    finally:
        server.shutdown()
    for _ in range(count // 10):
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        end(random)
    print("fine", flush=True)  # noqa: T201  # the test reads it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
