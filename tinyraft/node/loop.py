"""A named thread with one owner: it runs a body until told to stop, and its death is never silent.

Law: the only `except BaseException` of the shell stands here, and it ends the node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias

Died: TypeAlias = Callable[[str, BaseException], None]


class Part(Protocol):
    """A component: its halves, and the loop that glues them around one blocking call."""

    def run(self) -> None:
        """Work until stopped."""


class Running(Protocol):
    """A part at work."""

    def join(self, timeout: float, /) -> bool:
        """Wait at most *timeout* seconds for the end; tell whether it came."""


class Loop:
    """A daemon thread that calls *body* once; *body* loops and watches *stopping* itself."""

    def __init__(self, name: str, body: Callable[[], None], *, died: Died) -> None:
        """Prepare a thread; *died* is told when *body* raises."""
        self._body = body
        self._died = died
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds for the end; tell whether it came."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as error:  # noqa: BLE001  # a thread's death must stop the node
            self._died(self._thread.name, error)


class Launch(Protocol):
    """Puts a part to work. The simulator has its own way: there, no part is a thread."""

    def __call__(self, name: str, part: Part, *, died: Died) -> Running:
        """Start *part*; *died* is told when it raises."""


def in_thread(name: str, part: Part, *, died: Died) -> Running:
    """Run *part* in a thread of its own."""
    loop = Loop(name, part.run, died=died)
    loop.start()
    return loop
