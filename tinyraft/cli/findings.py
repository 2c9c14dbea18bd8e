"""The hammer's judgement: what the nodes hold against what the clients were told.

Law: pure, and each list is gone through once, word by word. Nothing is excused.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

from tinyraft.cli.history import History
from tinyraft.cli.traffic import Outcome
from tinyraft.cli.verdict import MOST, shown

LOST = "lost"
DUPLICATED = "duplicated"
MISORDERED = "misordered"
STALE = "stale"
REVIVED = "revived"  # certainly not applied, and there
FOREIGN = "foreign"  # nobody sent it
DIFFERENT = "different"  # not on every node
UNANSWERED = "unanswered"  # its client ended without an outcome
KINDS = (LOST, DUPLICATED, MISORDERED, STALE, REVIVED, FOREIGN, DIFFERENT, UNANSWERED)


class Findings:
    """What is wrong: how often, with a few examples of each kind."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.counts = Counter(dict.fromkeys(KINDS, 0))
        self.problems: list[str] = []

    def add(self, kind: str, text: str, *, times: int = 1) -> None:
        """Count a problem, and keep its text if it is among the first."""
        if self.counts[kind] < MOST:
            self.problems.append(f"{kind}: {text}")
        self.counts[kind] += times


def examine(history: History, lists: Mapping[str, Iterable[bytes]]) -> Findings:
    """Compare the words of every node, those behind the first `History.start`, with the history."""
    findings = Findings()
    examine_clients(history, findings)
    first: list[array[int]] | None = None
    for node, words in lists.items():
        places = examine_node(history, node, words, findings)
        first = first or places
        for book, client, number in history.numbered():
            place = places[client][number]
            if not place and book.outcome(number) is Outcome.ACKNOWLEDGED:
                findings.add(LOST, f"{node} lacks {shown(history.word(client, number))}")
            elif place != first[client][number]:
                word = shown(history.word(client, number))
                findings.add(DIFFERENT, f"{node} has {word} in another place, or alone")
    return findings


def examine_clients(history: History, findings: Findings) -> None:
    """Judge what can be judged without any node."""
    for client, book in enumerate(history.books, 1):
        if book.stale:
            floor, count = book.example
            text = f"client {client} read {count} words when {floor} had been told of"
            findings.add(STALE, text, times=book.stale)
        if waiting := book.having(Outcome.WAITING):
            findings.add(UNANSWERED, f"client {client} ended at work", times=waiting)


def examine_node(
    history: History, node: str, words: Iterable[bytes], findings: Findings
) -> list[array[int]]:
    """Judge one node's list; return where it has each client's words, 0 for nowhere."""
    places = [array("q", bytes(8 * len(book))) for book in history.books]
    place = history.start
    for place, word in enumerate(words, history.start + 1):
        owner = history.whose(word)
        if owner is None:
            if history.is_ours(word):
                findings.add(FOREIGN, f"{node} has {shown(word)}, which nobody sent")
            continue
        client, number = owner
        if places[client][number]:
            before = places[client][number]
            findings.add(DUPLICATED, f"{node} has {shown(word)} as word {before} and {place}")
            continue
        places[client][number] = place
        book = history.books[client]
        if book.outcome(number) is Outcome.REFUSED:
            findings.add(REVIVED, f"{node} has {shown(word)}, which was refused")
        if book.positions[number] not in (0, place):
            told = book.positions[number]
            findings.add(MISORDERED, f"{node} has {shown(word)} as word {place}, not {told}")
        elif place <= book.floors[number]:
            told = book.floors[number]
            findings.add(
                MISORDERED,
                f"{node} has {shown(word)} as word {place}; {told} were told of before it was sent",
            )
    if place < history.horizon.count:
        findings.add(LOST, f"{node} has {place} words; {history.horizon.count} were told of")
    return places
