"""Every way in which three to five members can be cut off from each other, two by two."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import pytest

from tinyraft.core.raft import Raft
from tinyraft.core.role import Role
from tinyraft.testing.script import Cluster

Edge = tuple[int, int]


def links(size: int) -> list[Edge]:
    """Every pair of members."""
    return list(combinations(range(1, size + 1), 2))


def partitions(size: int) -> Iterator[frozenset[Edge]]:
    """Which pairs still hear each other: one of all that differ only in who is called what.

    Member 1 led before, so it stays itself.
    """
    seen: set[frozenset[Edge]] = set()
    renamings = [dict(enumerate((1, *others), 1)) for others in permutations(range(2, size + 1))]
    for count in range(len(links(size)) + 1):
        for kept in combinations(links(size), count):
            if frozenset(kept) in seen:
                continue
            for new in renamings:
                same = (sorted((new[a], new[b])) for a, b in kept)
                seen.add(frozenset((a, b) for a, b in same))
            yield frozenset(kept)


def cut(size: int, kept: frozenset[Edge]) -> Cluster:
    """Let 1 lead, then cut every pair but *kept*, and let time pass."""
    cluster = Cluster()
    cluster.execute(f"cluster {size} leader=1")
    for a, b in links(size):
        if (a, b) not in kept:
            cluster.execute(f"cut {a}->{b} {b}->{a}")
    cluster.execute("quietly run 100")
    return cluster


def leaders(cluster: Cluster) -> list[Raft]:
    """Return the cores that lead."""
    cores = [machine.raft for machine in cluster.machines.values()]
    return [core for core in cores if core.role is Role.LEADER]


@pytest.mark.parametrize("size", [3, 4, 5], ids="of {} members".format)
def test_whoever_hears_a_majority_is_enough(size: int) -> None:
    """One leads, and commits, exactly where somebody still hears a majority (P80)."""
    for kept in partitions(size):
        heard = [sum(member in pair for pair in kept) + 1 for member in range(1, size + 1)]
        cluster = cut(size, kept)
        found = leaders(cluster)
        assert (2 * max(heard) > size) == (len(found) == 1), f"{sorted(kept)}: {found}"
        for leader in found:
            proposed = leader.propose([b"x"], time_us=0)
            cluster.execute("quietly run 4")
            assert leader.commit_index >= proposed.first, f"{sorted(kept)}: nothing is committed"
