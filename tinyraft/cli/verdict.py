"""The demo's judgement: what the nodes hold against what the sender was told.

Law: pure. Nothing is excused: a word is lost, doubled, foreign or out of place, or the list is
right.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from tinyraft.cli.traffic import Outcome, Sending

MOST = 5  # problems of one kind that are named


def judge(sendings: Sequence[Sending], lists: Mapping[str, Sequence[bytes]]) -> list[str]:
    """Compare each node's list of words with the fate of every word; say all that is wrong."""
    problems = [*differences(lists), *islice(unanswered(sendings), MOST)]
    for node, words in lists.items():
        problems += islice(miscounts(sendings, words, node), MOST)
        problems += islice(misplaced(sendings, words, node), MOST)
    problems += islice(overtaken(sendings), MOST)
    return problems


def unanswered(sendings: Sequence[Sending]) -> Iterator[str]:
    """Find words that never got their answer."""
    for sending in sendings:
        if sending.outcome in (Outcome.WAITING, Outcome.REFUSED):
            yield f"{shown(sending.command)} was never applied: {sending.why}"


def differences(lists: Mapping[str, Sequence[bytes]]) -> Iterator[str]:
    """Find nodes that don't hold what the first one holds."""
    (first, expected), *others = lists.items()
    for node, words in others:
        if words != expected:
            pairs = enumerate(zip(expected, words, strict=False), 1)
            at = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(words)) + 1)
            yield f"{node} ({len(words)} words) differs from {first} ({len(expected)}) at word {at}"


def miscounts(sendings: Sequence[Sending], words: Sequence[bytes], node: str) -> Iterator[str]:
    """Find words that are there too often, or not often enough."""
    allowed = {
        Outcome.ACKNOWLEDGED: (1,),
        Outcome.UNKNOWN: (0, 1),
        Outcome.REFUSED: (0,),
        Outcome.WAITING: (0,),
    }
    counts = Counter(words)
    for sending in sendings:
        count = counts.pop(sending.command, 0)
        if count not in allowed[sending.outcome]:
            fate = sending.outcome.value
            yield f"{node} has {shown(sending.command)} {count} times; its outcome was: {fate}"
    for word, count in counts.items():
        yield f"{node} has {shown(word)} {count} times; nobody sent it"


def misplaced(sendings: Sequence[Sending], words: Sequence[bytes], node: str) -> Iterator[str]:
    """Find acknowledged words that don't stand where the answer said."""
    for sending in sendings:
        place = sending.position
        if sending.outcome is Outcome.ACKNOWLEDGED and words[place - 1 : place] != [
            sending.command
        ]:
            yield f"{node}: {shown(sending.command)} was acknowledged as word {place}, and is not"


def overtaken(sendings: Sequence[Sending]) -> Iterator[str]:
    """Find words that stand behind one which was only begun when they were done already."""
    done = [each for each in sendings if each.outcome is Outcome.ACKNOWLEDGED]
    latest: Sending | None = None
    for sending in sorted(done, key=lambda each: each.position):
        if latest is not None and sending.ended < latest.began:
            yield (
                f"{shown(sending.command)} was acknowledged before {shown(latest.command)} was"
                " sent, but stands behind it"
            )
        if latest is None or sending.began > latest.began:
            latest = sending


def digest(words: Sequence[bytes]) -> str:
    """Reduce a list of words to what two nodes can be compared by."""
    return hashlib.sha256(b"\n".join(words)).hexdigest()[:12]


def shown(command: bytes) -> str:
    """Write a command for a person."""
    return repr(command.decode(errors="replace"))
