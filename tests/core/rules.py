"""The rules of Raft (dissertation figure 3.2), looked at from outside after every event.

Law: what a member says is compared with what is really on the disks; of the core only what it shows
is believed. The numbers (I1 to I12) are those of the test plan.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.core.process import Process
from tinyraft.core.configuration import Configuration
from tinyraft.core.effects import HardState
from tinyraft.core.entry import Entry, EntryKind
from tinyraft.core.messages import AppendReply, RequestVote, VoteReply
from tinyraft.core.raft import Raft
from tinyraft.core.role import Role


class Rules:
    """What was so far, and what must follow from it."""

    def __init__(self, members: Mapping[str, Process]) -> None:
        self.members = members
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.entries: dict[tuple[int, int], tuple[bytes, bytes, int]] = {}
        self.committed: list[Entry] = []

    def check_hard_state(self, member: Process, new: HardState) -> None:
        """What reaches the disk."""
        assert new.term >= member.hard.term, "a term went back on disk (I3)"
        if new.term == member.hard.term:
            assert member.hard.voted_for in (None, new.voted_for), "a vote changed on disk (I2)"
        if new.voted_for is not None:
            known = self.votes.setdefault((member.name, new.term), new.voted_for)
            assert known == new.voted_for, "two votes (I2)"

    def check_promise(self, member: Process, to: str, message: object) -> None:
        """What leaves is covered by what is on the disk (I8)."""
        hard = member.hard
        if isinstance(message, VoteReply) and message.granted and hard.term == message.term:
            assert hard.voted_for == to, "a vote left before it was on disk (I8)"
        if isinstance(message, RequestVote):
            own = hard.term > message.term or (hard.term, hard.voted_for) == (
                message.term,
                member.name,
            )
            assert own, "own vote not synced (I8)"
        if isinstance(message, VoteReply | AppendReply):
            assert hard.term >= message.term, "a term left before it was on disk (I8)"
        if isinstance(message, AppendReply) and message.success and hard.term == message.term:
            enough = len(member.disk) >= message.match_index
            assert enough, "entries acknowledged, not on disk (I8)"

    def check(self, member: Process) -> None:
        """One member after an event."""
        raft = member.raft
        if raft.role is Role.LEADER:
            self.check_leader(member)
        now = (raft.log.last_index, raft.log.last_term, raft.configuration)
        if now != member.checked:
            member.checked = now
            self.check_log(member)
        assert raft.commit_index >= member.commit, "commit went back (I3)"
        if raft.commit_index > member.commit:
            self.check_commit(member)
        self.check_applied(member)
        self.check_disk(member)
        if len(raft.log._queued) > 50:
            assert len(member.queue) > 50, "memory grows without a reason (I17)"

    def check_applied(self, member: Process) -> None:
        """What the module is given next."""
        for entry in member.raft.committed(member.applied, max_bytes=1 << 20):
            member.applied += 1
            assert entry == self.committed[member.applied - 1], "two truths applied (I6)"
            assert len(member.disk) >= member.applied, "applied, but not on disk"

    def check_disk(self, member: Process) -> None:
        """What the member believes of its own disk."""
        memory, disk = member.raft.log, member.disk
        durable = memory.durable_index
        now = (durable, len(disk), memory.last_index, memory.last_term, bool(member.queue))
        if now == member.checked_disk:
            return
        member.checked_disk = now
        log = member.log()
        assert disk[:durable] == log[:durable], "durable, but not on disk (I8)"
        assert member.queue or disk == log, "the disk has another log (I19)"

    def check_leader(self, member: Process) -> None:
        """Who leads is alone in its term, and has all that is committed."""
        raft = member.raft
        assert self.leaders.setdefault(raft.term, member.name) == member.name, "two leaders (I1)"
        if member.checked is None or member.checked[1] != raft.term:
            log = member.log()
            if raft.term == max(self.leaders):  # one of old is completed when it steps down
                assert log[: len(self.committed)] == self.committed, "not complete (I5)"
        self.check_match(member)

    def check_match(self, *leaders: Process) -> None:
        """What a leader believes of its peers' disks."""
        for member in leaders or self.members.values():
            if not member.up or member.raft.leadership is None:
                continue
            raft = member.raft
            for peer, p in raft.leadership.progress.items():
                assert p.next_index > p.match_index, "next is not above match (I9)"
                other = self.members.get(peer)
                if other is None or other.hard.term > raft.term:
                    continue  # a newer leader may have cut what was acknowledged to this one
                assert p.match_index <= len(other.disk), "matched, but not on disk (I9)"
                if p.match_index:
                    same = raft.log.term_at(p.match_index) == other.disk[p.match_index - 1].term
                    assert same, "matched, but another entry is on disk (I9)"

    def check_log(self, member: Process) -> None:
        """A log against itself, and against all others."""
        before = 0
        latest = Configuration()
        changes = 0
        for entry in member.log():
            assert entry.term >= before, "terms decrease (I11)"
            value = (entry.header, entry.command, before)
            known = self.entries.setdefault((entry.index, entry.term), value)
            assert known == value, "one place, two entries (I4)"
            before = entry.term
            if entry.kind is EntryKind.CONFIGURATION:
                latest = Configuration.decode(entry.command)
                changes += entry.index > len(self.committed)
        assert member.raft.configuration == latest, "not the latest configuration (I12)"
        assert changes <= 1, "two changes under way (I12)"

    def check_commit(self, member: Process) -> None:
        """A newer commit index."""
        raft = member.raft
        member.commit = raft.commit_index
        log = member.log()[: raft.commit_index]
        known = min(len(log), len(self.committed))
        assert log[:known] == self.committed[:known], "two truths committed (I6)"
        if len(log) > known:
            self.check_quorum_has(raft, log[-1])
            self.committed = log

    def check_quorum_has(self, raft: Raft, last: Entry) -> None:
        """The first to commit an entry."""
        assert raft.role is Role.LEADER, "a follower committed first (I10)"
        assert last.term == raft.term, "committed by count in an older term (I7)"
        voters = raft.configuration.voters
        have = sum(
            len(disk) >= last.index and disk[last.index - 1] == last
            for disk in (self.members[voter].disk for voter in voters)
        )
        assert have > len(voters) / 2, "committed, but not on a majority's disks (I7)"
