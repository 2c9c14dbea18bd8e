"""The runner of the data files: a cluster of real cores, driven by one command a line.

Law: deterministic, and it prints *everything* that a command did: notices, changes of role, term
and vote, writes, what was held and what left, commits, what the module was given. So nothing
changes unseen. Messages stay on the network until they are delivered, dropped or duplicated.

A line of output starts with the member that did it:

    1 is leader term=2 vote=1 leader=1                 role, term, vote or known leader changed
    1 write mark=3 term=2 vote=1 cut=4 [4/2 noop]      went into the queue to the disk
    1 synced mark=3 durable=4                          and is on it
    2 held mark=5 -> 1 append_reply ...                waits for that mark
    1 -> 2 append ...                                  left for the network
    1 commit=4 / 1 applies 3/2:x                       commit index; what the module was given
    1 read x index=4                                   a read has its index, or is ``lost``
    1 note became_leader term=2                        a notice

Entries are ``index/term:command``, ``index/term noop`` or ``index/term config(1 2 ~3 ~+4)``: a
learner has a tilde, one that wants a vote a plus behind it, a removed id a minus. Members are
called by number. Disks sync at once unless told to hold. ``quietly`` before a command, and
``run``, print only what changed, not what was said. Timers are not random: member *n* draws
*n - 1* above the minimum.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tinyraft.core.configuration import (
    AddLearner,
    Change,
    Demote,
    Member,
    Promote,
    Relocate,
    Remove,
)
from tinyraft.core.effects import HardState, Held, InSnapshot, Mark, OnDisk, Synced, Write
from tinyraft.core.entry import Entry, EntryKind, Index, NodeId
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    InstallReply,
    InstallSnapshot,
    Reply,
)
from tinyraft.core.raft import Raft, Settings
from tinyraft.core.role import Role
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.terms import Terms
from tinyraft.errors import TinyraftError
from tinyraft.testing.script_text import (
    NAMES,
    REPLIES,
    WORD,
    Message,
    ScriptError,
    is_vote,
    read_entry,
    read_message,
    show_configuration,
    show_entries,
    show_entry,
    show_message,
    show_write,
)

CHANGE = re.compile(r"\w+ (note|is|members|commit|applies|restores|snapshot|read)\b")


class FixedTimer:
    """Chance without chance: always *above* the least possible value."""

    def __init__(self, above: int) -> None:
        """Keep *above*."""
        self._above = above

    def randint(self, low: int, high: int) -> int:
        """Draw, always the same."""
        return min(low + self._above, high)


class Machine:
    """One member: a core, a disk, and what is under way between them."""

    def __init__(self, name: NodeId, *, settings: Settings, print_: Callable[[str], None]) -> None:
        """Begin with an empty disk."""
        self.name = name
        self.disk: list[Entry] = []
        self.hard_state = HardState(0, None)
        self.base = (0, 0)  # of the log on disk
        self.snapshot: Snapshot | None = None  # the newest on disk
        self.holds = False  # the disk answers only when told
        self._settings = settings
        self._print = print_
        self.start()

    def start(self) -> None:
        """Start, or start anew, from what is on disk."""
        self.is_up = True
        self.queue: list[Write] = []
        self.held: list[tuple[Held[Reply], NodeId]] = []
        self.synced = Synced(0)
        self.applied: Index = 0
        self.resting: set[NodeId] = set()  # peers whose lane waits after a failed call
        self.busy: set[NodeId] = set()  # peers whose lanes are waiting for an answer
        self.raft = Raft(
            me=self.name,
            settings=self._settings,
            hard_state=HardState(self.hard_state.term, self.hard_state.voted_for),
            entries=list(self.disk),
            random=FixedTimer(int(self.name) - 1),
            terms=self._terms(),
            configurations=[e for e in self.disk if e.kind is EntryKind.CONFIGURATION],
            snapshot=self.snapshot,
        )
        self.raft.take()
        self._seen = self.standing()
        self._commit = self.raft.commit_index

    def _terms(self) -> Terms:
        terms = Terms(base_index=self.base[0], base_term=self.base[1])
        for entry in self.disk:
            terms.append(entry.term)
        return terms

    def standing(self) -> str:
        """Role, term, vote and known leader, as one line."""
        raft = self.raft
        vote, leader = raft.voted_for or "-", raft.leader_id or "-"
        return f"is {raft.role.value} term={raft.term} vote={vote} leader={leader}"

    def fetch(self) -> None:
        """Take what the last event left to be done, and print it."""
        effects = self.raft.take()
        for notice in effects.notices:
            facts = "".join(f" {k}={v}" for k, v in notice.facts.items())
            self._print(f"{self.name} note {notice.name}{facts}")
        if self.standing() != self._seen:
            self._seen = self.standing()
            self._print(f"{self.name} {self._seen}")
        if effects.write is not None:
            self.queue.append(effects.write)
            self._print(f"{self.name} write {show_write(effects.write)}")
        if effects.configuration is not None:
            self._print(f"{self.name} members {show_configuration(effects.configuration)}")
        if self.raft.commit_index != self._commit:
            self._commit = self.raft.commit_index
            self._print(f"{self.name} commit={self._commit}")
        for answer in effects.reads:
            found = "lost" if answer.index is None else f"index={answer.index}"
            self._print(f"{self.name} read {answer.read} {found}")
        if effects.commits:
            self.apply()

    def apply(self) -> None:
        """Give the module what is committed."""
        entries = self.raft.committed(self.applied, max_bytes=1 << 20)
        if isinstance(entries, InSnapshot):
            assert self.snapshot is not None, "the log is only cut off behind a snapshot"
            self.applied = self.snapshot.index
            self._print(f"{self.name} restores {self.applied}/{self.snapshot.term}")
            self.apply()
            return
        assert not isinstance(entries, OnDisk), "scripts keep their logs in memory"
        if entries:
            self.applied = entries[-1].index
            self._print(f"{self.name} applies {', '.join(map(show_entry, entries))}")

    def sync(self, writes: int) -> None:
        """Finish the oldest *writes*, with one sync."""
        if not self.queue[:writes]:
            return
        self.persist(writes)
        self.synced = Synced(self.last_mark)
        self.raft.synced(self.synced)
        durable = self.raft.log.durable_index
        self._print(f"{self.name} synced mark={self.synced} durable={durable}")

    def persist(self, writes: int) -> None:
        """Bring the oldest *writes* to the disk."""
        for write in self.queue[:writes]:
            if write.hard_state is not None:
                self.hard_state = write.hard_state
            if write.base is not None:
                self.base, self.disk = write.base, []
            if write.cut_from is not None:
                del self.disk[write.cut_from - 1 - self.base[0] :]
            self.disk.extend(write.entries)
            self.last_mark: Mark = write.mark
        del self.queue[:writes]


class Cluster:
    """Members, and the messages between them: each command of a script is one method."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.machines: dict[NodeId, Machine] = {}
        self.wire: dict[tuple[NodeId, NodeId], list[Message]] = {}
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.settings = Settings(election_ticks=10, heartbeat_ticks=2)
        self.lines: list[str] = []
        self.snapshots: list[Snapshot] = []  # all that were ever taken
        self._quiet = False

    def execute(self, line: str) -> str:
        """Run one command and return all that it printed."""
        self.lines = []
        if line.startswith("quietly "):
            self._quiet, line = True, line.removeprefix("quietly ")
        command, *words = WORD.findall(line)
        method = getattr(self, f"do_{command.replace('-', '_')}", None)
        if method is None:
            raise ScriptError(f"no such command: {line}")
        try:
            method(*words)
        except (TinyraftError, AssertionError) as error:
            self.print(f"{type(error).__name__}: {error}")
        self._quiet = False
        return "".join(f"{line}\n" for line in self.lines)

    def print(self, line: str) -> None:
        """Keep a line of output; in quiet commands only what changed, not what was said."""
        if not self._quiet or CHANGE.match(line):
            self.lines.append(line)

    # --- members ----------------------------------------------------------------------------

    def do_cluster(self, size: str, *words: str) -> None:
        """Found a cluster of *size*; ``leader=1`` elects it, other words change the settings."""
        self.machines, self.wire = {}, {}
        self.cuts.clear()
        given = dict(word.split("=") for word in words)
        leader = given.pop("leader", None)
        self.settings = Settings(
            **{"election_ticks": 10, "heartbeat_ticks": 2} | {k: int(v) for k, v in given.items()}
        )
        names = [str(n + 1) for n in range(int(size))]
        for name in names:
            self._add(name)
            self.do_log(name, f"1/1 config({' '.join(names)})")
        if leader is not None:
            self._quiet = True
            self.do_campaign(leader)
            self.do_settle()
            self.do_tick(leader, "2")
            self.do_settle()
            self.lines = []
            self.do_state()

    def _add(self, name: str) -> Machine:
        node = NodeId(name)
        machine = Machine(node, settings=self.settings, print_=self.print)
        self.machines[node] = machine
        return machine

    def do_log(self, name: str, *words: str) -> None:
        """Put entries on *name*'s disk, behind the configuration, and start it anew.

        A bare number is an entry of that term; ``term=`` and ``vote=`` are its hard state.
        """
        machine = self.machines[NodeId(name)]
        term, vote = 0, None
        if any("=" not in word for word in words):
            del machine.disk[1:]
        for word in words:
            if word.startswith("term="):
                term = int(word[5:])
            elif word.startswith("vote="):
                vote = NodeId(word[5:])
            elif word.isdecimal():
                index = len(machine.disk) + 1
                command = chr(ord("a") + int(word) - 1)  # alike wherever index and term are
                machine.disk.append(read_entry(f"{index}/{word}:{command}"))
            else:
                entry = read_entry(word)
                machine.disk[entry.index - 1 :] = [entry]
        machine.hard_state = HardState(max(term, machine.disk[-1].term), vote)
        machine.start()

    def do_empty(self, name: str) -> None:
        """Start a member that knows nothing."""
        self._add(name)

    def do_crash(self, name: str, keep: str = "0") -> None:
        """Stop *name*; of its unfinished writes only the first *keep* reached the disk."""
        machine = self.machines[NodeId(name)]
        machine.persist(int(keep))
        held, machine.held, machine.queue, machine.is_up = machine.held, [], [], False
        for reply, to in held:  # the call breaks
            self._lose(machine.name, to, reply.release(Synced(reply.after)))

    def do_restart(self, name: str) -> None:
        """Start *name* from its disk."""
        machine = self.machines[NodeId(name)]
        machine.start()
        self.print(f"{name} {machine.standing()}")
        self.print(f"{name} log {show_entries(machine.disk)}")
        self._pump(machine)

    # --- events -----------------------------------------------------------------------------

    def do_tick(self, name: str, count: str = "1") -> None:
        """Let *count* ticks pass for *name*, or for ``all``."""
        for _ in range(int(count)):
            for machine in self.machines.values():
                if machine.is_up and name in ("all", machine.name):
                    machine.resting.clear()
                    machine.raft.tick()
                    self._pump(machine)

    def do_oversleep(self, name: str, ticks: str, times: str = "1") -> None:
        """Let one tick come to *name* that is *ticks* late; the same again, *times* in all."""
        machine = self.machines[NodeId(name)]
        for _ in range(int(times)):
            machine.resting.clear()
            machine.raft.overslept(int(ticks))
            machine.raft.tick()
            self._pump(machine)

    def do_run(self, count: str) -> None:
        """Let *count* ticks pass for all, deliver everything between; prints only what changed."""
        self._quiet = True
        for _ in range(int(count)):
            self.do_tick("all")
            self.do_settle()

    def do_campaign(self, name: str) -> None:
        """Let time pass for *name* alone until it campaigns."""
        machine = self.machines[NodeId(name)]
        before = (machine.raft.term, machine.raft.role)
        for _ in range(20 * self.settings.election_ticks):
            self.do_tick(name)
            role = machine.raft.role
            if role is not Role.FOLLOWER and (machine.raft.term, role) != before:
                return
        raise ScriptError(f"{name} does not campaign")

    def do_elect(self, name: str) -> None:
        """Let *name* campaign and deliver what concerns votes; all else stays under way."""
        self.do_campaign(name)
        while links := [
            link for link, messages in sorted(self.wire.items()) if any(map(is_vote, messages))
        ]:
            for source, target in links:
                messages = self.wire[source, target]
                votes = [message for message in messages if is_vote(message)]
                messages[:] = [message for message in messages if not is_vote(message)]
                for vote in votes:
                    self._receive(source, target, vote)

    def do_step(self, name: str, sender: str, *words: str) -> None:
        """Hand *name* a message that nobody sent: ``step 2 from=1 append term=1 prev=1/1``."""
        self._receive(NodeId(sender.removeprefix("from=")), NodeId(name), read_message(words))

    def do_propose(self, name: str, *commands: str) -> None:
        """Propose *commands* to *name*."""
        machine = self.machines[NodeId(name)]
        machine.raft.propose([command.encode() for command in commands], time_us=0)
        self._pump(machine)

    def do_read(self, name: str, *reads: str) -> None:
        """Begin linearizable *reads* at *name*."""
        machine = self.machines[NodeId(name)]
        for read in reads:
            machine.raft.read(read)
        self._pump(machine)

    def do_full(self, name: str) -> None:
        """The disk of *name* is nearly full."""
        self._heed(name, is_full=True)

    def do_room(self, name: str) -> None:
        """The disk of *name* has room again."""
        self._heed(name, is_full=False)

    def _heed(self, name: str, *, is_full: bool) -> None:
        machine = self.machines[NodeId(name)]
        machine.raft.disk_is_full(is_full)
        self._pump(machine)

    def do_transfer(self, name: str, to: str | None = None) -> None:
        """Ask *name* to hand leadership to *to*."""
        machine = self.machines[NodeId(name)]
        machine.raft.transfer(NodeId(to) if to else None)
        self._pump(machine)

    def do_reluctant(self, name: str) -> None:
        """Tell *name* that its module failed."""
        machine = self.machines[NodeId(name)]
        machine.raft.become_reluctant()
        self._pump(machine)

    def do_peer_lost(self, name: str, peer: str, term: str | None = None) -> None:
        """Tell *name* that *peer*'s process ended, in its present term or in *term*."""
        machine = self.machines[NodeId(name)]
        machine.raft.peer_lost(NodeId(peer), term=int(term or machine.raft.term))
        self._pump(machine)

    def do_unreachable(self, name: str, peer: str) -> None:
        """Tell *name* that an append to *peer* was not answered."""
        machine = self.machines[NodeId(name)]
        machine.raft.unreachable(NodeId(peer))
        self._pump(machine)

    def do_join(self, name: str, new: str, *words: str) -> None:
        """Ask *name* to take *new* in as a learner; ``wants_vote``."""
        member = Member(NodeId(new), f"host{new}", False, "wants_vote" in words)
        self._change(name, AddLearner(member), *words)

    def do_promote(self, name: str, learner: str, *words: str) -> None:
        """Ask *name* to give *learner* its vote; ``expect=7``, here and in what follows."""
        self._change(name, Promote(NodeId(learner)), *words)

    def do_demote(self, name: str, voter: str, *words: str) -> None:
        """Ask *name* to take *voter*'s vote away."""
        self._change(name, Demote(NodeId(voter)), *words)

    def do_remove(self, name: str, node: str, *words: str) -> None:
        """Ask *name* to take *node* out."""
        self._change(name, Remove(NodeId(node)), *words)

    def do_removed(self, name: str, by: str) -> None:
        """Tell *name*, in the name of *by*, that it was removed."""
        machine = self.machines[NodeId(name)]
        machine.raft.learn_removed(by=NodeId(by))
        self._pump(machine)

    def do_relocate(self, name: str, node: str, address: str) -> None:
        """Ask *name* to dial *node* elsewhere."""
        self._change(name, Relocate(NodeId(node), address))

    def _change(self, name: str, change: Change, *words: str) -> None:
        machine = self.machines[NodeId(name)]
        expect = next((int(w[7:]) for w in words if w.startswith("expect=")), None)
        if machine.raft.change_members(change, expect=expect) is None:
            self.print(f"{name} note unchanged")
        if isinstance(change, AddLearner) and change.member.id not in self.machines:
            self._add(change.member.id)
        self._pump(machine)

    # --- the disk ---------------------------------------------------------------------------

    def do_hold(self, *names: str) -> None:
        """From now on the disks of *names* answer only when told."""
        for name in names:
            self.machines[NodeId(name)].holds = True

    def do_sync(self, name: str, writes: str = "1000000") -> None:
        """Finish the oldest *writes* of *name*, or all."""
        machine = self.machines[NodeId(name)]
        machine.sync(int(writes))
        self._pump(machine)

    def do_release(self, name: str) -> None:
        """Let the disk of *name* work by itself again."""
        machine = self.machines[NodeId(name)]
        machine.holds = False
        self._pump(machine)

    # --- the network ------------------------------------------------------------------------

    def do_deliver(self, link: str, which: str = "1") -> None:
        """Deliver of *link* (``1->2``) the first message, the n-th, the first so named or all."""
        source, target = self._ends(link)
        for message in self._taken(link, which):
            self._receive(source, target, message)

    def do_drop(self, link: str, which: str = "1") -> None:
        """Lose messages, named as in `deliver`."""
        source, target = self._ends(link)
        for message in self._taken(link, which):
            self._lose(source, target, message)
            self._pump(self.machines[source])
            self._pump(self.machines[target])

    def _taken(self, link: str, which: str) -> list[Message]:
        messages = self.wire.get(self._ends(link), [])
        if which == "all":
            taken = messages[:]
            messages.clear()
            return taken
        for at, message in enumerate(messages, 1):
            if which in (str(at), NAMES[type(message)]):
                return [messages.pop(at - 1)]
        raise ScriptError(f"nothing like {which} is under way on {link}: {messages}")

    def do_duplicate(self, link: str) -> None:
        """Put a copy of the first message of *link* behind the others."""
        messages = self.wire[self._ends(link)]
        messages.append(messages[0])

    def do_partition(self, *words: str) -> None:
        """Part the members: ``partition 1 2 | 3``."""
        sides = [side.split() for side in " ".join(words).split("|")]
        for side in sides:
            for other in sides:
                if side is not other:
                    self.cuts |= {(NodeId(a), NodeId(b)) for a in side for b in other}

    def do_cut(self, *links: str) -> None:
        """Let nothing through from now on, in the direction of each link."""
        self.cuts |= {self._ends(link) for link in links}

    def do_heal(self) -> None:
        """Let everything through again."""
        self.cuts.clear()

    def do_busy(self, link: str) -> None:
        """Send nothing on *link* for a while: its lanes wait for an answer."""
        source, target = self._ends(link)
        self.machines[source].busy.add(target)

    def do_idle(self, link: str) -> None:
        """The lanes of *link* are free again."""
        source, target = self._ends(link)
        self.machines[source].busy.discard(target)
        self._pump(self.machines[source])

    def do_settle(self) -> None:
        """Deliver everything, and what follows from it, until nothing is under way."""
        for _ in range(1000):
            links = [link for link, messages in sorted(self.wire.items()) if messages]
            if not links:
                return
            for source, target in links:
                self.do_deliver(f"{source}->{target}", "all")
        raise ScriptError("messages without end")

    def _ends(self, link: str) -> tuple[NodeId, NodeId]:
        source, _, target = link.partition("->")
        return NodeId(source), NodeId(target)

    def _receive(self, source: NodeId, target: NodeId, message: Message) -> None:
        machine = self.machines.get(target)
        if machine is None or not machine.is_up or (source, target) in self.cuts:
            self.print(f"{target} misses {show_message(message)} from {source}")
            self._lose(source, target, message)
            return
        self.print(f"{target} <- {source} {show_message(message)}")
        if isinstance(message, REPLIES):
            if isinstance(message, InstallReply):
                machine.resting.discard(source)
            machine.raft.answer(message, sender=source)
        elif isinstance(message, InstallSnapshot):
            self._install(machine, source, message)
        else:
            self._reply(machine, source, machine.raft.step(message, sender=source))
        self._pump(machine)

    def _install(self, machine: Machine, source: NodeId, message: InstallSnapshot) -> None:
        """Take a snapshot that comes in one piece, and is on disk at once."""
        reply = machine.raft.step_install(message, source)
        if reply is None:
            place = (message.index, message.snapshot_term)
            snapshot = next(s for s in self.snapshots if (s.index, s.term) == place)
            newest = machine.snapshot
            if newest is None or newest.index < snapshot.index:
                machine.snapshot = snapshot
            reply = machine.raft.install(snapshot, term=message.term, sender=source)
        self._reply(machine, source, reply)

    def _reply(self, machine: Machine, to: NodeId, reply: Held[Reply] | Reply) -> None:
        machine.fetch()
        if not isinstance(reply, Held):
            self._send(machine, to, reply)
        else:
            machine.held.append((reply, to))
            if reply.after > machine.synced:
                value = show_message(reply.release(Synced(reply.after)))
                self.print(f"{machine.name} held mark={reply.after} -> {to} {value}")

    def _lose(self, source: NodeId, target: NodeId, message: Message) -> None:
        """A lost append, or a lost reply to one, is a failed call: the lane rests for a tick."""
        sender = {AppendEntries: source, AppendReply: target}.get(type(message))
        if sender is not None and self.machines[sender].is_up:
            machine, peer = self.machines[sender], target if sender == source else source
            machine.resting.add(peer)
            machine.raft.unreachable(peer)

    def _send(self, machine: Machine, to: NodeId, message: Message) -> None:
        self.print(f"{machine.name} -> {to} {show_message(message)}")
        self.wire.setdefault((machine.name, to), []).append(message)

    def _pump(self, machine: Machine) -> None:
        """Do all that *machine* has to do by itself."""
        while True:
            machine.fetch()
            self._release(machine)
            if self._send_requests(machine):
                continue
            if not machine.queue or machine.holds:
                return
            machine.sync(len(machine.queue))

    def _release(self, machine: Machine) -> None:
        """Let go what was held long enough."""
        waiting, machine.held = machine.held, []
        for held, to in waiting:
            if held.after <= machine.synced:
                self._send(machine, to, held.release(machine.synced))
            else:
                machine.held.append((held, to))

    def _send_requests(self, machine: Machine) -> bool:
        """Send what the lanes would pull now; tell whether that was anything."""
        sent = False
        for peer in sorted(self.machines.keys() - machine.busy - {machine.name}):
            while (request := machine.raft.next_control(peer)) is not None:
                self._send(machine, peer, request)
                sent = True
            if peer in machine.resting:
                continue
            while (append := machine.raft.next_append(peer, max_bytes=1 << 20)) is not None:
                assert not isinstance(append, OnDisk), "scripts keep their logs in memory"
                sent = True
                if isinstance(append, InSnapshot):
                    self._send(machine, peer, self._snapshot_of(machine))
                    machine.resting.add(peer)  # the lane waits for the answer
                    break
                self._send(machine, peer, append)
        return sent

    # --- snapshots --------------------------------------------------------------------------

    def _snapshot_of(self, machine: Machine) -> InstallSnapshot:
        snapshot = machine.snapshot
        assert snapshot is not None, "the log is only cut off behind a snapshot"
        term = machine.raft.term
        return InstallSnapshot(term, 1, snapshot.index, snapshot.term, 1, 0, b"")

    def do_snapshot(self, name: str) -> None:
        """Take a snapshot of what *name* has applied."""
        machine = self.machines[NodeId(name)]
        snapshot = machine.raft.snapshot_at(machine.applied)
        assert snapshot is not None, "what was applied is committed"
        machine.snapshot = snapshot
        self.snapshots.append(snapshot)
        machine.raft.snapshot_taken(snapshot.index)
        members = show_configuration(snapshot.configuration)
        self.print(f"{name} snapshot {snapshot.index}/{snapshot.term} config({members})")
        self._pump(machine)

    def do_compact(self, name: str, index: str) -> None:
        """Let *name* forget its log up to *index*."""
        machine = self.machines[NodeId(name)]
        base = machine.raft.compacted(int(index))
        gone = base - machine.base[0]
        if gone > 0:
            machine.base = (base, machine.raft.log.term_at(base))
            del machine.disk[:gone]
        self.print(f"{name} base {base}/{machine.raft.log.term_at(base)}")

    # --- looking ----------------------------------------------------------------------------

    def do_state(self) -> None:
        """Tell how everybody stands."""
        for machine in self.machines.values():
            raft, down = machine.raft, "" if machine.is_up else " (down)"
            self.lines.append(
                f"{machine.name} {machine.standing()} commit={raft.commit_index}"
                f" last={raft.log.last_index}/{raft.log.last_term}"
                f" durable={raft.log.durable_index}{down}"
            )

    def do_raft_log(self, *names: str) -> None:
        """Print the log of *names*, or of all."""
        for name in names or sorted(self.machines):
            log = self.machines[NodeId(name)].raft.log
            entries = log.between(log.base_index, log.last_index, max_bytes=1 << 30)
            base = f"{log.base_index}/{log.term_at(log.base_index)} " if log.base_index else ""
            self.lines.append(f"{name} log {base}{show_entries(entries)}")

    def do_progress(self, name: str) -> None:
        """Print what the leader *name* knows of its peers."""
        leadership = self.machines[NodeId(name)].raft.leadership
        if leadership is None:
            raise ScriptError(f"{name} does not lead")
        for peer, p in sorted(leadership.progress.items()):
            self.lines.append(
                f"{name} knows {peer} match={p.match_index} next={p.next_index}"
                f" in_flight={p.in_flight or '-'}{' probing' if p.is_probing else ''}"
            )

    def do_wire(self) -> None:
        """Print what is under way."""
        for (source, target), messages in sorted(self.wire.items()):
            for at, message in enumerate(messages, 1):
                self.lines.append(f"{source}->{target} #{at} {show_message(message)}")


def run_script(text: str) -> str:
    """Run every command of a data file and return the file as it should read.

    A paragraph is comments, then commands, then ``----`` and what they printed.
    """
    cluster = Cluster()
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.partition("\n----")[0].splitlines()
        printed = [cluster.execute(line) for line in lines if not line.startswith("#")]
        if printed:
            lines += ["----", *("".join(printed) or "ok\n").splitlines()]
        paragraphs.append("\n".join(lines) + "\n")
    return "\n".join(paragraphs)
