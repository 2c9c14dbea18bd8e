"""What only a leader knows, for the length of its term (dissertation 3.5, 3.6.2, 3.10, 6.2, 6.4).

Law: made when the node wins, thrown away when it steps down, so nothing of it can leak into another
term. It decides from the log and the configuration it was given; `Raft` acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinyraft.core.configuration import Configuration
from tinyraft.core.effects import InSnapshot, OnDisk
from tinyraft.core.entry import Entry, Index, NodeId, Term
from tinyraft.core.log import Log
from tinyraft.core.messages import AppendEntries, AppendReply
from tinyraft.core.progress import Progress
from tinyraft.core.quorum import agreed_index, has_quorum
from tinyraft.core.reads import ReadAnswer, Reads


@dataclass(slots=True)
class Transfer:
    """Leadership is being handed to *to*, until *deadline* (ticks)."""

    to: NodeId
    deadline: int


class Leadership:
    """One term in office."""

    def __init__(self, *, me: NodeId, term: Term, log: Log, tick: int) -> None:
        """Begin with the log as it was before the no-op."""
        self.me = me
        self.term = term
        self.noop_index: Index = log.last_index + 1
        self.progress: dict[NodeId, Progress] = {}
        self.transfer: Transfer | None = None
        self.heartbeat_round = 0
        self.heartbeats_due: set[NodeId] = set()
        self.overslept = 0  # ticks since the last heartbeat that did not come
        self.reads = Reads()
        self.uncommitted_bytes = 0
        self.looked_at = tick  # when check-quorum last looked
        self._log = log
        self._heard: set[NodeId] = set()  # before that look; the present count may just have begun
        self._configuration = Configuration()

    def reconfigure(self, configuration: Configuration, *, tick: int) -> None:
        """Follow a change of members; what is known of those who stay is kept."""
        self._configuration = configuration
        last = self._log.last_index
        self.progress = {
            m.id: self.progress.get(m.id)
            or Progress(next_index=last + 1, last_index=last, tick=tick)
            for m in configuration.members
            if m.id != self.me
        }
        if self.transfer and self.transfer.to not in configuration.voters:
            self.transfer = None

    # --- sending ----------------------------------------------------------------------------

    def has_append(self, peer: NodeId, *, commit_index: Index) -> bool:
        """Tell whether `next_append` would give something."""
        p = self.progress.get(peer)
        if p is None or p.in_flight is not None or p.has_lost_log:
            return False
        return (
            p.next_index <= self._log.last_index
            or p.is_probing
            or p.told_commit < min(commit_index, p.match_index)
        )

    def has_entries(self, peer: NodeId) -> bool:
        """Tell whether more than a newer commit index waits to be sent."""
        p = self.progress.get(peer)
        if p is None or p.in_flight is not None or p.has_lost_log:
            return False
        return p.next_index <= self._log.last_index

    def next_append(
        self, peer: NodeId, *, max_bytes: int, commit_index: Index
    ) -> AppendEntries | OnDisk | InSnapshot | None:
        """Build the next append for *peer*, or say where what it needs must be fetched from."""
        if not self.has_append(peer, commit_index=commit_index):
            return None
        p, log = self.progress[peer], self._log
        prev = p.next_index - 1
        if prev < log.base_index:
            return InSnapshot()
        if prev + 1 < log.in_memory_from:
            return OnDisk(prev, prev + 1 if p.is_probing else log.in_memory_from - 1)
        entries = log.between(prev, log.last_index, max_bytes=0 if p.is_probing else max_bytes)
        return self._append(p, entries, commit_index)

    def append_fetched(
        self, peer: NodeId, entries: list[Entry], *, commit_index: Index
    ) -> AppendEntries | None:
        """Build an append of *entries* that were read from the disk, if it still fits.

        Meanwhile they may have been cut, or a snapshot may have taken their place.
        """
        if not entries or not self.has_entries(peer):
            return None
        p, log = self.progress[peer], self._log
        fits = entries[0].index == p.next_index and entries[0].index > log.base_index
        if fits and all(log.matches(entry.index, entry.term) for entry in entries):
            return self._append(p, entries, commit_index)
        return None

    def _append(self, p: Progress, entries: list[Entry], commit_index: Index) -> AppendEntries:
        """Put *entries* in flight; while the place is looked for, they are but one."""
        prev = p.next_index - 1
        p.sent(last_index=prev + len(entries), commit_index=commit_index, has_entries=bool(entries))
        return AppendEntries(
            self.term,
            prev,
            self._log.term_at(prev),
            entries,
            commit_index,
            is_note=p.in_flight is None,
        )

    # --- answers ----------------------------------------------------------------------------

    def answered(self, peer: NodeId, reply: AppendReply) -> bool:
        """Learn what an append came to; tell whether *peer* has more on disk than was known."""
        p = self.progress.get(peer)
        if p is None:
            return False
        p.active = True
        if reply.success:
            assert reply.match_index <= self._log.last_index, "a peer can't have more than was sent"
            return p.matched(reply.match_index)
        p.refused(self._log.last_at_most(reply.conflict_index, reply.conflict_term) + 1)
        return False

    def installed(self, peer: NodeId, index: Index) -> bool:
        """*peer* has a snapshot up to *index* on disk; tell whether that is news."""
        p = self.progress.get(peer)
        if p is None:
            return False
        p.active = True
        if not index:
            return False  # a piece of it
        return p.matched(index)

    def has_lost_log(self, peer: NodeId) -> bool:
        """Tell whether *peer* lacks what it acknowledged."""
        p = self.progress.get(peer)
        return p is not None and p.has_lost_log

    def committable(self, commit_index: Index) -> Index:
        """Find how far a majority has this log on disk; only entries of this term count (3.6.2)."""
        match = {peer: p.match_index for peer, p in self.progress.items()}
        match[self.me] = self._log.durable_index
        agreed = agreed_index(self._configuration.voters, match)
        if agreed > commit_index and self._log.term_at(agreed) == self.term:
            return agreed
        return commit_index

    # --- reads ------------------------------------------------------------------------------

    def answer_reads(self, *, commit_index: Index) -> list[ReadAnswer]:
        """Close the reads that have their index; begin a round for those that wait for one."""
        if not self.reads:
            return []
        if self.reads.need_round(begun=self.heartbeat_round, confirmed=self._confirmed_round()):
            self.beat()
        return self.reads.take_ready(confirmed=self._confirmed_round(), commit_index=commit_index)

    def _confirmed_round(self) -> int:
        """Find the newest round of heartbeats that a majority has acknowledged."""
        acked = {peer: p.acked_round for peer, p in self.progress.items()}
        acked[self.me] = self.heartbeat_round
        return agreed_index(self._configuration.voters, acked)

    # --- staying in office ------------------------------------------------------------------

    def beat(self) -> None:
        """Make a heartbeat due for every peer."""
        self.heartbeat_round += 1
        self.overslept = 0
        self.heartbeats_due = set(self.progress)

    def heard_from_quorum(self, *, tick: int) -> bool:
        """Tell whether a majority was heard since the last look, and begin to count anew (6.2)."""
        self._heard = {peer for peer, p in self.progress.items() if p.active}
        for p in self.progress.values():
            p.active = False
        self.looked_at = tick
        return has_quorum(self._configuration.voters, self._heard | {self.me})

    def doubt(self, *, looked_at: int) -> None:
        """Forget who was heard, and let the count that began at *looked_at* decide."""
        self._heard.clear()
        for p in self.progress.values():
            p.active = False
        self.looked_at = looked_at

    def is_heard(self, peer: NodeId) -> bool:
        """Tell whether *peer* was heard since the last look, or in the time before it."""
        return self.progress[peer].active or peer in self._heard

    @property
    def misses_somebody(self) -> bool:
        """Whether a member was not heard for long: it may be somewhere else."""
        return not all(map(self.is_heard, self.progress))

    def best_successor(self) -> NodeId | None:
        """Name the voter who was heard lately, has room, and has most of the log."""
        candidates = [
            (not p.is_full, p.match_index, peer)
            for peer, p in self.progress.items()
            if self.is_heard(peer) and peer in self._configuration.voters
        ]
        return max(candidates)[2] if candidates else None

    def knows_room(self, peer: NodeId) -> bool:
        """Tell whether *peer* said that its disk has room."""
        return self.progress[peer].is_full is False

    def transfer_is_ready(self) -> bool:
        """Tell whether the chosen successor has the whole log (3.10)."""
        if self.transfer is None:
            return False
        p = self.progress.get(self.transfer.to)
        return p is not None and p.match_index == self._log.last_index

    def learners_caught_up(self, *, tick: int, within: int) -> Iterator[NodeId]:
        """Name the learners that want a vote and caught up within *within* ticks (4.2.1).

        The others are measured, too: an operator may give them one.
        """
        for member in self._configuration.members:
            if member.voter or member.id not in self.progress:
                continue
            p = self.progress[member.id]
            if (
                self.is_heard(member.id)
                and p.caught_up(last_index=self._log.last_index, tick=tick, within=within)
                and member.wants_vote
            ):
                yield member.id

    def may_vote(self, peer: NodeId, *, tick: int, within: int) -> bool:
        """Tell whether a vote for *peer* would not make the others wait for it (4.2.1)."""
        p = self.progress.get(peer)
        return p is None or (p.keeps_up(tick=tick, within=within) and self.is_heard(peer))

    # --- bounds -----------------------------------------------------------------------------

    def proposed(self, entries: list[Entry]) -> None:
        """Count *entries* as uncommitted."""
        self.uncommitted_bytes += sum(entry.size for entry in entries)

    def committed(self, entries: list[Entry]) -> None:
        """Count *entries* no longer."""
        self.uncommitted_bytes -= sum(entry.size for entry in entries)
