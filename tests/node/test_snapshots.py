"""Snapshots in a node: when they are taken, what may go, how they travel, what restores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest

from tests.cluster import DEADLINE, Words, empty_shelf
from tests.node.cores import SETTINGS, make_core, make_leader, sync
from tinyraft.core.configuration import Configuration
from tinyraft.core.effects import HardState, Held, InSnapshot, Mark, Synced, Write
from tinyraft.core.entry import (
    OPENS_SESSION,
    Entry,
    EntryKind,
    Index,
    NodeId,
    Origin,
    Stamp,
    make_entry,
    stamp,
)
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    Reply,
    Request,
    VoteReply,
)
from tinyraft.core.raft import Raft
from tinyraft.core.sessions import LIMITS
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import (
    CorruptLog,
    LeadershipLost,
    ModuleError,
    ModuleFailed,
    NotStarted,
    ReentrantCall,
    StorageFailed,
    TinyraftError,
)
from tinyraft.logs import Log
from tinyraft.node.applier import Applier
from tinyraft.node.installer import Installer
from tinyraft.node.lanes import AppendStream, BulkLane
from tinyraft.node.shipment import PATIENCE, Shipments
from tinyraft.node.snapshotter import SnapshotPolicy, Snapshotter
from tinyraft.node.waiters import Waiter, Waiters
from tinyraft.storage.snapshot_file import SnapshotFile
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Fault, SimDisk

B = NodeId("b")
NOBODY = Configuration()


class Tape:
    """A module that keeps all it was given, and can copy and replace that."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.during: Callable[[], object] = lambda: None  # called while a snapshot is written

    def apply(self, command: bytes, /) -> None:
        """Keep it."""
        self.words.append(command)

    def snapshot(self) -> Iterator[bytes]:
        """Copy it; later words are not in the copy."""
        words = list(self.words)

        def chunks() -> Iterator[bytes]:
            for word in words:
                self.during()
                yield word + b"\n"

        return chunks()

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Replace it."""
        self.words = b"".join(chunks).splitlines()


class Journal:
    """What the snapshotter sees of the log on disk."""

    def __init__(self) -> None:
        self.trailing: Index = 10**9
        self.compacted: list[Index] = []

    def index_before_bytes(self, size: int) -> Index:
        """Tell what the test says."""
        return self.trailing

    def compact(self, index: Index) -> None:
        """Note it."""
        self.compacted.append(index)


class Bench:
    """A node's applier and snapshotter over a core that leads alone, and a disk in memory."""

    def __init__(self, module: Any = None, *, entries: int = 4) -> None:
        self.module: Any = module or Tape()
        self.disk = SimDisk()
        self.shelf = Snapshots.open(self.disk, Path("/snapshots"))
        self.core = make_leader("a", "a")
        sync(self.core)
        self.waiters = Waiters()
        self.failures: list[ModuleFailed] = []
        self.applier = Applier(
            self.module,
            waiters=self.waiters,
            fetch=self.fetch,
            shelf=self.shelf,
            failed=self.failures.append,
            log=Log("test"),
            applied=lambda: self.snapshotter.look(),
        )
        self.journal = Journal()
        self.shipments = Shipments(self.shelf, piece_bytes=64)
        self.snapshotter = Snapshotter(
            self.module,
            applier=self.applier,
            shelf=self.shelf,
            journal=self.journal,
            shipments=self.shipments,
            turn=self.turn,
            cluster_id=lambda: "c",
            policy=SnapshotPolicy(bytes=10**9, entries=entries, trailing_bytes=1),
            log=Log("test"),
        )

    def turn(self, event: Callable[[Raft], Any], *, rings_writer: bool = True) -> Any:
        """Visit the core."""
        return event(self.core)

    def fetch(self, after: Index, max_bytes: int) -> list[Entry] | InSnapshot:
        """Give what is committed; all is in memory."""
        found = self.core.committed(after, max_bytes=max_bytes)
        assert isinstance(found, list | InSnapshot)
        return found

    def say(self, *words: bytes, stamps: Sequence[Stamp] = ()) -> None:
        """Commit and apply *words*."""
        self.core.propose(words, time_us=0, stamps=stamps)
        sync(self.core)
        self.apply()

    def apply(self) -> None:
        """Run the applier's halves until there is no more."""
        while self.applier.failure is None and (batch := self.applier.next_batch()):
            if isinstance(batch, InSnapshot):
                self.applier.restore()
            else:
                self.applier.apply(batch)

    def export(self) -> SnapshotFile:
        """Take one and read its file."""
        with self.snapshotter.exporting() as (meta, pieces):
            file = self.shelf.newest
            assert file is not None
            assert (file.meta, b"".join(pieces)) == (meta, self.disk.content(file.path))
        return file

    def export_content(self) -> bytes:
        """Read the newest snapshot, as the module gave it."""
        return b"".join(word + b"\n" for word in self.content())

    def content(self) -> list[bytes]:
        """Read the newest snapshot."""
        assert self.shelf.newest is not None
        return b"".join(self.shelf.read(self.shelf.newest)).splitlines()


