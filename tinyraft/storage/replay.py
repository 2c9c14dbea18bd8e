"""What the frames of a log add up to, frame by frame (dissertation 3.5, 5.1).

Law: refuses what no log of ours says, whatever its checksums. Keeps the terms of all entries, the
configurations, and of the entries themselves only as many at the end as fit in memory.

An old segment may be gone, and a cut in the oldest one that is left may go below its first entry:
the term there is not known then. That is no gap, because a snapshot covers all of it (who removes
a segment sees to that, and `recover` checks it): the next entry becomes the base.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from tinyraft.core.effects import HardState
from tinyraft.core.entry import (
    OBJECTS_BYTES,
    Entry,
    EntryKind,
    Index,
    MalformedEntry,
    decode_entries,
)
from tinyraft.core.terms import Terms
from tinyraft.storage.frame import FrameKind
from tinyraft.storage.places import Places
from tinyraft.storage.segment import BASE, CUT_FROM, SegmentHeader, decode_hard_state

OUR_KINDS = frozenset(FrameKind)


class NewerFrame(ValueError):
    """Sound bytes that this tinyraft does not understand: a newer one wrote them."""


class Tail:
    """The last entries, as many as fit; the very last one always."""

    def __init__(self, most_bytes: int) -> None:
        """Keep entries that take at most so many bytes of memory."""
        self._most_bytes = most_bytes
        self._batches: deque[tuple[list[Entry], int]] = deque()  # each with its bytes
        self._bytes = 0

    def append(self, batch: list[Entry], size: int) -> None:
        """Put entries behind the others, which take *size* bytes."""
        self._batches.append((batch, size))
        self._bytes += size
        while self._bytes - self._batches[0][1] >= self._most_bytes and len(self._batches) > 1:
            self._bytes -= self._batches.popleft()[1]

    def cut(self, index: Index) -> None:
        """Drop the entries at *index* and above."""
        while self._batches and self._batches[-1][0][-1].index >= index:
            batch, size = self._batches.pop()
            self._bytes -= size
            batch = [entry for entry in batch if entry.index < index]
            if batch:
                self.append(batch, sum(entry.footprint for entry in batch))

    def clear(self) -> None:
        """Drop all of them."""
        self._batches.clear()
        self._bytes = 0

    def entries(self) -> list[Entry]:
        """Return those that fit."""
        entries = [entry for batch, _ in self._batches for entry in batch]
        size, first = self._bytes, 0
        while size > self._most_bytes and first + 1 < len(entries):
            size -= entries[first].footprint
            first += 1
        return entries[first:] if first else entries


class Replay:
    """The state that the frames add up to; refuses what no log of ours says."""

    def __init__(self, *, memory_bytes: int) -> None:
        """Begin before the first segment; keep so many bytes of entries."""
        self.hard_state: HardState | None = None
        self.terms = Terms()
        self.configurations: list[Entry] = []
        self.places = Places()
        self._tail = Tail(memory_bytes)
        self._is_begun = False
        self._is_firm = True  # the base is the log's beginning or a snapshot's: no cut below it
        self._is_lost = False  # the term of the base is not known

    @property
    def entries(self) -> list[Entry]:
        """The last entries, as many as fit."""
        return self._tail.entries()

    @property
    def next_index(self) -> Index:
        """The index of the entry that must come next."""
        return self.terms.last_index + 1

    def enter(self, header: SegmentHeader) -> None:
        """Begin a segment; the first one that is left says where the log begins.

        Raises:
            ValueError: It does not go on where the one before ended.
        """
        last = header.next_index - 1
        if not self._is_begun:
            self._is_begun = True
            self._is_firm = header.number == 1
            if not self._is_firm:
                self.terms = Terms(base_index=last, base_term=header.previous_term)
        if last != self.terms.last_index:
            raise ValueError(
                f"the segment goes on with entry {header.next_index}, {self.next_index} must come "
                "next"
            )
        if self._is_lost:
            self._is_lost = False
            self.terms = Terms(base_index=last, base_term=header.previous_term)
        if header.previous_term != self.terms.last_term:
            raise ValueError(
                f"the segment goes on behind term {header.previous_term}, the last entry has term "
                f"{self.terms.last_term}"
            )
        self.places.enter(header)

    def feed(self, kind: int, body: bytes, *, offset: int) -> None:
        """Take one sound frame, which stands at *offset* of its segment.

        Raises:
            ValueError: It contradicts those before.
            NewerFrame: This tinyraft does not know its kind.
        """
        if kind == FrameKind.ENTRIES:
            self._append(body, offset)
        elif kind == FrameKind.HARD_STATE:
            self._set_hard_state(decode_hard_state(body))
        elif kind == FrameKind.CUT:
            self._cut(body)
        elif kind == FrameKind.BASE:
            self._base(body)
        elif kind == FrameKind.SEGMENT_HEADER:
            raise ValueError("a second header in one segment")
        elif kind in OUR_KINDS:
            raise ValueError(f"a frame of kind {kind}, which belongs in a snapshot")
        else:
            raise NewerFrame(f"a frame of the unknown kind {kind}")

    def _set_hard_state(self, new: HardState) -> None:
        old = self.hard_state
        if old is not None and new.term < old.term:
            raise ValueError(f"the term goes back from {old.term} to {new.term}")
        if old is not None and new.term == old.term and old.voted_for not in (None, new.voted_for):
            raise ValueError(f"term {old.term} has votes for {old.voted_for} and {new.voted_for}")
        self.hard_state = new

    def _cut(self, body: bytes) -> None:
        if len(body) != CUT_FROM.size:
            raise ValueError(f"a cut of {len(body)} bytes")
        (index,) = CUT_FROM.unpack(body)
        if not 0 < index <= self.next_index:
            raise ValueError(f"a cut at {index} in a log that ends before {self.next_index}")
        if index > self.terms.base_index:
            self.terms.cut(index)
        elif self._is_firm:
            raise ValueError(f"a cut at {index} in a log that begins behind {self._begin}")
        else:
            self.terms, self._is_lost = Terms(base_index=index - 1), True
        self._tail.cut(index)
        while self.configurations and self.configurations[-1].index >= index:
            self.configurations.pop()
        self.places.cut(index)

    @property
    def _begin(self) -> str:
        return f"{self.terms.base_index} of term {self.terms.base_term}"

    def _base(self, body: bytes) -> None:
        if len(body) != BASE.size:
            raise ValueError(f"a base of {len(body)} bytes")
        index, term = BASE.unpack(body)
        if index <= self.terms.base_index:
            raise ValueError(f"a base at {index} in a log that begins behind {self._begin}")
        if not term or self.hard_state is None or term > self.hard_state.term:
            raise ValueError(f"a base of term {term} above the hard state's")
        self.terms = Terms(base_index=index, base_term=term)
        self._is_firm, self._is_lost = True, False
        self._tail.clear()
        self.configurations.clear()
        self.places.base(index)

    def _append(self, body: bytes, offset: int) -> None:
        try:
            batch = decode_entries(body)
        except MalformedEntry as error:
            raise NewerFrame(str(error)) from error
        first = self.next_index
        self._check(batch, first)
        self.places.append(first, len(batch), offset=offset)
        size = len(body)
        if self._is_lost:
            self._is_lost = False
            base = batch.pop(0)
            self.terms = Terms(base_index=base.index, base_term=base.term)
            size -= base.size
        if batch:
            self._keep(batch, size)

    def _check(self, batch: list[Entry], first: Index) -> None:
        """Hold a batch against what is before it; a million of them pass here in a start."""
        index, term = first, self.terms.last_term
        for entry in batch:
            if entry.index != index:
                raise ValueError(f"a batch from {batch[0].index} where {first} must come next")
            if entry.term < term:
                raise ValueError(f"the terms of the entries from {first} go back")
            index, term = index + 1, entry.term
        if not batch:
            raise ValueError(f"a batch without entries where {first} must come next")
        if self.hard_state is None or term > self.hard_state.term:
            raise ValueError(f"an entry of term {term} above the hard state's")

    def _keep(self, batch: list[Entry], size: int) -> None:
        add_terms(self.terms, batch)
        for entry in batch:
            if entry.kind is EntryKind.CONFIGURATION:
                self.configurations.append(entry)
        self._tail.append(batch, size + OBJECTS_BYTES * len(batch))


def add_terms(terms: Terms, batch: Sequence[Entry]) -> None:
    """Put the terms of a *batch* behind the others, run by run."""
    if batch[0].term == batch[-1].term:
        terms.append(batch[0].term, len(batch))
        return
    starts = [0, *[at for at, (a, b) in enumerate(pairwise(batch), start=1) if a.term != b.term]]
    for start, stop in pairwise([*starts, len(batch)]):
        terms.append(batch[start].term, stop - start)
