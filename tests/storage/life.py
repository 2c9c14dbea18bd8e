"""A log that is driven while everything it may say after a crash is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TypeAlias

from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import Entry, EntryKind, NodeId, make_entry
from tinyraft.storage.recovery import Recovered
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Change, SimDisk, kept, lost

WAL = Path("/data/wal")
SEGMENT_BYTES = 420
LOG_ID = 0x1122_3344_5566_7788
State: TypeAlias = tuple[tuple[int, str | None], tuple[tuple[int, int, bytes], ...]]
READS = frozenset({"open", "pread", "size", "exists", "names", "close", "lock"})


def make_disk() -> SimDisk:
    """Return a disk with an empty data directory."""
    disk = SimDisk()
    disk.mkdir(Path("/data"))
    disk.sync_dir(Path("/"))
    return disk


def open_wal(disk: SimDisk) -> tuple[Wal, Recovered]:
    """Open the log of a test."""
    return Wal.open(disk, WAL, segment_bytes=SEGMENT_BYTES, log_id=LOG_ID)


def make_entries(first: int, count: int, *, term: int, command: bytes = b"x") -> list[Entry]:
    """Return *count* entries from index *first*."""
    return [
        make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=command)
        for index in range(first, first + count)
    ]


def write(
    entries: Sequence[Entry] = (), *, state: HardState | None = None, cut: int | None = None
) -> Write:
    """Return a write whose mark does not matter."""
    return Write(Mark(0), state, cut, entries)


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
    """A log on a simulated disk, and its states: `floor` is synced, `states[-1]` is written."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.states: list[State] = [((0, None), ())]
        self.floor = 0
        self.wal: Wal | None = None

    def open(self) -> None:
        """Open the log; what it says then is on disk."""
        self.wal, recovered = open_wal(self.disk)
        assert state_of(recovered) in self.allowed
        self.states.append(state_of(recovered))
        self.floor = len(self.states) - 1

    @property
    def allowed(self) -> list[State]:
        """The states that a crash at this moment may leave."""
        return self.states[self.floor :]

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
        self.wal.write(writes)

    def sync(self) -> None:
        """Sync, and raise the floor."""
        assert self.wal is not None
        self.wal.sync()
        self.floor = len(self.states) - 1

    def close(self) -> None:
        """Close, and raise the floor."""
        assert self.wal is not None
        self.wal.close()
        self.floor = len(self.states) - 1

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


def watch(disk: SimDisk, look: Callable[[], object]) -> None:
    """Call *look* at each moment at which the disk differs from the moment before."""

    def before() -> None:
        if disk.trace and disk.trace[-1][0] not in READS:
            look()

    disk.before = before


def images(disk: SimDisk, *, random: Random, most: int) -> Iterator[SimDisk]:
    """Make disks that a power loss at this moment may leave, at most so many.

    Names: each number of kept changes. Files: nothing, everything, and for the rest by chance any
    subset, each change whole or torn in front, behind or both.
    """
    changes = disk.pending()
    for count in range(disk.pending_names() + 1):
        for keep in (lost, kept):
            yield disk.crash(keep, names=lambda total, n=count: min(n, total))  # type: ignore[misc]
    for _ in range(most if changes else 0):
        count = random.randint(0, disk.pending_names())
        yield disk.crash(torn(random), names=lambda total, n=count: min(n, total))  # type: ignore[misc]


def torn(random: Random) -> Callable[[Change], tuple[int, int] | None]:
    """Return a fate of chance for each change."""
    edges = (1, 4, 35, 36, 37, 71, 72, 73)

    def keep(change: Change) -> tuple[int, int] | None:
        size = len(change.data)
        cut = random.choice([*[edge for edge in edges if edge < size], random.randint(0, size)])
        return random.choice([None, (0, size), (0, size), (0, cut), (cut, size)])

    return keep
