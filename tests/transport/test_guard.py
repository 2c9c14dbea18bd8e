"""The guard: a program that forgets to shut down ends in time, and one that forks is told."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from tinyraft.errors import ForkedProcess
from tinyraft.transport.guard import Guard, OwnerProcess

PROMISE = 5.0  # seconds within which a program that forgot everything has ended
DEADLINE = 20.0

PROGRAM = """
import sys, threading, time
from tinyraft.transport.guard import Guard
from tinyraft.transport.pool import DaemonPool

pool = DaemonPool(1, name="handlers")
began = threading.Event()
pool.submit(lambda: (began.set(), threading.Event().wait()))
assert began.wait(10)

def on_exit():
    helper = threading.Thread(target=print, args=("shut down",))  # a shutdown may need threads
    helper.start()
    helper.join()

guard = Guard("tinyraft-a-guard", on_exit)
guard.start()
print("started", flush=True)
{end}
"""
ENDS = {
    "return": ("", 0),
    "an exception": ("raise ValueError('forgotten')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "Ctrl-C": ("time.sleep(60)", -signal.SIGINT),
    "a cancelled guard": ("guard.cancel()", 0),
}


@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_a_program_that_forgets_shutdown_ends(end: str, code: int) -> None:
    """However the main thread ends, `on_exit` runs and the process is gone within the promise."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "started\n"
            if code == -signal.SIGINT:
                program.send_signal(signal.SIGINT)
            began = time.monotonic()
            out, errors = program.communicate(timeout=DEADLINE)
            took = time.monotonic() - began
        finally:
            program.kill()
    assert out == ("" if end == "guard.cancel()" else "shut down\n")
    assert program.returncode == code, errors
    assert took < PROMISE


def test_a_cancelled_guard_ends_at_once_and_does_nothing() -> None:
    """After a normal shutdown no thread of the guard is left, and nothing is kept alive."""

    class Owner:
        called = False

        def shutdown(self) -> None:
            self.called = True

    owner = Owner()
    guard = Guard("tinyraft-a-guard", owner.shutdown)
    guard.start()
    threads = [thread for thread in threading.enumerate() if thread.name == "tinyraft-a-guard"]
    assert [thread.daemon for thread in threads] == [False]
    began = time.monotonic()
    guard.cancel()
    guard.cancel()
    assert guard.join(DEADLINE)
    assert time.monotonic() - began < 0.4  # it did not wait for its next look
    assert not owner.called
    alive = weakref.ref(owner)
    del owner, guard, threads
    gc.collect()
    assert alive() is None


def test_a_guard_may_be_cancelled_by_what_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown that the guard began cancels and joins the guard, like any other shutdown."""
    ended = threading.Thread(target=int)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)  # a thread that is over
    joined: list[bool] = []

    def shutdown() -> None:
        guard.cancel()
        joined.append(guard.join(DEADLINE))

    guard = Guard("tinyraft-a-guard", shutdown)
    guard.start()
    assert guard.join(DEADLINE)
    assert joined == [True]


def test_waiting_costs_next_to_nothing() -> None:
    """A guard uses less than 0.1 % of a core."""
    code = (
        "import threading, time\n"
        "from tinyraft.transport.guard import Guard\n"
        "guard = Guard('g', int)\n"
        "guard.start()\n"
        "began, used = time.monotonic(), time.process_time()\n"
        "threading.Event().wait(2)\n"
        "print((time.process_time() - used) / (time.monotonic() - began))\n"
        "guard.cancel()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], timeout=DEADLINE, capture_output=True, text=True, check=True
    )
    assert float(ran.stdout) < 0.001


def test_the_owner_may_work() -> None:
    """In the process that started it nothing is refused."""
    OwnerProcess("server 'a'").check()


FORK = """
import os, sys
from tinyraft.errors import ForkedProcess
from tinyraft.transport.guard import OwnerProcess

owner = OwnerProcess("server 'a'")
child = os.fork()
if child == 0:
    try:
        owner.check()
    except ForkedProcess as error:
        print(os.getppid(), os.getpid(), error)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
owner.check()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_is_told() -> None:
    """The child learns whose object it holds, and what to do; the parent goes on."""
    ran = subprocess.run(
        [sys.executable, "-c", FORK], timeout=DEADLINE, capture_output=True, text=True, check=True
    )
    parent, child, text = ran.stdout.split(maxsplit=2)
    assert text.startswith(f"server 'a' was started in process {parent}, this is process {child}:")
    assert "start one after the fork" in text


def test_another_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares process ids, so it costs next to nothing a call."""
    owner = OwnerProcess("caller")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ForkedProcess, match="caller was started in process"):
        owner.check()