@pytest.fixture
def bench() -> Bench:
    """A node with a module that has snapshots."""
    return Bench()


# --- taking ---------------------------------------------------------------------------------------


def test_one_is_taken_when_enough_was_applied(bench: Bench) -> None:
    """The bell rings at the bound, not before, and not again before as much was applied."""
    bench.say(b"1")
    assert not bench.snapshotter.bell.take()
    bench.say(b"2", b"3", b"4")
    assert bench.snapshotter.bell.take()
    bench.snapshotter.take()
    bench.say(b"5")
    assert not bench.snapshotter.is_due()
    bench.say(b"6", b"7", b"8")
    assert bench.snapshotter.is_due()


def test_bytes_count_too(bench: Bench) -> None:
    """A few large commands are as much as many small ones."""
    bench.snapshotter._policy = SnapshotPolicy(bytes=1200, entries=10**9)
    bench.say(b"x" * 900)
    assert not bench.snapshotter.is_due()
    bench.say(b"x" * 200)
    assert bench.snapshotter.is_due()


def test_the_copy_is_of_one_index(bench: Bench) -> None:
    """The module goes on while its copy is written; the snapshot is of when it was asked (P55)."""
    bench.say(b"1", b"2")
    index = bench.applier.last_applied
    bench.module.during = lambda: bench.say(b"later") if len(bench.module.words) < 4 else None
    file = bench.snapshotter.take()
    assert (file.meta.index, bench.content()) == (index, [b"1", b"2"])
    assert bench.module.words == [b"1", b"2", b"later", b"later"]


def test_the_log_goes_only_up_to_the_older_of_two(bench: Bench) -> None:
    """If the newest rots, the one before and the log behind it have everything (P57)."""
    bench.say(b"1", b"2")
    first = bench.snapshotter.take().meta.index
    assert bench.journal.compacted == []
    bench.say(b"3")
    second = bench.snapshotter.take().meta.index
    assert bench.journal.compacted == [first]
    assert (bench.core.log.base_index, bench.core.snapshot_index) == (first, second)
    bench.say(b"4")
    bench.snapshotter.take()
    assert len(bench.shelf.kept) == 2
    assert bench.core.log.base_index == second


def test_a_tail_of_bytes_stays(bench: Bench) -> None:
    """A follower that lags a little finds its entries in the log (P53)."""
    bench.journal.trailing = 3
    for word in b"abcdef":
        bench.say(bytes([word]))
        bench.snapshotter.take()
    assert bench.core.log.base_index == 3


def test_what_is_on_its_way_is_pinned(bench: Bench) -> None:
    """Neither the file nor the log behind it goes while a follower is sent it (P53)."""
    bench.say(b"1")
    sent = bench.snapshotter.take().meta.index
    shipment = bench.shipments.begin(term=2)
    for word in b"abcd":
        bench.say(bytes([word]))
        bench.snapshotter.take()
    assert bench.core.log.base_index == sent
    assert len(bench.shelf.kept) == 3  # not all that were taken since
    assert shipment.next_piece() is not None
    bench.shipments.end(shipment)
    bench.say(b"e")
    bench.snapshotter.take()
    assert len(bench.shelf.kept) == 2
    assert bench.core.log.base_index > sent


