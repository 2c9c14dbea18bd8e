"""The verbs: what each takes and prints; the work is in the files beside this one."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import click

from tinyraft._version import __version__
from tinyraft.cli.exits import faults
from tinyraft.settings import SETTINGS

PATH = click.Path(exists=True, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)


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


def asking(verb: Callable[..., None]) -> Callable[..., None]:
    """Add what all verbs about members take: where to ask, and how to print."""
    address = click.option(
        "--addr",
        metavar="ADDR,...",
        envvar="RAFT_JOIN",
        default="127.0.0.1:50051",
        show_default=True,
        help="Where nodes listen; one will do, any will do. Also RAFT_JOIN.",
    )
    return address(click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb))


def waiting(seconds: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a time limit of *seconds*."""
    return click.option(
        "--timeout", default=seconds, show_default=True, help="Seconds for everything."
    )


expecting = click.option(
    "--expect",
    type=click.IntRange(min=0),
    metavar="INDEX",
    help="Change only the configuration of this index, which `members` shows.",
)
node_id = click.argument("node", metavar="ID")


@group.command()
@asking
def members(addr: str, as_json: bool) -> None:
    """Show who belongs to the cluster, and the index of that configuration."""
    from tinyraft.cli import members as verb

    with faults():
        verb.show(addr, as_json=as_json)


@group.command()
@node_id
@click.argument("address", metavar="ADDR")
@expecting
@waiting(10.0)
@asking
def add_learner(
    node: str, address: str, addr: str, expect: int | None, timeout: float, as_json: bool
) -> None:
    """Take the node ID, which listens or will listen at ADDR, in without a vote."""
    from tinyraft.cli import members as verb

    with faults():
        verb.take_in(
            node,
            address,
            addr,
            voter=False,
            wait=False,
            expect=expect,
            timeout=timeout,
            as_json=as_json,
        )


@group.command()
@node_id
@click.argument("address", metavar="ADDR")
@click.option("--no-wait", is_flag=True, help="Don't wait until it has caught up and votes.")
@expecting
@waiting(60.0)
@asking
def add_voter(
    node: str,
    address: str,
    addr: str,
    no_wait: bool,
    expect: int | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Take the node ID in as a learner at ADDR that gets its vote when it has caught up.

    A learner that is there already is to vote from now on.
    """
    from tinyraft.cli import members as verb

    with faults():
        verb.take_in(
            node,
            address,
            addr,
            voter=True,
            wait=not no_wait,
            expect=expect,
            timeout=timeout,
            as_json=as_json,
        )


def changing(name: str, text: str) -> None:
    """Make the verb *name*, which changes one member."""

    @group.command(name, help=text)
    @node_id
    @expecting
    @waiting(10.0)
    @asking
    def change(node: str, addr: str, expect: int | None, timeout: float, as_json: bool) -> None:
        from tinyraft.cli import members as verb

        with faults():
            verb.change(name, node, addr, expect=expect, timeout=timeout, as_json=as_json)


changing("promote", "Give the learner ID its vote.")
changing("demote", "Take the vote of ID away; it stays as a learner. A leader hands over.")
changing("remove", "Take ID out for ever: its id is never used again. A leader hands over.")


@group.command()
@click.option("--to", default="", metavar="ID", help="To this voter, not to the best one.")
@waiting(10.0)
@asking
def transfer(to: str, addr: str, timeout: float, as_json: bool) -> None:
    """Hand leadership over, and wait until somebody has it."""
    from tinyraft.cli import members as verb

    with faults():
        verb.transfer(to, addr, timeout=timeout, as_json=as_json)


@group.command()
@waiting(600.0)
@asking
def snapshot(addr: str, timeout: float, as_json: bool) -> None:
    """Have the first node that answers write its state to its disk, and shorten its log."""
    from tinyraft.cli import backup as verb

    with faults():
        verb.take(addr, timeout=timeout, as_json=as_json)


@group.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@waiting(3600.0)
@asking
def export(file: Path, addr: str, timeout: float, as_json: bool) -> None:
    """Write the state of the first node that answers to FILE, which must not exist.

    `tinyraft restore FILE DIR` begins a new cluster with it.
    """
    from tinyraft.cli import backup as verb

    with faults():
        verb.export(file, addr, timeout=timeout, as_json=as_json)


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
@click.option("--clients", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(1, 86400), default=60.0, show_default=True, metavar="S"
)
@click.option(
    "--addresses",
    metavar="ADDR,...",
    default="",
    help="Hammer these nodes, and compare them; nothing is killed. Else a cluster is started here.",
)
@click.option("--nodes", type=click.IntRange(1, 7), default=3, show_default=True)
@click.option(
    "--every",
    type=click.FloatRange(1),
    default=3.0,
    show_default=True,
    metavar="S",
    help="Seconds from one kill to the next; in between the leader is paused.",
)
@click.option("--seed", type=int, help="Strike at the same times as the run that printed it.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep data and logs in DIR, which must be empty.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def hammer(
    clients: int,
    seconds: float,
    addresses: str,
    nodes: int,
    every: float,
    seed: int | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Let many clients write and read while leaders die, and check every answer.

    Each client sends words that nobody else sends, and reads (linearizable) in between. The leader
    is killed (SIGKILL) and started again, and frozen (SIGSTOP) in between. At the end no
    acknowledged word may be missing, none may be there twice or in another place than was answered,
    and no read may have missed what was acknowledged before it.

    Nodes at --addresses must run `tinyraft serve tinyraft.cli.words:Words`.
    """
    from tinyraft.cli import hammer as verb

    with faults():
        verb.hammer(
            clients=clients,
            seconds=seconds,
            seed=seed,
            nodes=nodes,
            addresses=addresses,
            every=every,
            keep=keep,
            as_json=as_json,
        )


@group.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(directory: Path, as_json: bool) -> None:
    """Show whose data directory DIR is, and what it holds. No node may run there.

    Identity, term, vote, configuration, the first and last entry, the snapshots. Nothing is
    changed.
    """
    from tinyraft.cli import offline

    with faults():
        offline.inspect(directory, as_json=as_json)


@group.command()
@click.argument("survivors", metavar="DIR...", nargs=-1, required=True, type=PATH)
@click.option("--plan", "is_plan", is_flag=True, help="Only say what is left, and what is best.")
@click.option("--keep", metavar="ID", default="", help="Make this node the only member.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recover(survivors: tuple[Path, ...], is_plan: bool, keep: str, as_json: bool) -> None:
    """Go on with one node when a majority is lost for ever (docs/quorum-lost.md).

    Give every data directory that is left, first with --plan, then with --keep. For one on another
    machine give the file that `recover DIR --plan --json` wrote there. No node may run. The best
    log goes on and no other; a copy of its directory is made in it before anything changes.
    """
    from tinyraft.cli import offline

    with faults():
        offline.recover(survivors, keep=keep, is_plan=is_plan, as_json=as_json)


@group.command()
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--node-id", metavar="ID", default="", help="The node's id; unset: a new one.")
@click.option(
    "--address", metavar="HOST:PORT", default="127.0.0.1:50051", help="Where it will be dialled."
)
def restore(file: Path, directory: Path, node_id: str, address: str) -> None:
    """Begin a new cluster in DIR, which must be empty, with the snapshot FILE.

    The cluster has a new id, and DIR is its one member.
    """
    from tinyraft.cli import offline

    with faults():
        offline.restore_file(file, directory, node_id=node_id, address=address)


@group.command()
def version() -> None:
    """Print the version."""
    click.echo(f"tinyraft {__version__}")
