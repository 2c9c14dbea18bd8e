"""CRC-32, of zlib-ng where that is installed (`tinyraft[fast]`), else of zlib.

Law: equal bytes have equal checksums, whoever computed them: they are on disk, and members compare
them.

The zlib of most systems computes 2 GB/s of it and zlib-ng 30, of 200 bytes in half the time. A node
does it twice with every byte of a command: for its disk, and for the digest of the outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

LIBRARY = "zlib_ng.zlib_ng" if find_spec("zlib_ng") is not None else "zlib"

crc32: Callable[[bytes, int], int] = import_module(LIBRARY).crc32
"""Checksum bytes, going on from that of those before."""
