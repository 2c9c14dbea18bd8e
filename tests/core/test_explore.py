"""All that can happen within small bounds: a slice of the search, and proof that it finds defects.

``python -m tests.core.explore`` is the long search.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.core.acts import NAMES
from tests.core.explore import search, walk
from tests.core.explorer import RENAMINGS, Bounds, Explorer, Violated
from tests.core.freeze import freeze
from tinyraft.core import following, quorum, raft, voting
from tinyraft.core.effects import Held
from tinyraft.core.leadership import Leadership
from tinyraft.core.log import Log
from tinyraft.core.progress import Progress
from tinyraft.core.replication import first_conflict
from tinyraft.testing.script import run_script


def explore(bounds: Bounds, *, led: bool = False, states: int = 3000) -> Explorer:
    """Search, and return what the explorer has seen."""
    explorer = Explorer(bounds, led=led)
    explorer.complete = explorer.run(states=states, seconds=60)
    return explorer


def test_everything_within_tiny_bounds():
    """One election, one proposal: in whatever order, no rule breaks, and nothing is left out."""
    explorer = explore(Bounds(timeouts=1, proposals=1, crashes=0, faults=0), states=10_000)
    assert explorer.complete
    assert 4539 == len(explorer.seen)
    assert 26 == max(explorer.depths)


@pytest.mark.parametrize("led", [False, True], ids=["fresh", "led"])
def test_a_slice_of_the_search(led):
    """The first thousands of states within the usual bounds; the figures say how far that is."""
    figures = search(Bounds(), led=led, states=10_000, seconds=60)
    assert "violation" not in figures
    assert not figures["complete"]
    assert figures["states"] >= 10_000


def test_walks_go_deeper():
    """A walk of chance goes on until nothing can happen, far behind where the search ends."""
    explorer = Explorer(Bounds(timeouts=4, proposals=4, crashes=2, faults=2, beats=2), led=True)
    steps = [walk(explorer, random=Random(seed), steps=200) for seed in range(10)]
    assert max(steps) > 50


def test_members_are_alike():
    """A state is met again under other names: whoever moves first, it is the same."""
    explorer = Explorer(Bounds())
    firsts = [explorer.timeout(explorer.start, at) for at in range(3)]
    assert 3 == len(set(firsts))
    assert 1 == len(set(map(explorer.fingerprint, firsts)))
    syncs = [explorer.sync(first, at) for at, first in enumerate(firsts)]
    assert 1 == len(set(map(explorer.fingerprint, syncs)))
    assert explorer.fingerprint(firsts[0]) != explorer.fingerprint(syncs[0])


class Plain(Explorer):
    """An explorer without short cuts."""

    def fingerprint(self, state):
        return hash(state)

    def changes_nothing(self, member, message):
        return False


def reached(explorer: Explorer) -> set[tuple]:
    """Return what was seen of members and past, under the name that sorts first."""
    return {
        min(
            (
                tuple(sorted(repr(freeze(explorer.members.things[it], names)) for it in members)),
                tuple((t, names[who]) for t, who in explorer.ghosts.things[ghost].leaders),
                repr(explorer.ghosts.things[ghost].committed),
            )
            for names in RENAMINGS
        )
        for (members, _), ghost in explorer.looks.items()
    }


@pytest.mark.parametrize(
    ("bounds", "led"),
    [
        (Bounds(timeouts=1, proposals=0, crashes=1, faults=0), False),
        (Bounds(timeouts=1, proposals=0, crashes=0, faults=0), True),
        (Bounds(timeouts=0, proposals=1, crashes=0, faults=1), True),
    ],
)
def test_short_cuts_miss_nothing(bounds, led):
    """Without them the search is longer, but the cluster gets nowhere else."""
    plain, short = Plain(bounds, led=led), Explorer(bounds, led=led)
    for explorer in (plain, short):
        assert explorer.run(states=20_000, seconds=60)
    assert len(plain.seen) > 2 * len(short.seen)
    assert reached(plain) == reached(short)


def test_the_first_leader_leads():
    """The search may begin behind an election: all have the leader's first entry on disk."""
    explorer = Explorer(Bounds(), led=True)
    members = [explorer.members.things[number] for number in explorer.start.members]
    assert [2, 2, 2] == [len(member.disk) for member in members]
    assert [2, 2, 2] == [member.raft.commit_index for member in members]
    assert NAMES[0] == next(m.name for m in members if m.raft.role is raft.Role.LEADER)


