"""What the module is at, and for how long: an `apply` that takes long gets its name in the log.

Law: the applier's thread notes when it goes in and out, and nothing else; the ticker's thread looks
and speaks, since nobody else can while the module works. No locks: what is noted is replaced whole.

Two things may be wrong with a module, and they look different from here. One that waits (a disk,
another service) makes the commands behind it wait: `module_slow`, while it lasts. One that holds
the interpreter, as C code may, stops all threads of this process, the ticker too: that wakes up
late, and looks into what the module was doing meanwhile.

Between two such calls another thread gets the interpreter, but only one or two: then the module has
it again. A heartbeat passes through five threads on its way. So the applier rests a little behind a
long call: whoever has waited gets his turn, and an office is lost only by a single call that is
longer than an election timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from tinyraft.core.entry import Index
from tinyraft.logs import Log
from tinyraft.node.clock import CLOCK, Clock

NOTED_SECONDS = 0.005  # what was shorter has made nobody late
COMPUTING = 0.05  # of the time on a processor: who was stopped or waited used none
KEEPS = "Module.apply of this entry keeps the interpreter (GIL)"
KEEPS_OR_STOPPED = f"{KEEPS} while it waits, or the process was stopped"
KEPT = 8  # of those that were longer
REST_SHARE = 0.05  # of a long call
REST_SECONDS = 0.020  # at most: time for everybody on a busy machine
WARN_SECONDS = 10.0  # between two lines: a module may be slow at every command


@dataclass(slots=True)
class Call:
    """One call of `Module.apply`; *ended* is None while it lasts."""

    index: Index
    began: float
    ended: float | None = None


class Stopwatch:
    """Stands around `Module.apply`. One thread calls it, another looks."""

    def __init__(
        self,
        apply: Callable[[bytes], object],
        *,
        index: Callable[[], Index],
        rests_after: float = float("inf"),
        clock: Clock = CLOCK,
    ) -> None:
        """Call *apply* for the entry that *index* names; *rests_after* so many seconds in it."""
        self.ended = float("-inf")  # the last call
        self._took = 0.0  # likewise
        self._rests_after = rests_after
        self._processor_clock: int | None = None  # of the applier's thread
        self._began: float | None = None  # the call under way
        self._long: tuple[Call, ...] = ()  # the last few that took long
        self._apply = apply
        self._index = index
        self._monotonic = clock.monotonic

    def __call__(self, command: bytes) -> object:
        """Apply *command*, and raise what the module raises."""
        self._began = began = self._monotonic()
        try:
            return self._apply(command)
        finally:
            self.ended = ended = self._monotonic()
            if ended - began >= NOTED_SECONDS:
                self._note(began, ended)
            self._began = None

    def _note(self, began: float, ended: float) -> None:
        self._took = ended - began
        if self._processor_clock is None and hasattr(time, "pthread_getcpuclockid"):
            self._processor_clock = time.pthread_getcpuclockid(threading.get_ident())
        self._long = (*self._long[1 - KEPT :], Call(self._index(), began, ended))

    def read(self) -> float:
        """Tell the time by which calls are measured."""
        return self._monotonic()

    def processor_seconds(self) -> float | None:
        """Tell how long the applier has used the processor; None where the system can't tell.

        The clock was asked for by the thread itself: the number of a thread that has ended must not
        be used any more, its clock may.
        """
        if self._processor_clock is None:
            return None
        try:
            return time.clock_gettime(self._processor_clock)
        except OSError:
            return None  # the thread has ended

    def rest(self) -> None:
        """Let the other threads run, if the last call was long. Called without any lock. Blocks."""
        took, self._took = self._took, 0.0
        if took >= self._rests_after:
            Event().wait(min(REST_SECONDS, REST_SHARE * took))

    def _under_way(self) -> Call | None:
        began = self._began
        if began is None:
            return None
        call = Call(self._index(), began)
        return call if self._began == began else None  # else it ended while we looked

    def latest(self) -> list[Call]:
        """Give the last call that took long, and the one that is under way."""
        now = self._under_way()
        return [*self._long[-1:], *([now] if now is not None else [])]

    def during(self, since: float, until: float) -> tuple[Call | None, float]:
        """Find what calls took of the time from *since* to *until*, and the one that took most."""
        now, calls = self._under_way(), self._long  # in this order: what ends meanwhile is in both
        shares = [
            (min(until, call.ended or until) - max(since, call.began), call) for call in calls
        ]
        if now is not None and not (calls and calls[-1].index == now.index):
            shares.append((until - max(since, now.began), now))
        shares = [(took, call) for took, call in shares if took > 0]
        longest = max(shares, key=lambda one: one[0])[1] if shares else None
        return longest, sum(took for took, _ in shares)


class SlowModule:
    """Tells an operator of it. The ticker's."""

    def __init__(
        self, stopwatch: Stopwatch, *, seconds: float, log: Log, clock: Clock = CLOCK
    ) -> None:
        """Warn of a call that lasts for *seconds*."""
        self._stopwatch = stopwatch
        self._seconds = seconds
        self._log = log
        self._monotonic = clock.monotonic
        self._seen: Index = 0
        self._processor: float | None = None  # what the applier had used of it at the last look
        self._slow = 0  # since the last warning
        self._warned_at = float("-inf")

    def look(self) -> None:
        """Warn, once an entry and not again and again. Called at each tick."""
        for call in self._stopwatch.latest():
            now = self._monotonic()
            took = (call.ended or now) - call.began
            if call.index > self._seen and took >= self._seconds:
                self._seen = call.index
                self._warn(call, took, now)
        self._processor = self._stopwatch.processor_seconds()

    def _warn(self, call: Call, took: float, now: float) -> None:
        self._slow += 1
        if now - self._warned_at >= WARN_SECONDS:
            seconds, times = round(took, 3), self._slow
            self._log.warning("module_slow", index=call.index, seconds=seconds, times=times)
            self._warned_at, self._slow = now, 0

    def has_taken(self, seconds: float) -> bool:
        """Tell whether it was the module that made a tick *seconds* late.

        It was in there for the half of them, and computing. Who only waited there may have been
        stopped or short of the processor, as the ticker was.
        """
        now = self._monotonic()
        if self._stopwatch.during(now - seconds, now)[1] < seconds / 2:
            return False
        used, before = self._stopwatch.processor_seconds(), self._processor
        return used is None or before is None or used - before >= COMPUTING * seconds

    def blame(self, seconds: float) -> dict[str, object]:
        """Say which entry it was, if the module had the half or more of the last *seconds*."""
        now = self._monotonic()
        call, took = self._stopwatch.during(now - seconds, now)
        if call is None or took < seconds / 2:
            return {}
        return {
            "index": call.index,
            "apply_seconds": round((call.ended or now) - call.began, 3),
            "likely": KEEPS if self.has_taken(seconds) else KEEPS_OR_STOPPED,
        }
