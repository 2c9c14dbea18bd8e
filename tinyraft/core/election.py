"""When to campaign, and whom to vote for (dissertation 3.4, 3.6.1, 9.3, 9.6).

Law: pure bookkeeping; time passes as ticks, chance is handed in. A vote is granted here but leaves
this node only as `Held`, because a vote forgotten in a crash can be cast twice.
"""

from __future__ import annotations

from typing import Protocol

from tinyraft.core.entry import Index, Term
from tinyraft.core.log import Log

HASTE_TICKS = 2
SPREAD_TICKS = 6  # a hurried draw must still keep two nodes apart
TURN_TICKS = 3  # longer than an election takes


class Random(Protocol):
    """Chance, as it is handed in: `random.Random` has this shape."""

    def randint(self, a: int, b: int, /) -> int:
        """Draw from *a* to *b*, both included."""


class Timer:
    """The election timer: redrawn from (T, 2T] at every reset, so that two seldom expire at once.

    When the leader is known to be gone (its process died, or this node just started) waiting T
    gains nothing: the timer is *hurried*, drawn from 3 to 8 ticks, and after each failed election
    from about twice that, up to T again. Pre-votes keep a hurried node from disturbing a leader.

    When its process died all learn of it at once, and would often collide. So they campaign in
    turns, three ticks apart; chance comes in where the turns did not help.
    """

    def __init__(self, *, election_ticks: int, random: Random) -> None:
        """Start hurried: a node that starts knows no leader."""
        self._base = election_ticks
        self._random = random
        self._hurry = HASTE_TICKS
        self.elapsed = 0
        self.timeout = 0
        self._redraw(self._hurry)

    def tick(self, ticks: int = 1) -> bool:
        """Let one tick pass; tell whether the time is up.

        Of several at once the last counts alone if the timer was reset in the course of them.
        """
        self.elapsed += ticks if self.elapsed else 1
        return self.elapsed >= self.timeout

    def hear_leader(self) -> None:
        """A current leader spoke: wait the full time again."""
        self._hurry = self._base
        self._redraw(self._base)

    def grant(self) -> None:
        """A vote was given away: give its candidate the time to win."""
        self._redraw(max(self._hurry, HASTE_TICKS))

    def hurry(self, *, turn: int) -> None:
        """The leader is gone for certain: be quick, but let *turn* others go first."""
        self._hurry = HASTE_TICKS
        self.elapsed = 0
        self.timeout = HASTE_TICKS + 1 + TURN_TICKS * turn

    def campaign(self) -> None:
        """An election begins; should it fail, wait longer before the next."""
        self._hurry = min(2 * self._hurry, self._base)
        self._redraw(self._hurry)

    def _redraw(self, base: int) -> None:
        self.elapsed = 0
        self.timeout = base + self._random.randint(1, max(base, SPREAD_TICKS))


def is_up_to_date(log: Log, *, last_index: Index, last_term: Term) -> bool:
    """Tell whether a candidate's log is as good as ours: term first, then length (3.6.1)."""
    return (last_term, last_index) >= (log.last_term, log.last_index)
