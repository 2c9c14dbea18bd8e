"""Real nodes in simulated time, cut off from each other in every possible way, and healed.

``TINYRAFT_PARTITIONS=all`` plays every partition of three, four and five members, up to the names
of those who do not lead, and every one-way partition of three; the default run takes a slice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import permutations

import pytest

from tests.core.test_partial_partitions import partitions
from tinyraft.testing.story import Story
from tinyraft.testing.world import World

Edge = tuple[int, int]
Links = frozenset[Edge]  # who is still heard by whom, in that direction; 0 leads at first

T = 0.4
BEFORE, DURING = 2 * T, 10 * T
MOST_TERMS = 2  # that a partition may cost, however long: an election, and one that was split
WELL_WITHIN = 4  # timeouts after the heal: a whole one, drawn from (T, 2T], and an election
SLICE = 1 if os.environ.get("TINYRAFT_PARTITIONS") == "all" else 9


def both_ways(size: int) -> list[Links]:
    """Every partition that cuts pairs off in both directions."""
    return [
        frozenset(edge for a, b in kept for edge in ((a - 1, b - 1), (b - 1, a - 1)))
        for kept in partitions(size)
    ]


def one_way(size: int) -> Iterator[Links]:
    """Every partition in which a message may pass and its answer not."""
    edges = list(permutations(range(size), 2))
    seen: set[Links] = set()
    for mask in range(1 << len(edges)):
        kept = frozenset(edge for bit, edge in enumerate(edges) if mask >> bit & 1)
        if kept in seen:
            continue
        for others in permutations(range(1, size)):
            new = (0, *others)
            seen.add(frozenset((new[a], new[b]) for a, b in kept))
        yield kept


class Parted(World):
    """A cluster without other trouble, which is cut as *links* say while a member leads."""

    def __init__(self, size: int, links: Links) -> None:
        """Prepare."""
        story = Story(
            seed=len(links) + 100 * size,
            members=size,
            clients=2,
            seconds=BEFORE + DURING,
            latency=0.001,
            sync_seconds=0.001,
            think_seconds=0.1,
            segment_bytes=1 << 20,
            append_bytes=1 << 20,
            max_pending=1000,
            sessions=10,
            timeout=T,
            election_ticks=20,
        )
        super().__init__(story)
        self.links = links
        self.term = 0
        self.terms = 0  # elections since the cut
        self.committed: list[int] = []
        self.leading: list[str] = []
        self.schedule.after(BEFORE, "cut", self._cut)
        self.schedule.after(BEFORE + DURING / 2, "look", self._look)
        self.schedule.after(BEFORE + DURING - 0.001, "look", self._look)

    def _cut(self) -> None:
        leader = self.leader()
        assert leader is not None, "elected before"
        names = [leader.name, *(name for name in self.members if name != leader.name)]
        numbers = range(len(names))
        self.term = leader.raft.term
        self.network.cuts |= {
            (names[a], names[b])
            for a in numbers
            for b in numbers
            if a != b and (a, b) not in self.links
        }

    def _look(self) -> None:
        members = self.members.values()
        self.committed.append(max(m.raft.commit_index for m in members))
        self.leading = [m.name for m in members if m.raft.leadership is not None]
        self.terms = max(m.raft.term for m in members) - self.term


def name(links: Links) -> str:
    """Draw it: ``0-1`` hear each other, ``0>1`` only that way."""
    both = [f"{a}-{b}" for a, b in sorted(links) if a < b and (b, a) in links]
    one = [f"{a}>{b}" for a, b in sorted(links) if (b, a) not in links]
    return " ".join([*both, *one]) or "nobody"


def cases() -> Iterator[tuple[int, Links]]:
    """Every partition, or a slice of them."""
    every = [(3, links) for links in one_way(3)]
    every += [(size, links) for size in (4, 5) for links in both_ways(size)]
    yield from every[::SLICE]


@pytest.mark.parametrize(
    ("size", "links"), [pytest.param(s, k, id=f"{s}: {name(k)}") for s, k in cases()]
)
def test_a_majority_that_is_heard_is_enough_and_all_heals(size: int, links: Links) -> None:
    """Somebody hears a majority, which hears it: it leads, and commands go on being committed.

    Nobody else leads in the end, terms don't run away, and all is well soon after the heal (P80).
    """
    world = Parted(size, links)
    result = world.run()
    heard = [1 + sum((a, b) in links and (b, a) in links for b in range(size)) for a in range(size)]
    is_enough = 2 * max(heard) > size
    assert is_enough == (len(world.leading) == 1), world.leading
    assert len(world.leading) <= 1
    assert is_enough == (world.committed[0] < world.committed[1])
    assert world.terms <= MOST_TERMS
    assert result.seconds - world.story.seconds < WELL_WITHIN * T
