"""The module's world: what `current_entry` tells, to whom, and that all members hear the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

import tinyraft
from tests.cluster import DEADLINE, LocalCluster, Words, empty_shelf, until
from tests.node.test_applier import outcome
from tinyraft.core.entry import Entry, EntryKind, make_entry
from tinyraft.errors import ModuleError, ModuleFailed, OutsideApply
from tinyraft.logs import Log
from tinyraft.node.applier import Applier
from tinyraft.node.clock import Clock
from tinyraft.node.node import Node
from tinyraft.node.waiters import Waiter, Waiters

TIME_US = 1_700_000_000_123_456


class Diary:
    """A module that writes down where it finds itself."""

    def __init__(self) -> None:
        self.days: list[tuple[Any, ...]] = []
        self.kept: tinyraft.CurrentEntry | None = None

    def apply(self, command: bytes, /) -> bytes:
        """Look around."""
        here = tinyraft.current_entry()
        assert tinyraft.current_entry() is here
        self.kept = here
        chance = [here.random.random(), tinyraft.current_entry().random.random()]
        ids = [here.uuid(), here.uuid()]
        self.days.append((here.index, here.term, here.time_us, here.time, *chance, *ids))
        if command == b"fail":
            raise ValueError("after it asked")
        return b"%d" % here.index

    def query(self, _request: bytes, /) -> bytes:
        """Ask where there is no entry."""
        return b"%d" % tinyraft.current_entry().index

    def snapshot(self) -> Iterable[bytes]:
        """Likewise."""
        tinyraft.current_entry()
        return []

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Not used."""


def entries(count: int, *, kind: EntryKind = EntryKind.COMMAND) -> list[Entry]:
    """Make a log."""
    return [
        make_entry(index=i, term=3, kind=kind, command=b"x", time_us=TIME_US + i)
        for i in range(1, count + 1)
    ]


def applied(module: Any, log: list[Entry], *, cluster_id: str = "c") -> Applier:
    """Apply *log* to *module*."""
    applier = Applier(
        module,
        waiters=Waiters(),
        fetch=lambda after, _most: log[after:],
        shelf=empty_shelf(),
        failed=lambda _failure: None,
        log=Log("test"),
        cluster_id=lambda: cluster_id,
    )
    while batch := applier.next_batch():
        applier.apply(batch)  # type: ignore[arg-type]
    return applier


def test_a_module_finds_the_entry_that_it_applies() -> None:
    """Index, term, and the leader's time in microseconds and in seconds."""
    module = Diary()
    applier = applied(module, entries(3))
    assert [(i, 3, TIME_US + i, (TIME_US + i) / 1e6) for i in (1, 2, 3)] == [
        day[:4] for day in module.days
    ]
    assert TIME_US + 3 == applier.last_time_us


def test_chance_is_equal_on_every_member_and_at_every_replay() -> None:
    """And another one in each entry and in each cluster; one stream within an entry."""
    one, other, elsewhere = Diary(), Diary(), Diary()
    applied(one, entries(50))
    applied(other, entries(50))
    applied(elsewhere, entries(50), cluster_id="d")
    assert one.days == other.days
    draws = [draw for diary in (one, elsewhere) for day in diary.days for draw in day[4:]]
    assert len(set(draws)) == len(draws) == 2 * 50 * 4
    assert {4} == {value.version for day in one.days for value in day[6:]}


def test_chance_is_what_it_was_in_earlier_versions() -> None:
    """A log that is replayed by a newer tinyraft gives the same; these values are for ever."""
    here = tinyraft.CurrentEntry(index=7, term=1, time_us=0, cluster_id="c")
    assert (0.44904582816071426, "2712bde1") == (here.random.random(), str(here.uuid())[:8])


