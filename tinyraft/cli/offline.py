"""`tinyraft inspect`, `recover`, `restore`: what is done to data directories while no node runs.

Law: says and asks; what is decided, and every change, is in `storage/` (`survey`, `repair`,
`restore`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import click

from tinyraft.cli.exits import USAGE, Fault
from tinyraft.cli.table import print_table
from tinyraft.core.entry import NodeId
from tinyraft.errors import RepairRefused
from tinyraft.storage.disk import RealDisk, open_to_read
from tinyraft.storage.repair import Repaired, go_on, plan
from tinyraft.storage.restore import restore
from tinyraft.storage.survey import Findings, decode, look

COLUMNS = ("id", "epoch", "term", "vote", "first", "last", "of term", "snapshots", "directory")


def inspect(directory: Path, *, as_json: bool) -> None:
    """Print what is in one data directory."""
    found = look(RealDisk(), directory)
    if as_json:
        click.echo(json.dumps(found.encode(), indent=2))
        return
    identity = found.identity
    rows = [
        ("node", identity.node_id),
        ("cluster", identity.cluster_id or "none yet"),
        ("incarnation", identity.incarnation),
        ("recovery epoch", identity.recovery_epoch),
        ("term", found.term),
        ("vote", found.voted_for or "none"),
        ("log", f"entries {found.first_index} to {found.last_index}, the last of term"
                f" {found.last_term}"),
        ("configuration", f"entry {found.configuration_index}: {members(found)}"),
        ("removed", ", ".join(found.configuration.removed) or "none"),
        ("snapshots", snapshots(found) or "none"),
        *(("found", note) for note in found.notes),
    ]  # fmt: skip
    for title, value in rows:
        click.echo(f"{title:15} {value}")


def recover(survivors: Sequence[Path], *, keep: str, is_plan: bool, as_json: bool) -> None:
    """Print what is left of a cluster (*is_plan*), or go on with one of it (*keep*)."""
    if is_plan == bool(keep):
        raise Fault("give either --plan, or --keep ID after you have read the plan", code=USAGE)
    directories = [path for path in survivors if not path.is_file()]
    others = [found for path in survivors if path.is_file() for found in read_plan(path)]
    if keep:
        told = go_on(RealDisk(), directories, keep, others=others)
        print_repaired(told, as_json=as_json)
    else:
        print_plan([*(look(RealDisk(), path) for path in directories), *others], as_json=as_json)


def read_plan(path: Path) -> list[Findings]:
    """Read what ``--plan --json`` printed on another machine."""
    try:
        survivors = json.loads(path.read_bytes())["survivors"]
        return [decode(value, path=str(path)) for value in survivors]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RepairRefused(
            f"{path} is neither a data directory nor what `tinyraft recover DIR --plan --json`"
            f" writes: {error!r}"
        ) from error


def print_plan(found: Sequence[Findings], *, as_json: bool) -> None:
    """Print all that is left, the best log, and what going on with it costs."""
    if as_json:
        click.echo(json.dumps({"survivors": [one.encode() for one in found]}, indent=2))
        return
    print_table(COLUMNS, [to_row(one) for one in found])
    made = plan(found)
    best = made.best
    click.echo(f"configuration: {members(best)} (entry {best.configuration_index})")
    click.echo(f"nothing is left of the voters {', '.join(made.lost)}")
    click.echo(f"the best log is that of {best.node_id}, in {best.path}")
    click.echo(f"may be lost: {made.stays_lost}")
    others = " ".join(one.path for one in found)
    click.echo("Bring any other disk back first, if there is one. If there is none, go on with")
    click.echo(f"  tinyraft recover {others} --keep {best.node_id}")


def print_repaired(told: Repaired, *, as_json: bool) -> None:
    """Print what was done, and what comes next."""
    if as_json:
        fields = {
            "node_id": told.node_id,
            "index": told.index,
            "term": told.term,
            "recovery_epoch": told.epoch,
            "copy": str(told.copy),
            "lost": list(told.plan.lost),
            "may_be_lost": told.plan.stays_lost,
        }
        click.echo(json.dumps(fields, indent=2))
        return
    click.echo(f"{told.node_id} is the only member now (entry {told.index}, term {told.term})")
    click.echo(f"recovery epoch {told.epoch}: the other members are refused from now on")
    click.echo(f"may be lost: {told.plan.stays_lost}")
    click.echo(f"the directory as it was: {told.copy}")
    click.echo(
        f"Start {told.node_id}, then new nodes with empty data directories, new NODE_IDs and"
        " RAFT_JOIN"
    )


def restore_file(file: Path, directory: Path, *, node_id: str, address: str) -> None:
    """Begin a new cluster with a snapshot, and print who it is."""
    source = open_to_read(file)
    try:
        told = restore(
            RealDisk(),
            source,
            directory,
            path=file,
            node_id=NodeId(node_id or str(uuid.uuid4())),
            address=address,
        )
    finally:
        source.close()
    identity = told.identity
    click.echo(
        f"{directory} is {identity.node_id}, the only member of the new cluster"
        f" {identity.cluster_id}; it begins with entry {told.index} of cluster {told.from_cluster}"
    )


def to_row(found: Findings) -> tuple[object, ...]:
    """Fill one line of the plan."""
    return (
        found.node_id,
        found.identity.recovery_epoch,
        found.term,
        found.voted_for,
        found.first_index,
        found.last_index,
        found.last_term,
        snapshots(found),
        found.path,
    )


def snapshots(found: Findings) -> str:
    """Name the snapshots by their last entries."""
    return ", ".join(f"{index} of term {term}" for index, term in found.snapshots)


def members(found: Findings) -> str:
    """Name the members, and how each takes part."""
    told = (f"{m.id}{'' if m.voter else ' (learner)'}" for m in found.configuration.members)
    return ", ".join(told) or "nobody"
