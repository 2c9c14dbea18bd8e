"""Questions that many share: nobody gets an old answer, and somebody always asks."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Lock, Thread
from time import monotonic

import pytest

from tests.cluster import until
from tinyraft.errors import NotLeader, TinyraftError
from tinyraft.node import questions as questions_module
from tinyraft.node.questions import Question, Questions

WAIT = 20.0


class Asked:
    """Who is asked: answers when the test says so."""

    def __init__(self) -> None:
        self.open: list[Question] = []
        self.does: Callable[[Question, float | None], bool] = lambda _question, _deadline: True
        self.questions = Questions(self.ask)
        self.found: list[tuple[int, bool, TinyraftError | None]] = []

    def ask(self, question: Question, deadline: float | None) -> bool:
        self.open.append(question)
        return self.does(question, deadline)

    def reader(self, number: int = 0, *, timeout: float = WAIT) -> Thread:
        """Begin to share a question in a thread of its own."""

        def read() -> None:
            question, is_answered = self.questions.share(
                deadline=monotonic() + timeout, patience=float(number)
            )
            self.found.append((number, is_answered, question.error))

        thread = Thread(target=read, daemon=True)
        thread.start()
        return thread

    def gathered(self, count: int) -> None:
        """Wait until so many wait for the next question."""
        until(lambda: len(self.questions._gathering.chain) == count, what="they wait")

    def answer(self, number: int, error: TinyraftError | None = None) -> None:
        """Answer a question, once it is asked."""
        until(lambda: len(self.open) > number, what="it is asked")
        self.open[number].close(error)


def test_a_newcomer_never_gets_the_answer_of_a_question_that_was_asked_before() -> None:
    """It waits for the next, which all who came meanwhile share (6.4)."""
    asked = Asked()
    threads = [asked.reader(1)]
    until(lambda: asked.open, what="the first asks")
    threads += [asked.reader(number) for number in (2, 3, 4)]
    asked.gathered(3)
    asked.answer(0)
    threads[0].join(WAIT)
    assert [(1, True, None)] == asked.found
    asked.answer(1)
    for thread in threads:
        thread.join(WAIT)
    assert [1, 2, 3, 4] == sorted(number for number, _, _ in asked.found)
    assert (2, 4.0) == (len(asked.open), asked.open[1].patience)
    assert float("-inf") == asked.questions._asked_at


def test_an_error_is_an_answer_for_all() -> None:
    """Each decides for itself what to do."""
    asked, error = Asked(), NotLeader("x")
    threads = [asked.reader(1)]
    until(lambda: asked.open, what="the first asks")
    threads += [asked.reader(2), asked.reader(3)]
    asked.gathered(2)
    asked.answer(0, error)
    asked.answer(1, error)
    for thread in threads:
        thread.join(WAIT)
    assert [(n, True, error) for n in (1, 2, 3)] == sorted(asked.found, key=lambda one: one[0])


def test_who_is_out_of_time_leaves_the_others_waiting() -> None:
    """The question stays asked."""
    asked = Asked()
    hasty = asked.reader(1, timeout=0.05)
    hasty.join(WAIT)
    assert [(1, False, None)] == asked.found
    thread = asked.reader(2)
    asked.gathered(1)
    asked.answer(0)
    asked.answer(1)
    thread.join(WAIT)
    assert [(1, False, None), (2, True, None)] == asked.found


@pytest.mark.parametrize("end", ["no time", "an interrupt"])
def test_who_can_not_ask_lets_another(end: str) -> None:
    """One of those who share the question, else one of the next."""
    asked = Asked()
    may_end = Lock()
    may_end.acquire()

    def give_up(_question: Question, _deadline: float | None) -> bool:
        if len(asked.open) > 1:
            return True
        may_end.acquire()
        if end == "an interrupt":
            raise KeyboardInterrupt
        return False

    asked.does = give_up

    def interrupted() -> None:
        try:
            _, is_answered = asked.questions.share(deadline=monotonic() + WAIT, patience=1.0)
        except KeyboardInterrupt:
            is_answered = False
        assert not is_answered

    first = Thread(target=interrupted, daemon=True)
    first.start()
    until(lambda: asked.open, what="the first asks")
    second, third = asked.reader(2), asked.reader(3)
    asked.gathered(2)
    may_end.release()
    first.join(WAIT)
    asked.answer(1)
    second.join(WAIT)
    third.join(WAIT)
    assert [2, 3] == sorted(number for number, is_answered, _ in asked.found if is_answered)


def test_a_question_that_is_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a newcomer, after a while."""
    asked = Asked()
    lost = asked.reader(1)
    until(lambda: asked.open, what="the first asks")
    monkeypatch.setattr(questions_module, "OVERDUE_SECONDS", -1.0)
    second = asked.reader(2)
    asked.answer(1)
    second.join(WAIT)
    asked.answer(0)
    lost.join(WAIT)
    assert [(2, True, None), (1, True, None)] == asked.found


def test_the_next_need_not_wait_for_those_who_wait_for_their_module() -> None:
    """Their question is answered; they can't go yet."""
    asked = Asked()
    first = asked.reader(1)
    until(lambda: asked.open, what="the first asks")
    second = asked.reader(2)
    asked.gathered(1)
    asked.questions.go_on(asked.open[0])
    asked.answer(1)
    second.join(WAIT)
    assert [(2, True, None)] == asked.found
    asked.answer(0)
    first.join(WAIT)
    assert 2 == len(asked.open)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_everybody_has_an_answer_or_no_time(seed: int) -> None:
    """Askers that give up, short times, answers from other threads, at any moment."""
    chance = random.Random(seed)
    asked_at: dict[Question, float] = {}

    def ask(question: Question, deadline: float | None) -> bool:
        if chance.random() < (0.1 if deadline else 0.5):
            return False
        asked_at[question] = monotonic()
        how = chance.random()
        if how < 0.3:
            question.close(None)
        elif how < 0.5:
            question.close(NotLeader("x"))
        else:
            Thread(target=question.close, args=(None,), daemon=True).start()
        return True

    questions, wrong = Questions(ask), list[str]()

    def read(patient: bool) -> None:
        for _ in range(200):
            began = monotonic()
            timeout = WAIT if patient else chance.random() * 0.002
            question, is_answered = questions.share(deadline=began + timeout, patience=1.0)
            if is_answered and asked_at[question] < began:
                wrong.append("old")

    threads = [Thread(target=read, args=(n % 2 == 0,), daemon=True) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)
    assert [] == wrong
    assert float("-inf") == questions._asked_at
