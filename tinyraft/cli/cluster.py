"""The demo's cluster as seen from outside: up, led by whom, settled.

Law: a wait has a deadline, and says at its end which node it was and what that has logged. Nodes
are other processes, which can't wake us; so they are asked again and again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tinyraft.cli.exits import Fault
from tinyraft.cli.processes import NO_SETTINGS, NodeProcess, Processes
from tinyraft.cli.report import Talk
from tinyraft.core.role import Role
from tinyraft.core.status import Status
from tinyraft.transport.admin import ask_all

UP_SECONDS = 30.0
SETTLE_SECONDS = 20.0
ASK_SECONDS = 1.0
LOOK_SECONDS = 0.05
PORT_TRIES = 5


class PortLost(Exception):
    """Another program took a node's port between our choice and the node's start."""


@contextmanager
def cluster(
    count: int, directory: Path, talk: Talk, *, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[list[NodeProcess]]:
    """Start *count* nodes that know each other; try again when a port was lost."""
    for _ in range(PORT_TRIES):
        began = monotonic()
        with Processes(count, directory=directory, settings=settings) as processes:
            try:
                wait_until_up(processes.nodes, deadline=began + UP_SECONDS)
            except PortLost:
                talk.say("another program took a port; starting anew with others")
            else:
                talk.say(f"{count} nodes are up after {monotonic() - began:.1f} s")
                yield processes.nodes
                return
        for node in processes.nodes:
            shutil.rmtree(directory / node.name, ignore_errors=True)
    raise Fault(f"another program took a node's port, {PORT_TRIES} times in a row")


def wait_until_up(nodes: Sequence[NodeProcess], *, deadline: float) -> None:
    """Wait until every node is ready and all of them vote.

    Raises:
        PortLost: One can't have its port.
        Fault: One ended, or it takes too long.
    """

    def is_up(node: NodeProcess) -> bool:
        status = statuses[node.name]
        return (
            status is not None
            and node.listens
            and status.is_ready
            and sum(member.voter for member in status.members) == len(nodes)
        )

    while True:
        for node in nodes:
            if node.lost_its_port:
                raise PortLost
            if node.has_ended:
                raise Fault(f"{node.name} ended; its log says:\n{node.tail()}")
        statuses = ask_nodes(nodes)
        if all(map(is_up, nodes)):
            return
        if monotonic() > deadline:
            late = [node for node in nodes if not is_up(node)]
            names = ", ".join(node.name for node in late)
            raise Fault(f"not ready after {UP_SECONDS:.0f} s: {names}\n{tails(late)}")
        time.sleep(LOOK_SECONDS)


def restart(node: NodeProcess, nodes: Sequence[NodeProcess], *, deadline: float) -> None:
    """Start *node* again at its old port, which a passing connection may hold for a moment."""
    while True:
        node.start()
        try:
            wait_until_up(nodes, deadline=deadline)
        except PortLost:
            if monotonic() > deadline:
                raise Fault(f"{node.name} can't have its port back\n{node.tail()}") from None
        else:
            return


def find_leader(nodes: Sequence[NodeProcess], *, deadline: float) -> NodeProcess | None:
    """Find the node that leads, by what all say of themselves; None at *deadline*."""
    by_name = {node.name: node for node in nodes}
    while monotonic() < deadline:
        leaders = [s for s in ask_nodes(nodes).values() if s is not None and s.role is Role.LEADER]
        if leaders:
            return by_name[max(leaders, key=lambda status: status.term).node_id]
        time.sleep(LOOK_SECONDS)
    return None


def settle(nodes: Sequence[NodeProcess]) -> dict[str, Status]:
    """Wait until every node has applied the same, last index; return what they say then."""
    deadline = monotonic() + SETTLE_SECONDS
    while True:
        asked = ask_nodes(nodes)
        given = {name: status for name, status in asked.items() if status is not None}
        ends = {(s.last_index, s.commit_index, s.last_applied) for s in given.values()}
        if len(given) == len(nodes) and len(ends) == 1 and len(set(*ends)) == 1:
            return given
        if monotonic() > deadline:
            said = ", ".join(
                f"{name} {status and status.last_applied}" for name, status in asked.items()
            )
            raise Fault(
                f"the nodes had not applied the same {SETTLE_SECONDS:.0f} s after the last word:"
                f" {said}\n{tails(nodes)}"
            )
        time.sleep(LOOK_SECONDS)


def ask_nodes(nodes: Sequence[NodeProcess]) -> dict[str, Status | None]:
    """Ask all nodes for their status."""
    answers = ask_all([node.address for node in nodes], timeout=ASK_SECONDS)
    return {node.name: answers[node.address] for node in nodes}


def tails(nodes: Sequence[NodeProcess]) -> str:
    """Show what *nodes* have logged last."""
    return "\n".join(f"--- {node.name}\n{node.tail()}" for node in nodes)
