"""A member as a value: two that behave alike from now on, under other names too, are equal.

Law: every attribute counts unless it is named here, so that a new one in the core can't be
forgotten. Left out is what the explorer keeps constant (settings, chance, members), the passing of
time, of which it lets pass as much as is needed, and what a member only keeps to look at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum

from tests.core.process import Process
from tinyraft.core.entry import Entry
from tinyraft.core.log import Log

PROCESS = ("name", "disk", "hard", "queue", "held", "raft")
IGNORED = frozenset(
    {
        # constant
        "settings",
        "history",
        "_configuration",
        "_voters",
        "is_reluctant",
        "_time_us",
        # time
        "timer",
        "ticks",
        "looked_at",
        "wakefulness",
        "overslept",
        "active",
        "_heard",
        "_round_start",
        "_round_target",
        # looked at from outside, or empty after `take`, or a bell for who looks anyway
        "_watch",
        "_notices",
        "_commits",
        "_commit_moved",
        "_reconfigured",
        "uncommitted_bytes",
        # for leases, reads and answers to callers only
        "leader_id",
        "_handed_over",
        "acked_round",
    }
)
MARKS = frozenset({"mark", "_mark", "after", "_vote_mark"})
ATTRIBUTES: dict[type, tuple[str, ...]] = {}


def freeze(process: Process, names: Mapping[str, str]) -> tuple[object, ...]:
    """Return *process* as a value that compares, with other *names* for the members."""
    frozen = Freezer(names, process.synced)
    return tuple(frozen.value(getattr(process, name)) for name in PROCESS)


class Freezer:
    """Makes values; marks count from the last sync."""

    def __init__(self, names: Mapping[str, str], synced: int = 0) -> None:
        self._names = names
        self._synced = synced

    def value(self, thing: object) -> object:
        """Freeze anything."""
        if thing is None or isinstance(thing, bool | int | bytes):
            return thing
        if isinstance(thing, str):
            return self._names.get(thing, thing)
        if isinstance(thing, list | tuple | deque):
            return tuple(map(self.value, thing))
        if isinstance(thing, dict):
            return tuple(sorted((self.value(key), self.value(v)) for key, v in thing.items()))
        if isinstance(thing, set | frozenset):
            return tuple(sorted(map(self.value, thing)))
        if isinstance(thing, Entry):
            return thing.index, thing.term, int(thing.kind), thing.command
        if isinstance(thing, Enum):
            return thing.name
        return self.object(thing)

    def object(self, thing: object) -> tuple[object, ...]:
        """Freeze an object with all its attributes."""
        kind = type(thing)
        found: list[object] = [kind.__name__]
        for name in attributes(thing):
            value = getattr(thing, name)
            if name in MARKS and value is not None:
                found.append(value - self._synced)
            elif name == "_queued" and isinstance(thing, Log):
                found.append(tuple((mark - self._synced, last) for mark, last, _ in value))
            elif name == "_log" and isinstance(value, Log):
                continue  # the same that the member has
            else:
                found.append(self.value(value))
        return tuple(found)


def attributes(thing: object) -> tuple[str, ...]:
    """Name the attributes that count."""
    kind = type(thing)
    if kind not in ATTRIBUTES:
        slots = getattr(kind, "__slots__", None)
        every = sorted(vars(thing)) if slots is None else sorted(slots)
        ATTRIBUTES[kind] = tuple(name for name in every if name not in IGNORED)
    return ATTRIBUTES[kind]
