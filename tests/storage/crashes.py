"""Power losses: what each may leave, and what a node must make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.storage.life import (
    DATA,
    Life,
    State,
    make_entries,
    start,
    vote,
    write,
)
from tinyraft.storage.data_dir import LOCK
from tinyraft.testing.disk import Change, Keep, SimDisk, kept, lost

Part: TypeAlias = tuple[int, int] | None
Loss: TypeAlias = tuple[str, SimDisk]

READS = frozenset({"open", "pread", "size", "exists", "names", "close", "lock"})
EDGES = (1, 4, 35, 36, 37, 71, 72, 73)  # of a frame's header, and of one without a body


def watch(disk: SimDisk, look: Callable[[], object]) -> None:
    """Call *look* at each moment at which the disk differs from the moment before."""

    def before() -> None:
        if disk.trace and disk.trace[-1][0] not in READS:
            look()

    disk.before = before


def images(disk: SimDisk, *, random: Random, most: int) -> Iterator[SimDisk]:
    """Make disks that a power loss at this moment may leave; *most* bounds each kind of loss."""
    for _, image in losses(disk, random=random, most=most):
        yield image


def losses(disk: SimDisk, *, random: Random, most: int) -> Iterator[Loss]:
    """Make what a power loss at this moment may leave, by kind: all of it, or *most* by chance."""
    changes, names = disk.pending(), disk.pending_names()
    yield "nothing kept", crash(disk, lost, names=0)
    yield "everything kept", crash(disk, kept, names=names)
    for count in range(names):
        yield "names lost", crash(disk, kept, names=count)
        yield "names without data", crash(disk, lost, names=count + 1)
    if not changes:
        return
    for fates in subsets(changes, random=random, most=most):
        yield "subset of writes", crash(disk, fated(changes, fates), names=names)
    for fates in tears(changes, random=random, most=most):
        yield "torn at a byte", crash(disk, fated(changes, fates), names=names)
    for fates in zeros(changes, random=random, most=most):
        yield "zero-filled", crash(disk, fated(changes, fates), names=names)
    for _ in range(most):
        keep = fated(changes, [any_fate(change, random=random) for change in changes])
        yield "any mixture", disk.crash(keep, names=lambda total: random.randint(0, total))


def crash(disk: SimDisk, keep: Keep, *, names: int) -> SimDisk:
    """Lose the power; each directory keeps at most so many of its unsynced changes."""
    return disk.crash(keep, names=lambda total: min(names, total))


def fated(changes: list[Change], fates: list[Part]) -> Keep:
    """Return the fate of each change."""
    by_change = dict(zip(map(id, changes), fates, strict=True))
    return lambda change: by_change.get(id(change))


def subsets(changes: list[Change], *, random: Random, most: int) -> Iterator[list[Part]]:
    """Keep any of the changes whole, in whatever order they reached the disk."""
    whole: list[Part] = [(0, len(change.data)) for change in changes]
    if len(changes) <= 8 and 2 ** len(changes) <= most:
        for picked in product((False, True), repeat=len(changes)):
            yield [fate if keep else None for fate, keep in zip(whole, picked, strict=True)]
        return
    for _ in range(most):
        yield [fate if random.random() < 0.5 else None for fate in whole]


def tears(changes: list[Change], *, random: Random, most: int) -> Iterator[list[Part]]:
    """Tear one change, in front or behind, at every byte if these are few; keep the others."""
    torn = [
        (at, part)
        for at, change in enumerate(changes)
        for cut in range(1, len(change.data))
        for part in ((0, cut), (cut, len(change.data)))
    ]
    for at, part in torn if len(torn) <= most else random.sample(torn, most):
        fates: list[Part] = [(0, len(change.data)) for change in changes]
        fates[at] = part
        yield fates


def zeros(changes: list[Change], *, random: Random, most: int) -> Iterator[list[Part]]:
    """Let files be as long as they should be, with zeros where the bytes of a change belong."""
    sizes = [len(change.data) for change in changes]
    yield [(size, size) for size in sizes]
    for _ in range(most if len(changes) > 1 else 0):
        yield [(random.choice((0, size)), size) for size in sizes]


def any_fate(change: Change, *, random: Random) -> Part:
    """Draw a fate: lost, kept, torn in front or behind, or zeros."""
    size = len(change.data)
    cut = random.choice([*[edge for edge in EDGES if edge < size], random.randint(0, size)])
    return random.choice([None, (0, size), (0, size), (0, cut), (cut, size)])


# --- what must come of it -----------------------------------------------------------------------


def check_recovery(image: SimDisk, life: Life) -> State:
    """Start on an image, twice, and write; lose the power again after each; return the state."""
    again = partial(start, segment_bytes=life.segment_bytes)
    node = again(image)
    life.check(node)
    second = image.crash(lost)
    assert without_lock(image) == without_lock(second), "not all that it says is on disk"
    assert node.state == again(second).state, "the second recovery says something else"
    assert without_lock(image) == without_lock(second), "the second recovery changes something"
    (term, _), entries = node.state
    new = make_entries(len(entries) + 1, 1, term=term + 1, command=b"next")
    node.wal.write([write(new, state=vote(term + 1))])
    node.wal.sync()
    after = (term + 1, None), (*entries, (len(entries) + 1, term + 1, b"next"))
    assert after == again(image.crash(lost)).state, "a write after the recovery is lost"
    image.kill()
    assert after == again(image).state
    return node.state


def check_second_recovery(image: SimDisk, life: Life) -> State:
    """Start where a crash cut a recovery off."""
    again = partial(start, segment_bytes=life.segment_bytes)
    node = again(image)
    life.check(node)
    assert node.state == again(image.crash(lost)).state, "the next recovery says something else"
    return node.state


def inside_recovery(
    image: SimDisk, life: Life, *, random: Random, look: Callable[[SimDisk], object]
) -> None:
    """Start on an image, and *look* at what a power loss on the way may leave, each once."""
    seen: set[tuple[object, ...]] = set()

    def at_each_moment() -> None:
        for second in images(image, random=random, most=2):
            content = tuple(second.files().items())
            if content not in seen:
                seen.add(content)
                look(second)

    watch(image, at_each_moment)
    start(image, segment_bytes=life.segment_bytes)
    image.before = None


def without_lock(disk: SimDisk) -> dict[Path, bytes]:
    """Return all files but the one with the process id, which vouches for nothing."""
    return {path: data for path, data in disk.files().items() if path != DATA / LOCK}
