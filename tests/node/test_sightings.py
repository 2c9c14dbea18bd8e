"""Where members were seen: what is believed, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.node.cores import configuration
from tinyraft.core.entry import NodeId
from tinyraft.core.sighting import Sighting
from tinyraft.node.sightings import Sightings

THREE = configuration("a", "b", "c")
A, B, C = THREE.members
SEEN = Sighting(NodeId("b"), "b.moved:1", ord("b"), 100)


@pytest.fixture
def sightings() -> Sightings:
    """Lend those of a."""
    return Sightings(NodeId("a"))


def test_a_member_that_moved_is_dialled_where_it_was_seen(sightings: Sightings) -> None:
    """The others are dialled where the configuration has them; news are told once."""
    assert not sightings.take_news()
    assert sightings.take(SEEN, THREE, first_hand=True)
    assert ["a.example:1", "b.moved:1", "c.example:1"] == [*map(sightings.address_of, (A, B, C))]
    assert [True, False] == [sightings.take_news(), sightings.take_news()]
    assert [SEEN] == sightings.known(THREE)


@pytest.mark.parametrize(
    "change",
    [{"id": NodeId("x")}, {"id": NodeId("a"), "incarnation": ord("a")}, {"incarnation": 7}],
    ids=["a stranger", "oneself", "another disk"],
)
def test_what_can_t_be_right_is_passed_over(
    sightings: Sightings, change: dict[str, object]
) -> None:
    """A hint is checked, even if it comes from its subject."""
    assert not sightings.take(replace(SEEN, **change), THREE, first_hand=True)
    assert ([], False) == (sightings.known(THREE), sightings.take_news())


def test_a_member_that_was_added_by_its_address_may_have_any_disk(sightings: Sightings) -> None:
    """Nobody knows its directory before it has joined."""
    added = THREE.with_member(replace(B, incarnation=0))
    assert sightings.take(SEEN, added, first_hand=True)


def test_the_later_sighting_counts_and_its_own_word_most(sightings: Sightings) -> None:
    """Hearsay that comes late changes nothing; a process whose clock went back is believed."""
    sightings.take(SEEN, THREE, first_hand=False)
    older = replace(SEEN, address="b.older:1", since_us=99)
    newer = replace(SEEN, address="b.newer:1", since_us=101)
    assert not sightings.take(older, THREE, first_hand=False)
    assert sightings.take(newer, THREE, first_hand=False)
    assert not sightings.take(SEEN, THREE, first_hand=False)
    assert "b.newer:1" == sightings.address_of(B)
    assert sightings.take(older, THREE, first_hand=True)
    assert "b.older:1" == sightings.address_of(B)


def test_a_configuration_that_has_moved_on_knows_better(sightings: Sightings) -> None:
    """What the leader has written down ends the hint, whether it agrees or not."""
    sightings.take(SEEN, THREE, first_hand=True)
    for address in ("b.moved:1", "b.elsewhere:1"):
        moved = replace(B, address=address)
        assert address == sightings.address_of(moved)
        assert [] == sightings.known(THREE.with_member(moved))


def test_who_is_silent_where_it_was_seen_is_looked_for_in_turns(sightings: Sightings) -> None:
    """A false hint costs time only; the next one is taken again."""
    sightings.take(SEEN, THREE, first_hand=True)
    sightings.take_news()
    sightings.doubt(NodeId("b"))
    assert ("b.example:1", True) == (sightings.address_of(B), sightings.take_news())
    sightings.doubt(NodeId("b"))
    assert not sightings.take_news()
    assert sightings.take(SEEN, THREE, first_hand=False)
