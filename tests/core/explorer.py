"""All that can happen to three real cores within small bounds, breadth first.

What makes it fast: the core is a pure function of its inputs, so what an event does to one member
is worked out once and then remembered. A state of the cluster is a few numbers: three members, the
messages under way, what was committed, what is left of the bounds. Members are alike: a state is
met again if it is the same under other names. States are remembered by 64 bits of their hash.

What is left out: leases never hold and time is always up, as no safety may rest on them; a pre-vote
is always won; a sync finishes one write; a lane sends at once; nobody joins; no transfer;
heartbeats only as bounded. A message that stays under way for ever is as good as lost; only a lost
append is told to its sender.
"""

from __future__ import annotations

import pickle
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple, TypeAlias

from tests.core.acts import NAMES, SETTINGS, Action, Least, act, all_sent, time_is_up
from tests.core.freeze import Freezer, freeze
from tests.core.process import REPLIES, Process, failed_call, found
from tests.core.rules import Rules
from tests.core.scribe import script
from tinyraft.core.entry import Entry
from tinyraft.core.messages import AppendReply, Heartbeat, RequestVote, VoteReply
from tinyraft.core.role import Role
from tinyraft.errors import TinyraftError

RENAMINGS = [dict(zip(NAMES, order, strict=True)) for order in permutations(NAMES)]
# For each renaming: whose member stands first, second and third afterwards.
PLACES = [
    (r, tuple(next(i for i, old in enumerate(NAMES) if names[old] == new) for new in NAMES))
    for r, names in enumerate(RENAMINGS)
]
Event: TypeAlias = tuple  # what happens, and the place of a member or the number of a message


class Bounds(NamedTuple):
    """How often what may happen."""

    timeouts: int = 2
    proposals: int = 2
    crashes: int = 1
    faults: int = 1  # messages lost or doubled
    beats: int = 0


class Ghost(NamedTuple):
    """What was, and can't be seen any more."""

    leaders: tuple[tuple[int, str], ...] = ()
    committed: tuple[Entry, ...] = ()


class State(NamedTuple):
    """The cluster at one moment, as numbers of what the `Explorer` knows."""

    members: tuple[int, int, int]
    wire: tuple[int, ...]  # sorted; a message may be there twice
    ghost: int
    left: Bounds


class Violated(Exception):
    """A rule is broken; `story` is how, as a script."""

    def __init__(self, story: str, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.story = story
        self.error = error


@dataclass(slots=True)
class Step:
    """What an event does to a member: what it becomes, and what it sends."""

    member: int
    sent: tuple[int, ...]


class Table:
    """Things kept once: each has a number, and a number for what it is under each renaming."""

    def __init__(self) -> None:
        self.things: list[object] = []
        self.alike: list[tuple[int, ...]] = []
        self._numbers: dict[object, int] = {}
        self._renamed: dict[object, int] = {}

    def add(self, thing: object, as_value: Callable[[Mapping[str, str]], object]) -> int:
        """Return the number of *thing*, which is known by its value."""
        value = as_value(RENAMINGS[0])
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.things)
            self.things.append(thing)
            renamed = [value, *map(as_value, RENAMINGS[1:])]
            known = self._renamed
            self.alike.append(tuple([known.setdefault(it, len(known)) for it in renamed]))
        return number


