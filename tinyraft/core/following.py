"""Following: appends, heartbeats and snapshots of the leader (dissertation 3.5, 5.1, 5.3).

Law: what is acknowledged is on this disk, and the same as the leader's; what is committed is never
cut, and never set back by an old snapshot.
"""

from __future__ import annotations

from tinyraft.core.effects import Held, InvariantViolated
from tinyraft.core.entry import EntryKind, Index, NodeId, Term
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallReply,
    InstallSnapshot,
    Reply,
)
from tinyraft.core.replication import accept, behind_base, refusal
from tinyraft.core.role import Role
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.state import State


class Following(State):
    """A member as a follower."""

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
        if request.entries:
            self._time_us = max(self._time_us, request.entries[-1].time_us)
        for entry in request.entries:
            if entry.kind is EntryKind.CONFIGURATION and entry.index > self.history.latest_index:
                self._reconfigured |= self.history.append(entry)
        verified = request.prev_index + len(request.entries)
        self._commit(min(request.commit_index, verified))
        return self._hold(AppendReply(term=self.term, success=True, match_index=verified))

    def _step_heartbeat(self, request: Heartbeat, sender: NodeId) -> Reply:
        if self._hear_leader(request.term, sender):
            self._commit(min(request.commit_index, self.log.last_index))
        return HeartbeatReply(self.term, request.round, self.is_full, *self.check)

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
            self._time_us = max(self._time_us, snapshot.time_us)
            if self.log.matches(snapshot.index, snapshot.term):
                self._commit(snapshot.index)  # what follows it here is kept
            else:
                self.log.begin_behind(snapshot.index, snapshot.term)
                self.history.begin_with(snapshot.configuration_index, snapshot.configuration)
                self._reconfigured = True
                self._commit(snapshot.index)
        self.snapshot_index = max(self.snapshot_index, snapshot.index)
        return self._hold(InstallReply(self.term, match_index=snapshot.index))

    def snapshot_at(
        self, index: Index, *, time_us: int = 0, digest: int | None = None
    ) -> Snapshot | None:
        """Describe a snapshot of what was applied up to *index*; None when there is a newer one.

        After a restart it is there before the module was given it. *time_us* is that entry's,
        *digest* that of the outcomes up to it.
        """
        if not self.snapshot_index <= index <= self.commit_index:
            return None
        configuration_index, configuration = self.history.at(index)
        term = self.log.term_at(index)
        return Snapshot(index, term, configuration, configuration_index, time_us, digest)

    def checked(self, index: Index, digest: bytes) -> None:
        """Learn what the check at *index* came to here: the leader is told with every heartbeat."""
        self.check = (index, digest)

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