def test_an_export_keeps_its_file_and_not_the_log(bench: Bench) -> None:
    """Whoever takes hours for it goes on nowhere in the log, which would fill the disk."""
    bench.say(b"1")
    with bench.snapshotter.exporting() as (meta, pieces):
        for word in b"abcd":
            bench.say(bytes([word]))
            bench.snapshotter.take()
        assert bench.core.log.base_index > meta.index
        assert b"".join(pieces)
    bench.say(b"e")
    bench.snapshotter.take()
    assert len(bench.shelf.kept) == 2


def test_a_second_one_of_the_same_index_does_not_take_the_place_of_what_is_on_its_way(
    bench: Bench,
) -> None:
    """An operator who asks again and again while nothing is said ends no transfer."""
    bench.say(b"1")
    bench.snapshotter.take()
    shipment = bench.shipments.begin(term=2)
    for _ in range(9):
        bench.snapshotter.take()
    assert shipment.next_piece() is not None
    assert bench.journal.compacted == []
    bench.shipments.end(shipment)
    bench.snapshotter.take()
    assert len(bench.shelf.kept) == 1


@pytest.mark.parametrize(
    "call", ["create", "pwrite", "sync", "pread", "rename", "sync_dir"], ids="{} fails".format
)
def test_a_disk_without_room_costs_a_snapshot_and_nothing_else(bench: Bench, call: str) -> None:
    """What is there stays, the log is not shortened, and the next one may succeed (P57)."""
    bench.say(b"1", b"2")
    kept = bench.snapshotter.take()
    bench.say(b"3")
    bench.disk.fail(Fault(0, 28, call, forever=True))
    with pytest.raises(StorageFailed, match="the log and the older snapshots stand"):
        bench.snapshotter.take()
    bench.disk.heal()
    assert bench.shelf.newest == kept
    assert (bench.core.log.base_index, bench.core.snapshot_index) == (0, kept.meta.index)
    assert bench.snapshotter.take().meta.index > kept.meta.index


