"""The node: one core, one lock, and the threads around them.

Law: `turn` is the only way to the core. Under its lock there is no I/O, no wait, no logging, no
user code; what a visit leaves to be done is queued before the lock is left, and done outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Lock
from time import monotonic
from typing import Protocol, TypeVar

from tinyraft.core.configuration import Change, Configuration
from tinyraft.core.effects import Effects, Held, InSnapshot, Notice, OnDisk, Synced
from tinyraft.core.entry import Entry, Index, NodeId, Term
from tinyraft.core.messages import InstallSnapshot, Reply, Request
from tinyraft.core.raft import Proposed, Raft
from tinyraft.core.role import Role
from tinyraft.core.status import Status
from tinyraft.errors import (
    ModuleFailed,
    NodeRemoved,
    NotLeader,
    NotStarted,
    ServerStopped,
    StorageError,
    StorageFailed,
    TinyraftError,
)
from tinyraft.logs import Log
from tinyraft.module import Module
from tinyraft.node.applier import Applier
from tinyraft.node.clock import CLOCK, Clock
from tinyraft.node.installer import Installer
from tinyraft.node.intake import Intake
from tinyraft.node.judge import CHECK_SECONDS, Judge
from tinyraft.node.lanes import APPEND_BYTES
from tinyraft.node.loop import Launch, Part, Running, in_thread
from tinyraft.node.observers import KnownLeader, Observers
from tinyraft.node.peers import Connect, Peers
from tinyraft.node.readers import Readers
from tinyraft.node.shipment import PIECE_BYTES, Shipments
from tinyraft.node.sightings import Sightings
from tinyraft.node.snapshotter import POLICY, Compacting, SnapshotPolicy, Snapshotter
from tinyraft.node.space import ENDLESS, Room, Space
from tinyraft.node.stopwatch import SlowModule
from tinyraft.node.ticker import LATE_SECONDS, Ticker, tick_seconds
from tinyraft.node.waiters import Waiter, Waiters, out_of_office
from tinyraft.node.writer import Journal, Writer
from tinyraft.storage.divergence import Divergence
from tinyraft.storage.snapshots import Snapshots

T = TypeVar("T")
WARNINGS = {
    "stepped_down",
    "log_cut",
    "transfer_failed",
    "impossible_reply",
    "peer_log_went_back",
    "starved",
    "resigns",
    "removed",
}
DEBUG = {"voted"}
PATIENCE = 2  # timeouts that a command's fate is waited for on a node that leads no more


class Store(Journal, Compacting, Protocol):
    """What a node needs of the write-ahead log."""

    def read(self, after: Index, to: Index, *, max_bytes: int) -> list[Entry]:
        """Give entries in (*after*, *to*] that fit, at least one; none when they are gone."""


class Node:
    """A member at work. All methods are thread-safe."""

    def __init__(
        self,
        raft: Raft,
        *,
        module: Module,
        journal: Store,
        shelf: Snapshots,
        connect: Connect,
        election_timeout: float,
        log: Log,
        on_failure: Callable[[], None] = lambda: None,
        launch: Launch = in_thread,
        clock: Clock = CLOCK,
        append_bytes: int = APPEND_BYTES,
        piece_bytes: int = PIECE_BYTES,
        policy: SnapshotPolicy = POLICY,
        cluster_id: Callable[[], str] = str,
        room: Room = ENDLESS,
        check_seconds: float = CHECK_SECONDS,
        divergence: Divergence | None = None,
        diverged: Callable[[Divergence], None] = lambda _: None,
    ) -> None:
        """Put a node together; nothing runs before `start`.

        With a *divergence* of a former life its module is never asked. *diverged* notes one.
        """
        self.me = raft.me
        self.failure: TinyraftError | None = None
        self._raft = raft
        self._lock = Lock()  # guards _raft and the order of what leaves it
        self._log = log
        self._on_failure = on_failure
        self._leader: tuple[Role, NodeId | None, Term] = (Role.FOLLOWER, None, 0)
        self._ready_at: tuple[Term, Index] = (0, 0)  # what its leader had committed
        self.observers = Observers(self.known_leader, node=raft.me, log=log, died=self.died)
        self._configuration: Configuration | None = raft.configuration
        self._news = Condition()  # guards nothing; leaf: told when role, leader or members change
        self._ticks_in_vain = 0
        self.sightings = Sightings(raft.me, news=lambda: self._ticker.ring())
        self.waiters = Waiters()
        self.readers = Readers(last_applied=lambda: self.applier.last_applied)
        self.writer = Writer(journal, on_synced=self._synced)
        self.applier = Applier(
            module,
            waiters=self.waiters,
            fetch=self._committed,
            shelf=shelf,
            failed=self._module_failed,
            log=log,
            applied=self._applied,
            cluster_id=cluster_id,
            term=lambda: raft.term,
            clock=clock,
            rests_after=tick_seconds(election_timeout),
            patience=lambda: self.intake.gathering.left(now=clock.monotonic()),
            impatient=self._begin_batch,
        )
        self._slow_module = SlowModule(
            self.applier.stopwatch, seconds=election_timeout / 2, log=log, clock=clock
        )
        self._judge = Judge(
            self.applier.agreement, seconds=check_seconds, monotonic=clock.monotonic
        )
        self._told_check: Index = 0
        self._diverged = diverged
        self._shipments = shipments = Shipments(shelf, piece_bytes=piece_bytes)
        self.snapshotter = Snapshotter(
            module,
            applier=self.applier,
            shelf=shelf,
            journal=journal,
            shipments=shipments,
            turn=self.turn,
            cluster_id=cluster_id,
            policy=policy,
            log=log,
        )
        self._installer = Installer(shelf, turn=self.turn, came=self.snapshotter.came)
        self._journal = journal
        self._peers = Peers(
            me=raft.me,
            connect=connect,
            sightings=self.sightings,
            turn=self.turn,
            glance=self.glance,
            fetch=self._read,
            shipments=shipments,
            died=self.died,
            election_timeout=election_timeout,
            log=log,
            launch=launch,
            clock=clock,
            append_bytes=append_bytes,
        )
        self.space = Space(
            room, provide=self.writer.look_for_room, changed=self._disk_is_full, log=log
        )
        self.intake = Intake(
            raft, waiters=self.waiters, applier=self.applier, space=self.space, clock=clock
        )
        self._ticker = Ticker(
            self._tick,
            seconds=tick_seconds(election_timeout),
            log=log,
            clock=clock,
            late_seconds=min(LATE_SECONDS, election_timeout / 2),
            blame=self._slow_module.blame,
        )
        self._launch = launch
        self._clock = clock
        self._loops: dict[str, Running] = {}
        if divergence is not None:
            self.failure = self.applier.failure = ModuleFailed(str(divergence))
            shipments.are_withheld = True
            raft.become_reluctant()

    # --- visits to the core -------------------------------------------------------------------

    def turn(self, event: Callable[[Raft], T], *, rings_writer: bool = True) -> T:
        """Let *event* happen to the core, and queue what follows from it.

        Who does not ring the writer waits for the mark, or rings it afterwards.

        Raises:
            TinyraftError: The core refused, and nothing changed; or the node has failed.
        """
        try:
            with self._lock:
                if self.failure is not None and self._is_out_of_service():
                    raise self.failure
                led = self._raft.leadership is not None
                result = event(self._raft)
                refused = self.intake.look(self._raft)
                effects = self._raft.take()
                notices = self._dispatch(effects, rings_writer=rings_writer)
                has_left = led and self._raft.leadership is None
        except TinyraftError:
            raise
        except Exception as error:
            self.died(threading.current_thread().name, error)
            raise
        if refused is not None:
            waiters, why = refused
            for waiter in waiters:
                waiter.resolve(None, why)
        if has_left:
            self._forsake(self.waiters.pop_repeatable())
        if effects.reads:
            self.readers.answered(effects.reads)
        if notices:
            self._report(notices)
        return result

    def glance(self, event: Callable[[Raft], T]) -> T:
        """Let *event* take from the core what leaves nothing to be done: an entry, a message.

        Raises:
            TinyraftError: The node has failed.
        """
        try:
            with self._lock:
                if self.failure is not None and self._is_out_of_service():
                    raise self.failure
                return event(self._raft)
        except TinyraftError:
            raise
        except Exception as error:
            self.died(threading.current_thread().name, error)
            raise

    def _dispatch(self, effects: Effects, *, rings_writer: bool) -> Sequence[Notice]:
        """Queue *effects*. Under the core's lock, so the writer's queue has the core's order."""
        if effects.write is not None:
            self.writer.put(effects.write)
            if rings_writer:
                self.writer.ring()
        if effects.bulk:
            self._peers.ring_bulk(effects.bulk)
        if effects.control:
            self._peers.ring_control(effects.control)
        if effects.commits:
            self.applier.ring()
        if effects.configuration is not None:
            self._configuration = effects.configuration
            self._ticker.ring()
        raft = self._raft
        leader = (raft.role, raft.leader_id, raft.term)
        if self._ready_at[0] != raft.term and raft.leader_id is not None:
            self._look_for_readiness(raft)
        if leader != self._leader:
            self._leader = leader
            self._ticker.ring()
            self._peers.ring_all()
            with self._news:
                self._news.notify_all()
            self.observers.changed()
        return effects.notices

    def _look_for_readiness(self, raft: Raft) -> None:
        """Once a term: remember what has to be applied to be level with its leader."""
        commit = raft.commit_index
        if raft.log.term_at(commit) == raft.term:
            self._ready_at = (raft.term, commit)
            self.observers.changed()

    def _applied(self) -> None:  # after each batch
        self._tell_check()
        self.readers.applied(self.applier.last_applied)
        self.snapshotter.look()
        self.observers.changed()

    def _tell_check(self) -> None:
        """Let the leader know what the latest check came to here."""
        checks = self.applier.agreement.checks
        if checks and checks[-1].index != self._told_check:
            latest = checks[-1]
            self._told_check = latest.index
            with suppress(TinyraftError):  # a node that has failed tells nobody
                self.turn(lambda raft: raft.checked(latest.index, latest.digest))

    def _report(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if notice.name in WARNINGS:
                self._log.warning(notice.name, **notice.facts)
            elif notice.name in DEBUG:
                self._log.debug(notice.name, **notice.facts)
            else:
                self._log.info(notice.name, **notice.facts)
            if notice.name == "removed":
                self.observers.changed(ends=True)

    def _synced(self, synced: Synced) -> None:
        self.turn(lambda raft: raft.synced(synced))

    def _committed(self, after: Index, max_bytes: int) -> list[Entry] | InSnapshot:
        while True:
            found = self.glance(lambda raft: raft.committed(after, max_bytes=max_bytes))
            if not isinstance(found, OnDisk):
                return found
            entries = self._read(found.after, found.to, max_bytes)
            if entries:  # committed, so they are what they were; or else a snapshot has them now
                return entries

    def _read(self, after: Index, to: Index, max_bytes: int) -> list[Entry]:
        try:
            return self._journal.read(after, to, max_bytes=max_bytes)
        except Exception as error:  # whatever thread reads: this disk can't be trusted
            self.died(threading.current_thread().name, error)
            raise

    def _forsake(self, waiters: Sequence[Waiter]) -> None:
        for waiter in waiters:
            waiter.resolve(None, out_of_office(waiter, self.me))

    def _tick(self, ticks: int, overslept: int) -> int:
        """Let *ticks* pass, the last of them *overslept* late; tell when the next is due."""
        configuration: Configuration | None = None
        due = 1
        moved = self.sightings.take_news()
        by_module = bool(overslept) and self._slow_module.has_taken(
            overslept * self._ticker.seconds
        )
        forsaken: list[Waiter] = []

        def event(raft: Raft) -> None:
            nonlocal configuration, due
            if overslept:
                raft.overslept(overslept, by_module=by_module)
            raft.tick(ticks)
            due = 1 if self._is_waited_for else raft.ticks_until_due()
            if self._waits_in_vain(raft, ticks):
                forsaken.extend(self.waiters.pop_behind(raft.commit_index))
            if self.failure is None and not self.is_leaving and not self.space.shortage:
                self._judge.look(raft)
            configuration, self._configuration = self._configuration, None
            if moved:
                configuration = raft.configuration

        self.turn(event)
        self._slow_module.look()
        self._forsake(forsaken)
        if configuration is not None:
            self._peers.reconcile(configuration, self._raft)
            self._peers.ring_all()
        return due

    @property
    def _is_waited_for(self) -> bool:
        """Whether somebody has a command here that is not answered."""
        return self.intake.is_waited_for or len(self.waiters) > 0

    def _waits_in_vain(self, raft: Raft, ticks: int) -> bool:
        """Tell whether somebody has waited for long, on a node that leads no more.

        What becomes of an entry is often known soon after the office is lost, and certainty is
        worth a wait; but this node may be cut off.
        """
        waits = raft.leadership is None and len(self.waiters) > 0
        self._ticks_in_vain = self._ticks_in_vain + ticks if waits else 0
        return self._ticks_in_vain > PATIENCE * raft.settings.election_ticks

    # --- what others ask of this node ---------------------------------------------------------

    def step(self, request: Request, *, sender: NodeId) -> Held[Reply] | Reply:
        """Take a peer's request; who takes a `Held` rings the writer, or waits.

        Waits for nothing itself, except that a piece of a snapshot is written at once.
        """
        if isinstance(request, InstallSnapshot):
            return self._installer.take(request, sender)
        return self.turn(lambda raft: raft.step(request, sender=sender), rings_writer=False)

    def receive(self, request: Request, *, sender: NodeId, timeout: float) -> Reply:
        """Take a peer's request; block until the disk vouches for the reply.

        Raises:
            TimeoutError: The disk took longer than *timeout* seconds.
            StorageFailed: The disk failed.
        """
        reply = self.step(request, sender=sender)
        if not isinstance(reply, Held):
            self.writer.ring()
            return reply
        try:
            return reply.release(self.writer.wait(reply.after, timeout=timeout))
        except TimeoutError:
            raise
        except Exception as error:  # this handler may have been the one that wrote
            self.died(threading.current_thread().name, error)
            raise

    def peer_lost(self, peer: NodeId, *, term: Term) -> None:
        """The stream of appends from *peer*, last of *term*, ended without a goodbye."""
        if not self.is_leaving and self.failure is None:
            self.turn(lambda raft: raft.peer_lost(peer, term=term))

    def propose(self, commands: Sequence[bytes], waiters: Sequence[Waiter]) -> None:
        """Have *commands* appended, at once or with the next batch; each waiter gets its answer.

        Raises:
            Overloaded: Too much waits at the door already. Nothing will be appended. Where there is
                room for some, that is the answer to the others.
            ReentrantCall: Called from inside the module.
        """
        self.applier.mutex.refuse_reentry()
        self.intake.put(commands, waiters)
        if self._is_out_of_service():
            self._refuse_commands()
        elif self.intake.may_begin:
            try:
                self.turn(look)
            except TinyraftError:
                self._refuse_commands()

    def withdraw(self, waiter: Waiter) -> bool:
        """Take a command back whose caller gave up; False when it was appended already."""
        self.waiters.discard(waiter)
        return self.intake.inbox.withdraw(waiter)

    def _begin_batch(self) -> None:  # nobody else has come
        self.turn(lambda _: self.intake.wait_no_longer())

    def _is_out_of_service(self) -> bool:
        return self.failure is not None and not isinstance(self.failure, ModuleFailed)

    def _refuse_commands(self) -> None:
        self.intake.refuse_all(f"{self.me} does not work any more: {self.failure}")

    def change_members(
        self, change: Change, waiter: Waiter, *, expect: Index | None = None
    ) -> None:
        """Append a change of membership; *waiter* is answered when it is committed.

        When it is so already, that is at once, with the index of the present configuration.
        """

        def event(raft: Raft) -> Proposed | None:
            self.intake.refuse_if_leaving(raft)
            proposed = raft.change_members(change, expect=expect)
            if proposed is not None:
                self.waiters.add([waiter], first=proposed.first, term=proposed.term)
            else:
                waiter.index = raft.history.latest_index
                waiter.term = raft.log.term_at(waiter.index)
            return proposed

        try:
            proposed = self.turn(event)
        except (ServerStopped, StorageError, NotStarted) as error:  # raised before the event
            raise NotLeader(f"{self.me} does not work any more: {error}") from error
        if proposed is None:
            waiter.resolve(None, None)

    def read(self, function: Callable[[Module], T]) -> T:
        """Run *function* on the module under the mutex: as stale as this node is."""
        return self.applier.call(function)

    def ask_read_index(self, waiter: Waiter) -> None:
        """Begin a linearizable read; *waiter* is answered with its `index`, on the leader only.

        Raises:
            NotLeader: This node does not lead. It may also be the answer.
        """
        self.readers.ask(waiter)
        try:
            self.turn(lambda raft: raft.read(waiter))
        except TinyraftError:
            if self.readers.discard(waiter):
                raise  # else it has its answer

    def when_applied(self, index: Index, waiter: Waiter) -> None:
        """Answer *waiter* when the module has seen the entry *index*, or never will."""
        self.readers.when_applied(index, waiter)
        if self.failure is not None and self.readers.discard(waiter):
            waiter.resolve(None, self.failure)

    def leader(self) -> tuple[NodeId | None, str, Term]:
        """Tell who leads, where that is dialled, and in which term."""
        with self._lock:
            raft = self._raft
            return raft.leader_id, self._address_of(raft, raft.leader_id), raft.term

    def _address_of(self, raft: Raft, node: NodeId | None) -> str:
        member = raft.configuration.get(node)
        return self.sightings.address_of(member) if member else ""

    @property
    def misses_somebody(self) -> bool:
        """Whether this node leads, and has not heard a member for long."""
        with self._lock:
            leadership = self._raft.leadership
            return leadership is not None and leadership.misses_somebody

    @property
    def is_removed(self) -> bool:
        """Whether this node was removed from its cluster."""
        return self._raft.is_removed

    def look(self, at: Callable[[Raft], T]) -> T:
        """Look *at* the core without changing it, also when the node has failed."""
        with self._lock:
            return at(self._raft)

    @property
    def leads(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._leader[0] is Role.LEADER and self.failure is None

    def known_leader(self) -> KnownLeader:
        """Tell who leads, and whether this node has caught up with it. Takes no lock."""
        role, leader, term = self._leader
        if self._is_out_of_service():
            return KnownLeader(term, "", is_self=False, is_ready=False)
        ready_term, index = self._ready_at
        is_ready = ready_term == term and self.applier.last_applied >= index
        return KnownLeader(
            term,
            leader or "",
            is_self=role is Role.LEADER,
            is_ready=is_ready and leader is not None and self.why_it_ends() is None,
        )

    def why_it_ends(self) -> TinyraftError | None:
        """Tell why this node will never act as the leader again; None while it may."""
        if self.failure is not None:
            return self.failure
        if self.is_leaving:
            return NotStarted(f"{self.me} is shutting down")
        if self.is_removed:
            return NodeRemoved(f"{self.me} was removed from the cluster: it never leads again")
        return None

    def status(self) -> Status:
        """Describe this node; the parts are of one moment."""
        applied = self.applier.last_applied
        sessions, request_ids = self.applier.sessions.counts
        with self._lock:
            raft = self._raft
            commit, log = raft.commit_index, raft.log
            term, index = self._ready_at
            return Status(
                node_id=raft.me,
                cluster_id="",
                address=raft.configuration.address_of(raft.me),
                role=raft.role,
                term=raft.term,
                leader_id=raft.leader_id or "",
                leader_address=self._address_of(raft, raft.leader_id),
                commit_index=commit,
                last_applied=applied,
                last_index=log.last_index,
                durable_index=log.durable_index,
                members=raft.configuration.members,
                is_ready=raft.leader_id is not None
                and raft.term == term
                and applied >= index
                and self.failure is None
                and not raft.is_removed,
                failed=str(self.failure or ""),
                incarnation=0,
                removed=raft.is_removed,
                storage_full=self.space.shortage,
                snapshot_index=raft.snapshot_index,
                first_index=log.base_index + 1,
                diverged=self._shipments.are_withheld,
                sessions=sessions,
                request_ids=request_ids,
            )

    def configuration(self) -> Configuration:
        """Return the configuration in force."""
        with self._lock:
            return self._raft.configuration

    def wait_until(self, condition: Callable[[], T | None], *, timeout: float | None) -> T | None:
        """Wait for *condition* to give something; None when *timeout* seconds passed.

        It is looked at whenever role, leader or members change, and every 20 ms.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            found = condition()
            if found:
                return found
            left = 0.02 if deadline is None else min(0.02, deadline - monotonic())
            if left <= 0 or self.is_leaving or self.failure is not None:
                return None
            self.wait_for_news(left)

    @property
    def is_leaving(self) -> bool:
        """Whether this node is being shut down."""
        return self.intake.is_leaving

    @property
    def is_stopping(self) -> bool:
        """Whether this node is on its way out."""
        return self.is_leaving or self.failure is not None

    def wait_for_news(self, timeout: float) -> None:
        """Wait until role, leader or members change, at most *timeout* seconds."""
        with self._news:
            self._news.wait(timeout)

    # --- life and death -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads."""
        parts: tuple[tuple[str, Part], ...] = (
            ("writer", self.writer),
            ("applier", self.applier),
            ("ticker", self._ticker),
            *([("snapshotter", self.snapshotter)] if self.snapshotter.can else []),
            ("space", self.space),
        )
        for name, part in parts:
            self._loops[name] = self._launch(f"tinyraft-{self.me}-{name}", part, died=self.died)

    def died(self, thread: str, error: BaseException) -> None:
        """Stop working: a thread ended with *error*. Anybody who waits is told."""
        if isinstance(error, StorageError):
            failure: TinyraftError = error
        else:
            failure = ServerStopped(f"{self.me} stopped: {thread} ended with {error!r}")
        with self._lock:  # a visit that was let in before has its waiters in place by now
            if self.failure is not None and not isinstance(self.failure, ModuleFailed):
                return
            self.failure = failure
        self._log.error("node_failed", thread=thread, error=repr(error), exc_info=error)
        storage = failure if isinstance(failure, StorageFailed) else StorageFailed(str(failure))
        self.writer.fail(storage)
        self._ticker.stop()
        self.snapshotter.stop()
        self.space.stop()
        self._peers.say_goodbye()
        self.answer_everybody(f"{self.me} stopped working: {failure}")
        self.observers.changed(ends=True)
        self._on_failure()

    def _module_failed(self, failure: ModuleFailed) -> None:
        divergence = self.applier.agreement.divergence
        self._shipments.are_withheld |= divergence is not None
        with self._lock:  # a disk that failed meanwhile stays the reason: that node is dead
            self.failure = self.failure or failure
        self.observers.changed(ends=True)
        self.turn(Raft.become_reluctant)
        for waiter in self.waiters.pop_all():
            waiter.resolve(None, failure)
        self.readers.fail(failure)
        self._on_failure()
        if divergence is not None:
            self._note(divergence)

    def _note(self, divergence: Divergence) -> None:
        """Keep *divergence* over restarts; without that the next life finds it anew."""
        try:
            self._diverged(divergence)
        except StorageError as error:
            self._log.error("divergence_not_noted", why=str(error))

    def _disk_is_full(self, is_full: bool) -> None:  # a callback's
        try:
            self.turn(lambda raft: raft.disk_is_full(is_full))
        except TinyraftError:
            return  # a node that has failed takes no commands anyway

    def answer_everybody(self, why: str) -> None:
        """Tell all who wait that the outcome won't be known here."""
        self._refuse_commands()
        for waiter in self.waiters.pop_all():
            waiter.resolve(None, ServerStopped(f"{why}; entry {waiter.index} may be applied"))
        self.readers.fail(NotStarted(why))

    def resign(self) -> bool:
        """Take no more work and offer leadership to the best voter; False when there is none."""
        self.intake.is_leaving = True
        self.observers.changed(ends=True)  # first of all: whoever acts as the leader is to stop
        try:
            self.turn(Raft.transfer)
        except TinyraftError:
            return False  # does not lead, nobody can take it, or failed: nothing to hand over
        return True

    def hand_over(self, *, timeout: float) -> None:
        """Give leadership to the best voter, and wait at most *timeout* seconds to hear of it."""
        if not self.resign():
            return
        deadline = monotonic() + timeout
        while self._leader[1] in (None, self.me) and monotonic() < deadline:
            self.wait_for_news(0.02)

    def finish_commands(self, *, timeout: float) -> None:
        """Wait at most *timeout* seconds for the answers that are still owed."""
        self.intake.has_left = True
        with suppress(TinyraftError):
            self.turn(look)  # refuses what waits
        deadline = monotonic() + timeout
        while len(self.waiters) and monotonic() < deadline and self.failure is None:
            self.wait_for_news(0.01)

    def stop(self, *, deadline: float) -> list[str]:
        """End every thread until *deadline* (monotonic); name those that did not."""
        self.intake.is_leaving = True
        self._peers.say_goodbye()
        self._ticker.stop()
        self.space.stop()
        late = [] if self._ended("ticker", deadline) else ["ticker"]
        late += [] if self._ended("space", deadline) else ["space"]
        self._peers.close(deadline=deadline)
        self.snapshotter.stop()
        late += [] if self._ended("snapshotter", deadline) else ["snapshotter"]
        self.writer.stop()
        late += [] if self._ended("writer", deadline) else ["writer"]
        self.applier.stop()
        late += [] if self._ended("applier", deadline) else ["applier"]
        with self._lock:  # before the answers: who still proposes now is refused, not forgotten
            self.failure = self.failure or NotStarted(f"{self.me} was shut down")
        self.answer_everybody(f"{self.me} was shut down")
        self.writer.fail(StorageFailed(f"{self.me} was shut down"))
        self.observers.changed(ends=True)
        self.observers.stop()
        late += [] if self.observers.join(lambda: left(deadline)) else ["observer"]
        return late

    def _ended(self, part: str, deadline: float) -> bool:
        return part not in self._loops or self._loops[part].join(left(deadline))


def left(deadline: float) -> float:
    """Seconds until *deadline*, not below a tenth."""
    return max(0.1, deadline - monotonic())


def look(raft: Raft) -> None:
    """Visit the core without an event: what waits in the inbox is appended."""
