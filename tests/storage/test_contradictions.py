"""Sound frames that say what no log of ours says: refused by place, or known as newer."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.storage.life import WAL, make_disk, make_entries, open_wal, vote
from tinyraft.core.entry import encode_entries
from tinyraft.errors import CorruptLog, FormatTooNew
from tinyraft.storage.frame import FRAME_BYTES, FrameKind, frame_header
from tinyraft.storage.segment import (
    BASE,
    CUT_FROM,
    HEADER,
    Segment,
    SegmentHeader,
    encode_hard_state,
    header_seed,
)
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import SimDisk

LOG_ID = 0x1122_3344_5566_7788
FIRST = SegmentHeader(LOG_ID, 1, 1, 0)
HARD = FrameKind.HARD_STATE, encode_hard_state(vote(5, "a"))
Frame = tuple[int, bytes]


def entries(first: int, *terms: int) -> Frame:
    """Return a frame of entries from index *first*."""
    made = [make_entries(first + n, 1, term=term)[0] for n, term in enumerate(terms)]
    return FrameKind.ENTRIES, encode_entries(made)


def cut(index: int) -> Frame:
    """Return a frame of a cut."""
    return FrameKind.CUT, CUT_FROM.pack(index)


def base(index: int, term: int) -> Frame:
    """Return a frame of a base."""
    return FrameKind.BASE, BASE.pack(index, term)


def disk_with(*frames: Frame, header: SegmentHeader = FIRST) -> SimDisk:
    """Return a disk with one segment of these frames behind header and hard state (0, nobody)."""
    disk = make_disk()
    if not disk.exists(WAL):
        disk.mkdir(WAL)
    segment = Segment.create(disk, WAL, header=header, hard_state=vote(0), capacity=4096)
    for kind, body in frames:
        segment.add(kind, body)  # type: ignore[arg-type]
    segment.sync()
    return disk


def bare_disk(*frames: Frame, seed: int = FIRST.seed) -> SimDisk:
    """Return a disk with one segment of nothing but these frames."""
    disk = make_disk()
    disk.mkdir(WAL)
    data = b""
    for kind, body in frames:
        this = seed if data else header_seed(1)
        data += frame_header(kind, body, seed=this, offset=len(data), synced=0) + body  # type: ignore[arg-type]
    disk.put(WAL / "0000000000000001.wal", data)
    return disk


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        pytest.param([HARD, entries(2, 1)], "1 must come next", id="first_index_missing"),
        pytest.param([HARD, entries(1, 1), entries(3, 1)], "2 must come next", id="index_jumps"),
        pytest.param([HARD, entries(1, 1, 1), entries(2, 1)], "3 must come next", id="overlap"),
        pytest.param([HARD, (3, b"")], "without entries", id="empty_batch"),
        pytest.param([HARD, entries(1, 1), cut(1), entries(2, 1)], "1 must", id="gap_after_cut"),
        pytest.param([HARD, cut(0)], "a cut at 0", id="cut_at_nothing"),
        pytest.param([HARD, entries(1, 1), cut(3)], "a cut at 3", id="cut_behind_the_end"),
        pytest.param([HARD, (4, b"1234567")], "a cut of 7 bytes", id="short_cut"),
        pytest.param([HARD, entries(1, 2, 1)], "go back", id="term_decreases_in_a_batch"),
        pytest.param([HARD, entries(1, 2), entries(2, 1)], "go back", id="term_decreases"),
        pytest.param([entries(1, 1)], "above the hard state", id="entries_without_hard_state"),
        pytest.param([HARD, entries(1, 6)], "above the hard state", id="entry_above_hard_state"),
        pytest.param([HARD, (2, encode_hard_state(vote(4)))], "goes back", id="hard_state_back"),
        pytest.param([HARD, (2, encode_hard_state(vote(5, "b")))], "votes for", id="two_votes"),
        pytest.param([HARD, (2, encode_hard_state(vote(5)))], "votes for", id="vote_taken_back"),
        pytest.param([(2, b"1234567")], "of 7 bytes", id="short_hard_state"),
        pytest.param([(2, b"\xff" * 8)], "of term", id="impossible_term"),
        pytest.param([(2, bytes(8) + b"\xff")], "utf-8", id="vote_not_utf8"),
        pytest.param([(1, FIRST.encode())], "second header", id="second_header"),
        pytest.param([HARD, base(9, 5), cut(9)], "begins behind 9 of term 5", id="cut_at_a_base"),
        pytest.param([HARD, base(9, 5), base(9, 5)], "a base at 9", id="base_twice"),
        pytest.param([HARD, base(9, 6)], "above the hard state", id="base_above_hard_state"),
        pytest.param([base(9, 1)], "above the hard state", id="base_without_hard_state"),
        pytest.param([HARD, base(9, 0)], "a base of term 0", id="base_without_term"),
        pytest.param([HARD, (5, b"1234567")], "a base of 7 bytes", id="short_base"),
        pytest.param([HARD, base(9, 5), entries(9, 5)], "10 must come next", id="below_a_base"),
        pytest.param([HARD, base(9, 5), entries(10, 4)], "go back", id="term_below_a_base"),
        pytest.param([HARD, (7, b"")], "belongs in a snapshot", id="a_snapshots_frame"),
    ],
)
def test_contradictions_are_refused(frames: list[Frame], why: str) -> None:
    """Promise: recovery believes no checksum more than the rules of the log."""
    disk = disk_with(*frames)
    with pytest.raises(CorruptLog, match=why) as info:
        open_wal(disk)
    assert info.value.offset > 0


def test_a_cut_at_the_end_and_a_repeated_vote_are_legal() -> None:
    """Promise: what changes nothing is not refused."""
    disk = disk_with(HARD, HARD, entries(1, 1, 5), cut(3), entries(3, 5))
    _, recovered = open_wal(disk)
    assert vote(5, "a") == recovered.hard_state
    assert [1, 2, 3] == [entry.index for entry in recovered.entries]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param((10, b""), id="frame_kind"),
        pytest.param((255, b"body"), id="last_frame_kind"),
        pytest.param((3, entries(1, 1)[1][:4] + b"\x09" + entries(1, 1)[1][5:]), id="entry_kind"),
    ],
)
def test_what_a_newer_tinyraft_wrote_is_known_as_such(frame: Frame) -> None:
    """Promise: unknown kinds under right checksums are no damage; the text says what to do."""
    with pytest.raises(FormatTooNew, match="newer tinyraft"):
        open_wal(disk_with(HARD, frame))


def header(
    version: int, *, number: int = 1, log_id: int = LOG_ID, first: int = 1, term: int = 0
) -> Frame:
    """Return the frame of a segment's header."""
    return 1, HEADER.pack(version, log_id, number, first, 0, term)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        pytest.param([], "header of segment 1 can't be read", id="empty_file"),
        pytest.param([HARD], "kind 2, no header", id="hard_state_first"),
        pytest.param([(1, b"123")], "kind 1, no header", id="header_without_version"),
        pytest.param([(1, struct.pack("<I", 1))], "version 1, 4 bytes", id="header_too_short"),
        pytest.param([header(0)], "version 0", id="version_0"),
        pytest.param([header(1, number=2)], "contradicts", id="other_number"),
        pytest.param([header(1, log_id=0)], "contradicts", id="no_log_id"),
        pytest.param([header(1, first=0)], "contradicts", id="no_first_index"),
        pytest.param([header(1)], "hard state can't be read", id="no_hard_state"),
        pytest.param([header(1), cut(1)], "does not start with the hard", id="cut_first"),
        pytest.param([header(1, first=2, term=1), HARD], "entry 2, 1 must", id="starts_at_2"),
        pytest.param([header(1, first=2), HARD], "contradicts", id="entries_without_term"),
        pytest.param([header(1, term=1), HARD], "contradicts", id="term_without_entries"),
    ],
)
def test_heads_of_segments_are_checked(frames: list[Frame], why: str) -> None:
    """Promise: a segment without a sound header and hard state is corrupt, never young."""
    with pytest.raises(CorruptLog, match=why):
        Wal.open(bare_disk(*frames), WAL, segment_bytes=1000)


