"""What happens in one simulated run: who takes part, under which settings, what goes wrong when.

Law: a story is data: drawn from a seed, printed, kept in a file, cut shorter. All other chance of a
run comes from the story's own seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from random import Random

LEADER = -1


@dataclass(slots=True, frozen=True)
class Fault:
    """Something goes wrong *at* a second, for *seconds*, to a member (`LEADER`: whoever leads)."""

    at: float
    kind: str
    member: int
    seconds: float
    amount: float


@dataclass(slots=True, frozen=True)
class Story:
    """One run."""

    seed: int
    members: int
    clients: int
    sessions: int
    seconds: float
    latency: float
    sync_seconds: float
    think_seconds: float
    segment_bytes: int
    append_bytes: int
    max_pending: int
    timeout: float
    election_ticks: int
    snapshot_entries: int = 1000
    memory_bytes: int = 1 << 20
    trailing_bytes: int = 0
    piece_bytes: int = 1 << 20
    faults: tuple[Fault, ...] = ()

    def save(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Story:
        """Read what `save` wrote."""
        value = json.loads(path.read_text())
        value["faults"] = tuple(Fault(**fault) for fault in value["faults"])
        return cls(**value)


# How often each fault happens in a run that has it, at most.
KINDS = {
    "loss": 3,
    "twice": 3,
    "late": 3,
    "cut": 6,
    "isolate": 5,
    "halves": 4,
    "bridge": 3,
    "ring": 2,
    "reset": 6,
    "slow": 3,
    "crash": 8,
    "kill": 5,
    "crash call": 8,
    "crash all": 2,
    "crash twice": 4,
    "pause": 5,
    "pace": 3,
    "starve": 3,
    "slow disk": 5,
    "disk error": 2,
    "disk full": 2,
    "disk filled": 3,
    "flip": 1,
    "module": 1,
    "slow module": 3,
    "transfer": 5,
    "resign": 3,
    "join": 2,
    "move": 2,
    "move all": 1,
    "remove": 2,
    "demote": 2,
    "promote": 3,
}


def between(random: Random, low: float, high: float) -> float:
    """Draw from *low* to *high*, each order of magnitude alike."""
    return exp(random.uniform(log(low), log(high)))


def draw(seed: int) -> Story:
    """Draw a story: each kind of fault is there in about half of them, in any strength."""
    random = Random(seed)
    timeout = 0.4
    seconds = random.choice((10, 15, 25)) * timeout
    faults: list[Fault] = []
    for kind, most in KINDS.items():
        if random.random() < 0.5:
            continue
        for _ in range(random.randint(1, most)):
            at = random.uniform(0.1, 0.95) * seconds
            member = random.choice((LEADER, LEADER, *range(7)))
            length = between(random, 0.1, 10) * timeout
            faults.append(Fault(round(at, 4), kind, member, round(length, 4), random.random()))
    return Story(
        seed=seed,
        members=random.choice((1, 2, 3, 3, 3, 4, 5, 5, 7)),
        clients=random.choice((1, 2, 4, 6)),
        sessions=random.choice((1, 2, 100)),
        seconds=seconds,
        latency=between(random, 0.0001, 0.05),
        sync_seconds=between(random, 0.0001, 0.05),
        think_seconds=between(random, 0.005, 0.2),
        segment_bytes=random.choice((512, 2048, 16384)),
        append_bytes=random.choice((1, 200, 2 << 20)),
        max_pending=random.choice((2, 20, 1000)),
        timeout=timeout,
        election_ticks=20,
        snapshot_entries=random.choice((4, 20, 60, 10**6)),
        memory_bytes=random.choice((1, 2500, 20_000, *[1 << 20] * 5)),
        trailing_bytes=random.choice((0, 300, 3000)),
        piece_bytes=random.choice((40, 300, 1 << 20)),
        faults=tuple(sorted(faults + differing(random, seconds), key=lambda fault: fault.at)),
    )


def differing(random: Random, seconds: float) -> list[Fault]:
    """Draw whose module comes to something else, in some stories: one, so that others are right."""
    if random.random() < 0.6:
        return []
    at = random.uniform(0.1, 0.8) * seconds
    return [Fault(round(at, 4), "differ", random.choice((LEADER, *range(7))), 0.0, random.random())]


def shorter(story: Story) -> list[Story]:
    """Give stories with less in them, the much shorter ones first."""
    faults = story.faults
    found: list[Story] = []
    size = len(faults)
    while size:
        found += [
            replace(story, faults=faults[:start] + faults[start + size :])
            for start in range(0, len(faults), size)
        ]
        size //= 2
    found += [replace(story, clients=n) for n in range(1, story.clients)]
    found += [replace(story, members=n) for n in range(1, story.members)]
    if faults:
        last = max(fault.at + fault.seconds for fault in faults)
        found += [
            replace(story, seconds=s) for s in (faults[-1].at + 0.1, last) if s < story.seconds
        ]
    return found
