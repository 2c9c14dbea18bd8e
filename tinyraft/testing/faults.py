"""What goes wrong, and how it is mended.

Law: a fault happens to a member or to the network, lasts as long as the story says, and is undone.
Never more disks are lost for good than a minority's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from tinyraft.core.configuration import Change, Demote, Promote, Remove
from tinyraft.core.entry import NodeId
from tinyraft.errors import TinyraftError
from tinyraft.testing.disk import Fault as DiskFault
from tinyraft.testing.member import DIRECTORY, SHELF, SimMember
from tinyraft.testing.story import Fault
from tinyraft.testing.surroundings import Surroundings

MOST_MEMBERS = 9


class World(Surroundings, Protocol):
    """What a fault may touch."""

    members: dict[NodeId, SimMember]
    is_mended: bool

    @property
    def clients(self) -> Sequence[Named]:
        """All callers."""

    def leader(self) -> SimMember | None:
        """Find who leads."""

    def pick(self, number: int) -> SimMember:
        """Find the member that a fault means."""

    def join(self) -> None:
        """Start a new process that joins."""

    def search(self, member: SimMember) -> None:
        """Let *member* get in or be found."""

    def change(self, change: Change) -> None:
        """Ask whoever leads for a change of members."""

    def is_safe_without(self, name: NodeId) -> bool:
        """Tell whether enough are there to stay without *name*."""


class Named(Protocol):
    """Somebody on the network."""

    name: str


def befall(world: World, fault: Fault) -> None:
    """Let *fault* happen."""
    if world.is_mended:
        return
    world.see(f"fault {fault.kind}")
    FAULTS[fault.kind](world, fault, world.pick(fault.member))


def later(world: World, fault: Fault, action: Callable[[], object]) -> None:
    """Undo it when its time is over."""
    world.schedule.after(fault.seconds, f"end {fault.kind}", action)


def mend(world: World, member: SimMember) -> None:
    """Take everything back that troubles *member*, and start it if it is down."""
    member.pace = member.slow_disk = member.slow_module = 1.0
    member.hunger = 0.0
    member.disk.before = None
    member.disk.heal()
    member.resume()
    if member.is_up and member.is_out_of_service:
        member.crash()
    if not member.is_up:
        start(world, member)


def start(world: World, member: SimMember) -> None:
    """Start it again, if it is down and not lost."""
    if member.is_up or member.is_dead:
        return
    member.disk.heal()
    if member.start():
        world.search(member)
    else:
        world.schedule.after(0.05, f"{member.name} starts again", lambda: start(world, member))


def restart(world: World, member: SimMember) -> None:
    """Lose the power, if it has not, and start again."""
    if member.is_up:
        member.crash()
    start(world, member)


# --- the network --------------------------------------------------------------------------------


def loss(world: World, fault: Fault, member: SimMember) -> None:
    """Messages are lost."""
    del member
    world.network.loss = 0.3 * fault.amount**2
    later(world, fault, lambda: setattr(world.network, "loss", 0.0))


def twice(world: World, fault: Fault, member: SimMember) -> None:
    """Messages come twice."""
    del member
    world.network.twice = 0.5 * fault.amount
    later(world, fault, lambda: setattr(world.network, "twice", 0.0))


def late(world: World, fault: Fault, member: SimMember) -> None:
    """All messages are late."""
    del member
    world.network.factor = 1 + 30 * fault.amount**2
    later(world, fault, lambda: setattr(world.network, "factor", 1.0))


def slow(world: World, fault: Fault, member: SimMember) -> None:
    """One member's messages are late."""
    world.network.slow[member.name] = 1 + 50 * fault.amount**2
    later(world, fault, lambda: world.network.slow.pop(member.name, None))


def sever(world: World, fault: Fault, pairs: set[tuple[str, str]]) -> None:
    """Cut connections, and mend them."""
    world.network.cuts |= pairs
    later(world, fault, lambda: world.network.cuts.difference_update(pairs))


def all_pairs(world: World, parted: Callable[[int, int], bool]) -> set[tuple[str, str]]:
    """Name the pairs of members that *parted* says, in both directions."""
    names = list(world.members)
    numbers = range(len(names))
    return {(names[a], names[b]) for a in numbers for b in numbers if a != b and parted(a, b)}


def cut(world: World, fault: Fault, member: SimMember) -> None:
    """One direction of one connection is cut."""
    others = [name for name in world.members if name != member.name]
    if others:
        other = others[int(fault.amount * len(others))]
        is_outward = int(fault.amount * 1000) % 2 == 0
        sever(world, fault, {(member.name, other) if is_outward else (other, member.name)})


def isolate(world: World, fault: Fault, member: SimMember) -> None:
    """One member is alone; in some stories its clients are cut off as well."""
    others: list[str] = [*world.members]
    if fault.amount < 0.3:
        others += [client.name for client in world.clients]
    pairs = {(member.name, name) for name in others if name != member.name}
    sever(world, fault, pairs | {(b, a) for a, b in pairs})


