"""A few bugs of the kind that the simulator is for; `tests/mutations` has many more."""

from __future__ import annotations

from tinyraft.core import leadership
from tinyraft.core.effects import Mark
from tinyraft.core.raft import Raft
from tinyraft.node.judge import Judge
from tinyraft.node.readers import Readers
from tinyraft.node.writer import Writer


def acks_before_the_sync(monkeypatch):
    """Nothing waits for the disk any more."""
    monkeypatch.setattr(Raft, "_latest_mark", lambda self: Mark(0))


def half_is_a_majority(monkeypatch):
    """Two of four decide."""

    def agreed(voters, match):
        places = sorted((match.get(voter, 0) for voter in voters), reverse=True)
        return places[max(0, (len(voters) + 1) // 2 - 1)]

    monkeypatch.setattr(leadership, "agreed_index", agreed)


def syncs_nothing(monkeypatch):
    """The disk promises without having written."""
    monkeypatch.setattr(Writer, "sync", lambda self: None)


def forgets_its_vote(monkeypatch):
    """A restart remembers the term, and not the vote."""
    before = Raft.__init__

    def init(self, **options):
        options["hard_state"].voted_for = None
        before(self, **options)

    monkeypatch.setattr(Raft, "__init__", init)


def trusts_any_log(monkeypatch):
    """Votes are given to those who lack what is committed."""
    monkeypatch.setattr("tinyraft.core.voting.is_up_to_date", lambda *_, **__: True)


def stays_when_removed(monkeypatch):
    """A leader that has lost its vote leads on."""

    def advance(self, leadership):
        self._commit(leadership.committable(self.commit_index))

    monkeypatch.setattr(Raft, "_advance", advance)


def confirms_itself(monkeypatch):
    """A leader reads without having heard from anybody."""
    monkeypatch.setattr(
        leadership.Leadership, "_confirmed_round", lambda self: self.heartbeat_round
    )


def reads_before_the_noop(monkeypatch):
    """A new leader takes its commit index for what is committed."""

    def read(self, read):
        office = self._leadership_or_refuse()
        office.reads.ask(read, index=self.commit_index, after_round=office.heartbeat_round)

    monkeypatch.setattr(Raft, "read", read)


def reads_what_is_there(monkeypatch):
    """A read does not wait for the module."""

    def at_once(self, index, waiter):
        waiter.index = index
        waiter.resolve(None, None)

    monkeypatch.setattr(Readers, "when_applied", at_once)


def forgets_the_time(monkeypatch):
    """A new leader stamps by its own clock, whatever the last one's said."""
    before = Raft._lead

    def lead(self):
        self._time_us = 0
        before(self)

    monkeypatch.setattr(Raft, "_lead", lead)


def compares_nothing(monkeypatch):
    """A module that differs is never found."""
    monkeypatch.setattr(Judge, "look", lambda self, raft: None)


def begins_the_digest_anew(monkeypatch):
    """A snapshot does not say what the outcomes before it came to."""
    before = Raft.snapshot_at

    def snapshot_at(self, index, *, time_us=0, digest=None):
        del digest
        return before(self, index, time_us=time_us, digest=0)

    monkeypatch.setattr(Raft, "snapshot_at", snapshot_at)


BUGS = [
    reads_before_the_noop,
    reads_what_is_there,
    acks_before_the_sync,
    half_is_a_majority,
    syncs_nothing,
    forgets_its_vote,
    trusts_any_log,
    stays_when_removed,
    forgets_the_time,
    compares_nothing,
    begins_the_digest_anew,
]
