"""Work that Ctrl-C must not divide is done, whoever waits for it."""

from __future__ import annotations

import signal
import threading

import pytest

from tinyraft.transport.undivided import undivided

DEADLINE = 20.0


def test_an_interrupt_divides_nothing() -> None:
    """Ctrl-C ends the waiting; the work is done all the same."""
    may_go_on, is_over = threading.Event(), threading.Event()

    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert may_go_on.wait(DEADLINE)
        is_over.set()

    with pytest.raises(KeyboardInterrupt):
        undivided(work, name="tinyraft-work")
    assert not is_over.is_set()
    may_go_on.set()
    assert is_over.wait(5.0)


def test_undivided_work_raises_where_it_is_waited_for() -> None:
    """In whatever thread it was done."""
    with pytest.raises(ZeroDivisionError):
        undivided(lambda: 1 // 0, name="tinyraft-work")
