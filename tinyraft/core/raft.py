"""One member of one cluster: roles × messages (dissertation 3, 4, 6.2, 9.6).

Law: every public method is an event; none blocks; equal events give equal effects. Replies are
returned, requests are pulled by whoever can send them, and all else that is to be done is fetched
with `take` after each event. What vouches for the disk comes out `Held`.

Where to look: whom to vote for and when to campaign, `election`; how a follower judges an append,
`replication`; what only a leader knows, `leadership`; who belongs to the cluster, `configuration`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinyraft.core.candidacy import Candidacy
from tinyraft.core.configuration import (
    Change,
    Configuration,
    History,
    Promote,
    changed,
)
from tinyraft.core.effects import (
    Effects,
    HardState,
    Held,
    InSnapshot,
    InvariantViolated,
    Mark,
    Notice,
    OnDisk,
    Synced,
    Write,
)
from tinyraft.core.election import Random, Timer, is_up_to_date
from tinyraft.core.entry import Entry, EntryKind, Index, NodeId, Term, make_entry
from tinyraft.core.invariants import Watch
from tinyraft.core.leadership import Leadership, Transfer
from tinyraft.core.log import MEMORY_BYTES, Log
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    Reply,
    Request,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
    VoteReply,
)
from tinyraft.core.quorum import has_quorum
from tinyraft.core.replication import accept, behind_base, refusal
from tinyraft.core.role import Role
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.terms import Terms
from tinyraft.core.wakefulness import Wakefulness
from tinyraft.errors import (
    ChangeInProgress,
    ConfigurationChanged,
    MembershipError,
    NotCaughtUp,
    NotLeader,
    Overloaded,
)

STARVED_SPANS = 2  # in a row end an office: one may be a stall of the whole machine
RELUCTANCE = 4  # timeouts that a node whose module failed lets pass before it campaigns
NOBODY: frozenset[NodeId] = frozenset()


@dataclass(slots=True, frozen=True)
class Settings:
    """What the shell decides: times in ticks, bounds on what is not yet committed."""

    election_ticks: int = 25
    heartbeat_ticks: int = 2
    max_pending_commands: int = 10_000
    max_pending_bytes: int = 64 << 20
    memory_bytes: int = MEMORY_BYTES


@dataclass(slots=True)
class Proposed:
    """Where the proposed entries stand: from *first* on, all of *term*."""

    first: Index
    term: Term


class Raft:
    """One member. Not thread-safe: the shell guards it with one lock."""

    def __init__(
        self,
        *,
        me: NodeId,
        settings: Settings,
        hard_state: HardState,
        entries: Sequence[Entry],
        random: Random,
        terms: Terms | None = None,
        configurations: Sequence[Entry] | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Begin as a follower, with what recovery found on disk and synced.

        Args:
            me: This member.
            settings: What the shell decides.
            hard_state: Its term and vote.
            entries: The end of its log.
            random: For election timeouts.
            terms: Those of the whole log, when *entries* are not all of it.
            configurations: The configuration entries of the whole log, likewise.
            snapshot: The newest one on disk. The log reaches back to it, or further.
        """
        self.me = me
        self.settings = settings
        self.role = Role.FOLLOWER
        self.term: Term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.leader_id: NodeId | None = None
        self.commit_index: Index = snapshot.index if snapshot else 0
        self.snapshot_index: Index = self.commit_index
        self.log = Log(entries, terms=terms, memory_bytes=settings.memory_bytes)
        self.history = History()
        if snapshot is not None:
            self.history.begin_with(snapshot.configuration_index, snapshot.configuration)
        for entry in entries if configurations is None else configurations:
            if entry.index > self.history.latest_index:
                self.history.append(entry)
        self.leadership: Leadership | None = None
        self.timer = Timer(election_ticks=settings.election_ticks, random=random)
        self.is_reluctant = False
        self.wakefulness = Wakefulness(election_ticks=settings.election_ticks)
        self._handed_over = False  # by a leader whose successor is not known yet
        # That is committed, or a peer where it is said so.
        self.is_removed = me in self.committed_configuration.removed
        self.is_full = False  # its disk, nearly: it should not lead
        self._gave_way = 0  # when leadership was last offered for that reason, in ticks
        self.ticks = 0
        self.candidacy: Candidacy | None = None
        self._timeout_now: NodeId | None = None
        self._time_us = 0
        self._mark = Mark(0)
        self._hard_state_changed = False
        self._commits = False
        self._commit_moved = False
        self._reconfigured = bool(self.history.latest_index)
        self._notices: list[Notice] = []
        self._watch = Watch(self)

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log, committed or not (4.1)."""
        return self.history.latest

    @property
    def committed_configuration(self) -> Configuration:
        """The latest configuration that is known to be committed."""
        return self.history.at(self.commit_index)[1]

    @property
    def is_voter(self) -> bool:
        """Whether this member may vote for itself."""
        return self.me in self.configuration.voters

    @property
    def awaits_successor(self) -> bool:
        """Whether leadership is, or was just, handed over, and who leads is open."""
        if self.leadership is not None:
            return self.leadership.transfer is not None
        return self._handed_over

    def not_leader(self, why: str) -> NotLeader:
        """Make the error that says who leads instead."""
        return NotLeader(
            f"{self.me} {why}; leader: {self.leader_id or 'unknown'}, term {self.term}",
            leader_id=self.leader_id or "",
            leader_address=self.configuration.address_of(self.leader_id),
            term=self.term,
        )

    # --- time -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick pass. A late wake-up is one tick, however late."""
        self.ticks += 1
        if self.wakefulness.tick() and self.wakefulness.starved_spans == 1:
            self._note("starved")
        if self.leadership is not None:
            self._tick_leader(self.leadership)
            return
        expired = self.timer.tick()
        if self.candidacy is not None and self.ticks % self.settings.heartbeat_ticks == 0:
            self.candidacy.ask_again()
        if expired and not self._may_campaign() and self.leader_id is not None:
            self._note("leader_lost", leader=self.leader_id)
            self.leader_id = None
        if expired and self._may_campaign() and not self._disk_stalls() and self._dares():
            self._pre_campaign()

    def _may_campaign(self) -> bool:
        return self.is_voter and not self.is_removed

    def overslept(self, ticks: int) -> None:
        """The next tick comes *ticks* late. A follower's timer and lease don't count them.

        A leader makes its heartbeat due that fell into them. If they are an election timeout,
        another may have been elected: a majority has to be heard anew, soon.
        """
        settings = self.settings
        self.wakefulness.overslept(ticks)
        if self.leadership is not None:
            self.leadership.overslept += ticks
            if ticks >= settings.election_ticks:
                soon = self.ticks + 3 * settings.heartbeat_ticks
                self.leadership.doubt(looked_at=soon - settings.election_ticks)

    def _dares(self) -> bool:
        timeouts = RELUCTANCE if self.is_reluctant else 1 if self.wakefulness.starved_spans else 0
        patience = timeouts * self.settings.election_ticks
        return self.timer.elapsed >= self.timer.timeout + patience

    def _tick_leader(self, leadership: Leadership) -> None:
        settings = self.settings
        if self._disk_stalls():
            self._resign(leadership, "its disk does not answer")
            return
        if self.ticks - leadership.looked_at >= settings.election_ticks and (
            not leadership.heard_from_quorum(tick=self.ticks)
        ):
            self._step_down("no majority was heard for an election timeout")
            return
        if leadership.transfer and self.ticks >= leadership.transfer.deadline:
            self._note("transfer_failed", to=leadership.transfer.to)
            leadership.transfer = self._timeout_now = None
        if self.wakefulness.starved_spans >= STARVED_SPANS:
            self._leave_to_the_wakeful(leadership)
        beat_ticks = settings.heartbeat_ticks
        if self.ticks % beat_ticks == 0 or leadership.overslept >= beat_ticks:
            leadership.beat()
            self._promote(leadership)
            self._give_way(leadership)
            self._hand_over_when_ready(leadership)

    def _leave_to_the_wakeful(self, leadership: Leadership) -> None:
        """Hand over, if somebody can take it: without a successor a slow leader is better."""
        if leadership.transfer is None and leadership.best_successor() is not None:
            self._note("resigns", why="it wakes up too seldom")
            self.transfer()

    def _disk_stalls(self) -> bool:
        oldest = self.log.oldest_write()
        return oldest is not None and self.ticks - oldest > self.settings.election_ticks

    # --- messages ---------------------------------------------------------------------------

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

    def unreachable(self, peer: NodeId) -> None:
        """An append to *peer* was not answered: what was in flight is sent again."""
        if self.leadership is not None and peer in self.leadership.progress:
            self.leadership.progress[peer].lost()

    def learn_removed(self, *, by: NodeId | str) -> None:
        """*by*, who has that committed, says that this member was removed: never campaign again.

        A member that is removed gets nothing more of the log, so it may never read it there.
        """
        if not self.is_removed:
            self.is_removed = True
            self._note("removed", by=by)
            if self.candidacy is not None:
                self._follow(self.term, None)

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

    # --- votes ------------------------------------------------------------------------------

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

    # --- appends ----------------------------------------------------------------------------

    def _hear_leader(self, term: Term, sender: NodeId) -> bool:
        """Acknowledge the leader of *term*; tell whether it is the current one."""
        if term < self.term:
            return False
        if term == self.term and self.role is Role.LEADER:
            raise InvariantViolated(f"{self.me} and {sender} both lead term {term}")
        if term > self.term or self.role is not Role.FOLLOWER or self.leader_id != sender:
            self._follow(term, sender)
        self.timer.hear_leader()
        return True

    def _step_append(self, request: AppendEntries, sender: NodeId) -> Held[Reply]:
        if not self._hear_leader(request.term, sender):
            return self._hold(AppendReply(term=self.term, success=False))
        request = behind_base(self.log, request)
        if not self.log.matches(request.prev_index, request.prev_term):
            return self._hold(refusal(self.log, request, term=self.term))
        cut = accept(self.log, request, commit_index=self.commit_index)
        if cut is not None:
            self._note("log_cut", index=cut)
            self._reconfigured |= self.history.cut(cut)
        for entry in request.entries:
            if entry.kind is EntryKind.CONFIGURATION and entry.index > self.history.latest_index:
                self._reconfigured |= self.history.append(entry)
        verified = request.prev_index + len(request.entries)
        self._commit(min(request.commit_index, verified))
        return self._hold(AppendReply(term=self.term, success=True, match_index=verified))

    def _step_heartbeat(self, request: Heartbeat, sender: NodeId) -> Reply:
        if self._hear_leader(request.term, sender):
            self._commit(min(request.commit_index, self.log.last_index))
        return HeartbeatReply(term=self.term, round=request.round, is_full=self.is_full)

    def step_install(self, request: InstallSnapshot, sender: NodeId) -> Held[Reply] | Reply | None:
        """Take note of a piece of the leader's snapshot; None when its bytes are wanted."""
        if not self._hear_leader(request.term, sender):
            return InstallReply(term=self.term)
        if request.index <= self.commit_index:
            return self._hold(InstallReply(self.term, request.size, request.index))
        return None

    def install(self, snapshot: Snapshot, *, term: Term, sender: NodeId) -> Held[Reply] | Reply:
        """Go on from *snapshot*, which came from the leader of *term* and is on this disk (5.3)."""
        if not self._hear_leader(term, sender):
            return InstallReply(term=self.term)
        if snapshot.index > self.commit_index:
            self._note("snapshot_installed", index=snapshot.index, term=snapshot.term)
            if self.log.matches(snapshot.index, snapshot.term):
                self._commit(snapshot.index)  # what follows it here is kept
            else:
                self.log.begin_behind(snapshot.index, snapshot.term)
                self.history.begin_with(snapshot.configuration_index, snapshot.configuration)
                self._reconfigured = True
                self._commit(snapshot.index)
        self.snapshot_index = max(self.snapshot_index, snapshot.index)
        return self._hold(InstallReply(self.term, match_index=snapshot.index))

    def _answer_install(self, reply: InstallReply, sender: NodeId) -> None:
        leadership = self._leadership()
        if reply.term != self.term:
            return
        if reply.match_index > self.log.last_index:
            self._note("impossible_reply", peer=sender, match_index=reply.match_index)
        elif leadership.installed(sender, reply.match_index):
            self._advance(leadership)
            self._hand_over_when_ready(leadership)

    # --- snapshots --------------------------------------------------------------------------

    def snapshot_at(self, index: Index) -> Snapshot | None:
        """Describe a snapshot of what was applied up to *index*; None when there is a newer one.

        After a restart it is there before the module was given it.
        """
        if not self.snapshot_index <= index <= self.commit_index:
            return None
        configuration_index, configuration = self.history.at(index)
        return Snapshot(index, self.log.term_at(index), configuration, configuration_index)

    def snapshot_taken(self, index: Index) -> None:
        """A snapshot up to *index* is on disk and was read back."""
        self.snapshot_index = max(self.snapshot_index, index)

    def compacted(self, index: Index) -> Index:
        """Forget the log up to *index*, or less; snapshots that are on disk took its place (5.1).

        Returns:
            Up to where the log on disk may go: the index that this one goes on behind. 0 as long as
            the disk has not heard of that: what is queued before may still cut the old log.
        """
        index = min(index, self.snapshot_index, self.log.durable_index)
        self.log.compact(index)
        self.history.compact(index)
        return self.log.base_index if self.log.is_base_durable else 0

    def _answer_append(self, reply: AppendReply, sender: NodeId) -> None:
        leadership = self._leadership()
        if reply.term != self.term:
            return
        if reply.match_index > self.log.last_index:
            self._note("impossible_reply", peer=sender, match_index=reply.match_index)
            return
        had_lost_log = leadership.has_lost_log(sender)
        if leadership.answered(sender, reply):
            self._advance(leadership)
            self._hand_over_when_ready(leadership)
        elif leadership.has_lost_log(sender) and not had_lost_log:
            self._note("peer_log_went_back", peer=sender)

    def _answer_heartbeat(self, reply: HeartbeatReply, sender: NodeId) -> None:
        progress = self._leadership().progress.get(sender)
        if progress is not None and reply.term == self.term:
            progress.active = True
            progress.is_full = reply.is_full
            progress.acked_round = max(progress.acked_round, reply.round)

    # --- leading ----------------------------------------------------------------------------

    def propose(self, commands: Sequence[bytes], *, time_us: int) -> Proposed:
        """Append *commands*, all or none.

        Raises:
            NotLeader: Another member leads, or leadership is being handed over.
            Overloaded: Too much is uncommitted already.
        """
        leadership = self._open_leadership_or_refuse()
        pending = self.log.last_index - self.commit_index
        if (
            pending + len(commands) > self.settings.max_pending_commands
            or leadership.uncommitted_bytes >= self.settings.max_pending_bytes
        ):
            raise Overloaded(
                f"{self.me} has {pending} uncommitted commands of"
                f" {leadership.uncommitted_bytes} bytes; try again a little later"
            )
        return self._append(leadership, EntryKind.COMMAND, commands, time_us=time_us)

    def change_members(self, change: Change, *, expect: Index | None = None) -> Proposed | None:
        """Append a configuration that differs by one member (4.1); None when it is so already.

        Raises:
            NotLeader: Another member leads, or leadership is being handed over.
            ChangeInProgress: The last change, or this term's no-op, is not committed yet.
            ConfigurationChanged: The configuration in force is not that of the entry *expect*.
            NotCaughtUp: The learner lacks too much of the log, or is not heard.
            MembershipError: The change makes no sense; the subclass says why.
        """
        leadership = self._open_leadership_or_refuse()
        if max(self.history.latest_index, leadership.noop_index) > self.commit_index:
            raise ChangeInProgress(f"{self.me} waits for an earlier change to be committed")
        if expect not in (None, self.history.latest_index):
            raise ConfigurationChanged(
                f"the configuration is that of entry {self.history.latest_index}, not of entry"
                f" {expect}: look at the members again"
            )
        configuration = changed(self.configuration, change)
        if configuration == self.configuration:
            return None
        within = self.settings.election_ticks
        if isinstance(change, Promote) and not leadership.may_vote(
            change.id, tick=self.ticks, within=within
        ):
            raise NotCaughtUp(f"{change.id} lacks too much of the log or is down; no vote yet")
        self._refuse_to_strand(leadership, configuration)
        self._note("members_change", change=change)
        return self._append(leadership, EntryKind.CONFIGURATION, [configuration.encode()])

    def _refuse_to_strand(self, leadership: Leadership, configuration: Configuration) -> None:
        """Refuse to take a vote away when those who are left could not commit even that (P71)."""
        voters = configuration.voters
        silent = {v for v in voters if v != self.me and not leadership.is_heard(v)}
        if voters < self.configuration.voters and not has_quorum(voters, voters - silent):
            raise MembershipError(
                f"the voters left would be {', '.join(sorted(voters))}, and of these"
                f" {', '.join(sorted(silent))} is silent: nothing could be committed any more."
                " Start it, or remove it first"
            )

    def transfer(self, to: NodeId | None = None) -> NodeId:
        """Hand leadership to *to*, or to the voter who has most of the log (3.10).

        Raises:
            NotLeader: Another member leads.
            MembershipError: Nobody can take it.
        """
        leadership = self._leadership_or_refuse()
        target = to or leadership.best_successor()
        if target is None or target == self.me or target not in self.configuration.voters:
            raise MembershipError(f"leadership can't be handed to {target or 'anybody'}")
        deadline = self.ticks + self.settings.election_ticks
        leadership.transfer, self._timeout_now = Transfer(target, deadline), None
        self._note("transfer_begun", to=target)
        self._hand_over_when_ready(leadership)
        return target

    def become_reluctant(self) -> None:
        """The module failed here: give leadership away, and campaign after everybody else."""
        self.is_reluctant = True
        if self.leadership is not None and self.leadership.best_successor() is not None:
            self.transfer()

    def disk_is_full(self, is_full: bool) -> None:  # it is the event
        """Learn that this disk is nearly full, or has room again."""
        self.is_full = is_full
        self._gave_way = self.ticks - RELUCTANCE * self.settings.election_ticks

    def _give_way(self, leadership: Leadership) -> None:
        """Hand leadership to a voter whose disk has room, when this one's is nearly full.

        After a vain try the present leader stays for a while, so that members can still be changed.
        """
        pause = RELUCTANCE * self.settings.election_ticks
        if not self.is_full or leadership.transfer or self.ticks - self._gave_way < pause:
            return
        successor = leadership.best_successor()
        if successor is not None and leadership.knows_room(successor):
            self._gave_way = self.ticks
            self.transfer(successor)

    def next_append(
        self, peer: NodeId, *, max_bytes: int
    ) -> AppendEntries | OnDisk | InSnapshot | None:
        """Build what *peer* needs next, or None when it needs nothing or has not yet answered.

        What is not in memory is fetched by the caller, who comes back with `append_fetched`.
        """
        if self.leadership is None:
            return None
        return self.leadership.next_append(
            peer, max_bytes=max_bytes, commit_index=self.commit_index
        )

    def append_fetched(self, peer: NodeId, entries: list[Entry]) -> AppendEntries | None:
        """Build an append of *entries*, read from this disk; None when they don't fit any more."""
        if self.leadership is None:
            return None
        return self.leadership.append_fetched(peer, entries, commit_index=self.commit_index)

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

    def _lead(self) -> None:
        self.role = Role.LEADER
        self.leader_id = self.me
        self.candidacy = None
        leadership = Leadership(me=self.me, term=self.term, log=self.log, tick=self.ticks)
        leadership.reconfigure(self.configuration, tick=self.ticks)
        leadership.proposed(self._uncommitted(self.log.last_index))
        self.leadership = leadership
        self.wakefulness.begin()
        for last in self._in_memory(self.log.last_index - 1, self.log.last_index):
            self._time_us = max(self._time_us, last.time_us)
        self._note("became_leader", term=self.term)
        self._append(leadership, EntryKind.NOOP, [b""])
        leadership.beat()

    def _append(
        self,
        leadership: Leadership,
        kind: EntryKind,
        commands: Sequence[bytes],
        *,
        time_us: int = 0,
    ) -> Proposed:
        first, term = self.log.last_index + 1, self.term
        time_us = self._time_us = max(self._time_us, time_us)
        entries = [
            make_entry(index=index, term=term, kind=kind, command=command, time_us=time_us)
            for index, command in enumerate(commands, first)
        ]
        self.log.append(entries)
        leadership.proposed(entries)
        if kind is EntryKind.CONFIGURATION:
            self._reconfigured |= self.history.append(entries[0])
            leadership.reconfigure(self.configuration, tick=self.ticks)
        return Proposed(first, term)

    def _promote(self, leadership: Leadership) -> None:
        if leadership.transfer is not None:
            return  # what is appended now may be more than the successor has
        within = self.settings.election_ticks
        for learner in leadership.learners_caught_up(tick=self.ticks, within=within):
            if max(self.history.latest_index, leadership.noop_index) <= self.commit_index:
                self.change_members(Promote(learner))
                return

    def _advance(self, leadership: Leadership) -> None:
        self._commit(leadership.committable(self.commit_index))
        if not self.is_voter and self.commit_index >= self.history.latest_index:
            self._resign(leadership, "it is a voter no more")

    def _hand_over_when_ready(self, leadership: Leadership) -> None:
        if leadership.transfer is not None and leadership.transfer_is_ready():
            self._timeout_now = leadership.transfer.to

    def _resign(self, leadership: Leadership, why: str) -> None:
        """Leave office for good, and ask the best voter to take it."""
        self._timeout_now = leadership.best_successor()
        self._step_down(why)

    # --- handing over, stepping down --------------------------------------------------------

    def _step_timeout_now(self, request: TimeoutNow, sender: NodeId) -> Reply:
        current = self._hear_leader(request.term, sender)
        if current and self._may_campaign() and not self._disk_stalls():
            self._campaign(by_transfer=True)
        return TimeoutNowReply(term=self.term)

    def _step_down(self, why: str) -> None:
        self._note("stepped_down", term=self.term, why=why)
        self._follow(self.term, None)

    def _follow(self, term: Term, leader: NodeId | None) -> None:
        """Become a follower; the vote is forgotten only when the term grows (pitfall 3)."""
        was = self.role
        if self.leadership is not None:
            self._handed_over = self.leadership.transfer is not None
            self.leadership = None
            self.timer.hear_leader()
        if term > self.term:
            self._set_hard_state(term, None)
        self.role = Role.FOLLOWER
        self.candidacy = None
        if was is not Role.FOLLOWER or leader != self.leader_id:
            self._note("became_follower", term=term, leader=leader)
        self.leader_id = leader
        self._handed_over = self._handed_over and leader is None

    # --- the disk, and everything that is to be done ----------------------------------------

    def synced(self, synced: Synced) -> None:
        """Every write up to *synced* is on disk."""
        self.log.synced(synced)
        self._commits |= self.commit_index > 0
        if self.leadership is not None:
            self._advance(self.leadership)
        elif self.candidacy is not None:
            self.candidacy.synced(synced)
            self._conclude(self.candidacy)

    def committed(self, after: Index, *, max_bytes: int) -> list[Entry] | OnDisk | InSnapshot:
        """Give the applier what follows *after*: committed, and on this very disk."""
        log = self.log
        if after < log.base_index or (not after and self.snapshot_index):
            return InSnapshot()
        to = min(self.commit_index, log.durable_index)
        if after < to and after + 1 < log.in_memory_from:
            return OnDisk(after, min(to, log.in_memory_from - 1))
        return log.between(after, to, max_bytes=max_bytes) if after < to else []

    def take(self) -> Effects:
        """Fetch what is to be done since the last time, and check that no rule is broken."""
        self._watch.look(self)
        write = self._take_write()
        notices, self._notices = tuple(self._notices), []
        configuration = self.configuration if self._reconfigured else None
        commits, self._commits, self._reconfigured = self._commits, False, False
        return Effects(write, self._bulk(), self._control(), commits, configuration, notices)

    def _take_write(self) -> Write | None:
        if not (self._hard_state_changed or self.log.is_unwritten):
            return None
        self._mark = Mark(self._mark + 1)
        write = self.log.hand_over(self._mark, tick=self.ticks)
        if self._hard_state_changed:
            write.hard_state = HardState(self.term, self.voted_for)
            self._hard_state_changed = False
        return write

    def _bulk(self) -> frozenset[NodeId]:
        """Name the peers with something new to send; one that only looked is not rung again."""
        leadership, commit = self.leadership, self.commit_index
        if leadership is None:
            return NOBODY
        news, self._commit_moved = self._commit_moved, False
        return frozenset(
            p
            for p in leadership.progress
            if leadership.has_entries(p) or (news and leadership.has_append(p, commit_index=commit))
        )

    def _control(self) -> frozenset[NodeId]:
        due = set(self.candidacy.due) if self.candidacy is not None else set()
        if self.leadership is not None:
            due |= self.leadership.heartbeats_due
        if self._timeout_now is not None:
            due.add(self._timeout_now)
        return frozenset(due) if due else NOBODY

    def _latest_mark(self) -> Mark:
        """The mark that covers everything decided up to now."""
        if self._hard_state_changed or self.log.is_unwritten:
            return Mark(self._mark + 1)
        return self._mark

    def _hold(self, reply: Reply) -> Held[Reply]:
        return Held(reply, after=self._latest_mark())

    def _set_hard_state(self, term: Term, voted_for: NodeId | None) -> None:
        if term != self.term:
            self._timeout_now = None  # an order to take over holds for the term it was given in
        if (term, voted_for) != (self.term, self.voted_for):
            self.term, self.voted_for = term, voted_for
            self._hard_state_changed = True

    def _commit(self, index: Index) -> None:
        if index <= self.commit_index:
            return
        if self.leadership is not None:
            self.leadership.committed(self._uncommitted(index))
        self.commit_index = index
        self._commits = self._commit_moved = True
        if self.me in self.configuration.removed and self.me in self.history.at(index)[1].removed:
            self.learn_removed(by=self.me)
        self.log.spare_memory(index)

    def _uncommitted(self, to: Index) -> list[Entry]:
        return self._in_memory(self.commit_index, to)

    def _in_memory(self, after: Index, to: Index) -> list[Entry]:
        """Take what of (*after*, *to*] is in memory: all that this life has appended, at least."""
        after = max(after, self.log.in_memory_from - 1)
        return self.log.between(after, to, max_bytes=1 << 62)

    def _leadership(self) -> Leadership:
        assert self.leadership is not None, "only a leader gets here"
        return self.leadership

    def _candidacy(self) -> Candidacy:
        assert self.candidacy is not None, "only a candidate gets here"
        return self.candidacy

    def _leadership_or_refuse(self) -> Leadership:
        if self.leadership is None:
            raise self.not_leader("does not lead")
        return self.leadership

    def _open_leadership_or_refuse(self) -> Leadership:
        leadership = self._leadership_or_refuse()
        if leadership.transfer is not None:
            raise self.not_leader(f"is handing leadership to {leadership.transfer.to}")
        if not self.is_voter:
            raise self.not_leader("is a voter no more and leaves its office")
        return leadership

    def _note(self, name: str, **facts: object) -> None:
        self._notices.append(Notice(name, facts))


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
