"""The handlers' threads, by what they serve.

Law: peers never wait behind callers, and nothing waits in gRPC's own queue: what is admitted at
once is counted below each pool's size, because gRPC says nothing above it.
"""

from __future__ import annotations

from tinyraft.transport.pool import DaemonPool

PEER_THREADS = 64  # 4 a member and some; a waiting append holds one
CALLER_THREADS = 1024
QUERY_THREADS = 256
UNARY_THREADS = 128
ADMIN_THREADS = 4
HEALTH_THREADS = 256

STREAMS = CALLER_THREADS // 2 - 12  # a stream holds two threads
QUERY_STREAMS = QUERY_THREADS - 6  # each holds a thread
UNARY_CALLS = UNARY_THREADS - 8
WATCHES = HEALTH_THREADS - 6  # of health; each holds a thread


class Pools:
    """The threads of the handlers, by what they serve."""

    def __init__(self, node: str) -> None:
        """Name them after *node*; threads are made on demand."""
        prefix = f"tinyraft-{node}"
        self.peers = DaemonPool(PEER_THREADS, name=f"{prefix}-peers")
        self.callers = DaemonPool(CALLER_THREADS, name=f"{prefix}-callers")
        self.queries = DaemonPool(QUERY_THREADS, name=f"{prefix}-queries")
        self.unary = DaemonPool(UNARY_THREADS, name=f"{prefix}-unary")
        self.unknown = DaemonPool(1, name=f"{prefix}-unknown")  # gRPC wants a default
        self.admin = DaemonPool(ADMIN_THREADS, name=f"{prefix}-admin")
        self.health = DaemonPool(HEALTH_THREADS, name=f"{prefix}-health")

    def retire(self) -> None:
        """Keep no idle threads; calls that still come are answered, by what the handlers say."""
        served = (self.peers, self.callers, self.queries, self.unary, self.admin, self.health)
        for pool in (*served, self.unknown):
            pool.retire()
