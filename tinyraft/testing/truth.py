"""What must hold, seen from outside all members (dissertation figure 3.2, 3.6, 6.2).

Law: compares with what is really on the disks, not with what a member believes; looks after every
event, so that the first wrong step is the one that is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tinyraft.core.configuration import Configuration
from tinyraft.core.effects import HardState, Write
from tinyraft.core.entry import Entry, EntryKind, Index, NodeId, Term
from tinyraft.core.messages import (
    AppendReply,
    InstallReply,
    Reply,
    Request,
    RequestVote,
    VoteReply,
)
from tinyraft.core.role import Role
from tinyraft.current import CurrentEntry
from tinyraft.testing.surroundings import Process


class Violation(AssertionError):
    """A rule is broken."""


def hold(condition: bool, what: str) -> None:  # reads as a sentence
    """Insist on *condition*."""
    if not condition:
        raise Violation(what)


class Truth:
    """All that is known to be so, over all lives of all members."""

    def __init__(self, members: Mapping[NodeId, Process], seen: Counter[str]) -> None:
        """Watch *members*."""
        self.committed: list[Entry] = []
        self.commands: list[bytes] = []  # as the modules were given them
        self._applied: set[bytes] = set()
        self.broken: Violation | None = None  # by what a module was given
        self._members = members
        self._seen = seen
        self._leaders: dict[Term, NodeId] = {}
        self._votes: dict[tuple[NodeId, Term], NodeId] = {}
        self._entries: dict[tuple[Index, Term], tuple[bytes, bytes, Term]] = {}
        self._view: dict[NodeId, View] = {}
        self._worlds: dict[bytes, tuple[Index, Term, int, float]] = {}  # commands are unique

    # --- the disk -------------------------------------------------------------------------------

    def persisted(self, member: Process, write: Write) -> None:
        """A write is on disk."""
        state = write.hard_state
        if state is not None:
            hold(state.term >= member.hard_state.term, f"{member.name}: a term fell on disk (I3)")
            self._vote(member.name, state)
            member.hard_state = HardState(state.term, state.voted_for)
        if write.base is not None:
            index, term = write.base
            hold(self._has_committed(index, term), f"{member.name} took a snapshot of what is not")
            member.durable = self.committed[:index]
        if write.cut_from is not None:
            del member.durable[write.cut_from - 1 :]
        member.durable.extend(write.entries)

    def _has_committed(self, index: Index, term: Term) -> bool:
        return 0 < index <= len(self.committed) and self.committed[index - 1].term == term

    def _vote(self, voter: NodeId, state: HardState) -> None:
        if state.voted_for is not None:
            known = self._votes.setdefault((voter, state.term), state.voted_for)
            hold(known == state.voted_for, f"{voter} voted twice in term {state.term} (I2)")

    def recovered(
        self, member: Process, state: HardState, entries: list[Entry], snapshot: Index
    ) -> list[Entry]:
        """A member came back with that: what was synced, and perhaps some of what was written.

        What a snapshot took the place of was committed, and counts as if it were there.
        """
        possible = [(member.hard_state, list(member.durable))]
        for write in member.lost_writes:
            before, log = possible[-1]
            log = log if write.base is None else self.committed[: write.base[0]]
            log = log if write.cut_from is None else log[: write.cut_from - 1]
            new = write.hard_state or before
            possible.append((HardState(new.term, new.voted_for), [*log, *write.entries]))
        self._view[member.name] = View()
        hold(snapshot <= len(self.committed), f"{member.name} has a snapshot of what is not")
        if len(entries) == snapshot:
            # It was on disk, and the log did not know of it yet: that began anew behind it, and
            # the term that came with it may not have been written either.
            base = self.committed[:snapshot]
            term = base[-1].term if base else 0
            possible += [
                (s if s.term >= term else HardState(term, None), base)
                for s, log in possible
                if log[:snapshot] != base
            ]
        if (state, entries) in possible:
            self._seen["restart with less" if (state, entries) == possible[0] else "kept"] += 1
        else:
            # Within one write, the hard state stands before the cut, and the entries follow alone.
            last = max(s.term for s, _ in possible)
            hold(
                member.hard_state.term <= state.term <= last,
                f"{member.name} came back in term {state.term} (I19)",
            )
            hold(
                any(entries == log[: len(entries)] for _, log in possible),
                f"{member.name} came back with a log that it never had (I19)",
            )
            least = min([len(member.durable), *cuts(member.lost_writes)])
            is_base = any(entries == log for _, log in possible)
            hold(is_base or len(entries) >= least, f"{member.name} forgot what was synced (I20)")
        self._vote(member.name, state)
        return entries

    def refused(self, member: Process) -> None:
        """A member's disk is damaged, and it said so."""
        hold(member.is_flipped, f"{member.name} refused a disk that nothing has damaged")

    # --- what leaves ----------------------------------------------------------------------------

    def leaves(self, member: Process, to: NodeId, message: Request | Reply) -> None:
        """What vouches for the disk is covered by what is on it (I8)."""
        hard = member.hard_state
        if isinstance(message, VoteReply | AppendReply):
            hold(hard.term >= message.term, f"{member.name}: a term left before it was on disk")
        if isinstance(message, RequestVote):
            mine = (hard.term, hard.voted_for) == (message.term, member.name)
            hold(mine or hard.term > message.term, f"{member.name}: own vote is not on disk")
        if hard.term != message.term:
            return
        if isinstance(message, VoteReply) and message.granted:
            hold(hard.voted_for == to, f"{member.name}: a vote left before it was on disk")
        if isinstance(message, AppendReply | InstallReply):
            has = len(member.durable) >= message.match_index
            hold(has, f"{member.name} acknowledged what is not on its disk")

    # --- after every event ----------------------------------------------------------------------

    def look(self, member: Process) -> None:
        """Check what a member's event may have changed."""
        if self.broken is not None:
            raise self.broken
        raft, view = member.raft, self._view[member.name]
        if member.node.failure is not None:
            member.world.judge_failure(member)
        else:
            hold(not member.is_out, f"{member.name} took itself out, and is back")
        if raft.log.last_index != view.last_index or raft.log.last_term != view.last_term:
            self._look_at_log(member, view)
        hold(raft.commit_index >= view.commit_index, f"{member.name}: commit fell (I3)")
        if raft.commit_index > view.commit_index:
            self._look_at_commit(member, view)
        if raft.role is Role.LEADER:
            self._look_at_leader(member, view)

    def _look_at_leader(self, member: Process, view: View) -> None:
        raft = member.raft
        leadership = raft.leadership
        assert leadership is not None, "the watch of the core has looked"
        if view.leads != raft.term:
            view.leads, view.led_since = raft.term, raft.ticks
            # One that does not know yet may be needed, until its removal is committed (4.2.2).
            hold(not raft.is_removed, f"{member.name} leads and knows that it was removed (I12)")
            known = self._leaders.setdefault(raft.term, member.name)
            hold(known == member.name, f"{known} and {member.name} lead term {raft.term} (I1)")
            if raft.term == max(self._leaders):
                terms = [entry.term for entry in self.committed]
                complete = view.terms[: len(terms)] == terms
                hold(complete, f"{member.name} leads without all that is committed (I5)")
        for peer, progress in leadership.progress.items():
            match = progress.match_index
            hold(progress.next_index > match, f"{member.name}: next is not above match (I9)")
            other = self._members.get(peer)
            if match and other is not None and other.hard_state.term <= raft.term:
                hold(match <= len(other.durable), f"{peer} matched what it has not (I9)")
                same = other.durable[match - 1].term == view.terms[match - 1]
                hold(same, f"{peer} matched another entry (I9)")
        hold(
            raft.is_voter or raft.commit_index < raft.history.latest_index,
            f"{member.name} leads though it is known to be no voter (I12)",
        )
        limit = 2 * raft.settings.election_ticks + 1
        if raft.ticks - view.led_since > limit:
            voters = raft.configuration.voters
            near = sum(
                peer == member.name or raft.ticks - member.heard_at.get(peer, -limit) <= limit
                for peer in voters
            )
            hold(near > len(voters) / 2, f"{member.name} leads alone (I21)")

    def _look_at_log(self, member: Process, view: View) -> None:
        log = member.raft.log
        terms, last = view.terms, log.last_index
        base = log.base_index
        hold(base <= len(self.committed), f"{member.name} left out what is not committed")
        if len(terms) < base or (base and terms[base - 1] != log.term_at(base)):
            del terms[:]  # a snapshot took the place of it all
        while len(terms) > last or (len(terms) > base and terms[-1] != log.term_at(len(terms))):
            terms.pop()
        hold(
            len(terms) >= min(view.commit_index, last) or not terms,
            f"{member.name} cut what is committed (I11)",
        )
        view.changes = {index: c for index, c in view.changes.items() if index <= len(terms)}
        hold(last >= view.commit_index, f"{member.name} cut what is committed (I11)")
        before = terms[-1] if terms else 0
        for entry in self._entries_of(member, len(terms), last):
            hold(
                entry.index < base or entry.term == log.term_at(entry.index),
                f"{member.name} mistakes the term of {entry.index}",
            )
            hold(entry.term >= before, f"{member.name}: terms fall along the log (I11)")
            value = (entry.header, entry.command, before)
            known = self._entries.setdefault((entry.index, entry.term), value)
            hold(known == value, f"{member.name}: two entries at {entry.index}/{entry.term} (I4)")
            before = entry.term
            terms.append(before)
            self._look_behind_the_removal(view, entry)
            if entry.kind is EntryKind.CONFIGURATION:
                view.changes[entry.index] = Configuration.decode(entry.command)
        view.last_index, view.last_term = last, log.last_term
        latest = view.changes[max(view.changes)] if view.changes else Configuration()
        hold(
            member.raft.configuration == latest,
            f"{member.name} is not in its latest configuration (I12)",
        )
        pending = sum(index > len(self.committed) for index in view.changes)
        hold(pending <= 1, f"{member.name} has {pending} changes of members under way (I12)")

    def _entries_of(self, member: Process, after: Index, to: Index) -> list[Entry]:
        """Take entries of *member*'s log: from what is committed, its disk, or its memory."""
        log = member.raft.log
        on_disk = min(to, log.in_memory_from - 1)
        found = self.committed[after : min(to, log.base_index)]
        found += member.durable[max(after, log.base_index) : on_disk]
        start = max(after, on_disk)
        return found + (log.between(start, to, max_bytes=1 << 60) if start < to else [])

    def _look_behind_the_removal(self, view: View, entry: Entry) -> None:
        """A leader that takes its own vote away appends nothing more."""
        if view.changes:
            index = max(view.changes)
            leader = self._leaders.get(entry.term)
            is_gone = leader is not None and leader not in view.changes[index].voters
            same_term = index > 0 and view.terms[index - 1] == entry.term
            hold(not (is_gone and same_term), f"{leader} appends behind its own removal (I12)")

    def _look_at_commit(self, member: Process, view: View) -> None:
        raft = member.raft
        new = self._entries_of(member, view.commit_index, raft.commit_index)
        hold(bool(new) and new[-1].index == raft.commit_index, "committed what is not there (I10)")
        known = self.committed[view.commit_index : raft.commit_index]
        hold(new[: len(known)] == known, f"{member.name} committed something else (I6)")
        fresh = new[len(known) :]
        if fresh:
            self._look_at_quorum(member, view, fresh[-1])
            self.committed += fresh
        view.commit_index = raft.commit_index

    def _look_at_quorum(self, member: Process, view: View, last: Entry) -> None:
        raft = member.raft
        leads = raft.role is Role.LEADER or view.leads == raft.term  # it may just have left
        hold(leads, f"{member.name}, a follower, committed first (I10)")
        hold(last.term == raft.term, f"{member.name} committed an older term by count (I7)")
        voters = raft.configuration.voters
        have = sum(
            len(m.durable) >= last.index and m.durable[last.index - 1] == last
            for m in (self._members[voter] for voter in voters)
        )
        hold(have > len(voters) / 2, f"{last.index} is not on a majority's disks (I7)")

    def applied(
        self, member: Process, command: bytes, entry: CurrentEntry, *, since_us: int
    ) -> None:
        """A member's module is given *command*, and finds itself at *entry*.

        *since_us* was the time of the one before. What is raised here would be the module's answer.
        """
        if entry.time_us < since_us:
            self.broken = Violation(f"{member.name}: time went back at {entry.index}")
        found = (entry.index, entry.term, entry.time_us, entry.random.random())
        known = self._worlds.setdefault(command, found)
        if known != found:
            self.broken = Violation(f"{member.name} applied {command!r} in another world: {found}")
        if self.committed[entry.index - 1].command != command:
            self.broken = Violation(f"{member.name} is not at entry {entry.index}")
        place = member.applied
        member.applied += 1
        if place == len(self.commands):  # the first one to get there
            if command in self._applied:
                self.broken = Violation(f"{member.name} applied {command!r} twice (I14)")
            self.commands.append(command)
            self._applied.add(command)
        if self.commands[place] != command:
            self.broken = Violation(f"{member.name} applied something else in place {place} (I6)")


class View:
    """What was seen of one life of a member."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.last_index: Index = 0
        self.last_term: Term = 0
        self.commit_index: Index = 0
        self.leads: Term = 0
        self.led_since = 0
        self.terms: list[Term] = []
        self.changes: dict[Index, Configuration] = {}


def cuts(writes: list[Write]) -> list[Index]:
    """Where unsynced writes may have cut the log."""
    return [write.cut_from - 1 for write in writes if write.cut_from is not None]
