"""Delivery and courier: what is sent when, under which number, and what is said at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, ClassVar

import pytest

from tests.cluster import DEADLINE, our_threads, until
from tinyraft import courier as courier_module
from tinyraft import leader_search
from tinyraft.chain import Chain
from tinyraft.courier import SESSION_SECONDS
from tinyraft.delivery import Delivery
from tinyraft.errors import (
    ApplyTimeout,
    ConnectionLost,
    LeadershipLost,
    MaybeApplied,
    NodeRemoved,
    NoQuorum,
    NotApplied,
    NotLeader,
    NotStarted,
    Overloaded,
    Rejected,
    ServerStopped,
    SessionExpired,
    TinyraftError,
)
from tinyraft.session import Session
from tinyraft.transport.channels import Channels
from tinyraft.transport.commands import Answered
from tinyraft.transport.slots import Slot


class Lane:
    """A way to a node that the test answers for; sessions it opens itself."""

    def __init__(
        self, *, lock: Lock, answered: Callable[[object, Sequence[Answered]], None]
    ) -> None:
        self.is_usable = True
        self.sent: SimpleQueue[Slot] = SimpleQueue()
        self.withdrawable: set[Slot] = set()
        self.address = "a node"
        self.patience = 1.0
        self.sessions = 0
        self.opens = True  # sessions, by itself
        self.failure: Exception | None = None
        self.gate = Event()  # closed, it keeps whoever sends
        self.gate.set()
        self._answered = answered

    def send(self, slot: Slot) -> None:
        """Take a command."""
        if self.failure is not None:
            raise self.failure
        if slot.opens_session and self.opens:
            self.sessions += 1
            self._answered(self, [Answered(slot, None, None, self.sessions * 100, 1)])
        else:
            self.sent.put(slot)
            assert self.gate.wait(DEADLINE)

    def waking(self) -> Chain:
        """Make a chain of which nobody hears."""
        return Chain()

    def withdraw(self, slot: Slot) -> bool:
        """Say what the test says."""
        return slot in self.withdrawable

    def next(self) -> tuple[Slot, tuple[int, int]]:
        """Wait for a sending: the slot, and its session and number."""
        slot = self.sent.get(timeout=DEADLINE)
        if slot.opens_session:
            return slot, (0, 0)
        assert slot.session is not None
        return slot, (slot.session.index, slot.sequence)

    def answer(self, slot: Slot, error: TinyraftError | None = None) -> None:
        """Answer."""
        self._answered(self, [Answered(slot, error, b"done", 700, 3)])

    def answer_all(self, slots: Sequence[Slot]) -> None:
        """Answer them together."""
        self._answered(self, [Answered(slot, None, b"done", 700, 3) for slot in slots])

    def finish(self) -> None:
        """Nothing."""

    break_off = finish


class Bench:
    """A courier whose node is ours."""

    def __init__(self) -> None:
        self.delivery = Delivery(["127.0.0.1:1"], channels=Channels((), closed="closed"))
        self.lanes: list[Lane] = []
        self.delivery.live_at(self.make)
        self.lane = self.lanes[0]

    def make(self, **how: Any) -> Lane:
        """Make the lane."""
        self.lanes.append(Lane(**how))
        return self.lanes[-1]

    def start(self, timeout: float = DEADLINE, **options: Any) -> tuple[Slot, tuple[int, int]]:
        """Start a command, and see it sent."""
        slot = Slot(b"word", deadline=monotonic() + timeout, **options)
        self.delivery.start(slot)
        sent, number = self.lane.next()
        assert sent is slot
        return slot, number

    def keep_busy(self, **options: Any) -> Slot:
        """Keep the courier's thread busy with a command, until the lane's gate is opened."""
        slot, _ = self.start(**options)
        self.lane.gate.clear()
        self.lane.answer(slot, NotLeader("no"))
        assert slot is self.lane.next()[0]
        return slot

    def outcome(self, slot: Slot) -> TinyraftError | None:
        """Wait for the end."""
        self.delivery._wait(slot)
        return slot.error


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Lend a courier."""
    made = Bench()
    yield made
    made.delivery.close()
    until(lambda: not our_threads(but=["tinyraft-caller-guard"]), what="no thread left")


def test_a_command_keeps_its_number(bench: Bench) -> None:
    """Over all its sendings; the next one gets the next (P87)."""
    slot, number = bench.start()
    for error in (LeadershipLost("lost"), NotLeader("no"), ConnectionLost("lost"), Overloaded("")):
        bench.lane.answer(slot, error)
        assert (slot, number) == bench.lane.next()
    bench.lane.answer(slot)
    assert bench.outcome(slot) is None
    assert (b"done", 700, 3, 700) == (slot.result, slot.index, slot.term, bench.delivery.last_index)
    assert (number[0], number[1] + 1) == bench.start()[1]


