"""How a command ends: one line on stderr, and a code that a script can act on.

Law: no other file chooses an exit code. 0 means done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from tinyraft.errors import ConfigError, CorruptLog, TinyraftError

FAILED = 1  # refused, or tried in vain
USAGE = 2  # what was asked or configured can't be meant; click's own number
UNREACHABLE = 3  # nobody answered
DAMAGED = 6  # the data directory can't be trusted
INTERRUPTED = 130


class Fault(click.ClickException):
    """Ends the command with *message* and a code."""

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        """Keep the code for click."""
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click documents it for classes only

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as this program's."""
        click.echo(f"tinyraft: {self.message}", file=file, err=True)


@contextmanager
def faults() -> Iterator[None]:
    """Turn what tinyraft raises on purpose into the command's end."""
    try:
        yield
    except ConfigError as error:
        raise Fault(
            "\n  ".join(("can't use this configuration:", *error.problems)), code=USAGE
        ) from error
    except CorruptLog as error:
        raise Fault(str(error), code=DAMAGED) from error
    except TinyraftError as error:
        raise Fault(str(error)) from error
