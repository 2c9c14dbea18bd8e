"""Reads beside applies, at many threads; and what a stale read costs beyond a lock and a call."""

from __future__ import annotations

from benchmarks.suite import Suite

PART = "reads"


def measure(suite: Suite) -> None:
    """Take applies and reads in turn, in the leader's process and from another one."""
    nodes, callers = suite.nodes, suite.callers
    many = suite.how(suite.options.many)
    for round_ in suite.rounds():
        leader, follower = nodes.leader, nodes.followers()[0]
        for what, row in (
            ("apply, local", leader.ask("load", **many)),
            ("read, local", leader.ask("read", consistency="linearizable", **many)),
            ("read, on a follower", follower.ask("read", consistency="linearizable", **many)),
            ("apply, remote", callers.ask("load", **many)),
            ("query, remote", callers.ask("query", **many)),
            ("stale read", follower.ask("read", consistency="stale", **suite.how(1))),
            ("lock and call", follower.ask("read", consistency="bare", **suite.how(1))),
        ):
            suite.take(PART, what, round_, row)