class Broken(Tape):
    """A module whose snapshot does what the test says."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__()
        self.act = act

    def snapshot(self) -> Any:
        """Do it."""
        return self.act()


def failing() -> Iterator[bytes]:
    """Give one chunk and no more."""
    yield b"half"
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("act", "why"),
    [
        pytest.param(lambda: 1 / 0, "ZeroDivisionError", id="it raises"),
        pytest.param(failing, "KeyError", id="it raises on the way"),
        pytest.param(lambda: ["text"], "a str, not bytes", id="it gives text"),
        pytest.param(lambda: 7, "TypeError", id="it gives nothing to iterate"),
    ],
)
def test_a_module_that_can_not_copy_itself_is_told_of(act: Any, why: str) -> None:
    """Whoever asked is told, nothing is left behind, and the node goes on applying."""
    bench = Bench(Broken(act))
    bench.say(b"1")
    with pytest.raises(ModuleError, match=why):
        bench.snapshotter.take()
    assert [] == list(bench.disk.names(Path("/snapshots")))
    bench.snapshotter.try_to_take()
    bench.say(b"2")
    assert bench.module.words == [b"1", b"2"]


def test_a_module_without_snapshots_keeps_its_log_whole() -> None:
    """It has no thread for them, and who asks is told why."""
    bench = Bench(Words())
    bench.say(b"1", b"2", b"3", b"4", b"5")
    assert (bench.snapshotter.can, bench.snapshotter.bell.take()) == (False, False)
    with pytest.raises(ModuleError, match="no snapshot"):
        bench.snapshotter.take()


def test_shutting_down_gives_a_snapshot_up(bench: Bench) -> None:
    """A large one is not waited for."""
    bench.say(b"1", b"2")
    bench.module.during = bench.snapshotter.stop
    with pytest.raises(NotStarted, match="shutting down"):
        bench.snapshotter.take()
    assert bench.shelf.newest is None


def test_after_a_restart_the_one_on_disk_is_the_newest(bench: Bench) -> None:
    """Who asks before the module was given it gets it; the core knows nothing of before it."""
    bench.say(b"1")
    kept = bench.snapshotter.take()
    last = bench.core.log.last_index
    bench.core = Raft(
        me=NodeId("a"),
        settings=SETTINGS,
        hard_state=HardState(2, None),
        entries=bench.core.log.between(0, last, max_bytes=1 << 20),
        random=Random(7),
        snapshot=kept.meta,
    )
    bench.applier.last_applied = 0
    assert bench.core.log.base_index == 0
    assert bench.snapshotter.take() == kept


def test_before_anything_was_applied_there_is_nothing_to_keep(bench: Bench) -> None:
    """The disk is not blamed for that."""
    with pytest.raises(NotStarted, match="nothing was applied yet"):
        bench.snapshotter.take()
    assert bench.shelf.newest is None


def test_a_module_that_asks_for_a_snapshot_is_told_at_once(bench: Bench) -> None:
    """It is not kept waiting for somebody who takes one, and waits for it (P96)."""
    told: list[Callable[[], SnapshotFile]] = []

    def call_back() -> None:
        with bench.applier.mutex.held():
            for ask in (bench.snapshotter.take, bench.export):
                with suppress(ReentrantCall):
                    ask()
                told.append(ask)

    with bench.snapshotter._lock:
        thread = Thread(target=call_back, daemon=True)
        thread.start()
        thread.join(DEADLINE)
        assert len(told) == 2
    assert bench.shelf.newest is None


# --- restoring ------------------------------------------------------------------------------------


def put(shelf: Snapshots, index: Index, *words: bytes) -> SnapshotFile:
    """Put a snapshot of *words* on *shelf*."""
    return shelf.write(Snapshot(index, 2, NOBODY, 0), words, cluster_id="c")


def test_a_snapshot_replaces_everything(bench: Bench) -> None:
    """What the module had before is gone, and applying goes on behind the snapshot (P56)."""
    bench.say(b"old")
    put(bench.shelf, 9, b"new\n", b"state\n")
    bench.applier.restore()
    assert (bench.module.words, bench.applier.last_applied) == ([b"new", b"state"], 9)


def test_a_snapshot_carries_what_the_outcomes_came_to(bench: Bench) -> None:
    """Whoever goes on from it compares like the one who took it."""
    bench.say(b"1", b"2")
    file = bench.snapshotter.take()
    state = bench.applier.agreement.state
    assert state
    assert state == file.meta.digest
    bench.say(b"3")
    assert state != bench.applier.agreement.state
    bench.applier.restore()
    assert (state, file.meta.index) == (
        bench.applier.agreement.state,
        bench.applier.agreement.last_command,
    )


def test_a_snapshot_that_may_be_wrong_is_not_sent(bench: Bench) -> None:
    """In the name of term 0 nobody takes it."""
    bench.say(b"1")
    bench.snapshotter.take()
    bench.shipments.are_withheld = True
    piece = bench.shipments.begin(term=7).next_piece()
    assert piece is not None
    assert 0 == piece.term


def test_a_snapshot_carries_what_clients_were_answered(bench: Bench) -> None:
    """Who is restored from it does not apply again what came before it, by any number (P49)."""
    bench.say(LIMITS, stamps=[OPENS_SESSION])
    session = bench.applier.last_applied
    term = bench.core.term
    one, named = Origin(session, term, 1, 1), Origin(session, term, 2, 1, "order-1")
    bench.say(b"one", b"named", stamps=[stamp(one), stamp(named)])
    assert [b"one", b"named"] == bench.module.words
    file = bench.snapshotter.take()
    other = Bench()
    other.shelf.write(
        file.meta, [bench.export_content()], cluster_id="c", sessions=bench.shelf.sessions(file)
    )
    other.applier.restore()
    assert list(bench.applier.sessions.snapshot()) == list(other.applier.sessions.snapshot())
    for made in (bench, other):
        assert made.applier.sessions.find(one, b"one") is not None
        assert made.applier.sessions.find(Origin(0, 0, 0, 0, "order-1"), b"named") is not None
        assert made.applier.sessions.find(Origin(session, term, 3, 1), b"new") is None


class Fragile(Tape):
    """A module that fails in the middle of a restore."""

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Take one chunk, and fail."""
        self.words.append(next(iter(chunks)))
        raise ValueError("not mine")


