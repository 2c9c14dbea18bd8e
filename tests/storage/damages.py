"""Damaged directories: bits flipped, files cut, lost, doubled, mixed up; what may come of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations, permutations
from random import Random
from typing import TypeAlias

from tests.storage.life import (
    DATA,
    LOG_ID,
    MEMBER,
    SEGMENT_BYTES,
    WAL,
    Life,
    Node,
    make_disk,
    make_entries,
    start,
    vote,
    write,
)
from tinyraft.core.entry import NodeId
from tinyraft.errors import CorruptLog
from tinyraft.storage.data_dir import DataDir, Identity
from tinyraft.storage.segment import segment_name
from tinyraft.storage.synced import NAME
from tinyraft.storage.wal import Wal
from tinyraft.testing.disk import SimDisk, kept

Files: TypeAlias = dict[str, bytes]  # by their paths below the data directory
SYNCED = f"wal/{NAME}"


def segment(number: int) -> str:
    """Name a segment as `Files` does."""
    return f"wal/{segment_name(number)}"


def small_life(*, close: bool) -> Life:
    """Fill three segments; either close the log, or kill it with a write that was not synced."""
    life = Life(make_disk())
    life.open()
    life.write(write(make_entries(1, 2, term=1), state=vote(1, "a")))
    life.sync()
    life.write(write(make_entries(2, 2, term=2, command=b"y" * 60), state=vote(2), cut=2))
    life.write(write(make_entries(4, 1, term=2, command=b"w" * 60)))
    life.sync()
    life.write(write(make_entries(5, 1, term=2, command=b"v" * 60)))
    life.sync()
    if close:
        life.close()
    else:
        life.write(write(make_entries(6, 1, term=2), state=vote(3, "b")))
    life.disk = life.disk.crash(kept, names=lambda total: total)
    return life


def compacted_life(*, close: bool, installed: bool) -> Life:
    """Fill segments of which the first are gone, beside an older and a newer snapshot.

    The log reaches back to the older one, or begins behind the newer one, which was *installed*.
    """
    life = Life(make_disk())
    life.open()
    life.write(write(make_entries(1, 3, term=1, command=b"x" * 30), state=vote(1, "a")))
    life.write(write(make_entries(4, 3, term=1, command=b"y" * 30)))
    life.write(write(make_entries(6, 3, term=2, command=b"z" * 30), state=vote(2), cut=6))
    life.sync()
    life.snapshot(5)
    if installed:
        agreed = life.states[-1][1][:7]
        life.install((*agreed, (8, 3, b"elsewhere")), size=300)
        life.write(write(make_entries(9, 2, term=3)))
        life.sync()
    else:
        life.snapshot(7)
    life.shorten()
    if close:
        life.close()
    else:
        last = len(life.states[-1][1])
        life.write(write(make_entries(last, 2, term=4), state=vote(4, "b"), cut=last))
    life.disk = life.disk.crash(kept, names=lambda total: total)
    return life


LIVES = {
    "closed": partial(small_life, close=True),
    "killed": partial(small_life, close=False),
    "compacted": partial(compacted_life, close=True, installed=False),
    "compacted-killed": partial(compacted_life, close=False, installed=False),
    "installed": partial(compacted_life, close=True, installed=True),
    "installed-killed": partial(compacted_life, close=False, installed=True),
}


def foreign_files() -> Files:
    """Return the directory of another node of the same cluster."""
    disk = make_disk()
    data_dir = DataDir.open(disk, DATA)
    data_dir.save_identity(Identity(NodeId("b"), MEMBER.cluster_id, LOG_ID + 2))
    wal, _ = Wal.open(disk, WAL, segment_bytes=SEGMENT_BYTES, log_id=LOG_ID + 2)
    wal.write([write(make_entries(1, 9, term=1, command=b"o" * 60), state=vote(1))])
    wal.write([write(make_entries(10, 9, term=1, command=b"o" * 60))])
    wal.close()
    return files_of(disk)


def files_of(disk: SimDisk) -> Files:
    """Return all files of the data directory."""
    return {str(path.relative_to(DATA)): data for path, data in disk.files().items()}


def disk_with(files: Files) -> SimDisk:
    """Return a disk with these files as the data directory."""
    disk = make_disk()
    for directory in sorted({(DATA / name).parent for name in files} | {WAL}):
        if directory != DATA:
            disk.mkdir(directory)
    disk.sync_dir(DATA)
    for name, data in files.items():
        disk.put(DATA / name, data)
    return disk


def outcome(files: Files) -> Node | CorruptLog:
    """Start with these files; a refusal says where and what to do, anything else is raised."""
    try:
        return start(disk_with(files))
    except CorruptLog as error:
        refusal = error
    assert refusal.path.startswith(f"{DATA}/")
    assert refusal.path in str(refusal)
    assert refusal.offset == -1 or f"byte {refusal.offset}" in str(refusal)
    assert "new NODE_ID" in str(refusal)
    return refusal


def check_damage(files: Files, life: Life) -> str:
    """Start with damaged *files*: the same state, less of what was never synced, or a refusal."""
    result = outcome(files)
    if isinstance(result, CorruptLog):
        return "refused"
    life.check(result)
    return "same" if result.state == life.states[-1] else "shorter"


def check_flip(files: Files, life: Life, *, name: str, bit: int) -> str:
    """Flip a bit; a refusal must name the file, and a place at or before the bit."""
    data = bytearray(files[name])
    data[bit // 8] ^= 1 << bit % 8
    damaged = {**files, name: bytes(data)}
    result = outcome(damaged)
    if not isinstance(result, CorruptLog):
        return check_damage(damaged, life)
    assert str(DATA / name) == result.path
    assert 0 <= result.offset <= bit // 8
    return "refused"


def damages(files: Files, *, random: Random, most: int) -> Iterator[tuple[str, Files]]:
    """Damage a directory, by kind: in every way, or in *most* ways by chance.

    Never `synced` and a segment at once: rot in the last synced frame, or the loss of the last
    segment, has no other witness.
    """
    foreign = foreign_files()
    first = files[min(name for name in files if name.endswith(".wal"))]
    yield from mixed_up(files, foreign)
    for name, data in files.items():
        for size in range(len(data)):
            yield "truncated", {**files, name: data[:size]}
        for noise in (1, 36, 512, 2**16):
            yield "zeros appended", {**files, name: data + bytes(noise)}
            yield "noise appended", {**files, name: data + random.randbytes(noise)}
        yield "frames appended", {**files, name: data.rstrip(b"\0") + first}
        for at in range(0, len(data), 4):
            for size in (4, 36, 64, 512):
                yield "zeroed", {**files, name: overwritten(data, at, bytes(size))}
    for _ in range(most):
        name = random.choice([*files])
        at, noise = random.randrange(len(files[name]) + 1), random.randbytes(random.randint(1, 80))
        yield "noise inside", {**files, name: overwritten(files[name], at, noise)}
        other = random.choice([*files])
        moved = files[other][random.randrange(len(files[other]) + 1) :][: random.randint(1, 200)]
        yield "misdirected write", {**files, name: overwritten(files[name], at, moved)}
        yield "two bits flipped", {**files, name: flipped(files[name], random=random)}


def mixed_up(files: Files, foreign: Files) -> Iterator[tuple[str, Files]]:
    """Lose, double, swap and exchange whole files."""
    for count in (1, 2, 3):
        for gone in combinations(files, count):
            if count == 1 or SYNCED not in gone:
                yield "deleted", {name: data for name, data in files.items() if name not in gone}
    for one, other in permutations(files, 2):
        yield "copied over", {**files, other: files[one]}
        yield "swapped", {**files, one: files[other], other: files[one]}
    for number in range(9):
        for data in (*files.values(), *foreign.values(), b""):
            if segment(number) not in files:
                yield "segment too many", {**files, segment(number): data}
    for name in files:
        for data in foreign.values():
            yield "foreign file", {**files, name: data}


def overwritten(data: bytes, at: int, new: bytes) -> bytes:
    """Return *data* with *new* bytes in it, which may reach behind its end."""
    return data[:at] + new + data[at + len(new) :]


def flipped(data: bytes, *, random: Random) -> bytes:
    """Flip two bits of chance."""
    new = bytearray(data)
    for bit in random.choices(range(8 * len(data)), k=2 if data else 0):
        new[bit // 8] ^= 1 << bit % 8
    return bytes(new)
