"""Tables: drawn for a person, plain columns for a pipe."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print *rows* to stdout."""
    texts = [[str(cell) for cell in row] for row in rows]
    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row in texts:
            table.add_row(*(Text(cell) for cell in row))  # as Text: "[...]" is no markup here
        console.print(table)
        return
    lines = [list(columns), *texts]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
