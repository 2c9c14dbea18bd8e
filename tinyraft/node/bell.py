"""A bell: a flag that one thread waits for and any thread rings.

Law: a leaf. Rung under the core's lock, cleared by the waiter *before* it looks for work, so that a
ring between the look and the wait is never lost.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock


class Bell:
    """A binary semaphore: ringing twice is ringing once. Cheaper than `threading.Event`."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        """Begin silent."""
        self._lock = Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the waiter, now or when it comes."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread rang it meanwhile
                self._lock.release()

    @property
    def is_rung(self) -> bool:
        """Whether somebody rang it and nobody has cleared it."""
        return not self._lock.locked()

    def take(self) -> bool:
        """Clear it without waiting; tell whether it was rung."""
        return self._lock.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be rung, and clear it; False when *timeout* seconds passed."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
