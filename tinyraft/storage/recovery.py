"""Reading the log back: what a crash may have left is told from what was damaged.

Law: everything before the last place that is known to be synced must be sound; what stands behind
it may be torn and is cut. Nothing that was read is vouched for before it is synced: it may only
have been in the page cache, and a failed sync may have left it there for ever, so it is written
again.

Three witnesses say how far a segment was synced: a later segment (all of this one), the file
`synced`, and each frame's header (as far as when it was written). Of the writes behind that place a
crash may keep any, so a sound frame behind a torn one accuses nobody by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tinyraft.core.effects import HardState, Notice
from tinyraft.core.entry import Entry, Index, MalformedEntry, Term, decode_entries
from tinyraft.errors import FormatTooNew
from tinyraft.storage import synced
from tinyraft.storage.disk import Disk, File
from tinyraft.storage.frame import (
    BadFrame,
    FrameHeader,
    FrameKind,
    read_frame,
    synced_behind,
)
from tinyraft.storage.segment import (
    CUT_FROM,
    Segment,
    SegmentHeader,
    decode_hard_state,
    read_segment_header,
    refuse,
    segment_name,
    used_bytes,
)

HEADER_READ = 4096  # more than a segment's header needs, in any version so far


@dataclass(slots=True)
class Recovered:
    """What the disk remembers."""

    hard_state: HardState
    entries: list[Entry]
    notices: tuple[Notice, ...] = ()


class Replay:
    """The state that the frames add up to; refuses what no log of ours says."""

    def __init__(self) -> None:
        """Begin before the first frame."""
        self.hard_state: HardState | None = None
        self.entries: list[Entry] = []

    @property
    def next_index(self) -> Index:
        """The index of the entry that must come next."""
        return len(self.entries) + 1

    @property
    def last_term(self) -> Term:
        """The term of the last entry; 0 without any."""
        return self.entries[-1].term if self.entries else 0

    def feed(self, kind: int, body: bytes) -> None:
        """Take one sound frame.

        Raises:
            ValueError: It contradicts those before.
            NewerFrame: This tinyraft does not know its kind.
        """
        if kind == FrameKind.ENTRIES:
            self._append(body)
        elif kind == FrameKind.HARD_STATE:
            self._set_hard_state(decode_hard_state(body))
        elif kind == FrameKind.CUT:
            self._cut(body)
        elif kind == FrameKind.SEGMENT_HEADER:
            raise ValueError("a second header in one segment")
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
        del self.entries[index - 1 :]

    def _append(self, body: bytes) -> None:
        try:
            batch = decode_entries(body)
        except MalformedEntry as error:
            raise NewerFrame(str(error)) from error
        first = self.next_index
        if not batch or [entry.index for entry in batch] != list(range(first, first + len(batch))):
            found = f"from {batch[0].index}" if batch else "without entries"
            raise ValueError(f"a batch {found} where {first} must come next")
        terms = [self.last_term, *[entry.term for entry in batch]]
        if terms != sorted(terms):
            raise ValueError(f"the terms of the entries from {first} go back")
        if self.hard_state is None or terms[-1] > self.hard_state.term:
            raise ValueError(f"an entry of term {terms[-1]} above the hard state's")
        self.entries += batch


class NewerFrame(ValueError):
    """Sound bytes that this tinyraft does not understand: a newer one wrote them."""


def recover(
    disk: Disk,
    directory: Path,
    *,
    numbers: list[int],
    segment_bytes: int,
    log_id: int | None = None,
) -> tuple[Segment, Recovered]:
    """Read the segments *numbers* and make the last one ready to be appended to.

    Raises:
        CorruptLog: Something that was synced is damaged or missing.
        FormatTooNew: A newer tinyraft wrote it.
        OSError: The disk failed.
    """
    headers = read_headers(disk, directory, numbers, log_id=log_id)
    known = known_synced(disk, directory, last=headers[-1])
    replay = Replay()
    with ExitStack() as undo, no_collections():
        for header, after in pairwise(headers):
            read_sealed(disk, directory, header=header, end=after.previous_end, replay=replay)
        path = directory / segment_name(headers[-1].number)
        file = disk.open(path)
        undo.callback(file.close)
        last = Tail(file, path, headers[-1])
        last.read(replay, known=known)
        notices = last.repair(size=segment_bytes)
        undo.pop_all()
    assert replay.hard_state is not None, "a segment without hard state was let pass"
    segment = Segment(file, headers[-1], path=path, capacity=segment_bytes, end=last.end)
    return segment, Recovered(replay.hard_state, replay.entries, notices)


@contextmanager
def no_collections() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    Entries are made by the hundred thousand and none of them is garbage: a million took 3.2 s with
    it, 1.3 s without.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_headers(
    disk: Disk, directory: Path, numbers: list[int], *, log_id: int | None
) -> list[SegmentHeader]:
    """Read the headers of all segments; they must be complete and of one log."""
    headers: list[SegmentHeader] = []
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            refuse("the segment is missing", path=directory / segment_name(expected), offset=-1)
        path = directory / segment_name(number)
        file = disk.open(path)
        try:
            header = read_segment_header(file.pread(HEADER_READ, 0), number=number, path=path)
        finally:
            file.close()
        if log_id is not None and header.log_id != log_id:
            refuse("the segment belongs to another log", path=path, offset=0)
        log_id = header.log_id
        headers.append(header)
    return headers


def known_synced(disk: Disk, directory: Path, *, last: SegmentHeader) -> int:
    """Return how much of the *last* segment the file `synced` vouches for."""
    known = synced.read_known(disk, directory)
    if known is None:
        return 0
    if known.log_id != last.log_id:
        refuse("the file belongs to another log", path=directory / synced.NAME, offset=0)
    if known.number > last.number:
        missing = directory / segment_name(last.number + 1)
        refuse(f"segment {known.number} was synced, this one is missing", path=missing, offset=-1)
    return known.offset if known.number == last.number else 0


def read_sealed(
    disk: Disk, directory: Path, *, header: SegmentHeader, end: int, replay: Replay
) -> None:
    """Replay a segment that has a successor: all of it, up to *end*, must be sound."""
    path = directory / segment_name(header.number)
    file = disk.open(path)
    try:
        data = file.pread(min(end, file.size()), 0)
        file.sync()
    finally:
        file.close()
    stop, _, why = replay_frames(data, header, replay=replay, path=path)
    if stop != end:
        refuse(f"{why}, though segment {header.number + 1} follows", path=path, offset=stop)


def replay_frames(
    data: bytes, segment: SegmentHeader, *, replay: Replay, path: Path
) -> tuple[int, int, str]:
    """Replay frames until one is bad: where, how far the frames know it synced, and why."""
    if segment.next_index != replay.next_index:
        refuse(
            f"the segment goes on with entry {segment.next_index}, {replay.next_index} must come "
            "next",
            path=path,
            offset=0,
        )
    offset = start = segment.size
    seed, synced_to = segment.seed, 0
    while True:
        try:
            frame, body = read_frame(data, offset, seed=seed)
        except BadFrame as bad:
            if offset == start:
                refuse(f"the hard state can't be read ({bad})", path=path, offset=offset)
            return offset, synced_to, str(bad)
        if offset == start and frame.kind != FrameKind.HARD_STATE:
            refuse("the segment does not start with the hard state", path=path, offset=offset)
        feed(replay, frame, body, path=path)
        synced_to = max(synced_to, frame.synced)
        offset = frame.end


def feed(replay: Replay, frame: FrameHeader, body: bytes, *, path: Path) -> None:
    """Replay one sound frame, or refuse it by its place."""
    try:
        replay.feed(frame.kind, body)
    except NewerFrame as error:
        raise FormatTooNew(
            f"{path} at byte {frame.offset}: {error}; its checksums are right, so a newer tinyraft "
            "wrote it: install that one"
        ) from error
    except ValueError as error:
        refuse(str(error), path=path, offset=frame.offset)


class Tail:
    """The last segment while it is read and repaired."""

    def __init__(self, file: File, path: Path, header: SegmentHeader) -> None:
        """Read the whole file."""
        self.end = 0
        self._file = file
        self._path = path
        self._header = header
        self._data = file.pread(file.size(), 0)
        self._synced = 0

    def read(self, replay: Replay, *, known: int) -> None:
        """Replay it up to its end; a bad frame before the last synced place is corruption."""
        end, synced_to, why = replay_frames(
            self._data, self._header, replay=replay, path=self._path
        )
        behind = synced_behind(self._data, end, seed=self._header.seed)
        synced_to = max(known, synced_to, behind)
        if synced_to > end:
            refuse(f"{why}; synced up to {synced_to}", path=self._path, offset=end)
        self.end, self._synced = end, synced_to

    def repair(self, *, size: int) -> tuple[Notice, ...]:
        """Cut what is torn, make the rest durable, and have *size* bytes with zeros at the end."""
        notices: tuple[Notice, ...] = ()
        used = used_bytes(self._data)
        if used > self.end:
            self._file.truncate(self.end)  # what grows back below is zeros
            facts = {"path": str(self._path), "offset": self.end, "bytes": used - self.end}
            notices = (Notice("torn_tail_cut", facts),)
        if self._synced < self.end:
            # After a failed sync the system may hold these bytes as clean without having them on
            # the disk, and a sync alone would do nothing.
            self._file.pwrite(self._data[self._synced : self.end], self._synced)
        self._file.allocate(max(size, self.end))
        self._file.sync()
        return notices
