"""One command of a caller on its way, over all its sendings.

Law: it is over once, whoever ends it: an answer, or time. While one of the sendings may have been
applied, no other makes it certain that the command was not.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, local

from tinyraft.chain import Chain
from tinyraft.errors import ReentrantCall, TinyraftError
from tinyraft.session import Session


class Here(local):
    """What this thread is at."""

    is_telling = False


HERE = Here()
NOBODY = Lock()  # where no thread waits for a future


def refuse_callback() -> None:
    """Refuse to wait in a future's callback: this thread is what others wait for.

    Raises:
        ReentrantCall: It is one.
    """
    if HERE.is_telling:
        raise ReentrantCall(
            "a future's callback can't wait for another command: submit it, or wait in a thread of"
            " the program"
        )


class Slot:
    """One command. Its owner's lock guards `was_written` and `is_over`."""

    __slots__ = (
        "chain",
        "command",
        "deadline",
        "done",
        "error",
        "index",
        "is_future",
        "is_in_doubt",
        "is_one_of_many",
        "is_over",
        "lane",
        "on_done",
        "opens_session",
        "request_id",
        "result",
        "sequence",
        "session",
        "stages",
        "term",
        "ticket",
        "was_written",
        "why",
    )

    def __init__(
        self,
        command: bytes,
        *,
        request_id: str = "",
        deadline: float | None = None,
        opens_session: bool = False,
        on_done: Callable[[Slot], None] | None = None,
        is_future: bool = False,
        is_one_of_many: bool = False,
    ) -> None:
        """Begin unsent; *on_done* is called once it is over, else `done` is opened.

        Of a future, what that calls may be the program's. One of many is not what its thread waits
        for at the moment, or not yet.
        """
        self.command = command
        self.request_id = request_id
        self.deadline = deadline
        self.opens_session = opens_session
        self.on_done = on_done
        self.is_future = is_future
        self.is_one_of_many = is_one_of_many
        self.session: Session | None = None
        self.sequence = 0
        self.lane: object = None  # where it was sent last
        self.ticket: object = None  # that lane's own
        self.result: bytes | None = None
        self.error: TinyraftError | None = None
        self.index = 0
        self.term = 0
        self.stages = (0, 0, 0)
        self.was_written = False  # by the present sending
        self.is_in_doubt = False  # an earlier sending may have been applied
        self.is_over = False
        self.why: TinyraftError | None = None  # it was sent again
        self.chain: Chain | None = None  # of those who were answered with it
        self.done = NOBODY
        if on_done is None or opens_session:
            self.done = Lock()
            self.done.acquire()

    def pass_on(self) -> None:
        """Wake the next of those that were answered together; by the thread that waited.

        Who leaves before it was woken does so, too: one time too many wakes somebody early.
        """
        chain, self.chain = self.chain, None
        if chain is not None:
            chain.pass_on()

    def tell(self) -> None:
        """Let its owner know that it is over. Called once, outside all locks."""
        if self.on_done is None:
            self.done.release()
        else:
            HERE.is_telling = True
            try:
                self.on_done(self)
            finally:
                HERE.is_telling = False
