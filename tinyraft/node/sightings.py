"""Where members listen that the configuration still knows elsewhere.

Law: kept in memory, never in the log; a hint and no more. Whoever is dialled at a wrong place
refuses, since every message names its recipient, so a false hint costs time and nothing else: a
peer that stays silent where it was seen is looked for where the configuration has it, and so on in
turns. Of two sightings of a process the later one counts, by that process's own clock; what it says
itself counts most.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.entry import NodeId
from tinyraft.core.sighting import Sighting


class Sightings:
    """What is known of members that moved. Thread-safe; its lock is a leaf."""

    def __init__(self, me: NodeId, *, news: Callable[[], object] = lambda: None) -> None:
        """Begin with nothing; *news* is called when there may be some to take."""
        self._me = me
        self._news = news
        self._lock = Lock()  # guards all below; leaf
        self._seen: dict[NodeId, tuple[Sighting, str]] = {}  # and instead of which address
        self._is_news = False

    def take(self, sighting: Sighting, configuration: Configuration, *, first_hand: bool) -> bool:
        """Learn where a member was seen; tell whether it is dialled elsewhere from now on.

        A stranger, another disk than the member's, and what is older than what is known are passed
        over.
        """
        member = configuration.get(sighting.id)
        if member is None or sighting.id == self._me:
            return False
        if member.incarnation not in (0, sighting.incarnation):
            return False
        with self._lock:
            known = self._seen.get(sighting.id)
            if known is not None and not first_hand and sighting.since_us <= known[0].since_us:
                return False
            before = self._address_of(member)
            self._seen[sighting.id] = (sighting, member.address)
            moved = self._address_of(member) != before
            self._is_news |= moved
        if moved:
            self._news()
        return moved

    def doubt(self, node: NodeId) -> None:
        """*node* is silent: look for it where the configuration has it."""
        with self._lock:
            if self._seen.pop(node, None) is not None:
                self._is_news = True
        self._news()

    def take_news(self) -> bool:
        """Tell whether somebody is dialled elsewhere since this was last asked."""
        with self._lock:
            news, self._is_news = self._is_news, False
        return news

    def address_of(self, member: Member) -> str:
        """Tell where *member* is to be dialled."""
        with self._lock:
            return self._address_of(member)

    def _address_of(self, member: Member) -> str:
        seen = self._seen.get(member.id)
        # A configuration that has moved on since knows better.
        return seen[0].address if seen is not None and seen[1] == member.address else member.address

    def known(self, configuration: Configuration) -> list[Sighting]:
        """List what others should know: who is elsewhere than *configuration* says."""
        with self._lock:
            return [
                self._seen[m.id][0]
                for m in configuration.members
                if m.id in self._seen and self._address_of(m) != m.address
            ]
