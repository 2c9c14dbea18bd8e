"""What members say to each other, as values (dissertation, figures 3.1 and 3.2, 3.10, 9.6).

Law: plain values without behaviour. Who sent a message, for which cluster and to whom is checked by
the shell before the core sees it; the sender comes beside the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tinyraft.core.entry import Entry, Index, Term


@dataclass(slots=True)
class RequestVote:
    """Ask for the one vote of *term*."""

    term: Term
    last_index: Index
    last_term: Term
    transfer: bool = False  # the old leader asked for this election (3.10): the lease does not bind


@dataclass(slots=True)
class VoteReply:
    """The vote, or the voter's higher term."""

    term: Term
    granted: bool


@dataclass(slots=True)
class RequestPreVote:
    """Ask whether an election in *term* could be won; nobody's state changes (9.6)."""

    term: Term
    last_index: Index
    last_term: Term


@dataclass(slots=True)
class PreVoteReply:
    """A grant echoes the term that was asked for; a refusal carries the real one (pitfall 76)."""

    term: Term
    granted: bool


@dataclass(slots=True)
class AppendEntries:
    """Entries behind a known place; or a note of a commit index, whose success goes unsaid."""

    term: Term
    prev_index: Index
    prev_term: Term
    entries: Sequence[Entry]
    commit_index: Index
    is_note: bool = False


@dataclass(slots=True)
class AppendReply:
    """Success vouches for *match_index* on disk; a refusal hints where to look next (3.5).

    The hint is the highest place, not above the refused one, whose term is not above the leader's
    previous term: ``conflict_index`` and its ``conflict_term``.
    """

    term: Term
    success: bool
    match_index: Index = 0
    conflict_index: Index = 0
    conflict_term: Term = 0


@dataclass(slots=True)
class Heartbeat:
    """I lead. Carries no commit index above what this peer has acknowledged."""

    term: Term
    commit_index: Index
    round: int


@dataclass(slots=True)
class HeartbeatReply:
    """I follow, as of that round. Vouches for nothing on disk, and says if mine is nearly full.

    Beside it: what the module's outcomes up to the check at *check_index* came to; 0 for none.
    """

    term: Term
    round: int
    is_full: bool = False
    check_index: Index = 0
    check_digest: bytes = b""


@dataclass(slots=True)
class TimeoutNow:
    """Start an election at once: leadership is handed to you (3.10)."""

    term: Term


@dataclass(slots=True)
class TimeoutNowReply:
    """Received; the term tells whether it was in time."""

    term: Term


@dataclass(slots=True)
class InstallSnapshot:
    """One piece of the leader's snapshot, which takes the place of the log up to *index* (5.3).

    The *id* is the file's: two snapshots of one index may differ in their bytes, and pieces of two
    are never mixed.
    """

    term: Term
    id: int
    index: Index
    snapshot_term: Term
    size: int  # of the whole file, in bytes
    offset: int
    data: bytes = field(repr=False)


@dataclass(slots=True)
class InstallReply:
    """How much of the file is there; once *match_index* is not 0, this disk vouches for it."""

    term: Term
    offset: int = 0
    match_index: Index = 0


Request: TypeAlias = (
    RequestVote | RequestPreVote | AppendEntries | Heartbeat | TimeoutNow | InstallSnapshot
)
Reply: TypeAlias = (
    VoteReply | PreVoteReply | AppendReply | HeartbeatReply | TimeoutNowReply | InstallReply
)
