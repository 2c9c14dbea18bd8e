"""Elections: whom a member votes for, when it campaigns, and what comes of it (3.4, 4.2.3, 9.6).

Law: one vote a term, on disk before it leaves; none while a leader was heard within the minimal
timeout, unless that leader itself asked for the election.
"""

from __future__ import annotations

from tinyraft.core.candidacy import Candidacy
from tinyraft.core.effects import Held
from tinyraft.core.election import is_up_to_date
from tinyraft.core.entry import NodeId, Term
from tinyraft.core.messages import PreVoteReply, Reply, RequestPreVote, RequestVote, VoteReply
from tinyraft.core.role import Role
from tinyraft.core.state import RELUCTANCE, State


class Voting(State):
    """A member as a voter and as a candidate."""

    def _has_lease(self) -> bool:
        """Whether a leader was heard within the minimal timeout (4.2.3)."""
        if self.role is Role.LEADER:
            return True
        return self.leader_id is not None and self.timer.elapsed < self.settings.election_ticks

    def _step_pre_vote(self, request: RequestPreVote, _sender: NodeId) -> Reply:
        free = request.term > self.term or (
            request.term == self.term and self.voted_for is None and self.leader_id is None
        )
        good = is_up_to_date(self.log, last_index=request.last_index, last_term=request.last_term)
        if free and good and not self._has_lease():
            return PreVoteReply(term=request.term, granted=True)
        return PreVoteReply(term=self.term, granted=False)

    def _step_vote(self, request: RequestVote, sender: NodeId) -> Held[Reply]:
        if request.term > self.term and (request.transfer or not self._has_lease()):
            self._follow(request.term, None)
        granted = (
            request.term == self.term
            and self.voted_for in (None, sender)
            and is_up_to_date(self.log, last_index=request.last_index, last_term=request.last_term)
        )
        if granted:
            if self.role is not Role.FOLLOWER:
                self._follow(self.term, None)
            self._set_hard_state(self.term, sender)
            self.timer.grant()
            self._note("voted", candidate=sender, term=self.term)
        return self._hold(VoteReply(term=self.term, granted=granted))

    def _pre_campaign(self) -> None:
        self.role = Role.PRE_CANDIDATE
        self._note("became_pre_candidate", term=self.term)
        self._stand(Candidacy(me=self.me, term=self.term + 1, voters=self.configuration.voters))

    def _campaign(self, *, by_transfer: bool) -> None:
        self.role = Role.CANDIDATE
        self._set_hard_state(self.term + 1, self.me)
        self._note("became_candidate", term=self.term)
        self._stand(
            Candidacy(
                me=self.me,
                term=self.term,
                voters=self.configuration.voters,
                vote_mark=self._latest_mark(),
                by_transfer=by_transfer,
            )
        )

    def _stand(self, candidacy: Candidacy) -> None:
        self.leader_id = None
        self._handed_over = False
        self.candidacy = candidacy
        self.timer.campaign()
        self._conclude(candidacy)

    def _conclude(self, candidacy: Candidacy) -> None:
        if candidacy.is_won and candidacy.is_real:
            self._lead()
        elif candidacy.is_won:
            self._campaign(by_transfer=False)

    def _answer_pre_vote(self, reply: PreVoteReply, sender: NodeId) -> None:
        candidacy = self._candidacy()
        if reply.granted and reply.term != candidacy.term:
            return  # of an earlier election
        candidacy.count(sender, granted=reply.granted)
        self._conclude(candidacy)

    def _answer_vote(self, reply: VoteReply, sender: NodeId) -> None:
        candidacy = self._candidacy()
        if reply.term == candidacy.term:
            candidacy.count(sender, granted=reply.granted)
            self._conclude(candidacy)

    def peer_lost(self, peer: NodeId, *, term: Term) -> None:
        """The leader's process died: don't wait for its silence to last. Only liveness changes."""
        if self.role is Role.FOLLOWER and self.leader_id == peer and self.term == term:
            self._note("leader_lost", leader=peer)
            self.leader_id = None
            self.timer.hurry(turn=self._turn_after(peer))

    def _turn_after(self, leader: NodeId) -> int:
        """How many voters campaign before this one when *leader* is lost; each term others do."""
        heirs = sorted(self.configuration.voters - {leader})
        if self.me not in heirs:
            return len(heirs)
        return (heirs.index(self.me) + self.term) % len(heirs)

    def _dares(self) -> bool:
        timeouts = RELUCTANCE if self.is_reluctant else 1 if self.wakefulness.starved_spans else 0
        patience = timeouts * self.settings.election_ticks
        return self.timer.elapsed >= self.timer.timeout + patience

    def _candidacy(self) -> Candidacy:
        assert self.candidacy is not None, "only a candidate gets here"
        return self.candidacy
