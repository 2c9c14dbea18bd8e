"""The leader's half: what a majority is, when a check is appended, and when there is rest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster import Words
from tests.node.cores import make_leader, sync
from tinyraft.core.check import Verdict, decode_verdict
from tinyraft.core.entry import EntryKind, Index, NodeId
from tinyraft.core.messages import AppendReply, HeartbeatReply
from tinyraft.logs import Log
from tinyraft.node.agreement import Agreement
from tinyraft.node.judge import Judge

GOOD, BAD, WORSE = b"good".ljust(16), b"bad".ljust(16), b"worse".ljust(16)


class Bench:
    """A leader called a, its judge, and a clock that stands."""

    def __init__(self, *names: str, seconds: float = 1.0) -> None:
        self.now = 100.0
        self.others = [NodeId(name) for name in names]
        self.core = make_leader("a", "a", *names)
        self.agreement = Agreement(Words(), term=lambda: self.core.term, log=Log("test"))
        self.judge = Judge(self.agreement, seconds=seconds, monotonic=lambda: self.now)
        self.applied: Index = 0
        self.said: list[Verdict | None] = []

    def work(self, *, answer: bytes = b"1") -> None:
        """Commit and apply a command, which this member answers so."""
        self.core.propose([b"x"], time_us=0)
        self.catch_up(answer)

    def catch_up(self, answer: bytes | None = None) -> None:
        """Let everybody have the log, and apply it."""
        sync(self.core)
        for name in self.others:
            self.core.next_append(name, max_bytes=1 << 20)
            reply = AppendReply(self.core.term, True, match_index=self.core.log.last_index)
            self.core.answer(reply, sender=name)
        found: Any = self.core.committed(self.applied, max_bytes=1 << 20)
        for entry in found:
            is_command = entry.kind is EntryKind.COMMAND
            self.agreement.applied(entry, answer if is_command else None, None)
            self.applied = entry.index

    def tell(self, name: str, digest: bytes, index: Index = 0) -> None:
        """Let *name* say what it had at its latest check."""
        index = index or self.agreement.checks[-1].index
        reply = HeartbeatReply(self.core.term, 1, False, index, digest)
        self.core.answer(reply, sender=NodeId(name))

    def look(self, after: float = 0.0) -> list[Verdict | None]:
        """Let time pass, and look; return what the checks that come of it say."""
        self.now += after
        before = self.core.log.last_index
        self.judge.look(self.core)
        entries = self.core.log.between(before, self.core.log.last_index, max_bytes=1 << 20)
        assert all(entry.kind is EntryKind.DIGEST for entry in entries)
        self.catch_up()
        return [decode_verdict(entry.command) for entry in entries]

    @property
    def mine(self) -> bytes:
        """What this member had at its latest check."""
        return self.agreement.checks[-1].digest

    @property
    def index(self) -> Index:
        """Where that stands."""
        return self.agreement.checks[-1].index

    def checked(self) -> Bench:
        """Come to the first check."""
        self.work()
        self.look()
        assert [None] == self.look(1.0)
        return self


def test_checks_follow_commands_and_then_rest() -> None:
    """One a second at most, and none behind the last on which all agree."""
    bench = Bench("b", "c")
    assert [] == bench.look()
    assert [] == bench.look(5.0)  # nothing was applied
    bench.work()
    assert [None] == bench.look()
    bench.work()
    assert [] == bench.look(0.9)
    bench.tell("b", bench.mine)
    bench.tell("c", bench.mine)
    verdict = Verdict(bench.index, bench.mine)
    assert [verdict] == bench.look(0.2)  # rides along
    bench.tell("b", bench.mine)
    bench.tell("c", bench.mine)
    for _ in range(5):
        assert [] == bench.look(60.0)


def test_a_majority_that_comes_late_is_told() -> None:
    """A dispute is settled by a voter who was away, without another command."""
    bench = Bench("b", "c").checked()
    bench.tell("b", BAD)
    index = bench.index
    assert [Verdict(index, b"")] == bench.look(2.5)
    bench.tell("b", WORSE)
    bench.tell("c", bench.mine)
    assert [Verdict(bench.index, bench.mine)] == bench.look()
    assert [] == [verdict for verdict in bench.look(60.0) if verdict is not None]


def test_who_is_alone_compares_with_nobody() -> None:
    """And writes nothing for it."""
    bench = Bench()
    bench.work()
    bench.look()
    assert [] == bench.look(60.0)


def test_a_difference_is_told_at_once() -> None:
    """Before the second is over, and no more than one such check comes between two others."""
    bench = Bench("b", "c").checked()
    bench.tell("b", bench.mine)
    assert [] == bench.look()
    bench.tell("c", BAD)
    first = Verdict(bench.index, bench.mine)
    assert [first] == bench.look()
    bench.work()
    bench.tell("b", bench.mine)
    bench.tell("c", WORSE)
    assert [] == bench.look()
    assert 1 == len(bench.look(1.0))


def test_the_leader_itself_may_be_the_one() -> None:
    """The others are a majority."""
    bench = Bench("b", "c").checked()
    bench.tell("b", GOOD)
    bench.tell("c", GOOD)
    assert [Verdict(bench.index, GOOD)] == bench.look()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"b": GOOD, "c": GOOD, "d": BAD, "e": WORSE}, b""),
        ({"b": GOOD, "c": GOOD, "d": BAD}, b""),
        ({"b": GOOD, "c": GOOD}, b""),
        ({"b": GOOD, "c": GOOD, "d": GOOD, "e": BAD}, GOOD),
        ({"b": GOOD, "c": GOOD, "d": GOOD}, GOOD),
    ],
    ids=[
        "most of five",
        "two of five",
        "two of three who spoke",
        "three, one differs",
        "three, one is silent",
    ],
)
def test_only_a_strict_majority_decides(told: dict[str, bytes], expected: bytes) -> None:
    """The silent ones count as voters; without a majority the word is that there is none."""
    bench = Bench("b", "c", "d", "e").checked()
    for name, digest in told.items():
        bench.tell(name, digest)
    index = bench.index
    assert [Verdict(index, expected)] == bench.look(2.5)
    for _ in range(5):
        assert [] == [v for v in bench.look(60.0) if v is not None and not v.digest]
    assert bench.core.log.last_index <= index + 2


def test_a_silent_member_gets_its_verdict() -> None:
    """It may come back in an idle hour: one check tells it, and then there is rest."""
    bench = Bench("b", "c").checked()
    bench.tell("b", bench.mine)
    verdict = Verdict(bench.index, bench.mine)
    assert [verdict] == bench.look(1.0)
    bench.tell("b", bench.mine)
    for _ in range(5):
        assert [] == bench.look(60.0)


def test_what_was_said_in_an_earlier_life_is_forgotten() -> None:
    """A member that begins again has said nothing yet."""
    bench = Bench("b", "c", "d", "e").checked()
    bench.tell("b", GOOD)
    bench.tell("c", GOOD)
    bench.tell("d", bench.mine)
    bench.look()
    bench.core.answer(HeartbeatReply(bench.core.term, 1), sender=NodeId("b"))
    bench.look()
    bench.tell("e", GOOD)
    assert [] == [v for v in bench.look() if v is not None and v.digest]


def test_another_term_begins_anew() -> None:
    """The last check of an earlier office may have been cut: it is not waited for."""
    bench = Bench("b", "c").checked()
    bench.judge._asked = bench.index + 100
    bench.work()
    assert [] == bench.look(60.0)
    bench.judge._term -= 1  # as if that had been in the term before
    assert [] == bench.look()
    assert [None] == bench.look(1.0)


def test_a_module_that_lags_is_not_asked_again() -> None:
    """One check is under way at a time."""
    bench = Bench("b", "c")
    bench.work()
    bench.look()
    bench.now += 1.0
    bench.judge.look(bench.core)
    last = bench.core.log.last_index
    bench.now += 60.0
    bench.judge.look(bench.core)  # not yet applied here
    assert last == bench.core.log.last_index


def test_nothing_is_appended_while_leadership_is_handed_over() -> None:
    """The successor would have to have that, too."""
    bench = Bench("b", "c")
    bench.work()
    bench.look()
    bench.core.answer(HeartbeatReply(bench.core.term, 1), sender=NodeId("b"))
    bench.core.transfer(NodeId("b"))
    assert [] == bench.look(5.0)
