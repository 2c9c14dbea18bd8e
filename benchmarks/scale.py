"""Beyond this machine: latency and throughput by cluster size, round trip and disk, simulated.

usage: python -m benchmarks.scale [--json FILE]

Law: the real core, node, writer, lanes, applier and log run in `tinyraft.testing`'s simulated time;
the network and the disk take as long as they are told, and computing takes no time at all.
So the figures are what the protocol allows; what Python adds is measured by the rest of
`benchmarks`, on a real machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.report import table
from tinyraft.errors import TinyraftError
from tinyraft.node.waiters import Waiter
from tinyraft.testing.member import SimMember
from tinyraft.testing.network import SimNetwork
from tinyraft.testing.story import Story
from tinyraft.testing.world import World

ELECTION_TIMEOUTS = 20.0  # in which somebody must lead
COMMANDS = 10_000  # how many of them a load lasts for, about
LEAST_CYCLES, MOST_CYCLES = 30, 3000  # round trips and syncs
BALLAST = b"x" * 100  # as a key of the module: a command of about 128 bytes


@dataclass(slots=True, frozen=True)
class Setting:
    """A cluster somewhere: how far apart its members are, and how slow its disks.

    Attributes:
        members: How many vote.
        round_trip_ms: From the leader to any follower and back.
        sync_ms: One fdatasync, on any node.
        callers: Threads in the leader's process, each waiting for its answer.
        varies: Each message takes a third of its time and the rest by chance (exponential), each
            sync all of it; the means stay. Otherwise every one takes equally long.
    """

    members: int = 3
    round_trip_ms: float = 1.0
    sync_ms: float = 1.0
    callers: int = 1
    varies: bool = False

    @property
    def cycle(self) -> float:
        """Seconds of a round trip and a sync, which follow each other at a follower."""
        return (self.round_trip_ms + self.sync_ms) / 1e3


@dataclass(slots=True, frozen=True)
class Outcome:
    """What was found."""

    p50_ms: float
    p99_ms: float
    per_second: float
    syncs_per_command: float


class Network(SimNetwork):
    """Every message takes half a round trip."""

    varies = False

    def delay(self, source: str, target: str) -> float:
        """Always the same, or that in the mean."""
        if self.varies:
            return super().delay(source, target) / 1.5
        return self.latency


class Simulation:
    """One cluster without faults, and callers in its leader's process."""

    def __init__(self, setting: Setting) -> None:
        """Start it, and let somebody lead."""
        self.setting = setting
        world = self.world = World(story_of(setting))
        network = Network(world.schedule, random=world.random, latency=setting.round_trip_ms / 2e3)
        network.varies = setting.varies
        world.network = network
        self.syncs = dict.fromkeys(world.members, 0)
        for member in world.members.values():
            self._equip(member)
            member.start()
        world.schedule.run(ELECTION_TIMEOUTS * world.story.timeout, stop=self._is_led)
        leader = world.leader()
        assert leader is not None, f"nobody leads: {setting}"
        self.leader: SimMember = leader
        self.took: list[float] = []  # seconds, of each answer
        self._count = 0

    def _equip(self, member: SimMember) -> None:
        """Give *member* its disk, and threads that wake up at once."""
        seconds, varies, random = self.setting.sync_ms / 1e3, self.setting.varies, self.world.random

        def sync_seconds() -> float:
            self.syncs[member.name] += 1
            return seconds * random.expovariate(1.0) if varies else seconds

        member.sync_seconds = sync_seconds  # type: ignore[method-assign]
        member.apply_seconds = member.wake_up = lambda: 0.0  # type: ignore[method-assign]

    def _is_led(self) -> bool:
        leader = self.world.leader()
        return leader is not None and leader.node.known_leader().is_ready

    def load(self) -> Outcome:
        """Let the callers apply one command after the other."""
        schedule, cycle = self.world.schedule, self.setting.cycle
        warm = schedule.now + 6 * cycle
        cycles = 2 * COMMANDS // self.setting.callers
        end = warm + min(max(LEAST_CYCLES, cycles), MOST_CYCLES) * cycle
        for _ in range(self.setting.callers):
            self.leader.after(0.0, "apply", self._apply)
        schedule.run(warm)
        self.took.clear()
        before = self.syncs[self.leader.name]
        schedule.run(end)
        syncs = self.syncs[self.leader.name] - before
        took = sorted(seconds * 1e3 for seconds in self.took)
        return Outcome(
            p50_ms=round(median(took), 3),
            p99_ms=round(took[len(took) * 99 // 100], 3),
            per_second=round(len(took) / (end - warm), 1),
            syncs_per_command=round(syncs / len(took), 4),
        )

    def _apply(self) -> None:
        self._count += 1
        schedule, began = self.world.schedule, self.world.schedule.now

        def answered(waiters: Sequence[Waiter]) -> None:
            (waiter,) = waiters
            assert waiter.error is None, f"a command failed: {waiter.error}"
            self.took.append(schedule.now - began)
            self.leader.after(0.0, "apply", self._apply)

        waiter = Waiter(answered)
        command = b"c%d %s swap" % (self._count, BALLAST)
        try:
            self.leader.node.propose([command], [waiter])
        except TinyraftError as error:
            raise AssertionError(f"a command was refused: {error}") from error


def story_of(setting: Setting) -> Story:
    """No fault, no snapshot, a patient cluster."""
    return Story(
        seed=1,
        members=setting.members,
        clients=0,
        seconds=0.0,
        latency=setting.round_trip_ms / 2e3,
        sync_seconds=setting.sync_ms / 1e3,
        think_seconds=0.0,
        segment_bytes=64 << 10,  # a simulated file is copied at each write
        append_bytes=2 << 20,
        max_pending=10_000,
        timeout=3.0,
        election_ticks=150,
        sessions=100,
        snapshot_entries=10**9,
        memory_bytes=16 << 20,
    )


def measure(setting: Setting) -> Outcome:
    """Simulate one setting."""
    return Simulation(setting).load()


# --- the tables -----------------------------------------------------------------------------------

BASE = Setting()
SIZES = [
    replace(BASE, members=n, callers=c, varies=v)
    for v in (False, True)
    for c in (1, 64)
    for n in (1, 3, 5, 7, 9)
]
ROUND_TRIPS = [
    replace(BASE, round_trip_ms=ms, callers=c)
    for c in (1, 64, 1000)
    for ms in (0.2, 1, 5, 20, 50, 100)
]
DISKS = [replace(BASE, sync_ms=ms, callers=c) for c in (1, 64, 1000) for ms in (0.1, 1, 2, 5, 10)]
TABLES = {"cluster size": SIZES, "round trip": ROUND_TRIPS, "disk": DISKS}


def rows(settings: Iterable[Setting]) -> list[dict[str, float]]:
    """Simulate each."""
    return [{**asdict(setting), **asdict(measure(setting))} for setting in settings]


def shown(value: float) -> str:
    """Write a cell."""
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:,.6g}"


def main() -> None:
    """Simulate, and tell."""
    assert __doc__, "it has one"
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args()
    found = {}
    for name, settings in TABLES.items():
        found[name] = rows(settings)
        heads = [head.replace("_", " ") for head in found[name][0]]
        lines = [[shown(value) for value in row.values()] for row in found[name]]
        print(f"\n{name}\n\n{table(heads, lines)}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
