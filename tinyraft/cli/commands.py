"""The verbs: what each takes and prints; the work is in the files beside this one."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from tinyraft._version import __version__
from tinyraft.cli.exits import faults
from tinyraft.settings import SETTINGS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Raft for Flask and plain-threads programs.

    Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 3 nobody answers, 6 damaged
    data.
    """


def variables() -> str:
    """List the settings for a help text; the bar keeps click from joining the lines."""
    width = max(len(setting.variable) for setting in SETTINGS)
    lines = ["\b", "Environment:"]
    for setting in SETTINGS:
        text = f"{setting.meaning} [{setting.default}]" if setting.default else setting.meaning
        name = f"  {setting.variable:{width}}  "
        lines += textwrap.wrap(
            text, 78, initial_indent=name, subsequent_indent=" " * len(name), break_on_hyphens=False
        )
    return "\n".join(lines)


@group.command(epilog=variables())
@click.argument("target", metavar="MODULE:FACTORY")
@click.option("--env-file", metavar="FILE", help="Read variables that are not set from FILE.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What goes to stderr.",
)
@click.option("--with-parent", is_flag=True, help="End when standard input ends.")
def serve(target: str, env_file: str | None, log_level: str, with_parent: bool) -> None:
    """Run one node until SIGTERM or Ctrl-C.

    FACTORY is a class or function in MODULE that makes the state machine; it is called without
    arguments. MODULE may lie in the current directory. The node is configured by its environment
    alone.
    """
    from tinyraft.cli import serve as verb

    with faults():
        verb.log_to_stderr(log_level)
        verb.serve(target, env_file=env_file, with_parent=with_parent)


@group.command()
@click.argument(
    "addresses", metavar="[ADDR,...]", envvar="RAFT_JOIN", default="127.0.0.1:50051", required=False
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds for a node to answer.")
def status(addresses: str, as_json: bool, timeout: float) -> None:
    """Show all nodes of the cluster that answers at ADDR.

    One address will do. Without any, those of RAFT_JOIN are asked, else 127.0.0.1:50051.
    """
    from tinyraft.cli import status as verb

    with faults():
        verb.status(addresses, as_json=as_json, timeout=timeout)


@group.command()
@click.option("--nodes", type=click.IntRange(1, 7), default=3, show_default=True)
@click.option(
    "--words",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A text file; a story about clusters unless given.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep data and logs in DIR, which must be empty.",
)
@click.option("--threads", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(nodes: int, words: Path | None, keep: Path | None, threads: int, as_json: bool) -> None:
    """Start a cluster here, kill its leader at work, and check that nothing was lost.

    Every word of a text is replicated. A third of the way the leader is killed (SIGKILL) and
    started again. At the end each acknowledged word must be on every node exactly once, in the same
    order.
    """
    from tinyraft.cli import demo as verb

    with faults():
        verb.demo(count=nodes, words=words, keep=keep, threads=threads, as_json=as_json)


@group.command()
def version() -> None:
    """Print the version."""
    click.echo(f"tinyraft {__version__}")
