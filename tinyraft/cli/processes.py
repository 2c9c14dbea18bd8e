"""The nodes of demo and hammer: processes of `tinyraft serve` on this machine.

Law: none outlives its owner. Whoever holds `Processes` open ends them on the way out; if it is
killed itself, the pipe that it holds to each node's standard input ends, and the node follows.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import IO, Self

from tinyraft.addresses import THIS_HOST, join_address
from tinyraft.cli.serve import LISTENS

MODULE = "tinyraft.cli.words:Words"
END_SECONDS = 8.0  # shutdown itself is bounded by about 6
TAIL_LINES = 15

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

# What the caller's own environment must not say for the demo's nodes.
OURS = (
    "NODE_ID",
    "NODE_LISTEN_ADDR",
    "NODE_ADVERTISE_ADDR",
    "RAFT_BOOTSTRAP",
    "RAFT_JOIN",
    "RAFT_VOTER",
    "RAFT_DATA_DIR",
)


class NodeProcess:
    """One node, which may be killed and started again with the same environment."""

    def __init__(
        self,
        name: str,
        address: str,
        *,
        directory: Path,
        join: str,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> None:
        """Prepare the node *name*; without *join* it founds the cluster.

        *settings* are variables that hold where the caller's environment has no others.
        """
        self.name = name
        self.address = address
        self.log_path = directory / f"{name}.log"
        way_in = {"RAFT_JOIN": join, "RAFT_VOTER": "true"} if join else {"RAFT_BOOTSTRAP": "true"}
        self.environment = {
            "NODE_ID": name,
            "NODE_LISTEN_ADDR": address,
            "RAFT_DATA_DIR": str(directory / name),
            **way_in,
        }
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start the process; it is not listening yet."""
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tinyraft", "serve", MODULE, "--with-parent"],
                env=environment({**self._settings, **os.environ}) | self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C is for us, who then end our nodes. A group, not a session: the system wakes
                # and ends a frozen node of this session when its parent dies.
                process_group=0,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process ended, for whatever reason."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """Kill it without warning, and wait until it is gone."""
        assert self._process is not None, "started before"
        self._process.kill()
        self._process.wait()
        close(self._process.stdin)

    def pause(self) -> None:
        """Freeze it: its connections stay open, and nothing is answered."""
        assert self._process is not None, "started before"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on; without effect when it was not frozen."""
        assert self._process is not None, "started before"
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, timeout: float) -> None:
        """Wait until it has ended; kill it after *timeout* seconds."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()  # does nothing to a process that was waited for

    def log(self) -> list[str]:
        """Return the lines that this start of the node has logged."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace").splitlines()

    def tail(self) -> str:
        """Return the last of them."""
        return "\n".join(self.log()[-TAIL_LINES:])

    @property
    def listens(self) -> bool:
        """Whether it has its port, so that what answers there is this node and no other."""
        return not self.has_ended and LISTENS.format(self.name, self.address) in self.log()

    @property
    def lost_its_port(self) -> bool:
        """Whether it ended because another program took its port first."""
        return self.has_ended and "is in use" in self.tail()


class Processes:
    """The nodes of one cluster. A context manager."""

    def __init__(
        self, count: int, *, directory: Path, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """Prepare *count* nodes; the first one founds the cluster, the others join it."""
        addresses = free_addresses(count)
        self.nodes = [
            NodeProcess(
                f"n{i}",
                address,
                directory=directory,
                join=addresses[0] if i > 1 else "",
                settings=settings,
            )
            for i, address in enumerate(addresses, 1)
        ]

    def __enter__(self) -> Self:
        """Start all."""
        with ExitStack() as undo:
            undo.callback(self.end)
            for node in self.nodes:
                node.start()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all."""
        self.end()

    def end(self) -> None:
        """End all, at the same time; kill those that don't."""
        for node in self.nodes:
            node.terminate()
        deadline = monotonic() + END_SECONDS
        for node in self.nodes:
            node.wait(max(0.1, deadline - monotonic()))


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Take over the caller's environment, without what would make all nodes the same one."""
    kept = {name: value for name, value in given.items() if name not in OURS}
    return {"RAFT_TIMEOUT_MS": "500"} | kept


def free_addresses(count: int) -> Sequence[str]:
    """Let the system choose ports of this host that nobody uses at the moment."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((THIS_HOST, 0))
        return [join_address(THIS_HOST, each.getsockname()[1]) for each in sockets]


def close(pipe: IO[bytes] | None) -> None:
    """Close our end of a node's standard input."""
    if pipe is not None:
        pipe.close()
