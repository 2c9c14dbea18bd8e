"""Power loss at every moment: what was synced is there, and nothing is invented.

TINYRAFT_CRASH_LIVES=100 TINYRAFT_CRASH_IMAGES=40 makes a long search of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

import pytest

from tests.storage.life import (
    Life,
    State,
    fixed_life,
    images,
    make_disk,
    make_entries,
    open_wal,
    random_life,
    recover,
    state_of,
    vote,
    watch,
    write,
)
from tinyraft.testing.disk import SimDisk, kept, lost

LIVES = int(os.environ.get("TINYRAFT_CRASH_LIVES", "6"))
IMAGES = int(os.environ.get("TINYRAFT_CRASH_IMAGES", "4"))


def live(run: Callable[[Life], None], check: Callable[[SimDisk, list[State]], None]) -> int:
    """Run a life, and *check* each image of each moment; return how many there were."""
    life, random, count = Life(make_disk()), Random(1), 0

    def look() -> None:
        nonlocal count
        for image in images(life.disk, random=random, most=IMAGES):
            check(image, life.allowed)
            count += 1

    watch(life.disk, look)
    run(life)
    return count


def check_recovery(image: SimDisk, allowed: list[State]) -> None:
    """Recover an image, and lose the power again in the worst moments after."""
    wal, recovered = open_wal(image)
    state = state_of(recovered)
    assert state in allowed
    assert state == recover(image.crash(lost))  # what it says is on disk, all of it
    assert state == recover(image.crash(kept))
    (term, _), entries = state
    new = make_entries(len(entries) + 1, 1, term=term + 1, command=b"next")
    wal.write([write(new, state=vote(term + 1))])
    wal.sync()
    after = (term + 1, None), (*entries, (len(entries) + 1, term + 1, b"next"))
    assert after == recover(image.crash(lost))
    image.kill()
    assert after == recover(image)


def check_crash_inside_recovery(image: SimDisk, allowed: list[State]) -> None:
    """Lose the power at each moment of a recovery, and recover for good."""
    random = Random(2)

    def look() -> None:
        for second in images(image, random=random, most=2):
            state = recover(second)
            assert state in allowed
            assert state == recover(second.crash(lost))

    watch(image, look)
    open_wal(image)


def test_everything_synced_survives_a_crash_at_any_moment() -> None:
    """Promise: after a power loss the log is a state between the last synced and the last written.

    Its next entry can be appended, and survives one more power loss.
    """
    assert live(fixed_life, check_recovery) > 400


@pytest.mark.parametrize("seed", range(LIVES))
def test_lives_of_chance_survive_too(seed: int) -> None:
    """Promise: the same for any sequence of writes, cuts, votes, rolls, restarts and kills."""
    count = live(
        lambda life: random_life(life, random=Random(seed), steps=30),
        check_recovery,
    )
    assert count > 300


def test_a_crash_inside_recovery_loses_nothing_either() -> None:
    """Promise: recovery can be cut off at any moment, and the next one finds the same truth."""
    assert live(fixed_life, check_crash_inside_recovery) > 400


def test_a_torn_write_at_every_byte_is_cut_or_whole() -> None:
    """Promise: whatever prefix or suffix of the last write reached the disk, the rest stands."""
    life = Life(make_disk())
    life.open()
    life.write(write(make_entries(1, 2, term=1), state=vote(1, "a")))
    life.sync()
    life.write(write(make_entries(2, 2, term=2, command=b"new"), state=vote(2), cut=2))
    size = max(len(change.data) for change in life.disk.pending() if change.path.suffix == ".wal")
    for at in range(size + 1):
        for part in ((0, at), (at, size)):
            check_recovery(life.disk.crash(lambda _, part=part: part), life.allowed)  # type: ignore[misc]


def test_stale_bytes_behind_a_torn_frame_never_come_back() -> None:
    """Promise: a sound frame behind a lost one is gone for good, also when its place fits again."""
    life = Life(make_disk())
    life.open()
    life.write(write(state=vote(1)))
    life.sync()
    life.write(write(make_entries(1, 1, term=1, command=b"first")))
    life.write(write(make_entries(2, 1, term=1, command=b"later")))
    first, later = (c for c in life.disk.pending() if c.path.suffix == ".wal")
    image = life.disk.crash(lambda change: None if change is first else kept(change))
    assert later.data in image.content(later.path)
    wal, recovered = open_wal(image)
    assert [] == recovered.entries
    assert ["torn_tail_cut"] == [notice.name for notice in recovered.notices]
    wal.write([write(make_entries(1, 1, term=1, command=b"other"))])
    wal.sync()
    assert ((1, None), ((1, 1, b"other"),)) == recover(image.crash(lost))
    assert later.data not in image.crash(lost).content(later.path)
