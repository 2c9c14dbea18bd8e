"""The rolling digest: a function of entries and outcomes, and what a member makes of a verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import Words, empty_shelf
from tinyraft.core.check import Verdict, encode_verdict
from tinyraft.core.entry import Entry, EntryKind, Index, make_entry
from tinyraft.errors import ModuleFailed
from tinyraft.logs import Log
from tinyraft.node.agreement import KEPT, Agreement
from tinyraft.node.applier import Applier
from tinyraft.node.waiters import Waiter, Waiters
from tinyraft.storage.divergence import Divergence

TERM = 3


def command(index: Index, text: bytes = b"x") -> Entry:
    """Make a command."""
    return make_entry(index=index, term=TERM, kind=EntryKind.COMMAND, command=text)


def check(index: Index, verdict: Verdict | None = None, *, term: int = TERM) -> Entry:
    """Make a check."""
    return make_entry(
        index=index, term=term, kind=EntryKind.DIGEST, command=encode_verdict(verdict)
    )


class Bench:
    """A member's applier over a list of entries."""

    def __init__(self, *entries: Entry, module: Any = None) -> None:
        self.entries = list(entries)
        self.module = module or Words()
        self.waiters = Waiters()
        self.failures: list[ModuleFailed] = []
        self.term = TERM
        self.applier = Applier(
            self.module,
            waiters=self.waiters,
            fetch=lambda after, _: self.entries[after:],
            shelf=empty_shelf(),
            failed=self.failures.append,
            log=Log("test"),
            term=lambda: self.term,
        )

    @property
    def agreement(self) -> Agreement:
        """The part under test."""
        return self.applier.agreement

    def apply(self, *entries: Entry, at_once: int = 64) -> Bench:
        """Apply what there is, in batches."""
        self.entries += entries
        while self.applier.failure is None and (batch := self.applier.next_batch()):
            while batch and self.applier.failure is None:
                self.applier.apply(batch[:at_once])
                batch = batch[at_once:]
        return self


def digest(*entries: Entry, module: Any = None) -> bytes:
    """Tell what the last check comes to."""
    return Bench(module=module).apply(*entries).agreement.checks[-1].digest