def halves(world: World, fault: Fault, member: SimMember) -> None:
    """Two groups don't hear each other."""
    del member
    mask = int(fault.amount * (1 << len(world.members)))
    sever(world, fault, all_pairs(world, lambda a, b: (mask >> a & 1) != (mask >> b & 1)))


def bridge(world: World, fault: Fault, member: SimMember) -> None:
    """Two groups hear each other only through one member."""
    middle = list(world.members).index(member.name)
    mask = int(fault.amount * (1 << len(world.members)))

    def parted(a: int, b: int) -> bool:
        return middle not in (a, b) and (mask >> a & 1) != (mask >> b & 1)

    sever(world, fault, all_pairs(world, parted))


def ring(world: World, fault: Fault, member: SimMember) -> None:
    """Everybody hears the two neighbours only."""
    del member
    count = len(world.members)
    sever(world, fault, all_pairs(world, lambda a, b: (a - b) % count not in (1, count - 1)))


def reset(world: World, fault: Fault, member: SimMember) -> None:
    """All streams of one member break."""
    del fault
    for stream in list(world.streams):
        if stream.is_open and (stream.sender is member or stream.leads_to(member)):
            stream.break_off()


# --- processes ----------------------------------------------------------------------------------


def crash(world: World, fault: Fault, member: SimMember) -> None:
    """The power goes."""
    if member.is_up:
        member.crash()
        later(world, fault, lambda: start(world, member))


def kill(world: World, fault: Fault, member: SimMember) -> None:
    """The process is killed, and the system keeps what it wrote."""
    if member.is_up:
        member.kill()
        later(world, fault, lambda: start(world, member))


def crash_call(world: World, fault: Fault, member: SimMember) -> None:
    """The power goes in the middle of a disk call."""
    if member.is_up:
        member.pull_plug_in(int(fault.amount * 12))
        later(world, fault, lambda: restart(world, member))


def crash_twice(world: World, fault: Fault, member: SimMember) -> None:
    """The power goes, and once more while the log is recovered."""
    if member.is_up:
        member.crash()
        member.pull_plug_in(int(fault.amount * 20))
        later(world, fault, lambda: start(world, member))


def crash_all(world: World, fault: Fault, member: SimMember) -> None:
    """The power goes everywhere."""
    del member
    for one in list(world.members.values()):
        if one.is_up:
            one.crash()
            delay = fault.seconds * (0.1 + world.random.random())
            world.schedule.after(delay, f"{one.name} starts", partial(start, world, one))


def pause(world: World, fault: Fault, member: SimMember) -> None:
    """A process is frozen; the others go on."""
    if member.is_up:
        world.see("leader paused" if member is world.leader() else "follower paused")
        member.pause()
        later(world, fault, member.resume)


def pace(world: World, fault: Fault, member: SimMember) -> None:
    """A clock runs fast or slow."""
    member.pace = 0.8 + 0.4 * fault.amount
    later(world, fault, lambda: setattr(member, "pace", 1.0))


def starve(world: World, fault: Fault, member: SimMember) -> None:
    """A process gets next to nothing of the processor: every wake-up of it is late."""
    world.see("leader starved" if member is world.leader() else "follower starved")
    member.hunger = world.story.timeout * (0.3 + 0.7 * fault.amount)
    later(world, fault, lambda: setattr(member, "hunger", 0.0))


def slow_disk(world: World, fault: Fault, member: SimMember) -> None:
    """Syncs take long."""
    member.slow_disk = 1 + 300 * fault.amount**3
    later(world, fault, lambda: setattr(member, "slow_disk", 1.0))


def disk_error(world: World, fault: Fault, member: SimMember) -> None:
    """A disk call fails: the node stops, and is started again."""
    if member.is_up:
        member.has_trouble = True
        member.disk.fail(DiskFault(int(fault.amount * 10), errno.EIO))
        later(world, fault, lambda: restart(world, member))


def disk_full(world: World, fault: Fault, member: SimMember) -> None:
    """There is no room for a while: the node stops, and is started when there is."""
    if member.is_up:
        member.has_trouble = True
        call = "allocate" if fault.amount < 0.5 else "pwrite"
        member.disk.fail(DiskFault(0, errno.ENOSPC, call, forever=True, partial=7))
        later(world, fault, lambda: restart(world, member))


def disk_filled(world: World, fault: Fault, member: SimMember) -> None:
    """Others fill the disk, and make room again: the node has no reason to stop."""
    if not member.is_up:
        return
    disk, life = member.disk, member.life
    disk.free_bytes = 0
    if fault.amount < 0.7:  # to the last byte: not even the next segment has room
        disk.fail(DiskFault(0, errno.ENOSPC, "allocate", forever=True))
    if fault.amount < 0.35:  # nor any other new file: a snapshot
        disk.fail(DiskFault(0, errno.ENOSPC, "create", forever=True))

    def make_room() -> None:
        if member.life == life and not member.has_trouble:
            disk.heal()

    later(world, fault, make_room)