@pytest.mark.parametrize("module", [Fragile(), Words()], ids=["it raises", "it has no restore"])
def test_a_failed_restore_ends_the_applying(module: Any) -> None:
    """Half a state is none: nothing counts as applied, and nothing more is (P56)."""
    bench = Bench(module)
    bench.say(b"1")
    before = bench.applier.last_applied
    put(bench.shelf, 9, b"new\n")
    bench.applier.restore()
    assert bench.applier.last_applied == before
    assert bench.failures == [bench.applier.failure]
    with pytest.raises(ModuleFailed, match="could not restore"):
        bench.applier.call(len)
    with pytest.raises(ModuleFailed):
        bench.applier.copy(lambda: None)


class Careless(Tape):
    """A module that catches whatever happens."""

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Take what comes."""
        with suppress(Exception):
            super().restore(chunks)


@pytest.mark.parametrize("module", [Tape(), Careless()], ids=["raises on", "catches all"])
def test_a_damaged_snapshot_stops_the_node(module: Any) -> None:
    """That is not the module's trouble, whatever it does: this disk can't be trusted."""
    bench = Bench(module)
    file = put(bench.shelf, 9, b"new\n")
    data = bytearray(bench.disk.content(file.path))
    data[-10] ^= 1
    bench.disk.put(file.path, bytes(data))
    with pytest.raises(CorruptLog, match=str(file.path)):
        bench.applier.restore()
    assert (bench.failures, bench.applier.last_applied) == ([], 0)
    with pytest.raises(ModuleFailed, match="could not restore"):
        bench.applier.call(len)


def test_who_waits_inside_a_snapshot_is_told_that_it_may_be_there(bench: Bench) -> None:
    """Its entry went, unseen, into a snapshot of another leader, or it did not."""
    inside, behind = Waiter(), Waiter()
    bench.waiters.add([inside], first=9, term=2)
    bench.waiters.add([behind], first=10, term=2)
    put(bench.shelf, 9, b"new\n")
    bench.applier.restore()
    with pytest.raises(LeadershipLost, match="may have been applied"):
        inside.wait(0)
    assert len(bench.waiters) == 1


class SilentLink:
    """A link that nobody uses."""

    def call(self, request: Request, *, timeout: float) -> Reply | None:
        """Not called."""
        raise NotImplementedError

    def open_stream(self, appends: Iterator[AppendEntries]) -> AppendStream:
        """Not called."""
        raise NotImplementedError

    def close(self) -> None:
        """End."""


# --- sending and receiving ------------------------------------------------------------------------


class Follower:
    """The receiving side: a core, its disk, and an installer."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.shelf = Snapshots.open(self.disk, Path("/snapshots"))
        self.core = make_core("b", "a", "b")
        self.installer = Installer(self.shelf, turn=self.turn)

    def turn(self, event: Callable[[Raft], Any], *, rings_writer: bool = True) -> Any:
        """Visit the core."""
        return event(self.core)

    def take(self, piece: InstallSnapshot) -> Reply:
        """Take a piece; its disk finishes at once."""
        answer = self.installer.take(piece, NodeId("a"))
        effects = self.core.take()
        if effects.write is not None:
            self.core.synced(Synced(effects.write.mark))
        return answer.release(Synced(answer.after)) if isinstance(answer, Held) else answer


def shelf_with(index: Index, *words: bytes) -> Shipments:
    """Make a shelf with one snapshot, ready to be sent in small pieces."""
    shelf = empty_shelf()
    put(shelf, index, *words)
    return Shipments(shelf, piece_bytes=50)


