"""One bug at a time, in a copy of the tree: which test notices?

Law: the tree itself is never touched, and nobody is believed who would have failed anyway: a
failing test counts only when the same test passes on the copy without the bug. A hang counts only
when pytest's own timeout shows it; a patch that can't be imported is a broken patch, not a catch.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import monotonic

from tests.mutations.catalogue import ROOT, Mutation

COPIED = ("tinyraft", "tests", "tox.ini", "setup.cfg", "pyproject.toml", "README.md", "docs")
SUITE = ("tests/core", "tests/storage", "tests/node", "tests/transport")
TEST_SECONDS = 25  # for one test
RUN_SECONDS = 400  # for one call of pytest
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", re.MULTILINE)
BEGUN = re.compile(r"^(tests/\S+::.*?)\s*(?:(?:PASSED|SKIPPED).*)?$", re.MULTILINE)
TIMEOUT = "+ Timeout +"


class BrokenPatch(Exception):
    """The tests could not even be run; nothing is known."""


@dataclass(slots=True)
class Verdict:
    """What became of one bug."""

    mutation: Mutation
    caught_by: str = ""
    seconds: float = 0.0
    named: bool = False  # noticed by a test that the catalogue names
    trouble: str = ""  # why nothing can be said

    @property
    def is_caught(self) -> bool:
        """Whether some test noticed."""
        return bool(self.caught_by)


@dataclass(slots=True)
class Bench:
    """A directory with a copy of the tree without bugs, and room for copies with one."""

    directory: Path
    sound: dict[str, bool] = field(default_factory=dict)  # tests, by whether they pass without bugs
    lock: Lock = field(default_factory=Lock)  # guards `sound`

    @property
    def pristine(self) -> Path:
        """The copy without bugs."""
        return self.directory / "pristine"

    def prepare(self) -> None:
        """Copy the tree."""
        self.pristine.mkdir(parents=True)
        for name in COPIED:
            copy(ROOT / name, self.pristine / name)
        check_import(self.pristine)

    def failing_without_bug(self, tests: Sequence[str]) -> list[str]:
        """Run *tests* on the copy without bugs; name those that fail there."""
        failing = FAILED.findall(run(self.pristine, tests, stop=False)) if tests else []
        with self.lock:
            self.sound.update(dict.fromkeys(tests, True) | dict.fromkeys(failing, False))
        return failing

    def is_sound(self, test: str) -> bool:
        """Tell whether *test* passes without bugs."""
        if test not in self.sound:
            self.failing_without_bug([test])
        return self.sound[test]

    def judge(self, mutation: Mutation, *, only_named: bool = False) -> Verdict:
        """Put one bug into a copy, and look who notices."""
        verdict, begun = Verdict(mutation), monotonic()
        tree = self.directory / mutation.id
        try:
            shutil.copytree(self.pristine, tree, ignore=shutil.ignore_patterns("leavings"))
            infect(tree, mutation)
            check_import(tree)
            verdict.caught_by = self.first_catcher(tree, mutation.caught_by)
            verdict.named = verdict.is_caught
            if not verdict.is_caught and not only_named:
                verdict.caught_by = self.first_catcher(tree, suite_for(mutation))
        except (BrokenPatch, subprocess.TimeoutExpired) as error:
            verdict.trouble = str(error)
        finally:
            shutil.rmtree(tree, ignore_errors=True)
        verdict.seconds = monotonic() - begun
        return verdict

    def first_catcher(self, tree: Path, tests: Sequence[str]) -> str:
        """Name the first of *tests* that fails in *tree*, and passes without the bug."""
        unsound: list[str] = []
        while tests:
            found = first_failure(run(tree, tests, stop=True, without=unsound))
            if not found or self.is_sound(found):
                return found
            unsound.append(found)
        return ""


def suite_for(mutation: Mutation) -> list[str]:
    """Order the fast tests: those of the patched layer first."""
    layer = mutation.file.split("/")[1]
    return sorted(SUITE, key=lambda directory: not directory.endswith(f"/{layer}"))


def copy(source: Path, target: Path) -> None:
    """Copy a file or a directory, without what Python left there."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy2(source, target)


def infect(tree: Path, mutation: Mutation) -> None:
    """Put the bug in, and forget what was compiled without it."""
    path = tree / mutation.file
    path.write_text(mutation.patched(tree))
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def environment(tree: Path) -> dict[str, str]:
    """Let *tree* come before every installed tinyraft, also in processes that tests start.

    What tests leave behind goes away with the tree: a server's log alone has 64 MiB.
    """
    leavings = tree / "leavings"
    leavings.mkdir(exist_ok=True)
    return {
        **os.environ,
        "PYTHONPATH": str(tree),
        "TMPDIR": str(leavings),
        "COLUMNS": "400",
        "GRPC_VERBOSITY": "ERROR",
    }


def check_import(tree: Path) -> None:
    """Make sure that it is the copy which is tested."""
    code = "import tinyraft.server, sys; sys.stdout.write(tinyraft.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env=environment(tree),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise BrokenPatch(f"it can't be imported: {done.stderr.strip().splitlines()[-1]}")
    expected = tree / "tinyraft" / "__init__.py"
    assert Path(done.stdout).samefile(expected), f"{done.stdout} is tested instead of {expected}"


def run(tree: Path, tests: Sequence[str], *, stop: bool, without: Sequence[str] = ()) -> str:
    """Run *tests* in *tree* and return what pytest printed."""
    command = [sys.executable, "-m", "pytest", "-v", "--tb=no", "-p", "no:cacheprovider"]
    command += ["-o", "tmp_path_retention_policy=none"]
    command += [f"--timeout={TEST_SECONDS}", "--timeout-method=thread", "--durations=0"]
    command += ["-x"] if stop else []
    command += [f"--deselect={test}" for test in without]
    done = subprocess.run(
        [*command, *tests],
        cwd=tree,
        env=environment(tree),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=RUN_SECONDS,
    )
    if done.returncode not in (0, 1):
        raise BrokenPatch(f"pytest ended with {done.returncode}: {gist(done.stdout)}")
    if done.returncode and not first_failure(done.stdout):
        raise BrokenPatch(f"pytest failed and named no test: {gist(done.stdout)}")
    return done.stdout


def gist(output: str) -> str:
    """Choose of pytest's last words those that say what is wrong."""
    lines = [line.strip(" =!") for line in output.splitlines()]
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    return "; ".join((errors or [line for line in lines if line])[-2:])


def first_failure(output: str) -> str:
    """Name the first test that failed, or the one that hung; "" when none did."""
    if found := FAILED.search(output):
        return found[1]
    if TIMEOUT in output:  # the whole process ends then; the last test to begin is the one
        return [match[1] for match in BEGUN.finditer(output[: output.index(TIMEOUT)])][-1]
    return ""
