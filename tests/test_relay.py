"""Threads that wake one another: nobody is left asleep."""

from __future__ import annotations

import random
import threading
from threading import Lock

import pytest

from tinyraft import relay
from tinyraft.relay import Relay

DEADLINE = 10.0


def closed(count: int) -> list[Lock]:
    """Make locks for threads to wait at."""
    locks = [Lock() for _ in range(count)]
    for lock in locks:
        lock.acquire()
    return locks


def chain(locks: list[Lock]) -> Relay:
    """Put *locks* into one relay."""
    made = Relay()
    for lock in locks:
        made.add(lock)
    return made


def test_each_wakes_the_next_in_order() -> None:
    """One link at a time."""
    locks = closed(3)
    made = chain(locks)
    made.begin()
    assert [False, True, True] == [lock.locked() for lock in locks]
    made.pass_on()
    assert [False, False, True] == [lock.locked() for lock in locks]
    made.pass_on()
    made.pass_on()  # the last one has nobody behind it
    assert not locks[2].locked()


def test_a_late_link_wakes_everybody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something else computes, each hop costs a switch interval: none is added to it."""
    now = [5.0]
    monkeypatch.setattr(relay, "monotonic", lambda: now[0])
    locks = closed(4)
    made = chain(locks)
    made.begin()
    now[0] += relay.LATE_SECONDS / 2
    made.pass_on()
    now[0] += relay.LATE_SECONDS * 2
    made.pass_on()
    assert [False] * 4 == [lock.locked() for lock in locks]


def test_who_leaves_early_breaks_no_chain() -> None:
    """A thread that was interrupted passes on before its turn; the others still wake."""
    locks = closed(3)
    made = chain(locks)
    made.pass_on()  # before the beginning
    made.begin()
    made.pass_on()
    made.pass_on()
    assert [False] * 3 == [lock.locked() for lock in locks]


def test_many_threads_all_wake() -> None:
    """Some of them leave before their turn; whoever waits is woken."""
    for seed in range(20):
        locks = closed(24)
        made = chain(locks)
        impatient = set(random.Random(seed).sample(range(24), 5))
        woken: list[bool] = []

        def wait(
            lock: Lock, patience: float, *, relay: Relay = made, woken: list[bool] = woken
        ) -> None:
            woken.append(lock.acquire(timeout=patience))
            relay.pass_on()

        threads = [
            threading.Thread(
                target=wait, args=(lock, 0.001 if at in impatient else DEADLINE), daemon=True
            )
            for at, lock in enumerate(locks)
        ]
        for thread in threads:
            thread.start()
        made.begin()
        for thread in threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in threads)
        assert woken.count(False) <= len(impatient)
