"""The hammer's clients: each thread sends words that nobody else sends, and reads in between.

Law: a word is sent once; what the caller says of it is written down as it is, and retried by
nobody here. Memory is bounded: words are sent no faster than the run can remember.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from random import Random
from threading import Event, Thread
from time import monotonic
from typing import Self

from tinyraft.caller import Caller
from tinyraft.cli.gaps import Gaps
from tinyraft.cli.history import History
from tinyraft.cli.traffic import APPLY_SECONDS, Outcome
from tinyraft.errors import TinyraftError, may_have_applied

MOST_WORDS = 1_000_000  # a run remembers about 30 bytes a word
SHARE = 4  # clients that use one Caller, so that both its stream and several of them are hammered
READS = 0.25  # of what a client does
REST_SECONDS = 0.02  # after an error, else a node that is down is asked as fast as we can


class Clients:
    """All of them; a context manager that ends them."""

    def __init__(
        self, addresses: Sequence[str], history: History, gaps: Gaps, *, seconds: float, seed: int
    ) -> None:
        """Prepare a thread for each book of *history*, for a run that lasts *seconds*."""
        count = len(history.books)
        self._history = history
        self._gaps = gaps
        self._random = [Random(f"{seed} {client}") for client in range(count)]
        self._interval = seconds * count / MOST_WORDS
        self._stopping = Event()
        self._threads: list[Thread] = []
        # Each begins at another node, for a caller's reads go to the first that answers.
        turns = [i % len(addresses) for i in range(-(-count // SHARE))]
        self._callers = [Caller([*addresses[turn:], *addresses[:turn]]) for turn in turns]

    def __enter__(self) -> Self:
        """Start all."""
        with ExitStack() as undo:
            undo.push(self.__exit__)
            for client in range(len(self._history.books)):
                thread = Thread(target=self._run, args=(client,), name=f"tinyraft-hammer-{client}")
                thread.start()
                self._threads.append(thread)  # now: what never began must not be joined
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all at once; what is under way has an unknown outcome."""
        self._stopping.set()
        for caller in self._callers:
            caller.close()
        self.stop()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are owed."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    # --- in the threads -----------------------------------------------------------------------

    def _run(self, client: int) -> None:
        """Send and read until it is over; how much is sent a second has a limit."""
        random, book = self._random[client], self._history.books[client]
        caller, began = self._callers[client // SHARE], monotonic()
        while not self._stopping.is_set():
            if random.random() < READS:
                is_fine = self._read(client, caller)
            else:
                due = began + len(book) * self._interval
                if due > monotonic() and self._stopping.wait(due - monotonic()):
                    return
                is_fine = self._send(client, caller)
            if not is_fine:
                self._stopping.wait(REST_SECONDS)

    def _send(self, client: int, caller: Caller) -> bool:
        book, horizon = self._history.books[client], self._history.horizon
        number, began = book.begin(horizon.count), monotonic()
        try:
            answer = caller.apply(self._history.word(client, number), timeout=APPLY_SECONDS)
        except TinyraftError as error:
            unknown = may_have_applied(error)
            book.fail(number, Outcome.UNKNOWN if unknown else Outcome.REFUSED, error)
            return False
        position, ended = int(answer or b""), monotonic()
        book.acknowledge(number, position, seconds=ended - began)
        horizon.told(position)
        self._gaps.acknowledged(began=began, ended=ended)
        return True

    def _read(self, client: int, caller: Caller) -> bool:
        book, horizon = self._history.books[client], self._history.horizon
        floor = horizon.count
        try:
            count = int(caller.query(b"count", timeout=APPLY_SECONDS))
        except TinyraftError as error:
            book.fail_read(error)
            return False
        book.read(floor, count)
        horizon.told(count)
        return True
