"""Who waits how often for a command, and computes how long: the hand-offs, by thread (Linux).

Counts voluntary context switches, in the leader and in a follower: each time that a thread gave the
processor up, for another thread, the interpreter's lock, the disk or a socket. Beside a busy
interpreter each of them may cost a switch interval.
"""

from __future__ import annotations

import re
from time import monotonic, sleep

from benchmarks.process import Child, thread_costs
from benchmarks.suite import Suite

PART = "handoffs"
LEAST_WAITS, LEAST_SECONDS = 0.01, 0.5e-6  # a command; less is not worth a row
GRPC = {"_run": "gRPC's channels, in Python", "_serve": "gRPC's server, in Python"}


def measure(suite: Suite) -> None:
    """Look twice while a load runs: from the leader's process, then from another one."""
    nodes, callers, ceiling = suite.nodes, suite.callers, suite.ceiling
    for where, count in (
        ("local", 1),
        ("local", suite.options.many),
        ("remote", suite.options.many),
    ):
        leader, follower = nodes.leader, nodes.followers()[0]
        seen = {"leader": leader, "follower": follower}
        source = leader if where == "local" else callers
        names = {role: thread_names(node) for role, node in seen.items()}
        found = look(suite, source, seen, threads=count, names=names)
        source = ceiling.leader if where == "local" else ceiling.client
        found |= look(suite, source, {"ceiling": ceiling.leader}, threads=count, names={})
        for role, figures in found.items():
            for name, (waits, used) in figures.items():
                if waits < LEAST_WAITS and used < LEAST_SECONDS:
                    continue
                column = f"{role}, {where} @{count}"
                values = {
                    f"{column}: waits": round(waits, 2),
                    f"{column}: µs": round(used * 1e6, 1),
                }
                suite.take(PART, name, 0, values)


def look(
    suite: Suite,
    source: Child,
    seen: dict[str, Child],
    *,
    threads: int,
    names: dict[str, dict[int, str]],
) -> dict[str, dict[str, tuple[float, float]]]:
    """Give, for each process that is *seen*, waits and processor time a command, by thread.

    Of a process whose threads have no *names* only the sums are told.
    """
    seconds = suite.options.seconds
    source.begin("load", **{**suite.how(threads), "seconds": seconds + 1.0})
    sleep(suite.options.warm)
    began, before = monotonic(), {role: thread_costs(node.pid) for role, node in seen.items()}
    sleep(seconds)
    took, after = monotonic() - began, {role: thread_costs(node.pid) for role, node in seen.items()}
    commands = source.result()["per_second"] * took
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for role in seen:
        sums: dict[str, tuple[float, float]] = {}
        for thread, (waits, used) in after[role].items():
            least, idle = before[role].get(thread, (0, 0.0))
            own = [names[role].get(thread, "callers")] if role in names else []
            for name in ("all threads", *own):
                had = sums.get(name, (0.0, 0.0))
                sums[name] = had[0] + (waits - least) / commands, had[1] + (used - idle) / commands
        found[role] = dict(sorted(sums.items(), key=lambda one: -one[1][1]))
    return found


def thread_names(node: Child) -> dict[int, str]:
    """Name the threads that are there before a load; what comes with it are callers."""
    known = {int(thread): short(name) for thread, name in node.ask("threads").items()}
    return {
        thread: known.get(thread, "gRPC's own, outside Python") for thread in thread_costs(node.pid)
    }


def short(name: str) -> str:
    """Leave out of a thread's name who and how many; gRPC's are known by what they do."""
    if ours := re.fullmatch(r"tinyraft-n\d+-([a-z]+).*", name):
        return ours[1]
    if theirs := re.fullmatch(r"Thread-\d+ \((\w+)\)", name):
        return GRPC.get(theirs[1], theirs[1])
    return name
