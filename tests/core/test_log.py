"""The log in memory: against a list, and what it says of the disk."""

from __future__ import annotations

from random import Random

import pytest

from tinyraft.core.effects import Mark, Synced, Write
from tinyraft.core.entry import EntryKind, make_entry
from tinyraft.core.log import Log


def entries(*terms, first=1):
    return [
        make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=b"x" * 10)
        for index, term in enumerate(terms, first)
    ]


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        pytest.param(0, 0, True, id="the place before the log always matches"),
        pytest.param(0, 1, False, id="no term stands before the log"),
        pytest.param(2, 1, True, id="same index and term match"),
        pytest.param(2, 2, False, id="another term does not match"),
        pytest.param(4, 2, True, id="the last entry matches"),
        pytest.param(5, 2, False, id="behind the end nothing matches"),
        pytest.param(5, 0, False, id="behind the end not even term 0 matches"),
    ],
)
def test_matches(index, term, expected):
    """A place matches when the log reaches it and has that term there."""
    assert expected == Log(entries(1, 1, 2, 2)).matches(index, term)


@pytest.mark.parametrize("index", range(8), ids="not above {}".format)
def test_last_at_most_is_found_as_by_walking(index):
    """Halving finds what a walk from the end finds."""
    terms = [1, 1, 3, 3, 6]
    log = Log(entries(*terms))
    for term in range(8):
        walked = next(i for i in range(min(index, 5), -1, -1) if i == 0 or terms[i - 1] <= term)
        assert walked == log.last_at_most(index, term)


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        pytest.param(0, [2], id="one entry goes even when none fits"),
        pytest.param(41, [2], id="one that is just too large"),
        pytest.param(83, [2], id="one byte less than two"),
        pytest.param(84, [2, 3], id="exactly two"),
        pytest.param(10**6, [2, 3, 4], id="all that there are"),
    ],
)
def test_between_is_bounded_and_never_empty_handed(max_bytes, expected):
    """As many as fit, but at least one: a large entry must not stop replication (P25)."""
    log = Log(entries(1, 1, 1, 1))
    assert {entry.size for entry in entries(1, 1)} == {42}
    assert expected == [entry.index for entry in log.between(1, 4, max_bytes=max_bytes)]
    assert log.between(4, 4, max_bytes=max_bytes) == []


def test_entries_follow_without_gap_and_terms_never_fall():
    """A gap, or a term that falls, is a defect of the caller."""
    log = Log(entries(1, 2))
    with pytest.raises(AssertionError, match="no gaps"):
        log.append(entries(2, first=4))
    with pytest.raises(AssertionError, match="never decrease"):
        log.append(entries(1, first=3))


@pytest.mark.parametrize("index", [0, 3], ids=["before the log", "behind its end"])
def test_cut_takes_something(index):
    """A cut of nothing is a defect of the caller."""
    with pytest.raises(AssertionError, match="takes something"):
        Log(entries(1, 2)).cut(index)


def test_cut_lowers_what_is_durable_and_what_writes_under_way_promise():
    """The sync of overwritten entries vouches for none of their successors (P18, P19)."""
    log = Log(entries(1))
    log.append(entries(1, 1, 1, first=2))
    assert log.hand_over(Mark(1), tick=5) == Write(1, None, None, entries(1, 1, 1, first=2))
    log.cut(3)
    log.append(entries(2, 2, first=3))
    assert log.hand_over(Mark(2), tick=6) == Write(2, None, 3, entries(2, 2, first=3))
    assert (log.durable_index, log.oldest_write()) == (1, 5)

    log.synced(Synced(1))
    assert (log.durable_index, log.oldest_write()) == (2, 6)
    log.synced(Synced(2))
    assert (log.durable_index, log.oldest_write()) == (4, None)
    log.cut(2)
    assert (log.durable_index, log.is_unwritten) == (1, True)
    assert log.hand_over(Mark(3), tick=7) == Write(3, None, 2, [])


def test_cut_of_unwritten_entries_needs_no_write():
    """What never went to the disk is cut in memory only."""
    log = Log(entries(1))
    log.append(entries(1, 1, first=2))
    log.cut(2)
    assert not log.is_unwritten


