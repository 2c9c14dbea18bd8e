"""One member of one cluster: roles × messages (dissertation 3, 4, 6.2, 9.6).

Law: every public method is an event; none blocks; equal events give equal effects. Replies are
returned, requests are pulled by whoever can send them, and all else that is to be done is fetched
with `take` after each event. What vouches for the disk comes out `Held`.

Where to look: what every member has, `state`; elections, `voting`; appends and snapshots of the
leader, `following`; being the leader, `leading`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyraft.core.effects import Held, Synced
from tinyraft.core.entry import NodeId
from tinyraft.core.following import Following
from tinyraft.core.leading import Leading, Proposed
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallReply,
    PreVoteReply,
    Reply,
    Request,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
    VoteReply,
)
from tinyraft.core.role import Role
from tinyraft.core.state import Settings
from tinyraft.core.voting import Voting

__all__ = ["ANSWERS", "REQUESTS", "Proposed", "Raft", "Settings"]


class Raft(Voting, Following, Leading):
    """One member. Not thread-safe: the shell guards it with one lock."""

    def tick(self, ticks: int = 1) -> None:
        """Let a tick pass; or several at once, at the last of which something may be due."""
        self.ticks += ticks
        if self.wakefulness.tick(ticks) and self.wakefulness.starved_spans == 1:
            self._note("starved")
        if self.leadership is not None:
            self._tick_leader(self.leadership)
            return
        expired = self.timer.tick(ticks)
        if self.candidacy is not None and self.ticks % self.settings.heartbeat_ticks == 0:
            self.candidacy.ask_again()
        if expired and not self._may_campaign() and self.leader_id is not None:
            self._note("leader_lost", leader=self.leader_id)
            self.leader_id = None
        if expired and self._may_campaign() and not self._disk_stalls() and self._dares():
            self._pre_campaign()

    def ticks_until_due(self) -> int:
        """Tell in how many ticks something is due that time alone brings; at least 1.

        They may pass at once unless the role, the leader or the members change meanwhile. More than
        an interval of heartbeats it never is: that late may be noticed what else takes its time.
        """
        leadership, beat = self.leadership, self.settings.heartbeat_ticks
        if self.log.oldest_write() is not None:
            return 1
        if leadership is not None:
            look = leadership.looked_at + self.settings.election_ticks - self.ticks
            due = 1 if leadership.transfer is not None else min(look, beat - self.ticks % beat)
        elif self.leader_id is not None:
            due = min(beat, self.timer.timeout - self.timer.elapsed)
        else:
            due = 1
        return max(1, due)

    def overslept(self, ticks: int, *, by_module: bool = False) -> None:
        """The next tick comes *ticks* late. A follower's timer and lease don't count them.

        Those that this node's own module computed don't tell that it is short of the processor: the
        module is the same wherever leadership went.

        A leader makes its heartbeat due that fell into them. If they are an election timeout,
        another may have been elected: a majority has to be heard anew, soon.
        """
        settings = self.settings
        if not by_module:
            self.wakefulness.overslept(ticks)
        if self.leadership is not None:
            self.leadership.overslept += ticks
            if ticks >= settings.election_ticks:
                soon = self.ticks + 3 * settings.heartbeat_ticks
                self.leadership.doubt(looked_at=soon - settings.election_ticks)

    def step(self, request: Request, *, sender: NodeId) -> Held[Reply] | Reply:
        """Take a peer's *request*; the reply waits for the disk where it vouches for it."""
        return REQUESTS[type(request)](self, request, sender)

    def answer(self, reply: Reply, *, sender: NodeId) -> None:
        """Take a peer's *reply*. A reply that does not fit the role or the term is dropped."""
        if reply.term > self.term and not (isinstance(reply, PreVoteReply) and reply.granted):
            self._follow(reply.term, None)
            return
        handler = ANSWERS.get((self.role, type(reply)))
        if handler is not None:
            handler(self, reply, sender)

    def next_control(self, peer: NodeId) -> Request | None:
        """Build the vote request, transfer or heartbeat that is due for *peer*."""
        if self._timeout_now == peer:
            self._timeout_now = None
            return TimeoutNow(self.term)
        if self.candidacy is not None:
            return self.candidacy.question(peer, self.log)
        leadership = self.leadership
        if leadership is not None and peer in leadership.heartbeats_due:
            leadership.heartbeats_due.discard(peer)
            progress = leadership.progress.get(peer)
            known = min(self.commit_index, progress.match_index) if progress else 0
            return Heartbeat(self.term, known, leadership.heartbeat_round)
        return None

    def _step_timeout_now(self, request: TimeoutNow, sender: NodeId) -> Reply:
        current = self._hear_leader(request.term, sender)
        if current and self._may_campaign() and not self._disk_stalls():
            self._campaign(by_transfer=True)
        return TimeoutNowReply(term=self.term)

    def synced(self, synced: Synced) -> None:
        """Every write up to *synced* is on disk."""
        self.log.synced(synced)
        if self.leadership is not None:
            self._advance(self.leadership)
        elif self.candidacy is not None:
            self.candidacy.synced(synced)
            self._conclude(self.candidacy)


# Every member answers every request, whatever its role; the handlers tell the roles apart.
REQUESTS: dict[type, Callable[[Raft, Any, NodeId], Held[Reply] | Reply]] = {
    RequestPreVote: Raft._step_pre_vote,
    RequestVote: Raft._step_vote,
    AppendEntries: Raft._step_append,
    Heartbeat: Raft._step_heartbeat,
    TimeoutNow: Raft._step_timeout_now,
}

# An answer counts only in the role that asked. A cell that is not here is dropped, on purpose.
ANSWERS: dict[tuple[Role, type], Callable[[Raft, Any, NodeId], None]] = {
    (Role.PRE_CANDIDATE, PreVoteReply): Raft._answer_pre_vote,
    (Role.CANDIDATE, VoteReply): Raft._answer_vote,
    (Role.LEADER, AppendReply): Raft._answer_append,
    (Role.LEADER, HeartbeatReply): Raft._answer_heartbeat,
    (Role.LEADER, InstallReply): Raft._answer_install,
}
