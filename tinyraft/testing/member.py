"""One simulated process: a real node on a disk that forgets, over several lives.

Law: what runs is the product: core, node, writer, lanes, applier, write-ahead log and recovery. A
crash takes everything away but the disk, and of the disk what was not synced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinyraft.core.effects import HardState, Held, Write
from tinyraft.core.entry import Entry, NodeId
from tinyraft.core.messages import Reply, Request
from tinyraft.core.raft import Raft, Settings
from tinyraft.errors import CorruptLog, ModuleFailed, StorageError, TinyraftError
from tinyraft.logs import Log
from tinyraft.node.bell import Bell
from tinyraft.node.clock import Clock
from tinyraft.node.loop import Died, Part, Running
from tinyraft.node.node import Node
from tinyraft.node.snapshotter import SnapshotPolicy
from tinyraft.node.space import Room
from tinyraft.storage.divergence import Divergence, note_divergence, read_divergence
from tinyraft.storage.recovery import Recovered
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import Change, SimDisk, kept, lost
from tinyraft.testing.parts import Driver, drive
from tinyraft.testing.schedule import Event
from tinyraft.testing.surroundings import Surroundings

DIRECTORY = Path("/wal")
SHELF = Path("/snapshots")
ROOT = Path("/")
RESERVE_BYTES = 1 << 20


class PowerLoss(BaseException):
    """The power goes, in the middle of a disk call."""


class SimLog(Log):
    """Counts the events that a node would log."""

    def __init__(self, seen: Callable[[str], None]) -> None:
        """Tell *seen* the name of each event."""
        self._seen = seen

    def debug(self, event: str, **facts: object) -> None:
        """Count it."""
        del facts
        self._seen(event)

    info = warning = error = debug


class SimLink:
    """The way to one peer; the drivers speak for it."""

    def __init__(self, member: SimMember, address: str) -> None:
        """Remember where the peer is dialled."""
        self._member = member
        self.address = address

    def close(self) -> None:
        """Break off the streams."""
        for stream in self._member.world.streams:
            if stream.sender is self._member and stream.is_open:
                stream.break_off()

    def call(self, request: Request, *, timeout: float) -> Reply | None:
        """Not used: the driver makes the call."""
        raise NotImplementedError

    def open_stream(self, appends: object) -> Any:
        """Not used: the driver opens it."""
        raise NotImplementedError


class SimMember:
    """A process of the cluster."""

    def __init__(self, world: Surroundings, name: NodeId, address: str, disk: SimDisk) -> None:
        """Make a process that is not started."""
        self.world = world
        self.name = name
        self.addresses = [address]  # the present one, then the former ones
        self.disk = disk
        self.life = 0
        self.is_up = False
        self.is_paused = False
        self.is_dead = False  # for good: its disk is refused
        self.pace = 1.0
        self.hunger = 0.0  # seconds: how late a thread wakes up at most that gets no processor
        self.slow_disk = 1.0
        self.slow_module = 1.0
        self.hard_state = HardState(0, None)  # what is on the disk, as the outside knows it
        self.durable: list[Entry] = []
        self.written: list[Write] = []  # since the last sync
        self.lost_writes: list[Write] = []  # written in a former life, and never synced
        self.is_flipped = False  # somebody damaged what it had synced
        self.fails_module = False  # at the next command
        self.has_trouble = False  # its disk or its module was told to fail
        self.differs = ""  # at one of the next commands: in its "answer", or in its "state"
        self.has_differed = False  # in some life
        self.is_out = False  # it has found that out, and noted it
        self.could_not_note = False
        self.noted: Divergence | None = None  # in a former life
        self.applied = 0  # commands, in this life
        self.heard_at: dict[NodeId, int] = {}
        self.search: Any = None  # a `Search`, of this life
        self._has_lost_power = False  # in the midst of an action
        self._backlog: list[tuple[str, Callable[[], object]]] = []
        self._doors: list[tuple[Bell, Driver]] = []  # looked at after every event
        self._held: list[tuple[Held[Reply], Callable[[Reply], None]]] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.addresses[0]

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> bool:
        """Recover and begin; tell whether that went well. A disk that refuses keeps it down."""
        world = self.world
        self.life += 1
        self._doors, self._held, self._backlog = [], [], []
        self.heard_at, self.applied = {}, 0
        self.search = None
        self.is_paused = self._has_lost_power = False
        try:
            recovered, entries = self._open()
        except PowerLoss:
            world.see("crash in recovery")
            self.crash()
            return False
        except CorruptLog:
            world.see("damage refused")
            self.is_dead = True
            world.truth.refused(self)
            return False
        except StorageError:
            world.see("start failed")
            self.disk.kill()
            return False
        snapshot = recovered.snapshot
        self.durable = world.truth.recovered(
            self, recovered.hard_state, entries, snapshot.index if snapshot else 0
        )
        self.hard_state = HardState(recovered.hard_state.term, recovered.hard_state.voted_for)
        self.lost_writes, self.has_trouble = [], False
        self.raft = self._make_raft(recovered)
        self.module = world.make_module(self)
        skew = world.random.uniform(-1e3, 1e3)
        self.node = Node(
            self.raft,
            module=self.module,
            journal=self.wal,
            shelf=self.shelf,
            connect=lambda _peer, address: SimLink(self, address),
            election_timeout=world.story.timeout,
            log=SimLog(world.see),
            launch=self._launch,
            clock=Clock(
                monotonic=lambda: world.schedule.now,
                time_ns=lambda: int((1e6 + skew + world.schedule.now) * 1e9),
            ),
            append_bytes=world.story.append_bytes,
            piece_bytes=world.story.piece_bytes,
            policy=SnapshotPolicy(
                bytes=1 << 60,
                entries=world.story.snapshot_entries,
                trailing_bytes=world.story.trailing_bytes,
            ),
            room=Room(str(DIRECTORY), lambda: self.disk.free(DIRECTORY), RESERVE_BYTES),
            check_seconds=world.story.timeout,
            divergence=self.noted,
            diverged=self._note,
        )
        self.is_up = True
        world.see("start")
        self.node.start()
        self.settle()
        return True

    def _open(self) -> tuple[Recovered, list[Entry]]:
        """Recover; give the whole log too, as far as it is on the disk."""
        story = self.world.story
        self.shelf = Snapshots.open(self.disk, SHELF)
        self.wal, recovered = Wal.open(
            self.disk,
            DIRECTORY,
            segment_bytes=story.segment_bytes,
            snapshots=[file.meta for file in self.shelf.kept],
            memory_bytes=story.memory_bytes,
        )
        for notice in (*self.shelf.notices, *recovered.notices):
            self.world.see(notice.name)
        self.noted = read_divergence(self.disk, ROOT)
        base, last = recovered.terms.base_index, recovered.terms.last_index
        entries = [*self.world.truth.committed[:base]]
        entries += self.wal.read(base, last, max_bytes=1 << 60) if base < last else []
        return recovered, entries

    def _make_raft(self, recovered: Recovered) -> Raft:
        story = self.world.story
        return Raft(
            me=self.name,
            settings=Settings(
                election_ticks=story.election_ticks,
                heartbeat_ticks=max(1, story.election_ticks // 10),
                max_pending_commands=story.max_pending,
                memory_bytes=story.memory_bytes,
            ),
            hard_state=recovered.hard_state,
            entries=recovered.entries,
            random=self.world.random,
            terms=recovered.terms,
            configurations=recovered.configurations,
            snapshot=recovered.snapshot,
        )

    def _launch(self, name: str, part: Part, *, died: Died) -> Running:
        del name
        address = getattr(getattr(part, "_link", None), "address", "")
        driver = drive(self, part, address=address, died=died)
        if driver.bell is not None:
            self._doors.append((driver.bell, driver))
        return driver

    @property
    def is_out_of_service(self) -> bool:
        """Whether the node has stopped working."""
        return self.node.failure is not None

    @property
    def has_diverged(self) -> bool:
        """Whether its node has taken itself out, now or in a former life."""
        divergence = self.node.applier.agreement.divergence or self.noted
        return divergence is not None and isinstance(self.node.failure, ModuleFailed)

    def _note(self, found: Divergence) -> None:
        self.could_not_note = True
        note_divergence(self.disk, ROOT, found)
        self.could_not_note, self.is_out = False, True

    def kill(self) -> None:
        """End the process: the system keeps what was written, synced or not."""
        self._end()
        self.world.see("killed")
        self.disk.kill()

    def crash(self) -> None:
        """Lose the power: of what was not synced some is kept, some lost, some torn."""
        self._end()
        world, pending = self.world, self.disk.pending()
        world.see("crash with unsynced bytes" if pending else "crash")
        self.disk = self.disk.crash(self._keep(), names=lambda n: world.random.randint(0, n))

    def _end(self) -> None:
        self.is_up = False
        self.life += 1
        self.lost_writes += self.written
        self.written = []
        self.disk.before = None
        self.world.lose_streams(self)
        self.world.lose_clients(self)

    def _keep(self) -> Callable[[Change], tuple[int, int] | None]:
        random = self.world.random
        mood = random.random()

        def keep(change: Change) -> tuple[int, int] | None:
            if mood < 0.3:
                return lost(change)
            if mood < 0.5:
                return kept(change)
            if random.random() < 0.5:
                return lost(change)
            if random.random() < 0.5 and change.kind == "write":
                self.world.see("torn write")
                cuts = sorted(random.randint(0, len(change.data)) for _ in range(2))
                return (0, cuts[1]) if random.random() < 0.7 else (cuts[0], cuts[1])
            return kept(change)

        return keep

    def pull_plug_in(self, calls: int) -> None:
        """Lose the power at one of the next disk calls."""

        def count() -> None:
            nonlocal calls
            calls -= 1
            if calls < 0:
                self.disk.before = None
                self._has_lost_power = True
                raise PowerLoss

        self.disk.before = count

    def pause(self) -> None:
        """Freeze it: what comes meanwhile is taken later."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        if self.is_paused:
            self.is_paused = False
            backlog, self._backlog = self._backlog, []
            life = self.life
            for what, action in backlog:
                self.run(life, what, action)

    # --- running --------------------------------------------------------------------------------

    def run(self, life: int, what: str, action: Callable[[], object]) -> None:
        """Let *action* happen in that *life*, and look at what it did."""
        if not self.is_up or self.life != life:
            return
        if self.is_paused:
            self._backlog.append((what, action))
            return
        try:
            action()
            if self._has_lost_power:
                raise PowerLoss  # a part took it for its own trouble; no part outlives it
            self.settle()
        except PowerLoss:
            self.world.see("crash in a disk call")
            self.crash()
        except TinyraftError:
            if not self.is_out_of_service:
                raise
            # What a failed node's threads end with.

    def settle(self) -> None:
        """Look at every bell, and at every rule."""
        for bell, driver in self._doors:
            if bell.is_rung:
                driver.poll()
        self.world.truth.look(self)

    def after(self, seconds: float, what: str, action: Callable[[], object]) -> Event:
        """Let *action* happen to this life in *seconds*."""
        life = self.life
        return self.world.schedule.after(
            seconds, f"{self.name} {what}", lambda: self.run(life, what, action)
        )

    def wake_up(self) -> float:
        """Draw how long a thread takes to wake up."""
        return self.world.random.random() * max(0.0005, self.hunger)

    def oversleep(self) -> float:
        """Draw how much later than due a timer wakes up."""
        return self.world.random.random() * self.hunger if self.hunger else 0.0

    def sync_seconds(self) -> float:
        """Draw how long a sync takes."""
        seconds = self.world.story.sync_seconds * self.slow_disk
        longest = 10 * self.world.story.timeout
        return min(longest, seconds * self.world.random.expovariate(1.0))

    def apply_seconds(self) -> float:
        """Draw how long the module takes for a batch."""
        return 0.0005 * self.slow_module * self.world.random.random()

    # --- the disk -------------------------------------------------------------------------------

    def writes(self, batch: Sequence[Write]) -> None:
        """The writer is about to hand *batch* to the disk."""
        self.written += batch

    def synced(self, batch: Sequence[Write]) -> None:
        """The disk has promised *batch*."""
        del self.written[: len(batch)]
        for write in batch:
            self.world.truth.persisted(self, write)
        self.after(0.0, "release", self._release)

    def _release(self) -> None:
        synced = self.node.writer.synced
        waiting, self._held = self._held, []
        for held, leave in waiting:
            if held.after <= synced:
                leave(held.release(synced))
            else:
                self._held.append((held, leave))

    # --- peers ----------------------------------------------------------------------------------

    def heard(self, peer: NodeId) -> None:
        """A reply of *peer* came in."""
        self.heard_at[peer] = self.raft.ticks

    def call(
        self,
        address: str,
        peer: NodeId,
        request: Request,
        over: Callable[[Reply | None], None],
    ) -> None:
        """Send *request* to whoever listens at *address*; *over* is told the reply."""
        world, life = self.world, self.life
        kind = type(request).__name__
        target = world.member_at(address)

        def back(reply: Reply | None) -> None:
            assert target is not None, "it answers"
            what = "refused" if reply is None else type(reply).__name__
            world.network.send(
                target.name, self.name, what, lambda: self.run(life, what, lambda: over(reply))
            )

        def arrive() -> None:
            if target is None or not target.is_up or target.name != peer:
                if target is not None:
                    back(None)
                return
            target.run(target.life, kind, lambda: target.take(request, self.name, back))

        world.truth.leaves(self, peer, request)
        world.network.send(self.name, peer, kind, arrive)

    def take(self, request: Request, sender: NodeId, reply: Callable[[Reply | None], None]) -> None:
        """Take a peer's request; the reply leaves when the disk vouches for it."""

        def leave(message: Reply) -> None:
            self.world.truth.leaves(self, sender, message)
            reply(message)

        try:
            result = self.node.step(request, sender=sender)
        except TinyraftError:
            reply(None)
            return
        self.node.writer.ring()
        if isinstance(result, Held):
            self._held.append((result, leave))
            self._release()
        else:
            leave(result)

    def peer_lost(self, peer: NodeId, term: int) -> None:
        """A stream of *peer* ended without a goodbye."""
        self.node.peer_lost(peer, term=term)
