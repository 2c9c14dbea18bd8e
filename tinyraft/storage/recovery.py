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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tinyraft.core.effects import HardState, Notice
from tinyraft.core.entry import Entry, EntryKind
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.terms import Terms
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
from tinyraft.storage.places import Places
from tinyraft.storage.replay import NewerFrame, Replay, add_terms
from tinyraft.storage.segment import (
    Segment,
    SegmentHeader,
    read_segment_header,
    refuse,
    segment_name,
    used_bytes,
)

HEADER_READ = 4096  # more than a segment's header needs, in any version so far


@dataclass(slots=True)
class Recovered:
    """What the disk remembers.

    Attributes:
        hard_state: Term and vote.
        entries: The last entries, up to the end, as many as fit in memory; the last always.
        notices: What was found and done on the way.
        terms: The terms of all entries on disk, and where the log begins: at 0, or at an entry that
            the snapshot covers, perhaps long before the snapshot's end.
        configurations: All configuration entries on disk.
        snapshot: The newest; the log has its entry, or begins there.
    """

    hard_state: HardState
    entries: list[Entry]
    notices: tuple[Notice, ...] = ()
    terms: Terms = field(default_factory=Terms)
    configurations: list[Entry] = field(default_factory=list)
    snapshot: Snapshot | None = None

    @classmethod
    def of(cls, hard_state: HardState, entries: list[Entry]) -> Recovered:
        """Return what a log of these *entries*, from index 1 on, remembers."""
        recovered = cls(hard_state, entries)
        if entries:
            add_terms(recovered.terms, entries)
        recovered.configurations = [e for e in entries if e.kind is EntryKind.CONFIGURATION]
        return recovered


def recover(
    disk: Disk,
    directory: Path,
    *,
    numbers: list[int],
    segment_bytes: int,
    snapshot: Snapshot | None,
    damaged: Sequence[Notice] = (),
    memory_bytes: int,
    log_id: int | None = None,
) -> tuple[Segment, Places, Recovered]:
    """Read the segments *numbers* and make the last one ready to be appended to.

    The log may end before *snapshot*, or have another entry in its place; it must be reset then.

    Raises:
        CorruptLog: Something that was synced is damaged or missing.
        FormatTooNew: A newer tinyraft wrote it.
        OSError: The disk failed.
    """
    if numbers[0] > 1 and snapshot is None:
        refuse(
            "the segment is missing, and no snapshot takes its place",
            path=directory / segment_name(numbers[0] - 1),
            offset=-1,
        )
    headers = read_headers(disk, directory, numbers, log_id=log_id)
    known = known_synced(disk, directory, last=headers[-1])
    replay = Replay(memory_bytes=memory_bytes)
    with ExitStack() as undo, no_collections():
        for header, after in pairwise(headers):
            read_sealed(disk, directory, header=header, end=after.previous_end, replay=replay)
        path = directory / segment_name(headers[-1].number)
        file = disk.open(path)
        undo.callback(file.close)
        last = Tail(file, path, headers[-1])
        last.read(replay, known=known)
        first = directory / segment_name(numbers[0])
        check_beginning(replay.terms, snapshot, path=first, damaged=damaged)
        notices = last.repair(size=segment_bytes)
        undo.pop_all()
    assert replay.hard_state is not None, "a segment without hard state was let pass"
    segment = Segment(file, headers[-1], path=path, capacity=segment_bytes, end=last.end)
    replay.places.written(last.end)
    recovered = Recovered(
        replay.hard_state,
        replay.entries,
        notices,
        terms=replay.terms,
        configurations=replay.configurations,
        snapshot=snapshot,
    )
    return segment, replay.places, recovered


def check_beginning(
    terms: Terms, snapshot: Snapshot | None, *, path: Path, damaged: Sequence[Notice]
) -> None:
    """Refuse a log whose beginning no snapshot covers, or another one than this."""
    base = terms.base_index
    index, term = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    if base > index and damaged:
        facts = damaged[-1].facts
        refuse(
            f"the snapshot is damaged ({facts['why']}), and the log does not reach back to the one "
            f"before: it begins behind entry {base}",
            path=Path(str(facts["path"])),
            offset=int(str(facts["offset"])),
        )
    if base > index:
        refuse(
            f"the log begins behind entry {base}, and the newest sound snapshot ends at {index}: "
            "an older segment or a newer snapshot is missing or damaged",
            path=path,
            offset=-1,
        )
    if base == index and terms.base_term not in (0, term):
        refuse(
            f"the log begins behind entry {base} of term {terms.base_term}, which has term {term} "
            "in the snapshot",
            path=path,
            offset=-1,
        )


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
    for expected, number in enumerate(numbers, start=numbers[0]):
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
    try:
        replay.enter(segment)
    except ValueError as error:
        refuse(str(error), path=path, offset=0)
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
        replay.feed(frame.kind, body, offset=frame.offset)
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
