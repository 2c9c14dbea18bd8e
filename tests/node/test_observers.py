"""Who is told who leads, and when: observers, and mandates to act as the leader."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

import tinyraft
from tests.cluster import DEADLINE, LocalCluster, Words, gate_journal, node_of, our_threads, until
from tests.node.test_office import Office, office  # noqa: F401  # a fixture
from tinyraft.core.raft import Raft
from tinyraft.errors import LeadershipLost, NotStarted, StorageFailed
from tinyraft.logs import Log
from tinyraft.node.observers import KnownLeader, Mandate, Observer, Observers

NOBODY = KnownLeader(1, "", is_self=False, is_ready=False)


def led_by_self(term: int, *, is_ready: bool = True) -> KnownLeader:
    """This node leads."""
    return KnownLeader(term, "a", is_self=True, is_ready=is_ready)


class Board:
    """Observers of a state that the test sets."""

    def __init__(self) -> None:
        self.state = NOBODY
        self.deaths: list[BaseException] = []
        self.observers = Observers(
            lambda: self.state,
            node="test",
            log=Log("test"),
            died=lambda _name, error: self.deaths.append(error),
        )

    def set(self, state: KnownLeader) -> None:
        """Let it be so."""
        self.state = state
        self.observers.changed()


@pytest.fixture
def board() -> Iterator[Board]:
    """Lend one; its threads end."""
    made = Board()
    yield made
    made.observers.stop()
    assert made.observers.join(lambda: DEADLINE)
    assert [] == made.deaths


def test_an_observer_is_told_the_present_state_and_every_change(board: Board) -> None:
    """Nothing has to happen for the first call, and nothing is told twice."""
    told: list[KnownLeader] = []
    board.observers.observe(told.append)
    until(lambda: told == [NOBODY])
    board.set(led_by_self(2))
    until(lambda: told == [NOBODY, led_by_self(2)])
    board.observers.changed()
    board.set(NOBODY)
    until(lambda: len(told) > 2)
    assert [NOBODY, led_by_self(2), NOBODY] == told


def test_a_slow_observer_finds_the_newest_state_and_holds_up_nobody(board: Board) -> None:
    """However much happens during one call, the next one is told how it ended."""
    slow: list[KnownLeader] = []
    quick: list[KnownLeader] = []
    called, gate = Event(), Event()

    def stall(state: KnownLeader) -> None:
        slow.append(state)
        called.set()
        assert gate.wait(DEADLINE)

    board.observers.observe(stall)
    board.observers.observe(quick.append)
    assert called.wait(DEADLINE)
    for term in range(2, 102):
        board.set(led_by_self(term))
    until(lambda: quick[-1:] == [led_by_self(101)])
    gate.set()
    until(lambda: len(slow) == 2)
    assert [NOBODY, led_by_self(101)] == slow


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_what_an_observer_raises_is_logged_and_ends_nothing(
    board: Board, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """It is called again at the next change."""
    told: list[KnownLeader] = []

    def fail(state: KnownLeader) -> None:
        told.append(state)
        raise error

    with caplog.at_level(logging.ERROR):
        board.observers.observe(fail)
        until(lambda: told)
        board.set(led_by_self(2))
        until(lambda: len(told) == 2)
        until(lambda: caplog.text.count("observer_failed") == 2)


def test_an_observer_that_is_stopped_is_told_nothing_more(board: Board) -> None:
    """Its thread ends; it may stop itself."""
    told: list[KnownLeader] = []
    mine: list[Observer] = []
    got = Event()

    def once(state: KnownLeader) -> None:
        assert got.wait(DEADLINE)
        told.append(state)
        mine[0].stop()
        assert not mine[0].join(0.0), "it is not over inside of it"

    mine.append(board.observers.observe(once))
    got.set()
    assert mine[0].join(DEADLINE)
    board.set(led_by_self(2))
    assert [NOBODY] == told


def test_the_last_state_is_told_before_the_end() -> None:
    """What changed just before the stop is not lost; and nobody comes behind it."""
    board, told, gate = Board(), [], Event()

    def stall(state: KnownLeader) -> None:
        told.append(state)
        assert gate.wait(DEADLINE)

    board.observers.observe(stall)
    until(lambda: told)
    board.set(led_by_self(2))
    board.observers.stop()
    gate.set()
    assert board.observers.join(lambda: DEADLINE)
    assert [NOBODY, led_by_self(2)] == told
    with pytest.raises(NotStarted):
        board.observers.observe(told.append)


def test_changes_from_many_threads_leave_the_newest_state(board: Board) -> None:
    """Who looked early never overwrites what a later look found."""
    told: list[KnownLeader] = []
    board.observers.observe(told.append)

    def bump(_: int) -> None:
        for _ in range(200):
            with lock:
                board.state = led_by_self(board.state.term + 1)
            board.observers.changed()

    lock = threading.Lock()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bump, range(8)))
    until(lambda: told[-1:] == [led_by_self(1601)])
    terms = [state.term for state in told]
    assert sorted(terms) == terms


def test_a_mandate_is_for_one_term_and_only_when_ready(board: Board) -> None:
    """It comes when all of earlier terms is applied, and is lost with the term, for good."""
    mandate = Mandate()
    with board.observers.watching(mandate):
        board.set(led_by_self(2, is_ready=False))
        assert not mandate.wait(0.0, why_never=lambda: None)
        board.set(led_by_self(2))
        assert mandate.wait(0.0, why_never=lambda: None)
        mandate.check()
        board.set(led_by_self(3))  # lost and won again before anybody looked
        assert mandate.lost.is_set()
        assert 2 == mandate.token
        with pytest.raises(LeadershipLost, match="term 2"):
            mandate.check()


def test_a_leader_that_has_not_applied_earlier_terms_may_not_act(office: Office) -> None:  # noqa: F811
    """It leads, and is not ready before its module has seen its own first entry."""
    office.node.turn(lambda raft: raft.tick())
    before = office.node.known_leader()
    assert (True, False) == (before.is_self, before.is_ready)
    mandate = Mandate()
    with office.node.observers.watching(mandate):
        office.node.start()
        assert mandate.wait(DEADLINE, why_never=office.node.why_it_ends)
        assert 2 == mandate.token
        assert office.node.applier.last_applied >= 2


# --- a whole server ---------------------------------------------------------------------------


def test_everybody_learns_of_a_change_and_of_the_end(cluster: LocalCluster) -> None:
    """Each node's observer follows the leader to another node; all end with their servers."""
    cluster.start(3)
    told: dict[str, list[KnownLeader]] = {name: [] for name in cluster.servers}
    for name, server in cluster.servers.items():
        server.observe(told[name].append)
    old = cluster.leader()
    ready = lambda who: all(s and s[-1].leader_id == who and s[-1].is_ready for s in told.values())  # noqa: E731
    until(lambda: ready(old), what="primed")
    new = cluster[old].transfer_leadership()
    until(lambda: ready(new), what=f"all know {new}")
    assert [new] == [name for name, states in told.items() if states[-1].is_self]
    cluster[new].shutdown()
    last = told[new][-1]
    assert ("", False, False) == (last.leader_id, last.is_self, last.is_ready)
    assert not [name for name in our_threads() if f"-{new}-observer" in name]
    with pytest.raises(NotStarted):
        cluster[new].observe(told[new].append)


