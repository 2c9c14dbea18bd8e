"""The user's side: the state machine that the cluster replicates (dissertation 3.1).

Law: every member calls the same methods with the same arguments in the same order, so `apply` may
depend on nothing but its command and the state that earlier commands made: no clock, no chance,
no environment, no files of this machine. Time and chance that are equal on every member come from
`tinyraft.current_entry`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Module(Protocol):
    """A deterministic state machine. Callbacks run one at a time, under the server's mutex.

    Optional:

    - ``query(request: bytes) -> bytes`` answers `Caller.query`; it reads and must not change
      anything.
    - ``snapshot() -> Iterable[bytes]`` gives the whole state as bytes. Called under the mutex, and
      should be quick (a copy); what it returns is consumed outside, while `apply` goes on, so it
      must not change with the module any more. Without it the log is kept whole, for ever.
    - ``digest() -> bytes`` sums the state up, equal on equal states. Called about once a second, at
      the same entries on every member, under the mutex, and should be quick (kept up to date by
      `apply`); a member that differs from a majority takes itself out. It must not change anything.
    - ``restore(chunks: Iterable[bytes])`` replaces the whole state by what a ``snapshot`` gave, cut
      in other places. Called at a start, and when this node lagged too far behind. A ``restore``
      that raises ends the applying (`ModuleFailed`): half a state is none.
    """

    def apply(self, command: bytes, /) -> bytes | None:
        """Apply one committed *command* and return the answer for whoever sent it.

        Called in log order by one thread. The same commands come again after a restart, from the
        first one or behind the last snapshot, so build the state from nothing but them.

        Raises:
            Rejected: An answer: the command changes nothing and its sender is told why.
            Exception: Any other is an answer too (`ModuleError` to the sender); the log goes on.
                `MemoryError`, `OSError` and what is no `Exception` are this node's own trouble:
                it stops applying (`ModuleFailed`).
        """
        ...
