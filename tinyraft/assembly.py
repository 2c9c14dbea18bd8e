"""Putting a node together from what the configuration says and the disk remembers.

Law: wires, and decides nothing. What was opened is closed by *undo*, in the opposite order, whether
the start failed or the node is shut down.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from time import time_ns

from tinyraft.config import Config
from tinyraft.core.entry import NodeId
from tinyraft.core.raft import Raft, Settings
from tinyraft.founding import Founding
from tinyraft.logs import Log
from tinyraft.module import Module
from tinyraft.node.gate import Gate
from tinyraft.node.joiner import Joiner
from tinyraft.node.loop import Loop
from tinyraft.node.membership import Membership
from tinyraft.node.node import Node
from tinyraft.node.snapshotter import SnapshotPolicy
from tinyraft.node.space import Room
from tinyraft.node.ticker import tick_seconds
from tinyraft.storage.data_dir import DataDir, Identity
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.divergence import note_divergence, read_divergence
from tinyraft.storage.recovery import Recovered
from tinyraft.transport.envelope import Envelope
from tinyraft.transport.link import Link
from tinyraft.transport.options import peer_options
from tinyraft.transport.remote import Remote


class Running:
    """Everything that a started server holds."""

    def __init__(
        self, *, node: Node, gate: Gate, remote: Remote, joiner: Joiner, joiner_loop: Loop
    ) -> None:
        """Hold what shutdown needs to end."""
        self.remote = remote
        self.node = node
        self.gate = gate
        self.joiner = joiner
        self.joiner_loop = joiner_loop


def assemble(
    config: Config, module: Module, *, listen: Callable[[ExitStack], str], undo: ExitStack
) -> Running:
    """Open everything; *listen* binds the port and tells the address that peers dial.

    Raises:
        TinyraftError: As `Founding.recover` says, or *listen*.
    """
    data_dir = DataDir.open(RealDisk(), config.data_dir)
    undo.callback(data_dir.close)
    founding = Founding(config, data_dir, log=Log("server", node=config.node_id))
    node_id = founding.node_id()
    options = peer_options(config.timeout, max_command_bytes=config.max_command_bytes)
    remote = Remote(me=node_id, options=options)
    undo.callback(remote.close)
    address = listen(undo)
    shelf, wal, recovered = founding.recover(node_id, address=address, remote=remote)
    undo.callback(wal.close)
    undo.callback(shelf.close)

    def identity() -> Identity:
        assert data_dir.identity is not None, "made before anything is served"
        return data_dir.identity

    def connect(peer: NodeId, where: str) -> Link:
        me = identity()
        envelope = Envelope(me.cluster_id, me.node_id, peer, me.incarnation, me.recovery_epoch)
        log = Log("peers", node=node_id)
        return Link(where, envelope=envelope, options=options, log=log)

    def joined(cluster_id: str, recovery_epoch: int) -> None:
        me = identity()
        data_dir.save_identity(Identity(me.node_id, cluster_id, me.incarnation, recovery_epoch))

    node = Node(
        make_raft(config, node_id, recovered),
        module=module,
        journal=wal,
        shelf=shelf,
        connect=connect,
        election_timeout=config.timeout,
        log=Log("node", node=node_id),
        policy=SnapshotPolicy(
            bytes=config.snapshot_bytes,
            entries=config.snapshot_entries,
            trailing_bytes=config.trailing_bytes,
        ),
        cluster_id=lambda: identity().cluster_id,
        room=Room(
            str(config.data_dir),
            lambda: RealDisk().free(config.data_dir),
            config.disk_reserve_bytes,
        ),
        divergence=read_divergence(RealDisk(), data_dir.path),
        diverged=lambda found: note_divergence(RealDisk(), data_dir.path, found),
    )
    membership = Membership(
        node,
        identity=identity,
        remote=remote,
        address=address,
        since_us=time_ns() // 1000,
    )
    gate = Gate(
        node,
        identity=identity,
        address=address,
        remote=remote,
        membership=membership,
        module_query=getattr(module, "query", None),
        max_command_bytes=config.max_command_bytes,
    )
    joiner = Joiner(
        node,
        membership,
        identity=identity,
        joined=joined,
        remote=remote,
        address=address,
        ask=config.join,
        wants_vote=config.voter,
        patience=config.timeout,
        log=Log("joiner", node=node_id),
    )
    loop = Loop(f"tinyraft-{node_id}-joiner", joiner.run, died=node.died)
    return Running(node=node, gate=gate, remote=remote, joiner=joiner, joiner_loop=loop)


def make_raft(config: Config, node_id: NodeId, recovered: Recovered) -> Raft:
    """Make the core, as recovery left it."""
    election = max(10, round(config.timeout / tick_seconds(config.timeout)))
    settings = Settings(
        election_ticks=election,
        heartbeat_ticks=max(1, election // 10),
        max_pending_commands=config.max_pending_commands,
        max_pending_bytes=config.max_pending_bytes,
    )
    return Raft(
        me=node_id,
        settings=settings,
        hard_state=recovered.hard_state,
        entries=recovered.entries,
        random=random.Random(secrets.randbits(64)),
        terms=recovered.terms,
        configurations=recovered.configurations,
        snapshot=recovered.snapshot,
    )
