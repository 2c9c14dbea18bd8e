"""A node's directory that is driven while everything it may say after a crash is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TypeAlias

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import Entry, EntryKind, NodeId, make_entry
from tinyraft.core.snapshot import Snapshot
from tinyraft.storage.data_dir import DataDir, Identity
from tinyraft.storage.disk import NoRoom
from tinyraft.storage.recovery import Recovered
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import SimDisk

DATA = Path("/data")
WAL = DATA / "wal"
SEGMENT_BYTES = 420
LOG_ID = 0x1122_3344_5566_7788
ME = Identity(NodeId("a"), "", LOG_ID)
MEMBER = replace(ME, cluster_id="c")
State: TypeAlias = tuple[tuple[int, str | None], tuple[tuple[int, int, bytes], ...]]


def make_disk(*, sector_bytes: int = 0) -> SimDisk:
    """Return a disk with an empty data directory."""
    disk = SimDisk(sector_bytes=sector_bytes)
    disk.mkdir(DATA)
    disk.sync_dir(Path("/"))
    return disk


def open_wal(disk: SimDisk) -> tuple[Wal, Recovered]:
    """Open the log of a test, without a node around it."""
    return Wal.open(disk, WAL, segment_bytes=SEGMENT_BYTES, log_id=LOG_ID)


@dataclass(slots=True)
class Node:
    """What a started node has open, and who it was when it started."""

    was: Identity | None
    data_dir: DataDir
    wal: Wal
    state: State


def start(disk: SimDisk, *, segment_bytes: int = SEGMENT_BYTES) -> Node:
    """Start as a server does: the lock, then the identity, then the log that belongs to it."""
    data_dir = DataDir.open(disk, DATA)
    was = data_dir.identity
    if was is None:
        data_dir.save_identity(ME)
    log_id = ME.incarnation if was is None else was.incarnation
    wal, recovered = Wal.open(
        disk, data_dir.wal_directory, segment_bytes=segment_bytes, log_id=log_id
    )
    return Node(was, data_dir, wal, state_of(recovered))


def make_entries(first: int, count: int, *, term: int, command: bytes = b"x") -> list[Entry]:
    """Return *count* entries from index *first*."""
    return [
        make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=command)
        for index in range(first, first + count)
    ]


def write(
    entries: Sequence[Entry] = (),
    *,
    state: HardState | None = None,
    cut: int | None = None,
    base: tuple[int, int] | None = None,
) -> Write:
    """Return a write whose mark does not matter."""
    return Write(Mark(0), state, cut, entries, base)


def snapshot_of(index: int, term: int) -> Snapshot:
    """Return what a snapshot up to *index* stands for."""
    return Snapshot(index, term, Configuration((Member(NodeId("a"), "here:1", True),)), 1)


def vote(term: int, voted_for: str | None = None) -> HardState:
    """Return a hard state."""
    return HardState(term, NodeId(voted_for) if voted_for else None)


def state_of(recovered: Recovered) -> State:
    """Return what was recovered as a value that compares and does not change."""
    hard_state = recovered.hard_state
    entries = tuple((entry.index, entry.term, entry.command) for entry in recovered.entries)
    return (hard_state.term, hard_state.voted_for), entries


def recover(disk: SimDisk) -> State:
    """Open the log, forget it, and return its state."""
    _, recovered = open_wal(disk)
    disk.kill()
    return state_of(recovered)


class Life:
    """A node on a simulated disk, and its states: `floor` is synced, `states[-1]` is written."""

    def __init__(self, disk: SimDisk, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.disk = disk
        self.segment_bytes = segment_bytes
        self.states: list[State] = [((0, None), ())]
        self.floor = 0
        self.refused = 0  # times that the disk had no room
        self.provides = True
        self.identities: list[Identity | None] = [None, ME]
        self.wal: Wal | None = None
        self.data_dir: DataDir | None = None

    def open(self) -> None:
        """Start the node, and have it learn its cluster; what it says then is on disk."""
        node = start(self.disk, segment_bytes=self.segment_bytes)
        self.wal, self.data_dir = node.wal, node.data_dir
        self.check(node)
        self.states.append(node.state)
        self.floor = len(self.states) - 1
        if self.data_dir.identity == ME:
            self.identities = [ME, MEMBER]
            self.data_dir.save_identity(MEMBER)
        self.identities = [MEMBER]

    @property
    def allowed(self) -> list[State]:
        """The states that a crash at this moment may leave."""
        return self.states[self.floor :]

    def check(self, node: Node) -> None:
        """A node that started after a crash at this moment forgot nothing, and invents nothing."""
        assert node.state in self.allowed, f"{node.state} is none of {self.allowed}"
        assert node.was in self.identities, f"{node.was} is none of {self.identities}"

    def write(self, *writes: Write) -> None:
        """Write, and remember each step on the way."""
        hard_state, entries = self.states[-1]
        for item in writes:
            if item.hard_state is not None:
                hard_state = (item.hard_state.term, item.hard_state.voted_for)
                self.states.append((hard_state, entries))
            if item.cut_from is not None:
                entries = entries[: item.cut_from - 1]
                self.states.append((hard_state, entries))
            entries += tuple((e.index, e.term, e.command) for e in item.entries)
            self.states.append((hard_state, entries))
        assert self.wal is not None
        try:
            self.wal.write(writes)
        except NoRoom:  # there is room again: the same log goes on
            self.disk.heal()
            self.refused += 1
            self.wal.write(())

    def sync(self) -> None:
        """Sync, raise the floor, and look for the next segment's room, as a node does."""
        assert self.wal is not None
        self.wal.sync()
        self.floor = len(self.states) - 1
        if self.provides:
            self.refused += not self.wal.provide(again=True)

    def close(self) -> None:
        """Close, and raise the floor."""
        assert self.wal is not None
        assert self.data_dir is not None
        self.wal.close()
        self.floor = len(self.states) - 1
        self.data_dir.close()

    def kill(self) -> None:
        """Kill the process."""
        self.disk.kill()


