"""`tinyraft snapshot` and `tinyraft export`, over the admin service of any node.

Law: what is written to a file was read back whole before the file gets its name.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from tinyraft.cli.exits import Fault
from tinyraft.cli.members import operator, reachable
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.export import copy_out


def take(text: str, *, timeout: float, as_json: bool) -> None:
    """Have the first node that answers take a snapshot."""
    with reachable():
        node, index = operator(text).snapshot(timeout=timeout)
    told = json.dumps({"node_id": node, "index": index})
    click.echo(told if as_json else f"{node} took a snapshot of entry {index}")


def export(target: Path, text: str, *, timeout: float, as_json: bool) -> None:
    """Write the state of the first node that answers to *target*."""
    with reachable(), operator(text).exporting(timeout=timeout) as pieces:
        try:
            copy_out(pieces, target, disk=RealDisk())
        except FileExistsError as error:
            raise Fault(str(error)) from error
    size = target.stat().st_size
    told = json.dumps({"file": str(target), "bytes": size})
    click.echo(told if as_json else f"wrote {target}, {size} bytes")
