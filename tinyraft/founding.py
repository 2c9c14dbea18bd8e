"""Opening a data directory: whose it is, its snapshots and its log; or founding a cluster in it.

Law: in an order in which a crash leaves nothing half done: the identity before the first word to
anybody, the cluster's id only behind its first entry. An empty directory never founds a second
cluster beside one that answers.
"""

from __future__ import annotations

import uuid

from tinyraft.config import Config
from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import EntryKind, NodeId, make_entry
from tinyraft.errors import ConfigError, CorruptLog, StartFailed
from tinyraft.logs import Log
from tinyraft.storage.data_dir import DataDir, Identity, new_identity
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.recovery import Recovered
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import Wal
from tinyraft.transport.remote import Remote

PROBE_SECONDS = 2.0


class Founding:
    """One directory at the start of its node."""

    def __init__(self, config: Config, data_dir: DataDir, *, log: Log) -> None:
        """Open *data_dir*, which is locked, as *config* says."""
        self.config = config
        self._data_dir = data_dir
        self._log = log

    def node_id(self) -> NodeId:
        """Tell who this node is: as configured, as the directory says, or newly minted.

        Raises:
            ConfigError: The configured id is not the directory's.
        """
        wanted, identity = self.config.node_id, self._data_dir.identity
        if identity is None:
            return NodeId(wanted or str(uuid.uuid4()))
        if wanted not in ("", identity.node_id):
            raise ConfigError(
                [
                    f"NODE_ID={wanted!r}: the data directory {self.config.data_dir} belongs to"
                    f" {identity.node_id!r}; unset NODE_ID, or use another directory"
                ]
            )
        return identity.node_id

    def recover(
        self, node_id: NodeId, *, address: str, remote: Remote
    ) -> tuple[Snapshots, Wal, Recovered]:
        """Open snapshots and log of *node_id*, which peers dial at *address*.

        Raises:
            ConfigError: The directory is empty, and the node has no way in.
            StartFailed: A second cluster would be founded, or a founding was interrupted.
            CorruptLog: Synced bytes are damaged or missing.
            StorageFailed: The disk failed, or refuses.
        """
        config, disk, data_dir = self.config, RealDisk(), self._data_dir
        if data_dir.identity is None:
            if not config.bootstrap and not config.join:
                raise ConfigError(
                    [
                        f"RAFT_DATA_DIR={str(config.data_dir)!r} is empty, so the node must found a"
                        " cluster (RAFT_BOOTSTRAP=true) or join one (RAFT_JOIN=host:port,...)"
                    ]
                )
            if config.bootstrap:
                self._refuse_second_cluster(remote)
            data_dir.save_identity(new_identity(node_id))
        identity = data_dir.identity
        assert identity is not None, "just saved"
        if identity.cluster_id and not has_segments(data_dir):
            raise CorruptLog(
                f"{data_dir.wal_directory} is empty, but {node_id} belongs to cluster"
                f" {identity.cluster_id}: bring the log back, or start with an empty data directory"
                " and a new NODE_ID",
                path=str(data_dir.wal_directory),
                offset=-1,
            )
        shelf = Snapshots.open(disk, data_dir.snapshots_directory, cluster_id=identity.cluster_id)
        wal, recovered = Wal.open(
            disk,
            data_dir.wal_directory,
            log_id=identity.incarnation >> 1 | 1,
            snapshots=[file.meta for file in shelf.kept],
            damaged=shelf.notices,
        )
        for notice in (*shelf.notices, *recovered.notices):
            self._log.warning(notice.name, **notice.facts)
        if not identity.cluster_id and (config.bootstrap or recovered.terms.last_index):
            recovered = self._found(address, wal, recovered)
        return shelf, wal, recovered

    def _refuse_second_cluster(self, remote: Remote) -> None:
        for address in self.config.join:
            cluster = remote.cluster_at(address, timeout=PROBE_SECONDS)
            if cluster:
                raise StartFailed(
                    f"RAFT_BOOTSTRAP: cluster {cluster} answers at {address}, and this data"
                    f" directory ({self.config.data_dir}) is empty: this node's disk was lost."
                    " Unset RAFT_BOOTSTRAP and join with a new NODE_ID"
                )

    def _found(self, address: str, wal: Wal, recovered: Recovered) -> Recovered:
        """Found a cluster: its first entry names its first member; only then it gets its id."""
        if not self.config.bootstrap or recovered.terms.last_index > 1:
            raise StartFailed(
                f"{self.config.data_dir}: founding a cluster was interrupted here; start once more"
                " with RAFT_BOOTSTRAP=true, or with an empty directory"
            )
        data_dir = self._data_dir
        identity = data_dir.identity
        assert identity is not None, "saved before the log was opened"
        if not recovered.terms.last_index:
            me = Member(identity.node_id, address, True, False, identity.incarnation)
            first = make_entry(
                index=1,
                term=1,
                kind=EntryKind.CONFIGURATION,
                command=Configuration((me,)).encode(),
            )
            hard_state = HardState(1, None)
            wal.write([Write(Mark(1), hard_state, None, [first])])
            wal.sync()
            recovered = Recovered.of(hard_state, [first])
        data_dir.save_identity(Identity(identity.node_id, str(uuid.uuid4()), identity.incarnation))
        return recovered


def has_segments(data_dir: DataDir) -> bool:
    """Tell whether there is a log in the directory."""
    directory = data_dir.wal_directory
    return directory.is_dir() and any(directory.iterdir())
