"""The hammer's blows: leaders are killed and started again, paused and let go on.

Law: chance decides when, by a seed that can be given again; and nobody stays paused, whatever
happens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic

from tinyraft.cli.cluster import UP_SECONDS, find_leader, restart, tails, wait_until_up
from tinyraft.cli.exits import Fault
from tinyraft.cli.gaps import Gaps
from tinyraft.cli.processes import NodeProcess
from tinyraft.cli.report import Talk

KILL, PAUSE = "kill", "pause"

# Shares of the time between two kills: when it happens, and how long it lasts. A pause is shorter
# or longer than the nodes' election timeout (0.5 s), so that some leaders wake up still in office.
PHASES = {KILL: (0.2, 0.4), PAUSE: (0.65, 0.8)}
RESTS = {KILL: (0.0, 0.1), PAUSE: (0.05, 0.4)}


@dataclass(slots=True, frozen=True)
class Blow:
    """Something that happens to the leader; the times are seconds."""

    at: float  # since the start
    kind: str
    rest: float  # how long it stays down, or frozen


def plan(random: Random, *, seconds: float, every: float) -> Iterator[Blow]:
    """Draw the blows of a run that lasts *seconds*: a kill each *every* seconds, pauses between."""
    begin = 0.0
    while begin < seconds:
        for kind, phase in PHASES.items():
            blow = Blow(
                at=begin + every * random.uniform(*phase),
                kind=kind,
                rest=every * random.uniform(*RESTS[kind]),
            )
            if blow.at < seconds:
                yield blow
        begin += every


class Chaos:
    """Strikes whoever leads, one blow at a time."""

    def __init__(self, nodes: Sequence[NodeProcess], gaps: Gaps, talk: Talk) -> None:
        """Nothing happens yet."""
        self.counts: Counter[str] = Counter({KILL: 0, PAUSE: 0})
        self._nodes = nodes
        self._gaps = gaps
        self._talk = talk

    def run(self, blows: Iterator[Blow], *, began: float, until: float) -> None:
        """Deal the *blows*, each when it is due and the one before is over; return at *until*."""
        for blow in blows:
            time.sleep(max(0.0, began + blow.at - monotonic()))
            if monotonic() >= until:
                return  # the machine was slow
            leader = find_leader(self._nodes, deadline=monotonic() + UP_SECONDS)
            if leader is None:
                raise Fault(f"nobody has led for {UP_SECONDS:.0f} s\n{tails(self._nodes)}")
            self.counts[blow.kind] += 1
            (self._kill if blow.kind == KILL else self._pause)(leader, blow.rest)
        time.sleep(max(0.0, until - monotonic()))

    def _kill(self, leader: NodeProcess, rest: float) -> None:
        began = monotonic()
        leader.kill()
        self._gaps.struck(KILL, began=began, done=monotonic())
        time.sleep(rest)
        restart(leader, self._nodes, deadline=monotonic() + UP_SECONDS)
        self._talk.say(f"killed {leader.name}, the leader; back after {monotonic() - began:.1f} s")

    def _pause(self, leader: NodeProcess, rest: float) -> None:
        began = monotonic()
        try:
            leader.pause()
            self._gaps.struck(PAUSE, began=began, done=monotonic())
            time.sleep(rest)
        finally:
            leader.resume()
        wait_until_up(self._nodes, deadline=monotonic() + UP_SECONDS)
        self._talk.say(f"paused {leader.name}, the leader, for {rest:.1f} s")
