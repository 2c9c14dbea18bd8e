"""What it is worth to keep a node on one processor, and not to be torn from it.

One thread of a Python process computes at a time. Where its threads are spread over processors,
each hand-off between two of them wakes another processor, and under the usual policy whoever is
woken interrupts the one that holds the interpreter, only to wait for that. What ``taskset -c 1``
and ``chrt --batch 0`` do to a program is done here to running processes, the ceiling's too: the
leader on the first processor, all others on the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.parts.threads import keep
from benchmarks.process import Child
from benchmarks.suite import Suite

PART = "pinned"


def measure(suite: Suite) -> None:
    """Take both at each number of threads, from the leader's process and from another."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        suite.note("pinned: there is one processor, and nothing to choose")
        return
    ceiling, nodes, callers = suite.ceiling, suite.nodes, suite.callers
    leader, rest = nodes.leader, set(processors[1:])
    first = [leader, ceiling.leader]
    others = [*nodes.followers(), *ceiling.followers, callers, ceiling.client]
    with kept(first, {processors[0]}), kept(others, rest):
        for round_ in suite.rounds():
            for count in suite.options.threads:
                how = suite.how(count)
                take = partial(keep, suite, round_, count, part=PART)
                take("ceiling, local", ceiling.local(**how))
                take("tinyraft, local", nodes.local(**how))
                take("ceiling, remote", ceiling.remote(**how))
                take("tinyraft, remote", callers.ask("load", **how))


@contextmanager
def kept(children: Sequence[Child], processors: set[int]) -> Iterator[None]:
    """Keep *children* on *processors*, uninterrupted by whom they wake, for a while."""
    everywhere = os.sched_getaffinity(0)
    for child in children:
        move(child, processors, os.SCHED_BATCH)
    try:
        yield
    finally:
        for child in children:
            move(child, everywhere, os.SCHED_OTHER)


def move(child: Child, processors: set[int], policy: int) -> None:
    """Do it to all threads of *child*; those that it makes later inherit it."""
    for path in Path(f"/proc/{child.pid}/task").iterdir():
        thread = int(path.name)
        os.sched_setaffinity(thread, processors)
        os.sched_setscheduler(thread, policy, os.sched_param(0))
