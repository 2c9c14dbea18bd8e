"""Cores in a given state, for the tests of what stands around them."""

from __future__ import annotations

from random import Random

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Synced
from tinyraft.core.entry import EntryKind, NodeId, make_entry
from tinyraft.core.messages import PreVoteReply, VoteReply
from tinyraft.core.raft import Raft, Settings

SETTINGS = Settings(election_ticks=10, heartbeat_ticks=1, max_pending_commands=100)


def configuration(*names: str, learners: str = "") -> Configuration:
    """Name members; each is dialled at its own name."""
    members = [
        Member(NodeId(name), f"{name}.example:1", voter=name in names, incarnation=ord(name))
        for name in (*names, *learners)
    ]
    return Configuration(tuple(members))


def make_core(me: str, *names: str, learners: str = "") -> Raft:
    """Make a follower in term 1 whose log says who its cluster is."""
    command = configuration(*(names or (me,)), learners=learners).encode()
    entry = make_entry(index=1, term=1, kind=EntryKind.CONFIGURATION, command=command)
    return Raft(
        me=NodeId(me),
        settings=SETTINGS,
        hard_state=HardState(1, None),
        entries=[entry],
        random=Random(7),
    )


def sync(core: Raft) -> None:
    """Let the disk finish at once."""
    write = core.take().write
    if write is not None:
        core.synced(Synced(write.mark))
        core.take()


def make_leader(me: str, *names: str) -> Raft:
    """Make a leader of term 2 whose no-op (index 2) is on its own disk."""
    core = make_core(me, *names)
    while core.candidacy is None:
        core.tick()
    for reply in (PreVoteReply(2, True), VoteReply(2, True)):
        for name in names:
            if name != me and core.leadership is None:
                core.answer(reply, sender=NodeId(name))
        sync(core)
    assert core.leadership is not None
    return core
