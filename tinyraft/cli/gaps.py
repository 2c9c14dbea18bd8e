"""How long nobody was answered: at worst, and after each blow.

Law: thread-safe. A blow is over when a word is acknowledged that was begun after it: one that was
under way may still be answered by a leader that is gone by then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock


@dataclass(slots=True, frozen=True)
class Open:
    """A blow that nobody has got over yet; the times are monotonic."""

    kind: str
    began: float
    done: float


class Gaps:
    """Told of every acknowledgement and every blow."""

    def __init__(self, at: float) -> None:
        """Begin to count at the moment *at*."""
        self._lock = Lock()  # guards all below; leaf
        self._last = at
        self._longest = 0.0
        self._open: list[Open] = []
        self._outages: defaultdict[str, list[float]] = defaultdict(list)

    def struck(self, kind: str, *, began: float, done: float) -> None:
        """A node was struck between *began* and *done*."""
        with self._lock:
            self._open.append(Open(kind, began, done))

    def acknowledged(self, *, began: float, ended: float) -> None:
        """A word that was begun then was acknowledged then."""
        with self._lock:
            self._close(ended)
            over = [blow for blow in self._open if blow.done < began]
            for blow in over:
                self._outages[blow.kind].append(ended - blow.began)
                self._open.remove(blow)

    def end(self, at: float) -> None:
        """Nothing more is sent: what nobody got over lasted till the end."""
        with self._lock:
            self._close(at)
            for blow in self._open:
                self._outages[blow.kind].append(at - blow.began)
            self._open.clear()

    def _close(self, at: float) -> None:
        self._longest = max(self._longest, at - self._last)
        self._last = max(self._last, at)

    @property
    def longest(self) -> float:
        """The longest time between two acknowledgements, in seconds."""
        return self._longest

    @property
    def outages(self) -> Mapping[str, list[float]]:
        """For each kind of blow: seconds until a word that was begun after it was acknowledged."""
        return self._outages
