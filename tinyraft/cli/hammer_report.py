"""What the hammer tells at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import click

from tinyraft.cli.findings import KINDS, Findings
from tinyraft.cli.gaps import Gaps
from tinyraft.cli.history import History
from tinyraft.cli.traffic import Outcome


@dataclass(slots=True, frozen=True)
class Hammering:
    """How it went; *seed* is None for a cluster that was not struck."""

    history: History
    gaps: Gaps
    findings: Findings
    blows: Mapping[str, int]
    seconds: float
    seed: int | None
    nodes: int


def print_hammering(result: Hammering, *, as_json: bool) -> None:
    """Print *result* to stdout."""
    told = to_json(result)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for line in summary(result, told):
        click.echo(line)


def to_json(result: Hammering) -> dict[str, Any]:
    """Name everything; durations are milliseconds unless they say seconds."""
    books = result.history.books
    applies = sorted(chain.from_iterable(book.seconds for book in books))
    return {
        "ok": not result.findings.problems,
        "problems": result.findings.problems,
        "seed": result.seed,
        "seconds": round(result.seconds, 3),
        "nodes": result.nodes,
        "clients": len(books),
        "sent": sum(map(len, books)),
        "acknowledged": len(applies),
        "unknown": result.history.having(Outcome.UNKNOWN),
        "refused": result.history.having(Outcome.REFUSED),
        "reads": sum(book.reads for book in books),
        "failed_reads": sum(book.failed_reads for book in books),
        **{kind: result.findings.counts[kind] for kind in KINDS},
        "applies_per_second": round(len(applies) / result.seconds, 1),
        "apply_ms": {
            "p50": ms(percentile(applies, 50)),
            "p99": ms(percentile(applies, 99)),
            "max": ms(percentile(applies, 100)),
        },
        "longest_gap_ms": ms(result.gaps.longest),
        "kills": result.blows.get("kill", 0),
        "pauses": result.blows.get("pause", 0),
        "outage_ms": {
            kind: {
                "count": len(lengths),
                "p50": ms(percentile(sorted(lengths), 50)),
                "max": ms(max(lengths)),
            }
            for kind, lengths in result.gaps.outages.items()
        },
        "errors": dict(sum((book.errors for book in books), Counter[str]())),
    }


def summary(result: Hammering, told: Mapping[str, Any]) -> Iterator[str]:
    """Say it for a person."""
    struck = "" if result.seed is None else f", {told['kills']} kills, {told['pauses']} pauses"
    yield (
        f"{told['clients']} clients, {told['nodes']} nodes, {result.seconds:.1f} s{struck}:"
        f" {told['applies_per_second']} words/s"
    )
    yield listed(told, "sent", "acknowledged", "unknown", "refused", "reads", "failed_reads")
    yield listed(told, *KINDS)
    if told["errors"]:
        yield "errors: " + ", ".join(f"{count} {name}" for name, count in told["errors"].items())
    took = told["apply_ms"]
    yield f"an apply took {took['p50']} ms (p50), {took['p99']} (p99), {took['max']} (max)"
    yield f"the longest time without an acknowledgement: {told['longest_gap_ms']} ms"
    for kind, took in told["outage_ms"].items():
        yield (
            f"from a {kind} to the first acknowledgement of a word sent after it:"
            f" {took['p50']} ms (p50), {took['max']} (max)"
        )
    if not result.findings.problems:
        yield "nothing was lost, duplicated or misordered, and no read was stale"


def listed(told: Mapping[str, Any], *names: str) -> str:
    """Put counts into one line."""
    return ", ".join(f"{told[name]} {name.replace('_', ' ')}" for name in names)


def percentile(ordered: Sequence[float], share: int) -> float:
    """Give the value below which *share* per cent of *ordered* lie; 0 of nothing."""
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] if ordered else 0.0


def ms(seconds: float) -> float:
    """Milliseconds, as exact as anybody wants them."""
    return round(1000 * seconds, 1)
