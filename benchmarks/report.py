"""What a run found, for people: medians in tables, and the goals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.goals import Goal
from benchmarks.suite import Found

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SEEN = ("per_second", "p50_ms", "p99_ms")
BY_THREADS = {
    "threads": "commands a second, p50 and p99 in ms",
    "pinned": "each process on one processor",
}
VERDICTS = {True: "met", False: "NOT MET", None: "—"}


def whole(found: Found, judged: Sequence[Goal], *, about: Mapping[str, object]) -> str:
    """Give all of it, as Markdown."""
    missing = [goal.name for goal in judged if goal.figure is None]
    notes = (*found.notes, f"goals without a figure: {'; '.join(missing) or 'none'}")
    return "\n\n".join(
        [
            ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()),
            *tables(found),
            *([verdicts(judged)] if len(missing) < len(judged) else []),
            "\n".join(f"- {note}" for note in notes),
        ]
    )


def put_into(path: Path, text: str) -> None:
    """Let *text* stand between the two marks of a file, instead of what was there."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no {BEGIN} and {END}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def tables(found: Found) -> Iterator[str]:
    """Give tables for each part: the median of the rounds."""
    for part in dict.fromkeys(sample.part for sample in found.samples):
        rows = [sample for sample in found.samples if sample.part == part]
        if part in BY_THREADS:
            yield by_threads(found, part)
            rows = [row for row in rows if " @" not in row.what]
        if part == "handoffs":
            yield by_process(found)
            continue
        names = [n for n in dict.fromkeys(n for row in rows for n in row.figures) if n != "threads"]
        lines = []
        for what in dict.fromkeys(row.what for row in rows):
            middles = (found.middle(part, what, name) for name in names)
            lines.append([what, *("" if m is None else f"{m:,.4g}" for m in middles)])
        if lines:
            yield table([part, *(name.replace("_", " ") for name in names)], lines)


def by_process(found: Found) -> str:
    """Set a process's threads against processes: waits and microseconds a command in a cell."""
    rows = [sample for sample in found.samples if sample.part == "handoffs"]
    columns = dict.fromkeys(name.partition(": ")[0] for row in rows for name in row.figures)
    lines = []
    for what in dict.fromkeys(row.what for row in rows):
        line = [what]
        for column in columns:
            pair = [found.middle("handoffs", what, f"{column}: {unit}") for unit in ("waits", "µs")]
            line.append("" if None in pair else "{:.2f}, {:.3g}".format(*pair))
        lines.append(line)
    return table(["waits and µs of a processor, a command", *columns], lines)


def by_threads(found: Found, part: str) -> str:
    """Set systems against numbers of threads."""
    names = [s.what.partition(" @") for s in found.samples if s.part == part and "@" in s.what]
    numbers = sorted({int(threads) for _, _, threads in names})
    lines = []
    for what in sorted(dict.fromkeys(what for what, _, _ in names), key=place):
        line = [what]
        for number in numbers:
            key = f"{what} @{number}"
            middles = [found.middle(part, key, name) for name in SEEN]
            line.append("" if None in middles else "{:,.0f}/s, {:.3g}, {:.3g}".format(*middles))
        lines.append(line)
    heads = [f"{number} thread{'s' if number > 1 else ''}" for number in numbers]
    return table([BY_THREADS[part], *heads], lines)


def place(what: str) -> tuple[bool, bool, str]:
    """Order: in the leader's process, from another one, the rest; the ceiling first of each."""
    return not what.endswith("local"), not what.endswith("remote"), what


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