def test_what_may_be_applied_is_never_said_not_to_be(bench: Bench) -> None:
    """A later refusal is of that sending only, and so is time that runs out before another one."""
    slot, _ = bench.start(timeout=0.3)
    bench.lane.answer(slot, LeadershipLost("lost"))
    bench.lane.next()
    bench.lane.withdrawable.add(slot)
    bench.lane.is_usable = False
    bench.lane.answer(slot, NotLeader("no"))
    error = bench.outcome(slot)
    assert isinstance(error, ApplyTimeout)
    assert "the last sending: no" in str(error)


def test_a_refusal_behind_a_sending_in_doubt_is_no_certainty(bench: Bench) -> None:
    """An error that ends it at once says so, too, with the way to ask again."""
    slot, _ = bench.start(request_id="r")
    bench.lane.answer(slot, LeadershipLost("lost"))
    bench.lane.next()
    bench.lane.answer(slot, NodeRemoved("removed"))
    error = bench.outcome(slot)
    assert isinstance(error, ConnectionLost)
    assert "r" == error.request_id


def test_what_a_busy_courier_has_not_seen_yet_counts(bench: Bench) -> None:
    """Time ends between the word that it may be applied and the courier's look at it (P89)."""
    slot, _ = bench.start(timeout=0.3)
    bench.keep_busy()
    bench.lane.answer(slot, ConnectionLost("lost"))
    assert isinstance(bench.outcome(slot), ApplyTimeout)
    bench.lane.gate.set()


def test_what_a_busy_courier_has_not_seen_yet_counts_at_the_end(bench: Bench) -> None:
    """Likewise when the caller is closed (P89)."""
    slot, _ = bench.start()
    bench.keep_busy(on_done=lambda _: bench.lane.gate.set())
    bench.lane.answer(slot, LeadershipLost("lost"))
    bench.delivery.close()
    assert isinstance(bench.outcome(slot), ServerStopped)


def test_a_courier_that_comes_late_does_not_undo_the_end(bench: Bench) -> None:
    """What was given up, before its last answer was looked at, never looks like a success."""
    slot, _ = bench.start(timeout=0.3)
    bench.keep_busy()
    bench.lane.answer(slot, NotLeader("no"))
    bench.delivery._wait(slot)
    bench.lane.gate.set()
    behind, _ = bench.start()
    bench.lane.answer(behind, NotLeader("no"))
    assert behind is bench.lane.next()[0]  # the courier has looked at everything before
    assert isinstance(slot.error, NotApplied)


def test_what_was_refused_only_is_certain(bench: Bench) -> None:
    """The reason that was met last is told."""
    slot, _ = bench.start(timeout=0.3)
    bench.lane.is_usable = False
    bench.lane.answer(slot, NotLeader("no"))
    assert isinstance(bench.outcome(slot), NotLeader)
    other = Slot(b"word", deadline=monotonic() + 0.1)
    bench.delivery.start(other)
    assert isinstance(bench.outcome(other), NoQuorum)


def test_a_forgotten_session_is_renewed_for_what_is_not_in_doubt(bench: Bench) -> None:
    """Under a new number; the old one was certainly not applied (P88)."""
    slot, number = bench.start()
    assert 100 == number[0]
    bench.lane.answer(slot, SessionExpired("forgotten"))
    assert (slot, (200, 1)) == bench.lane.next()
    bench.lane.answer(slot)
    assert bench.outcome(slot) is None
    assert (200, 2) == bench.start()[1]


def test_what_is_in_doubt_ends_with_its_session(bench: Bench) -> None:
    """It is sent under its old number, also when others have a new session (P88)."""
    slot, number = bench.start()
    other, _ = bench.start()
    bench.lane.answer(slot, LeadershipLost("lost"))
    assert (slot, number) == bench.lane.next()
    bench.lane.answer(other, SessionExpired("forgotten"))
    assert (other, (200, 1)) == bench.lane.next()
    bench.lane.answer(slot, LeadershipLost("lost"))
    assert (slot, number) == bench.lane.next()
    bench.lane.answer(slot, SessionExpired("forgotten"))
    assert isinstance(bench.outcome(slot), SessionExpired)


def test_what_a_forgotten_session_refused_is_in_the_log(bench: Bench) -> None:
    """So it does not end as `NotApplied`, though it had no effect."""
    slot, _ = bench.start(timeout=0.3)
    bench.lane.is_usable = False
    bench.lane.answer(slot, SessionExpired("forgotten"))
    assert isinstance(bench.outcome(slot), MaybeApplied)


