"""The module that the measured nodes replicate: next to nothing, so that the rest is measured.

Law: as a program's own would be, it has snapshots, so a node's log stays as short as by default.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

EVERY = 8  # which commands are timed


class Tally:
    """Counts the commands; notes, when told to, at what time it saw some of them."""

    def __init__(self) -> None:
        """Begin at none."""
        self.count = 0
        self.times: dict[int, float] | None = None

    def apply(self, command: bytes, /) -> None:
        """Take it."""
        del command
        self.count += 1
        if self.times is not None and not self.count % EVERY:
            self.times[self.count] = monotonic()

    def query(self, request: bytes, /) -> bytes:
        """Tell the count."""
        del request
        return b"%d" % self.count

    def snapshot(self) -> Iterable[bytes]:
        """Give all there is."""
        return [b"%d" % self.count]

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Take it back."""
        self.count = int(b"".join(chunks))


class Keeper:
    """The same without snapshots: its log is kept whole."""

    def __init__(self) -> None:
        """Begin at none."""
        self.count = 0

    def apply(self, command: bytes, /) -> None:
        """Take it."""
        del command
        self.count += 1
