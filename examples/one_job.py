"""A job that runs on exactly one node: the one that leads.

    NODE_ID=n1 NODE_LISTEN_ADDR=:50051 RAFT_DATA_DIR=/tmp/n1 RAFT_BOOTSTRAP=true \\
        python examples/one_job.py
    NODE_ID=n2 NODE_LISTEN_ADDR=:50052 RAFT_DATA_DIR=/tmp/n2 RAFT_JOIN=127.0.0.1:50051 \\
        RAFT_VOTER=true python examples/one_job.py

Kill the node that does the job, and another goes on with it. A leader that was replaced may not
know it yet and finish a step late: so each step carries the token of its mandate, and the module
refuses a token that is older than the newest it has seen.
"""

from __future__ import annotations

import os
import signal
import threading

import tinyraft

PAUSE = float(os.environ.get("PAUSE", "1"))  # seconds between two steps


class Steps:
    """The state machine: numbers the steps, and fences off who was replaced."""

    def __init__(self) -> None:
        self.token = 0
        self.steps = 0

    def apply(self, command: bytes) -> bytes:
        token = int(command)
        if token < self.token:
            raise tinyraft.Rejected(f"term {token} was replaced by {self.token}")
        self.token = token
        self.steps += 1
        return b"%d" % self.steps


def do_the_job(server: tinyraft.Server, lead: tinyraft.Mandate) -> None:
    while not lead.lost.wait(PAUSE):
        try:
            step = server.apply(b"%d" % lead.token, timeout=5)
            print(f"step {int(step)} by {server.status().node_id}, token {lead.token}", flush=True)
        except tinyraft.Rejected as error:
            print(f"too late: {error}", flush=True)
        except tinyraft.MaybeApplied as error:
            print(f"this step may count or not: {error}", flush=True)
        except (tinyraft.NotApplied, tinyraft.NotStarted) as error:
            print(f"this step does not count: {error}", flush=True)


def run(server: tinyraft.Server, ends: threading.Event) -> None:
    while not ends.is_set():
        try:
            with server.leadership(timeout=1) as lead:
                do_the_job(server, lead)
        except tinyraft.NotLeader:
            pass  # another node does it
        except tinyraft.LifecycleError:
            return  # this server is being shut down


def main() -> None:
    ends = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ends.set())
    with tinyraft.Server(tinyraft.Config.from_env(), Steps()) as server:
        server.observe(lambda known: print(f"leader: {known.leader_id or 'nobody'}", flush=True))
        worker = threading.Thread(target=run, args=(server, ends))
        worker.start()
        ends.wait()
        server.shutdown()  # the mandate is lost first of all, so the job ends before it moves
        worker.join()


if __name__ == "__main__":
    main()
