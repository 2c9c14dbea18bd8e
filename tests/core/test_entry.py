"""The bytes of an entry: both ways, and everything that must be refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyraft.core.entry import (
    HEADER,
    LIMIT,
    REQUEST_ID,
    SESSION,
    EntryKind,
    MalformedEntry,
    decode_entries,
    encode_entries,
    make_entry,
)

numbers = st.integers(1, LIMIT - 1)
some_entries = st.lists(
    st.builds(
        lambda index, term, kind, command, time_us: make_entry(
            index=index, term=term, kind=kind, command=command, time_us=time_us
        ),
        numbers,
        numbers,
        st.sampled_from(EntryKind),
        st.binary(max_size=50),
        st.integers(0, 2**64 - 1),
    ),
    max_size=5,
)


def raw(*, size=None, kind=1, flags=0, version=0, index=1, term=1, body=b""):
    size = HEADER.size - 4 + len(body) if size is None else size
    return HEADER.pack(size, kind, flags, version, index, term, 0) + body


@given(some_entries)
def test_encoding_comes_back(entries):
    """What is written is read again, byte for byte and in order."""
    data = encode_entries(entries)
    assert entries == decode_entries(data)
    assert data == encode_entries(decode_entries(data))
    assert len(data) == sum(entry.size for entry in entries)


@given(some_entries, st.data())
def test_cut_bytes_are_a_prefix_or_refused(entries, data):
    """Bytes that end early give the entries before them, or an error; never anything else."""
    whole = encode_entries(entries)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        found = decode_entries(cut)
    except MalformedEntry:
        return
    assert found == entries[: len(found)]
    assert cut == encode_entries(found)


@given(st.binary(max_size=200))
def test_any_bytes_are_entries_or_refused(data):
    """Noise is refused with `MalformedEntry`, or is the encoding of what it gives."""
    try:
        entries = decode_entries(data)
    except MalformedEntry:
        return
    assert data == encode_entries(entries)


def test_the_layout_is_what_the_docstring_says():
    """The bytes on disk and wire never change under the same version."""
    entry = make_entry(index=2, term=3, kind=EntryKind.NOOP, command=b"xy", time_us=4)
    assert encode_entries([entry]) == bytes.fromhex(
        "1e000000 02 00 0000 0200000000000000 0300000000000000 0400000000000000 7879"
    )
    assert (entry.time_us, entry.size) == (4, 34)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00", id="one byte"),
        pytest.param(bytes(HEADER.size), id="zeros"),
        pytest.param(raw()[:-1], id="a header cut off"),
        pytest.param(raw(body=b"xyz")[:-1], id="a command cut off"),
        pytest.param(raw(body=b"xyz") + b"\x01", id="a byte left over"),
        pytest.param(raw(size=0), id="a length of nothing"),
        pytest.param(raw(size=HEADER.size - 5), id="a length below the header's"),
        pytest.param(raw(size=2**32 - 1), id="a length of four gigabytes"),
        pytest.param(raw(kind=0), id="kind 0"),
        pytest.param(raw(kind=6), id="a kind of the future"),
        pytest.param(raw(index=0), id="index 0"),
        pytest.param(raw(index=LIMIT), id="an index out of bounds"),
        pytest.param(raw(term=0), id="term 0"),
        pytest.param(raw(term=2**64 - 1), id="a term out of bounds"),
        pytest.param(raw(flags=4), id="an unknown flag"),
        pytest.param(raw(flags=1, body=bytes(SESSION.size - 1)), id="a session cut off"),
        pytest.param(raw(flags=2, body=b"\x01"), id="the length of a request id cut off"),
        pytest.param(raw(flags=2, body=REQUEST_ID.pack(3) + b"ab"), id="a request id cut off"),
        pytest.param(raw(flags=3, body=bytes(SESSION.size)), id="a session and no request id"),
    ],
)
def test_malformed_bytes_are_refused(data):
    """What is not exactly an entry is refused, never skipped and never read half (P43, P121)."""
    with pytest.raises(MalformedEntry):
        decode_entries(data)


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        pytest.param(1, struct.pack("<QQQQ", 1, 2, 3, 4), id="a session"),
        pytest.param(2, REQUEST_ID.pack(3) + b"abc", id="a request id"),
        pytest.param(3, bytes(SESSION.size) + REQUEST_ID.pack(0), id="both"),
    ],
)
def test_options_stand_between_header_and_command(flags, options):
    """The optional parts are kept with the header, and the command is what follows them."""
    data = raw(flags=flags, body=options + b"command")
    (entry,) = decode_entries(data)
    assert entry.command == b"command"
    assert data == encode_entries([entry])
