"""What an event of the explorer does to one member, and what the member sends then."""

from __future__ import annotations

from typing import TypeAlias

from tests.core.process import Process
from tests.core.rules import Rules
from tinyraft.core.messages import PreVoteReply
from tinyraft.core.raft import Settings

NAMES = ("1", "2", "3")
# Time passes by hand: heartbeats are an event of their own, a disk never stalls.
SETTINGS = Settings(election_ticks=10, heartbeat_ticks=1_000_000)
Action: TypeAlias = tuple  # what happens, and what it needs


class Least:
    """Chance without chance."""

    def randint(self, low: int, high: int) -> int:
        """Draw the least."""
        return low


def act(process: Process, action: Action, messages: list, rules: Rules) -> None:
    """Do what an event does to one member."""
    raft = process.raft
    match action:
        case ("sync",):
            process.sync(1, rules=rules)
        case ("timeout",):
            raft.tick()
            friend = next(name for name in NAMES if name != process.name)
            raft.answer(PreVoteReply(raft.term + 1, granted=True), sender=friend)
        case ("step_down",):
            raft.leadership.looked_at -= SETTINGS.election_ticks
            for progress in raft.leadership.progress.values():
                progress.active = False
            raft.tick()
        case ("propose", command):
            raft.propose([command], time_us=0)
        case ("beat",):
            raft.leadership.beat()
        case ("crash",):
            process.crash(0, rules=rules)
            process.start()
        case ("unreachable", peer):
            raft.unreachable(peer)
        case ("receive", number):
            source, _, message = messages[number]
            process.step(message, sender=source)


def all_sent(process: Process, rules: Rules) -> list[tuple[str, object]]:
    """Put the next write into the queue, and return all that may leave."""
    effects = process.raft.take()
    if effects.write is not None:
        process.queue.append(effects.write)
    sent = [(to, message) for message, to in process.released()]
    for peer in NAMES:
        while (request := process.raft.next_control(peer)) is not None:
            sent.append((peer, request))
        while (append := process.raft.next_append(peer, max_bytes=1 << 20)) is not None:
            sent.append((peer, append))
    for to, message in sent:
        rules.check_promise(process, to, message)
    return sent


def time_is_up(process: Process) -> None:
    """Let no lease hold, and the next tick be a timeout."""
    timer = process.raft.timer
    timer.elapsed, timer.timeout = SETTINGS.election_ticks, SETTINGS.election_ticks + 1
