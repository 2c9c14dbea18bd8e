"""Repairs of a cluster that can't help itself any more, made while no node runs (dissertation 4).

Law: an operator says what is lost for ever; this says what that costs, and refuses what would cost
more. Of all directories that are left, the best log goes on, and no other. Before anything changes
a copy of it is made. A *recovery epoch* begins: whoever is of an older one is refused from then on,
so that two majorities of one cluster never live side by side by mistake.

In which order the files change (`go_on`):

    1. the copy is whole and synced
    2. the identity has the new epoch: the node hears no old member any more, and they not it
    3. the log has the new configuration, in a term that no old member can have got to

Cut off before 2 nothing has changed; behind it the node finds no majority, and the repair is made
again. It is never the other way round: a node with the new configuration in the old epoch could
lead the old members.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tinyraft.core.configuration import Configuration
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import EntryKind, Index, NodeId, Term, make_entry
from tinyraft.core.quorum import has_quorum
from tinyraft.errors import RepairRefused, StorageFailed
from tinyraft.storage.data_dir import IDENTITY, SNAPSHOTS, WAL, DataDir
from tinyraft.storage.disk import Disk, NoRoom, failures
from tinyraft.storage.segment import TEMPORARY
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.survey import Findings, examine
from tinyraft.storage.wal import SEGMENT_BYTES, Wal

TERM_JUMP = 1_000_000  # elections at 50 ms each would need half a day of nothing else
COPY = "before-recovery-"
CHUNK_BYTES = 1024 * 1024


@dataclass(slots=True, frozen=True)
class Plan:
    """What is left of a cluster, and what going on with it costs.

    Attributes:
        best: Whose log goes on.
        survivors: All that were given.
        lost: Voters of the configuration in force of which nothing was given.
        stays_lost: What can't be known any more, for people.
    """

    best: Findings
    survivors: tuple[Findings, ...]
    lost: tuple[NodeId, ...]
    stays_lost: str


@dataclass(slots=True, frozen=True)
class Repaired:
    """What a repair made.

    Attributes:
        plan: What it was decided by.
        node_id: The only member from now on.
        index: The entry with the new configuration.
        term: Its term.
        epoch: The recovery epoch that begins.
        copy: Where the directory's former state is.
    """

    plan: Plan
    node_id: NodeId
    index: Index
    term: Term
    epoch: int
    copy: Path


def plan(survivors: Sequence[Findings]) -> Plan:
    """Find the best of *survivors*, and what is lost.

    Raises:
        RepairRefused: They are not of one cluster, or need no repair.
    """
    assert survivors, "somebody survived"
    clusters = {found.identity.cluster_id for found in survivors}
    if len(clusters) > 1 or "" in clusters:
        told = ", ".join(f"{f.path}: {f.identity.cluster_id or 'none yet'}" for f in survivors)
        raise RepairRefused(f"these directories are not of one cluster ({told})")
    ids = [found.node_id for found in survivors]
    for found in survivors:
        if ids.count(found.node_id) > 1:
            raise RepairRefused(f"{found.path}: {found.node_id} is given twice; give each one once")
    best = max(survivors, key=lambda found: found.standing)
    voters = best.configuration.voters
    of_today = {f.node_id for f in survivors if f.identity.recovery_epoch == best.standing[0]}
    if not voters:
        raise RepairRefused(f"{best.path}: its log names no members; it never took part")
    if has_quorum(voters, of_today):
        raise RepairRefused(
            f"{', '.join(sorted(voters & of_today))} are a majority of the voters"
            f" ({', '.join(sorted(voters))}): start them as they are, nothing is lost"
        )
    lost = tuple(sorted(voters - of_today))
    stays_lost = (
        f"Entries above {best.last_index}, if {', '.join(lost)} had any: they may have been"
        f" acknowledged to callers without {best.node_id}. Entries up to {best.last_index} become"
        " committed, also those that no majority had"
    )
    return Plan(best, tuple(survivors), lost, stays_lost)


def go_on(
    disk: Disk,
    directories: Sequence[Path],
    keep: str,
    *,
    others: Sequence[Findings] = (),
    segment_bytes: int = SEGMENT_BYTES,
) -> Repaired:
    """Make *keep* the only member of its cluster, from its directory.

    Blocks for the disk. The locks of all *directories* are held meanwhile.

    Args:
        disk: Where they are.
        directories: Every directory that is left on this machine, that of *keep* among them.
        keep: The id of the node that goes on.
        others: What was found in those that are left elsewhere.
        segment_bytes: Of the log.

    Raises:
        RepairRefused: Another log is better, or nothing needs a repair. Nothing was changed.
        DataDirLocked: A node runs there.
        CorruptLog, FormatTooNew: Its data can't be trusted, or not be read.
        StorageFailed: The disk failed or is full; the repair can be made again.
    """
    with ExitStack() as locks:
        opened = [locks.enter_context(held(disk, path)) for path in directories]
        here = [examine(disk, data_dir) for data_dir in opened]
        found = plan([*here, *others])
        best = found.best
        chosen = [pair for pair in zip(opened, here, strict=True) if pair[1].node_id == keep]
        if not chosen:
            known = ", ".join(f.node_id for f in here)
            raise RepairRefused(f"{keep!r} has no directory among those given here ({known})")
        data_dir, kept = chosen[0]
        if kept.standing < best.standing:
            raise RepairRefused(
                f"{best.node_id} ({best.path}) has the better log, up to entry {best.last_index} of"
                f" term {best.last_term}; {keep} ends with {kept.last_index} of term"
                f" {kept.last_term}: keep {best.node_id}"
            )
        return change(disk, data_dir, replace(found, best=kept), segment_bytes=segment_bytes)


@contextmanager
def held(disk: Disk, path: Path) -> Iterator[DataDir]:
    """Hold the lock of an existing directory."""
    with failures(path):
        if not disk.exists(path):
            raise RepairRefused(f"{path}: there is no such directory")
    data_dir = DataDir.open(disk, path)
    try:
        yield data_dir
    finally:
        data_dir.close()


def change(disk: Disk, data_dir: DataDir, found: Plan, *, segment_bytes: int) -> Repaired:
    """Copy, begin the epoch, write the configuration: in this order."""
    kept, survivors = found.best, found.survivors
    identity = data_dir.identity
    assert identity is not None, "it was examined"
    epoch = max(f.identity.recovery_epoch for f in survivors) + 1
    term = max(f.term for f in survivors) + TERM_JUMP
    me = kept.configuration.get(kept.node_id)
    if me is None:
        raise RepairRefused(f"{kept.path}: {kept.node_id} is no member in its own log")
    former = {member.id for member in kept.configuration.members} | set(kept.configuration.removed)
    configuration = Configuration(
        (replace(me, voter=True, wants_vote=False, incarnation=identity.incarnation),),
        tuple(sorted(former - {me.id})),
    )
    with failures(data_dir.path):
        copy = copy_directory(disk, data_dir.path, f"{COPY}{epoch}")
    data_dir.save_identity(replace(identity, recovery_epoch=epoch))
    index = append_configuration(
        disk,
        data_dir,
        configuration,
        term=term,
        log_id=identity.incarnation >> 1 | 1,
        segment_bytes=segment_bytes,
    )
    return Repaired(found, me.id, index, term, epoch, copy)


def append_configuration(
    disk: Disk,
    data_dir: DataDir,
    configuration: Configuration,
    *,
    term: Term,
    log_id: int,
    segment_bytes: int,
) -> Index:
    """Put *configuration* behind everything that is there; return where."""
    shelf = Snapshots.open(disk, data_dir.snapshots_directory)
    wal, recovered = Wal.open(
        disk,
        data_dir.wal_directory,
        log_id=log_id,
        snapshots=[file.meta for file in shelf.kept],
        segment_bytes=segment_bytes,
        memory_bytes=0,
    )
    try:
        index = recovered.terms.last_index + 1
        last = recovered.entries[-1].time_us if recovered.entries else 0
        covered = recovered.snapshot.time_us if recovered.snapshot else 0
        entry = make_entry(
            index=index,
            term=term,
            kind=EntryKind.CONFIGURATION,
            command=configuration.encode(),
            time_us=max(last, covered),  # the next leader's clock must not go back behind it
        )
        write_or_refuse(wal, Write(Mark(0), HardState(term, None), None, [entry]))
    finally:
        wal.close()
    return index


def write_or_refuse(wal: Wal, write: Write) -> None:
    """Write and sync; a full disk is a failure here, where nobody waits for room."""
    try:
        wal.write([write])
    except NoRoom as full:
        raise StorageFailed(f"{full}: free some space and make the repair again") from full
    wal.sync()


# --- the copy -----------------------------------------------------------------------------------


def copy_directory(disk: Disk, path: Path, name: str) -> Path:
    """Copy all files of a data directory into *name* in it, its identity last; return where.

    What an attempt that was cut off left there is replaced: while the identity is still of the old
    epoch, the directory is the better original.
    """
    target = path / name
    files = list(files_of(disk, path))
    size, free = sum(size_of(disk, file) for file in files), disk.free(path)
    if free < size:
        raise RepairRefused(
            f"{path}: a copy of {size} bytes is made before anything changes, and {free} are free:"
            " make room there"
        )
    for folder in dict.fromkeys([target, *(target / file.parent.name for file in files[:-1])]):
        if not disk.exists(folder):
            disk.mkdir(folder)
            disk.sync_dir(folder.parent)
    for source in files:
        copied = target / source.relative_to(path)
        copy_file(disk, source, copied)
        disk.sync_dir(copied.parent)
    return target


def files_of(disk: Disk, path: Path) -> Iterator[Path]:
    """Name all files of a data directory but those that a start would remove; its identity last."""
    for folder in (path / WAL, path / SNAPSHOTS):
        if disk.exists(folder):
            yield from (folder / n for n in disk.names(folder) if not n.endswith(TEMPORARY))
    yield path / IDENTITY


def size_of(disk: Disk, path: Path) -> int:
    """Tell a file's length."""
    file = disk.open(path)
    try:
        return file.size()
    finally:
        file.close()


def copy_file(disk: Disk, source: Path, target: Path) -> None:
    """Copy one file and sync it."""
    if disk.exists(target):
        disk.unlink(target)
    reading, writing = disk.open(source), disk.create(target)
    try:
        size = reading.size()
        for offset in range(0, size, CHUNK_BYTES):
            writing.pwrite(reading.pread(min(CHUNK_BYTES, size - offset), offset), offset)
        writing.sync()
    finally:
        writing.close()
        reading.close()
