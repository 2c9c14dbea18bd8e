"""Announcements and members on the wire: what is written comes back, what is none is refused."""

from __future__ import annotations

import pytest

from tinyraft.core.configuration import AddLearner, Change, Demote, Member, Promote, Remove
from tinyraft.core.entry import NodeId
from tinyraft.core.members import Members
from tinyraft.core.sighting import Sighting
from tinyraft.errors import MembershipError
from tinyraft.transport import announce, members
from tinyraft.transport.announce import MOST, Announcement, Answer
from tinyraft.transport.envelope import Malformed
from tinyraft.wire import raft_pb2 as pb

A = Sighting(NodeId("a"), "a.example:1", 2**64 - 1, 5)
B = Sighting(NodeId("b"), "[::1]:2", 3, 6)


def test_announcements_come_back() -> None:
    """Both ways."""
    told = Announcement("the-cluster", A, (B,))
    assert told == announce.decode(announce.encode(told))
    answer = Answer((A, B), "a", "a.example:1", 7)
    assert answer == announce.decode_answer(announce.encode_answer(answer))


@pytest.mark.parametrize(
    ("field", "value"),
    [("protocol", 9), ("cluster_id", "../x"), ("sender", pb.Sighting(id="a", address="nowhere"))],
)
def test_an_announcement_that_is_none_is_refused(field: str, value: object) -> None:
    """The text names the field."""
    message = announce.encode(Announcement("the-cluster", A))
    good = {"protocol": message.protocol, "cluster_id": "the-cluster", "sender": message.sender}
    with pytest.raises(Malformed, match=field):
        announce.decode(pb.AnnounceRequest(**{**good, field: value}))


def test_a_sighting_that_is_none_is_passed_over() -> None:
    """The others of the message may be right; there are never more than a cluster can need."""
    bad = [pb.Sighting(id="a\n", address="a:1"), pb.Sighting(id="a", address="a:0")]
    good = [announce.sighted(A)] * 1000
    answer = announce.decode_answer(pb.AnnounceResponse(known=[*bad, *good]))
    assert (A,) * MOST == answer.known


@pytest.mark.parametrize(
    "change",
    [
        AddLearner(Member(NodeId("n"), "n.example:1", False, True)),
        AddLearner(Member(NodeId("n"), "n.example:1", False)),
        Promote(NodeId("n")),
        Demote(NodeId("n")),
        Remove(NodeId("n")),
    ],
    ids=lambda change: type(change).__name__,
)
@pytest.mark.parametrize("expect", [None, 0, 7])
def test_changes_come_back(change: Change, expect: int | None) -> None:
    """With what is expected; none is another thing than entry 0."""
    assert (change, expect) == members.decode_change(members.encode_change(change, expect=expect))


def test_changes_that_are_none_are_refused() -> None:
    """An id, an address, a change that is missing."""
    with pytest.raises(Malformed, match="change"):
        members.decode_change(pb.ChangeMembersRequest(expect=3))
    with pytest.raises(MembershipError, match="id is"):
        members.decode_change(pb.ChangeMembersRequest(remove="no id"))
    with pytest.raises(MembershipError, match="address"):
        members.decode_change(pb.ChangeMembersRequest(add=pb.AddMember(id="n", address="x")))


def test_a_configuration_comes_back() -> None:
    """Everything that a program may ask about."""
    known = Members(
        index=7,
        is_committed=True,
        members=(
            Member(NodeId("a"), "a:1", True, False, 9),
            Member(NodeId("b"), "b:1", False, True),
        ),
        removed=(NodeId("gone"),),
        leader_id="a",
        leader_address="a:1",
        term=3,
    )
    assert known == members.decode_configuration(members.encode_configuration(known))
    assert known.members[1] == known.get("b")
    assert known.get("gone") is None
