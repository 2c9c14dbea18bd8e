"""Programs as a shell starts them: with a clean environment, and ended by the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tinyraft

SOURCE = str(Path(tinyraft.__path__[0]).parent)


def clean_environment() -> dict[str, str]:
    """Ours without any setting of a node, and with this tinyraft, wherever the program runs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NODE_", "RAFT_"))}
    return kept | {"PYTHONPATH": SOURCE, "GRPC_VERBOSITY": "ERROR"}


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_tinyraft(tmp_path: Path) -> Iterator[Start]:
    """Start `tinyraft ARGS` in *tmp_path*; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tinyraft", *args],
            env=clean_environment() | environment,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
