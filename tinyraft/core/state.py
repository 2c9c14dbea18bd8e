"""What every member has and does, whatever its role (dissertation figure 3.1).

Law: the only place where term, vote and commit index change, and where what a visit leaves to be
done is put together. It decides nothing about elections, logs or leading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyraft.core.candidacy import Candidacy
from tinyraft.core.configuration import Configuration, History
from tinyraft.core.effects import Effects, HardState, Held, InSnapshot, Mark, Notice, OnDisk, Write
from tinyraft.core.election import Random, Timer
from tinyraft.core.entry import Entry, Index, NodeId, Term
from tinyraft.core.invariants import Watch
from tinyraft.core.leadership import Leadership
from tinyraft.core.log import MEMORY_BYTES, Log
from tinyraft.core.messages import Reply
from tinyraft.core.reads import ReadAnswer
from tinyraft.core.role import Role
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.terms import Terms
from tinyraft.core.wakefulness import Wakefulness
from tinyraft.errors import NotLeader

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


class State:
    """A member's state: what it must not forget, what it knows, and what is to be done."""

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
            entries: The end of its log; the last entry at least, if there is one behind *snapshot*.
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
        self.check: tuple[Index, bytes] = (0, b"")  # for the leader: the shell's, opaque here
        self.ticks = 0
        self.candidacy: Candidacy | None = None
        self._timeout_now: NodeId | None = None
        # No entry of this log has a later time; times never decrease along a log.
        self._time_us = snapshot.time_us if snapshot else 0
        if entries:
            self._time_us = max(self._time_us, entries[-1].time_us)
        self._mark = Mark(0)
        self._hard_state_changed = False
        self._ready: Index = 0  # what the applier may have, at the last look
        self._commit_moved = False
        self._reconfigured = bool(self.history.latest_index)
        self._notices: list[Notice] = []
        self._reads: list[ReadAnswer] = []  # answered
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

    def _disk_stalls(self) -> bool:
        oldest = self.log.oldest_write()
        return oldest is not None and self.ticks - oldest > self.settings.election_ticks

    def learn_removed(self, *, by: NodeId | str) -> None:
        """*by*, who has that committed, says that this member was removed: never campaign again.

        A member that is removed gets nothing more of the log, so it may never read it there.
        """
        if not self.is_removed:
            self.is_removed = True
            self._note("removed", by=by)
            if self.candidacy is not None:
                self._follow(self.term, None)

    def _step_down(self, why: str) -> None:
        self._note("stepped_down", term=self.term, why=why)
        self._follow(self.term, None)

    def _follow(self, term: Term, leader: NodeId | None) -> None:
        """Become a follower; the vote is forgotten only when the term grows (pitfall 3)."""
        was = self.role
        if self.leadership is not None:
            self._handed_over = self.leadership.transfer is not None
            self._reads += self.leadership.reads.drop()
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
        ready, self._reconfigured = min(self.commit_index, self.log.durable_index), False
        commits, self._ready = ready > self._ready, ready
        reads = self._take_reads()
        bulk, control = self._bulk(), self._control()
        return Effects(write, bulk, control, commits, configuration, notices, reads)

    def _take_write(self) -> Write | None:
        if not (self._hard_state_changed or self.log.is_unwritten):
            return None
        self._mark = Mark(self._mark + 1)
        write = self.log.hand_over(self._mark, tick=self.ticks)
        if self._hard_state_changed:
            write.hard_state = HardState(self.term, self.voted_for)
            self._hard_state_changed = False
        return write

    def _take_reads(self) -> list[ReadAnswer]:
        """Whatever happened may have answered some: an acknowledgement, a commit, fewer voters."""
        reads, self._reads = self._reads, []
        if self.leadership is not None:
            reads += self.leadership.answer_reads(commit_index=self.commit_index)
        return reads

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
        self._commit_moved = True
        if self.me in self.configuration.removed and self.me in self.history.at(index)[1].removed:
            self.learn_removed(by=self.me)
        self.log.spare_memory(index)

    def _uncommitted(self, to: Index) -> list[Entry]:
        return self._in_memory(self.commit_index, to)

    def _in_memory(self, after: Index, to: Index) -> list[Entry]:
        """Take what of (*after*, *to*] is in memory: all that this life has appended, at least."""
        after = max(after, self.log.in_memory_from - 1)
        return self.log.between(after, to, max_bytes=1 << 62)

    def _note(self, name: str, **facts: object) -> None:
        self._notices.append(Notice(name, facts))

    def _may_campaign(self) -> bool:
        """Whether it is a voter, or was one before a change that may not be committed (4.2.2).

        It may have the longest log, with that change at its end: then it votes for nobody else,
        and without it nobody can be elected.
        """
        history = self.history
        was_voter = history.latest_index > self.commit_index and self.me in history.previous.voters
        return not self.is_removed and (self.is_voter or was_voter)

    def _lead(self) -> None:
        """Begin to lead: `Leading` knows how."""
        raise NotImplementedError