def flip(world: World, fault: Fault, member: SimMember) -> None:
    """A bit of what was synced turns over while the process is down."""
    if not member.is_up or not world.is_safe_without(member.name):
        return
    member.kill()
    member.disk.heal()
    # After a power loss that takes this file back, rot in the last frames looks like a torn write.
    known = DIRECTORY / "synced"
    member.disk.put(known, member.disk.content(known))
    paths = [DIRECTORY / n for n in member.disk.names(DIRECTORY) if n.endswith(".wal")]
    paths += [SHELF / n for n in member.disk.names(SHELF) if n.endswith(".snapshot")]
    path = paths[int(fault.amount * len(paths)) % len(paths)]
    data = bytearray(member.disk.content(path))
    data[int(fault.amount * 7919) % min(len(data), 600)] ^= 1 << int(fault.amount * 8)
    member.disk.put(path, bytes(data))
    member.is_flipped = True
    later(world, fault, lambda: start(world, member))


def module(world: World, fault: Fault, member: SimMember) -> None:
    """A module meets trouble of its own: the node applies nothing more, and is started again."""
    if member.is_up:
        member.has_trouble = member.fails_module = True
        later(world, fault, lambda: restart(world, member))


def differ(world: World, fault: Fault, member: SimMember) -> None:
    """A module comes to something else than the others', once: in an answer, or unseen."""
    del world
    member.differs = "answer" if fault.amount < 0.5 else "state"


def slow_module(world: World, fault: Fault, member: SimMember) -> None:
    """A module takes long."""
    member.slow_module = 1 + 500 * fault.amount**2
    later(world, fault, lambda: setattr(member, "slow_module", 1.0))


# --- operators ----------------------------------------------------------------------------------


def transfer(world: World, fault: Fault, member: SimMember) -> None:
    """Leadership is handed over."""
    del fault

    def hand_over() -> None:
        try:
            member.node.turn(lambda raft: raft.transfer())
        except TinyraftError as error:
            world.see(f"transfer {type(error).__name__}")

    if member.is_up:
        member.run(member.life, "transfer", hand_over)


def resign(world: World, fault: Fault, member: SimMember) -> None:
    """A node is shut down in order, and started again."""
    if not member.is_up or member.is_paused:
        return
    member.run(
        member.life, "resign", lambda: world.see("resigned" if member.node.resign() else "left")
    )
    member.after(0.2 * world.story.timeout, "leaves", lambda: restart(world, member))
    del fault


def join(world: World, fault: Fault, member: SimMember) -> None:
    """A new process joins."""
    del fault, member
    if len(world.members) < MOST_MEMBERS:
        world.join()


def remove(world: World, fault: Fault, member: SimMember) -> None:
    """A member is removed, whether it is up or not; its process runs on."""
    del fault
    if world.is_safe_without(member.name):
        world.change(Remove(member.name))


def demote(world: World, fault: Fault, member: SimMember) -> None:
    """A voter becomes a learner."""
    del fault
    if world.is_safe_without(member.name):
        world.change(Demote(member.name))


def promote(world: World, fault: Fault, member: SimMember) -> None:
    """A learner becomes a voter."""
    del fault
    world.change(Promote(member.name))


def move_all(world: World, fault: Fault, member: SimMember) -> None:
    """All processes come back at other addresses: nobody knows anybody's."""
    del member
    for one in list(world.members.values()):
        if one.is_up:
            move(world, replace(fault, seconds=fault.seconds * (0.1 + world.random.random())), one)


def move(world: World, fault: Fault, member: SimMember) -> None:
    """A process comes back at another address."""
    if member.is_up:
        member.crash()
        member.addresses.insert(0, f"host-{member.name}-{world.schedule.count}")
        world.see("moved")
        later(world, fault, lambda: start(world, member))


FAULTS: dict[str, Callable[[World, Fault, SimMember], None]] = {
    "loss": loss,
    "twice": twice,
    "late": late,
    "cut": cut,
    "isolate": isolate,
    "halves": halves,
    "bridge": bridge,
    "ring": ring,
    "reset": reset,
    "slow": slow,
    "crash": crash,
    "kill": kill,
    "crash call": crash_call,
    "crash all": crash_all,
    "crash twice": crash_twice,
    "pause": pause,
    "pace": pace,
    "starve": starve,
    "slow disk": slow_disk,
    "disk error": disk_error,
    "disk full": disk_full,
    "disk filled": disk_filled,
    "flip": flip,
    "module": module,
    "differ": differ,
    "slow module": slow_module,
    "transfer": transfer,
    "resign": resign,
    "join": join,
    "move": move,
    "move all": move_all,
    "remove": remove,
    "demote": demote,
    "promote": promote,
}