class Other(Words):
    """A module with another answer to one command."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self.misbehave[b"x"] = answer


def test_batches_make_no_difference() -> None:
    """The digest is that of the entries, however they were fetched."""
    entries = [command(index, b"%d" % index) for index in range(1, 200)] + [check(200)]
    one, many = Bench().apply(*entries, at_once=1), Bench().apply(*entries)
    assert one.agreement.checks == many.agreement.checks
    assert one.agreement.state == many.agreement.state


def test_every_part_of_an_outcome_counts() -> None:
    """Another answer, None for empty, a refusal for an error: each is another digest."""
    answers: list[Callable[[], object]] = [
        lambda: b"1",
        lambda: b"2",
        lambda: b"",
        lambda: None,
        Words().refuse,
        lambda: {}["x"],
    ]
    found = {digest(command(1), check(2), module=Other(answer)) for answer in answers}
    assert len(answers) == len(found)
    assert digest(command(1, b"y"), check(2)) != digest(command(1, b"z"), check(2))
    assert digest(command(1), check(2)) not in {
        digest(check(1)),
        digest(command(1), check(2), check(3)),
    }


def test_the_text_of_an_error_does_not_count() -> None:
    """It may hold an address of this process."""

    def fail() -> object:
        raise KeyError(object())

    first = digest(command(1), check(2), module=Other(fail))
    assert first == digest(command(1), check(2), module=Other(lambda: {}["x"]))
    assert first == digest(command(1), check(2), module=Other(lambda: 7))


def test_a_difference_stays() -> None:
    """Whatever follows is the same, and the digests never meet again."""
    entries = [command(1), *[command(index, b"later") for index in range(2, 50)], check(50)]
    assert digest(*entries) != digest(*entries, module=Other(lambda: b"odd"))


def test_a_state_that_is_restored_goes_on() -> None:
    """Who begins with a snapshot has the digest of who applied it all."""
    entries = [command(1), command(2), check(3), command(4), check(5)]
    whole = Bench().apply(*entries)
    half = Bench().apply(*entries[:2])
    later = Agreement(Words(), term=lambda: TERM, log=Log("test"))
    later.restored(2, half.agreement.state)
    assert 2 == later.last_command
    for entry, result in zip(entries[2:], (None, b"3", None), strict=True):
        later.applied(entry, result, None)
    assert whole.agreement.checks == later.checks


def test_without_a_digest_in_the_snapshot_a_member_sits_out() -> None:
    """An older tinyraft wrote it: what is unknown is never taken for a difference."""
    agreement = Agreement(Words(), term=lambda: TERM, log=Log("test"))
    agreement.restored(2, None)
    agreement.applied(command(3), b"1", None)
    agreement.applied(check(4, Verdict(2, b"d" * 16)), None, None)
    assert ((), 4, None) == (agreement.checks, agreement.last_check, agreement.divergence)


def test_the_modules_own_digest_counts(caplog: pytest.LogCaptureFixture) -> None:
    """At checks only; one that fails is no proof of anything, so this member sits that one out."""

    class Digesting(Words):
        said: Any = b"a"

        def digest(self) -> bytes:
            if isinstance(self.said, Exception):
                raise self.said
            return self.said  # type: ignore[no-any-return]

    module = Digesting()
    bench = Bench(module=module).apply(command(1), check(2))
    one = bench.agreement.checks[-1].digest
    module.said = b"b"
    assert one != digest(command(1), check(2), module=module)
    assert one != digest(command(1), check(2))
    with caplog.at_level(logging.WARNING):
        for said in (OSError("disk"), "text", None):
            module.said = said
            bench.apply(check(bench.applier.last_applied + 1))
    assert 3 == sum("digest_failed" in record.getMessage() for record in caplog.records)
    assert [2] == [c.index for c in bench.agreement.checks]
    module.said = b"a"
    bench.apply(check(6))
    assert [2, 6] == [c.index for c in bench.agreement.checks]


def test_who_differs_takes_itself_out() -> None:
    """It names the range, applies nothing more, and tells nobody a result that is in doubt."""
    bench = Bench().apply(command(1), check(2))
    mine = bench.agreement.checks[-1].digest
    bench.apply(command(3), check(4, Verdict(2, mine)))
    assert bench.agreement.divergence is None
    waiter = Waiter()
    bench.waiters.add([waiter], first=5, term=TERM)
    bench.apply(command(5), check(6, Verdict(4, b"other".ljust(16))), command(7))
    assert Divergence(2, 4) == bench.agreement.divergence
    assert 6 == bench.applier.last_applied
    assert 3 == len(bench.module.words)
    (failure,) = bench.failures
    assert "in the entries 3 to 4" in str(failure)
    assert [waiter] == bench.waiters.pop_all()
    with pytest.raises(ModuleFailed):
        bench.applier.call(lambda module: module)
    with pytest.raises(ModuleFailed):
        bench.applier.copy(lambda: None)


def test_an_old_verdict_is_no_verdict() -> None:
    """In a replay with another version of the module on all members nobody is out."""
    bench = Bench()
    bench.term = TERM + 1
    bench.apply(command(1), check(2), check(3, Verdict(2, b"other".ljust(16))))
    assert bench.agreement.divergence is None
    assert [] == bench.failures
    mine = bench.agreement.checks[-1].digest
    bench.apply(check(4, Verdict(3, mine)), command(5), check(6))
    bench.term = TERM
    bench.apply(check(7, Verdict(6, b"other".ljust(16))))
    assert Divergence(3, 6) == bench.agreement.divergence  # but that it once agreed is known


def test_a_verdict_on_what_is_not_remembered_is_passed_over() -> None:
    """Only the latest checks are known, and only those of this life."""
    bench = Bench().apply(*[check(index) for index in range(1, KEPT + 3)])
    assert KEPT == len(bench.agreement.checks)
    bench.apply(check(KEPT + 3, Verdict(1, b"other".ljust(16))))
    assert bench.agreement.divergence is None
    odd = make_entry(index=KEPT + 4, term=TERM, kind=EntryKind.DIGEST, command=b"from a later day")
    bench.apply(odd)
    assert KEPT + 4 == bench.agreement.last_check


def test_without_a_majority_it_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    """Once, until a majority agrees again."""
    bench = Bench()
    with caplog.at_level(logging.WARNING):
        bench.apply(command(1), check(2), check(3, Verdict(2, b"")), check(4, Verdict(3, b"")))
        assert 1 == len(caplog.records)
        mine = bench.agreement.checks[-1].digest
        bench.apply(check(5, Verdict(4, mine)), check(6, Verdict(5, b"")))
        assert 2 == len(caplog.records)
    assert bench.agreement.divergence is None
    assert [] == bench.failures
