"""A named thread with one owner: it runs a body until told to stop, and its death is never silent.

Law: the only `except BaseException` of the shell stands here, and it ends the node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Loop:
    """A daemon thread that calls *body* once; *body* loops and watches *stopping* itself."""

    def __init__(
        self,
        name: str,
        body: Callable[[], None],
        *,
        died: Callable[[str, BaseException], None],
    ) -> None:
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
