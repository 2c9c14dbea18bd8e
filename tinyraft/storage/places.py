"""Where in its files the log stands: a place about every 64 KiB, so that entries are found again.

Law: an entry that was cut is never found. Each *span* runs from its place to the next one's, and
its entries count only below the next one's first index; a new span begins behind each cut, each
base and in each segment. Nothing is found before it was written.

Many threads may use it: the writer adds, lanes and the applier plan reads, and old segments are
taken out, each under one short lock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

from tinyraft.core.entry import Index
from tinyraft.storage.segment import SegmentHeader

SPAN_BYTES = 64 * 1024


@dataclass(slots=True)
class Part:
    """One segment, as far as it is written."""

    header: SegmentHeader
    begins: int  # bytes of the log before it
    written: int


@dataclass(slots=True, frozen=True)
class Span:
    """What one read has to look at: entries below *limit* between two places of one segment."""

    header: SegmentHeader
    start: int
    stop: int
    first: Index
    limit: Index


class Places:
    """The places of one log's entries."""

    def __init__(self) -> None:
        """Begin without a segment."""
        self._lock = Lock()  # guards everything below; leaf
        self._parts: dict[int, Part] = {}  # by number, in order
        self._last: Part | None = None
        self._firsts: list[Index] = []  # the first index of each span, ascending
        self._starts: list[tuple[int, int]] = []  # its segment and its offset there, ascending
        self._next: Index = 1
        self._breaks = True  # the next entries begin a span

    # --- what the log does ----------------------------------------------------------------------

    def enter(self, header: SegmentHeader) -> None:
        """Go on in a new segment; the one before was written up to the end that this one names."""
        with self._lock:
            begins = 0
            if self._last is not None:
                self._last.written = header.previous_end
                begins = self._last.begins + header.previous_end
            self._last = self._parts[header.number] = Part(header, begins, 0)
            self._next = header.next_index
            self._breaks = True

    def append(self, first: Index, count: int, *, offset: int) -> None:
        """Note a frame of entries at *offset* of the last segment."""
        with self._lock:
            assert self._last is not None, "entries stand in a segment"
            number = self._last.header.number
            if self._breaks or offset - self._starts[-1][1] >= SPAN_BYTES:
                self._firsts.append(first)
                self._starts.append((number, offset))
                self._breaks = False
            self._next = first + count

    def cut(self, index: Index) -> None:
        """Forget the entries at *index* and above."""
        with self._lock:
            keep = bisect_left(self._firsts, index)
            del self._firsts[keep:], self._starts[keep:]
            self._next = index
            self._breaks = True

    def base(self, index: Index) -> None:
        """Forget all entries: the next is behind *index*."""
        with self._lock:
            self._firsts.clear()
            self._starts.clear()
            self._next = index + 1
            self._breaks = True

    def written(self, offset: int) -> None:
        """The last segment is written up to *offset*."""
        with self._lock:
            assert self._last is not None, "bytes stand in a segment"
            self._last.written = offset

    # --- reading ----------------------------------------------------------------------------------

    def spans(self, after: Index, to: Index, *, max_bytes: int) -> list[Span]:
        """Plan a read behind *after* up to *to*, of one moment: what was cut later is still whole.

        Returns:
            Spans that follow each other, of about *max_bytes*; none if the first entry is gone.
        """
        spans: list[Span] = []
        size = 0
        with self._lock:
            at = bisect_right(self._firsts, after + 1) - 1
            if at < 0:
                return []
            while at < len(self._firsts) and self._firsts[at] <= to and size <= max_bytes:
                spans.append(self._span(at))
                # What lies before the first entry, and a span's last frame, is no measure.
                size += spans[-1].stop - spans[-1].start if len(spans) > 1 else 0
                at += 1
        return spans

    def _span(self, at: int) -> Span:
        number, start = self._starts[at]
        part = self._parts[number]
        stop, limit = part.written, self._next
        if at + 1 < len(self._firsts):
            limit = self._firsts[at + 1]
            if self._starts[at + 1][0] == number:
                stop = min(stop, self._starts[at + 1][1])
        return Span(part.header, start, stop, self._firsts[at], limit)

    # --- shortening -----------------------------------------------------------------------------

    @property
    def first_index(self) -> Index:
        """The lowest index that is found; behind the last one if there is no entry."""
        with self._lock:
            return self._firsts[0] if self._firsts else self._next

    def has(self, number: int) -> bool:
        """Tell whether segment *number* is part of the log."""
        with self._lock:
            return number in self._parts

    def droppable(self, index: Index) -> list[SegmentHeader]:
        """Return the old segments in which nothing above *index* counts, oldest first.

        What a segment holds above the place where the next one goes on was cut in it.
        """
        with self._lock:
            headers = [part.header for part in self._parts.values()]
        droppable: list[SegmentHeader] = []
        for header, after in pairwise(headers):
            if after.next_index - 1 > index:
                break
            droppable.append(header)
        return droppable

    def forget(self, number: int) -> None:
        """Take the oldest segment's entries out, before its file goes."""
        with self._lock:
            keep = bisect_left(self._starts, (number + 1, 0))
            del self._firsts[:keep], self._starts[:keep]

    def drop(self, number: int) -> None:
        """Take the oldest segment itself out, now that its file is gone."""
        with self._lock:
            del self._parts[number]

    def index_before_bytes(self, size: int) -> Index:
        """Find the highest index behind which at least *size* bytes of log lie.

        Without so many bytes it is the one before the first entry.
        """
        with self._lock:
            if not self._firsts or self._last is None:
                return self._next - 1
            end = self._last.begins + self._last.written - size
            at = bisect_right(self._starts, end, key=self._position) - 1
            return self._firsts[max(at, 0)] - 1

    def _position(self, start: tuple[int, int]) -> int:
        number, offset = start
        return self._parts[number].begins + offset