def test_a_snapshot_travels_in_pieces_and_goes_on_where_it_broke_off() -> None:
    """The follower says how much it has; the same bytes are not sent twice."""
    shipments, follower = shelf_with(9, b"a" * 100, b"b" * 100), Follower()
    first = shipments.begin(term=2)
    for _ in range(3):
        piece = first.next_piece()
        assert piece is not None
        first.answered(follower.take(piece))
    first.answered(None)
    assert (first.next_piece(), first.has_arrived) == (None, False)

    second = shipments.begin(term=2)
    offsets: list[int] = []
    while (piece := second.next_piece()) is not None:
        offsets.append(piece.offset)
        second.answered(follower.take(piece))
    assert second.has_arrived
    assert offsets[:2] == [0, 150]
    newest = follower.shelf.newest
    assert newest is not None
    assert b"".join(follower.shelf.read(newest)) == b"a" * 100 + b"b" * 100
    assert (follower.core.log.base_index, follower.core.commit_index) == (9, 9)
    assert isinstance(follower.core.committed(0, max_bytes=1), InSnapshot)


def test_installed_snapshots_do_not_pile_up(bench: Bench) -> None:
    """A follower that is often away and takes none of its own keeps two, too."""
    installer = Installer(bench.shelf, turn=bench.turn, came=bench.snapshotter.came)
    bench.core = make_core("a", "a", "b")
    for index in (10, 20, 30, 40):
        bench.snapshotter.bell.take()
        shipment = shelf_with(index, b"a" * 100).begin(term=2)
        while (piece := shipment.next_piece()) is not None:
            answer = installer.take(piece, B)
            sync(bench.core)
            shipment.answered(answer.release(Synced(99)) if isinstance(answer, Held) else answer)
        assert shipment.has_arrived
        assert bench.snapshotter.bell.take()
        bench.snapshotter.tidy()
    assert [file.meta.index for file in bench.shelf.kept] == [30, 40]
    assert bench.core.log.base_index == 40
    bench.disk.fail(Fault(0, 5, "sync_dir", forever=True))
    bench.snapshotter.came()
    bench.snapshotter.tidy()  # tells, and goes on


def test_pieces_of_two_snapshots_are_never_mixed() -> None:
    """Two of one index differ in their bytes; the id tells them apart (P51)."""
    one, other = shelf_with(9, b"a" * 100), shelf_with(9, b"b" * 100)
    follower = Follower()
    here, there = one.begin(term=2), other.begin(term=2)
    for shipment in (here, there):
        piece = shipment.next_piece()
        assert piece is not None
        shipment.answered(follower.take(piece))
    stray = here.next_piece()
    assert stray is not None
    assert stray.offset == 50
    assert follower.take(stray) == InstallReply(2, 0)
    while (piece := there.next_piece()) is not None:
        there.answered(follower.take(piece))
    assert there.has_arrived
    newest = follower.shelf.newest
    assert newest is not None
    assert b"".join(follower.shelf.read(newest)) == b"b" * 100


def test_an_old_snapshot_is_acknowledged_and_not_taken() -> None:
    """What is committed stays; the leader learns that it need not send it (P51)."""
    shipments, follower = shelf_with(1, b"old"), Follower()
    follower.core.commit_index = 1
    shipment = shipments.begin(term=2)
    piece = shipment.next_piece()
    assert piece is not None
    shipment.answered(follower.take(piece))
    assert shipment.has_arrived
    assert follower.shelf.newest is None


def test_a_leader_of_the_past_sends_in_vain() -> None:
    """The answer has the newer term, and nothing was written."""
    shipments, follower = shelf_with(9, b"new"), Follower()
    shipment = shipments.begin(term=1)
    follower.core.step_install(InstallSnapshot(5, 1, 9, 2, 1, 0, b"x"), NodeId("c"))
    piece = shipment.next_piece()
    assert piece is not None
    reply = follower.take(piece)
    assert reply == InstallReply(5)
    shipment.answered(reply)
    assert (shipment.next_piece(), shipment.has_arrived) == (None, False)


def test_every_piece_is_a_sign_of_life() -> None:
    """A transfer that takes longer than an election timeout elects nobody (P58)."""
    shipments, follower = shelf_with(9, b"a" * 400), Follower()
    shipment = shipments.begin(term=2)
    ticks = follower.core.settings.election_ticks - 1
    while (piece := shipment.next_piece()) is not None:
        for _ in range(ticks):
            follower.core.tick()
        shipment.answered(follower.take(piece))
    assert shipment.has_arrived
    assert follower.core.term == 2


