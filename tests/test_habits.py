"""What no file of the library may do, whatever it is for."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tinyraft
from tests.cluster import LocalCluster

ROOT = Path(tinyraft.__file__).parent
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent.name != "wire"]
PROGRAM = "cli"  # owns its process, and may set up its signals and its log
RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
OF_THE_PROCESS = {"signal.signal", "logging.basicConfig", "sys.setswitchinterval", "os._exit"}
WALL_CLOCK = {"time.time", "datetime.now", "datetime.utcnow"}


def tree_of(path: Path) -> Iterator[ast.AST]:
    """Give every node of a file."""
    return ast.walk(ast.parse(path.read_text()))


def calls(path: Path) -> set[str]:
    """Name what a file calls, as it is written there."""
    return {ast.unparse(node.func) for node in tree_of(path) if isinstance(node, ast.Call)}


def imports(path: Path) -> set[str]:
    """Name the packages that a file imports."""
    found: set[str] = set()
    for node in tree_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def defines(path: Path) -> set[str]:
    """Name the functions of a file."""
    return {node.name for node in tree_of(path) if isinstance(node, ast.FunctionDef)}


def takes_from_time(path: Path) -> set[str]:
    """Name what a file imports from the module `time`."""
    taken = (n for n in tree_of(path) if isinstance(n, ast.ImportFrom) and n.module == "time")
    return {alias.name for node in taken for alias in node.names}


def bad_handlers(path: Path) -> set[str]:
    """Tell what is wrong with the handlers of a file."""
    found = set()
    for node in tree_of(path):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else ""
        if not caught:
            found.add("catches everything")
        elif caught.endswith("Exception") and all(isinstance(n, ast.Pass) for n in node.body):
            found.add("swallows every error")
    return found


def offenders(seen: Callable[[Path], set[str]], banned: set[str], *, but: str = "") -> list[str]:
    """Name the files in which something banned is seen."""
    looked_at = [path for path in FILES if path.parent.name != but]
    return [f"{path}: {found}" for path in looked_at if (found := seen(path) & banned)]


def test_every_file_is_looked_at() -> None:
    """These tests see the whole library."""
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert {"caller.py", "core/raft.py", "node/node.py", "storage/wal.py"} <= names


def test_no_bytes_become_code() -> None:
    """Whatever a peer or a disk gives is data: nothing that runs code reads it (P119)."""
    assert [] == offenders(imports, RUNS_CODE)
    assert [] == offenders(calls, {"eval", "exec", "compile"})


def test_the_process_belongs_to_the_program() -> None:
    """A library sets no signal handler and no log up, and works in no finalizer (P104)."""
    assert [] == offenders(calls, OF_THE_PROCESS, but=PROGRAM)
    assert [] == offenders(defines, {"__del__"})


def test_no_duration_is_taken_from_the_wall_clock() -> None:
    """A clock that is set ends no election: only the monotonic one is asked how long (P46)."""
    assert [] == offenders(calls, WALL_CLOCK)
    assert [] == offenders(takes_from_time, {"time"})


def test_no_error_is_swallowed() -> None:
    """Every handler says what it catches and does something about it; none is unfinished (P124)."""
    assert [] == offenders(bad_handlers, {"catches everything", "swallows every error"})
    unfinished = [str(path) for path in FILES if re.search(r"\b(TODO|FIXME)\b", path.read_text())]
    assert [] == unfinished


class Vault:
    """A module with a word that nobody else may read."""

    def apply(self, command: bytes, /) -> bytes:
        """Take, refuse or fail, by the last letter."""
        if command.endswith(b"r"):
            raise tinyraft.Rejected("no")
        if command.endswith(b"x"):
            raise ZeroDivisionError
        return b"taken"


def test_commands_are_in_no_log_line(
    cluster: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever becomes of a command, its bytes are nobody's to read in a log or an error (P123)."""
    caplog.set_level(logging.DEBUG)
    cluster.make("a", module=Vault(), bootstrap=True, max_command_bytes=100).start()
    cluster.wait_voters(["a"])
    word = b"hunter%d" % 2  # not in this file, which tracebacks quote
    told = []
    for apply in (cluster.caller(max_command_bytes=100).apply, cluster["a"].apply):
        assert apply(word) == b"taken"
        for command in (word + b"r", word + b"x", word * 20):
            with pytest.raises(tinyraft.TinyraftError) as caught:
                apply(command)
            told.append(str(caught.value))
    assert "module_error" in caplog.text
    assert word.decode() not in " ".join([caplog.text, *told])
