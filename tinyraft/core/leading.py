"""Leading: proposals, changes of members, and leaving the office (dissertation 3.5, 3.10, 4, 6.2).

Law: whatever only a leader knows is in its `Leadership`, which ends with the office. Nothing is
appended while leadership is handed over, nor by a leader that is a voter no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from tinyraft.core.configuration import Change, Configuration, Promote, changed
from tinyraft.core.effects import InSnapshot, OnDisk
from tinyraft.core.entry import PLAIN, Entry, EntryKind, Index, NodeId, Stamp, Term, make_entry
from tinyraft.core.leadership import Leadership, Transfer
from tinyraft.core.messages import AppendEntries, AppendReply, HeartbeatReply, InstallReply
from tinyraft.core.quorum import has_quorum
from tinyraft.core.role import Role
from tinyraft.core.state import RELUCTANCE, State
from tinyraft.errors import (
    ChangeInProgress,
    ConfigurationChanged,
    MembershipError,
    NotCaughtUp,
    Overloaded,
)

STARVED_SPANS = 2  # in a row end an office: one may be a stall of the whole machine


@dataclass(slots=True)
class Proposed:
    """Where the proposed entries stand: from *first* on, all of *term*."""

    first: Index
    term: Term


class Leading(State):
    """A member in office."""

    def propose(
        self, commands: Sequence[bytes], *, time_us: int, stamps: Sequence[Stamp] = ()
    ) -> Proposed:
        """Append *commands*, each with its stamp where there are any, all or none.

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
        return self._append(leadership, EntryKind.COMMAND, commands, time_us=time_us, stamps=stamps)

    def propose_check(self, command: bytes) -> Index:
        """Append a check: where it is applied, members compare what they have; return its index.

        Raises:
            NotLeader: Another member leads, or leadership is being handed over.
        """
        leadership = self._open_leadership_or_refuse()
        return self._append(leadership, EntryKind.DIGEST, [command]).first

    def read(self, read: object) -> None:
        """Begin a linearizable read (6.4); `Effects.reads` gives its index, or says it is lost.

        Raises:
            NotLeader: Another member leads.
        """
        leadership = self._leadership_or_refuse()
        leadership.reads.ask(
            read,
            index=max(self.commit_index, leadership.noop_index),
            after_round=leadership.heartbeat_round,
        )

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
        self._gave_way = self.ticks - RELUCTANCE * self.settings.election_ticks
        if self.leadership is not None:
            self._give_way(self.leadership)

    def disk_is_full(self, is_full: bool) -> None:  # it is the event
        """Learn that this disk is nearly full, or has room again."""
        self.is_full = is_full
        self._gave_way = self.ticks - RELUCTANCE * self.settings.election_ticks

    def _give_way(self, leadership: Leadership) -> None:
        """Hand leadership over when the module failed here; or this disk is nearly full.

        Then to a voter whose disk has room. After a vain try the present leader stays for a while,
        so that members can still be changed.
        """
        pause = RELUCTANCE * self.settings.election_ticks
        needs_to = self.is_full or self.is_reluctant
        if not needs_to or leadership.transfer or self.ticks - self._gave_way < pause:
            return
        successor = leadership.best_successor()
        if successor is not None and (self.is_reluctant or leadership.knows_room(successor)):
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

    def _lead(self) -> None:
        self.role = Role.LEADER
        self.leader_id = self.me
        self.candidacy = None
        leadership = Leadership(me=self.me, term=self.term, log=self.log, tick=self.ticks)
        leadership.reconfigure(self.configuration, tick=self.ticks)
        leadership.proposed(self._uncommitted(self.log.last_index))
        self.leadership = leadership
        self.wakefulness.begin()
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
        stamps: Sequence[Stamp] = (),
    ) -> Proposed:
        first, term = self.log.last_index + 1, self.term
        time_us = self._time_us = max(self._time_us, time_us)
        entries = [
            make_entry(
                index=index, term=term, kind=kind, command=command, time_us=time_us, stamp=stamp
            )
            for index, (command, stamp) in enumerate(
                zip(commands, stamps or repeat(PLAIN), strict=bool(stamps)), first
            )
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
            progress.check = (reply.check_index, reply.check_digest)
            progress.acked_round = max(progress.acked_round, reply.round)

    def _answer_install(self, reply: InstallReply, sender: NodeId) -> None:
        leadership = self._leadership()
        if reply.term != self.term:
            return
        if reply.match_index > self.log.last_index:
            self._note("impossible_reply", peer=sender, match_index=reply.match_index)
        elif leadership.installed(sender, reply.match_index):
            self._advance(leadership)
            self._hand_over_when_ready(leadership)

    def unreachable(self, peer: NodeId) -> None:
        """An append to *peer* was not answered: what was in flight is sent again."""
        if self.leadership is not None and peer in self.leadership.progress:
            self.leadership.progress[peer].lost()

    def _leadership(self) -> Leadership:
        assert self.leadership is not None, "only a leader gets here"
        return self.leadership

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
