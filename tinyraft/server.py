"""One node of a cluster, beside the program's own code.

Law: wires, starts and shuts down; decides nothing. `start` either holds everything (identity, lock,
recovered log, port) or has left nothing behind.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Literal, Self, TypeVar

import grpc

from tinyraft.addresses import is_wildcard, join_address, split_address
from tinyraft.assembly import Running, assemble
from tinyraft.caller import Caller, caller_at_home
from tinyraft.config import Config
from tinyraft.core.configuration import Change, Demote, Promote, Remove
from tinyraft.core.members import Members
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.status import Status
from tinyraft.errors import (
    AlreadyStarted,
    NoQuorum,
    NotStarted,
    ReadFailed,
    StartFailed,
)
from tinyraft.logs import Log
from tinyraft.module import Module
from tinyraft.node.gate import Gate
from tinyraft.node.home import Home
from tinyraft.node.observers import KnownLeader, Mandate, Observer
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.export import copy_out
from tinyraft.submission import Submission
from tinyraft.transport.guard import Guard, OwnerProcess
from tinyraft.transport.members import add, id_of
from tinyraft.transport.options import check_bind, server_options
from tinyraft.transport.pools import Pools
from tinyraft.transport.service import Service, register
from tinyraft.transport.undivided import undivided

T = TypeVar("T")

PROBE_SECONDS = 2.0


class Server:
    """One member of a cluster. Use it as a context manager, or `start` and `shutdown` it.

    All methods may be called from any thread. After a fork every method raises `ForkedProcess`:
    start a server in the process that uses it.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self, config: Config, module: Module, *, grpc_server: grpc.Server | None = None
    ) -> None:
        """Prepare a node; nothing is opened or started yet.

        Args:
            config: Who the node is and where its data lives.
            module: The program's state machine; see `Module`.
            grpc_server: A server of the program, not yet started, that is to host the node's
                services beside its own; it must listen at ``config.listen_address``, and the
                program starts and stops it. Without one the node makes its own.
        """
        self.config = config
        self._module = module
        self._grpc_server = grpc_server
        self._lock = threading.Lock()  # guards the life cycle
        self._owner = OwnerProcess("this tinyraft.Server")
        self._running: Running | None = None
        self._serving: Running | None = None  # longer: peers and answers that are owed need it
        self._was_started = False
        self._caller: Caller | None = None
        self._ending = ExitStack()
        self._guard: Guard | None = None
        self._log = Log("server", node=config.node_id)
        self._pools = Pools(config.node_id or "node")
        self.servicer = Service(self._gate, self._pools)
        if grpc_server is not None:
            register(self.servicer, grpc_server)

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the data directory, recover, listen, and begin to take part.

        Returns when the identity, the directory's lock, the recovered log and the port are held.
        Joining a cluster and electing a leader go on behind; see `wait_ready`.

        Raises:
            AlreadyStarted: It was started before, even if it was shut down since.
            ConfigError: ``NODE_ID`` differs from the directory's, or the node has no way in.
            StartFailed: The port is taken, or a bootstrap would found a second cluster.
            DataDirLocked: Another process holds the directory.
            CorruptLog: Synced bytes are damaged; the node must not take part.
            StorageFailed: The directory can't be read or written.
        """
        self._owner.check()
        for warning in self.config.warnings:
            self._log.warning("config", warning=warning)
        with self._lock:
            if self._was_started:
                raise AlreadyStarted("a Server is started once; make a new one")
            with ExitStack() as undo:
                running = assemble(self.config, self._module, listen=self._listen, undo=undo)
                self._ending = undo.pop_all()
            self._log = Log("server", node=running.node.me)
            self._was_started = True
            self._running = self._serving = running
            running.node.start()
            running.joiner_loop.start()
            self._guard = Guard(f"tinyraft-{running.node.me}-guard", self.shutdown)
            self._guard.start()
            self._log.info("started", address=running.gate.address)

    # --- the port -----------------------------------------------------------------------------

    def _listen(self, undo: ExitStack) -> str:
        """Listen, and return the address that peers dial."""
        listen = self.config.listen_address
        host, port = split_address(listen)
        if self._grpc_server is not None:
            return self.config.advertised(port)
        if is_wildcard(host):
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
        check_bind(listen)
        server = grpc.server(
            self._pools.unknown,
            options=server_options(max_command_bytes=self.config.max_command_bytes),
        )
        register(self.servicer, server)
        try:
            port = server.add_insecure_port(join_address(host, port))
        except RuntimeError as error:
            raise StartFailed(f"gRPC can't listen at {listen}: {error}") from error
        server.start()
        undo.callback(lambda: server.stop(0).wait(2.0))
        self._grpc = server
        return self.config.advertised(port)

    # --- use ----------------------------------------------------------------------------------

    def apply(
        self, command: bytes, *, timeout: float | None = 10.0, request_id: str = ""
    ) -> bytes | None:
        """Replicate *command* and return what the module answered.

        On the leader it goes straight into the log; elsewhere it is sent to the leader, as by a
        `Caller`: once applied, however often it has to be sent. Blocks until a majority has it on
        disk and the leader's module has applied it.

        Args:
            command: Opaque bytes, at most ``max_command_bytes``.
            timeout: Seconds for everything; ``None`` waits for ever.
            request_id: As for `Caller.apply`.

        Returns:
            The module's result.

        Raises:
            Rejected: The module refused it.
            ModuleError: The module raised something else.
            NotApplied: Certainly without effect; the subclass says why.
            MaybeApplied: The outcome is unknown; likewise.
            ReentrantCall: Called from inside the module.
            NodeRemoved: This node was removed from the cluster; nothing was sent.
            NotStarted: The server does not run.
        """
        return self._caller_here().apply(command, timeout=timeout, request_id=request_id)

    def submit(
        self, command: bytes, *, timeout: float | None = 10.0, request_id: str = ""
    ) -> Submission:
        """Send *command* and return a future of its result, as `Caller.submit`; raises as that."""
        return self._caller_here().submit(command, timeout=timeout, request_id=request_id)

    def apply_many(
        self, commands: Sequence[bytes], *, timeout: float | None = 10.0
    ) -> list[bytes | None]:
        """Replicate *commands* together, as `Caller.apply_many`; raises as that."""
        return self._caller_here().apply_many(commands, timeout=timeout)

    def _caller_here(self) -> Caller:
        """Return the caller of this process, whose way is short while its own node leads."""
        running = self._live()
        running.gate.refuse_if_removed()
        running.node.applier.mutex.refuse_reentry()
        caller = self._caller
        return caller if caller is not None else self._make_caller(running)

    def _make_caller(self, running: Running) -> Caller:
        with self._lock:
            if self._running is not running:  # else nobody would ever close it
                raise NotStarted("the server was shut down")
            if self._caller is None:
                members = running.node.configuration().members
                addresses = [running.gate.address, *(m.address for m in members)]
                self._caller = caller_at_home(
                    lambda **slots: Home(running.node, **slots),
                    addresses,
                    max_command_bytes=self.config.max_command_bytes,
                )
            return self._caller

    def read(
        self,
        function: Callable[[Module], T],
        *,
        consistency: Literal["linearizable", "stale"] = "linearizable",
        max_staleness: float | None = None,
        timeout: float = 10.0,
    ) -> T:
        """Run *function* on the module under its mutex and return what it returns.

        ``"linearizable"``, on any node: *function* sees everything that anybody was told before
        this call began. Blocks until the leader has heard from a majority that it still leads,
        which reads at the same time share, and until this node has applied that much. Nothing is
        written to the log or a disk.

        ``"stale"`` runs it at once on what this node has applied, which may be behind the cluster.
        With *max_staleness* it sees at least what was committed so many seconds ago, by this node's
        own clock: at once if a read made sure of that since then, else as a linearizable read.

        *function* must not change the module, and must not keep what it finds by reference.

        Args:
            function: Is given the module.
            consistency: ``"linearizable"`` or ``"stale"``.
            max_staleness: Seconds; only with ``"stale"``.
            timeout: Seconds to make sure in.

        Returns:
            What *function* returned.

        Raises:
            ReadFailed: No leader confirmed it in time, or another consistency was asked for.
            NodeRemoved: This node was removed from the cluster; it has only stale reads.
            ModuleFailed: The module stopped applying.
            ReentrantCall: Called from inside the module.
            NotStarted: The server does not run.
        """
        running = self._live()
        if consistency not in ("linearizable", "stale"):
            raise ReadFailed(f"consistency={consistency!r} is neither 'linearizable' nor 'stale'")
        is_stale = consistency == "stale"
        if max_staleness is not None and not is_stale:
            raise ReadFailed("max_staleness= goes with consistency='stale'")
        running.node.applier.mutex.refuse_reentry()
        if is_stale and max_staleness is None:
            return running.node.read(function)
        try:
            running.gate.reading.make_current(timeout=timeout, max_staleness=max_staleness)
        except NoQuorum as error:
            raise ReadFailed(str(error)) from error
        return running.node.read(function)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows. False when it does not run."""
        self._owner.check()
        running = self._running
        return running is not None and running.node.leads

    def status(self) -> Status:
        """Describe this node; the parts are of one moment. Does not block.

        Raises:
            NotStarted: The server does not run.
        """
        return self._live().gate.status()

    def wait_ready(self, timeout: float | None = 10.0) -> bool:
        """Wait until a leader is known and the module has seen what that leader had committed.

        Args:
            timeout: Seconds; ``None`` waits for ever.

        Returns:
            False when time ran out, or the node stopped working or was removed.

        Raises:
            NotStarted: The server does not run.
        """
        node = self._live().node
        node.wait_until(lambda: node.status().is_ready or node.is_removed, timeout=timeout)
        return node.status().is_ready

    # --- leadership ---------------------------------------------------------------------------

    def observe(self, callback: Callable[[KnownLeader], object]) -> Observer:
        """Call *callback* whenever it changes who leads, or whether this node has caught up.

        It runs in a thread of its own, first with the present state, and may block or raise: a slow
        one finds only the newest state next, and what it raises is logged. It ends with the server,
        behind a last state in which nobody leads, or by ``stop()`` of what is returned. Does not
        block.

        Raises:
            NotStarted: The server does not run.

        .. versionadded:: 0.1.0
        """
        return self._live().node.observers.observe(callback)

    @contextmanager
    def leadership(self, *, timeout: float | None = None) -> Iterator[Mandate]:
        """Wait until this node leads and has applied all of earlier terms; for a ``with`` block.

        What it gives has a ``token`` (the term, which only grows, to fence with), ``lost`` (an
        event that is set when leadership is, or the server shuts down) and ``check()``, which
        raises `LeadershipLost` then. The block is not interrupted: look, or wait for ``lost``.

        Any number of threads may be in such a block at once.

        Args:
            timeout: Seconds to wait; ``None`` waits for ever.

        Raises:
            NotLeader: This node did not lead in time.
            ModuleFailed, StorageFailed: It has failed, and won't lead.
            NodeRemoved: It was removed, and won't lead.
            ReentrantCall: Called from inside the module.
            NotStarted: The server does not run, or was shut down meanwhile.

        .. versionadded:: 0.1.0
        """
        node = self._live().node
        node.applier.mutex.refuse_reentry()
        mandate = Mandate()
        try:
            with node.observers.watching(mandate):
                if not mandate.wait(timeout, why_never=node.why_it_ends):
                    why = f"did not lead within {timeout:.3g} s"
                    raise node.look(lambda raft: raft.not_leader(why))
                yield mandate
        finally:
            mandate.lost.set()

    # --- snapshots ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Write the module's state to this node's disk now, and shorten the log behind it.

        That happens by itself too, after ``snapshot_entries`` or ``snapshot_bytes`` of commands.
        The module's mutex is held only while its ``snapshot`` makes a copy; blocks until all of it
        is synced and was read back.

        Returns:
            What the snapshot stands for: the last entry in it, and the configuration there.

        Raises:
            ModuleError: The module has no ``snapshot``, or it raised or gave something else.
            ModuleFailed: The module stopped applying.
            StorageFailed: The disk has no room, or failed; log and older snapshots stand.
            ReentrantCall: Called from inside the module.
            NotStarted: The server does not run, or nothing was applied yet.

        .. versionadded:: 0.1.0
        """
        return self._live().node.snapshotter.take().meta

    def export(self, path: str | os.PathLike[str]) -> Snapshot:
        """Write the module's present state to the file *path*, which must not exist.

        Any node will do; it is as recent as that node is. A new cluster can be started from the
        file, and it is checked when that happens. Blocks until it is on disk.

        Raises:
            FileExistsError: There is something at *path* already.
            TinyraftError: As for `snapshot`.

        .. versionadded:: 0.1.0
        """
        with self._live().node.snapshotter.exporting() as (snapshot, pieces):
            copy_out(pieces, Path(path), disk=RealDisk())
        return snapshot

    # --- members ------------------------------------------------------------------------------

    def members(self) -> Members:
        """Tell who belongs to the cluster, as this node knows it. Does not block.

        Returns:
            The configuration and its index, for ``expect=``.

        Raises:
            NotStarted: The server does not run.
        """
        return self._live().gate.membership.members()

    def add_learner(
        self, node_id: str, address: str, *, timeout: float = 10.0, expect: int | None = None
    ) -> int:
        """Take a node in that gets the log and has no vote, before it runs or after.

        Like all changes of members it goes through the leader from whichever node, waits for the
        change before it, blocks until a majority has it on disk, and is no change when it is so
        already, so it may be repeated.
        The node is known with the data directory that it first comes with.

        Args:
            node_id: The ``NODE_ID`` that it has or will have; never one that was removed.
            address: Where it is dialled, ``host:port``; nobody else's.
            timeout: Seconds for everything.
            expect: Change only the configuration of this index (`Members.index`).

        Returns:
            The index of the configuration that holds it.

        Raises:
            ChangeInProgress: Another change was not committed in all that time: one at a time.
            ConfigurationChanged: The configuration is not that of *expect*.
            IdReused: The id belongs to another member, or did.
            MembershipError: The address is taken, or is none.
            NotApplied: Nothing was changed: no leader was found.
            MaybeApplied: It was handed over, and its end was not seen: look at `members`.
            NotStarted: The server does not run.
        """
        change = add(node_id, address, voter=False)
        return self._change(change, timeout=timeout, expect=expect)

    def add_voter(
        self,
        node_id: str,
        address: str,
        *,
        timeout: float = 60.0,
        expect: int | None = None,
        wait: bool = True,
    ) -> int:
        """Take a node in as a learner that gets its vote when it has caught up.

        Blocks until it votes, or with ``wait=False`` until it is a learner. The rest is as for
        `add_learner`, which this also follows: a learner that is there is to vote from now on.

        Raises:
            NotCaughtUp: It is a learner, and has not caught up yet; it will be promoted when it
                has.
            MembershipError: As for `add_learner`, or it was removed meanwhile.
        """
        deadline = monotonic() + timeout
        change = add(node_id, address, voter=True)
        index = self._change(change, timeout=timeout, expect=expect)
        if not wait:
            return index
        left = max(0.0, deadline - monotonic())
        return self._live().gate.membership.wait_promoted(node_id, index=index, timeout=left)

    def promote(self, node_id: str, *, timeout: float = 10.0, expect: int | None = None) -> int:
        """Give a learner its vote; the rest is as for `add_learner`.

        Raises:
            NotCaughtUp: It lacks too much of the log, or is not heard.
            UnknownMember: Nobody has that id.
        """
        return self._change(Promote(id_of(node_id)), timeout=timeout, expect=expect)

    def demote(self, node_id: str, *, timeout: float = 10.0, expect: int | None = None) -> int:
        """Take a voter's vote away; the rest is as for `add_learner`.

        It stays as a learner. A leader hands its leadership over.

        Raises:
            MembershipError: It is the last voter, or too few of the others are up.
            UnknownMember: Nobody has that id.
        """
        return self._change(Demote(id_of(node_id)), timeout=timeout, expect=expect)

    def remove(self, node_id: str, *, timeout: float = 10.0, expect: int | None = None) -> int:
        """Take a member out; the rest is as for `add_learner`.

        Its id is refused for ever. A leader hands its leadership over. A node that is removed takes
        no commands any more and says so in its log and status; shut it down when you like.

        Raises:
            MembershipError: It is the last voter, or too few of the others are up.
            UnknownMember: Nobody has that id.
        """
        return self._change(Remove(id_of(node_id)), timeout=timeout, expect=expect)

    def transfer_leadership(self, to: str | None = None, *, timeout: float = 10.0) -> str:
        """Hand leadership to the voter *to*, or to the one who has most of the log.

        From any node. Blocks until somebody else leads; commands that come meanwhile wait or are
        tried again by their callers.

        Returns:
            Who leads then.

        Raises:
            MembershipError: *to* has no vote, is this leader's only choice and not up, or did not
                take over in time: the old leader leads on.
            NotApplied: No leader was found.
            NotStarted: The server does not run.
        """
        membership = self._live().gate.membership
        return membership.transfer(id_of(to) if to else "", timeout=timeout, forwarded=False)

    def _change(self, change: Change, *, timeout: float, expect: int | None) -> int:
        membership = self._live().gate.membership
        return membership.change(change, expect=expect, timeout=timeout, forwarded=False)

    # --- the end ------------------------------------------------------------------------------

    def shutdown(self, timeout: float = 5.0) -> None:
        """Hand leadership over, answer who waits, and free the port, the threads and the lock.

        Idempotent, and bounded by *timeout* seconds plus a little. Commands that are not answered
        by then get `ServerStopped`. Safe from any thread except the module's callbacks. Ctrl-C ends
        the waiting, not the shutdown: the program ends behind it.
        """
        self._owner.check()
        undivided(lambda: self._shutdown(timeout), name="tinyraft-shutdown")

    def _shutdown(self, timeout: float) -> None:
        with self._lock:
            running, self._running = self._running, None
        if running is None:
            return
        deadline = monotonic() + timeout
        running.joiner.stop()
        running.node.hand_over(timeout=min(1.0, timeout / 4))
        running.node.finish_commands(timeout=min(1.0, timeout / 4))
        running.node.answer_everybody(f"{running.node.me} is shutting down")
        running.remote.close()  # what was passed on is answered too; the joiner asks no more
        self.servicer.streams.close()
        self.servicer.query_streams.close()
        if self._caller is not None:
            self._caller.close()
        if self._grpc_server is None:
            self._grpc.stop(min(0.5, timeout / 8))
        self._serving = None
        late = running.node.stop(deadline=deadline)
        running.joiner_loop.join(max(0.1, deadline - monotonic()))
        if late:
            self._log.warning("threads_left", threads=late)
        self._pools.retire()
        self._ending.close()
        if self._guard is not None:
            self._guard.cancel()
        self._log.info("stopped")

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down."""
        self.shutdown()

    def _live(self) -> Running:
        self._owner.check()
        running = self._running
        if running is None:
            raise NotStarted("the server is not running; call start() first")
        return running

    def _gate(self) -> Gate:
        running = self._serving
        if running is None:
            raise NotStarted("this node is not running")
        return running.gate
