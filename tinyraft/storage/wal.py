"""The write-ahead log: entries and hard state in one stream of frames (dissertation 3.8, 10.2.1).

Law: what `sync` returned for is there after any crash, in order; `write` alone promises nothing.
The first failure of the disk is the last: a sync that failed may have dropped what it should have
written, so nothing is tried again, and every later call raises.
With one exception: a full disk. It is met while the next segment is made, under a name that nothing
depends on, and so the same is tried again later (`NoRoom`). The room is taken ahead of need, when
the present segment is half full; inside a segment there is nothing left to be refused.

One thread writes; the caller sees to that. Any thread may read and compact at the same time. Files
of the directory: segments (`segment`), the place that is known to be synced (`synced`), and while a
segment is made, its temporary file.
"""

from __future__ import annotations

import copy
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

from tinyraft.core.effects import HardState, Mark, Notice, Write
from tinyraft.core.entry import Entry, Index, Term, encode_entries
from tinyraft.core.log import MEMORY_BYTES
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.terms import Terms
from tinyraft.errors import StorageFailed
from tinyraft.storage import synced
from tinyraft.storage.disk import Disk, File, NoRoom, failures, storage_failed
from tinyraft.storage.frame import FRAME_BYTES, FrameKind
from tinyraft.storage.places import Places
from tinyraft.storage.reading import read_entries
from tinyraft.storage.recovery import Recovered, recover
from tinyraft.storage.replay import add_terms
from tinyraft.storage.segment import (
    BASE,
    CUT_FROM,
    TEMPORARY,
    Segment,
    SegmentHeader,
    encode_hard_state,
    encode_head,
    refuse,
    reserve,
    segment_name,
    segment_number,
    temporary_of,
)
from tinyraft.storage.synced import Known, SyncedFile

SEGMENT_BYTES = 64 * 1024 * 1024
ENTRIES_BYTES = 128 * 1024  # of one frame: who reads an entry reads its frame


@dataclass(slots=True)
class Frame:
    """What is to be written, and what holds before it: a new segment begins with that."""

    kind: FrameKind
    body: tuple[bytes, ...]  # in parts
    hard_state: HardState
    last_index: Index
    last_term: Term
    placed: Callable[[int], object]

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(map(len, self.body), FRAME_BYTES)


