"""The command line.

Law: uses only what a program could use too, and configures logging for its own process only. A verb
imports what it needs when it runs, so that help never waits for gRPC. Data goes to stdout, talk to
stderr.
"""

from __future__ import annotations

import sys

EXTRA = frozenset({"click", "rich"})


def main() -> None:
    """Run the command line; without its libraries say how to get them."""
    try:
        import rich  # noqa: F401  # asked for now, and imported by the verbs that print tables

        from tinyraft.cli.commands import group
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        sys.exit(
            f"tinyraft: the command line needs {error.name}; pip install 'tinyraft[cli]' brings it"
        )
    group(prog_name="tinyraft")