def test_a_segment_of_a_newer_format_is_left_alone() -> None:
    """Promise: a later version of the format is told apart from damage, and nothing is written."""
    disk = bare_disk((1, struct.pack("<I", 2) + b"anything"))
    before = disk.content(WAL / "0000000000000001.wal")
    with pytest.raises(FormatTooNew, match="format version 2"):
        open_wal(disk)
    assert before == disk.content(WAL / "0000000000000001.wal")


def test_a_successor_that_contradicts_its_predecessor_is_refused() -> None:
    """Promise: the end that a segment tells of the one before must be that one's end, exactly."""
    disk = disk_with(HARD, entries(1, 5))
    end = len(disk.content(WAL / "0000000000000001.wal").rstrip(b"\0"))
    for wrong in (0, end - 1, end + 1, 2**60):
        again = disk.crash(names=lambda total: total)
        head = SegmentHeader(LOG_ID, 2, 2, wrong, 5)
        Segment.create(again, WAL, header=head, hard_state=vote(5, "a"), capacity=4096)
        with pytest.raises(CorruptLog, match=r"follows|hard state") as info:
            open_wal(again)
        assert str(Path(WAL / "0000000000000001.wal")) == info.value.path
    again = disk.crash(names=lambda total: total)
    head = SegmentHeader(LOG_ID, 2, 2, end, 4)
    Segment.create(again, WAL, header=head, hard_state=vote(5, "a"), capacity=4096)
    with pytest.raises(CorruptLog, match="behind term 4, the last entry has term 5"):
        open_wal(again)
    head = SegmentHeader(LOG_ID, 2, 2, end, 5)
    Segment.create(disk, WAL, header=head, hard_state=vote(5, "a"), capacity=4096)
    assert 1 == len(open_wal(disk)[1].entries)


def test_a_frame_knows_its_size() -> None:
    """Promise: 36 bytes a frame, as the description of the format says."""
    assert 36 == FRAME_BYTES
