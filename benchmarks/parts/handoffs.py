"""Who waits how often for a command: the hand-offs on its way, by thread (Linux).

Counts voluntary context switches, in the leader and in a follower: each time that a thread gave the
processor up, for another thread, the interpreter's lock, the disk or a socket. Beside a busy
interpreter each of them may cost a switch interval.
"""

from __future__ import annotations

import re
from collections import Counter
from time import monotonic, sleep

from benchmarks.process import Child, waits
from benchmarks.suite import Suite

PART = "handoffs"
GRPC = {"_run": "gRPC's channels, in Python", "_serve": "gRPC's server, in Python"}


def measure(suite: Suite) -> None:
    """Look twice while a load runs."""
    nodes = suite.nodes
    seconds = suite.options.seconds
    for threads in (1, suite.options.many):
        leader, follower = nodes.leader, nodes.followers()[0]
        names = {node: thread_names(node) for node in (leader, follower)}
        leader.begin("load", **{**suite.how(threads), "seconds": seconds + 1.0})
        sleep(suite.options.warm)
        began, before = monotonic(), {node: waits(node.pid) for node in names}
        sleep(seconds)
        took, after = monotonic() - began, {node: waits(node.pid) for node in names}
        commands = leader.result()["per_second"] * took
        for role, node in (("leader", leader), ("follower", follower)):
            counts: Counter[str] = Counter()
            for thread, count in after[node].items():
                name = names[node].get(thread, "callers")
                counts[name] += count - before[node].get(thread, 0)
            counts["all threads"] = sum(counts.values())
            for name, count in counts.most_common():
                figures = {f"{role} @{threads}": round(count / commands, 3)}
                suite.take(PART, name, 0, figures)


def thread_names(node: Child) -> dict[int, str]:
    """Name the threads that are there before a load; what comes with it are callers."""
    known = {int(thread): short(name) for thread, name in node.ask("threads").items()}
    return {thread: known.get(thread, "gRPC's own, outside Python") for thread in waits(node.pid)}


def short(name: str) -> str:
    """Leave out of a thread's name who and how many; gRPC's are known by what they do."""
    if ours := re.fullmatch(r"tinyraft-n\d+-([a-z]+).*", name):
        return ours[1]
    if theirs := re.fullmatch(r"Thread-\d+ \((\w+)\)", name):
        return GRPC.get(theirs[1], theirs[1])
    return name
