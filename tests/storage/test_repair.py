"""Repairs made offline: the best log goes on, nothing that was not lost gets lost, at any crash."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.storage.crashes import images, watch
from tests.storage.life import SEGMENT_BYTES, make_entries, snapshot_of, vote, write
from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.entry import Entry, EntryKind, NodeId, make_entry
from tinyraft.errors import CorruptLog, DataDirLocked, RepairRefused, StorageFailed
from tinyraft.storage import repair, survey
from tinyraft.storage.data_dir import DataDir, Identity
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.repair import TERM_JUMP, Repaired, plan
from tinyraft.storage.restore import Restored, restore
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.survey import Findings, look
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Fault, SimDisk, lost

LATE_US = 1_700_000_000_000_000
go_on = partial(repair.go_on, segment_bytes=SEGMENT_BYTES)


def member(name: str, *, voter: bool = True) -> Member:
    """Make a member; its disk's number is its letter's."""
    return Member(NodeId(name), f"{name}.example:1", voter, False, ord(name[0]))


FOUNDERS = Configuration((member("a"), member("b"), member("c"), member("d", voter=False)))


def configuration(index: int, term: int, value: Configuration) -> Entry:
    """Make a configuration's entry."""
    return make_entry(index=index, term=term, kind=EntryKind.CONFIGURATION, command=value.encode())


def make_member(
    disk: SimDisk,
    name: str,
    *,
    term: int = 3,
    last: int = 6,
    last_term: int = 3,
    epoch: int = 0,
    cluster: str = "the-cluster",
) -> Path:
    """Make the directory that a member left behind: entries up to *last* of *last_term*."""
    path = Path(f"/{name}")
    data_dir = DataDir.open(disk, path)
    data_dir.save_identity(Identity(NodeId(name), cluster, ord(name[0]), epoch))
    wal, _ = Wal.open(
        disk, data_dir.wal_directory, segment_bytes=SEGMENT_BYTES, log_id=ord(name[0]) >> 1 | 1
    )
    entries = [configuration(1, 1, FOUNDERS), *make_entries(2, 2, term=1, command=b"old")]
    wal.write([write(entries, state=vote(1))])
    late = make_entry(
        index=last, term=last_term, kind=EntryKind.COMMAND, command=b"x", time_us=LATE_US
    )
    newer = [*make_entries(4, last - 4, term=last_term), late] if last > 3 else []
    wal.write([write(newer, state=vote(term, "b"))])
    wal.close()
    data_dir.close()
    return path


def keep_snapshot(disk: SimDisk, path: Path, *, index: int, compacts: bool = False) -> None:
    """Put a snapshot of *index* into a member's directory, and shorten its log if asked to."""
    data_dir = DataDir.open(disk, path)
    shelf = Snapshots.open(disk, data_dir.snapshots_directory)
    meta = replace(snapshot_of(index, 3), configuration=FOUNDERS, configuration_index=1)
    meta = replace(meta, time_us=LATE_US)
    shelf.write(meta, [b"state", b" of all"], cluster_id="the-cluster")
    wal, _ = Wal.open(disk, data_dir.wal_directory, segment_bytes=SEGMENT_BYTES, snapshots=[meta])
    if compacts:
        wal.compact(index)
    wal.close()
    data_dir.close()


@pytest.fixture
def disk() -> SimDisk:
    """Lend a disk."""
    return SimDisk()


def opened(disk: SimDisk, path: Path) -> tuple[Identity | None, list[Entry], int]:
    """Start as a node does: identity, entries, term."""
    data_dir = DataDir.open(disk, path)
    identity = data_dir.identity
    assert identity is not None
    shelf = Snapshots.open(disk, data_dir.snapshots_directory, cluster_id=identity.cluster_id)
    wal, recovered = Wal.open(
        disk,
        data_dir.wal_directory,
        segment_bytes=SEGMENT_BYTES,
        log_id=identity.incarnation >> 1 | 1,
        snapshots=[file.meta for file in shelf.kept],
    )
    wal.close()
    data_dir.close()
    return identity, recovered.entries, recovered.hard_state.term


def files(disk: SimDisk) -> dict[Path, bytes]:
    """Return all files but the locks'."""
    return {path: data for path, data in disk.files().items() if path.name != "LOCK"}


# --- looking ------------------------------------------------------------------------------------


