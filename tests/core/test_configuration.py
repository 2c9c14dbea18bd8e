"""Members, and how they change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tinyraft.core.configuration import (
    AddLearner,
    Configuration,
    Demote,
    History,
    Member,
    Promote,
    Relocate,
    Remove,
    changed,
)
from tinyraft.core.entry import EntryKind, MalformedEntry, make_entry
from tinyraft.errors import FormatTooNew, IdReused, MembershipError, UnknownMember

A = Member("a", "host:1", True)
B = Member("b", "host:2", False, True, 7)
PRESENT = Configuration((A, B), ("gone",))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            AddLearner(Member("c", "host:3", True, True)),
            Configuration((A, B, Member("c", "host:3", False, True)), ("gone",)),
            id="a new member is a learner, whatever it asks for",
        ),
        pytest.param(
            Promote("b"),
            Configuration((A, Member("b", "host:2", True, False, 7)), ("gone",)),
            id="a learner becomes a voter and wants nothing more",
        ),
        pytest.param(
            Relocate("b", "host:9"),
            Configuration((A, Member("b", "host:9", False, True, 7)), ("gone",)),
            id="a member moves and stays what it is",
        ),
        pytest.param(Relocate("a", "host:1"), PRESENT, id="to where it is already"),
    ],
)
def test_changed(change, expected):
    """A change concerns one member and keeps the rest, the removed ids too (P59)."""
    assert expected == changed(PRESENT, change)
    assert expected.voters == {m.id for m in expected.members if m.voter}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        pytest.param(AddLearner(Member("a", "host:9", False)), IdReused, "'a'", id="a taken id"),
        pytest.param(AddLearner(Member("gone", "x", False)), IdReused, "'gone'", id="a removed id"),
        pytest.param(
            AddLearner(Member("c", "host:2", False)), MembershipError, "'b'", id="a taken address"
        ),
        pytest.param(Promote("c"), UnknownMember, "'c'", id="a stranger's promotion"),
        pytest.param(Relocate("c", "x"), UnknownMember, "'c'", id="a stranger's move"),
        pytest.param(Relocate("a", "host:2"), MembershipError, "'b'", id="onto another member"),
    ],
)
def test_refused_changes_say_why(change, error, text):
    """What makes no sense is refused, with the names in it (P69, P70)."""
    with pytest.raises(error, match=text):
        changed(PRESENT, change)


C = Member("c", "host:3", True)
THREE = Configuration((A, B, C), ("gone",))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            Relocate("a", "host:1", 5),
            THREE.with_member(replace(A, incarnation=5)),
            id="a member that an operator added says which disk it has",
        ),
        pytest.param(
            Demote("a"), THREE.with_member(replace(A, voter=False)), id="a voter loses its vote"
        ),
        pytest.param(
            Demote("b"),
            THREE.with_member(replace(B, wants_vote=False)),
            id="a learner is no longer to be promoted",
        ),
        pytest.param(
            Remove("a"), Configuration((B, C), ("gone", "a")), id="a removed id is kept for ever"
        ),
        pytest.param(Remove("gone"), THREE, id="who was removed before"),
        pytest.param(
            AddLearner(Member("a", "host:1", False, True, 5)),
            THREE.with_member(replace(A, incarnation=5)),
            id="a voter that asks to join keeps its vote",
        ),
        pytest.param(AddLearner(Member("b", "host:2", False)), THREE, id="added once more"),
        pytest.param(
            AddLearner(Member("d", "host:4", False, True)),
            THREE.with_member(Member("d", "host:4", False, True)),
            id="a new one that wants a vote",
        ),
    ],
)
def test_what_an_operator_changes(change, expected):
    """The rest stays as it is; what is so already stays as it is too."""
    assert expected == changed(THREE, change)


def test_a_learner_may_be_added_as_a_voter_later():
    """The first order was for a learner, the second one wants a vote."""
    learner = Configuration((A, replace(B, wants_vote=False)))
    assert Configuration((A, B)) == changed(learner, AddLearner(Member("b", "host:2", False, True)))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (AddLearner(Member("b", "host:2", False, False, 8)), IdReused, "new NODE_ID"),
        (Relocate("b", "host:9", 8), IdReused, "bring that directory back"),
        (AddLearner(Member("gone", "host:9", False)), IdReused, "was removed"),
        (Demote("x"), UnknownMember, "'x'"),
        (Remove("x"), UnknownMember, "'x'"),
        (Demote("a"), MembershipError, "'a' is the last voter"),
        (Remove("a"), MembershipError, "'a' is the last voter"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_what_would_harm_is_refused(change, error, text):
    """Two disks under one id, an id that was removed, a cluster without a voter (P70, P71)."""
    with pytest.raises(error, match=text):
        changed(PRESENT, change)


def test_members_stand_in_order_and_are_found():
    """Equal members give equal bytes, in whatever order they came."""
    both = Configuration().with_member(B).with_member(A)
    assert both == Configuration((A, B))
    assert (both.get("b"), both.get("x"), both.get(None)) == (B, None, None)
    assert (both.address_of("b"), both.address_of("x"), both.address_of(None)) == ("host:2", "", "")


def test_encoding_comes_back():
    """What is written is read again, all of it."""
    assert PRESENT == Configuration.decode(PRESENT.encode())


def test_a_newer_version_is_refused():
    """A configuration that a newer tinyraft wrote is never half understood (P116)."""
    newer = PRESENT.encode().replace(b'"version":1', b'"version":2')
    with pytest.raises(FormatTooNew, match="version 2"):
        Configuration.decode(newer)


def entry(index, configuration=None):
    kind = EntryKind.CONFIGURATION if configuration else EntryKind.COMMAND
    command = configuration.encode() if configuration else b"x"
    return make_entry(index=index, term=1, kind=kind, command=command)


def test_history_follows_the_log():
    """The latest appended is in force; a cut brings the one before it back (P60, P61)."""
    history = History()
    one, two = Configuration((A,)), Configuration((A, B))
    assert (history.latest, history.latest_index) == (Configuration(), 0)
    assert history.append(entry(1, one))
    assert not history.append(entry(2))
    assert history.append(entry(3, two))
    assert (history.latest, history.latest_index) == (two, 3)
    assert [Configuration(), one, one, two] == [history.at(index)[1] for index in range(4)]
    assert not history.cut(4)
    assert history.cut(3)
    assert (history.latest, history.latest_index) == (one, 1)
    assert history.cut(1)
    assert (history.latest, history.latest_index) == (Configuration(), 0)


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"version":1}',
        b'{"version":1,"members":[["a","a:1",1,false,0]],"removed":[]}',
        b'{"version":1,"members":[["a","a:1",true,false,true]],"removed":[]}',
        b'{"version":1,"members":[],"removed":[1]}',
        b'{"version":1,"members":[],"removed":{}}',
        b'{"version":true,"members":[],"removed":[]}',
    ],
)
def test_what_nobody_wrote_is_refused(command: bytes) -> None:
    """One error for all of it: who reads a log or a message has one thing to catch."""
    with pytest.raises(MalformedEntry, match="is no configuration"):
        Configuration.decode(command)
