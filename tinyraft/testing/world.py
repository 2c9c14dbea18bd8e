"""A cluster in simulated time: real nodes, hostile surroundings, and one order of events.

Law: one thread, one `Random`; the run is a function of its story. After every event the rules are
checked, and at the end, when all is mended, the cluster must get on in bounded time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any

from tinyraft.core.configuration import Change, Configuration, Member
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import Entry, EntryKind, Index, NodeId, make_entry
from tinyraft.core.role import Role
from tinyraft.current import current_entry
from tinyraft.errors import ModuleFailed, Rejected, StorageError, TinyraftError
from tinyraft.node.waiters import Waiter
from tinyraft.storage.wal import Wal
from tinyraft.testing import faults
from tinyraft.testing.client import LIE, Program, SimClient
from tinyraft.testing.disk import SimDisk
from tinyraft.testing.history import Operation, is_linearizable
from tinyraft.testing.member import DIRECTORY, SHELF, SimMember
from tinyraft.testing.network import SimNetwork
from tinyraft.testing.reader import SimReader
from tinyraft.testing.schedule import Schedule
from tinyraft.testing.search import Search
from tinyraft.testing.story import LEADER, Story
from tinyraft.testing.stream import SimStream
from tinyraft.testing.truth import Truth, Violation, hold

LIMIT = 60.0  # election timeouts until all must be well again


class Ledger:
    """The module of every member: registers, and commands that are refused or fail."""

    def __init__(self, world: World, member: SimMember) -> None:
        """Begin empty."""
        self._world = world
        self._member = member
        self._values: dict[bytes, bytes] = {}
        self.rolling = b""  # of all commands so far, and of what came with them
        self._time_us = 0  # of the last one
        self._hidden = b""  # what no answer shows, and only this member has
        self._lie = b""  # what it answered once, and no other member

    def apply(self, command: bytes, /) -> bytes:
        """Do what *command* says."""
        member = self._member
        if member.has_trouble and member.fails_module:
            member.fails_module = False
            raise OSError("the module's own disk is full")
        entry = current_entry()
        self._world.truth.applied(member, command, entry, since_us=self._time_us)
        self._time_us = entry.time_us
        self.rolling = blake2b(self.rolling + command + entry.uuid().bytes, digest_size=8).digest()
        value, key, kind = command.split(b" ")
        if kind == b"refuse":
            raise Rejected("on purpose")
        if kind == b"raise":
            raise KeyError(key)
        before = self._values.get(key, b"")
        if kind == b"swap":
            self._values[key] = value
        return self._differ(before)

    def _differ(self, answer: bytes) -> bytes:
        """Come to something else, if told to."""
        member = self._member
        mark = b"%s.%d" % (member.name.encode(), member.life)
        if member.differs == "state":
            self._hidden, member.differs = mark, ""
        elif member.differs == "answer":
            self._lie, member.differs = mark, ""
            answer += LIE
        member.has_differed |= self.differs
        return answer

    @property
    def differs(self) -> bool:
        """Whether it is another than that of members who did nothing wrong."""
        return bool(self._hidden or self._lie)

    def digest(self) -> bytes:
        """Say what no answer shows."""
        return self._hidden

    def value(self, key: bytes) -> bytes:
        """Read one register."""
        return self._values.get(key, b"")

    def snapshot(self) -> Iterator[bytes]:
        """Copy the state; it is written while `apply` goes on."""
        state = [(key, value) for key, value in self._values.items()]
        head = (self._member.applied, self.rolling.hex().encode(), self._time_us)
        odd = (self._hidden, self._lie)

        def chunks() -> Iterator[bytes]:
            yield b"%d %s %d %s %s\n" % (*head, *odd)
            for key, value in state:
                yield b"%s %s\n" % (key, value)

        return chunks()

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Replace the state."""
        member = self._member
        if member.has_trouble and member.fails_module:
            member.fails_module = False
            raise OSError("the module's own disk is full")
        first, *lines = b"".join(chunks).splitlines()
        count, digest, time_us, self._hidden, self._lie = first.split(b" ")
        member.has_differed |= self.differs
        self._time_us = int(time_us)
        self._values = dict(line.split(b" ") for line in lines)
        self.rolling = bytes.fromhex(digest.decode())
        self._member.applied = int(count)
        self._world.see("restored")


