"""What clients saw, and whether one order of single steps explains it (Wing and Gong, Lowe).

Law: an operation takes effect at one moment between its call and its answer. One whose outcome is
unknown takes effect at any moment after its call, or never; one that was certainly not applied
never does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Model = Callable[[Any, Any], tuple[Hashable, object]]
"""Given a state and what was asked: the next state and the answer."""


@dataclass(slots=True)
class Operation:
    """One call of one client."""

    client: str
    key: str
    asked: Any
    began: float
    ended: float = float("inf")
    outcome: Literal["applied", "maybe", "not"] = "maybe"
    answer: object = None


def register(state: Hashable, asked: Any) -> tuple[Hashable, object]:
    """Model one register: ``("swap", new)`` answers the old value, ``("get",)`` the present one."""
    if asked[0] == "swap":
        return asked[1], state
    return state, state


def is_linearizable(
    operations: Iterable[Operation], *, model: Model = register, start: Hashable = None
) -> bool:
    """Tell whether some order of *operations*, of one key, explains every answer."""
    calls = sorted((o for o in operations if o.outcome != "not"), key=lambda o: o.began)
    needed = frozenset(n for n, o in enumerate(calls) if o.outcome == "applied")
    done: frozenset[int] = frozenset()
    todo: list[tuple[frozenset[int], Hashable]] = [(done, start)]
    tried: set[tuple[frozenset[int], Hashable]] = set()
    while todo:
        place = todo.pop()
        if place in tried:
            continue
        tried.add(place)
        done, state = place
        if needed <= done:
            return True
        first_end = min(calls[n].ended for n in needed - done)
        for number, call in enumerate(calls):
            if call.began > first_end:
                break
            if number not in done:
                after, answer = model(state, call.asked)
                if call.outcome == "maybe" or answer == call.answer:
                    todo.append((done | {number}, after))
    return False
