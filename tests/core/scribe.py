"""A story of the explorer as a script that `tinyraft.testing.script` runs.

What a script has no word for is said otherwise: a timeout is an order to take over (nobody needs to
wait, and no disk stalls meanwhile), a wish for a vote is one on such an order (no lease refuses
it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.core.process import failed_call
from tinyraft.core.messages import RequestVote
from tinyraft.core.role import Role
from tinyraft.testing.script import Cluster
from tinyraft.testing.script_text import show_message


class Scribe:
    """Writes events as commands, and runs these along."""

    def __init__(self, names: Sequence[str], messages: Sequence) -> None:
        self.names = names
        self.messages = messages
        self.lines: list[str] = []
        self.cluster = Cluster()
        self.write(f"cluster {len(names)}")
        self.write(f"hold {' '.join(names)}")

    def write(self, line: str) -> None:
        """Add a command."""
        self.lines.append(line)
        self.cluster.execute(line)

    def event(self, kind: str, number: int) -> None:
        """Add what says *kind* in a script."""
        if kind in ("deliver", "deliver_a_copy"):
            self.deliver(*self.messages[number])
        elif kind == "lose":
            self.write("unreachable {} {}".format(*failed_call(*self.messages[number])))
        else:
            self.to_member(kind, self.names[number])

    def deliver(self, source: str, target: str, message: object) -> None:
        """Hand a message over; a wish for a vote so that no lease is in its way."""
        follows = self.cluster.machines[target].raft.role is not Role.LEADER
        if isinstance(message, RequestVote) and follows:
            message = replace(message, transfer=True)
        self.write(f"step {target} from={source} {show_message(message)}")

    def to_member(self, kind: str, name: str) -> None:
        """Let something happen to one member."""
        raft = self.cluster.machines[name].raft
        if kind == "timeout":
            friend = next(other for other in self.names if other != name)
            self.write(f"step {name} from={friend} timeout_now term={raft.term}")
        elif kind == "step_down":
            while raft.role is Role.LEADER:
                self.write(f"tick {name} 10")
        elif kind == "crash":
            self.write(f"crash {name}")
            self.write(f"restart {name}")
        else:
            command = {"sync": "sync {} 1", "propose": "propose {} x", "beat": "tick {} 2"}[kind]
            self.write(command.format(name))


def script(story: Sequence[tuple], *, names: Sequence[str], messages: Sequence) -> str:
    """Tell a story of events."""
    scribe = Scribe(names, messages)
    for kind, number in story:
        scribe.event(kind, number)
    return "\n".join(scribe.lines) + "\n"
