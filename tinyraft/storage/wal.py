"""The write-ahead log: entries and hard state in one stream of frames (dissertation 3.8, 10.2.1).

Law: what `sync` returned for is there after any crash, in order; `write` alone promises nothing.
The first failure of the disk is the last: a sync that failed may have dropped what it should have
written, so nothing is tried again, and every later call raises.

One thread writes; the caller sees to that. Files of the directory: segments (`segment`), the place
that is known to be synced (`synced`), and while a segment is made, its temporary file.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tinyraft.core.effects import HardState, Write
from tinyraft.core.entry import Entry, Index, encode_entries
from tinyraft.errors import StorageFailed
from tinyraft.storage import synced
from tinyraft.storage.disk import Disk, failures, storage_failed
from tinyraft.storage.frame import FRAME_BYTES, FrameKind
from tinyraft.storage.recovery import Recovered, recover
from tinyraft.storage.segment import (
    CUT_FROM,
    TEMPORARY,
    Segment,
    SegmentHeader,
    encode_hard_state,
    refuse,
    segment_name,
    segment_number,
)
from tinyraft.storage.synced import Known, SyncedFile

SEGMENT_BYTES = 64 * 1024 * 1024


class Wal:
    """The open log."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        *,
        segment: Segment,
        synced_file: SyncedFile,
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
        self._next_index: Index = len(recovered.entries) + 1
        self._last_term = recovered.entries[-1].term if recovered.entries else 0
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
    ) -> tuple[Wal, Recovered]:
        """Open the log in *directory*, or make an empty one.

        Args:
            disk: Where.
            directory: A directory for the log alone; made when its parent exists.
            segment_bytes: The size of new segments. A larger frame gets a larger segment.
            log_id: The id of the log: random unless given, and then that of an old one must agree.

        Returns:
            The log, and what it remembers. All of it is on disk.

        Raises:
            CorruptLog: Something that was synced is damaged or missing.
            FormatTooNew: A newer tinyraft wrote it.
            StorageFailed: The disk failed, or refuses.
        """
        with failures(directory), ExitStack() as undo:
            numbers = prepare(disk, directory)
            if numbers:
                segment, recovered = recover(
                    disk, directory, numbers=numbers, segment_bytes=segment_bytes, log_id=log_id
                )
            else:
                recovered = Recovered(HardState(0, None), [])
                segment = Segment.create(
                    disk,
                    directory,
                    header=SegmentHeader(log_id or secrets.randbits(63) | 1, 1, 1, 0),
                    hard_state=recovered.hard_state,
                    capacity=segment_bytes,
                )
            undo.callback(segment.close)
            synced_file = SyncedFile.open(disk, directory)
            undo.callback(synced_file.close)
            synced_file.write(Known(segment.log_id, segment.number, segment.end))
            synced_file.sync()
            disk.sync_dir(directory)
            undo.pop_all()
        wal = cls(
            disk,
            directory,
            segment=segment,
            synced_file=synced_file,
            recovered=recovered,
            segment_bytes=segment_bytes,
        )
        return wal, recovered

    def write(self, writes: Sequence[Write]) -> None:
        """Append *writes* in order, as one buffer; `sync` makes them durable.

        Raises:
            StorageFailed: The disk failed, now or before.
        """
        with self._guard():
            run: list[Entry] = []
            for write in writes:
                if write.hard_state is not None or write.cut_from is not None:
                    self._add_entries(run)
                    run = []
                if write.hard_state is not None:
                    self._add_hard_state(write.hard_state)
                if write.cut_from is not None:
                    self._add_cut(write.cut_from)
                run += write.entries
            self._add_entries(run)
            self._segment.flush()

    def sync(self) -> None:
        """Return once everything written is on disk.

        Raises:
            StorageFailed: The disk failed, now or before. What was written since the last sync may
                or may not be there after a restart.
        """
        with self._guard():
            if self._segment.synced < self._segment.end:
                self._segment.sync()
                self._note_synced()

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
            with self._guard():
                self._segment.sync()
                self._note_synced()
                self._synced_file.sync()

    def _add_hard_state(self, new: HardState) -> None:
        old = self._hard_state
        assert new.term >= old.term, f"the term goes back from {old} to {new}"
        assert new.term > old.term or old.voted_for in (None, new.voted_for), f"{old}, then {new}"
        self._add(FrameKind.HARD_STATE, encode_hard_state(new))
        self._hard_state = new

    def _add_cut(self, index: Index) -> None:
        assert 0 < index <= self._next_index, f"cut at {index}, the end is {self._next_index}"
        self._add(FrameKind.CUT, CUT_FROM.pack(index))
        self._next_index = index
        self._last_term = 0  # not known any more; recovery has the whole log and looks closer

    def _add_entries(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        first, last = entries[0], entries[-1]
        assert first.index == self._next_index, f"{first.index} for {self._next_index}"
        assert last.index == first.index + len(entries) - 1, "the indexes jump"
        assert self._last_term <= first.term <= last.term, "the terms go back"
        assert last.term <= self._hard_state.term, f"{last.term} above {self._hard_state}"
        self._add(FrameKind.ENTRIES, encode_entries(entries))
        self._next_index = last.index + 1
        self._last_term = last.term

    def _add(self, kind: FrameKind, body: bytes) -> None:
        size = FRAME_BYTES + len(body)
        if not self._segment.fits(size):
            self._roll()
        self._segment.add(kind, body)

    def _roll(self) -> None:
        """Leave the full segment for a new one; a frame that is larger than that grows it.

        The old one is synced first: a segment that has a successor is known to be whole.
        """
        old = self._segment
        old.sync()
        self._segment = Segment.create(
            self._disk,
            self._directory,
            header=SegmentHeader(old.log_id, old.number + 1, self._next_index, old.end),
            hard_state=self._hard_state,
            capacity=self._segment_bytes,
        )
        old.close()
        self._note_synced()

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
        except OSError as error:
            failed = storage_failed(error, self._segment.path)
            self._failure = f"the log failed before and stays shut: {failed}"
            raise failed from error
        except BaseException as error:
            self._failure = f"the log was interrupted and stays shut: {error!r}"
            raise


def prepare(disk: Disk, directory: Path) -> list[int]:
    """Make the directory where it is missing, tidy it, and return the numbers of its segments."""
    if not disk.exists(directory):
        disk.mkdir(directory)
    disk.sync_dir(directory.parent)
    names = disk.names(directory)
    for name in names:
        if name.endswith(TEMPORARY) and segment_number(name.removesuffix(TEMPORARY)) is not None:
            disk.unlink(directory / name)
    numbers = [number for number in map(segment_number, names) if number is not None]
    if not numbers and synced.NAME in names:
        refuse("every segment is missing", path=directory / segment_name(1), offset=-1)
    return numbers
