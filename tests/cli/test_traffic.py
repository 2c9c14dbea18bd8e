"""The demo's words on their way: what is sent again, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from time import monotonic

import pytest

from tinyraft.cli.traffic import Outcome, Traffic
from tinyraft.errors import (
    CommandTooLarge,
    ConnectionLost,
    ModuleError,
    NoQuorum,
    NotStarted,
    Overloaded,
    TinyraftError,
)

SECONDS = 10.0


class ScriptedCaller:
    """Answers each word's tries with the errors of its script, then with its place."""

    def __init__(self, script: dict[bytes, list[TinyraftError]]) -> None:
        self.script = script
        self.words: list[bytes] = []
        self.tries: list[bytes] = []
        self.closed = Event()
        self._lock = Lock()

    def apply(self, command: bytes, *, timeout: float | None = 10.0) -> bytes | None:
        with self._lock:
            self.tries.append(command)
            if self.script.get(command):
                raise self.script[command].pop(0)
            self.words.append(command)
            return b"%d" % len(self.words)


@contextmanager
def sending(caller, words, *, barrier: int | None = None, threads: int = 4) -> Iterator[Traffic]:
    at = len(words) if barrier is None else barrier
    traffic = Traffic(caller, words, barrier=at, advance=lambda: None)
    traffic.start(threads)
    try:
        yield traffic
    finally:
        traffic.stop()


@pytest.mark.parametrize(
    ("errors", "outcome", "tries"),
    [
        ([], Outcome.ACKNOWLEDGED, 1),
        ([NoQuorum("nobody leads"), Overloaded("later")], Outcome.ACKNOWLEDGED, 3),
        ([ConnectionLost("broken")], Outcome.UNKNOWN, 1),
        ([NoQuorum("nobody leads"), ConnectionLost("broken")], Outcome.UNKNOWN, 2),
        ([CommandTooLarge("too long")], Outcome.REFUSED, 1),
        ([ModuleError("a bug")], Outcome.REFUSED, 1),
        ([NotStarted("closed")], Outcome.REFUSED, 1),
    ],
    ids=["fine", "not applied", "maybe", "not applied, then maybe", "too large", "bug", "closed"],
)
def test_only_what_is_certainly_not_applied_is_sent_again(errors, outcome, tries):
    """A word of unknown outcome is left alone: sent again it could be there twice."""
    caller = ScriptedCaller({b"a": list(errors)})
    with sending(caller, [b"a"]) as traffic:
        assert traffic.wait_for(traffic.is_done, deadline=monotonic() + SECONDS)
    (fate,) = traffic.sendings
    assert (outcome, tries - 1) == (fate.outcome, fate.retries)
    assert [b"a"] * tries == caller.tries


def test_words_behind_the_barrier_wait_until_it_is_lifted():
    """So words are left to be sent after the leader was killed, however fast the cluster is."""
    caller, words = ScriptedCaller({}), [b"%d" % number for number in range(30)]
    with sending(caller, words, barrier=20) as traffic:
        assert traffic.wait_for(lambda: traffic.settled == 20, deadline=monotonic() + SECONDS)
        lifted_at = monotonic()
        assert traffic.first_ended_of(begun_after=lifted_at) is None
        assert sorted(words[:20]) == sorted(caller.tries)
        traffic.lift_barrier()
        assert traffic.wait_for(traffic.is_done, deadline=monotonic() + SECONDS)
        first = traffic.first_ended_of(begun_after=lifted_at)
    assert min(s.ended for s in traffic.sendings[20:]) == first


def test_stopping_ends_the_threads_that_wait_at_the_barrier():
    """Ctrl-C must not hang."""
    with sending(ScriptedCaller({}), [b"a", b"b"], barrier=1) as traffic:
        assert traffic.wait_for(lambda: traffic.settled == 1, deadline=monotonic() + SECONDS)
    assert [Outcome.ACKNOWLEDGED, Outcome.WAITING] == [s.outcome for s in traffic.sendings]


def test_the_answer_s_position_is_kept():
    """It is what the nodes' lists are compared with."""
    caller, words = ScriptedCaller({}), [b"%d" % number for number in range(50)]
    with sending(caller, words) as traffic:
        assert traffic.wait_for(traffic.is_done, deadline=monotonic() + SECONDS)
    assert words == [caller.words[s.position - 1] for s in traffic.sendings]
