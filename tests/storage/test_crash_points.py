"""Power loss at every moment: what was synced is there, and nothing is invented.

``python -m tests.storage.crashpoints`` is the long search.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.storage.crashes import (
    check_recovery,
    check_second_recovery,
    images,
    inside_recovery,
    watch,
)
from tests.storage.crashpoints import run_unit, units
from tests.storage.life import (
    Life,
    make_disk,
    make_entries,
    open_wal,
    recover,
    vote,
    write,
)
from tests.storage.lives import fixed_life, snapshots_life
from tinyraft.storage import recovery, wal
from tinyraft.storage.segment import Segment
from tinyraft.storage.synced import SyncedFile
from tinyraft.testing.disk import SimDisk, SimFile, kept, lost


def live(run: Callable[[Life], None], check: Callable[[SimDisk, Life], object]) -> int:
    """Run a life, and *check* each image of each moment; return how many there were."""
    life, random, count = Life(make_disk()), Random(1), 0

    def look() -> None:
        nonlocal count
        for image in images(life.disk, random=random, most=1):
            check(image, life)
            count += 1

    watch(life.disk, look)
    run(life)
    return count


def test_everything_synced_survives_a_crash_at_any_moment() -> None:
    """Promise: after a power loss the log is a state between the last synced and the last written.

    Its next entry can be appended, and survives one more power loss.
    """
    assert live(fixed_life, check_recovery) > 400


def test_snapshots_and_the_log_behind_them_survive_a_crash_at_any_moment() -> None:
    """Promise: the same while snapshots are taken and received, and the log is shortened."""
    count = 0

    def check(image: SimDisk, life: Life) -> None:
        nonlocal count
        count += 1
        if count % 2:
            check_recovery(image, life)

    assert live(snapshots_life, check) > 400


def test_a_crash_inside_recovery_loses_nothing_either() -> None:
    """Promise: recovery can be cut off at any moment, and the next one finds the same truth."""
    random, count = Random(2), 0

    def check(image: SimDisk, life: Life) -> None:
        nonlocal count
        count += 1
        if count % 24 == 0:
            inside_recovery(
                image, life, random=random, look=lambda second: check_second_recovery(second, life)
            )

    assert live(fixed_life, check) > 400
    assert live(snapshots_life, check) > 400


@pytest.mark.parametrize("name", ["live 1", "live 4", "kill fixed", "kill snapshots"])
def test_a_slice_of_the_search(name: str) -> None:
    """Promise: the same for any sequence of writes, cuts, votes, rolls, restarts and kills."""
    tally = run_unit(name)
    assert [] == tally.violations
    assert tally.images > 100


def test_the_search_names_its_units_without_end() -> None:
    """Promise: the fixed part comes first, then lives of chance from the seed on."""
    names = units(7)
    first = [next(names) for _ in range(100)]
    assert ["mess closed", "live 7"] == [first[0], next(n for n in first if n.startswith("live 7"))]


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
            check_recovery(life.disk.crash(lambda _, part=part: part), life)  # type: ignore[misc]


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


def late_sync(self: Segment) -> None:
    """Write, and say that it is synced."""
    self.flush()
    self.synced = self.end


def no_sync(self: object) -> None:
    """Do nothing."""


def sloppy_repair(self: recovery.Tail, *, size: int) -> tuple[()]:
    """Leave a torn tail where it is."""
    self._file.allocate(max(size, self.end))
    self._file.sync()
    return ()


def trusting_repair(self: recovery.Tail, *, size: int) -> tuple[()]:
    """Cut the torn tail, but vouch for what was only read."""
    self._file.truncate(self.end)
    self._file.allocate(max(size, self.end))
    return ()


def early_claim(self: wal.Wal) -> None:
    """Note as synced what is only written."""
    self._synced_file.write(wal.Known(self._segment.log_id, self._segment.number, 400))


@pytest.mark.parametrize(
    ("owner", "name", "defect"),
    [
        pytest.param(Segment, "sync", late_sync, id="acknowledged_before_the_sync"),
        pytest.param(SimDisk, "sync_dir", lambda disk, path: None, id="no_directory_synced"),
        pytest.param(SyncedFile, "sync", no_sync, id="what_was_read_is_not_synced"),
        pytest.param(recovery.Tail, "repair", sloppy_repair, id="torn_tail_stays"),
        pytest.param(recovery.Tail, "repair", trusting_repair, id="page_cache_believed"),
        pytest.param(wal.Wal, "_note_synced", early_claim, id="claims_too_much"),
        pytest.param(SimFile, "sync", no_sync, id="no_file_synced"),
    ],
)
def test_the_search_finds_defects(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, defect: object
) -> None:
    """Promise: it is no decoration: each of these defects is found within a few units."""
    monkeypatch.setattr(owner, name, defect)

    searched = ("kill fixed", "fail fixed 5", "live 4", "live fixed")
    assert any(run_unit(unit).violations for unit in searched)
