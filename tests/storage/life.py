"""A node's directory that is driven while everything it may say after a crash is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import (
    Entry,
    EntryKind,
    NodeId,
    decode_entries,
    encode_entries,
    make_entry,
)
from tinyraft.core.snapshot import Snapshot
from tinyraft.storage.data_dir import DataDir, Identity
from tinyraft.storage.disk import NoRoom
from tinyraft.storage.recovery import Recovered
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import SimDisk

DATA = Path("/data")
WAL = DATA / "wal"
SEGMENT_BYTES = 420
LOG_ID = 0x1122_3344_5566_7788
ME = Identity(NodeId("a"), "", LOG_ID)
MEMBER = replace(ME, cluster_id="c")
Facts: TypeAlias = tuple[tuple[int, int, bytes], ...]
State: TypeAlias = tuple[tuple[int, str | None], Facts]


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
    snapshots: Snapshots
    wal: Wal
    state: State


def start(disk: SimDisk, *, segment_bytes: int = SEGMENT_BYTES) -> Node:
    """Start as a server does: the lock, the identity, the snapshots, the log that goes with them.

    The state is what module and log remember together: all entries from 1 on.
    """
    data_dir = DataDir.open(disk, DATA)
    was = data_dir.identity
    if was is None:
        data_dir.save_identity(ME)
    log_id = ME.incarnation if was is None else was.incarnation
    cluster_id = was.cluster_id if was else ""
    snapshots = Snapshots.open(disk, data_dir.snapshots_directory, cluster_id=cluster_id)
    metas = [file.meta for file in snapshots.kept]
    wal, recovered = Wal.open(
        disk,
        data_dir.wal_directory,
        segment_bytes=segment_bytes,
        log_id=log_id,
        snapshots=metas,
        damaged=snapshots.notices,
    )
    state = joined(recovered, snapshots)
    assert_readable(wal, recovered)
    return Node(was, data_dir, snapshots, wal, state)


def joined(recovered: Recovered, snapshots: Snapshots) -> State:
    """Put the log behind the newest snapshot; where both have an entry they must agree."""
    hard_state, log = state_of(recovered)
    newest = snapshots.newest
    assert recovered.snapshot == (newest.meta if newest else None)
    if newest is None:
        assert 0 == recovered.terms.base_index
        return hard_state, log
    taken = facts_of(decode_entries(b"".join(snapshots.read(newest))))
    assert (newest.meta.index, newest.meta.term) == taken[-1][:2]
    base = recovered.terms.base_index
    assert base <= len(taken) <= recovered.terms.last_index
    assert taken[base:] == log[: len(taken) - base], "snapshot and log contradict each other"
    return hard_state, taken + log[len(taken) - base :]


def assert_readable(wal: Wal, recovered: Recovered) -> None:
    """What is in memory stands on the disk too, where it is looked for; the terms fit."""
    terms = recovered.terms
    read = wal.read(terms.base_index, terms.last_index, max_bytes=10**9)
    assert recovered.entries == read, "the log reads otherwise than it was recovered"
    assert [e.term for e in read] == [terms.at(e.index) for e in read]
    assert terms.last_index == terms.base_index + len(read)


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
    return (hard_state.term, hard_state.voted_for), facts_of(recovered.entries)


def facts_of(entries: Sequence[Entry]) -> Facts:
    """Return what is to know of *entries*."""
    return tuple((entry.index, entry.term, entry.command) for entry in entries)


def encoded(facts: Facts) -> bytes:
    """Return the content of a snapshot of these entries."""
    made = (make_entries(index, 1, term=term, command=command) for index, term, command in facts)
    return b"".join(encode_entries(entries) for entries in made)


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
        self.snapshots: Snapshots | None = None
        self.taken = 0  # the newest snapshot's index: all of that is agreed on
        self.data_dir: DataDir | None = None

    def open(self) -> None:
        """Start the node, and have it learn its cluster; what it says then is on disk."""
        node = start(self.disk, segment_bytes=self.segment_bytes)
        self.wal, self.data_dir, self.snapshots = node.wal, node.data_dir, node.snapshots
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

    def snapshot(self, index: int) -> None:
        """Take a snapshot of what is synced up to *index*: nothing that is remembered changes."""
        assert self.snapshots is not None
        facts = self.states[self.floor][1][:index]
        assert all(facts == state[1][:index] for state in self.allowed), "not agreed on"
        meta = snapshot_of(index, facts[-1][1])
        self.snapshots.write(meta, [encoded(facts)], cluster_id=MEMBER.cluster_id)
        self.taken = index

    def shorten(self, *, keep: int = 2) -> None:
        """Remove what the snapshots no longer need."""
        assert self.snapshots is not None
        assert self.wal is not None
        self.wal.compact(self.snapshots.prune(keep=keep))

    def install(self, facts: Facts, *, size: int) -> None:
        """Receive a snapshot of *facts*, in pieces of *size* bytes, and let it replace the log."""
        assert self.snapshots is not None
        assert self.wal is not None
        index, term, _ = facts[-1]
        source = Snapshots.open(make_disk(), DATA / "snapshots")
        meta = snapshot_of(index, term)
        file = source.write(meta, [encoded(facts)], cluster_id=MEMBER.cluster_id)
        # From the moment of its name on, whatever the log is, recovery lets it begin there.
        before = len(self.states)
        for (had, voted_for), _ in self.allowed:
            self.states.append(((had, voted_for) if had >= term else (term, None), facts))
        incoming = self.snapshots.receive(id=file.id, index=index, term=term, size=file.size)
        while not incoming.is_whole:
            data = source.raw(file, offset=incoming.offset, size=size)
            incoming.add(incoming.offset, data)
        incoming.publish()
        self.floor, self.taken = before, index
        hard_state = vote(*self.states[-1][0])
        self.wal.write([write(state=hard_state, base=(index, term))])

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
