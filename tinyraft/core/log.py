"""The log in memory, and how much of it is on this disk (dissertation 3.5, 10.2.1).

Law: entries are cut only where they conflict, never at or below the commit index (the caller
asserts that), and `durable_index` speaks only of entries that are still in the log.

How `durable_index` stays true when entries are overwritten while a write is under way:

    1. entries 5..7 of term 2 are handed to the writer as mark 9
    2. a leader of term 3 overwrites them from 6 on, as mark 10
    3. mark 9 is synced: 6 and 7 on disk are the old ones

So every queued write remembers the last index it makes durable, and a cut at *i* lowers all of
these memories, and `durable_index` itself, to at most *i - 1*. Comparing index and term instead
fails when an index is overwritten twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tinyraft.core.effects import Mark, Synced
from tinyraft.core.entry import Entry, Index, Term


class Log:
    """All entries, contiguous from index 1."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        """Start with *entries* that recovery found and synced."""
        self._entries: list[Entry] = []
        self.append(entries)
        self.durable_index: Index = self.last_index
        self._unwritten_from: Index = self.last_index + 1
        self._cut_from: Index | None = None
        self._queued: deque[tuple[Mark, Index, int]] = deque()  # mark, last index, tick

    # --- looking -----------------------------------------------------------------------------

    @property
    def last_index(self) -> Index:
        """The index of the last entry, 0 for an empty log."""
        return len(self._entries)

    @property
    def last_term(self) -> Term:
        """The term of the last entry, 0 for an empty log."""
        return self._entries[-1].term if self._entries else 0

    def term_at(self, index: Index) -> Term:
        """The term at *index*; 0 before the log and behind its end."""
        return self._entries[index - 1].term if 0 < index <= len(self._entries) else 0

    def matches(self, index: Index, term: Term) -> bool:
        """Tell whether this log has *term* at *index*."""
        return index <= self.last_index and self.term_at(index) == term

    def between(self, after: Index, to: Index, *, max_bytes: int) -> list[Entry]:
        """Take the entries in (*after*, *to*]: as many as fit *max_bytes*, but at least one."""
        taken: list[Entry] = []
        for entry in self._entries[after:to]:
            max_bytes -= entry.size
            if max_bytes < 0 and taken:
                break
            taken.append(entry)
        return taken

    def last_at_most(self, index: Index, term: Term) -> Index:
        """Find the highest place not above *index* whose term is not above *term* (3.5).

        Terms never decrease along a log, so the place is found by halving.
        """
        low, high = 0, min(index, self.last_index)
        while low < high:
            middle = (low + high + 1) // 2
            if self.term_at(middle) <= term:
                low = middle
            else:
                high = middle - 1
        return low

    # --- changing ----------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Put *entries* behind the last one."""
        for entry in entries:
            assert entry.index == self.last_index + 1, "indexes have no gaps"
            assert entry.term >= self.last_term, "terms never decrease along a log"
            self._entries.append(entry)

    def cut(self, index: Index) -> None:
        """Drop everything at *index* and above."""
        assert 0 < index <= self.last_index, "a cut takes something"
        del self._entries[index - 1 :]
        if index < self._unwritten_from:
            self._unwritten_from = index
            self._cut_from = min(index, self._cut_from or index)
        self.durable_index = min(self.durable_index, index - 1)
        for at, (mark, last, tick) in enumerate(self._queued):
            self._queued[at] = (mark, min(last, index - 1), tick)

    # --- the disk ----------------------------------------------------------------------------

    @property
    def is_unwritten(self) -> bool:
        """Whether a cut or entries wait to be handed to the writer."""
        return self._cut_from is not None or self._unwritten_from <= self.last_index

    def hand_over(self, mark: Mark, *, tick: int) -> tuple[Index | None, list[Entry]]:
        """Give what is unwritten to the writer, as *mark*."""
        cut_from, entries = self._cut_from, self._entries[self._unwritten_from - 1 :]
        self._cut_from, self._unwritten_from = None, self.last_index + 1
        self._queued.append((mark, self.last_index, tick))
        return cut_from, entries

    def synced(self, synced: Synced) -> None:
        """Learn that every write up to *synced* is on disk."""
        while self._queued and self._queued[0][0] <= synced:
            self.durable_index = self._queued.popleft()[1]

    def oldest_write(self) -> int | None:
        """The tick at which the oldest unfinished write was handed over."""
        return self._queued[0][2] if self._queued else None
