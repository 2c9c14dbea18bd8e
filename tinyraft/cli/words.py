"""The demo's state machine: a list of words, in the order in which the cluster agreed on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SLICE = 10_000  # words in one answer


class Words:
    """Appends every command; the answer is its position, counted from 1."""

    def __init__(self) -> None:
        """Begin with no words."""
        self.words: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        """Append *command* and answer its position in ASCII digits."""
        self.words.append(command)
        return b"%d" % len(self.words)

    def snapshot(self) -> Iterator[bytes]:
        """Copy the words; each is written behind its length."""
        return (b"%d " % len(word) + word for word in list(self.words))

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the words."""
        data, at = b"".join(chunks), 0
        self.words = []
        while at < len(data):
            start = data.index(b" ", at) + 1
            at, length = start, int(data[at : start - 1])
            self.words.append(data[at : at + length])
            at += length

    def query(self, request: bytes) -> bytes:
        """Answer ``count`` with how many words there are, anything else with words, line by line.

        ``words`` are all of them, ``words 500`` at most `SLICE` behind the first 500.
        """
        if request == b"count":
            return b"%d" % len(self.words)
        _, _, behind = request.partition(b" ")
        start, end = (int(behind), int(behind) + SLICE) if behind else (0, None)
        return b"\n".join(self.words[start:end])
