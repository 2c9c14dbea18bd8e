"""A module that takes long, and one that keeps the interpreter: who says so, and how often."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster import until
from tinyraft.errors import Rejected
from tinyraft.logs import Log
from tinyraft.node import stopwatch
from tinyraft.node.clock import Clock
from tinyraft.node.stopwatch import WARN_SECONDS, SlowModule, Stopwatch


class Bench:
    """A stopwatch around a module whose calls take as many 1/1024 s as they are told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.index = 0
        self.meanwhile: Callable[[], object] = lambda: None
        clock = Clock(monotonic=lambda: self.now)
        self.watch = Stopwatch(self.work, index=lambda: self.index, rests_after=0.125, clock=clock)
        self.processor: float | None = None
        self.watch.processor_seconds = lambda: self.processor  # type: ignore[method-assign]
        self.slow = SlowModule(self.watch, seconds=0.5, log=Log("test"), clock=clock)

    def work(self, command: bytes) -> bytes:
        """Let the time pass."""
        self.now += int(command) / 1024
        self.meanwhile()
        return command

    def apply(self, *commands: int) -> None:
        """Apply the next entries."""
        for command in commands:
            self.index += 1
            self.watch(b"%d" % command)


@pytest.fixture
def bench(caplog: pytest.LogCaptureFixture) -> Bench:
    """Lend one."""
    caplog.set_level(logging.WARNING)
    return Bench()


def test_what_the_module_answers_passes_through(bench: Bench) -> None:
    """Results and exceptions, and afterwards nothing is under way."""
    assert b"3" == bench.watch(b"3")

    def refuse() -> None:
        raise Rejected("no")

    bench.meanwhile = refuse
    with pytest.raises(Rejected):
        bench.watch(b"1")
    assert [] == bench.watch.latest()


def test_a_slow_call_is_told_while_it_lasts(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """By whoever looks, since nobody else can speak; once for each entry."""

    def look() -> None:
        for _ in range(3):
            bench.slow.look()
            bench.now += 0.1875

    bench.apply(100)
    bench.meanwhile = look
    bench.apply(384)
    bench.slow.look()
    assert ["event='module_slow' index=2 seconds=0.562 times=1"] == messages(caplog)


def test_a_call_that_let_nobody_look_is_told_afterwards(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It kept the interpreter: whoever looks wakes up behind it."""
    bench.apply(768)
    bench.meanwhile = bench.slow.look
    bench.apply(1, 1)
    assert ["event='module_slow' index=1 seconds=0.75 times=1"] == messages(caplog)


def test_a_module_that_is_always_slow_does_not_fill_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in ten seconds, which says how many entries it stands for."""
    for _ in range(round(WARN_SECONDS / 0.5) + 1):
        bench.apply(512)
        bench.slow.look()
    assert [
        "event='module_slow' index=1 seconds=0.5 times=1",
        "event='module_slow' index=21 seconds=0.5 times=20",
    ] == messages(caplog)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged."""
    return [record.message for record in caplog.records]


def test_who_is_late_because_of_the_module_knows(bench: Bench) -> None:
    """The entry that took most of the time is named, if the module took the half of it."""
    bench.apply(256, 512)
    blame = bench.slow.blame(0.75)
    assert (2, 0.5) == (blame["index"], blame["apply_seconds"])
    assert "Module.apply" in str(blame["likely"])
    assert bench.slow.has_taken(1.5)
    assert not bench.slow.has_taken(1.625)
    assert {} == bench.slow.blame(1.625)
    bench.now += 10
    assert {} == bench.slow.blame(1.0)


def test_a_call_under_way_counts_up_to_now(bench: Bench) -> None:
    """The late one may wake up while the module is still in the same entry."""
    found: list[object] = []
    bench.apply(5)
    bench.meanwhile = lambda: found.extend((bench.slow.has_taken(0.5), bench.slow.blame(0.5)))
    bench.apply(256)
    assert found[0]
    assert {"index": 2, "apply_seconds": 0.25} == {
        name: value
        for name, value in found[1].items()
        if name != "likely"  # type: ignore[attr-defined]
    }


def test_nothing_is_noted_of_quick_calls(bench: Bench) -> None:
    """And of the others the last few."""
    bench.apply(*[5] * 100)
    assert [] == bench.watch.latest()
    bench.apply(*[20] * 100)
    assert stopwatch.KEPT == len(bench.watch._long)


def test_others_get_their_turn_behind_a_long_call(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twentieth of it, 20 ms at most; a quick module never rests."""
    rests: list[float] = []

    class Never:
        def wait(self, seconds: float) -> None:
            rests.append(round(seconds + 1e-9, 4))

    monkeypatch.setattr(stopwatch, "Event", Never)
    for command in (127, 128, 256, 3000):
        bench.apply(command)
        bench.watch.rest()
        bench.watch.rest()
    assert [0.0063, 0.0125, 0.02] == rests


def test_who_was_stopped_while_he_waited_blames_nobody_else(bench: Bench) -> None:
    """A module that waits, in a process that does not get to run: that may be no good to lead."""
    bench.processor = 7.0
    bench.slow.look()
    bench.apply(512)
    bench.processor = 7.02
    assert not bench.slow.has_taken(0.5)
    assert stopwatch.KEEPS_OR_STOPPED == bench.slow.blame(0.5)["likely"]
    bench.processor = 7.2
    assert bench.slow.has_taken(0.5)
    assert stopwatch.KEEPS == bench.slow.blame(0.5)["likely"]
    bench.slow.look()
    bench.apply(512)
    assert not bench.slow.has_taken(0.5)


def test_the_processor_time_is_that_of_the_thread_that_applies() -> None:
    """Whoever asks."""
    watch = Stopwatch(lambda command: sum(range(int(command))), index=lambda: 1)
    assert watch.processor_seconds() is None
    used: list[float | None] = []
    with ThreadPoolExecutor(1) as applier:
        for _ in range(2):
            applier.submit(watch, b"3000000").result()
            used.append(watch.processor_seconds())
    if hasattr(time, "pthread_getcpuclockid"):
        assert used[0] is not None
        assert used[1] is not None
        assert 0.001 < used[1] - used[0] < 10
        until(lambda: watch.processor_seconds() is None, what="the thread's clock ends with it")
