"""The package as it is installed and imported."""

from __future__ import annotations

import re
from importlib import metadata, resources
from pathlib import Path

import pytest

import tinyraft
from tinyraft._version import __version__

ROOT = Path(tinyraft.__path__[0])


def test_the_version_is_written_as_semantic_versioning_asks():
    """One literal, which setup.cfg reads without importing anything."""
    assert re.fullmatch(r"\d+\.\d+\.\d+([-+.][0-9a-z.]+)?", __version__)


@pytest.fixture
def installed() -> metadata.Distribution:
    """The package as pip installed it, not the traces that a build leaves in the working tree."""
    for distribution in metadata.distributions(name="tinyraft"):
        names = {path.as_posix() for path in distribution.files or ()}
        if distribution.read_text("RECORD") and "tinyraft/errors.py" in names:
            return distribution
    pytest.skip("tinyraft is not installed here; tox installs it")


def test_the_installed_version_is_the_one_that_the_source_says(installed):
    """What pip shows and what the program prints never differ."""
    assert __version__ == installed.version


def test_type_checkers_are_told_that_the_package_is_typed():
    """Without py.typed mypy ignores every annotation."""
    assert resources.files("tinyraft").joinpath("py.typed").is_file()


def test_generated_stubs_stand_beside_the_generated_code():
    """Each generated module brings its types."""
    wire = resources.files("tinyraft.wire")
    generated = {f.name for f in wire.iterdir() if "_pb2" in f.name and f.name.endswith(".py")}
    assert {"raft_pb2.py", "raft_pb2_grpc.py"} <= generated
    assert [] == [name for name in sorted(generated) if not wire.joinpath(f"{name}i").is_file()]


def test_the_installed_files_are_those_of_the_source(installed):
    """A module or data file that packaging forgets is missed here, not by a user."""
    wanted = ("*.py", "*.pyi", "*.txt", "py.typed")
    source = {p.relative_to(ROOT.parent).as_posix() for kind in wanted for p in ROOT.rglob(kind)}
    assert set() == source - {path.as_posix() for path in installed.files or ()}


def test_the_command_line_is_installed(installed):
    """`tinyraft` is a command of the shell."""
    scripts = {entry.name: entry.value for entry in installed.entry_points}
    assert {"tinyraft": "tinyraft.cli:main"} == scripts


def test_every_folder_with_modules_is_a_package():
    """`packages = find:` skips a folder without `__init__.py`, and an install lacks it silently."""
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert [] == sorted(str(f) for f in folders if not (f / "__init__.py").is_file())
