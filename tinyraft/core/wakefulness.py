"""Whether this member wakes up often enough to lead (an extension of check-quorum, 6.2).

Law: counts; decides nothing. Ticks that were slept through are no silence of a leader, but they
tell that this process gets too little of the processor, or none: while it sleeps nothing of it
answers, and a leader that sleeps most of the time keeps a cluster waiting whose other members may
be wide awake.

Time is cut into spans of one election timeout, ticks slept through included. A span is *starved* if
less than a fifth of its ticks came: then a heartbeat, which takes about five wake-ups of different
threads on its way, takes a timeout. One long sleep (a paused machine, a debugger) is no habit: it
counts as half a span at most, so a starved span has more than one.
"""

from __future__ import annotations

SHARE = 5


class Wakefulness:
    """The present span, and how many in a row were starved."""

    __slots__ = ("_asleep", "_awake", "_span", "starved_spans")

    def __init__(self, *, election_ticks: int) -> None:
        """Begin awake."""
        self.starved_spans = 0
        self._span = election_ticks
        self._awake = self._asleep = 0

    def overslept(self, ticks: int) -> None:
        """Count *ticks* that did not come."""
        self._asleep += min(ticks, self._span // 2)

    def tick(self, ticks: int = 1) -> bool:
        """Count one that came, or several; tell whether a span ended with it."""
        self._awake += ticks
        whole = self._awake + self._asleep
        if whole < self._span:
            return False
        self.starved_spans = self.starved_spans + 1 if SHARE * self._awake < whole else 0
        self._awake = self._asleep = 0
        return True

    def begin(self) -> None:
        """Forget the past: an office is judged by its own time."""
        self.starved_spans = self._awake = self._asleep = 0
