"""The checksum on disk is the same whichever library computes it."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from importlib import reload
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from tinyraft import checksum

WORDS = b"123456789"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Choose anew behind each test."""
    yield
    reload(checksum)


def test_it_is_the_crc_of_everybody() -> None:
    """The known answer, whole and in two halves: old logs stay readable."""
    assert 0xCBF43926 == checksum.crc32(WORDS, 0)
    assert 0xCBF43926 == checksum.crc32(WORDS[4:], checksum.crc32(WORDS[:4], 0))
    long = bytes(range(256)) * 1000
    assert zlib.crc32(long, 7) == checksum.crc32(long, 7)


def test_the_fast_library_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is missing where it is not."""
    package = ModuleType("zlib_ng")
    package.__spec__ = ModuleSpec("zlib_ng", None)
    monkeypatch.setitem(sys.modules, "zlib_ng", package)
    fast = SimpleNamespace(crc32=lambda data, seed: zlib.crc32(data, seed))
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", fast)
    assert fast.crc32 is reload(checksum).crc32
    monkeypatch.setattr(checksum, "find_spec", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert zlib.crc32 is reload(checksum).crc32
