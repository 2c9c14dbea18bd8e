"""Commands that wait while the batch before them is under way (dissertation 10.2.2).

Law: a leaf. While something is uncommitted, what is proposed waits here, and the visit to the core
that commits it takes everything at once: batches grow with the load by themselves. On the project's
reference machine one uncommitted batch at a time gave three to five times the throughput of many.
Whoever puts something in looks afterwards whether a batch is still under way, and whoever ends a
batch says so before it empties the inbox, so nothing is left behind between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from tinyraft.errors import Overloaded
from tinyraft.node.waiters import Waiter


class Inbox:
    """Commands and their waiters, in order. Bounded in both number and bytes."""

    def __init__(self, *, max_commands: int, max_bytes: int) -> None:
        """Take at most that much."""
        self._lock = Lock()  # guards all below; leaf
        self._commands: list[bytes] = []
        self._waiters: list[Waiter] = []
        self._bytes = 0
        self._max_commands = max_commands
        self._max_bytes = max_bytes

    def put(self, commands: Sequence[bytes], waiters: Sequence[Waiter]) -> list[Waiter]:
        """Add *commands* from the first on, as many as there is room for.

        Who sends many at once would else never get in where the bound is lower than that.

        Returns:
            The waiters of those that were not added.

        Raises:
            Overloaded: There is no room at all.
        """
        with self._lock:
            taken = 0
            for command in commands:
                if len(self._commands) >= self._max_commands or self._bytes >= self._max_bytes:
                    break
                self._commands.append(command)
                self._bytes += len(command)
                taken += 1
            self._waiters += waiters[:taken]
        if commands and not taken:
            raise self.overloaded()
        return list(waiters[taken:])

    def overloaded(self) -> Overloaded:
        """Make the error for a command that was not added."""
        return Overloaded(
            f"{len(self._commands)} commands of {self._bytes} bytes wait for the leader's log; try"
            " again a little later"
        )

    def take(self) -> tuple[list[bytes], list[Waiter]]:
        """Take everything."""
        with self._lock:
            commands, self._commands = self._commands, []
            waiters, self._waiters = self._waiters, []
            self._bytes = 0
        return commands, waiters

    def withdraw(self, waiter: Waiter) -> bool:
        """Take *waiter*'s command out again; False when it was proposed already."""
        with self._lock:
            if waiter not in self._waiters:
                return False
            at = self._waiters.index(waiter)
            self._bytes -= len(self._commands.pop(at))
            del self._waiters[at]
        return True

    def __len__(self) -> int:
        """Count the commands."""
        return len(self._commands)
