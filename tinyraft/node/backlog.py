"""How far the module is behind what is committed, and when that is too far (dissertation 6.2).

Law: refuses before anything is appended, so what it refuses is certain to have no effect. What was
taken already is applied, however long that takes: only new commands are turned away.

Between commit and apply nothing else holds anybody back: a log that commits faster than its module
applies would make everybody wait longer and longer, and keep a waiter for each. Commands are
counted by their indexes, so what earlier leaders left counts too; bytes are those that this node
took itself.
"""

from __future__ import annotations

from collections import deque

from tinyraft.core.entry import Index, NodeId
from tinyraft.errors import Overloaded


class Backlog:
    """What this node proposed and its module has not seen. Used under the core's lock only."""

    def __init__(self, me: NodeId, *, max_commands: int, max_bytes: int) -> None:
        """Let that much stand between commit and apply before more is refused."""
        self._me = me
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._batches: deque[tuple[Index, int]] = deque()  # last index and bytes, oldest first
        self.bytes = 0  # of those

    def proposed(self, *, first: Index, count: int, size: int) -> None:
        """Count a batch of *count* commands and *size* bytes from *first* on.

        What was proposed at these places before was cut from the log.
        """
        while self._batches and self._batches[-1][0] >= first:
            self.bytes -= self._batches.pop()[1]
        self._batches.append((first + count - 1, size))
        self.bytes += size

    def applied(self, index: Index) -> None:
        """Count no longer what the module has seen, batch by batch."""
        while self._batches and self._batches[0][0] <= index:
            self.bytes -= self._batches.popleft()[1]

    def refuse_if_long(self, *, committed: Index, applied: Index) -> None:
        """Refuse new commands while the module is too far behind *committed*.

        Raises:
            Overloaded: It is. Nothing was appended.
        """
        self.applied(applied)
        behind = committed - applied
        if behind >= self._max_commands or self.bytes >= self._max_bytes:
            raise Overloaded(
                f"{self._me} takes no commands: the module is {behind} commands and {self.bytes}"
                " bytes behind what is committed; try again a little later, or make apply faster"
            )

    def __len__(self) -> int:
        """Count the batches."""
        return len(self._batches)