def ledger(state: Any, asked: Any) -> tuple[Any, object]:
    """Model what the module answers about one key."""
    kind, value = asked
    if kind == "swap":
        return value, state
    return state, {"refuse": "Rejected", "raise": "ModuleError"}.get(kind, state)


@dataclass(slots=True)
class Result:
    """How a run went."""

    seed: int
    trace: str
    events: int
    seconds: float
    seen: Counter[str]
    failure: str = ""


class World:
    """All processes, and all that surrounds them."""

    def __init__(self, story: Story) -> None:
        """Make the members; nothing happens before `run`."""
        self.story = story
        self.random = Random(story.seed)
        self.schedule = Schedule(self.random)
        self.network = SimNetwork(self.schedule, random=self.random, latency=story.latency)
        self.seen: Counter[str] = Counter()
        self.members: dict[NodeId, SimMember] = {}
        self.truth = Truth(self.members, self.seen)
        self.streams: list[SimStream] = []
        self.operations: list[Operation] = []
        self.clients: list[SimClient | SimReader] = []
        self.acknowledged: Index = 0
        self.is_mended = False
        names = [NodeId(f"n{number}") for number in range(story.members)]
        founders = tuple(Member(n, f"host-{n}", voter=True, incarnation=1) for n in names)
        for name in names:
            self._found(name, Configuration(founders))

    def see(self, what: str) -> None:
        """Count that something rare was met."""
        self.seen[what] += 1

    def _found(self, name: NodeId, founders: Configuration | None) -> SimMember:
        disk = SimDisk()
        disk.mkdir(DIRECTORY)
        disk.mkdir(SHELF)
        disk.sync_dir(DIRECTORY.parent)
        member = SimMember(self, name, f"host-{name}", disk)
        if founders is not None:
            first = make_entry(
                index=1, term=1, kind=EntryKind.CONFIGURATION, command=founders.encode()
            )
            wal, _ = Wal.open(disk, DIRECTORY, segment_bytes=self.story.segment_bytes)
            wal.write([Write(Mark(1), HardState(1, None), None, [first])])
            wal.sync()
            wal.close()
            member.hard_state, member.durable = HardState(1, None), [first]
        self.members[name] = member
        return member

    def make_module(self, member: SimMember) -> Ledger:
        """Make the module of a new life of *member*."""
        return Ledger(self, member)

    # --- who is where ---------------------------------------------------------------------------

    def process_at(self, address: str) -> SimMember | None:
        """Find who listens at *address*."""
        for member in self.members.values():
            if address == member.address:
                return member
        return None

    member_at = process_at

    def named(self, address: str) -> SimMember | None:
        """Find whom a caller reaches: it knows names, and they follow a process that moves."""
        for member in self.members.values():
            if address in member.addresses:
                return member
        return None

    def anchor(self) -> SimMember | None:
        """Find whom the name in everybody's RAFT_JOIN leads to: the first that is there to stay."""
        gone = {
            name for m in self.members.values() if m.life for name in m.raft.configuration.removed
        }
        staying = (m for m in self.members.values() if not m.is_dead and m.name not in gone)
        return next(staying, None)

    def is_safe_without(self, name: NodeId) -> bool:
        """Tell whether voters enough are there to stay when *name* votes no more, or is lost.

        Whatever any member takes for the present configuration.
        """
        gone = {n for n, m in self.members.items() if m.is_dead or m.is_flipped}
        for member in self.members.values():
            if member.life == 0:
                continue
            voters = member.raft.configuration.voters
            for left, lost in ((voters, gone | {name}), (voters - {name}, gone)):
                if 2 * len(left - lost) <= len(left):
                    return False
        return True

    def leader(self) -> SimMember | None:
        """Find who leads; of several, the one of the highest term."""
        leading = [m for m in self.members.values() if m.is_up and m.raft.role is Role.LEADER]
        return max(leading, key=lambda m: m.raft.term) if leading else None

    def pick(self, number: int) -> SimMember:
        """Find the member that a fault means."""
        members = list(self.members.values())
        leader = self.leader() if number == LEADER else None
        return leader or members[number % len(members)]

    def lose_streams(self, member: SimMember) -> None:
        """Break the streams of a process that is gone; the network tells who can hear."""
        for stream in self.streams:
            if stream.is_open and stream.sender is member:
                stream.is_open = False
                stream.break_off()
            elif stream.is_open and stream.leads_to(member):
                name, sender = member.name, stream.sender.name
                self.network.send(name, sender, "reset", stream.break_off)
                stream.die()
        self.streams = [stream for stream in self.streams if stream.is_open]

    def lose_clients(self, member: SimMember) -> None:
        """Let callers learn that their connection to *member* broke."""
        for client in self.clients:
            lost = partial(client.lost, member, member.life)
            self.network.send(member.name, client.name, "reset", lost)

    # --- the run --------------------------------------------------------------------------------

    def run(self) -> Result:
        """Let the story happen; raises `Violation` when a rule is broken."""
        story, schedule = self.story, self.schedule
        for member in list(self.members.values()):
            if member.start():
                self.search(member)
        addresses = [member.address for member in self.members.values()]
        programs = [Program(), None, Program()]  # the second one numbers nothing
        self.clients = [
            SimClient(self, f"c{n}", addresses, programs[n // 2]) for n in range(story.clients)
        ]
        readers = 1 + story.clients // 2
        self.clients += [SimReader(self, f"r{n}", addresses) for n in range(readers)]
        for fault in story.faults:
            what = f"fault {fault.kind} {fault.member}"
            schedule.after(fault.at, what, partial(faults.befall, self, fault))
        schedule.run(story.seconds)
        self._mend()
        schedule.run(story.seconds + LIMIT * story.timeout, stop=self._is_well)
        hold(self._is_well(), f"not well {LIMIT:g} election timeouts after the last fault (I22)")
        self._look_back()
        schedule.note(f"{len(self.truth.committed)} committed")
        return Result(story.seed, schedule.trace, schedule.count, schedule.now, self.seen)

    def _mend(self) -> None:
        self.is_mended = True
        self.network.heal()
        for client in self.clients:
            client.is_stopping = True
        for member in self.members.values():
            faults.mend(self, member)

    def _is_well(self) -> bool:
        up = [m for m in self.members.values() if not m.is_dead]
        leader = self.leader()
        if leader is None or any(not m.is_up for m in up):
            return False
        if any(client.operation is not None for client in self.clients):
            return False
        last = leader.raft.log.last_index
        known = {member.id for member in leader.raft.configuration.members}
        removed = leader.raft.configuration.removed
        if any(not m.raft.is_removed for m in up if m.name in removed):
            return False
        if not self._agrees(leader):
            return False
        return all(
            m.raft.term == leader.raft.term
            and m.raft.log.last_index == m.raft.commit_index == last
            and (m.node.applier.last_applied == last or m.has_diverged)
            for m in up
            if m.name in known
        )

    def _agrees(self, leader: SimMember) -> bool:
        """Tell whether all that differ have taken themselves out, where a majority can say so."""
        voters = leader.raft.configuration.voters
        here = [self.members[m.id] for m in leader.raft.configuration.members]
        at_work = [m for m in here if m.is_up and not m.has_diverged]
        sound = sum(m.name in voters and not m.module.differs for m in at_work)
        if 2 * sound <= len(voters):
            return True
        return not leader.has_diverged and not any(m.module.differs for m in at_work)

    def judge(self, operation: Operation) -> None:
        """Look at an answer at once: what was acknowledged is applied."""
        if operation.outcome == "applied":
            command = b" ".join(
                (operation.asked[1], operation.key.encode(), operation.asked[0].encode())
            )
            hold(command in self.truth.commands, f"{command!r} is acknowledged, not applied (I20)")

    def repeated(self, before: Operation, again: Operation) -> None:
        """Look at the second answer to a request id: it is the first one."""
        if again.outcome == "applied":
            self.see("request id repeated")
            hold(again.answer == before.answer, f"{again} is not answered as {before} (I14)")

    def _look_back(self) -> None:
        commands = self.truth.commands
        values = {command.split(b" ")[0] for command in commands}
        entries = (e for e in self.truth.committed if e.kind is EntryKind.COMMAND)
        there = {entry.command.split(b" ")[0] for entry in entries}
        for operation in self.operations:
            if operation.outcome == "not":
                hold(operation.asked[1] not in there, f"{operation} was refused, and is there")
        for key in {operation.key for operation in self.operations}:
            history = [
                o
                for o in self.operations
                if o.key == key and (o.outcome != "maybe" or o.asked[1] in values)
            ]
            hold(is_linearizable(history, model=ledger, start=b""), f"{key} is not linearizable")
        level = [m for m in self.members.values() if m.is_up and m.applied == len(commands)]
        hold(len({m.module.rolling for m in level}) <= 1, "modules differ (I6)")
        last = len(self.truth.committed)
        sessions = {
            b"\n".join(m.node.applier.sessions.snapshot())
            for m in level
            if m.node.applier.last_applied == last and not m.module.differs
        }
        hold(len(sessions) <= 1, "sessions differ (I14)")

    def judge_failure(self, member: SimMember) -> None:
        """A node has stopped working: that needs a reason."""
        failure = member.node.failure
        if member.has_diverged:
            self._judge_divergence(member)
            return
        expected = member.has_trouble and isinstance(failure, StorageError | ModuleFailed)
        hold(expected, f"{member.name} stopped: {failure}")
        self.see("node out of service")

    def _judge_divergence(self, member: SimMember) -> None:
        """A node has taken itself out: it must differ; and stays so.

        A leader that differs may send a snapshot before anybody knows. When that reached a
        majority, the others are who differs.
        """
        differs = member.has_differed if member.noted else member.module.differs
        voters = member.raft.configuration.voters
        spread = sum(self.members[voter].has_differed for voter in voters)
        if not differs and 2 * spread >= len(voters):
            self.see("difference spread")
        else:
            hold(differs, f"{member.name} took itself out, and is like the others")
        hold(member.is_out or member.could_not_note, f"{member.name} does not note that it is out")

    # --- what an operator does ------------------------------------------------------------------

    def join(self) -> None:
        """Start a new process, which asks until it is a member."""
        name = NodeId(f"n{len(self.members)}")
        member = self._found(name, None)
        member.start()
        self.see("join")
        self.search(member)

    def search(self, member: SimMember) -> None:
        """Let *member*, which has just started, get in or be found."""
        member.search = Search(self, member)

    def change(self, change: Change) -> None:
        """Ask whoever leads for a change of members."""
        leader = self.leader()

        def happen() -> None:
            assert leader is not None, "it was asked"
            try:
                leader.node.change_members(change, Waiter())
            except TinyraftError as error:
                self.see(type(error).__name__)
            else:
                is_own = not leader.raft.is_voter
                self.see(f"{type(change).__name__}{' of the leader' if is_own else ''}")

        if leader is not None:
            leader.run(leader.life, "change", happen)


def play(story: Story) -> Result:
    """Run *story*; a broken rule is told in the result."""
    world = World(story)
    try:
        return world.run()
    except Exception as error:  # noqa: BLE001  # whatever went wrong is the result
        known = isinstance(error, Violation)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        schedule = world.schedule
        return Result(story.seed, schedule.trace, schedule.count, schedule.now, world.seen, text)


__all__ = ["Entry", "Result", "World", "play"]