def fixed_life(life: Life) -> None:
    """Live a life that does everything once, rolling over several segments."""
    life.open()
    life.write(write(state=vote(1, "a")), write(make_entries(1, 2, term=1)))
    life.sync()
    life.write(write(make_entries(3, 2, term=1)), write(make_entries(5, 1, term=1)))
    life.write(write(state=vote(2)))
    life.sync()
    life.write(write(make_entries(4, 1, term=2, command=b"y" * 40), state=vote(3, "b"), cut=4))
    life.sync()
    life.write(write(make_entries(5, 3, term=3, command=b"z" * 50)))
    life.write(write(make_entries(8, 1, term=3, command=b"large" * 100)))
    life.sync()
    life.close()
    life.open()
    life.write(write(make_entries(9, 1, term=3)))
    life.sync()
    life.write(write(make_entries(8, 2, term=4), state=vote(4), cut=8))
    life.kill()
    life.open()
    life.write(write(make_entries(10, 1, term=4, command=b"")))
    life.sync()
    life.write(write(make_entries(11, 1, term=4, command=b"unsynced")))


def random_life(life: Life, *, random: Random, steps: int) -> None:
    """Live a life of chance."""
    life.open()
    for _ in range(steps):
        dice = random.random()
        if dice < 0.6:
            random_write(life, random=random)
        elif dice < 0.9:
            life.sync()
        elif dice < 0.95:
            reopen(life)
        else:
            killed(life)


def random_write(life: Life, *, random: Random) -> None:
    """Write one to three changes in one call."""
    (term, voted_for), entries = life.states[-1]
    last, last_term = len(entries), entries[-1][1] if entries else 0
    writes: list[Write] = []
    for _ in range(random.randint(1, 3)):
        state, cut = None, None
        if term == 0 or random.random() < 0.3:
            term, voted_for = term + random.randint(1, 2), random.choice([None, "a", "node-b"])
            state = vote(term, voted_for)
        if last and random.random() < 0.25:
            last = random.randint(max(0, last - 4), last)
            cut, last_term = last + 1, 0
        count = random.choice([0, 1, 1, 2, 4])
        command = random.randbytes(random.choice([0, 3, 20, 90]))
        new = make_entries(last + 1, count, term=term, command=command)
        last += count
        writes.append(write(new, state=state, cut=cut))
    assert last_term <= term
    life.write(*writes)


def reopen(life: Life) -> None:
    """End the process in order and start again."""
    life.close()
    life.kill()
    life.open()


def killed(life: Life) -> None:
    """Kill the process and start again: nothing that was written may be missing."""
    life.kill()
    life.open()
    assert life.states[-2] == life.states[-1]