def test_an_observer_that_hangs_delays_a_shutdown_by_its_timeout(cluster: LocalCluster) -> None:
    """And the server is down all the same."""
    cluster.start(1)
    called, gate = Event(), Event()
    cluster["a"].observe(lambda _state: called.set() or gate.wait(DEADLINE))  # type: ignore[func-returns-value]
    assert called.wait(DEADLINE)
    cluster["a"].shutdown(timeout=0.5)
    assert not cluster["a"].is_leader
    gate.set()


def test_a_job_runs_on_one_node_and_moves(cluster: LocalCluster) -> None:
    """The block is entered where the node leads, and told when that is over; tokens grow."""
    cluster.start(3)
    old = cluster.leader()
    with cluster[old].leadership(timeout=DEADLINE) as lead:
        lead.check()
        assert cluster[old].status().term == lead.token
        too_late = pytest.raises(tinyraft.NotLeader, match="did not lead within")
        with too_late as caught, cluster[cluster.followers()[0]].leadership(timeout=0.05):
            pytest.fail("it does not lead")
        assert old == caught.value.leader_id
        new = cluster[old].transfer_leadership()
        assert lead.lost.wait(DEADLINE)
        with pytest.raises(LeadershipLost):
            lead.check()
        with cluster[new].leadership(timeout=DEADLINE) as next_lead:
            assert next_lead.token > lead.token
    assert next_lead.lost.is_set(), "the block is over"


