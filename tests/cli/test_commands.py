"""What the command line says before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tinyraft
from tinyraft.cli.commands import group
from tinyraft.settings import SETTINGS

CHANGES = ("add-learner", "add-voter", "promote", "demote", "remove")
OFFLINE = ("inspect", "recover", "restore")
VERBS = ("serve", "status", "members", *CHANGES, "transfer", "demo", "hammer", *OFFLINE, "version")

# The command line by itself: the package's own __init__ is not run.
ALONE = f"""
import sys, types
package = types.ModuleType("tinyraft")
package.__path__ = [{tinyraft.__path__[0]!r}]
sys.modules["tinyraft"] = package
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("args", [[], *([verb] for verb in VERBS)], ids=["tinyraft", *VERBS])
def test_everything_has_a_help_text(args):
    """`-h` explains the program and each of its verbs, and ends well."""
    result = CliRunner().invoke(group, [*args, "-h"])
    assert (0, True) == (result.exit_code, "Usage:" in result.output)


def test_help_lists_every_setting():
    """The environment is all the configuration that a node has, so `serve -h` tells it whole."""
    output = CliRunner().invoke(group, ["serve", "-h"]).output
    assert [] == [s.variable for s in SETTINGS if f"    {s.variable} " not in output]


def test_the_version_is_the_package_s():
    """`tinyraft version` prints the one literal."""
    assert f"tinyraft {tinyraft.__version__}\n" == CliRunner().invoke(group, ["version"]).output


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["serve"],
        ["demo", "--nodes", "8"],
        ["demo", "--nodes", "0"],
        ["demo", "-x"],
        ["hammer", "--clients", "0"],
        ["hammer", "--addresses", "nowhere"],
        ["remove"],
        ["remove", "n1", "--expect", "x"],
        ["remove", "n1", "--addr", "host:99999"],
        ["remove", "no id"],
        ["add-voter", "n1"],
        ["add-learner", "n1", "nowhere"],
        ["transfer", "--to", "no id"],
        ["members", "--addr", ","],
    ],
    ids=" ".join,
)
def test_what_can_t_be_meant_ends_with_2(args):
    """A wrong command line is told from a command that failed."""
    assert 2 == CliRunner().invoke(group, args).exit_code


@pytest.mark.parametrize("args", [["-h"], ["serve", "-h"], ["version"]], ids=" ".join)
def test_help_does_not_wait_for_grpc(args):
    """Help comes at once: nothing slow is imported for it by the command line."""
    code = f"""{ALONE}
from tinyraft.cli.commands import group
group({args!r}, standalone_mode=False)
print(sorted(sys.modules.keys() & {{"grpc", "google.protobuf", "structlog", "rich"}}))
"""
    assert "[]" == run_python(code).stdout.splitlines()[-1]


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(missing):
    """The extra is optional; who lacks it reads one line, not a traceback."""
    code = f"{ALONE}\nsys.modules[{missing!r}] = None\nfrom tinyraft.cli import main\nmain()"
    result = run_python(code)
    wanted = f"tinyraft: the command line needs {missing}; pip install 'tinyraft[cli]' brings it\n"
    assert (1, wanted) == (result.returncode, result.stderr)


def test_the_story_is_long_enough_and_plain():
    """The demo's words are some thousands, in ASCII, so that every terminal can show them."""
    story = Path(tinyraft.__path__[0], "cli", "story.txt").read_text("ascii")
    assert 2500 <= len(story.split()) <= 4000
