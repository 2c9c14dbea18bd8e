"""Who waits for which entry, and what they are told."""

from __future__ import annotations

import threading

import pytest

from tests.cluster import DEADLINE
from tinyraft.core.entry import EntryKind, make_entry
from tinyraft.errors import ApplyTimeout, NotApplied, Rejected
from tinyraft.node.waiters import Waiter, Waiters, overtaken


def entry(index: int, term: int = 1) -> object:
    """Make a command."""
    return make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=b"x")


def test_a_waiter_gets_what_it_is_given() -> None:
    """A result, None, or an error."""
    for result, error in [(b"1", None), (None, None), (None, Rejected("no"))]:
        waiter = Waiter()
        waiter.resolve(result, error)
        if error is None:
            assert result == waiter.wait(0)
        else:
            with pytest.raises(Rejected):
                waiter.wait(0)


def test_a_waiter_that_gives_up_says_where_its_command_is() -> None:
    """A timeout names index and term, and promises nothing."""
    waiters, waiter = Waiters(), Waiter()
    waiters.add([waiter], first=7, term=3)
    with pytest.raises(ApplyTimeout, match=r"entry 7 of term 3 .* may still be applied"):
        waiter.wait(0.0)


def test_a_waiter_wakes_its_thread() -> None:
    """The answer comes while somebody waits, without a deadline."""
    waiter, got = Waiter(), []
    thread = threading.Thread(target=lambda: got.append(waiter.wait(None)), daemon=True)
    thread.start()
    waiter.resolve(b"late", None)
    thread.join(DEADLINE)
    assert [b"late"] == got


def test_on_done_is_called_once_with_the_answer_in_place() -> None:
    """A callback sees the result."""
    seen: list[tuple[bytes | None, object]] = []
    Waiter(lambda ws: seen.extend((w.result, w.error) for w in ws)).resolve(b"r", None)
    assert [(b"r", None)] == seen


def test_pop_takes_out_place_by_place() -> None:
    """Each entry gives who waits at its index; a place without anybody gives None."""
    waiters, first, second, again = Waiters(), Waiter(), Waiter(), Waiter()
    waiters.add([first, second], first=5, term=1)
    waiters.add([again], first=5, term=2)  # another leadership of this node, the same index
    assert 2 == len(waiters)
    popped = waiters.pop([entry(4), entry(5), entry(6)])  # type: ignore[list-item]
    assert [None, [first, again], [second]] == popped
    assert [None] == waiters.pop([entry(5)])  # type: ignore[list-item]
    assert 0 == len(waiters)


def test_discard_forgets_only_that_one() -> None:
    """Who gave up is not answered; who waits at the same place still is."""
    waiters, gone, stays = Waiters(), Waiter(), Waiter()
    waiters.add([gone], first=5, term=1)
    waiters.add([stays], first=5, term=2)
    waiters.discard(gone)
    waiters.discard(gone)
    assert [[stays]] == waiters.pop([entry(5)])  # type: ignore[list-item]
    waiters.discard(stays)
    assert 0 == len(waiters)


def test_pop_all_takes_everybody() -> None:
    """At the end nobody is forgotten, and nobody is answered twice."""
    waiters, all_of_them = Waiters(), [Waiter() for _ in range(3)]
    waiters.add(all_of_them[:2], first=1, term=1)
    waiters.add(all_of_them[2:], first=2, term=2)
    assert set(all_of_them) == set(waiters.pop_all())
    assert [] == waiters.pop_all()


def test_overtaken_is_certain() -> None:
    """Another entry in its place: no effect, and the text says which."""
    waiters, waiter = Waiters(), Waiter()
    waiters.add([waiter], first=5, term=1)
    error = overtaken(waiter, entry(5, term=2))  # type: ignore[arg-type]
    assert isinstance(error, NotApplied)
    assert (2, "") == (error.term, error.leader_id)
    assert "entry 5 of term 1 was replaced by one of term 2" in str(error)