def test_looking_finds_everything_and_changes_nothing(disk: SimDisk) -> None:
    """Promise: identity, term, vote, both ends of the log, members; not a byte is written."""
    path = make_member(disk, "a", last=9)
    before = files(disk)
    found = look(disk, path)
    assert (NodeId("a"), "the-cluster", 3, "b") == (
        found.node_id,
        found.identity.cluster_id,
        found.term,
        found.voted_for,
    )
    assert (1, 9, 3, 1) == (
        found.first_index,
        found.last_index,
        found.last_term,
        found.configuration_index,
    )
    assert FOUNDERS == found.configuration
    assert (0, 3, 9) == found.standing
    assert before == files(disk)


def test_a_torn_tail_is_told_and_left_alone(disk: SimDisk) -> None:
    """Promise: what recovery would cut is still there for whoever starts the node."""
    path = make_member(disk, "a")
    segment = max(p for p in disk.files() if p.suffix == ".wal")
    data = disk.content(segment)
    end = len(data.rstrip(b"\0"))
    disk.put(segment, data[:end] + b"torn" + data[end + 4 :])
    before = files(disk)
    (note,) = look(disk, path).notes
    assert "torn_tail_cut" in note
    assert before == files(disk)


@pytest.mark.parametrize("compacts", [False, True], ids=["whole_log", "compacted_log"])
def test_snapshots_count(disk: SimDisk, *, compacts: bool) -> None:
    """Promise: a log that begins behind a snapshot is looked at like any other."""
    path = make_member(disk, "a", last=40)
    keep_snapshot(disk, path, index=30, compacts=compacts)
    found = look(disk, path)
    assert ((30, 3),) == found.snapshots
    assert (compacts, 40, FOUNDERS) == (
        found.first_index > 1,
        found.last_index,
        found.configuration,
    )


def test_a_snapshot_ahead_of_the_log_is_the_end(disk: SimDisk) -> None:
    """Promise: the process ended between the snapshot's coming and the log's new beginning."""
    path = make_member(disk, "a", last=6)
    data_dir = DataDir.open(disk, path)
    shelf = Snapshots.open(disk, data_dir.snapshots_directory)
    newer = FOUNDERS.with_member(member("e"))
    meta = replace(snapshot_of(50, 7), configuration=newer, configuration_index=44)
    shelf.write(meta, [b"state"], cluster_id="the-cluster")
    data_dir.close()
    found = look(disk, path)
    assert (0, 7, 50) == found.standing
    assert (newer, 44, 7) == (found.configuration, found.configuration_index, found.term)


def test_what_is_no_members_directory_is_refused(disk: SimDisk) -> None:
    """Promise: missing, empty, in use, damaged: each is told, and nothing is made."""
    with pytest.raises(RepairRefused, match="no such directory"):
        look(disk, Path("/missing"))
    assert not disk.exists(Path("/missing"))
    disk.mkdir(Path("/empty"))
    with pytest.raises(RepairRefused, match="no node was ever started"):
        look(disk, Path("/empty"))
    path = make_member(disk, "a")
    running = DataDir.open(disk, path)
    with pytest.raises(DataDirLocked):
        look(disk, path)
    with pytest.raises(DataDirLocked):
        go_on(disk, [path], "a")
    running.close()
    for name in [name for name in disk.names(path / "wal")]:
        disk.put(path / "wal" / name, None)
    with pytest.raises(CorruptLog, match="every segment is missing"):
        look(disk, path)


def test_findings_travel(disk: SimDisk) -> None:
    """Promise: what was found on another machine is read back as it was."""
    found = look(disk, make_member(disk, "a"))
    assert found == survey.decode(found.encode(), path="plan.json")
    for broken in (None, 7, {}, {**found.encode(), "version": 9}, {**found.encode(), "term": "x"}):
        with pytest.raises(RepairRefused, match=r"plan\.json is not what"):
            survey.decode(broken, path="plan.json")


# --- the plan -----------------------------------------------------------------------------------


def findings(disk: SimDisk, *names: str, **options: dict[str, object]) -> list[Findings]:
    """Look at members that are made with *options*, by name."""
    made = [make_member(disk, name, **options.get(name, {})) for name in names]  # type: ignore[arg-type]
    return [look(disk, path) for path in made]


