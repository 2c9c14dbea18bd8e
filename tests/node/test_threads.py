"""The small parts that threads wait on: bell, loop and ticker."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import pytest

from tests.cluster import DEADLINE
from tinyraft.logs import Log
from tinyraft.node import clock as clocks
from tinyraft.node.bell import Bell
from tinyraft.node.loop import Loop
from tinyraft.node.ticker import WARY_TICKS, Ticker, tick_seconds

# --- the bell ---------------------------------------------------------------------------------


def test_a_ring_before_the_wait_is_kept() -> None:
    """A bell rung while nobody waits wakes the next who does, once."""
    bell = Bell()
    bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)


def test_ringing_twice_is_ringing_once() -> None:
    """Rings are not counted."""
    bell = Bell()
    bell.ring()
    bell.ring()
    assert [True, False] == [bell.wait(0), bell.wait(0)]


def test_a_negative_timeout_is_none_at_all() -> None:
    """A deadline that has passed does not wait for ever."""
    assert not Bell().wait(-1.0)


@pytest.fixture
def fast_switches() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switches")
def test_no_ring_is_lost() -> None:
    """Whoever clears the bell, looks for work and waits, never sleeps over work that was rung."""
    bell, work, seen = Bell(), deque[int](), []
    count, producers = 2_000, 3

    def serve() -> None:
        while len(seen) < count * producers:
            if work:
                seen.append(work.popleft())
            elif not bell.wait(DEADLINE):
                return

    def produce() -> None:
        for number in range(count):
            work.append(number)
            bell.ring()

    threads = [threading.Thread(target=serve)]
    threads += [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert count * producers == len(seen)


# --- the loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_death_is_reported(error: BaseException) -> None:
    """Whatever ends a body is told, with the thread's name."""
    told: list[tuple[str, BaseException]] = []

    def body() -> None:
        raise error

    loop = Loop("tinyraft-x-loop", body, died=lambda name, why: told.append((name, why)))
    loop.start()
    assert loop.join(DEADLINE)
    assert [("tinyraft-x-loop", error)] == told


def test_an_end_is_no_death() -> None:
    """A body that returns ended well; a loop that never started has ended too."""
    told: list[object] = []
    loop = Loop("tinyraft-x-loop", lambda: None, died=lambda *facts: told.append(facts))
    assert loop.join(0)
    loop.start()
    assert loop.join(DEADLINE)
    assert [] == told


def test_a_loop_does_not_wait_for_itself() -> None:
    """Joining from inside says that it has not ended, at once."""
    ended: list[bool] = []
    loop = Loop("tinyraft-x-loop", lambda: ended.append(loop.join(DEADLINE)), died=print)
    loop.start()
    assert loop.join(DEADLINE)
    assert [False] == ended


# --- the ticker -------------------------------------------------------------------------------


