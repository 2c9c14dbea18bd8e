"""Throughput and latency by the number of threads, of every system in turn."""

from __future__ import annotations

from functools import partial

from benchmarks.suite import Suite

PART = "threads"


def measure(suite: Suite) -> None:
    """Take all systems at each number of threads, round after round."""
    ceiling, nodes, callers = suite.ceiling, suite.nodes, suite.callers
    etcd = suite.etcd
    for round_ in suite.rounds():
        suite.take(PART, "fdatasync @1", round_, ceiling.sync(**suite.how(1)))
        for count in suite.options.threads:
            how = suite.how(count)
            take = partial(keep, suite, round_, count)
            take("ceiling, local", ceiling.local(**how))
            before = nodes.syncs()
            row = nodes.local(**how)
            took = [after - least for after, least in zip(nodes.syncs(), before, strict=True)]
            whole = suite.options.seconds + suite.options.warm
            commands = row["per_second"] * whole  # the syncs were counted over all of it
            take("tinyraft, local", {**row, "syncs_per_command": round(max(took) / commands, 4)})
            take("ceiling, remote", ceiling.remote(**how))
            take("tinyraft, remote", callers.ask("load", **how))
            if etcd is not None:
                take("etcd, remote", etcd.remote(**how))
            take("gRPC echo", ceiling.echo(**how))
        with suite.pysyncobj() as other:
            for count in suite.options.threads if other is not None else ():
                keep(suite, round_, count, "pysyncobj, local", other.local(**suite.how(count)))
    measure_pipeline(suite)


def keep(
    suite: Suite,
    round_: int,
    threads: int,
    what: str,
    row: dict[str, float],
    *,
    part: str = PART,
) -> None:
    """Keep one row."""
    suite.take(part, f"{what} @{threads}", round_, row)


def measure_pipeline(suite: Suite) -> None:
    """Let one thread have many commands in flight."""
    how = {"seconds": suite.options.pipeline_seconds, "warm": suite.options.warm}
    rows = suite.callers.ask("pipeline", **how)
    for name, row in rows.items():
        suite.take(PART, f"tinyraft, {name}", 0, row)
    for name in ("submit", "apply_many"):
        if name not in rows:
            suite.note(f"Caller has no {name} yet: it was not measured")
    with suite.pysyncobj() as other:
        if other is not None:
            suite.take(PART, "pysyncobj, asynchronous", 0, other.pipeline(**how))
