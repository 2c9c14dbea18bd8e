"""Committed entries and the module: order, outcomes, and whose trouble is whose."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from tests.cluster import DEADLINE, Words, empty_shelf, until
from tinyraft.core.entry import Entry, EntryKind, Index, Origin, make_entry, stamp
from tinyraft.errors import (
    ModuleError,
    ModuleFailed,
    NotApplied,
    ReentrantCall,
    Rejected,
    TinyraftError,
)
from tinyraft.logs import Log
from tinyraft.node.applier import BATCH_ENTRIES, BATCH_SECONDS, Applier
from tinyraft.node.waiters import Waiter, Waiters


def make_log(commands: list[bytes], *, term: int = 1) -> list[Entry]:
    """Make a log of *commands*, from index 1."""
    return [
        make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=command)
        for index, command in enumerate(commands, 1)
    ]


class Bench:
    """An applier over a list of committed entries."""

    def __init__(self, commands: list[bytes], *, module: Any = None) -> None:
        self.log = make_log(commands)
        self.module = module or Words()
        self.waiters = Waiters()
        self.failures: list[ModuleFailed] = []
        self.applier = Applier(
            self.module,
            waiters=self.waiters,
            fetch=self.fetch,
            shelf=empty_shelf(),
            failed=self.failures.append,
            log=Log("test"),
        )

    def fetch(self, after: Index, _max_bytes: int) -> list[Entry]:
        return self.log[after:]

    def wait_for(self, index: int, *, term: int = 1) -> Waiter:
        """Let somebody wait at *index*."""
        waiter = Waiter()
        self.waiters.add([waiter], first=index, term=term)
        return waiter

    def apply(self) -> None:
        """Run the halves until there is no more, as the thread does."""
        while self.applier.failure is None and (batch := self.applier.next_batch()):
            self.applier.apply(batch)


def outcome(waiter: Waiter) -> bytes | TinyraftError | None:
    """Return what the waiter was told."""
    try:
        return waiter.wait(0)
    except TinyraftError as error:
        return error


def test_commands_are_applied_in_order_once() -> None:
    """Every committed command reaches the module, in the order of the log."""
    commands = [b"%d" % number for number in range(3 * BATCH_ENTRIES)]
    bench = Bench(commands)
    bench.apply()
    bench.apply()
    assert commands == bench.module.words
    assert len(commands) == bench.applier.last_applied


def test_nobody_waits_for_the_slow_commands_behind_his_own() -> None:
    """A batch ends when it has taken long: answers go out, readers get the module, none is lost."""
    commands = [b"1", b"slow", b"3", b"slow", *[b"more"] * BATCH_ENTRIES]
    bench = Bench(commands)
    now, until_then = [0.0], []
    bench.applier.stopwatch._monotonic = lambda: now[0]
    waiters = [bench.wait_for(index) for index in range(1, 6)]

    def slow() -> bytes:
        now[0] += 2 * BATCH_SECONDS
        return b"slow"

    bench.module.misbehave[b"slow"] = slow
    while batch := bench.applier.next_batch():
        bench.applier.apply(batch)
        until_then.append([waiter._done.locked() for waiter in waiters].count(False))
    assert [2, 4, 5] == until_then
    assert commands == bench.module.words


def test_a_gap_is_a_defect() -> None:
    """An entry out of its turn never reaches the module."""
    bench = Bench([b"a", b"b"])
    with pytest.raises(AssertionError, match="in order"):
        bench.applier.apply(bench.log[1:])
    assert [] == bench.module.words


def test_what_is_no_command_does_not_reach_the_module() -> None:
    """No-ops and configurations count as applied."""
    bench = Bench([b"a", b"", b"b"])
    bench.log[1] = make_entry(index=2, term=1, kind=EntryKind.NOOP, command=b"")
    waiter = bench.wait_for(2)
    bench.apply()
    assert [b"a", b"b"] == bench.module.words
    assert outcome(waiter) is None
    assert 3 == bench.applier.last_applied


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (b"word", b"1"),
        (b"none", None),
        (b"empty", b""),
        (b"refuse", Rejected),
        (b"raise", ModuleError),
        (b"number", ModuleError),
    ],
    ids=["bytes", "None", "empty bytes", "Rejected", "another exception", "no bytes"],
)
def test_every_outcome_is_an_answer(command: bytes, expected: Any) -> None:
    """What the module returns or raises goes to who waits, and the log goes on."""
    bench = Bench([command, b"next"])
    waiter, following = bench.wait_for(1), bench.wait_for(2)
    bench.apply()
    told = outcome(waiter)
    if isinstance(expected, type):
        assert expected is type(told)
    else:
        assert expected == told
    assert b"2" == outcome(following)
    assert [] == bench.failures


class Mute(Exception):
    """Its own code is wrong too."""

    def __str__(self) -> str:
        raise KeyError("nothing to say")

    __repr__ = __str__


class MuteRefusal(Mute, Rejected):
    """Likewise."""


@pytest.mark.parametrize(("kind", "told"), [(Mute, ModuleError), (MuteRefusal, Rejected)])
def test_what_an_exceptions_own_code_raises_stops_no_node(kind: type, told: type) -> None:
    """Else one command would stop every member, over and over."""

    def fail() -> None:
        raise kind

    bench = Bench([b"fail", b"next"])
    bench.module.misbehave[b"fail"] = fail
    bench.log[0] = make_entry(
        index=1,
        term=1,
        kind=EntryKind.COMMAND,
        command=b"fail",
        stamp=stamp(Origin(0, 0, 0, 0, "order-1")),
    )
    waiter, following = bench.wait_for(1), bench.wait_for(2)
    bench.apply()
    error = outcome(waiter)
    assert told is type(error)
    assert kind.__name__ in str(error)
    assert b"2" == outcome(following)
    assert [] == bench.failures


def test_another_exception_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A bug of the module can be found from the log."""
    with caplog.at_level(logging.WARNING):
        Bench([b"raise"]).apply()
    (record,) = caplog.records
    assert "module_error" in record.message
    assert record.exc_info is not None
    assert KeyError is record.exc_info[0]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(28, "full"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()],
    ids=lambda e: type(e).__name__,
)
def test_the_nodes_own_trouble_ends_the_applying(error: BaseException) -> None:
    """Nothing is skipped: what came before is answered, the failing entry and the rest not."""

    def fail() -> None:
        raise error

    bench = Bench([b"a", b"fail", b"b"])
    bench.module.misbehave[b"fail"] = fail
    before, at, behind = (bench.wait_for(index) for index in (1, 2, 3))
    bench.apply()
    assert b"1" == outcome(before)
    assert [at, behind] == bench.waiters.pop_all()  # theirs is what the node says, not the applier
    assert 1 == bench.applier.last_applied
    assert [b"a", b"fail"] == bench.module.words
    (failure,) = bench.failures
    assert "entry 2" in str(failure)
    with pytest.raises(ModuleFailed):
        bench.applier.call(lambda module: module)
    bench.applier.run()  # returns at once
    assert [b"a", b"fail"] == bench.module.words


