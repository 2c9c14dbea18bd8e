"""How a follower judges an append (dissertation 3.5, figure 3.1).

Law: the log is cut only from the first entry whose term differs, never because a message is shorter
than the log, and never at or below the commit index.
"""

from __future__ import annotations

from tinyraft.core.effects import InvariantViolated
from tinyraft.core.entry import Index, Term
from tinyraft.core.log import Log
from tinyraft.core.messages import AppendEntries, AppendReply


def behind_base(log: Log, request: AppendEntries) -> AppendEntries:
    """Leave out what a snapshot took the place of: it was committed, so the leader has the same."""
    base = log.base_index
    if request.prev_index >= base:
        return request
    for entry in request.entries:
        if entry.index == base and entry.term != log.term_at(base):
            raise InvariantViolated(f"the committed entry {base} is of another term to the leader")
    return AppendEntries(
        request.term,
        base,
        log.term_at(base),
        [entry for entry in request.entries if entry.index > base],
        request.commit_index,
    )


def refusal(log: Log, request: AppendEntries, *, term: Term) -> AppendReply:
    """Say that the logs differ at the previous entry, and where to look next."""
    place = log.last_at_most(request.prev_index, request.prev_term)
    return AppendReply(
        term=term, success=False, conflict_index=place, conflict_term=log.term_at(place)
    )


def first_conflict(log: Log, request: AppendEntries) -> tuple[int, Index | None]:
    """Compare the new entries with the log.

    Returns:
        How many of them the log has already, and the index to cut from, if any.
    """
    for known, entry in enumerate(request.entries):
        if entry.index > log.last_index:
            return known, None
        if log.term_at(entry.index) != entry.term:
            return known, entry.index
    return len(request.entries), None


def accept(log: Log, request: AppendEntries, *, commit_index: Index) -> Index | None:
    """Bring *log* in line with a *request* whose previous entry matches.

    Returns:
        The index that was cut from, or None.
    """
    known, conflict = first_conflict(log, request)
    if conflict is not None:
        if conflict <= commit_index:
            raise InvariantViolated(f"the committed entry {conflict} was to be overwritten")
        log.cut(conflict)
    log.append(request.entries[known:] if known else request.entries)
    return conflict
