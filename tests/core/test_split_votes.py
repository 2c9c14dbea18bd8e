"""Many voters whose time is up at the same moment: somebody is elected soon all the same."""

from __future__ import annotations

from random import Random

import pytest

from tests.node.cores import SETTINGS, make_core, sync
from tinyraft.core.effects import Held, Synced
from tinyraft.core.entry import NodeId
from tinyraft.core.messages import Heartbeat
from tinyraft.core.raft import Raft
from tinyraft.core.role import Role

NAMES = "abcdefghi"
T = SETTINGS.election_ticks


def voters(seed: int) -> dict[str, Raft]:
    """Nine voters that heard a leader once and campaign at the same tick; later draws differ."""
    made = {name: make_core(name, *NAMES) for name in NAMES}
    for number, core in enumerate(made.values()):
        core.timer._random = Random(seed * len(NAMES) + number)
        core.timer.hear_leader()
        core.timer.timeout = T + 1
    return made


def exchange(made: dict[str, Raft]) -> None:
    """Let everybody ask before anybody hears, and hear before anybody is answered."""
    asked = [
        (name, peer, request)
        for name, core in made.items()
        for peer in sorted(made.keys() - {name})
        if (request := core.next_control(NodeId(peer))) is not None
    ]
    replies = [made[peer].step(request, sender=NodeId(name)) for name, peer, request in asked]
    for core in made.values():
        sync(core)
    for (name, peer, _), reply in zip(asked, replies, strict=True):
        answer = reply.release(Synced(reply.after)) if isinstance(reply, Held) else reply
        made[name].answer(answer, sender=NodeId(peer))
    for core in made.values():
        sync(core)


@pytest.mark.parametrize("seed", range(20))
def test_nine_voters_that_campaign_at_once_elect_one(seed: int) -> None:
    """Equal timeouts collide once; the next draws keep the voters apart (P9)."""
    made = voters(seed)
    for tick in range(10 * T):
        for core in made.values():
            core.tick()
            sync(core)
        exchange(made)
        if tick == T + 1:
            assert {Role.CANDIDATE} == {core.role for core in made.values()}
        if any(core.role is Role.LEADER for core in made.values()):
            return
    pytest.fail(f"no leader after {10 * T} ticks")


@pytest.mark.parametrize("term", [1, 2, 3, 4])
def test_who_loses_the_leader_campaigns_in_turns(term: int) -> None:
    """The stream of a dead leader ends for all at once; yet no two campaign at the same tick."""
    waits = {}
    for name in "abcde":
        core = make_core(name, *"abcde")
        core.step(Heartbeat(term, 0, 1), sender=NodeId("e"))
        core.peer_lost(NodeId("e"), term=term)
        waits[name] = core.timer.timeout
    del waits["e"]
    assert [3, 6, 9, 12] == sorted(waits.values())
    assert "abcd"[-term % 4] == min(waits, key=waits.__getitem__)
