"""Where a caller looks next."""

from __future__ import annotations

from random import Random

import pytest

from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    LeadershipLost,
    ModuleError,
    ModuleFailed,
    NotLeader,
    Overloaded,
    Rejected,
    ServerStopped,
    SessionExpired,
    StorageFull,
    TinyraftError,
)
from tinyraft.route import LONGEST_PAUSE, Retry, Route


def make_route(*addresses: str) -> Route:
    """Return a route whose chance is always the same."""
    return Route(addresses, random=Random(1))


def test_addresses_take_turns() -> None:
    """Without a hint every address is tried, again and again."""
    route = make_route("a:1", "b:1", "c:1")
    assert ["a:1", "b:1", "c:1", "a:1"] == [route.next() for _ in range(4)]


def test_a_hint_is_tried_once_and_first() -> None:
    """A hint that led nowhere does not keep the others from being tried."""
    route = make_route("a:1", "b:1")
    assert "a:1" == route.next()
    assert route.hint("z:1", term=3)
    assert ["z:1", "b:1", "a:1"] == [route.next() for _ in range(3)]


def test_an_old_hint_never_replaces_a_newer_one() -> None:
    """Two nodes that point at each other don't keep a caller running in a circle."""
    route = make_route("a:1")
    assert route.hint("new:1", term=5)
    assert not route.hint("old:1", term=4)
    assert "new:1" == route.next()
    assert not route.hint("old:1", term=4)
    assert "a:1" == route.next()


def test_the_same_term_again_is_no_news() -> None:
    """It is tried, but not at once; an empty hint is none."""
    route = make_route("a:1")
    assert route.hint("b:1", term=5)
    assert not route.hint("b:1", term=5)
    assert not route.hint("", term=9)
    assert "b:1" == route.next()
    assert "a:1" == route.next()


def test_pauses_grow_and_differ() -> None:
    """From milliseconds to a bound, never two callers alike; short again once it was found."""
    one, other = Route(["a:1"], random=Random(1)), Route(["a:1"], random=Random(2))
    pauses = [one.pause() for _ in range(40)]
    assert pauses != [other.pause() for _ in range(40)]
    assert pauses[0] <= 0.010
    assert LONGEST_PAUSE / 2 <= min(pauses[10:])
    assert max(pauses) <= LONGEST_PAUSE
    assert one.greeted("n1", leader="n1", address="n1:1", term=1)
    assert one.pause() <= 0.010


@pytest.mark.parametrize(
    "error",
    [ApplyTimeout, ConnectionLost, LeadershipLost, ServerStopped, Rejected, ModuleError],
)
def test_what_may_have_been_applied_is_never_tried_again(error: type[TinyraftError]) -> None:
    """A second try could apply it twice; and an answer of the module is an answer."""
    assert make_route("a:1", "b:1").after(error("it may be applied"), is_numbered=False) is None


@pytest.mark.parametrize(
    "error", [LeadershipLost, ConnectionLost, ServerStopped, ApplyTimeout, ModuleFailed]
)
def test_what_has_a_number_is_sent_again(error: type[TinyraftError]) -> None:
    """Elsewhere, after a pause; from then on it is in doubt (P87)."""
    retry = make_route("a:1").after(error("it may be applied"), is_numbered=True)
    assert Retry(elsewhere=True, at_once=False, is_in_doubt=True) == retry


def test_a_command_in_doubt_stays_in_its_session() -> None:
    """Under another number it could be applied twice (P88); the first time it is safe."""
    route, error = make_route("a:1"), SessionExpired("forgotten")
    assert Retry(in_new_session=True) == route.after(error, is_numbered=True)
    assert route.after(error, is_numbered=True, is_in_doubt=True) is None


def test_a_module_that_failed_is_not_asked_for_ever() -> None:
    """Nobody could take over from it."""
    failed = ModuleFailed("out of memory")
    assert make_route("a:1").after(failed, is_numbered=True, is_in_doubt=True) is None


@pytest.mark.parametrize("error", [Overloaded("full"), StorageFull("full")], ids=repr)
def test_a_full_leader_is_asked_again_after_a_pause(error: Overloaded | StorageFull) -> None:
    """It is the right node, and nothing was appended."""
    assert Retry(at_once=False) == make_route("a:1").after(error, is_numbered=False)


def test_who_does_not_lead_sends_the_caller_elsewhere() -> None:
    """At once where it names a leader of a later term, else after a pause."""
    route = make_route("a:1")
    error = NotLeader("b leads", leader_id="b", leader_address="b:1", term=3)
    assert Retry(elsewhere=True, at_once=True) == route.after(error, is_numbered=False)
    assert Retry(elsewhere=True, at_once=False) == route.after(error, is_numbered=False)
    assert "b:1" == route.next()
