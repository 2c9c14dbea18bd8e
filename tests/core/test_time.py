"""The time in entries never goes back, whatever becomes of leaders, clocks and logs."""

from __future__ import annotations

from random import Random

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Synced
from tinyraft.core.entry import Entry, EntryKind, NodeId, make_entry
from tinyraft.core.messages import AppendEntries
from tinyraft.core.raft import Raft, Settings
from tinyraft.core.snapshot import Snapshot

ALONE = Configuration((Member(NodeId("a"), "here:1", voter=True),))
LATE, EARLY = 1_000_000, 500
SETTINGS = Settings(election_ticks=10, memory_bytes=0)


def core(entries: list[Entry], *, snapshot: Snapshot | None = None) -> Raft:
    """Start a member that is alone."""
    return Raft(
        me=NodeId("a"),
        settings=SETTINGS,
        hard_state=HardState(1, None),
        entries=entries,
        random=Random(1),
        snapshot=snapshot,
    )


def founded(time_us: int = 0) -> Entry:
    """Make the first entry."""
    kind, command = EntryKind.CONFIGURATION, ALONE.encode()
    return make_entry(index=1, term=1, kind=kind, command=command, time_us=time_us)


def sync(raft: Raft) -> list[Entry]:
    """Bring everything to the disk; return the entries."""
    write = raft.take().write
    assert write is not None
    raft.synced(Synced(write.mark))
    return list(write.entries)


def win(raft: Raft) -> None:
    """Let the time run out, and the disk finish at once."""
    while raft.leadership is None:
        raft.tick()
        write = raft.take().write
        if write is not None and raft.leadership is None:
            raft.synced(Synced(write.mark))


def lead(raft: Raft) -> list[int]:
    """Win, and propose by a clock that is far behind; return the times of what is appended."""
    win(raft)
    raft.propose([b"x"], time_us=EARLY)
    times = [entry.time_us for entry in raft.log.between(0, 99, max_bytes=1 << 20)]
    return times[-2:]  # the no-op and the command


def test_a_clock_that_is_set_back() -> None:
    """A leader's own clock may do what it likes."""
    raft = core([founded()])
    assert [0, EARLY] == lead(raft)
    raft.propose([b"y"], time_us=LATE)
    raft.propose([b"z"], time_us=EARLY)
    assert LATE == raft.log.between(0, 99, max_bytes=1 << 20)[-1].time_us


def test_a_restart() -> None:
    """What is in the log counts."""
    assert [LATE, LATE] == lead(core([founded(LATE)]))


def test_a_follower_that_takes_over() -> None:
    """What the old leader sent counts, also when it is not in memory any more."""
    raft = core([founded()])
    entry = make_entry(index=2, term=2, kind=EntryKind.COMMAND, command=b"x", time_us=LATE)
    raft.step(AppendEntries(2, 1, 1, [entry], 2), sender=NodeId("b"))
    sync(raft)
    raft.step(AppendEntries(2, 2, 2, [], 2), sender=NodeId("b"))
    raft.log.spare_memory(2)
    raft.take()
    assert raft.log.in_memory_from == 3
    win(raft)
    raft.propose([b"y"], time_us=EARLY)
    assert [LATE, LATE] == [e.time_us for e in raft.log.between(2, 99, max_bytes=1 << 20)]


def test_a_restart_from_a_snapshot_with_an_empty_log() -> None:
    """Of what was applied nothing but the snapshot is left."""
    snapshot = Snapshot(7, 1, ALONE, 1, LATE)
    raft = core([], snapshot=snapshot)
    raft.log.begin_behind(7, 1)
    sync(raft)
    win(raft)
    raft.propose([b"x"], time_us=EARLY)
    assert [LATE, LATE] == [e.time_us for e in raft.log.between(7, 99, max_bytes=1 << 20)]


def test_a_snapshot_that_is_installed() -> None:
    """It brings its time, and its receiver may lead next."""
    raft = core([founded()])
    snapshot = Snapshot(7, 1, ALONE, 1, LATE)
    raft.install(snapshot, term=2, sender=NodeId("b"))
    sync(raft)
    win(raft)
    raft.propose([b"x"], time_us=EARLY)
    assert [LATE, LATE] == [e.time_us for e in raft.log.between(7, 99, max_bytes=1 << 20)]


def test_a_snapshot_that_is_taken_has_its_time() -> None:
    """Of the last entry in it."""
    raft = core([founded()])
    lead(raft)
    sync(raft)
    taken = raft.snapshot_at(3, time_us=EARLY)
    assert taken is not None
    assert (3, EARLY) == (taken.index, taken.time_us)