def test_the_best_log_is_found_by_term_then_length(disk: SimDisk) -> None:
    """Promise: as in elections; a learner's counts too, an older epoch's never."""
    found = findings(
        disk,
        "a",
        "d",
        a={"last": 20, "last_term": 2},
        d={"last": 5},
    )
    made = plan(found)
    assert ("d", ("b", "c")) == (made.best.node_id, made.lost)
    assert "Entries above 5, if b, c had any" in made.stays_lost
    older = replace(found[1], last_term=9)
    newer = replace(found[0], identity=replace(found[0].identity, recovery_epoch=1))
    assert "a" == plan([older, newer]).best.node_id


def test_what_needs_no_repair_is_refused(disk: SimDisk) -> None:
    """Promise: while a majority is there, a repair would only lose something."""
    a, b, d = findings(disk, "a", "b", "d")
    with pytest.raises(RepairRefused, match=r"a, b are a majority .* start them as they are"):
        plan([a, b, d])
    strange = replace(b, identity=replace(b.identity, cluster_id="other"))
    with pytest.raises(RepairRefused, match="not of one cluster"):
        plan([a, strange])
    young = replace(a, identity=replace(a.identity, cluster_id=""))
    with pytest.raises(RepairRefused, match="none yet"):
        plan([young])
    with pytest.raises(RepairRefused, match="a is given twice"):
        plan([a, a])
    with pytest.raises(RepairRefused, match="names no members"):
        plan([replace(a, configuration=Configuration())])


# --- going on -----------------------------------------------------------------------------------


def check_repaired(disk: SimDisk, path: Path, told: Repaired, *, last: int) -> None:
    """The kept member is alone in a new epoch, with all that it had and its old state beside."""
    identity, entries, term = opened(disk, path)
    assert identity is not None
    assert told.epoch == identity.recovery_epoch
    new = entries[-1]
    assert (last + 1, told.term, EntryKind.CONFIGURATION) == (new.index, new.term, new.kind)
    alone = Configuration.decode(new.command)
    assert ["a"] == [m.id for m in alone.members]
    assert frozenset({"a"}) == alone.voters
    assert ("b", "c", "d") == alone.removed
    assert told.term == term


def test_the_kept_member_goes_on_alone(disk: SimDisk) -> None:
    """Promise: with every entry, in a term that none of the lost can have got to (P71)."""
    path = make_member(disk, "a", last=9)
    before = look(disk, path)
    told = go_on(disk, [path], "a")
    assert (3 + TERM_JUMP, 1, 10) == (told.term, told.epoch, told.index)
    assert path / "before-recovery-1" == told.copy
    check_repaired(disk, path, told, last=9)
    assert LATE_US == opened(disk, path)[1][-1].time_us, "time does not go back"
    assert [b"old", b"old", *[b"x"] * 6] == [e.command for e in opened(disk, path)[1]][1:-1]
    copied = look(disk, told.copy)
    assert replace(before, path=str(told.copy)) == copied
    assert "b" == look(disk, told.copy).voted_for
    with pytest.raises(RepairRefused, match="a are a majority"):
        go_on(disk, [path], "a")


@pytest.mark.parametrize("compacts", [False, True], ids=["whole_log", "compacted_log"])
def test_snapshots_go_on_too(disk: SimDisk, *, compacts: bool) -> None:
    """Promise: with the snapshots, their copies, and the log behind them."""
    path = make_member(disk, "a", last=40)
    keep_snapshot(disk, path, index=30, compacts=compacts)
    told = go_on(disk, [path], "a")
    check_repaired(disk, path, told, last=40)
    assert ((30, 3),) == look(disk, path).snapshots == look(disk, told.copy).snapshots


def test_a_learner_that_is_left_becomes_the_voter(disk: SimDisk) -> None:
    """Promise: its log is as good as any."""
    path = make_member(disk, "d")
    go_on(disk, [path], "d")
    assert frozenset({"d"}) == look(disk, path).configuration.voters


def test_the_worse_log_is_refused(disk: SimDisk) -> None:
    """Promise: whatever was given, here or found elsewhere; and nothing has changed."""
    worse = make_member(disk, "a", last=20, last_term=2)
    better = make_member(disk, "d", last=5, term=3)
    before = files(disk)
    for directories, others in (([worse, better], []), ([worse], [look(disk, better)])):
        with pytest.raises(RepairRefused, match=r"d .* has the better log, .*: keep d"):
            go_on(disk, directories, "a", others=others)
    with pytest.raises(RepairRefused, match="'z' has no directory among those given here"):
        go_on(disk, [worse, better], "z")
    with pytest.raises(RepairRefused, match="'d' has no directory among those given here"):
        go_on(disk, [worse], "d", others=[look(disk, better)])
    assert before == files(disk)
    assert "d" == go_on(disk, [worse, better], "d").node_id