class Explorer:
    """Searches; `run` goes on until all is seen, or enough."""

    def __init__(self, bounds: Bounds, *, led: bool = False) -> None:
        self.members, self.messages, self.ghosts = Table(), Table(), Table()
        self.steps: dict[tuple[int, Action], Step] = {}
        self.looks: dict[tuple[tuple[int, ...], int], int] = {}
        self.seen: set[int] = set()
        self.parents, self.events = array("q"), array("l")
        self.event_numbers: dict[Event, int] = {}
        self.depths: Counter[int] = Counter()
        self.prelude: list[Event] = []
        self.start = self.led(bounds) if led else self.first(bounds)

    def led(self, bounds: Bounds) -> State:
        """Return the cluster when its first leader is known, and all is quiet."""
        state = self.first(Bounds(1, 0, 0, 0, 0))
        event: Event | None = ("timeout", 0)
        while event is not None:
            self.prelude.append(event)
            state = self.after(state, event, 0)
            nexts = (it for it in self.possible(state) if it[0] in ("sync", "deliver"))
            event = next((it for it in nexts if self.after(state, it, 0) != state), None)
        return state._replace(left=bounds, wire=())

    def first(self, bounds: Bounds) -> State:
        """Return the cluster when it begins."""
        members = [Process(name, settings=SETTINGS, random=Least()) for name in NAMES]
        found(members)
        for member in members:
            member.raft.take()
            time_is_up(member)
        return State(tuple(map(self.member, members)), (), self.ghost(Ghost()), bounds)

    def member(self, process: Process) -> int:
        """Number a member."""
        return self.members.add(process, lambda names: freeze(process, names))

    def message(self, source: str, target: str, message: object) -> int:
        """Number a message under way."""
        value = Freezer({}).value(message)
        return self.messages.add(
            (source, target, message), lambda names: (names[source], names[target], value)
        )

    def ghost(self, ghost: Ghost) -> int:
        """Number a past."""
        committed = Freezer({}).value(ghost.committed)
        return self.ghosts.add(
            ghost,
            lambda names: (tuple((term, names[who]) for term, who in ghost.leaders), committed),
        )

    # --- the search -------------------------------------------------------------------------

    def run(self, *, states: int, seconds: float) -> bool:
        """Search breadth first; tell whether everything within the bounds was seen.

        Raises:
            Violated: A rule is broken.
        """
        deadline = time.monotonic() + seconds
        frontier = deque([(self.start, 0, 0)])
        self.seen.add(self.fingerprint(self.start))
        self.remember(-1, ("begin",))
        while frontier:
            state, number, depth = frontier.popleft()
            if len(self.seen) >= states or time.monotonic() > deadline:
                return False
            for event in self.possible(state):
                after = self.after(state, event, number)
                mark = self.fingerprint(after)
                if mark not in self.seen:
                    self.seen.add(mark)
                    self.depths[depth + 1] += 1
                    frontier.append((after, self.remember(number, event), depth + 1))
        return True

    def remember(self, parent: int, event: Event) -> int:
        """Number a state, and keep how it was reached."""
        self.parents.append(parent)
        self.events.append(self.event_numbers.setdefault(event, len(self.event_numbers)))
        return len(self.parents) - 1

    def story(self, number: int) -> list[Event]:
        """Return the events that lead to a state."""
        every, events = [*self.event_numbers], []
        while number > 0:
            events.append(every[self.events[number]])
            number = self.parents[number]
        return [*self.prelude, *reversed(events)]

    def fingerprint(self, state: State) -> int:
        """Hash a state so that it is the same under other names."""
        row = [self.members.alike[number] for number in state.members]
        orders = [(row[x][r], row[y][r], row[z][r], r) for r, (x, y, z) in PLACES]
        least = min(orders)[:3]
        messages, ghost = self.messages.alike, self.ghosts.alike[state.ghost]
        rest = min(
            (tuple(sorted([messages[number][order[3]] for number in state.wire])), ghost[order[3]])
            for order in orders
            if order[:3] == least
        )
        return hash((least, rest, state.left))

    def script(self, story: list[Event]) -> str:
        """Tell a story as a script."""
        return script(story, names=NAMES, messages=self.messages.things)

    # --- what can happen --------------------------------------------------------------------

    def possible(self, state: State) -> Iterator[Event]:
        """Name all that can happen next."""
        left = state.left
        for at, number in enumerate(state.members):
            process = self.members.things[number]
            leads = process.raft.role is Role.LEADER
            if process.queue:
                yield "sync", at
            if leads and (left.timeouts or self.is_asked_to_vote(state, at)):
                yield "step_down", at
            elif left.timeouts:
                yield "timeout", at
            if leads and left.proposals:
                yield "propose", at
            if leads and left.beats:
                yield "beat", at
            if left.crashes:
                yield "crash", at
        for number in dict.fromkeys(state.wire):
            yield "deliver", number
            if left.faults:
                yield "deliver_a_copy", number
                if failed_call(*self.messages.things[number]):
                    yield "lose", number

    def is_asked_to_vote(self, state: State, at: int) -> bool:
        """Tell whether it matters that a leader steps down: nobody else would notice."""
        asked = (self.messages.things[number] for number in state.wire)
        return any(to == NAMES[at] and isinstance(it, RequestVote) for _, to, it in asked)

    def after(self, state: State, event: Event, number: int) -> State:
        """Work out what an event leads to, and look whether all is well."""
        try:
            after = getattr(self, event[0])(state, event[1])
            return after._replace(ghost=self.look(after))
        except (AssertionError, TinyraftError) as error:
            story = [*self.story(number), event]
            raise Violated(self.script(story), error) from error

    def sync(self, state: State, at: int) -> State:
        """The disk finishes the oldest write."""
        return self.change(state, {at: ("sync",)})

    def step_down(self, state: State, at: int) -> State:
        """A leader hears nobody."""
        return self.change(state, {at: ("step_down",)})

    def timeout(self, state: State, at: int) -> State:
        """A member hears no leader, and wins the pre-vote."""
        left = state.left._replace(timeouts=state.left.timeouts - 1)
        return self.change(state, {at: ("timeout",)}, left=left)

    def propose(self, state: State, at: int) -> State:
        """A client proposes."""
        left = state.left._replace(proposals=state.left.proposals - 1)
        return self.change(state, {at: ("propose", b"%d" % left.proposals)}, left=left)

    def beat(self, state: State, at: int) -> State:
        """A heartbeat is due."""
        left = state.left._replace(beats=state.left.beats - 1)
        return self.change(state, {at: ("beat",)}, left=left)

    def crash(self, state: State, at: int) -> State:
        """A member loses what was not synced, and starts again; calls that it held break."""
        left = state.left._replace(crashes=state.left.crashes - 1)
        actions: dict[int, Action] = {at: ("crash",)}
        for held, to in self.members.things[state.members[at]].held:
            if isinstance(held.release(held.after), AppendReply):
                actions[NAMES.index(to)] = ("unreachable", NAMES[at])
        return self.change(state, actions, left=left)

    def deliver(self, state: State, number: int) -> State:
        """A message arrives."""
        at = NAMES.index(self.messages.things[number][1])
        if self.changes_nothing(state.members[at], number):
            return state  # it might as well stay under way
        return self.change(state, {at: ("receive", number)}, taken=number)

    def deliver_a_copy(self, state: State, number: int) -> State:
        """A message arrives, and will once more."""
        at = NAMES.index(self.messages.things[number][1])
        left = state.left._replace(faults=state.left.faults - 1)
        return self.change(state, {at: ("receive", number)}, left=left)

    def lose(self, state: State, number: int) -> State:
        """An append or its answer is lost, and the sender knows."""
        sender, peer = failed_call(*self.messages.things[number])
        left = state.left._replace(faults=state.left.faults - 1)
        actions: dict[int, Action] = {NAMES.index(sender): ("unreachable", peer)}
        return self.change(state, actions, taken=number, left=left)

    def change(
        self,
        state: State,
        actions: dict[int, Action],
        *,
        taken: int | None = None,
        left: Bounds | None = None,
    ) -> State:
        """Let members act, and put what they send under way."""
        members, wire = list(state.members), list(state.wire)
        if taken is not None:
            wire.remove(taken)
        for at, action in actions.items():
            step = self.step(members[at], action)
            members[at] = step.member
            wire += step.sent
            wire = [number for number in wire if not self.is_dead(step.member, number)]
        wire.sort()
        return State(tuple(members), tuple(wire), state.ghost, left or state.left)

    # --- one member -------------------------------------------------------------------------

    def step(self, number: int, action: Action) -> Step:
        """Let a member act; what came of it is known if it did so before."""
        step = self.steps.get((number, action))
        if step is None:
            process = pickle.loads(pickle.dumps(self.members.things[number]))
            rules = Rules({})
            act(process, action, self.messages.things, rules)
            sent = [
                self.message(process.name, to, message)
                for to, message in all_sent(process, rules)
                if action == ("beat",) or not isinstance(message, Heartbeat)
            ]
            time_is_up(process)
            step = self.steps[number, action] = Step(self.member(process), tuple(sent))
        return step

    def changes_nothing(self, member: int, message: int) -> bool:
        """Tell whether a message leaves its receiver as it is, and without an answer."""
        step = self.step(member, ("receive", message))
        return step.member == member and not step.sent

    def is_dead(self, member: int, number: int) -> bool:
        """Tell whether *number* is an answer that its receiver will never care for again.

        It asks in each term once, and no crash makes it ask in that term again. Should a defect
        make it care, then the answer changes something, and is not dead.
        """
        _, to, message = self.messages.things[number]
        process = self.members.things[member]
        if to != process.name or not isinstance(message, REPLIES):
            return False
        raft = process.raft
        waits = {VoteReply: Role.CANDIDATE, AppendReply: Role.LEADER}.get(type(message))
        past = message.term < raft.term or (message.term == raft.term and raft.role is not waits)
        return past and self.changes_nothing(member, number)

    # --- what must hold ---------------------------------------------------------------------

    def look(self, state: State) -> int:
        """Look at a state from outside; return its past."""
        key = state.members, state.ghost
        ghost = self.looks.get(key)
        if ghost is None:
            past = self.ghosts.things[state.ghost]
            processes = [self.members.things[number] for number in state.members]
            ghost = self.looks[key] = self.ghost(look(processes, past))
        return ghost


def look(processes: list[Process], past: Ghost) -> Ghost:
    """Check all rules; return the past, of which this is now a part."""
    rules = Rules({process.name: process for process in processes})
    rules.leaders, rules.committed = dict(past.leaders), list(past.committed)
    for process in processes:
        process.commit = process.applied = 0
        process.checked = process.checked_disk = None
        rules.check(process)
    rules.check_match()
    return Ghost(tuple(sorted(rules.leaders.items())), tuple(rules.committed))