def test_a_snapshot_that_came_broken_is_not_taken() -> None:
    """It is refused with a reason, dropped, and may come again."""
    shipments, follower = shelf_with(9, b"a" * 100), Follower()
    shipment = shipments.begin(term=2)

    def send() -> None:
        while (piece := shipment.next_piece()) is not None:
            if piece.offset:
                piece.data = bytes(len(piece.data))
            shipment.answered(follower.take(piece))

    with pytest.raises(TinyraftError, match="can't be read"):
        send()
    assert follower.shelf.newest is None
    again = shipments.begin(term=2)
    while (piece := again.next_piece()) is not None:
        again.answered(follower.take(piece))
    assert again.has_arrived


def test_a_follower_that_never_gets_on_is_given_up() -> None:
    """It is tried again later, from the beginning."""
    shipment = shelf_with(9, b"a" * 100).begin(term=2)
    for _ in range(PATIENCE):
        assert shipment.next_piece() is not None
        shipment.answered(InstallReply(2, 0))
    assert (shipment.next_piece(), shipment.has_arrived) == (None, False)


def test_a_file_that_is_gone_ends_the_shipment() -> None:
    """The lane is told why, and begins anew."""
    shipments = shelf_with(9, b"a" * 100)
    shipment = shipments.begin(term=2)
    shipments._shelf._disk.unlink(shipment.file.path)
    assert shipment.next_piece() is None
    assert "can't be read" in shipment.failure


def test_the_leader_believes_only_the_answer() -> None:
    """Sending credits nothing; the reply of this term does, once (P54)."""
    core = make_leader("a", "a", "b")
    core.answer(AppendReply(2, False, 0, 0, 0), sender=B)
    leadership = core.leadership
    assert leadership is not None
    progress = leadership.progress[B]
    core.answer(InstallReply(2, 100), sender=B)
    assert progress.match_index == 0
    core.answer(InstallReply(1, 0, 2), sender=B)
    assert progress.match_index == 0
    core.answer(InstallReply(2, 0, 2), sender=B)
    assert (progress.match_index, progress.next_index) == (2, 3)
    core.answer(InstallReply(2, 0, 99), sender=B)
    assert progress.match_index == 2


def test_entries_that_changed_while_they_were_read_are_not_sent() -> None:
    """What came from the disk is compared with the log once more."""
    core = make_leader("a", "a", "b")
    core.propose([b"x", b"y"], time_us=0)
    sync(core)
    core.answer(AppendReply(2, True, 1), sender=B)
    other = [make_entry(index=2, term=1, kind=EntryKind.COMMAND, command=b"z")]
    assert core.append_fetched(B, other) is None
    assert core.append_fetched(B, []) is None
    mine = core.log.between(1, 3, max_bytes=1 << 20)
    assert core.append_fetched(B, mine[1:]) is None
    append = core.append_fetched(B, mine)
    assert append is not None
    assert (append.prev_index, list(append.entries)) == (1, mine)


def test_a_snapshot_that_was_overtaken_changes_nothing() -> None:
    """While it was received the appends came after all: what is committed stays (P51)."""
    core = make_core("b", "a", "b")
    commands = [make_entry(index=i, term=2, kind=EntryKind.COMMAND, command=b"x") for i in (2, 3)]
    core.step(AppendEntries(2, 1, 1, commands, 3), sender=NodeId("a"))
    sync(core)
    answer = core.install(Snapshot(2, 1, NOBODY, 0), term=2, sender=NodeId("a"))
    assert isinstance(answer, Held)
    assert (core.commit_index, core.log.base_index, core.log.last_index) == (3, 0, 3)
    assert core.configuration != NOBODY


