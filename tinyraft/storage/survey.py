"""What a data directory holds, found without a node and without a change (dissertation 4.1, 5.1).

Law: reads as recovery would, from the lock on, and changes nothing. What it finds can be written
down and read on another machine, so that the directories of a cluster can be compared where they
are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import Index, MalformedEntry, NodeId, Term
from tinyraft.core.snapshot import Snapshot
from tinyraft.errors import RepairRefused
from tinyraft.storage.data_dir import DataDir, Identity, is_sound
from tinyraft.storage.disk import Disk, failures
from tinyraft.storage.divergence import read_divergence
from tinyraft.storage.recovery import Recovered, recover
from tinyraft.storage.segment import refuse, segment_name, segment_number
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.untouched import Untouched

VERSION = 1


@dataclass(slots=True, frozen=True)
class Findings:
    """One data directory.

    Attributes:
        path: Where it is, or was when it was looked at.
        identity: Who it is.
        term: Its term.
        voted_for: Its vote in that term; "" for none.
        first_index: The first entry in the log.
        last_index: The last one, or the snapshot's where that is further.
        last_term: Its term.
        configuration: The members, as of the last entry.
        configuration_index: Where that is written.
        snapshots: Index and term of each snapshot, oldest first.
        notes: What recovery would mend or pass over.
    """

    path: str
    identity: Identity
    term: Term
    voted_for: str
    first_index: Index
    last_index: Index
    last_term: Term
    configuration: Configuration
    configuration_index: Index
    snapshots: tuple[tuple[Index, Term], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def node_id(self) -> NodeId:
        """Whose it is."""
        return self.identity.node_id

    @property
    def standing(self) -> tuple[int, Term, Index]:
        """What makes one log better than another: repairs first, then as in elections (3.6.1)."""
        return self.identity.recovery_epoch, self.last_term, self.last_index

    def encode(self) -> dict[str, object]:
        """Write it down for JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {
            **fields,
            "version": VERSION,
            "identity": asdict(self.identity),
            "configuration": json.loads(self.configuration.encode()),
        }


def decode(value: Any, *, path: str) -> Findings:
    """Read what `Findings.encode` wrote, from a file at *path*.

    Raises:
        RepairRefused: Nobody wrote it, or a newer tinyraft.
    """
    try:
        version = value.pop("version")
        if version != VERSION:
            raise ValueError(f"its version is {version}, this tinyraft reads {VERSION}")
        value["identity"] = Identity(**value["identity"])
        value["configuration"] = Configuration.decode(json.dumps(value["configuration"]).encode())
        value["snapshots"] = tuple((int(index), int(term)) for index, term in value["snapshots"])
        value["notes"] = tuple(map(str, value["notes"]))
        found = Findings(**value)
        numbers = found.term, found.last_index, found.last_term, found.configuration_index
        if not is_sound(found.identity) or not all(type(number) is int for number in numbers):
            raise ValueError("it has impossible values")
    except (ValueError, TypeError, KeyError, AttributeError, MalformedEntry) as error:
        raise RepairRefused(
            f"{path} is not what `tinyraft recover DIR --plan --json` writes: {error!r}"
        ) from error
    return found


def look(disk: Disk, path: Path) -> Findings:
    """Look at the data directory *path*.

    Raises:
        RepairRefused: There is none.
        DataDirLocked: A node runs there.
        CorruptLog: Something that was synced is damaged or missing.
        FormatTooNew: A newer tinyraft wrote it.
        StorageFailed: It can't be read.
    """
    with failures(path):
        if not disk.exists(path):
            raise RepairRefused(f"{path}: there is no such directory")
    data_dir = DataDir.open(Untouched(disk), path)
    try:
        return examine(disk, data_dir)
    finally:
        data_dir.close()


def examine(disk: Disk, data_dir: DataDir) -> Findings:
    """Look at a data directory whose lock is held.

    Raises:
        RepairRefused: It is nobody's.
        CorruptLog, FormatTooNew, StorageFailed: As for `look`.
    """
    identity, disk = data_dir.identity, Untouched(disk)
    if identity is None:
        raise RepairRefused(f"{data_dir.path}: no node was ever started here")
    with failures(data_dir.path):
        shelf = Snapshots(disk, data_dir.snapshots_directory)
        if disk.exists(data_dir.snapshots_directory):
            shelf = Snapshots.open(
                disk, data_dir.snapshots_directory, cluster_id=identity.cluster_id
            )
        newest = max((file.meta for file in shelf.kept), key=lambda m: m.index, default=None)
        recovered = read_log(disk, data_dir, newest, log_id=identity.incarnation >> 1 | 1)
        divergence = read_divergence(disk, data_dir.path)
    terms, hard_state = recovered.terms, recovered.hard_state
    last_index, last_term = terms.last_index, terms.last_term
    if newest is not None and terms.at(newest.index) != newest.term:
        last_index, last_term = newest.index, newest.term  # the log would begin anew behind it
        recovered.configurations.clear()
    index, configuration = configuration_of(recovered, newest)
    notes = [f"{n.name} {dict(n.facts)}" for n in (*shelf.notices, *recovered.notices)]
    if divergence is not None:
        notes.append(f"diverged: {divergence}")
    return Findings(
        path=str(data_dir.path),
        identity=identity,
        term=max(hard_state.term, last_term),
        voted_for=hard_state.voted_for or "",
        first_index=terms.base_index + 1,
        last_index=last_index,
        last_term=last_term,
        configuration=configuration,
        configuration_index=index,
        snapshots=tuple((file.meta.index, file.meta.term) for file in shelf.kept),
        notes=tuple(notes),
    )


def read_log(disk: Disk, data_dir: DataDir, snapshot: Snapshot | None, *, log_id: int) -> Recovered:
    """Replay the log."""
    directory = data_dir.wal_directory
    names = disk.names(directory) if disk.exists(directory) else []
    numbers = [number for number in map(segment_number, names) if number is not None]
    if not numbers:
        refuse("every segment is missing", path=directory / segment_name(1), offset=-1)
    segment, _, recovered = recover(
        disk,
        directory,
        numbers=numbers,
        segment_bytes=0,
        snapshot=snapshot,
        memory_bytes=0,
        log_id=log_id,
    )
    segment.close()
    return recovered


def configuration_of(
    recovered: Recovered, snapshot: Snapshot | None
) -> tuple[Index, Configuration]:
    """Find the last configuration, and where it stands."""
    found: list[tuple[Index, Configuration]] = [(0, Configuration())]
    if snapshot is not None:
        found.append((snapshot.configuration_index, snapshot.configuration))
    found += [(e.index, Configuration.decode(e.command)) for e in recovered.configurations]
    return max(found, key=lambda pair: pair[0])