def test_outside_apply_there_is_no_entry() -> None:
    """Not before, not behind it, not in another thread, not in a query or a snapshot."""
    with pytest.raises(OutsideApply, match=r"only inside Module\.apply"):
        tinyraft.current_entry()
    module = Diary()
    applier = applied(module, entries(1))
    for ask in (tinyraft.current_entry, lambda: applier.call(lambda m: m.query(b""))):  # type: ignore[attr-defined]
        with pytest.raises(OutsideApply):
            ask()
    with pytest.raises(ModuleError, match="OutsideApply"):
        applier.copy(module.snapshot)

    class Delegating:
        def apply(self, _command: bytes, /) -> bytes:
            with ThreadPoolExecutor(1) as pool, pytest.raises(OutsideApply):
                pool.submit(tinyraft.current_entry).result(DEADLINE)
            return b"asked"

    waiter = Waiter()
    waiters = Waiters()
    waiters.add([waiter], first=1, term=3)
    log = entries(1)
    bench = Applier(
        Delegating(),
        waiters=waiters,
        fetch=lambda after, _most: log[after:],
        shelf=empty_shelf(),
        failed=lambda _failure: None,
        log=Log("test"),
    )
    bench.apply(log)
    assert b"asked" == outcome(waiter)


def test_it_ends_with_a_module_that_fails() -> None:
    """Whatever a module raises, nothing stays behind in the thread."""

    class Broken:
        def apply(self, _command: bytes, /) -> bytes:
            tinyraft.current_entry()
            raise OSError(28, "no room")

    log, failures = entries(1), list[ModuleFailed]()
    applier = Applier(
        Broken(),
        waiters=Waiters(),
        fetch=lambda after, _most: log[after:],
        shelf=empty_shelf(),
        failed=failures.append,
        log=Log("test"),
    )
    applier.apply(log)
    assert 1 == len(failures)
    with pytest.raises(OutsideApply):
        tinyraft.current_entry()


def test_a_snapshot_has_the_time_of_what_is_not_a_command_too() -> None:
    """No-ops have a time, and the next leader must not go back behind it."""
    assert TIME_US + 2 == applied(Diary(), entries(2, kind=EntryKind.NOOP)).last_time_us


class Clocked(Words):
    """Words that keep the time of the last one, in snapshots too."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[int] = []
        self.restored = Event()

    def apply(self, command: bytes, /) -> bytes | None:
        """Keep the time."""
        self.times.append(tinyraft.current_entry().time_us)
        return super().apply(command)

    def snapshot(self) -> Iterator[bytes]:
        """Give the last time."""
        return iter([b"%d" % self.times[-1]])

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Take it."""
        self.times = [int(b"".join(chunks))]
        self.restored.set()


def test_members_agree_and_time_goes_on_behind_a_snapshot(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader whose clock was set back, and whose log is empty, goes on from where it was."""
    modules = {name: Clocked() for name in "abc"}
    for name, module in modules.items():
        cluster.make(name, module=module, bootstrap=name == "a", trailing_bytes=0).start()
        cluster.wait_voters(list(cluster.servers))
    leader = cluster.leader()
    for number in range(20):
        cluster[leader].apply(b"%d" % number)
    until(lambda: all(len(module.times) == 20 for module in modules.values()))
    assert modules["a"].times == modules["b"].times == modules["c"].times
    assert sorted(modules["a"].times) == modules["a"].times
    for server in cluster:
        meta = server.snapshot()
        server.snapshot()
        assert meta.time_us >= modules["a"].times[-1]
    last = modules["a"].times[-1]
    for server in cluster:
        server.shutdown()
    slow = Clock(time_ns=lambda: 1000)
    monkeypatch.setitem(Node.__init__.__kwdefaults__, "clock", slow)
    fresh = {name: Clocked() for name in "abc"}
    for name, module in fresh.items():
        cluster.make(name, module=module).start()
    leader = cluster.leader()
    cluster[leader].apply(b"late", timeout=DEADLINE)
    assert fresh[leader].restored.is_set()
    assert fresh[leader].times[-1] >= last