def test_a_mandate_is_lost_before_leadership_is_handed_over(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shutdown first tells who acts as the leader; only then somebody else may lead."""
    cluster.start(3)
    server, transfer, seen = cluster[cluster.leader()], Raft.transfer, []
    with server.leadership(timeout=DEADLINE) as lead:
        told = lambda raft: seen.append(lead.lost.is_set()) or transfer(raft)  # noqa: E731
        monkeypatch.setattr(Raft, "transfer", told)
        server.shutdown()
    assert [True] == seen


@pytest.mark.parametrize("end", ["shutdown", "disk", "module"])
def test_the_end_of_a_node_ends_its_mandate(cluster: LocalCluster, end: str) -> None:
    """A shutdown says so before anybody else can lead; so does a failure, also to who waits."""
    cluster.start(1)
    server = cluster["a"]
    with server.leadership(timeout=DEADLINE) as lead:
        if end == "shutdown":
            server.shutdown()
        elif end == "disk":
            gate_journal(server).failure = StorageFailed("gone")
            with pytest.raises(tinyraft.TinyraftError):
                server.apply(b"x", timeout=1.0)
        else:
            cluster.modules["a"].misbehave[b"full"] = no_room
            with pytest.raises(tinyraft.TinyraftError):
                server.apply(b"full", timeout=DEADLINE)
        assert lead.lost.wait(DEADLINE)
    expected = {"shutdown": NotStarted, "disk": StorageFailed, "module": tinyraft.ModuleFailed}
    with pytest.raises(expected[end]), server.leadership(timeout=DEADLINE):
        pytest.fail("it is over")


def no_room() -> bytes:
    """Be this node's own trouble."""
    raise OSError(28, "no room")


def test_who_waits_to_lead_is_told_of_the_end(cluster: LocalCluster) -> None:
    """A follower that is shut down, or removed, lets those go who wait for its leadership."""
    cluster.start(3)
    one, other = cluster.followers()

    def wait(name: str) -> Callable[[], object]:
        def enter() -> None:
            with cluster[name].leadership():
                pytest.fail("it never leads")

        return enter

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait(one)), pool.submit(wait(other))]
        for name in (one, other):
            until(lambda n=name: node_of(cluster[n]).observers._watchers, what="it waits")
        cluster[one].shutdown()
        with pytest.raises(NotStarted):
            waiting[0].result(DEADLINE)
        cluster.make(one, join=tuple(cluster.addresses)).start()
        cluster.wait_voters([one])
        cluster[cluster.leader()].remove(other, timeout=DEADLINE)
        with pytest.raises(tinyraft.NodeRemoved):
            waiting[1].result(DEADLINE)


def test_a_module_can_not_wait_to_lead(cluster: LocalCluster) -> None:
    """It would wait for itself."""
    module = Words()
    cluster.make("a", module=module, bootstrap=True).start()
    cluster.wait_voters(["a"])

    def enter() -> bytes:
        with cluster["a"].leadership():
            return b"never"

    module.misbehave[b"lead"] = enter
    with pytest.raises(tinyraft.ModuleError, match="ReentrantCall"):
        cluster["a"].apply(b"lead")