def test_who_waited_for_another_term_is_told_not_applied() -> None:
    """Only an entry committed in its place makes it certain that a command has no effect."""
    bench = Bench([b"a", b"b"])
    mine, other = bench.wait_for(2, term=1), bench.wait_for(2, term=7)
    later = bench.wait_for(3, term=7)
    bench.apply()
    assert b"2" == outcome(mine)
    assert isinstance(outcome(other), NotApplied)
    assert [later] == bench.waiters.pop_all()  # nothing is committed at 3: not known to be lost


def test_last_applied_moves_before_anybody_is_told() -> None:
    """Whoever has an answer finds its effect counted."""
    bench, seen = Bench([b"a"]), []
    waiter = Waiter(lambda _: seen.append(bench.applier.last_applied))
    bench.waiters.add([waiter], first=1, term=1)
    bench.apply()
    assert [1] == seen


def test_answers_are_given_outside_the_mutex() -> None:
    """A callback may read: it is not called under the module's mutex."""
    bench, seen = Bench([b"a"]), []
    waiter = Waiter(lambda _: seen.append(bench.applier.call(lambda m: m.words)))  # type: ignore[attr-defined]
    bench.waiters.add([waiter], first=1, term=1)
    bench.apply()
    assert [[b"a"]] == seen


def test_a_module_that_calls_back_is_told() -> None:
    """From inside apply, a read would deadlock: it raises, and the mutex is free afterwards."""
    bench = Bench([b"call"])
    bench.module.misbehave[b"call"] = lambda: bench.applier.call(lambda m: m)
    waiter = bench.wait_for(1)
    bench.apply()
    told = outcome(waiter)
    assert isinstance(told, ModuleError)
    assert "ReentrantCall" in str(told)
    with pytest.raises(ReentrantCall):
        bench.applier.call(lambda _: bench.applier.call(lambda m: m))
    assert bench.module is bench.applier.call(lambda m: m)


