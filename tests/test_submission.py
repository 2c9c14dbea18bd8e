"""Submissions: futures like any other, whoever waits for them, and however."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from threading import Thread

import pytest

from tests.cluster import DEADLINE
from tinyraft import Stages, Submission
from tinyraft.errors import NotLeader, TinyraftError
from tinyraft.transport.slots import Slot


def slot_with(result: bytes | None = None, error: TinyraftError | None = None) -> Slot:
    slot = Slot(b"word")
    slot.result, slot.error = result, error
    slot.index, slot.term, slot.stages = 7, 3, (1_000_000, 2_000, 5)
    return slot


def settled(result: bytes | None = None, error: TinyraftError | None = None) -> Submission:
    submission = Submission()
    submission.settle(slot_with(result, error))
    return submission


def test_what_is_done_has_its_result_at_once() -> None:
    """And says where it was applied, and where its time went."""
    submission = settled(b"answer")
    assert (True, False) == (submission.done(), submission.running())
    assert (b"answer", None) == (submission.result(0), submission.exception(0))
    assert (7, 3) == (submission.index, submission.term)
    assert Stages(1.0, 0.002, 0.000005) == submission.stages
    assert not submission.cancelled()
    assert "finished" in repr(submission)


def test_what_failed_raises() -> None:
    """What `apply` would."""
    error = NotLeader("no")
    submission = settled(error=error)
    assert error is submission.exception(0)
    with pytest.raises(NotLeader):
        submission.result(0)


def test_what_is_open_is_neither() -> None:
    """It can't be cancelled, and who has no time is told."""
    submission = Submission()
    assert (False, True) == (submission.done(), submission.running())
    assert not submission.cancel()
    for look in (submission.result, submission.exception):
        with pytest.raises(TimeoutError):
            look(0.01)
    assert (0, 0, Stages(0.0, 0.0, 0.0)) == (submission.index, submission.term, submission.stages)


WAYS: list[Callable[[Submission], object]] = [
    lambda submission: submission.result(DEADLINE),
    lambda submission: submission.exception(DEADLINE),
    lambda submission: wait([submission], timeout=DEADLINE).done == {submission},
    lambda submission: next(as_completed([submission], timeout=DEADLINE)),
    lambda submission: asyncio.run(of_a_loop(submission)),
]


async def of_a_loop(submission: Submission) -> bytes | None:
    return await asyncio.wait_for(asyncio.wrap_future(submission), DEADLINE)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("number", range(len(WAYS)))
def test_whoever_waits_is_woken(number: int, is_late: bool) -> None:
    """By all the ways of the standard library, also when the answer comes at the same time."""
    for _ in range(1 if is_late else 200):
        submission, found = Submission(), []
        work, told = WAYS[number], found.append
        waiting = Thread(
            target=lambda one, work=work, told=told: told(work(one)), args=(submission,)
        )
        waiting.start()
        if is_late:
            waiting.join(0.05)
            assert not found
        submission.settle(slot_with(b"answer"))
        waiting.join(DEADLINE)
        assert found[0] in (b"answer", None, True, submission)


def test_of_two_the_first_that_is_done_ends_a_wait() -> None:
    """All submissions share a lock, and no wake-up."""
    one, other = Submission(), Submission()
    found: list[set[Future[bytes | None]]] = []
    waiting = Thread(
        target=lambda: found.append(wait([one, other], DEADLINE, FIRST_COMPLETED).done)
    )
    waiting.start()
    other.settle(slot_with(b"answer"))
    waiting.join(DEADLINE)
    assert [{other}] == found
    assert not one.done()


def test_who_waits_for_another_sleeps_on() -> None:
    """Else a wait for one would end early, with the end of any."""
    one, other = Submission(), Submission()
    found: list[bytes | None] = []
    waiting = Thread(target=lambda: found.append(one.result(DEADLINE)))
    waiting.start()
    other.settle(slot_with(b"other"))
    with pytest.raises(TimeoutError):
        one.result(0.05)
    one.settle(slot_with(b"one"))
    waiting.join(DEADLINE)
    assert [b"one"] == found


def test_callbacks_are_called_once_in_order_and_spoil_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before the end, behind it, and beside one that raises."""
    submission, called = Submission(), []

    def fails(_: object) -> None:
        raise ZeroDivisionError

    for callback in (called.append, fails, lambda _: called.append("second")):
        submission.add_done_callback(callback)
    submission.settle(slot_with(b"answer"))
    submission.add_done_callback(lambda _: called.append("late"))
    assert [submission, "second", "late"] == called
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_may_look_at_what_it_is_told() -> None:
    """Also where somebody waits for it."""
    for is_waited_for in (False, True):
        submission, seen = Submission(), []
        if is_waited_for:
            with pytest.raises(TimeoutError):
                submission.result(0)
        told = seen.append
        submission.add_done_callback(lambda over, told=told: told((over.result(), over.index)))
        submission.settle(slot_with(b"answer"))
        assert [(b"answer", 7)] == seen
