"""How a simulated process gets in, and is found again at another address.

Law: mirrors `tinyraft.node.joiner` with real `Sightings` on a network that loses; what a process
knows of others it has from its own log, from its RAFT_JOIN, which is one name, or from what it was
told.
"""

from __future__ import annotations

from typing import Protocol

from tinyraft.core.configuration import AddLearner, Change, Member, Relocate
from tinyraft.core.sighting import Sighting
from tinyraft.errors import TinyraftError
from tinyraft.node.waiters import Waiter
from tinyraft.testing.surroundings import Process, Surroundings

PAUSE = 0.25  # election timeouts between two rounds


class World(Surroundings, Protocol):
    """Where a search goes on."""

    def process_at(self, address: str) -> Process | None:
        """Find who listens at *address*."""

    def anchor(self) -> Process | None:
        """Find whom the name in everybody's RAFT_JOIN leads to."""


class Search:
    """One life of a process: until it is found, and again when it hears no leader for long."""

    def __init__(self, world: World, member: Process) -> None:
        """Begin with the first round."""
        self._world = world
        self._member = member
        self._since_us = int((1 + world.schedule.now) * 1e6)
        self._well_at: float | None = None
        self._round()

    def _round(self) -> None:
        world, member = self._world, self._member
        timeout = world.story.timeout
        if not member.raft.is_removed:
            member.after(PAUSE * timeout, "searches", self._round)
        now = world.schedule.now
        known = member.raft.configuration.get(member.name)
        if known and known.address == member.address and member.raft.leader_id is not None:
            self._well_at = now
            anchor = world.anchor()
            if member.node.misses_somebody and anchor not in (None, member):
                self._announce(anchor.address)
            return
        if self._well_at is not None and now - self._well_at < timeout:
            return
        for address in self._addresses():
            self._announce(address)
        leader, address, _ = member.node.leader()
        if leader is not None:
            self._join(address)

    def _addresses(self) -> list[str]:
        members = self._member.raft.configuration.members
        anchor = self._world.anchor()
        named = [anchor.address] if anchor is not None else []
        seen = map(self._member.node.sightings.address_of, members)
        everywhere = dict.fromkeys((*named, *seen, *(m.address for m in members)))
        return [address for address in everywhere if address != self._member.address]

    # --- announcements --------------------------------------------------------------------------

    def _announce(self, address: str) -> None:
        world, member = self._world, self._member
        target = world.process_at(address)
        if target is None:
            return
        told = [self._sighting(), *member.node.sightings.known(member.raft.configuration)]

        def arrive() -> None:
            if target.is_up:
                target.run(target.life, "hears", lambda: self._heard(target, told))

        world.network.send(member.name, target.name, "announce", arrive)

    def _sighting(self) -> Sighting:
        member = self._member
        return Sighting(member.name, member.address, 1, self._since_us)

    def _heard(self, target: Process, told: list[Sighting]) -> None:
        raft, sightings = target.raft, target.node.sightings
        if raft.is_removed:
            return
        is_removed = self._member.name in raft.committed_configuration.removed
        answer: list[Sighting] = []
        if not is_removed:
            for sighting in told:
                first_hand = sighting.id == self._member.name
                sightings.take(sighting, raft.configuration, first_hand=first_hand)
            if target.search is not None:
                answer = [target.search._sighting(), *sightings.known(raft.configuration)]
        leader = target.node.leader()[1]

        def back() -> None:
            member = self._member
            member.run(member.life, "answer", lambda: self._answered(is_removed, answer, leader))

        self._world.network.send(target.name, self._member.name, "heard", back)

    def _answered(self, is_removed: bool, answer: list[Sighting], leader: str) -> None:
        member = self._member
        if member.search is not self:
            return  # of a former life
        if is_removed:
            member.node.turn(lambda raft: raft.learn_removed(by="a member that was asked"))
            return
        for sighting in answer:
            known = member.raft.configuration
            if member.node.sightings.take(sighting, known, first_hand=False):
                self._world.see("sighted")
        if leader and leader != member.address:
            self._join(leader)

    # --- the leader -----------------------------------------------------------------------------

    def _join(self, address: str) -> None:
        world, member = self._world, self._member
        leader = world.process_at(address)
        if leader is None:
            return

        def arrive() -> None:
            if leader.is_up:
                leader.run(leader.life, "asked", lambda: self._take_in(leader))

        world.network.send(member.name, leader.name, "join", arrive)

    def _take_in(self, leader: Process) -> None:
        member = self._member
        known = leader.raft.configuration.get(member.name)
        if known is not None and known.address == member.address:
            return
        new = Member(member.name, member.address, voter=False, wants_vote=True, incarnation=1)
        change: Change = Relocate(member.name, member.address, 1) if known else AddLearner(new)
        try:
            leader.node.change_members(change, Waiter())
        except TinyraftError as error:
            self._world.see(type(error).__name__)
