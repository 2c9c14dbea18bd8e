"""What a run found, for people: medians in tables, and the goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.goals import Goal
from benchmarks.suite import Found

VERDICTS = {True: "met", False: "NOT MET", None: "—"}


def tables(found: Found) -> Iterator[str]:
    """Give a table for each part: the median of the rounds."""
    for part in dict.fromkeys(sample.part for sample in found.samples):
        rows = [sample for sample in found.samples if sample.part == part]
        names = [n for n in dict.fromkeys(n for row in rows for n in row.figures) if n != "threads"]
        lines = []
        for what in dict.fromkeys(row.what for row in rows):
            middles = (found.middle(part, what, name) for name in names)
            lines.append([what, *("" if m is None else f"{m:,.4g}" for m in middles)])
        if part == "threads":
            lines.sort(key=by_threads)
        yield table([part, *names], lines)


def by_threads(line: Sequence[str]) -> tuple[int, bool]:
    """Order what is measured at several numbers of threads; ours comes last."""
    what, _, threads = line[0].partition(" @")
    return int(threads or 0), what.startswith("tinyraft")


def verdicts(goals: Sequence[Goal]) -> str:
    """Give the table of the goals for which there is a figure."""
    found = [goal for goal in goals if goal.figure is not None]
    lines = [[VERDICTS[g.is_met], g.name, g.got, g.asked, g.note] for g in found]
    return table(["", "goal", "found", "asked", ""], lines, left=(0, 1, 4))


def table(heads: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Set columns side by side, as Markdown that can be read as it is."""
    rows = [list(heads), *map(list, lines)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join(cells) + " |"

    rule = (
        "-" * width if at in left else "-" * (width - 1) + ":" for at, width in enumerate(widths)
    )
    return "\n".join([line(rows[0]), "| " + " | ".join(rule) + " |", *map(line, rows[1:])])
