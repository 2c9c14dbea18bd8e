"""One question for all who want to know the same.

Law: a question answers only those who had it before it was asked. While one is under way, newcomers
wait together for the next; so the load decides how many share one, and nobody gets an old answer.

Whoever comes when nothing is under way asks, for itself and for those who came by then. The next
is asked when all who shared the answer are awake, by the last of them or by the first who waits:
one big question is cheaper than two small ones. Who gives up, is out of time or is interrupted as
it should ask, lets another do it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic

from tinyraft.chain import Chain
from tinyraft.core.entry import Index
from tinyraft.errors import TinyraftError
from tinyraft.node.waiters import Waiter

OVERDUE_SECONDS = 2.0  # then somebody else asks, too: the first may be lost


class Question:
    """A question, who shares it, and what came of it."""

    __slots__ = ("chain", "error", "index", "is_over", "patience", "waiter")

    def __init__(self, at_end: Callable[[], object]) -> None:
        """Begin with nobody; *at_end* is called when all were told."""
        self.chain = Chain(at_end)
        self.patience = 0.0  # seconds that the most patient gives whoever is asked
        self.waiter: Waiter | None = None
        self.index: Index | None = None
        self.error: TinyraftError | None = None
        self.is_over = False

    def close(self, error: TinyraftError | None) -> None:
        """Let all go who share it; again, it changes nothing."""
        if not self.is_over:
            self.error = error
            self.is_over = True
            self.chain.open()


class Questions:
    """The question under way, and those who wait for the next. Thread-safe; its lock is a leaf."""

    def __init__(self, ask: Callable[[Question, float | None], bool]) -> None:
        """Begin with none.

        *ask(question, deadline)* sees to it that the question is closed, then or later, in whatever
        thread; or is False when time was too short. It blocks only in a thread that waits anyway,
        whose *deadline* is not None.
        """
        self._ask = ask
        self._lock = Lock()  # guards the following; leaf
        self._gathering = Question(self._ask_next)
        self._asked_at = float("-inf")  # the one under way; nothing is under way at -inf

    def share(self, *, deadline: float, patience: float) -> tuple[Question, bool]:
        """Wait for the answer of a question that is asked from now on.

        Returns:
            The question, and False when time (monotonic) was over before it was.
        """
        place = Lock()
        place.acquire()
        now, asks = monotonic(), False
        with self._lock:
            question = self._gathering
            question.chain.join(place)
            question.patience = max(question.patience, patience)
            if now - self._asked_at > OVERDUE_SECONDS:
                self._asked_at, asks, self._gathering = now, True, Question(self._ask_next)
        if asks and not self._try(question, place, deadline):
            return question, False
        while self._is_woken(question, place, deadline):
            if question.is_over:
                question.chain.pass_on()
                return question, True
            question.chain.join_again(place)  # woken to ask for the others
            if not self._try(question, place, deadline):
                break
        return question, False

    def _try(self, question: Question, place: Lock, deadline: float) -> bool:
        """Ask in this thread; False when its time is over."""
        is_asked = False
        try:
            is_asked = self._ask(question, deadline)
        finally:
            if not is_asked:
                question.chain.leave(place)
                self._pass_on(question)
        return is_asked

    def _is_woken(self, question: Question, place: Lock, deadline: float) -> bool:
        """Wait to be woken; False when time is over."""
        try:
            if not place.acquire(timeout=max(0.0, deadline - monotonic())):
                if question.chain.leave(place):
                    return False
                place.acquire()
        except BaseException:
            if not question.chain.leave(place):
                self._pass_on(question)
            raise
        return True

    def _pass_on(self, question: Question) -> None:
        """Let another do what this thread was woken for."""
        if question.is_over:
            question.chain.pass_on()
        else:
            self._hand_on(question)

    def _hand_on(self, question: Question) -> None:
        """Let somebody ask who shares *question*, or who waits for the next."""
        following: Question | None = question
        while following is not None and not following.chain.wake():
            following = self._take_next()

    def _take_next(self) -> Question | None:
        """Take the question that is to be asked now; None when nobody has one."""
        with self._lock:
            question = self._gathering
            if not len(question.chain):
                self._asked_at = float("-inf")
                return None
            self._asked_at = monotonic()
            self._gathering = Question(self._ask_next)
        return question

    def go_on(self, question: Question) -> None:
        """Let the next be asked, though those who share *question* can't go yet."""
        if question.chain.take_end() is not None:
            following = self._take_next()
            if following is not None:
                self._hand_on(following)

    def _ask_next(self) -> None:
        """The last one is over: ask the next, in this thread if it need not wait for that."""
        question = self._take_next()
        if question is None:
            return
        is_asked = False
        try:
            is_asked = self._ask(question, None)
        finally:
            if not is_asked:
                self._hand_on(question)
