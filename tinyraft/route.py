"""What a caller does next: its decisions without its threads (dissertation 6.2, 6.3).

Law: pure; chance is handed in. A hint carries its term, so that an old one never replaces a newer
one and two nodes that point at each other don't keep a caller running in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tinyraft.errors import (
    MaybeApplied,
    ModuleFailed,
    NotLeader,
    Overloaded,
    SessionExpired,
    StorageFull,
    TinyraftError,
)

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.2


@dataclass(slots=True, frozen=True)
class Retry:
    """Send it again.

    Attributes:
        elsewhere: Not to this node.
        at_once: Or after a pause.
        is_in_doubt: The sending before may have been applied: only the number makes it safe.
        in_new_session: The old one is forgotten.
    """

    elsewhere: bool = False
    at_once: bool = True
    is_in_doubt: bool = False
    in_new_session: bool = False


class Route:
    """The addresses, the best hint, and how long to wait when nobody leads."""

    def __init__(self, addresses: Sequence[str], *, random: Random) -> None:
        """Begin with the first of *addresses*."""
        self._addresses = list(addresses)
        self._random = random
        self._at = 0
        self._hint = ""
        self._hint_term = 0
        self._failures = 0
        self._tries = 0

    def next(self) -> str:
        """Choose the address to try: where the leader is said to be, else one after another."""
        if self._hint:
            hint, self._hint = self._hint, ""
            return hint
        address = self._addresses[self._at % len(self._addresses)]
        self._at += 1
        return address

    def hint(self, address: str, *, term: int) -> bool:
        """Learn where the leader of *term* is; tell whether that is worth a try at once."""
        if not address or term < self._hint_term:
            return False
        is_news = term > self._hint_term
        self._hint, self._hint_term = address, term
        return is_news

    def after(
        self, error: TinyraftError, *, is_numbered: bool, is_in_doubt: bool = False
    ) -> Retry | None:
        """Decide what follows from *error*; None leaves it to the program.

        Only what may go better later is sent again. A command without a number is so only when it
        is certain not to have been applied, and one *in doubt* only in its own session.
        """
        if isinstance(error, NotLeader):
            is_news = self.hint(error.leader_address, term=error.term)
            return Retry(elsewhere=True, at_once=is_news)
        if isinstance(error, Overloaded | StorageFull):
            return Retry(at_once=False)
        if not is_numbered:
            return None
        if isinstance(error, SessionExpired):
            return None if is_in_doubt else Retry(in_new_session=True)
        if isinstance(error, ModuleFailed) and is_in_doubt:
            return None  # nobody could take its place meanwhile
        if isinstance(error, MaybeApplied | ModuleFailed):
            return Retry(elsewhere=True, at_once=False, is_in_doubt=True)
        return None

    def greeted(self, node: str, *, leader: str, address: str, term: int) -> bool:
        """Tell whether *node*, which was tried, leads; else learn whom it follows."""
        if leader and leader == node:
            self._tries = self._failures = 0
            return True
        self.hint(address, term=term)
        return False

    def tried(self) -> bool:
        """Count a try in vain; tell whether it ends a round, and it is time for a pause."""
        self._tries += 1
        return self._tries % len(self._addresses) == 0

    def pause(self) -> float:
        """Seconds to wait after a round in vain: growing, and never two callers alike."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(self._failures, 10)))
        self._failures += 1
        return longest * (0.5 + self._random.random() / 2)