class Wal:
    """The open log."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        *,
        segment: Segment,
        synced_file: SyncedFile,
        places: Places,
        recovered: Recovered,
        segment_bytes: int,
    ) -> None:
        """Go on behind what was *recovered*; `open` is the way to make one."""
        self._disk = disk
        self._directory = directory
        self._segment = segment
        self._synced_file = synced_file
        self._segment_bytes = segment_bytes
        self._hard_state = recovered.hard_state
        self._terms = copy.deepcopy(recovered.terms)
        self._places = places
        self._compacted = Lock()  # held by whoever removes segments; then the places' own
        self._floor = recovered.snapshot.index if recovered.snapshot else 0  # never cut up to here
        self._frames: deque[Frame] = deque()  # taken, and not yet in a segment
        self._spare: File | None = None  # the next segment's room
        self._is_short = False  # the disk refused that room
        self._failure: str | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        log_id: int | None = None,
        snapshots: Sequence[Snapshot] = (),
        damaged: Sequence[Notice] = (),
        memory_bytes: int = MEMORY_BYTES,
    ) -> tuple[Wal, Recovered]:
        """Open the log in *directory*, or make an empty one.

        Where it does not have the newest snapshot's last entry it is reset to go on behind it: the
        process ended between the snapshot's coming and the write that makes it the base.

        Args:
            disk: Where.
            directory: A directory for the log alone; made when its parent exists.
            segment_bytes: The size of new segments. A larger frame gets a larger segment.
            log_id: The id of the log: random unless given, and then that of an old one must agree.
            snapshots: Those that are on disk, sound and of this node's cluster.
            damaged: What `Snapshots.notices` says: a refusal names these files.
            memory_bytes: How much memory the entries to return may take, from the end of the log.

        Returns:
            The log, and what it remembers. All of it is on disk.

        Raises:
            CorruptLog: Something that was synced is damaged or missing.
            FormatTooNew: A newer tinyraft wrote it.
            StorageFailed: The disk failed, or refuses.
        """
        with failures(directory), ExitStack() as undo:
            snapshot = max(snapshots, key=lambda one: one.index, default=None)
            numbers = prepare(disk, directory, is_new=snapshot is None)
            if numbers:
                segment, places, recovered = recover(
                    disk,
                    directory,
                    numbers=numbers,
                    segment_bytes=segment_bytes,
                    snapshot=snapshot,
                    damaged=damaged,
                    memory_bytes=memory_bytes,
                    log_id=log_id,
                )
            else:
                recovered, places = Recovered(HardState(0, None), []), Places()
                header = SegmentHeader(log_id or secrets.randbits(63) | 1, 1, 1, 0)
                segment = Segment.create(
                    disk,
                    directory,
                    header=header,
                    hard_state=recovered.hard_state,
                    capacity=segment_bytes,
                )
                places.enter(header)
                places.written(segment.end)
            undo.callback(segment.close)
            synced_file = SyncedFile.open(disk, directory)
            undo.callback(synced_file.close)
            synced_file.write(Known(segment.log_id, segment.number, segment.end))
            synced_file.sync()
            disk.sync_dir(directory)
            wal = cls(
                disk,
                directory,
                segment=segment,
                synced_file=synced_file,
                places=places,
                recovered=recovered,
                segment_bytes=segment_bytes,
            )
            undo.callback(lambda: wal._segment.close())  # another one, if the reset has no room
            if snapshot is not None and recovered.terms.at(snapshot.index) != snapshot.term:
                recovered = wal._reset(snapshot, recovered)
            undo.pop_all()
        return wal, recovered

    def write(self, writes: Sequence[Write]) -> None:
        """Append *writes* in order, as one buffer; `sync` makes them durable.

        Raises:
            NoRoom: The disk is full. What could not be written is kept, and comes first in the next
                call: with no *writes* it tries the same again.
            StorageFailed: The disk failed, now or before.
        """
        with self._guard():
            run: list[Entry] = []
            for write in writes:
                if write.hard_state or write.base or write.cut_from is not None:
                    self._add_entries(run)
                    run = []
                if write.hard_state is not None:
                    self._add_hard_state(write.hard_state)
                if write.base is not None:
                    self._add_base(*write.base)
                if write.cut_from is not None:
                    self._add_cut(write.cut_from)
                run += write.entries
            self._add_entries(run)
            self._put_frames()

    def provide(self, *, again: bool) -> bool:
        """Take the room of the next segment if it will soon be needed; tell whether all is well.

        After a refusal the disk is asked once more only if told to (*again*).

        Raises:
            StorageFailed: The disk failed, now or before.
        """
        with self._guard():
            wanted = self._segment.is_half_full and self._spare is None
            if wanted and (again or not self._is_short):
                path = self._directory / segment_name(self._segment.number + 1)
                self._is_short = True
                try:
                    self._spare = reserve(self._disk, path, capacity=self._segment_bytes)
                    self._is_short = bool(self._frames)
                except NoRoom:
                    return False
            return not self._is_short

    def sync(self) -> None:
        """Return once everything written is on disk.

        Raises:
            StorageFailed: The disk failed, now or before. What was written since the last sync may
                or may not be there after a restart.
        """
        with self._guard():
            assert not self._frames, "what could not be written can't be synced"
            if self._segment.synced < self._segment.end:
                self._segment.sync()
                self._note_synced()

    def read(self, after: Index, to: Index, *, max_bytes: int) -> list[Entry]:
        """Read the entries behind *after* up to *to*, as many as fit *max_bytes* but at least one.

        What was written is seen, synced or not; what was cut is not. A cut that is written at the
        same time may or may not be seen, as a whole. Blocks for the disk; any thread may call it.

        Returns:
            Entries that follow each other from ``after + 1`` on; none where that one is not
            written, or compacted away.

        Raises:
            CorruptLog: What was read is damaged.
            StorageFailed: The disk failed. The log is not shut by that.
        """
        spans = self._places.spans(after, to, max_bytes=max_bytes)
        try:
            return read_entries(
                self._disk, self._directory, spans, after=after, to=to, max_bytes=max_bytes
            )
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self.first_index > after + 1:
                return []
            raise storage_failed(error, self._directory, is_fatal=False) from error

    @property
    def first_index(self) -> Index:
        """The lowest index that `read` finds; behind the last one if there is no entry."""
        return self._places.first_index

    def index_before_bytes(self, size: int) -> Index:
        """Find the highest index behind which at least *size* bytes of log lie, to 64 KiB.

        A log that is shorter gives the index before its first entry.
        """
        return self._places.index_before_bytes(size)

    def compact(self, index: Index) -> None:
        """Remove the oldest segments in which nothing above *index* counts; never the last one.

        Any thread may call it, also while others write and read. A snapshot on disk must cover
        *index*, or the log can't be opened again.

        Raises:
            StorageFailed: The disk failed, now or before; the log is whole, and not shut by this.
        """
        with self._compacted, failures(self._directory, is_fatal=False):
            assert not self._closed, "the log is closed"
            if self._failure is not None:
                raise StorageFailed(self._failure)
            self._floor = max(self._floor, index)
            for header in self._places.droppable(index):
                self._places.forget(header.number)
                self._disk.unlink(self._directory / segment_name(header.number))
                # One by one: a file system may keep unlinks in any order, and a gap is refused.
                self._disk.sync_dir(self._directory)
                self._places.drop(header.number)

    def close(self) -> None:
        """Sync everything and close the files. Idempotent.

        Raises:
            StorageFailed: The disk failed, now or before; the files are closed all the same.
        """
        if self._closed:
            return
        with failures(self._directory), ExitStack() as finish:
            finish.callback(setattr, self, "_closed", True)
            finish.callback(self._synced_file.close)
            finish.callback(self._segment.close)
            if self._spare is not None:
                finish.callback(self._spare.close)
            with self._guard():
                self._segment.sync()
                self._note_synced()
                self._synced_file.sync()
                if self._spare is not None:
                    path = self._directory / segment_name(self._segment.number + 1)
                    self._disk.unlink(temporary_of(path))

    def _add_hard_state(self, new: HardState) -> None:
        old = self._hard_state
        assert new.term >= old.term, f"the term goes back from {old} to {new}"
        assert new.term > old.term or old.voted_for in (None, new.voted_for), f"{old}, then {new}"
        self._add(FrameKind.HARD_STATE, (encode_hard_state(new),), lambda _: None)
        self._hard_state = new

    def _add_cut(self, index: Index) -> None:
        assert 0 < index <= self._next_index, f"cut at {index}, the end is {self._next_index}"
        assert index > self._floor, f"cut at {index}, a snapshot covers {self._floor}"
        self._add(FrameKind.CUT, (CUT_FROM.pack(index),), lambda _: self._places.cut(index))
        self._terms.cut(index)

    def _add_base(self, index: Index, term: Term) -> None:
        assert index > self._terms.base_index, f"base {index} after {self._terms.base_index}"
        assert 0 < term <= self._hard_state.term, f"{term} above {self._hard_state}"
        self._add(FrameKind.BASE, (BASE.pack(index, term),), lambda _: self._places.base(index))
        self._terms = Terms(base_index=index, base_term=term)
        self._floor = max(self._floor, index)

    def _add_entries(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        first, last = entries[0], entries[-1]
        assert first.index == self._next_index, f"{first.index} for {self._next_index}"
        assert last.index == first.index + len(entries) - 1, "the indexes jump"
        assert self._terms.last_term <= first.term <= last.term, "the terms go back"
        assert last.term <= self._hard_state.term, f"{last.term} above {self._hard_state}"
        for batch in batches(entries):
            append = partial(self._placed, batch[0].index, len(batch))
            self._add(FrameKind.ENTRIES, encoded(batch), append)
            add_terms(self._terms, batch)

    def _placed(self, first: Index, count: int, offset: int) -> None:
        self._places.append(first, count, offset=offset)

    @property
    def _next_index(self) -> Index:
        return self._terms.last_index + 1

    def _add(
        self, kind: FrameKind, body: tuple[bytes, ...], placed: Callable[[int], object]
    ) -> None:
        """Queue a frame; *placed* is told its place once a segment has it."""
        before = self._terms.last_index, self._terms.last_term
        self._frames.append(Frame(kind, body, self._hard_state, *before, placed))

    def _put_frames(self) -> None:
        """Write what was added; a frame leaves the queue only when a segment has it."""
        while self._frames:
            frame = self._frames[0]
            if not self._segment.fits(frame.size):
                self._roll(frame)
            offset = self._segment.end
            self._segment.add(frame.kind, *frame.body)
            frame.placed(offset)
            self._frames.popleft()
        self._segment.flush()
        self._places.written(self._segment.end)

    def _roll(self, frame: Frame) -> None:
        """Leave the full segment for a new one that holds *frame*, however large that is.

        The old one is synced first: a segment that has a successor is known to be whole.
        """
        old = self._segment
        old.sync()
        header = SegmentHeader(
            old.log_id, old.number + 1, frame.last_index + 1, old.end, frame.last_term
        )
        needed = len(encode_head(header, frame.hard_state)) + frame.size
        self._is_short = True
        spare, self._spare = self._spare, None
        self._segment = Segment.create(
            self._disk,
            self._directory,
            header=header,
            hard_state=frame.hard_state,
            capacity=max(self._segment_bytes, needed),
            spare=spare,
        )
        self._is_short = False
        old.close()
        self._places.enter(header)
        self._note_synced()

    def _reset(self, snapshot: Snapshot, recovered: Recovered) -> Recovered:
        """Let the log go on behind *snapshot*, as the writer would have done a moment later."""
        index, term = snapshot.index, snapshot.term
        hard_state = recovered.hard_state
        if hard_state.term < term:  # the term came with the snapshot, and was not written yet
            hard_state = HardState(term, None)
        self.write([Write(Mark(0), hard_state, None, [], base=(index, term))])
        self.sync()
        self._synced_file.sync()
        facts = {"index": index, "term": term, "last_index": recovered.terms.last_index}
        return replace(
            recovered,
            hard_state=hard_state,
            entries=[],
            notices=(*recovered.notices, Notice("log_reset_to_snapshot", facts)),
            terms=Terms(base_index=index, base_term=term),
            configurations=[],
        )

    def _note_synced(self) -> None:
        segment = self._segment
        self._synced_file.write(Known(segment.log_id, segment.number, segment.synced))

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Let nothing through after the first failure, of whatever kind."""
        assert not self._closed, "the log is closed"
        if self._failure is not None:
            raise StorageFailed(self._failure)
        try:
            yield
        except NoRoom:
            raise
        except OSError as error:
            failed = storage_failed(error, self._segment.path)
            self._failure = f"the log failed before and stays shut: {failed}"
            raise failed from error
        except BaseException as error:
            self._failure = f"the log was interrupted and stays shut: {error!r}"
            raise


