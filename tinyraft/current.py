"""The module's world: what it may know of time and chance while it applies an entry.

Law: every member finds the same here for the same entry, now and at every later replay: the time is
the leader's, in the entry, and never goes back along the log; chance is a function of the cluster
and the index. Nothing is made before it is asked for.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from hashlib import blake2b
from random import Random

from tinyraft.errors import OutsideApply


class CurrentEntry:
    """The entry that is being applied, and surroundings that are equal on every member.

    Attributes:
        index: Its place in the log. Grows from command to command, not always by one.
        term: Its leader's term.
        time_us: The leader's clock when it took the command, in microseconds since 1970. Never goes
            back: not with another leader, a clock that is set, a restart or a snapshot. Several
            commands may have the same.
    """

    __slots__ = ("_cluster_id", "_random", "_uuids", "index", "term", "time_us")

    def __init__(self, *, index: int, term: int, time_us: int, cluster_id: str) -> None:
        """Describe one entry of a cluster."""
        self.index = index
        self.term = term
        self.time_us = time_us
        self._cluster_id = cluster_id
        self._random: Random | None = None
        self._uuids = 0

    @property
    def time(self) -> float:
        """The same in seconds, in the place of `time.time`."""
        return self.time_us / 1e6

    @property
    def random(self) -> Random:
        """Chance, begun anew for each entry and equal on every member.

        Not for secrets: anyone can compute it. Members of different Python versions agree as far as
        the standard library does: on ``random()``, and not on everything that is made of it.
        """
        if self._random is None:
            self._random = Random(self._seed("random"))
        return self._random

    def uuid(self) -> uuid.UUID:
        """Make an id that no other entry makes, of version 4 by its form; each call another one."""
        self._uuids += 1
        seed = self._seed(f"uuid {self._uuids}")
        return uuid.UUID(bytes=blake2b(seed.encode(), digest_size=16).digest(), version=4)

    def _seed(self, purpose: str) -> str:
        return f"tinyraft {self._cluster_id} {self.index} {purpose}"


class Here(threading.local):
    """What is applied in this thread."""

    entry: Callable[[], CurrentEntry] | None = None


HERE = Here()


class Applying:
    """A block in which this thread applies entries."""

    __slots__ = ("_entry",)

    def __init__(self, entry: Callable[[], CurrentEntry]) -> None:
        """Have *entry* describe the one that is being applied."""
        self._entry = entry

    def __enter__(self) -> None:
        """Begin."""
        HERE.entry = self._entry

    def __exit__(self, *_error: object) -> None:
        """End."""
        HERE.entry = None


def current_entry() -> CurrentEntry:
    """Tell what `Module.apply` is applying: its place, its time, and chance that all members share.

    Does not block. Only in the thread that calls ``apply``, while it does.

    Raises:
        OutsideApply: Called from anywhere else: a query, a snapshot, another thread.

    .. versionadded:: 0.1.0
    """
    entry = HERE.entry
    if entry is None:
        raise OutsideApply(
            "current_entry() has an answer only inside Module.apply, in the thread that called it;"
            " keep in the module's state what a query or a snapshot needs of it"
        )
    return entry()