def test_the_log_on_disk_goes_only_when_it_has_heard_of_the_new_base() -> None:
    """Before that a slow or full disk has writes to come that cut the old log.

    1. entries 3 and 4 are cut; the write waits for the disk
    2. a snapshot of entry 20 is installed; that write waits, too
    3. somebody takes a snapshot, and shortens the log
    """
    core = make_core("b", "a", "b")
    wal, _ = Wal.open(SimDisk(), Path("/wal"), segment_bytes=1 << 16)
    wal.write([Write(Mark(0), HardState(1, None), None, core.log.between(0, 1, max_bytes=1))])

    def entries(term: int, *indexes: Index) -> list[Entry]:
        return [make_entry(index=i, term=term, kind=EntryKind.NOOP, command=b"") for i in indexes]

    def queued() -> Write:
        write = core.take().write
        assert write is not None
        return write

    core.step(AppendEntries(1, 1, 1, entries(1, 2, 3, 4), 1), sender=NodeId("a"))
    written = queued()
    wal.write([written])
    core.synced(Synced(written.mark))
    core.step(AppendEntries(2, 2, 1, entries(2, 3), 1), sender=NodeId("c"))
    cut = queued()
    core.install(Snapshot(20, 2, core.configuration, 1), term=2, sender=NodeId("c"))
    assert core.compacted(20) == 0
    base = queued()
    for index in (1, 20):
        wal.compact(core.compacted(index))
    wal.write([cut])
    core.synced(Synced(cut.mark))
    assert core.compacted(20) == 0
    wal.write([base])
    core.synced(Synced(base.mark))
    assert core.compacted(20) == 20
    assert wal.first_index == 21


def lane_of(core: Raft, shipments: Shipments) -> BulkLane:
    """Make the lane from *core* to b."""
    return BulkLane(
        B,
        SilentLink(),
        raft=core,
        turn=lambda event: event(core),
        glance=lambda event: event(core),
        log=Log("test"),
        fetch=lambda after, to, max_bytes: [],
        shipments=shipments,
        backoff=0.1,
    )


def test_a_snapshot_that_never_arrives_is_sent_less_and_less_often() -> None:
    """A follower without room would be sent gigabytes ten times a second."""
    lane = lane_of(make_leader("a", "a", "b"), shelf_with(9, b"a" * 100))
    pauses = []
    for _ in range(9):
        shipment = lane.begin_shipment()
        shipment.answered(None)
        lane.end_shipment(shipment)
        pauses.append(lane.pause)
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert pauses[-1] == pauses[-2] == 6.4
    shipment = lane.begin_shipment()
    shipment.answered(InstallReply(2, 0, 9))
    lane.end_shipment(shipment)
    assert lane.pause == 0.1


def test_who_follows_again_is_not_kept_waiting_for_snapshots_that_failed() -> None:
    """Another leader has brought it up: a stream that breaks is opened again as soon as ever."""
    core = make_leader("a", "a", "b")
    lane = lane_of(core, shelf_with(9, b"a" * 100))
    for _ in range(9):
        shipment = lane.begin_shipment()
        shipment.answered(None)
        lane.end_shipment(shipment)
    lane.deliver(AppendReply(2, False))
    assert lane.pause == 6.4
    lane.deliver(AppendReply(2, True, 2))
    assert lane.pause == 0.1


def test_no_snapshot_goes_out_in_the_name_of_another_leaders_term() -> None:
    """Its leader would see a second one in its own term, and stop.

    1. this node leads term 2, and the lane finds that b needs a snapshot
    2. c leads term 5, and the lane gets the snapshot ready
    3. this node leads term 6 before the first piece is read, so the lane goes on
    """
    core = make_leader("a", "a", "b", "c")
    lane = lane_of(core, shelf_with(9, b"a" * 100))
    core.step(Heartbeat(5, 0, 1), sender=NodeId("c"))
    shipment = lane.begin_shipment()
    while core.candidacy is None:
        core.tick()
    core.answer(PreVoteReply(6, True), sender=B)
    sync(core)
    core.answer(VoteReply(6, True), sender=B)
    assert lane.leads
    piece = shipment.next_piece()
    assert piece is not None
    assert piece.term == 0
    assert make_core("b", "a", "b").step_install(piece, NodeId("a")) == InstallReply(1)
