"""What durability costs: the same code with no sync at all, and with a slow one."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.disks import KINDS
from benchmarks.suite import Suite
from benchmarks.systems import nodes

PART = "disk"


def measure(suite: Suite) -> None:
    """Take a cluster of each kind in turn."""
    with ExitStack() as undo:
        clusters = {
            kind: suite.nodes
            if kind == "durable"
            else undo.enter_context(
                nodes.running(suite.directory / kind.replace(" ", "-"), disk=kind)
            )
            for kind in KINDS
        }
        for round_ in suite.rounds():
            for kind, cluster in clusters.items():
                suite.take(PART, kind, round_, cluster.local(**suite.how(suite.options.many)))
