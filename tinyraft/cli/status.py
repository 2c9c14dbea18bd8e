"""`tinyraft status`: all nodes of a cluster, found from any one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from tinyraft.addresses import parse_addresses
from tinyraft.cli.exits import UNREACHABLE, USAGE, Fault
from tinyraft.cli.table import print_table
from tinyraft.core.status import Status
from tinyraft.transport.admin import ask_all


@dataclass(slots=True, frozen=True)
class Seen:
    """A node, and what it said; *voter* is None for one that is no member."""

    node_id: str
    address: str
    voter: bool | None
    status: Status | None


def status(text: str, *, as_json: bool, timeout: float) -> None:
    """Print what the nodes of the cluster say that answers at the addresses in *text*."""
    addresses = parse_addresses(text)
    if not addresses:
        raise Fault("no address to ask; give one, or set RAFT_JOIN", code=USAGE)
    nodes = survey(addresses, timeout=timeout)
    if as_json:
        click.echo(json.dumps({"nodes": [to_json(node) for node in nodes]}, indent=2))
    else:
        columns = ("id", "address", "role", "vote", "term", "commit", "applied", "leader", "")
        print_table(columns, [to_row(node) for node in nodes])


def survey(addresses: Sequence[str], *, timeout: float) -> list[Seen]:
    """Ask *addresses*, then every member that the best informed of them names.

    Raises:
        Fault: Nobody answered.
    """
    answers = ask_all(addresses, timeout=timeout)
    given = [answer for answer in answers.values() if answer is not None]
    if not given:
        raise Fault(f"nobody answers at {', '.join(addresses)}", code=UNREACHABLE)
    best = max(given, key=lambda answer: (answer.term, answer.commit_index))
    known = {answer.address for answer in given} | answers.keys()
    others = [member.address for member in best.members if member.address not in known]
    answers |= ask_all(others, timeout=timeout)
    return assemble(best, answers)


def assemble(best: Status, answers: Mapping[str, Status | None]) -> list[Seen]:
    """List the members of *best*, then those who answered and are none."""
    by_id = {answer.node_id: answer for answer in answers.values() if answer is not None}
    rows = [Seen(m.id, m.address, m.voter, by_id.pop(m.id, None)) for m in best.members]
    return rows + [Seen(s.node_id, s.address, None, s) for s in by_id.values()]


def to_row(node: Seen) -> tuple[object, ...]:
    """Fill one line of the table."""
    vote = {True: "voter", False: "learner", None: "no member"}[node.voter]
    said = node.status
    if said is None:
        return (node.node_id, node.address, "no answer", vote, "", "", "", "", "")
    full = f"disk full: {said.storage_full}" if said.storage_full else ""
    state = "removed" if said.removed else "" if said.is_ready else "not ready"
    note = said.failed or full or state
    counts = (said.term, said.commit_index, said.last_applied)
    return (node.node_id, node.address, said.role.value, vote, *counts, said.leader_id, note)


def to_json(node: Seen) -> dict[str, object]:
    """Name everything; what a node that is silent would have said is null."""
    said = node.status
    return {
        "id": node.node_id,
        "address": node.address,
        "voter": node.voter,
        "reachable": said is not None,
        "cluster_id": said and said.cluster_id,
        "role": said and said.role.value,
        "term": said and said.term,
        "leader_id": said and said.leader_id,
        "commit_index": said and said.commit_index,
        "last_applied": said and said.last_applied,
        "last_index": said and said.last_index,
        "first_index": said and said.first_index,
        "snapshot_index": said and said.snapshot_index,
        "ready": said and said.is_ready,
        "failed": said and said.failed,
        "diverged": said and said.diverged,
        "sessions": said and said.sessions,
        "request_ids": said and said.request_ids,
        "removed": said and said.removed,
        "storage_full": said and said.storage_full,
    }
