"""The terms of a log, run by run: what is left of an entry that is not in memory (5.1, 3.5).

Law: covers every entry behind the base, which is the last one that a snapshot took the place of;
terms never decrease along a log, so there are as few runs as there were leaders.
"""

from __future__ import annotations

from bisect import bisect_right

from tinyraft.core.entry import Index, Term


class Terms:
    """The term at each index behind ``base_index``."""

    __slots__ = ("_firsts", "_terms", "base_index", "base_term", "last_index")

    def __init__(self, *, base_index: Index = 0, base_term: Term = 0) -> None:
        """Begin without entries, behind the base."""
        self.base_index = base_index
        self.base_term = base_term
        self.last_index = base_index
        self._firsts: list[Index] = []  # where each run begins
        self._terms: list[Term] = []  # and its term

    @property
    def last_term(self) -> Term:
        """The term of the last entry, or of the base."""
        return self._terms[-1] if self._terms else self.base_term

    def at(self, index: Index) -> Term:
        """The term at *index*; 0 before the base and behind the end."""
        if index > self.last_index or index < self.base_index:
            return 0
        run = bisect_right(self._firsts, index) - 1
        return self._terms[run] if run >= 0 else self.base_term

    def append(self, term: Term, count: int = 1) -> None:
        """Put *count* entries of *term* behind the last one."""
        assert term >= self.last_term, "terms never decrease along a log"
        if not self._terms or term != self._terms[-1]:
            self._firsts.append(self.last_index + 1)
            self._terms.append(term)
        self.last_index += count

    def cut(self, index: Index) -> None:
        """Drop everything at *index* and above."""
        assert self.base_index < index <= self.last_index + 1, "a cut stays behind the base"
        while self._firsts and self._firsts[-1] >= index:
            self._firsts.pop()
            self._terms.pop()
        self.last_index = index - 1

    def compact(self, index: Index) -> None:
        """Make *index* the base."""
        assert self.base_index <= index <= self.last_index, "only what is there is compacted"
        self.base_index, self.base_term = index, self.at(index)
        gone = bisect_right(self._firsts, index + 1) - 1
        if index == self.last_index:
            gone = len(self._firsts)
        if gone > 0:
            del self._firsts[:gone], self._terms[:gone]
        if self._firsts:
            self._firsts[0] = max(self._firsts[0], index + 1)

    def last_at_most(self, index: Index, term: Term) -> Index:
        """Find the highest place not above *index* whose term is not above *term* (3.5).

        Never below the base: what is there is committed, so every log has it.
        """
        index = min(index, self.last_index)
        while index > self.base_index and self.at(index) > term:
            index = self._firsts[bisect_right(self._firsts, index) - 1] - 1
        return max(index, self.base_index)