def test_without_room_for_the_copy_nothing_changes(disk: SimDisk) -> None:
    """Promise: it is asked for before the first byte."""
    path = make_member(disk, "a")
    before = files(disk)
    disk.free_bytes = 100
    with pytest.raises(RepairRefused, match=r"a copy of .* make room there"):
        go_on(disk, [path], "a")
    assert before == files(disk)


def test_a_second_repair_is_another_epoch(disk: SimDisk) -> None:
    """Promise: with its own copy, and a term above the first one's."""
    path = make_member(disk, "a")
    first = go_on(disk, [path], "a")
    data_dir = DataDir.open(disk, path)
    wal, recovered = Wal.open(disk, data_dir.wal_directory, segment_bytes=SEGMENT_BYTES)
    grown = recovered.terms.last_index + 1
    members = Configuration((member("a"), member("x"), member("y")), ("b", "c", "d"))
    wal.write([write([configuration(grown, first.term, members)])])
    wal.close()
    data_dir.close()
    second = go_on(disk, [path], "a")
    assert (2, first.term + TERM_JUMP) == (second.epoch, second.term)
    names = {p.parts[2] for p in disk.files() if len(p.parts) > 3}
    assert {"before-recovery-1", "before-recovery-2"} < names
    assert ("b", "c", "d", "x", "y") == look(disk, path).configuration.removed


# --- what is cut off ----------------------------------------------------------------------------


def check_cut_off(image: SimDisk) -> bool:
    """Unchanged and usable, or the repair can be made again; tell whether it was through.

    Never the new configuration in the old epoch.
    """
    path = Path("/a")
    found = look(image, path)
    is_alone = found.configuration.voters == {"a"}
    assert found.identity.recovery_epoch == 1 or not is_alone
    if found.identity.recovery_epoch:
        copied = look(image, path / "before-recovery-1")
        assert (0, FOUNDERS, 9) == (
            copied.identity.recovery_epoch,
            copied.configuration,
            copied.last_index,
        )
    if is_alone:
        opened(image, path)
        return True
    assert (FOUNDERS, 9) == (found.configuration, found.last_index)
    told = go_on(image, [path], "a")
    check_repaired(image, path, told, last=9)
    assert 9 == look(image, told.copy).last_index
    return False


def crashes() -> Iterator[SimDisk]:
    """Make every disk that a power loss may leave, before and after each call of a repair."""
    disk = SimDisk()
    path = make_member(disk, "a", last=9)
    keep_snapshot(disk, path, index=5)
    found: list[SimDisk] = []
    watch(disk, lambda: found.extend(images(disk, random=Random(1), most=1)))
    go_on(disk, [path], "a")
    disk.before = None
    found.append(disk.crash(lost))
    yield from found


def test_a_crash_at_any_moment_leaves_the_old_or_can_be_repeated() -> None:
    """Promise: the directory is as it was, or the same command finishes the repair."""
    count = alone = 0
    for image in crashes():
        alone += check_cut_off(image)
        count += 1
    assert count > 100
    assert 0 < alone < count


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_any_failing_call_can_be_repeated(code: int) -> None:
    """Promise: an error is said, and the next attempt goes through."""
    failed = 0
    for nth in range(1000):
        disk = SimDisk()
        path = make_member(disk, "a", last=9)
        disk.fail(Fault(nth, code))
        before = len(disk.trace)
        try:
            go_on(disk, [path], "a")
        except StorageFailed:
            failed += 1
        is_over = len(disk.trace) - before <= nth
        disk.heal()
        disk.kill()
        check_cut_off(disk)
        if is_over:
            break
    assert failed > 50


# --- a new cluster ------------------------------------------------------------------------------


def exported(disk: SimDisk, *, index: int = 5) -> Path:
    """Make a member with a snapshot; return that file."""
    path = make_member(disk, "a", last=9)
    keep_snapshot(disk, path, index=index)
    (name,) = disk.names(path / "snapshots")
    return path / "snapshots" / name


def restored(disk: SimDisk, file: Path, directory: Path) -> Restored:
    """Restore as node x."""
    source = disk.open(file)
    try:
        return restore(
            disk,
            source,
            directory,
            path=file,
            node_id=NodeId("x"),
            address="x.example:1",
            segment_bytes=SEGMENT_BYTES,
        )
    finally:
        source.close()


