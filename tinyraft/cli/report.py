"""How the demo tells its story: talk on the way, a table and figures at the end."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from tinyraft.cli.table import print_table
from tinyraft.cli.traffic import Outcome, Sending
from tinyraft.core.status import Status

FAILOVER = "from the kill to the first acknowledgement of a word that was sent after it"


class Talk:
    """What happens, line by line on stderr; on a terminal with a bar below."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    @contextmanager
    def bar(self, total: int) -> Iterator[Callable[[], object]]:
        """Show how many of *total* are done; what it gives is called once for each."""
        if not self._console.is_terminal:
            yield lambda: None
            return
        columns = ("words", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("words", total=total)
            yield lambda: progress.advance(task)


@dataclass(slots=True, frozen=True)
class NodeResult:
    """A node at the end."""

    status: Status
    words: int
    digest: str


@dataclass(slots=True, frozen=True)
class Result:
    """How it went; *on_nodes* is what the nodes hold."""

    nodes: Sequence[NodeResult]
    sendings: Sequence[Sending]
    on_nodes: frozenset[bytes]
    killed: str
    failover_seconds: float
    problems: Sequence[str]

    def having(self, outcome: Outcome) -> list[Sending]:
        """Return the words with that *outcome*."""
        return [sending for sending in self.sendings if sending.outcome is outcome]

    @property
    def retried(self) -> list[Sending]:
        """The words that were certainly not applied at first, and sent again."""
        return [sending for sending in self.sendings if sending.retries]

    @property
    def seconds(self) -> float:
        """From the first word's sending to the last one's answer."""
        return max(s.ended for s in self.sendings) - min(s.began for s in self.sendings)


def print_result(result: Result, *, as_json: bool) -> None:
    """Print *result* to stdout."""
    if as_json:
        click.echo(json.dumps(to_json(result), indent=2))
        return
    columns = ("node", "role", "term", "commit", "applied", "words", "digest")
    print_table(columns, [to_row(node) for node in result.nodes])
    for line in summary(result):
        click.echo(line)


def to_row(node: NodeResult) -> tuple[object, ...]:
    """Fill one line of the table."""
    said = node.status
    indexes = (said.term, said.commit_index, said.last_applied)
    return (said.node_id, said.role.value, *indexes, node.words, node.digest)


def summary(result: Result) -> Iterator[str]:
    """Say what the table does not."""
    acknowledged = len(result.having(Outcome.ACKNOWLEDGED))
    yield (
        f"{acknowledged} of {len(result.sendings)} words acknowledged in {result.seconds:.2f} s,"
        f" failover included: {acknowledged / result.seconds:.0f} words/s"
    )
    yield f"failover: {result.failover_seconds * 1000:.0f} ms ({FAILOVER})"
    if result.retried:
        yield f"{len(result.retried)} words were certainly not applied at first, and sent again"
    unknown = result.having(Outcome.UNKNOWN)
    if unknown:
        there = [s for s in unknown if s.command in result.on_nodes]
        yield f"{len(unknown)} words had an unknown outcome (MaybeApplied) and were not sent again:"
        yield from listed("on every node: ", there)
        yield from listed("on none: ", [s for s in unknown if s.command not in result.on_nodes])
    if not result.problems:
        yield "every acknowledged word is on every node exactly once, in the same order"


def listed(title: str, sendings: Sequence[Sending]) -> Iterator[str]:
    """Name words in lines of a bearable length."""
    if sendings:
        names = ", ".join(s.command.decode(errors="replace") for s in sendings)
        yield textwrap.fill(title + names, 100, initial_indent="  ", subsequent_indent="    ")


def to_json(result: Result) -> dict[str, object]:
    """Name everything."""
    return {
        "ok": not result.problems,
        "problems": list(result.problems),
        "words": len(result.sendings),
        "acknowledged": len(result.having(Outcome.ACKNOWLEDGED)),
        "unknown": [
            {"word": s.command.decode(errors="replace"), "applied": s.command in result.on_nodes}
            for s in result.having(Outcome.UNKNOWN)
        ],
        "refused": [s.command.decode(errors="replace") for s in result.having(Outcome.REFUSED)],
        "retried": len(result.retried),
        "seconds": round(result.seconds, 3),
        "words_per_second": round(len(result.having(Outcome.ACKNOWLEDGED)) / result.seconds, 1),
        "killed": result.killed,
        "failover_ms": round(result.failover_seconds * 1000, 1),
        "failover_is": FAILOVER,
        "nodes": [
            {
                "id": node.status.node_id,
                "address": node.status.address,
                "role": node.status.role.value,
                "term": node.status.term,
                "commit_index": node.status.commit_index,
                "last_applied": node.status.last_applied,
                "words": node.words,
                "digest": node.digest,
            }
            for node in result.nodes
        ],
    }
