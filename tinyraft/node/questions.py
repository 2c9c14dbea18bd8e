"""One question for all who want to know the same.

Law: a question answers only those who had it before it was asked. While one is under way, newcomers
wait together for the next; so the load decides how many share one, and nobody gets an old answer.

Whoever comes when nothing is under way asks, for itself and for those who came by then. Behind an
answer the next is asked by the thread that brought it, if it may, or by the first who waits. Who
gives up, is out of time or is interrupted as it should ask, lets another do it.
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

    __slots__ = ("asker", "chain", "error", "index", "is_over", "patience", "waiter")

    def __init__(self) -> None:
        """Begin with nobody."""
        self.chain = Chain()
        self.patience = 0.0  # seconds that the most patient gives whoever is asked
        self.asker = 0  # the thread that is asking just now
        self.waiter: Waiter | None = None
        self.index: Index | None = None
        self.error: TinyraftError | None = None
        self.is_over = False

    def close(self, error: TinyraftError | None) -> None:
        """Let all go who share it; again, it changes nothing."""
        if not self.is_over:
            self.error = error
            self.is_over = True
            self.chain.wake()


class Questions:
    """The question under way, and those who wait for the next. Thread-safe; its lock is a leaf."""

    def __init__(self, ask: Callable[[Question, float], bool]) -> None:
        """Begin with none.

        *ask(question, deadline)* sees to it, in whatever thread, that the question is closed and
        the next one asked; or is False when time was too short.
        """
        self._ask = ask
        self._lock = Lock()  # guards the following; leaf
        self._gathering = Question()
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
                self._asked_at, asks, self._gathering = now, True, Question()
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
            self.hand_on(question)

    def hand_on(self, question: Question) -> None:
        """Let somebody ask who shares *question*, or who waits for the next."""
        following: Question | None = question
        while following is not None and not following.chain.wake():
            following = self.take_next()

    def take_next(self) -> Question | None:
        """Take the question that comes behind an answer, to ask it; None when nobody has one."""
        with self._lock:
            question = self._gathering
            if not len(question.chain):
                self._asked_at = float("-inf")
                return None
            self._asked_at = monotonic()
            self._gathering = Question()
        return question
