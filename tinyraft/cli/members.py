"""`tinyraft members`, and the verbs that change them, over the admin service of any node.

Law: a change that was refused ends with 1 and has changed nothing; one that was handed over and not
answered says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

import click

from tinyraft.addresses import parse_addresses
from tinyraft.cli.exits import UNREACHABLE, USAGE, Fault
from tinyraft.cli.table import print_table
from tinyraft.core.configuration import Change, Demote, Member, Promote, Remove
from tinyraft.core.entry import Index
from tinyraft.core.members import Members
from tinyraft.errors import MembershipError
from tinyraft.node.membership import promoted, still_learner
from tinyraft.transport.members import add, id_of
from tinyraft.transport.operator import Operator, Unreachable

T = TypeVar("T")

LOOK_SECONDS = 0.1

CHANGES: dict[str, Callable[[str], Change]] = {
    "promote": lambda node: Promote(id_of(node)),
    "demote": lambda node: Demote(id_of(node)),
    "remove": lambda node: Remove(id_of(node)),
}


def operator(text: str) -> Operator:
    """Make one for the addresses in *text*."""
    addresses = parse_addresses(text)
    if not addresses:
        raise Fault("no address to ask; give --addr, or set RAFT_JOIN", code=USAGE)
    return Operator(addresses)


@contextmanager
def reachable() -> Iterator[None]:
    """Turn silence into its exit code, and what can't be meant into a usage error."""
    try:
        yield
    except Unreachable as error:
        raise Fault(str(error), code=UNREACHABLE) from error


def show(text: str, *, as_json: bool) -> None:
    """Print the members."""
    with reachable():
        members = operator(text).members()
    if as_json:
        click.echo(json.dumps(to_json(members), indent=2))
        return
    columns = ("id", "address", "vote", "")
    print_table(columns, [to_row(member, members) for member in members.members])
    click.echo(f"index {members.index}{'' if members.is_committed else ', not committed yet'}")
    if members.removed:
        click.echo(f"removed, never to be used again: {', '.join(members.removed)}")


def to_row(member: Member, members: Members) -> tuple[object, ...]:
    """Fill one line of the table."""
    vote = "voter" if member.voter else "learner, to vote" if member.wants_vote else "learner"
    note = "leader" if member.id == members.leader_id else ""
    return (member.id, member.address, vote, note if member.incarnation else "not seen yet")


def to_json(members: Members) -> dict[str, object]:
    """Name everything."""
    return {
        "index": members.index,
        "committed": members.is_committed,
        "leader_id": members.leader_id,
        "members": [
            {
                "id": member.id,
                "address": member.address,
                "voter": member.voter,
                "wants_vote": member.wants_vote,
                "incarnation": member.incarnation,
            }
            for member in members.members
        ],
        "removed": list(members.removed),
    }


def change(
    verb: str, node: str, text: str, *, expect: Index | None, timeout: float, as_json: bool
) -> None:
    """Promote, demote or remove *node*."""
    with reachable():
        asked = operator(text)
        index = asked.change(meant(CHANGES[verb], node), expect=expect, timeout=timeout)
    tell(f"{verb}d {node}", as_json=as_json, id=node, index=index)


def take_in(
    node: str,
    address: str,
    text: str,
    *,
    voter: bool,
    wait: bool,
    expect: Index | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Add *node*; a voter is waited for until it votes."""
    deadline = monotonic() + timeout
    with reachable():
        asked = operator(text)
        order = meant(lambda given: add(given, address, voter=voter), node)
        index = asked.change(order, expect=expect, timeout=timeout)
        if voter and wait:
            index = wait_promoted(asked, node, index=index, deadline=deadline, timeout=timeout)
    as_what = "a learner" if not voter else "a voter" if wait else "a learner that is to vote"
    tell(f"added {node} as {as_what}", as_json=as_json, id=node, index=index)


def wait_promoted(
    asked: Operator, node: str, *, index: Index, deadline: float, timeout: float
) -> Index:
    """Look until *node* has its vote."""
    while True:
        members = asked.members()
        found = promoted(members, node, index=index)
        if found is not None:
            return found
        if monotonic() > deadline:
            raise still_learner(members.get(node), node, timeout=timeout)
        time.sleep(LOOK_SECONDS)


def transfer(to: str, text: str, *, timeout: float, as_json: bool) -> None:
    """Hand leadership to *to*, or to the best voter."""
    with reachable():
        target = meant(id_of, to) if to else ""
        leader = operator(text).transfer(target, timeout=timeout)
    tell(f"{leader} leads", as_json=as_json, leader_id=leader)


def meant(read: Callable[[str], T], text: str) -> T:
    """Read what was typed; what can't be meant is a usage error."""
    try:
        return read(text)
    except MembershipError as error:
        raise Fault(str(error), code=USAGE) from error


def tell(text: str, *, as_json: bool, **facts: object) -> None:
    """Print how it went."""
    click.echo(json.dumps(facts) if as_json else with_index(text, facts))


def with_index(text: str, facts: dict[str, object]) -> str:
    """Add the index, for the next ``--expect``."""
    return f"{text}, index {facts['index']}" if "index" in facts else text
