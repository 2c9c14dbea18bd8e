"""A caller's own side of its session: the numbers of its commands (dissertation 6.3).

Law: a number is used for one command, whatever becomes of it, and for every sending of that. What
is said to be answered below some number is below every command that is still waited for.
"""

from __future__ import annotations

from threading import Lock

SPAN = 16_384  # commands between the oldest that is waited for and the newest


class Session:
    """The numbers of one session. Thread-safe; its lock is a leaf."""

    def __init__(self, index: int, term: int) -> None:
        """Begin the session that the entry *index* of *term* opened."""
        self.index = index
        self.term = term
        self._lock = Lock()  # guards all below; leaf
        self._next = 1
        self._floor = 1
        self._open: set[int] = set()

    @property
    def next_number(self) -> int:
        """What `begin` will give."""
        return self._next

    def begin(self) -> int:
        """Take a number for a command that is sent now."""
        with self._lock:
            number = self._next
            self._next = number + 1
            self._open.add(number)
            return number

    def settle(self, number: int) -> None:
        """The command *number* is waited for no more."""
        with self._lock:
            self._open.discard(number)

    @property
    def answered_below(self) -> int:
        """The lowest number that is waited for, or the next one."""
        with self._lock:
            floor, waited_for = self._floor, self._open
            while floor < self._next and floor not in waited_for:
                floor += 1
            self._floor = floor
            return floor

    @property
    def is_full(self) -> bool:
        """Whether one command is so late that no more may be begun."""
        return self._next - self._floor >= SPAN and self._next - self.answered_below >= SPAN
