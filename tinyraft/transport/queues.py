"""What a queue has at the moment. In the queues of a caller's streams None is the end."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def take_rest(queue: SimpleQueue[T], first: T, *, room: int, size: Callable[[T], int]) -> list[T]:
    """Take what is there behind *first*, till the *room* is used; at the end, only that."""
    taken = [first]
    try:
        while (last := taken[-1]) is not None and (room := room - size(last)) > 0:
            taken.append(queue.get_nowait())
    except Empty:
        pass
    return taken


def take_all(queue: SimpleQueue[T]) -> list[T]:
    """Take everything that is there."""
    taken: list[T] = []
    try:
        while True:
            taken.append(queue.get_nowait())
    except Empty:
        return taken