# --- defects ------------------------------------------------------------------------------------


def no_hold(self, reply):
    """Let every reply go before the disk answers."""
    return Held(reply, after=0)


def counts_what_is_not_synced(self, commit_index):
    """The leader counts its own entries before they are on its disk."""
    match = {peer: p.match_index for peer, p in self.progress.items()}
    match[self.me] = self._log.last_index
    agreed = quorum.agreed_index(self._configuration.voters, match)
    mine = agreed > commit_index and self._log.term_at(agreed) == self.term
    return agreed if mine else commit_index


def counts_old_terms(self, commit_index):
    """Entries of older terms are committed by count (figure 8)."""
    match = {peer: p.match_index for peer, p in self.progress.items()}
    match[self.me] = self._log.durable_index
    return max(commit_index, quorum.agreed_index(self._configuration.voters, match))


def keeps_durable_index(self, index):
    """A cut forgets that the disk has other entries now."""
    del self._entries[index - 1 :]
    self._terms.cut(index)
    self._unwritten_from = min(index, self._unwritten_from)
    self._cut_from = min(index, self._cut_from or index)


def forgets_the_vote(self, term, leader):
    """Stepping down within a term clears the vote."""
    self.leadership = self.candidacy = None
    self._set_hard_state(term, None)
    self.role, self.leader_id = raft.Role.FOLLOWER, leader


def always_cuts(log, request, *, commit_index):
    """A shorter append cuts the log behind it."""
    known, conflict = first_conflict(log, request)
    end = request.prev_index + len(request.entries)
    if conflict is None and end < log.last_index:
        log.cut(end + 1)
        return end + 1
    if conflict is not None:
        log.cut(conflict)
    log.append(request.entries[known:])
    return conflict


def believes_in_the_match(self, *, next_index, last_index, tick):
    """A new leader takes for granted that all have its log."""
    made(self, next_index=next_index, last_index=last_index, tick=tick)
    self.match_index = last_index


made = Progress.__init__
ELECTION = Bounds(timeouts=1, proposals=1, crashes=0, faults=0)
TWO_ELECTIONS = Bounds(timeouts=2, proposals=0, crashes=0, faults=0)
DOUBLED = Bounds(timeouts=0, proposals=2, crashes=0, faults=1)


@pytest.mark.parametrize(
    ("owner", "name", "defect", "bounds", "rule"),
    [
        pytest.param(quorum, "majority", lambda size: size // 2, ELECTION, "I1|I7", id="half"),
        pytest.param(raft.Raft, "_hold", no_hold, ELECTION, "I8", id="nothing_is_held"),
        pytest.param(voting, "is_up_to_date", lambda *_, **__: True, ELECTION, "I5", id="any_log"),
        pytest.param(
            Leadership, "committable", counts_what_is_not_synced, ELECTION, "I7", id="not_synced"
        ),
        pytest.param(Leadership, "committable", counts_old_terms, ELECTION, "I7", id="figure_8"),
        pytest.param(Log, "cut", keeps_durable_index, ELECTION, "I8", id="durable_index"),
        pytest.param(
            raft.Raft, "_follow", forgets_the_vote, TWO_ELECTIONS, "second vote|I2", id="two_votes"
        ),
        pytest.param(following, "accept", always_cuts, DOUBLED, "I9", id="always_cuts"),
        pytest.param(Progress, "__init__", believes_in_the_match, ELECTION, "I9", id="match"),
    ],
)
def test_the_search_finds_defects(monkeypatch, owner, name, defect, bounds, rule):
    """Each of these breaks the rule that forbids it, and the story is a script that runs."""
    monkeypatch.setattr(owner, name, defect)
    with pytest.raises(Violated, match=rule) as info:
        explore(bounds, led=True, states=20_000)
    told = run_script(info.value.story)
    assert told.startswith("cluster 3\nhold 1 2 3\n")
    assert "ScriptError" not in told