def encoded(batch: Sequence[Entry]) -> tuple[bytes, ...]:
    """Encode the entries of a frame: one that is alone, and may be long, is not copied for it."""
    if len(batch) == 1:
        return batch[0].header, batch[0].command
    return (encode_entries(batch),)


def batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Part *entries* into frames of about `ENTRIES_BYTES`, each with one at least."""
    start = size = 0
    for at, entry in enumerate(entries):
        size += len(entry.header) + len(entry.command)
        if size > ENTRIES_BYTES and at > start:
            yield entries[start:at]
            start, size = at, entry.size
    yield entries[start:] if start else entries


def prepare(disk: Disk, directory: Path, *, is_new: bool) -> list[int]:
    """Make the directory where it is missing, tidy it, and return the numbers of its segments."""
    if not disk.exists(directory):
        disk.mkdir(directory)
    disk.sync_dir(directory.parent)
    names = disk.names(directory)
    for name in names:
        if name.endswith(TEMPORARY) and segment_number(name.removesuffix(TEMPORARY)) is not None:
            disk.unlink(directory / name)
    numbers = [number for number in map(segment_number, names) if number is not None]
    if not numbers and (synced.NAME in names or not is_new):
        refuse("every segment is missing", path=directory / segment_name(1), offset=-1)
    return numbers