class Disk:
    """What the writer has made of the writes: a log behind a base."""

    def __init__(self):
        self.base, self.base_term, self.entries = 0, 0, []

    def take(self, write):
        if write.base is not None:
            self.base, self.base_term = write.base
            self.entries = []
        if write.cut_from is not None:
            del self.entries[write.cut_from - 1 - self.base :]
        self.entries += write.entries

    def has(self, log, index):
        """Whether the log, as far as *index*, can be told from here."""
        first = max(self.base, log.base_index)
        mine = {entry.index: entry for entry in self.entries}
        terms = all(log.term_at(i) == mine[i].term for i in range(first + 1, index + 1))
        start = max(first, log.in_memory_from - 1)
        if start >= index:
            return terms
        kept = log.between(start, index, max_bytes=1 << 40)
        return terms and kept == [mine[entry.index] for entry in kept]


@pytest.mark.parametrize("seed", range(60))
def test_durable_index_never_promises_more_than_the_disk_has(seed):
    """Random appends, cuts, snapshots, writes and syncs: the disk has what is called durable."""
    random = Random(seed)
    log, disk, queue, mark, term = Log(memory_bytes=2500), Disk(), [], 0, 1
    for tick in range(400):
        term += random.random() < 0.2
        match random.randrange(7):
            case 0 | 1:
                log.append(entries(*[term] * random.randint(1, 3), first=log.last_index + 1))
            case 2 if log.last_index > log.base_index:
                log.cut(random.randint(log.base_index + 1, log.last_index))
            case 3 if log.is_unwritten:
                mark += 1
                queue.append(log.hand_over(Mark(mark), tick=tick))
            case 4 if queue:
                count = random.randint(1, len(queue))
                for write in queue[:count]:
                    disk.take(write)
                log.synced(Synced(queue[count - 1].mark))
                del queue[:count]
            case 5 if random.random() < 0.2:
                log.begin_behind(log.last_index + random.randint(1, 9), term)
            case 6:
                index = random.randint(log.base_index, log.durable_index)
                log.compact(index) if random.random() < 0.2 else log.spare_memory(index)
        if not any(write.base for write in queue) and not log._new_base:
            assert disk.has(log, log.durable_index)
        assert log.base_index <= log.durable_index <= log.last_index
        assert log.in_memory_from > log.base_index
    log.hand_over(Mark(mark + 1), tick=0)
    log.synced(Synced(mark + 1))
    assert log.durable_index == log.last_index


def test_memory_is_spared_of_what_the_disk_has_and_nothing_else():
    """Old entries leave their terms behind; what is not durable, or above the bound, stays."""
    log = Log(memory_bytes=2 * entries(1)[0].footprint)
    log.append(entries(1, 1, 2, 2, 3))
    log.spare_memory(5)
    assert log.in_memory_from == 1  # the disk has nothing yet
    log.hand_over(Mark(1), tick=0)
    log.synced(Synced(1))
    log.spare_memory(3)
    assert (log.in_memory_from, log.base_index) == (4, 0)
    assert [1, 1, 2, 2, 3] == [log.term_at(index) for index in range(1, 6)]
    assert log.between(3, 5, max_bytes=1 << 20) == entries(2, 3, first=4)
    log.cut(2)
    assert (log.in_memory_from, log.last_index, log.last_term) == (2, 1, 1)
    log.append(entries(4, first=2))
    assert log.between(1, 2, max_bytes=1 << 20) == entries(4, first=2)


def test_a_log_begins_anew_behind_a_snapshot():
    """Everything before is covered, and durable at once; older writes promise no less."""
    log = Log(entries(1, 1))
    log.append(entries(2, first=3))
    log.hand_over(Mark(1), tick=0)
    log.begin_behind(9, 3)
    assert (log.base_index, log.last_index, log.last_term, log.durable_index) == (9, 9, 3, 9)
    assert log.hand_over(Mark(2), tick=1) == Write(2, None, None, [], (9, 3))
    log.synced(Synced(1))
    assert log.durable_index == 9
    log.append(entries(3, first=10))
    assert log.hand_over(Mark(3), tick=2) == Write(3, None, None, entries(3, first=10))
    log.synced(Synced(2))
    assert log.durable_index == 9
    log.synced(Synced(3))
    assert log.durable_index == 10
