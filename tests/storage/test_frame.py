"""Frames: what was written is read; what is torn, flipped, moved or foreign is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyraft.storage.frame import (
    FRAME_BYTES,
    MAGIC,
    BadFrame,
    FrameKind,
    frame_header,
    place_seed,
    read_frame,
    read_header,
    synced_behind,
)

SEED = place_seed(log_id=7, number=1)
kinds = st.sampled_from(FrameKind)
bodies = st.binary(max_size=200)
offsets = st.integers(0, 300)


def frame(kind: FrameKind, body: bytes, *, offset: int, synced: int = 0, seed: int = SEED) -> bytes:
    """Return a frame behind *offset* bytes of zeros."""
    header = frame_header(kind, body, seed=seed, offset=offset, synced=synced)
    return bytes(offset) + header + body


@given(kind=kinds, body=bodies, offset=offsets, after=bodies, data=st.data())
def test_a_frame_comes_back(
    kind: FrameKind, body: bytes, offset: int, after: bytes, data: st.DataObject
) -> None:
    """Promise: kind, body, place and what was synced are read as they were written."""
    synced = data.draw(st.integers(0, offset))
    read, found = read_frame(
        frame(kind, body, offset=offset, synced=synced) + after, offset, seed=SEED
    )
    assert (kind, body, offset, synced) == (read.kind, found, read.offset, read.synced)
    assert offset + FRAME_BYTES + len(body) == read.end


@given(kind=kinds, body=bodies, offset=offsets, data=st.data())
def test_a_flipped_bit_is_no_frame(
    kind: FrameKind, body: bytes, offset: int, data: st.DataObject
) -> None:
    """Promise: every bit of header and body is covered."""
    whole = bytearray(frame(kind, body, offset=offset))
    bit = data.draw(st.integers(offset * 8, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadFrame):
        read_frame(bytes(whole), offset, seed=SEED)


@given(kind=kinds, body=bodies, data=st.data(), zeros=st.booleans())
def test_a_torn_frame_is_no_frame(
    kind: FrameKind, body: bytes, data: st.DataObject, *, zeros: bool
) -> None:
    """Promise: a frame whose end is missing, or still zeros, does not pass."""
    whole = frame(kind, body, offset=0)
    size = data.draw(st.integers(0, len(whole) - 1))
    torn = whole[:size].ljust(len(whole) if zeros else size, b"\0")
    if torn != whole:  # the body may have ended in zeros
        with pytest.raises(BadFrame):
            read_frame(torn, 0, seed=SEED)


@given(kind=kinds, body=bodies, offset=offsets, moved=offsets)
def test_a_moved_frame_is_no_frame(kind: FrameKind, body: bytes, offset: int, moved: int) -> None:
    """Promise: a frame passes only at its own place."""
    elsewhere = bytes(moved) + frame(kind, body, offset=offset)[offset:]
    if moved != offset:
        with pytest.raises(BadFrame, match=f"for {offset}"):
            read_frame(elsewhere, moved, seed=SEED)


@pytest.mark.parametrize("other", [(8, 1), (7, 2), (1, 7), (0, 1)])
def test_a_frame_of_another_segment_is_no_frame(other: tuple[int, int]) -> None:
    """Promise: the same bytes in another log or another segment do not pass."""
    seed = place_seed(log_id=other[0], number=other[1])
    with pytest.raises(BadFrame, match="wrong for this file"):
        read_frame(frame(FrameKind.CUT, b"12345678", offset=0), 0, seed=seed)


def test_a_body_may_come_in_parts() -> None:
    """Promise: its frame is that of the whole."""
    whole = frame_header(FrameKind.ENTRIES, b"abcdef", seed=SEED, offset=0, synced=0)
    parts = frame_header(FrameKind.ENTRIES, b"ab", b"", b"cdef", seed=SEED, offset=0, synced=0)
    assert whole == parts


def test_zeros_are_no_frame() -> None:
    """Promise: preallocated zeros never look like anything."""
    with pytest.raises(BadFrame, match="no frame starts here"):
        read_frame(bytes(100), 0, seed=SEED)


def test_a_length_is_compared_with_what_is_there() -> None:
    """Promise: a frame that claims more than the file holds is refused by its header alone."""
    header = frame_header(FrameKind.ENTRIES, bytes(1000), seed=SEED, offset=0, synced=0)
    with pytest.raises(BadFrame, match="more than the file holds"):
        read_frame(header + bytes(999), 0, seed=SEED)


def test_impossible_headers_are_refused() -> None:
    """Promise: kind 0, and a frame that was synced before it was written, do not pass."""
    for kind, synced in ((0, 0), (1, 1)):
        header = frame_header(kind, b"", seed=SEED, offset=0, synced=synced)  # type: ignore[arg-type]
        with pytest.raises(BadFrame):
            read_header(header, 0, seed=SEED)


def test_later_headers_tell_what_was_synced() -> None:
    """Promise: the best knowledge counts; bytes that only look like a header count nothing."""
    first = frame(FrameKind.CUT, b"12345678", offset=30, synced=10)
    second = frame(FrameKind.ENTRIES, MAGIC * 3, offset=100, synced=90)
    data = first + bytes(100 - len(first)) + second[100:-1]  # its body is torn; it still knows
    assert 90 == synced_behind(data, 0, seed=SEED)
    assert 10 == synced_behind(data[:100], 0, seed=SEED)
    assert 0 == synced_behind(data, 0, seed=SEED + 1)
    assert 0 == synced_behind(MAGIC * 10, 0, seed=SEED)
