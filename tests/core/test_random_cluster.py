"""Real cores in one process under a hostile network and forgetful disks, from a seed.

What is drawn: loss, duplication, delay and reordering, one-way cuts, crashes that keep any prefix
of the unsynced writes, slow syncs, new members, transfers, lost peers. After every event the rules
of figure 3.2 are checked from outside, against what is really on the disks; at the end everything
is healed, and the cluster must get on within bounded time.

``TINYRAFT_SEEDS=5000`` runs that many, ``TINYRAFT_SEEDS=700:701`` runs one again.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import pytest

from tests.core.process import Process, failed_call, found
from tests.core.rules import Rules
from tinyraft.core.configuration import AddLearner, Member
from tinyraft.core.effects import Synced
from tinyraft.core.raft import Settings
from tinyraft.core.role import Role
from tinyraft.errors import TinyraftError

SETTINGS = Settings(election_ticks=10, heartbeat_ticks=2, max_pending_commands=20)
EVENTS = 2000
MAX_MEMBERS = 6


class World:
    def __init__(self, seed):
        self.random = random = Random(seed)
        self.seen = Counter()
        self.wire: list[tuple[str, str, object]] = []
        self.cuts: set[tuple[str, str]] = set()
        self.commands = 0
        # Swarm: each fault is off in about half of the seeds, else of any strength.
        self.loss, self.twice, self.slow_disk, self.lazy = (
            random.choice((0.0, random.random() ** 2 * most)) for most in (0.4, 0.5, 1.0, 0.8)
        )
        self.rates = {
            kind: random.choice((0.0, weight * random.random() * 2))
            for kind, weight in RARE.items()
        }
        names = [f"n{at}" for at in range(random.choice((1, 2, 3, 3, 3, 4, 5)))]
        self.members = {name: self.process(name) for name in names}
        found([*self.members.values()])
        self.rules = Rules(self.members)

    def process(self, name):
        return Process(name, settings=SETTINGS, random=self.random)

    # --- what happens -----------------------------------------------------------------------

    def run(self):
        kinds = [*COMMON, *self.rates]
        weights = [*COMMON.values(), *self.rates.values()]
        for kind in self.random.choices(kinds, weights, k=EVENTS):
            getattr(self, kind)()
        self.heal_and_progress()

    def any_up(self):
        up = [member for member in self.members.values() if member.up]
        return self.random.choice(up) if up else None

    def any_leader(self):
        leaders = [m for m in self.members.values() if m.up and m.raft.role is Role.LEADER]
        return self.random.choice(leaders) if leaders else None

    def tick(self):
        if member := self.any_up():
            member.raft.tick()
            self.after(member)

    def deliver(self):
        if not self.wire:
            return
        at = 0 if self.random.random() < 0.6 else self.random.randrange(len(self.wire))
        source, target, message = self.wire.pop(at)
        if self.random.random() < self.twice:
            self.wire.append((source, target, message))
        if self.random.random() < self.loss or (source, target) in self.cuts:
            self.lose(source, target, message)
        else:
            self.receive(source, target, message)

    def receive(self, source, target, message):
        member = self.members[target]
        if not member.up:
            self.lose(source, target, message)
            return
        member.step(message, sender=source)
        self.after(member)

    def lose(self, source, target, message):
        ends = failed_call(source, target, message)
        if ends and self.members[ends[0]].up:
            self.members[ends[0]].raft.unreachable(ends[1])

    def after(self, member):
        effects = member.raft.take()
        for notice in effects.notices:
            self.seen[notice.name] += 1
        if effects.write is not None:
            member.queue.append(effects.write)
        if member.queue and self.random.random() >= self.slow_disk:
            self.sync_some(member, len(member.queue))
        self.release(member)
        if self.random.random() >= self.lazy:
            self.pull(member)
        self.rules.check(member)

    def sync(self):
        member = self.any_up()
        if member and member.queue:
            self.sync_some(member, self.random.randint(1, len(member.queue)))
            self.after(member)

    def sync_some(self, member, count):
        member.sync(count, rules=self.rules)
        effects = member.raft.take()
        if effects.write is not None:
            member.queue.append(effects.write)
        for notice in effects.notices:
            self.seen[notice.name] += 1

    def release(self, member):
        for message, to in member.released():
            self.send(member, to, message)

    def pull(self, member):
        for peer in self.members:
            if peer == member.name:
                continue
            if (request := member.raft.next_control(peer)) is not None:
                self.send(member, peer, request)
            append = member.raft.next_append(peer, max_bytes=self.random.choice((1, 200, 10**6)))
            if append is not None:
                self.send(member, peer, append)

    def send(self, member, to, message):
        self.rules.check_promise(member, to, message)
        if len(self.wire) < 200:
            self.wire.append((member.name, to, message))
        else:
            self.lose(member.name, to, message)

    def propose(self):
        if leader := self.any_leader():
            commands = [b"%d" % (self.commands + n) for n in range(self.random.choice((1, 1, 5)))]
            self.commands += len(commands)
            self.ask(leader, lambda: leader.raft.propose(commands, time_us=0))

    def transfer(self):
        if leader := self.any_leader():
            self.ask(leader, leader.raft.transfer)

    def join(self):
        leader = self.any_leader()
        if leader and len(self.members) < MAX_MEMBERS:
            name = f"n{len(self.members)}"
            new = Member(name, name, False, wants_vote=self.random.random() < 0.8)
            if self.ask(leader, lambda: leader.raft.change_members(AddLearner(new))):
                self.members[name] = self.process(name)
                self.seen["joined"] += 1

    def ask(self, member, question):
        try:
            question()
        except TinyraftError as error:
            self.seen[type(error).__name__] += 1
            return False
        self.after(member)
        return True

    def peer_lost(self):
        member = self.any_up()
        if member and member.raft.leader_id:
            member.raft.peer_lost(member.raft.leader_id, term=member.raft.term)
            self.after(member)

    def crash(self):
        member = self.any_up()
        busy = [m for m in self.members.values() if m.up and m.queue]
        if busy and self.random.random() < 0.5:
            member = self.random.choice(busy)  # on purpose: with something to lose
        elif self.random.random() < 0.5:
            member = self.any_leader() or member
        if member:
            self.seen["crash_unsynced"] += bool(member.queue)
            held = member.held
            member.crash(self.random.randint(0, len(member.queue)), rules=self.rules)
            for reply, to in held:  # the call breaks, and the caller's lane sees that
                self.lose(member.name, to, reply.release(Synced(reply.after)))
            self.rules.check_match()

    def restart(self):
        down = [member for member in self.members.values() if not member.up]
        if down:
            member = self.random.choice(down)
            member.start()
            self.after(member)

    def cut(self):
        for _ in range(self.random.randint(1, 4)):
            self.cuts.add(
                (self.random.choice([*self.members]), self.random.choice([*self.members]))
            )

    def isolate(self):
        leader = self.any_leader()  # on purpose: its log goes on alone
        alone = leader.name if leader else self.random.choice([*self.members])
        for other in self.members:
            self.cuts |= {(alone, other), (other, alone)}

    def heal(self):
        self.cuts.clear()

    def heal_and_progress(self):
        self.cuts.clear()
        self.loss = self.twice = self.slow_disk = self.lazy = 0.0
        for member in self.members.values():
            if not member.up:
                member.start()
            if member.queue:
                self.sync_some(member, len(member.queue))
            self.after(member)
        target = None
        for _ in range(20 * SETTINGS.election_ticks):
            for member in self.members.values():
                member.raft.tick()
                self.after(member)
            for _ in range(500):
                if self.wire:
                    self.receive(*self.wire.pop(0))
            leader = self.any_leader()
            if leader and target not in self.rules.committed:
                self.propose()
                target = leader.log()[-1]
            if leader and target in self.rules.committed and self.all_applied(leader):
                return
        raise AssertionError("no progress after healing (I22)")

    def all_applied(self, leader):
        members = [self.members[member.id] for member in leader.raft.configuration.members]
        return {len(self.rules.committed)} == {member.applied for member in members}


COMMON = {"tick": 30, "deliver": 40, "propose": 6, "sync": 5, "restart": 1, "heal": 1}
RARE = {
    "crash": 1.0,
    "cut": 0.5,
    "isolate": 1.0,
    "transfer": 1.0,
    "join": 0.6,
    "peer_lost": 2.0,
}
# A test must prove that it tested: at least so often in 200 seeds.
LEAST = {
    "became_leader": 400,
    "stepped_down": 30,
    "log_cut": 30,
    "transfer_begun": 50,
    "transfer_failed": 10,
    "leader_lost": 50,
    "members_change": 50,
    "joined": 30,
    "crash_unsynced": 20,
    "Overloaded": 20,
    "ChangeInProgress": 20,
}


def seeds():
    first, _, last = os.environ.get("TINYRAFT_SEEDS", "200").rpartition(":")
    return range(int(first or 0), int(last))


@pytest.mark.timeout(0 if len(seeds()) > 200 else 60)
def test_seeds():
    """Whatever is lost, late, twice, cut off or forgotten: no rule breaks, and it gets on after."""
    seen = Counter()
    for seed in seeds():
        world = World(seed)
        try:
            world.run()
        except Exception as error:
            error.add_note(f"seed {seed}; again with TINYRAFT_SEEDS={seed}:{seed + 1}")
            raise
        seen += world.seen
    if len(seeds()) >= 200:
        assert {} == {name: seen[name] for name, least in LEAST.items() if seen[name] < least}
