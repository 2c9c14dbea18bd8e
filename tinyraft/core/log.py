"""The log, and how much of it is on this disk (dissertation 3.5, 5.1, 10.2.1).

Law: entries are cut only where they conflict, never at or below the commit index (the caller
asserts that), and `durable_index` speaks only of entries that are still in the log.

What is known of an entry, from old to new:

    base index     what a snapshot took the place of: nothing but the term of the last one
    in memory from only the terms are here; the disk has the entries
    last index     everything

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
from itertools import groupby

from tinyraft.core.effects import Mark, Synced, Write
from tinyraft.core.entry import Entry, Index, Term
from tinyraft.core.terms import Terms

MEMORY_BYTES = 4 << 20  # with more, caches and Python's collector have more to go through


class Log:
    """Entries, contiguous behind the base; the newest of them in memory."""

    def __init__(
        self,
        entries: Sequence[Entry] = (),
        *,
        terms: Terms | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Start with what recovery found and synced.

        Args:
            entries: The end of the log, as much of it as is to be in memory.
            terms: Those of the whole log; when *entries* are all there is, they tell it.
            memory_bytes: When entries take more than this, old ones are left to the disk.
        """
        self._entries = list(entries)
        self._bytes = sum(entry.footprint for entry in entries)
        self._memory_bytes = memory_bytes
        self._terms = terms if terms is not None else Terms()
        if terms is None:
            self._note_terms(entries)
        self._in_memory_from: Index = self.last_index + 1 - len(self._entries)
        self.durable_index: Index = self.last_index
        self._unwritten_from: Index = self.last_index + 1
        self._cut_from: Index | None = None
        self._new_base = False
        self._base_mark = Mark(0)  # of the write that made the base; 0 for none
        self._queued: deque[tuple[Mark, Index, int]] = deque()  # mark, last index, tick

    # --- looking -----------------------------------------------------------------------------

    @property
    def base_index(self) -> Index:
        """The index that the log goes on behind; 0 while it is whole."""
        return self._terms.base_index

    @property
    def last_index(self) -> Index:
        """The index of the last entry; of the base, for an empty log."""
        return self._terms.last_index

    @property
    def last_term(self) -> Term:
        """The term of the last entry; of the base, for an empty log."""
        return self._terms.last_term

    @property
    def in_memory_from(self) -> Index:
        """The first index whose entry is in memory, or would be."""
        return self._in_memory_from

    def term_at(self, index: Index) -> Term:
        """The term at *index*; 0 before the base and behind the end."""
        return self._terms.at(index)

    def matches(self, index: Index, term: Term) -> bool:
        """Tell whether this log has *term* at *index*."""
        return self.base_index <= index <= self.last_index and self.term_at(index) == term

    def between(self, after: Index, to: Index, *, max_bytes: int) -> list[Entry]:
        """Take the entries in (*after*, *to*]: as many as fit *max_bytes*, but at least one.

        They must be in memory.
        """
        skipped = self._in_memory_from - 1
        assert after >= skipped, f"what follows {after} is not in memory"
        taken: list[Entry] = []
        for entry in self._entries[after - skipped : max(0, to - skipped)]:
            max_bytes -= entry.size
            if max_bytes < 0 and taken:
                break
            taken.append(entry)
        return taken

    def last_at_most(self, index: Index, term: Term) -> Index:
        """Find the highest place not above *index* whose term is not above *term* (3.5)."""
        return self._terms.last_at_most(index, term)

    # --- changing ----------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Put *entries* behind the last one."""
        expected = self.last_index + 1
        for entry in entries:
            assert entry.index == expected, "indexes have no gaps"
            expected += 1
            self._bytes += entry.footprint
        self._note_terms(entries)
        self._entries += entries

    def _note_terms(self, entries: Sequence[Entry]) -> None:
        if entries and entries[0].term == entries[-1].term:
            self._terms.append(entries[0].term, len(entries))
            return
        for term, run in groupby(entries, key=lambda entry: entry.term):
            self._terms.append(term, len(list(run)))

    def cut(self, index: Index) -> None:
        """Drop everything at *index* and above."""
        assert self.base_index < index <= self.last_index, "a cut takes something"
        self._terms.cut(index)
        kept = max(0, index - self._in_memory_from)
        self._bytes -= sum(entry.footprint for entry in self._entries[kept:])
        del self._entries[kept:]
        self._in_memory_from = min(self._in_memory_from, index)
        if index < self._unwritten_from:
            self._unwritten_from = index
            self._cut_from = min(index, self._cut_from or index)
        self.durable_index = min(self.durable_index, index - 1)
        for at, (mark, last, tick) in enumerate(self._queued):
            self._queued[at] = (mark, min(last, index - 1), tick)

    def begin_behind(self, index: Index, term: Term) -> None:
        """Drop everything: a snapshot that is on disk took the place of all up to *index*."""
        assert index > self.durable_index or not self.matches(index, term), "nothing is lost"
        self._terms = Terms(base_index=index, base_term=term)
        self._entries.clear()
        self._bytes = 0
        self._in_memory_from = self._unwritten_from = index + 1
        self._cut_from, self._new_base = None, True
        self.durable_index = index
        self._queued = deque((mark, index, tick) for mark, _, tick in self._queued)

    def compact(self, index: Index) -> None:
        """Forget everything up to *index*; a snapshot covers it."""
        if index > self.base_index:
            self._terms.compact(index)
            gone = self._entries[: max(0, index + 1 - self._in_memory_from)]
            self._drop(len(gone), sum(entry.footprint for entry in gone))

    def spare_memory(self, to: Index) -> None:
        """Leave old entries to the disk where memory is short; none above *to*."""
        if self._bytes <= self._memory_bytes:
            return
        to = min(to, self.durable_index)
        # A sixteenth at once: each time moves the rest, and much at a time holds everybody up.
        too_many, size, gone = self._bytes - self._memory_bytes * 15 // 16, 0, 0
        for entry in self._entries:
            if entry.index > to or size >= too_many:
                break
            size += entry.footprint
            gone += 1
        self._drop(gone, size)

    def _drop(self, count: int, size: int) -> None:
        """Let go of *count* entries at the front, which take *size* bytes."""
        del self._entries[:count]
        self._bytes -= size
        self._in_memory_from += count

    # --- the disk ----------------------------------------------------------------------------

    @property
    def is_unwritten(self) -> bool:
        """Whether a base, a cut or entries wait to be handed to the writer."""
        return (
            self._new_base or self._cut_from is not None or self._unwritten_from <= self.last_index
        )

    @property
    def is_base_durable(self) -> bool:
        """Whether the log on disk, too, goes on behind the base, or has what is before it."""
        oldest = self._queued[0][0] if self._queued else None
        return not self._new_base and (oldest is None or oldest > self._base_mark)

    def hand_over(self, mark: Mark, *, tick: int) -> Write:
        """Give what is unwritten to the writer, as *mark*."""
        first = self._unwritten_from
        base = (self.base_index, self._terms.base_term) if self._new_base else None
        write = Write(
            mark, None, self._cut_from, self._entries[first - self._in_memory_from :], base
        )
        if self._new_base:
            self._base_mark = mark
        self._cut_from, self._new_base = None, False
        self._unwritten_from = self.last_index + 1
        self._queued.append((mark, self.last_index, tick))
        return write

    def synced(self, synced: Synced) -> None:
        """Learn that every write up to *synced* is on disk."""
        while self._queued and self._queued[0][0] <= synced:
            self.durable_index = self._queued.popleft()[1]

    def oldest_write(self) -> int | None:
        """The tick at which the oldest unfinished write was handed over."""
        return self._queued[0][2] if self._queued else None