def test_an_answer_that_comes_late_changes_nothing(bench: Bench) -> None:
    """Given up is given up; and it is told once."""
    slot, _ = bench.start(timeout=0.05)
    assert isinstance(bench.outcome(slot), ApplyTimeout)
    bench.lane.answer(slot)
    assert isinstance(slot.error, ApplyTimeout)
    assert slot.result is None


def test_commands_that_wait_are_sent_in_order(bench: Bench) -> None:
    """What comes while others are behind goes behind them."""
    bench.start()
    bench.lane.is_usable = False
    slots = [Slot(b"%d" % n, deadline=monotonic() + DEADLINE) for n in range(5)]
    for slot in slots:
        bench.delivery.start(slot)
    bench.lane.is_usable = True
    assert slots == [bench.lane.next()[0] for _ in slots]


def test_the_modules_word_counts_on_whatever_way_it_comes(bench: Bench) -> None:
    """Else who is always answered late would send for ever, and never hear what became of it."""
    slot, _ = bench.start()
    bench.lane.answer(slot, ConnectionLost("silent"))
    bench.lane.next()
    way = Lane(lock=Lock(), answered=bench.delivery._courier.answered)
    bench.delivery._courier.answered(way, [Answered(slot, NotLeader("of an earlier sending"))])
    assert not slot.is_over
    bench.delivery._courier.answered(way, [Answered(slot, Rejected("no"), None, 700, 3)])
    assert isinstance(bench.outcome(slot), Rejected)
    assert 700 == bench.delivery.last_index
    assert bench.start()


def test_a_session_is_opened_however_late(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a module has much to do before it, asking anew never gets an answer in time."""
    monkeypatch.setattr(courier_module, "SESSION_SECONDS", 0.05)
    bench.lane.opens = False
    slot = Slot(b"word", deadline=monotonic() + DEADLINE)
    bench.delivery.start(slot)
    first, _ = bench.lane.next()
    second, _ = bench.lane.next()
    monkeypatch.setattr(courier_module, "SESSION_SECONDS", DEADLINE)
    bench.lane.answer(first)
    sent = bench.lane.next()[0]
    while sent.opens_session:  # asked before the first was answered
        sent = bench.lane.next()[0]
    assert (slot, 700) == (sent, sent.session.index if sent.session else 0)
    bench.lane.answer(second)
    bench.lane.answer(slot)
    assert bench.outcome(slot) is None


def test_what_became_of_a_session_is_not_what_became_of_a_command(bench: Bench) -> None:
    """It was never sent, so it is certainly not applied."""
    bench.lane.opens = False
    slot = Slot(b"word", deadline=monotonic() + 0.3)
    bench.delivery.start(slot)
    session, _ = bench.lane.next()
    bench.lane.is_usable = False
    bench.lane.answer(session, LeadershipLost("lost"))
    assert isinstance(bench.outcome(slot), NoQuorum)


def test_a_future_without_a_deadline_leaves_a_silent_node(bench: Bench) -> None:
    """As one that has a deadline does."""
    bench.lane.is_usable = False
    ledger, courier = bench.delivery._ledger, bench.delivery._courier
    silent: Any = bench.make(lock=ledger.lock, answered=courier.answered)
    ledger.lane = silent
    slot = Slot(b"word", on_done=lambda _: None)
    bench.delivery.start(slot)
    assert slot is silent.next()[0]
    bench.lane.is_usable = True
    silent.is_usable = False
    assert slot is bench.lane.next()[0]


class Stream(Lane):
    """A stream to a node that greets as the leader."""

    made: ClassVar[list[Stream]] = []

    def __init__(self, channel: object, address: str, **how: Any) -> None:
        del channel
        super().__init__(**how)
        self.address = address
        self.greeting = {"tinyraft-node": "a", "tinyraft-leader-id": "a"}
        Stream.made.append(self)

    def wait_open(self, timeout: float) -> bool:
        """It greets at once."""
        del timeout
        return True


def test_a_silent_node_that_greets_is_given_more_and_more_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is slow, and a stream more every second would make it slower; then nobody gets in."""
    monkeypatch.setattr(leader_search, "CommandStream", Stream)
    monkeypatch.setattr(Stream, "made", [])
    bench.lane.is_usable = False
    slot = Slot(b"word", on_done=lambda _: None)
    bench.delivery.start(slot)
    for count, patience in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 16.0), 1):
        until(lambda count=count: len(Stream.made) == count, what="a stream is opened")
        stream = Stream.made[-1]
        assert slot is stream.next()[0]
        assert patience == stream.patience
        stream.is_usable = False


def test_futures_end_in_time_while_the_courier_waits(bench: Bench) -> None:
    """For a session, or for a node's greeting: others may have more time than they."""
    bench.lane.opens = False
    bench.delivery.start(Slot(b"word", deadline=monotonic() + DEADLINE))
    bench.lane.next()
    ended = Event()
    began = monotonic()
    bench.delivery.start(Slot(b"x", deadline=began + 0.05, on_done=lambda _: ended.set()))
    assert ended.wait(DEADLINE)
    assert monotonic() - began < SESSION_SECONDS / 2