def test_a_snapshot_begins_a_new_cluster(disk: SimDisk) -> None:
    """Promise: another id, one member, the same state, and the log goes on behind it."""
    told = restored(disk, exported(disk), Path("/x"))
    assert (5, 3, "the-cluster") == (told.index, told.term, told.from_cluster)
    assert told.identity.cluster_id not in ("", "the-cluster")
    found = look(disk, Path("/x"))
    assert (told.identity, 5, 3, 6) == (
        found.identity,
        found.last_index,
        found.last_term,
        found.first_index,
    )
    assert (["x"], "x.example:1") == (
        sorted(found.configuration.voters),
        found.configuration.address_of(NodeId("x")),
    )
    shelf = Snapshots.open(disk, Path("/x/snapshots"), cluster_id=told.identity.cluster_id)
    assert shelf.newest is not None
    assert b"state of all" == b"".join(shelf.read(shelf.newest))
    assert LATE_US == shelf.newest.meta.time_us, "time does not go back"
    assert [] == opened(disk.crash(lost), Path("/x"))[1]


def test_only_into_an_empty_directory(disk: SimDisk) -> None:
    """Promise: nobody's data is written over."""
    file = exported(disk)
    before = files(disk)
    with pytest.raises(RepairRefused, match="belongs to 'a' of cluster the-cluster"):
        restored(disk, file, Path("/a"))
    assert before == files(disk)


@pytest.mark.parametrize("at", range(0, 700, 13))
def test_a_damaged_file_is_refused_before_anything_is_made(disk: SimDisk, at: int) -> None:
    """Promise: any flipped byte, whatever the file is called."""
    file = exported(disk)
    data = bytearray(disk.content(file))
    data[at % len(data)] ^= 4
    disk.put(Path("/a/backup"), bytes(data))
    with pytest.raises(CorruptLog, match=r"/a/backup.*no whole snapshot"):
        restored(disk, Path("/a/backup"), Path("/x"))
    assert not disk.exists(Path("/x"))
    disk.put(Path("/a/backup"), disk.content(file))
    restored(disk, Path("/a/backup"), Path("/x"))


@pytest.mark.parametrize("data", [b"", b"short", bytes(200), b"\xff" * 200])
def test_what_is_no_snapshot_is_refused(disk: SimDisk, data: bytes) -> None:
    """Promise: also before any checksum could be looked at."""
    make_member(disk, "a")
    disk.put(Path("/a/backup"), data)
    with pytest.raises(CorruptLog, match="no whole snapshot"):
        restored(disk, Path("/a/backup"), Path("/x"))


def test_a_restore_that_was_cut_off_is_never_started() -> None:
    """Promise: empty, refused, or whole; a start never takes half of a state for all of it."""
    disk = SimDisk()
    file = exported(disk)
    seen: set[str] = set()

    def look_at(image: SimDisk) -> None:
        if not image.exists(Path("/x")):
            seen.add("nothing")
            return
        try:
            data_dir = DataDir.open(image, Path("/x"))
        except CorruptLog:
            seen.add("refused")
            return
        identity = data_dir.identity
        data_dir.close()
        seen.add("nobody's" if identity is None else "whole")
        if identity is not None:
            assert ((5, 3),) == look(image, Path("/x")).snapshots
            opened(image, Path("/x"))

    found: list[SimDisk] = []
    watch(disk, lambda: found.extend(images(disk, random=Random(1), most=1)))
    restored(disk, file, Path("/x"))
    disk.before = None
    for image in [*found, disk.crash(lost)]:
        look_at(image)
    assert {"nothing", "nobody's", "refused", "whole"} == seen


def test_a_real_disk(tmp_path: Path) -> None:
    """Promise: the same on files of the system: look, go on, look again."""
    disk = RealDisk()
    data_dir = DataDir.open(disk, tmp_path / "a")
    data_dir.save_identity(Identity(NodeId("a"), "the-cluster", ord("a")))
    wal, _ = Wal.open(disk, data_dir.wal_directory, segment_bytes=4096, log_id=ord("a") >> 1 | 1)
    wal.write([write([configuration(1, 1, FOUNDERS)], state=vote(1))])
    wal.close()
    data_dir.close()
    (tmp_path / "a" / "lost+found").mkdir()
    told = go_on(disk, [tmp_path / "a"], "a")
    assert frozenset({"a"}) == look(disk, tmp_path / "a").configuration.voters
    assert FOUNDERS == look(disk, told.copy).configuration
