"""What the leader knows of one peer (dissertation 3.5).

Law: ``match_index < next_index``; `match_index` only grows, and only by what the peer says is on
its disk. One append is in flight at a time: what arrives meanwhile rides with the next.
"""

from __future__ import annotations

from tinyraft.core.entry import Index

INSISTS = 3


class Progress:
    """One peer's log, as far as the leader knows it."""

    __slots__ = (
        "_in_time",
        "_kept_up",
        "_refusals",
        "_refusals_below_match",
        "_round_start",
        "_round_target",
        "acked_round",
        "active",
        "check",
        "in_flight",
        "is_full",
        "match_index",
        "next_index",
        "told_commit",
    )

    def __init__(self, *, next_index: Index, last_index: Index, tick: int) -> None:
        """Assume nothing but that the peer may have everything below *next_index*."""
        self.match_index: Index = 0
        self.next_index = next_index
        self.in_flight: Index | None = None  # last index of the append under way
        self.told_commit: Index = 0
        self.active = True  # was heard since check-quorum last looked; new ones get a chance
        self.acked_round = 0
        self.is_full: bool | None = None  # its disk; unknown until it answers a heartbeat
        self.check: tuple[Index, bytes] = (0, b"")  # its latest, and the digest there
        self._refusals = 0  # in a row
        self._refusals_below_match = 0  # likewise
        self._round_target, self._round_start = last_index, tick
        self._in_time = self._kept_up = False  # this round, and the one before

    @property
    def is_probing(self) -> bool:
        """Whether the place where the logs agree is still looked for."""
        return self.next_index > self.match_index + 1

    def sent(self, *, last_index: Index, commit_index: Index, has_entries: bool) -> None:
        """An append up to *last_index* left. One without entries is not waited for."""
        if has_entries or self.is_probing:
            self.in_flight = last_index
        self.told_commit = max(self.told_commit, min(commit_index, last_index))

    def matched(self, index: Index) -> bool:
        """The peer has everything up to *index* on disk; tell whether that is news."""
        if self.in_flight is not None and index >= self.in_flight:
            self.in_flight = None
        self._refusals = self._refusals_below_match = 0
        grew = index > self.match_index
        self.match_index = max(self.match_index, index)
        self.next_index = max(self.next_index, self.match_index + 1)
        if self.in_flight is None:
            self.next_index = self.match_index + 1
        return grew

    def refused(self, next_index: Index) -> None:
        """The logs differ; look at *next_index* next. A stale refusal can't go below the match.

        A hint skips one term. Logs of many terms would take as many round trips, so each refusal
        in a row also goes back twice as far as the one before.
        """
        if self.in_flight is None:
            return
        self._refusals_below_match += next_index <= self.match_index
        self.in_flight = None
        back = 1 << self._refusals
        self._refusals += 1
        self.next_index = max(self.match_index + 1, min(next_index, self.next_index - back))

    def lost(self) -> None:
        """What was in flight may be gone: begin again behind the match."""
        self.in_flight = None
        if self.match_index:
            self.next_index = self.match_index + 1
        self.told_commit = 0

    @property
    def has_lost_log(self) -> bool:
        """Whether the peer insists that it lacks what it had on disk: its log went back.

        One such refusal may be an old one that came late. What it acknowledged was counted, so it
        is not served as if nothing had happened.
        """
        return self._refusals_below_match >= INSISTS

    @property
    def has_finished_a_round(self) -> bool:
        """Whether the peer has what the log held when it was added, or last measured."""
        return self.match_index >= self._round_target

    def caught_up(self, *, last_index: Index, tick: int, within: int) -> bool:
        """Tell whether a round of catching up took at most *within* ticks (4.2.1)."""
        if not self.has_finished_a_round:
            return False
        if tick - self._round_start <= within:
            self._in_time = True
            return True
        self._kept_up, self._in_time = self._in_time, False
        self._round_target, self._round_start = last_index, tick
        return False

    def keeps_up(self, *, tick: int, within: int) -> bool:
        """Tell whether the present round is young, and it or the one before was done in time.

        Who once caught up may have been away since, and lack millions of entries.
        """
        is_young = tick - self._round_start <= 2 * within
        return is_young and (self.has_finished_a_round or self._kept_up)
