"""Disks that fail and processes that are killed at the n-th call, and what must come of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import pytest

from tests.storage.life import Life, State, make_disk, start, vote, write
from tinyraft.errors import StorageFailed
from tinyraft.testing.disk import Fault, SimDisk, lost

Run: TypeAlias = Callable[[Life], object]

CODES = (
    errno.EIO,
    errno.ENOSPC,
    errno.EINTR,
    errno.EROFS,
    errno.EMFILE,
    errno.EDQUOT,
    errno.ENOENT,
)


class Killed(BaseException):
    """The process is gone."""


def calls_of(run: Run, *, segment_bytes: int) -> list[str]:
    """Return the names of the calls of a life without a fault."""
    life = Life(make_disk(), segment_bytes=segment_bytes)
    before = len(life.disk.trace)
    run(life)
    return [name for name, _ in life.disk.trace[before:]]


def check_fault(life: Life, run: Run, fault: Fault) -> State:
    """Live on a disk with a fault, then start anew without; return the state."""
    life.disk.fail(fault)
    nth = len(life.disk.trace) + fault.nth
    try:
        run(life)
    except StorageFailed as failed:
        text = str(failed)
        check_text(text, fault, paths={str(path) for _, path in life.disk.trace[nth:]})
        assert_poisoned(life)
    life.disk.heal()
    return check_restart(life)


def check_text(text: str, fault: Fault, *, paths: set[str]) -> None:
    """The error says why, and where; where the clean-up failed too, perhaps of that."""
    assert errno.errorcode[fault.code] in text
    assert text.partition(": ")[0] in paths, f"{text} names none of {paths}"


def check_kill(life: Life, run: Run, *, nth: int) -> State:
    """Kill the process before its n-th call, then start anew; return the state."""
    rest = nth

    def before() -> None:
        nonlocal rest
        rest -= 1
        if rest < 0:
            life.disk.before = None
            life.disk.kill()
            raise Killed

    life.disk.before = before
    try:
        run(life)
    except Killed:
        pass
    else:
        raise AssertionError(f"there is no call {nth}")
    return check_restart(life)


def check_restart(life: Life) -> State:
    """Start after the process's end; what is in the page cache only must not be vouched for."""
    again = partial(start, segment_bytes=life.segment_bytes)
    life.disk.kill()
    life.check(again(life.disk.crash(lost)))
    node = again(life.disk)
    life.check(node)
    assert node.state == again(life.disk.crash(lost)).state, "it vouches for the page cache"
    return node.state


def assert_poisoned(life: Life) -> None:
    """A log that failed leaves the disk alone for ever, and says why; it can be closed."""
    wal = life.wal
    if wal is None or not wal._failure or wal._closed:
        return
    before = changes(life.disk)
    for call in (wal.sync, lambda: wal.write([write(state=vote(9))]), wal.close):
        with pytest.raises(StorageFailed):
            call()
    wal.close()
    assert before == changes(life.disk)


def changes(disk: SimDisk) -> list[tuple[str, object]]:
    """Return the calls that do something (a poisoned log still closes its files)."""
    return [call for call in disk.trace if call[0] != "close"]
