"""Linearizable reads without an entry in the log: the read index (dissertation 6.4).

Law: a read is answered with an index that covers whatever anybody was told before the read began,
and only by a leader that a majority of the voters confirmed after that. Who is answered has still
to wait until its module has seen that index.

Two things have to be known of the moment when a read begins. What was committed: the commit index
of a leader covers that only once an entry of its own term is committed, so until then it is the
place of the no-op, which stands behind all that earlier leaders committed (3.6.2). And that nobody
else led: a majority answers a heartbeat of a round that began later. Who answers it has not voted
for a higher term before that, so nobody was elected in one.

Reads that come while a round is under way for others wait together for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyraft.core.entry import Index


@dataclass(slots=True)
class ReadAnswer:
    """What became of a read: its index, or None when this member lost its leadership."""

    read: object
    index: Index | None


@dataclass(slots=True)
class Read:
    """An open read; *round* is the first that began after it."""

    read: object
    index: Index
    round: int


class Reads:
    """The open reads of one term in office. Neither index nor round falls from one to the next."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        """Begin with none."""
        self._open: list[Read] = []

    def __len__(self) -> int:
        """Count the open ones."""
        return len(self._open)

    def ask(self, read: object, *, index: Index, after_round: int) -> None:
        """Open a read that needs *index*; of the rounds up to *after_round* none counts for it."""
        self._open.append(Read(read, index, after_round + 1))

    def need_round(self, *, begun: int, confirmed: int) -> bool:
        """Tell whether somebody waits for a round that has not begun, and nobody for one that has.

        Args:
            begun: The newest round.
            confirmed: The newest one that a majority has acknowledged.
        """
        first = next((read for read in self._open if read.round > confirmed), None)
        return first is not None and first.round > begun

    def take_ready(self, *, confirmed: int, commit_index: Index) -> list[ReadAnswer]:
        """Close those whose round is *confirmed* and whose index is committed."""
        count = 0
        for read in self._open:
            if read.round > confirmed or read.index > commit_index:
                break
            count += 1
        ready, self._open = self._open[:count], self._open[count:]
        return [ReadAnswer(read.read, read.index) for read in ready]

    def drop(self) -> list[ReadAnswer]:
        """Close all without an index."""
        dropped, self._open = self._open, []
        return [ReadAnswer(read.read, None) for read in dropped]
