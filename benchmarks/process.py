"""A process that measures on request: both ends of the pipe between it and us.

Law: a child does one task at a time, each a line of JSON, and ends when its standard input does;
so nothing outlives a run, however that ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

STOP_SECONDS = 10.0


def answer(tasks: Mapping[str, Callable[..., object]]) -> None:
    """In the child: do what is asked until the other end hangs up."""
    for line in sys.stdin:
        task, arguments = json.loads(line)
        try:
            value, failure = tasks[task](**arguments), ""
        except Exception:  # noqa: BLE001  # told at the other end
            value, failure = None, traceback.format_exc()
        print(json.dumps([value, failure]), flush=True)


class Child:
    """In the parent: one such process. Its first line says where it listens."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        """Run *module* with *arguments*; what it says on standard error goes to *log*."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("RAFT_", "NODE_"))}
        errors: IO[bytes] | None = log.open("ab") if log is not None else None
        command = [sys.executable, "-m", module, *arguments]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**base, **(environ or {})},
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        finally:
            if errors is not None:
                errors.close()
        self._command = " ".join(command)
        self._address = ""

    @property
    def address(self) -> str:
        """Where it listens; waits until it does."""
        self._address = self._address or self._line()
        return self._address

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def _line(self) -> str:
        assert self.process.stdout is not None, "piped"
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command} ended: {self.process.wait()}")
        return line.strip()

    def begin(self, task: str, /, **arguments: object) -> None:
        """Ask for *task*, once it listens; `result` waits for the answer."""
        assert self.address, "it says so first"
        assert self.process.stdin is not None, "piped"
        print(json.dumps([task, arguments]), file=self.process.stdin, flush=True)

    def result(self) -> Any:
        """Wait for the answer to the oldest task."""
        value, failure = json.loads(self._line())
        if failure:
            raise RuntimeError(f"in {self._command}:\n{failure}")
        return value

    def ask(self, task: str, /, **arguments: object) -> Any:
        """Have it do *task*, and return the answer."""
        self.begin(task, **arguments)
        return self.result()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Hang up, and see it end."""
        assert self.process.stdin is not None, "piped"
        self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()


def free_ports(count: int) -> list[int]:
    """Let the system choose ports, for programs that must be told theirs."""
    with ExitStack() as undo:
        sockets = [undo.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def cpu_seconds(pid: int) -> float:
    """How long a process has kept a processor busy, in all its present threads (Linux)."""
    return sum(seconds for _, seconds in thread_costs(pid).values())


def thread_costs(pid: int) -> dict[int, tuple[int, float]]:
    """How often each thread gave the processor up by itself, and its seconds on one (Linux)."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            lines = (task / "status").read_text().splitlines()
            seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue  # it has ended
        for line in lines:
            if line.startswith("voluntary_ctxt_switches:"):
                found[int(task.name)] = int(line.split()[1]), seconds
    return found


def resident_mb(pid: int) -> float:
    """How much memory a process has in use, in MB of 10^6 bytes (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no memory")
