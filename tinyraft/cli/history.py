"""What the hammer's clients were told, in a few bytes a word.

Law: writes down and judges nothing. No clock is compared: a word or a read remembers its *floor*,
how many words somebody had been told of when it was begun. It must lie behind all of them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from threading import Lock

from tinyraft.cli.traffic import Outcome

FATES = tuple(Outcome)


class Horizon:
    """How many words there are, as far as anybody was told. Thread-safe."""

    def __init__(self, count: int) -> None:
        """Begin with what was there before."""
        self._lock = Lock()  # guards _count; leaf
        self._count = count

    @property
    def count(self) -> int:
        """The floor of what is begun now."""
        return self._count

    def told(self, count: int) -> None:
        """Somebody was told that there are so many."""
        with self._lock:
            self._count = max(self._count, count)


class Book:
    """What one client sent and saw. Written by its thread; to be read when that has ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.floors = array("q")
        self.positions = array("q")  # answered; 0 without an answer
        self.seconds = array("f")  # of the acknowledged ones, in order
        self._fates = bytearray()
        self.reads = 0
        self.stale = 0
        self.example = (0, 0)  # of the last one: floor, count
        self.failed_reads = 0
        self.errors: Counter[str] = Counter()

    def begin(self, floor: int) -> int:
        """Number a new word, from 0."""
        self.floors.append(floor)
        self.positions.append(0)
        self._fates.append(FATES.index(Outcome.WAITING))
        return len(self._fates) - 1

    def acknowledge(self, number: int, position: int, *, seconds: float) -> None:
        """Note that a word was answered with its *position*, after so long."""
        self._fates[number] = FATES.index(Outcome.ACKNOWLEDGED)
        self.positions[number] = position
        self.seconds.append(seconds)

    def fail(self, number: int, outcome: Outcome, error: Exception) -> None:
        """Note that a word was not acknowledged, and why."""
        self._fates[number] = FATES.index(outcome)
        self.errors[type(error).__name__] += 1

    def read(self, floor: int, count: int) -> None:
        """Note that a linearizable read, begun at *floor*, saw *count* words."""
        self.reads += 1
        if count < floor:
            self.stale += 1
            self.example = (floor, count)

    def fail_read(self, error: Exception) -> None:
        """Note that a read had no answer, and why."""
        self.failed_reads += 1
        self.errors[type(error).__name__] += 1

    def __len__(self) -> int:
        """How many words were begun."""
        return len(self._fates)

    def outcome(self, number: int) -> Outcome:
        """What became of a word."""
        return FATES[self._fates[number]]

    def having(self, outcome: Outcome) -> int:
        """How many words have that outcome."""
        return self._fates.count(FATES.index(outcome))


class History:
    """The books of all clients, and the names of their words."""

    def __init__(self, run: bytes, clients: int, *, start: int = 0) -> None:
        """Prepare for a list that has *start* words; *run* tells ours from all others."""
        self.start = start
        self.horizon = Horizon(start)
        self.books: Sequence[Book] = [Book() for _ in range(clients)]
        self._run = run

    def word(self, client: int, number: int) -> bytes:
        """Name a word: small, and like no other."""
        return b"%s.%x.%x" % (self._run, client, number)

    def whose(self, word: bytes) -> tuple[int, int] | None:
        """Find the client and the number of a word; None if it was not sent in this run."""
        run, *rest = word.split(b".")
        try:
            client, number = (int(part, 16) for part in rest)
        except ValueError:
            return None
        known = run == self._run and client < len(self.books) and number < len(self.books[client])
        return (client, number) if known and self.word(client, number) == word else None

    def is_ours(self, word: bytes) -> bool:
        """Whether a word looks like one of this run, sent or not."""
        return word.startswith(self._run + b".")

    def having(self, outcome: Outcome) -> int:
        """How many words have that outcome."""
        return sum(book.having(outcome) for book in self.books)

    def numbered(self) -> Iterator[tuple[Book, int, int]]:
        """Give every word: its book, its client, its number."""
        for client, book in enumerate(self.books):
            for number in range(len(book)):
                yield book, client, number
