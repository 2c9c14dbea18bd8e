"""One member of a simulated cluster: a core, a disk, and what is under way between them."""

from __future__ import annotations

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Held, Synced, Write
from tinyraft.core.election import Random
from tinyraft.core.entry import Entry, EntryKind, make_entry
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    HeartbeatReply,
    PreVoteReply,
    TimeoutNowReply,
    VoteReply,
)
from tinyraft.core.raft import Raft, Settings

REPLIES = (AppendReply, HeartbeatReply, PreVoteReply, TimeoutNowReply, VoteReply)


class Process:
    """One member at work, and its disk."""

    def __init__(self, name: str, *, settings: Settings, random: Random) -> None:
        self.name = name
        self.settings = settings
        self.random = random
        self.disk: list[Entry] = []
        self.hard = HardState(0, None)
        self.start()

    def start(self) -> None:
        """Start, or start anew, from what is on the disk."""
        self.up = True
        self.queue: list[Write] = []
        self.held: list[tuple[Held, str]] = []
        self.synced = Synced(0)
        self.applied = 0
        self.commit = 0
        self.checked = self.checked_disk = None  # what the rules have seen
        self.raft = Raft(
            me=self.name,
            settings=self.settings,
            hard_state=HardState(self.hard.term, self.hard.voted_for),
            entries=list(self.disk),
            random=self.random,
        )

    def log(self) -> list[Entry]:
        """Return the log in memory."""
        log = self.raft.log
        return log.between(0, log.last_index, max_bytes=1 << 40)

    def step(self, message, *, sender: str) -> None:
        """Take a message; what is to be answered is kept until it may leave."""
        if isinstance(message, REPLIES):
            self.raft.answer(message, sender=sender)
            return
        reply = self.raft.step(message, sender=sender)
        held = reply if isinstance(reply, Held) else Held(reply, after=0)
        self.held.append((held, sender))

    def persist(self, count: int, *, rules) -> int:
        """Bring the oldest *count* writes to the disk; return the mark of the last."""
        for write in self.queue[:count]:
            if write.hard_state is not None:
                rules.check_hard_state(self, write.hard_state)
                self.hard = write.hard_state
            if write.cut_from is not None:
                del self.disk[write.cut_from - 1 :]
            self.disk.extend(write.entries)
            mark = write.mark
        del self.queue[:count]
        return mark

    def sync(self, count: int, *, rules) -> None:
        """Finish the oldest *count* writes with one sync."""
        self.synced = Synced(self.persist(count, rules=rules))
        self.raft.synced(self.synced)

    def released(self) -> list[tuple[object, str]]:
        """Return what was held long enough, with its receivers."""
        free = [(held, to) for held, to in self.held if held.after <= self.synced]
        self.held = [(held, to) for held, to in self.held if held.after > self.synced]
        return [(held.release(self.synced), to) for held, to in free]

    def crash(self, keep: int, *, rules) -> None:
        """End; of the unfinished writes only the first *keep* reached the disk."""
        if keep:
            self.persist(keep, rules=rules)
        self.up, self.queue, self.held = False, [], []


def found(members: list[Process]) -> None:
    """Let *members* be a cluster from the first entry on."""
    names = sorted(member.name for member in members)
    configuration = Configuration(tuple(Member(name, name, True) for name in names))
    first = make_entry(
        index=1, term=1, kind=EntryKind.CONFIGURATION, command=configuration.encode()
    )
    for member in members:
        member.disk, member.hard = [first], HardState(1, None)
        member.start()


def failed_call(source: str, target: str, message) -> tuple[str, str] | None:
    """Tell whose append fails when *message* is lost, and to whom it was."""
    ends = {AppendEntries: (source, target), AppendReply: (target, source)}
    return ends.get(type(message))
