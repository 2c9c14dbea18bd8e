"""How a follower judges an append (figure 3.1 and 3.5 of the dissertation)."""

from __future__ import annotations

import pytest

from tinyraft.core.effects import InvariantViolated
from tinyraft.core.entry import EntryKind, make_entry
from tinyraft.core.log import Log
from tinyraft.core.messages import AppendEntries
from tinyraft.core.progress import Progress
from tinyraft.core.replication import accept, refusal


def entries(*terms, first=1):
    return [
        make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=b"")
        for index, term in enumerate(terms, first)
    ]


def terms(log):
    return [entry.term for entry in log.between(0, log.last_index, max_bytes=1 << 40)]


@pytest.mark.parametrize(
    ("log", "prev", "new", "expected", "cut"),
    [
        pytest.param([], 0, [1, 1], [1, 1], None, id="everything is new"),
        pytest.param([1, 1], 2, [], [1, 1], None, id="nothing is new"),
        pytest.param([1, 1], 2, [2], [1, 1, 2], None, id="behind the end"),
        pytest.param([1, 1, 1], 1, [1], [1, 1, 1], None, id="shorter than the log cuts nothing"),
        pytest.param([1, 1, 1], 0, [], [1, 1, 1], None, id="empty at the start cuts nothing"),
        pytest.param([1, 1, 2], 0, [1, 1, 2], [1, 1, 2], None, id="the same again"),
        pytest.param([1, 1], 0, [1, 1, 2], [1, 1, 2], None, id="overlaps and goes on"),
        pytest.param([1, 1, 1], 1, [2], [1, 2], 2, id="a conflict takes the tail with it"),
        pytest.param([1, 1, 2, 2], 1, [1, 3], [1, 1, 3], 3, id="a conflict after what is alike"),
        pytest.param([1, 2], 0, [3], [3], 1, id="a conflict at the start"),
    ],
)
def test_accept(log, prev, new, expected, cut):
    """The log is cut from the first entry of another term on, and nowhere else (P16)."""
    log = Log(entries(*log))
    request = AppendEntries(9, prev, log.term_at(prev), entries(*new, first=prev + 1), 0)
    assert cut == accept(log, request, commit_index=0)
    assert expected == terms(log)


def test_committed_entries_are_never_overwritten():
    """A leader that would overwrite what is committed shows a defect: the node stops (I11)."""
    log = Log(entries(1, 1, 1))
    request = AppendEntries(9, 1, 1, entries(2, first=2), 0)
    with pytest.raises(InvariantViolated, match="committed entry 2"):
        accept(log, request, commit_index=2)
    assert terms(log) == [1, 1, 1]


@pytest.mark.parametrize(
    ("log", "prev", "prev_term", "expected"),
    [
        pytest.param([], 5, 3, (0, 0), id="an empty log"),
        pytest.param([1, 1], 5, 3, (2, 1), id="a log that is too short"),
        pytest.param([1, 4, 4, 4], 3, 3, (1, 1), id="a higher term is skipped whole"),
        pytest.param([1, 2, 2, 2], 4, 3, (4, 2), id="a lower term stands there"),
        pytest.param([5, 5], 2, 3, (0, 0), id="nothing can match"),
    ],
)
def test_refusal_hints_at_the_last_place_that_may_match(log, prev, prev_term, expected):
    """The hint is the highest place whose term is not above the leader's (P23)."""
    reply = refusal(Log(entries(*log)), AppendEntries(9, prev, prev_term, [], 0), term=9)
    assert (reply.success, reply.term) == (False, 9)
    assert expected == (reply.conflict_index, reply.conflict_term)


SIZE = 100_000


@pytest.mark.parametrize(
    ("mine", "other", "limit"),
    [
        pytest.param([1] + [5] * SIZE, [1] + [4] * SIZE, 3, id="one term each"),
        pytest.param([1], [1] + [4] * SIZE, 3, id="the follower has a long tail"),
        pytest.param([1] + [5] * SIZE, [1], 3, id="the follower has almost nothing"),
        pytest.param([1] + [5] * SIZE, [], 3, id="the follower has nothing"),
        pytest.param(
            [1, *range(2, 2 * SIZE, 2)],
            [1, *range(3, 2 * SIZE, 2)],
            20,
            id="every entry of another term",
        ),
        pytest.param(
            [1, *(2 * (n // 1000) + 2 for n in range(SIZE))],
            [1, *(2 * (n // 1000) + 3 for n in range(SIZE))],
            20,
            id="a hundred terms each",
        ),
    ],
)
def test_the_place_where_logs_agree_is_found_in_few_round_trips(mine, other, limit):
    """A hundred thousand divergent entries take less than twenty round trips (P23)."""
    leader, follower = Log(entries(*mine)), Log(entries(*other))
    last = leader.last_index
    progress = Progress(next_index=last + 1, last_index=last, tick=0)
    trips = 0
    while True:
        trips += 1
        prev = progress.next_index - 1
        progress.sent(last_index=prev, commit_index=0, has_entries=True)
        if follower.matches(prev, leader.term_at(prev)):
            break
        hint = refusal(follower, AppendEntries(9, prev, leader.term_at(prev), [], 0), term=9)
        progress.refused(leader.last_at_most(hint.conflict_index, hint.conflict_term) + 1)
    assert trips <= limit