def test_a_courier_that_fails_leaves_nobody_waiting(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not in its thread's power ends with it, and it says why (P100)."""
    slot, _ = bench.start()
    bench.lane.failure = RuntimeError("can't start new thread")
    ended = Event()
    bench.lane.answer(slot, NotLeader("no"))
    assert isinstance(bench.outcome(slot), MaybeApplied)
    with pytest.raises(NotStarted, match="can't start new thread"):
        bench.delivery.start(Slot(b"x", on_done=lambda _: ended.set()))
    assert "caller_failed" in caplog.text


def test_a_system_without_threads_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have some later (P100)."""
    tries: list[str] = []

    def fail(_channel: object, address: str, **_: object) -> None:
        tries.append(address)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(leader_search, "CommandStream", fail)
    bench.lane.is_usable = False
    slot = Slot(b"word", deadline=monotonic() + DEADLINE)
    bench.delivery.start(slot)
    until(lambda: len(tries) > 1, what="it tries again")
    bench.lane.is_usable = True
    assert slot is bench.lane.next()[0]


def test_who_is_interrupted_leaves_nothing_behind(bench: Bench) -> None:
    """Else a command would be sent again for ever that nobody waits for."""

    class Interrupted:
        """Ctrl-C while it is waited for."""

        def acquire(self, timeout: float) -> bool:
            del timeout
            raise KeyboardInterrupt

        def release(self) -> None:
            """Nothing."""

    slot = Slot(b"word", deadline=monotonic() + DEADLINE)
    slot.done = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        bench.delivery.deliver(slot)
    assert not bench.delivery._ledger.slots


def test_an_interrupt_leaves_no_number_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the session would be full one day, for good."""
    slot, _ = bench.start()
    session, begin = slot.session, Session.begin
    bench.lane.answer(slot)

    def interrupted(session: Session) -> int:
        begin(session)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.delivery.deliver(Slot(b"word", deadline=monotonic() + DEADLINE))
    assert session is not None
    assert not session._open
    assert not bench.delivery._ledger.slots


def test_an_interrupt_takes_back_what_was_not_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has the future of it."""

    def interrupted(_slot: Slot) -> None:
        raise KeyboardInterrupt

    slot, _ = bench.start()
    bench.lane.answer(slot)
    slot = Slot(b"word", on_done=lambda _: None)
    bench.lane.withdrawable.add(slot)
    with monkeypatch.context() as patch:
        patch.setattr(bench.lane, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.delivery.post(slot)
    assert not bench.delivery._ledger.slots


def test_a_callback_may_close_its_caller(bench: Bench) -> None:
    """In the courier's own thread."""
    closed = Event()

    def close(_slot: Slot) -> None:
        bench.delivery.close()
        closed.set()

    bench.start(timeout=0.05, on_done=close)
    assert closed.wait(DEADLINE)


def test_who_was_answered_together_is_woken_one_by_one(bench: Bench) -> None:
    """Each wakes the next; who waits for many, or gave up meanwhile, keeps nobody asleep."""
    first = bench.start()[0]
    slots = [Slot(b"word", deadline=monotonic() + DEADLINE) for _ in range(5)]
    late, *many = (
        Slot(b"word", deadline=monotonic() + DEADLINE, is_one_of_many=True) for _ in range(3)
    )
    deliver, deliver_all = bench.delivery.deliver, bench.delivery.deliver_all
    threads = [Thread(target=deliver, args=(slot,), daemon=True) for slot in slots]
    of_many = Thread(target=deliver_all, args=([late, *many],), daemon=True)
    for thread in (*threads, of_many):
        thread.start()
    assert {*slots, late, *many} == {bench.lane.next()[0] for _ in range(8)}
    everybody = [first, *slots[:2], *many, *slots[2:]]
    bench.lane.answer_all(everybody)
    bench.delivery._wait(first)  # comes late: it passes on all the same
    first.pass_on()
    until(lambda: not any(thread.is_alive() for thread in threads), what="all are awake")
    bench.lane.answer(late)
    of_many.join(DEADLINE)
    assert not of_many.is_alive()
    assert {b"done"} == {slot.result for slot in [*everybody, late]}


def test_an_interrupt_breaks_no_chain(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C meets the thread that should wake the next one."""
    first, second = Slot(b"word", deadline=monotonic() + DEADLINE), bench.start()[0]

    def interrupted(slot: Slot) -> None:
        bench.lane.answer_all([first, second])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.delivery, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.delivery.deliver(first)
    assert second.done.acquire(timeout=DEADLINE)
    assert (None, None) == (first.error, second.error)