class Clock:
    """Time that passes only in waits, which may take longer than asked for; a bell, too."""

    def __init__(self, delays: list[float], *, ticker_stops_after: int) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self.ticker: Ticker | None = None
        self.rings_at: list[float] = []
        self._delays = delays
        self._last = ticker_stops_after

    def monotonic(self) -> float:
        return self.now

    def ring(self) -> None:
        """It waits nowhere else."""

    def wait(self, timeout: float) -> bool:
        """Let *timeout* pass, and the next delay; say stop at last."""
        self.waits.append(round(timeout, 6))
        if len(self.waits) > self._last:
            assert self.ticker is not None, "it waits"
            self.ticker.stop()
            return True
        if self.rings_at and self.rings_at[0] < self.now - 100.0 + timeout:
            self.now = 100.0 + self.rings_at.pop(0)
            return True
        self.now += timeout + (self._delays.pop(0) if self._delays else 0.0)
        return False

    def run(self, one: Ticker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run *one* in this time."""
        self.ticker = one
        monkeypatch.setattr(one, "bell", self)
        one.run()


def run_ticker(
    monkeypatch: pytest.MonkeyPatch,
    delays: list[float],
    ticks: int,
    *,
    due: int = 1,
    rings_at: Sequence[float] = (),
) -> tuple[list[tuple[float, int, int]], list[float]]:
    """Run a ticker of 10 ms for a core that has something to do every *due* ticks.

    Returns:
        When it ticked, how many ticks that were and what it had slept through; and its waits.
    """
    clock, ticked = Clock(delays, ticker_stops_after=ticks), []
    clock.rings_at = [*rings_at]

    def tick(ticks: int, overslept: int) -> int:
        ticked.append((round(clock.now - 100.0, 6), ticks, overslept))
        return due

    one = Ticker(tick, seconds=0.010, log=Log("t"), clock=clocks.Clock(monotonic=clock.monotonic))
    clock.run(one, monkeypatch)
    return ticked, clock.waits


def test_ticks_keep_their_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up that is late by less than a tick is made good, so the pace does not drift."""
    ticked, waits = run_ticker(monkeypatch, [0.004, 0.0, 0.0], 3)
    assert [(0.014, 1, 0), (0.020, 1, 0), (0.030, 1, 0)] == ticked
    assert [0.010, 0.006, 0.010, 0.010] == waits


def test_a_late_wake_up_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause of a hundred ticks there is one, which knows of them; the next is on time."""
    ticked, waits = run_ticker(monkeypatch, [0.0, 1.0, 0.0], 4)
    assert [(0.010, 1, 0), (1.020, 1, 100), (1.030, 1, 0), (1.040, 1, 0)] == ticked
    assert [0.010] * 5 == waits


def test_ticks_with_nothing_due_pass_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One wake-up for all of them, and the pace does not drift."""
    ticked, waits = run_ticker(monkeypatch, [0.0, 0.004], 3, due=5)
    assert [(0.010, 1, 0), (0.064, 5, 0), (0.110, 5, 0)] == ticked
    assert [0.010, 0.050, 0.046, 0.050] == waits


def test_a_ring_ends_the_wait_with_the_tick_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due changed: whole ticks pass, as many as there were."""
    ticked, waits = run_ticker(monkeypatch, [], 6, due=5, rings_at=[0.033, 0.034])
    assert [(0.010, 1, 0), (0.040, 3, 0), (0.090, 5, 0)] == ticked[:3]
    assert [0.010, 0.050, 0.007, 0.006, 0.050] == waits[:5]


def test_who_woke_up_late_waits_for_single_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor is short each tick that comes is counted; when it is not, no more."""
    ticked, _ = run_ticker(monkeypatch, [0.0, 0.105], WARY_TICKS + 4, due=5)
    assert [(0.010, 1, 0), (0.165, 5, 10), (0.175, 1, 0)] == ticked[:3]
    assert [1] * WARY_TICKS + [5] == [ticks for _, ticks, _ in ticked[2 : WARY_TICKS + 3]]


def test_a_very_late_wake_up_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a second late is what an operator should know of."""
    with caplog.at_level(logging.WARNING):
        run_ticker(monkeypatch, [0.4, 0.6], 2)
    assert ["event='wake_up_late' seconds=0.6 times=1"] == [r.message for r in caplog.records]


def test_who_is_late_all_the_time_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A busy machine is told of at once, and then every ten seconds, with the worst of them."""
    with caplog.at_level(logging.WARNING):
        run_ticker(monkeypatch, [0.6, *[1.0] * 9, 2.0, 1.0, 1.0], 13)
    assert [
        "event='wake_up_late' seconds=0.6 times=1",
        "event='wake_up_late' seconds=2.0 times=10",
    ] == [r.message for r in caplog.records]


def test_who_is_late_says_whose_doing_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the latest wake-up that a line stands for; asked when it comes, not ten seconds later."""
    clock, asked = Clock([0.3, *[1.0] * 9, 2.0, 1.0], ticker_stops_after=12), []

    def blame(late: float) -> dict[str, object]:
        asked.append(round(late, 3))
        return {"index": len(asked)}

    one = Ticker(
        lambda _ticks, _overslept: 1,
        seconds=0.010,
        log=Log("t"),
        clock=clocks.Clock(monotonic=clock.monotonic),
        late_seconds=0.2,
        blame=blame,
    )
    with caplog.at_level(logging.WARNING):
        clock.run(one, monkeypatch)
    assert [0.3, 1.0, 2.0, 1.0] == asked
    assert [
        "event='wake_up_late' seconds=0.3 times=1 index=1",
        "event='wake_up_late' seconds=2.0 times=10 index=3",
    ] == [r.message for r in caplog.records]


@pytest.mark.parametrize(("timeout", "tick"), [(0.05, 0.005), (0.2, 0.010), (3.0, 0.020)])
def test_the_length_of_a_tick(timeout: float, tick: float) -> None:
    """A twentieth of the election timeout, from 5 to 20 ms."""
    assert tick == tick_seconds(timeout)
