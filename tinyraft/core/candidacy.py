"""One election, from asking to the last vote (dissertation 3.4, 3.10, 9.6).

Law: made when the node campaigns, thrown away when it wins or follows somebody, so no vote of one
election can count in another. A real election asks nobody, and does not even count its own vote,
before that vote is synced.
"""

from __future__ import annotations

from tinyraft.core.effects import Mark, Synced
from tinyraft.core.entry import NodeId, Term
from tinyraft.core.log import Log
from tinyraft.core.messages import RequestPreVote, RequestVote
from tinyraft.core.quorum import has_quorum


class Candidacy:
    """A pre-vote (``vote_mark`` is None) or a real election in *term*."""

    def __init__(
        self,
        *,
        me: NodeId,
        term: Term,
        voters: frozenset[NodeId],
        vote_mark: Mark | None = None,
        by_transfer: bool = False,
    ) -> None:
        """Begin to ask *voters*; one's own vote in a pre-vote is there at once."""
        self.term = term
        self.by_transfer = by_transfer
        self.is_real = vote_mark is not None
        self._me = me
        self._voters = voters
        self._vote_mark = vote_mark
        self._granted: set[NodeId] = set() if self.is_real else {me}
        self._refused: set[NodeId] = set()
        self._unasked = set(voters - {me})

    def synced(self, synced: Synced) -> None:
        """Count the own vote, and let others be asked, once it is on disk."""
        if self._vote_mark is not None and self._vote_mark <= synced:
            self._vote_mark = None
            self._granted.add(self._me)

    def count(self, voter: NodeId, *, granted: bool) -> None:
        """Take one answer; the first of each voter stands, however often it comes."""
        if voter not in self._granted and voter not in self._refused:
            (self._granted if granted else self._refused).add(voter)

    @property
    def is_won(self) -> bool:
        """Whether a majority of the voters granted."""
        return has_quorum(self._voters, self._granted)

    @property
    def due(self) -> set[NodeId]:
        """Who is to be asked now."""
        return set() if self._vote_mark is not None else self._unasked

    def ask_again(self) -> None:
        """Make everyone due who has not answered: the question may be lost."""
        self._unasked = set(self._voters - self._granted - self._refused - {self._me})

    def question(self, peer: NodeId, log: Log) -> RequestVote | RequestPreVote | None:
        """Build what *peer* is to be asked, once."""
        if peer not in self.due:
            return None
        self._unasked.discard(peer)
        if self.is_real:
            return RequestVote(self.term, log.last_index, log.last_term, self.by_transfer)
        return RequestPreVote(self.term, log.last_index, log.last_term)
