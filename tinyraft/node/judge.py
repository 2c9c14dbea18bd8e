"""Do the members' modules come to the same? The leader's half: who had what at a check.

Law: used under the core's lock, by whoever ticks; decides from what was said in this term only, and
appends nothing while there is nothing new to compare: an idle cluster writes nothing. Only a strict
majority of the voters is a verdict. Where there can be none the word is that there is none.

    a command is applied → at most `seconds` later a check is appended → each member digests where
    it applies that → says so with its next answer to a heartbeat → the verdict goes into a later
    check: the next one that is due anyway when all agree, one of its own when somebody is missing,
    and at once when somebody differs → who differs there learns it from the log
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tinyraft.core.check import Verdict, encode_verdict
from tinyraft.core.entry import Index, NodeId, Term
from tinyraft.core.quorum import majority
from tinyraft.core.raft import Raft
from tinyraft.node.agreement import KEPT, Agreement, Check

CHECK_SECONDS = 1.0


class Judge:
    """What a leader heard of its members in one term."""

    def __init__(
        self, agreement: Agreement, *, seconds: float, monotonic: Callable[[], float]
    ) -> None:
        """Have at most one check in *seconds*, and one more when somebody differs."""
        self._agreement = agreement
        self._seconds = seconds
        self._monotonic = monotonic
        self._begin(0)

    def _begin(self, term: Term) -> None:
        self._term = term
        self._said: dict[NodeId, dict[Index, bytes]] = {}
        self._asked: Index = 0  # the last check that was appended
        self._was_early = False  # that one
        self._due = self._monotonic() + self._seconds
        self._judged: Index = 0  # the commands before it are
        self._disputed: Index = 0  # likewise

    def look(self, raft: Raft) -> None:
        """Append a check if one is due."""
        leadership = raft.leadership
        if leadership is None:
            return
        if raft.term != self._term:
            self._begin(raft.term)
        for peer, progress in leadership.progress.items():
            self._hear(peer, *progress.check)
        agreement = self._agreement
        if agreement.last_check < self._asked or not leadership.progress:
            return  # the module has not come to the last one; or nobody is there to compare with
        if leadership.transfer is not None or not raft.is_voter:
            return
        is_due = self._monotonic() >= self._due
        verdict, is_urgent, differs = self._find(raft)
        is_news = agreement.last_command > agreement.last_check
        is_early = differs and not is_due and not self._was_early
        if is_early or (is_due and (is_news or is_urgent)):
            self._asked = raft.propose_check(encode_verdict(verdict))
            self._was_early = is_early
            self._due = self._monotonic() + self._seconds
            if verdict is not None and verdict.digest:
                self._judged = max(self._judged, verdict.index)
            elif verdict is not None:
                self._disputed = max(self._disputed, verdict.index)

    def _hear(self, peer: NodeId, index: Index, digest: bytes) -> None:
        """Note what *peer* says of its latest check; one that went back has begun a new life."""
        said = self._said.setdefault(peer, {})
        if next(reversed(said), None) != index or said[index] != digest:
            kept = [(i, d) for i, d in said.items() if i < index][1 - KEPT :]
            self._said[peer] = {**dict(kept), index: digest}

    def _find(self, raft: Raft) -> tuple[Verdict | None, bool, bool]:
        """Find what is to be said of a check.

        Returns:
            The verdict, whether it is worth a check of its own, and whether somebody differs.
        """
        checks = self._agreement.checks
        for check in reversed(checks):
            if check.last_command <= self._judged:
                break  # and so are all before
            had = self._at(raft, check)
            voters = raft.configuration.voters
            votes = Counter(had[voter] for voter in voters if voter in had)
            for digest, count in votes.items():
                if count >= majority(len(voters)):
                    is_missing = len(had) < len(raft.configuration.members)
                    differs = set(had.values()) != {digest}
                    return Verdict(check.index, digest), is_missing or differs, differs
            is_old = check is not checks[-1] or self._monotonic() >= self._due + self._seconds
            if len(votes) > 1 and is_old and check.last_command > self._disputed:
                return Verdict(check.index, b""), True, False
        return None, False, False

    def _at(self, raft: Raft, check: Check) -> dict[NodeId, bytes]:
        """Tell who of the members had what at *check*."""
        had = {raft.me: check.digest}
        for member in raft.configuration.members:
            digest = self._said.get(member.id, {}).get(check.index)
            if digest:
                had[member.id] = digest
        return had
