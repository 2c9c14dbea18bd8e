"""Long commands: 20 KB beside what the disk takes at all, and 1 MB."""

from __future__ import annotations

from benchmarks.suite import Suite

PART = "big"
SIZES = {"20 KB": (20_000, 64), "1 MB": (1_000_000, 16)}  # bytes, threads


def measure(suite: Suite) -> None:
    """Take the disk alone and both sizes in turn, in the leader's process and from another one."""
    nodes, callers = suite.nodes, suite.callers
    for round_ in suite.rounds():
        mb = suite.ceiling.write_mb(seconds=suite.options.seconds)
        suite.take(PART, "the disk alone", round_, {"mb_per_second": round(mb, 1)})
        for name, (size, threads) in SIZES.items():
            how = {**suite.how(min(threads, suite.options.many)), "size": size}
            for what, row in (
                (f"{name}, local", nodes.local(**how)),
                (f"{name}, remote", callers.ask("load", **how)),
            ):
                mb = row["per_second"] * size / 1e6
                suite.take(PART, what, round_, {**row, "mb_per_second": round(mb, 1)})