def run_thread(target: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_readers_get_their_turn() -> None:
    """A busy applier lets a reader in after a batch, not at the end of the log."""

    class Slow:
        def __init__(self) -> None:
            self.count = 0

        def apply(self, _command: bytes, /) -> None:
            self.count += 1
            end = monotonic() + 0.0005
            while monotonic() < end:
                pass

    bench = Bench([b"x"] * 2_000, module=Slow())
    thread = run_thread(bench.applier.run)
    until(lambda: bench.module.count)
    counts = [bench.applier.call(lambda m: m.count) for _ in range(3)]  # type: ignore[attr-defined]
    bench.applier.stop()
    thread.join(DEADLINE)
    assert 2_000 == bench.module.count
    assert counts[2] < 2_000, f"readers came in at {counts} of 2000 commands"


class Doomed(Words):
    """A module that does half of its work and fails while somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_at_it, self.may_fail = threading.Event(), threading.Event()

    def apply(self, command: bytes, /) -> bytes:
        """Do half of it."""
        self.words.append(command[:1])
        self.is_at_it.set()
        assert self.may_fail.wait(DEADLINE)
        raise MemoryError


@pytest.mark.parametrize("what", ["call", "copy"])
def test_who_waited_for_a_module_that_failed_does_not_see_half_a_state(what: str) -> None:
    """A snapshot of it would be restored after the restart, and the entry be applied to it."""
    module = Doomed()
    bench = Bench([b"12"], module=module)
    seen: list[object] = []
    told: list[ModuleFailed] = []

    def ask() -> None:
        try:
            if what == "call":
                seen.append(bench.applier.call(lambda _: list(module.words)))
            else:
                seen.append(bench.applier.copy(lambda: list(module.words)))
        except ModuleFailed as error:
            told.append(error)

    applying = threading.Thread(target=bench.apply, daemon=True)
    applying.start()
    assert module.is_at_it.wait(DEADLINE)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    module.may_fail.set()
    applying.join(DEADLINE)
    asking.join(DEADLINE)
    assert (seen, told) == ([], [bench.applier.failure])


def test_the_thread_applies_what_comes_and_ends_when_told() -> None:
    """Rung for more it goes on; stopped it first applies what is there."""
    bench = Bench([b"a"])
    thread = run_thread(bench.applier.run)
    until(lambda: bench.applier.last_applied == 1)
    bench.log += make_log([b"a", b"b"])[1:]
    bench.applier.ring()
    until(lambda: bench.applier.last_applied == 2)
    bench.log += make_log([b"a", b"b", b"c"])[2:]
    bench.applier.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert [b"a", b"b", b"c"] == bench.module.words
