"""`tinyraft serve`: what it refuses, and how it ends."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tinyraft
from tinyraft.cli.exits import Fault
from tinyraft.cli.serve import LOOK_SECONDS, load
from tinyraft.cli.words import Words
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.divergence import Divergence, note_divergence
from tinyraft.transport.admin import ask

WORDS = "tinyraft.cli.words:Words"
SECONDS = 20.0  # for a process to end


def found(data_dir: Path) -> tinyraft.Config:
    """Found a cluster of one in *data_dir*, and end it."""
    config = tinyraft.Config(
        data_dir=data_dir, listen_address="127.0.0.1:0", bootstrap=True, timeout=0.2
    )
    with tinyraft.Server(config, Words()) as server:
        server.apply(b"hello")
    return config


@pytest.fixture
def bootstrap(tmp_path: Path) -> dict[str, str]:
    """The environment of a node that founds a cluster."""
    return {
        "NODE_LISTEN_ADDR": "127.0.0.1:0",
        "RAFT_BOOTSTRAP": "true",
        "RAFT_DATA_DIR": str(tmp_path / "data"),
        "RAFT_TIMEOUT_MS": "200",
    }


def wait_until_started(process) -> str:
    """Wait for the line on stdout that says so, and return it."""
    line = process.stdout.readline()
    assert " listens at 127.0.0.1:" in line, process.stderr.read()
    return line


# --- MODULE:FACTORY ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("words", "must be MODULE:FACTORY"),
        ("words:", "must be MODULE:FACTORY"),
        (":Words", "must be MODULE:FACTORY"),
        ("no_such_module:Words", "no module 'no_such_module'"),
        ("tinyraft.no_such:Words", "no module 'tinyraft.no_such'"),
        ("tinyraft.cli.words:Nothing", "tinyraft.cli.words has no 'Nothing'"),
        ("tinyraft.cli.words:Words.nothing", "Words has no 'nothing'"),
        ("tinyraft:__version__", "can't be called"),
        ("collections:OrderedDict", "made a OrderedDict, which has no apply"),
    ],
)
def test_a_factory_that_can_t_be_used_is_named_with_the_reason(target, why):
    """One line says what is wrong with MODULE:FACTORY; it is a matter of usage."""
    with pytest.raises(Fault) as caught:
        load(target)
    assert (2, True) == (caught.value.exit_code, why in caught.value.message)
    assert repr(target) in caught.value.message


def test_a_factory_in_the_current_directory_is_found(tmp_path, monkeypatch):
    """As with gunicorn and flask, a module needs no installation."""
    (tmp_path / "words_of_mine.py").write_text("from tinyraft.cli.words import Words as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert isinstance(load("words_of_mine:Mine"), Words)


def test_an_import_that_fails_inside_the_user_s_module_keeps_its_traceback(tmp_path, monkeypatch):
    """Their mistake is shown as theirs, not as a wrong MODULE:FACTORY."""
    (tmp_path / "broken_words.py").write_text("import no_such_module_either\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_either"):
        load("broken_words:Words")


# --- refusals ---------------------------------------------------------------------------------


def test_a_wrong_environment_ends_with_2_and_names_every_problem(start_tinyraft):
    """All problems at once, each with its variable, without a traceback."""
    process = start_tinyraft("serve", WORDS, NODE_ID="?", RAFT_VOTER="perhaps")
    errors = process.communicate(timeout=SECONDS)[1]
    assert 2 == process.returncode
    named = [n for n in ("NODE_ID", "RAFT_VOTER", "RAFT_DATA_DIR", "Traceback") if n in errors]
    assert ["NODE_ID", "RAFT_VOTER", "RAFT_DATA_DIR"] == named


def test_a_missing_env_file_ends_with_2(start_tinyraft):
    """A file that was named must be there."""
    process = start_tinyraft("serve", WORDS, "--env-file", "none.env")
    errors = process.communicate(timeout=SECONDS)[1]
    assert (2, True) == (process.returncode, "none.env" in errors)


def test_a_port_that_is_taken_ends_with_1(start_tinyraft, bootstrap):
    """The reason is told, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bootstrap["NODE_LISTEN_ADDR"] = f"127.0.0.1:{port}"
        process = start_tinyraft("serve", WORDS, **bootstrap)
        errors = process.communicate(timeout=SECONDS)[1]
    assert (1, 1) == (process.returncode, errors.count("\n")), errors
    assert f"port {port} on 127.0.0.1 is in use" in errors


def test_a_data_directory_in_use_ends_with_1(start_tinyraft, bootstrap, tmp_path):
    """The second process is refused while the first one runs, and is told which one that is."""
    first = start_tinyraft("serve", WORDS, **bootstrap)
    wait_until_started(first)
    second = start_tinyraft("serve", WORDS, **bootstrap)
    errors = second.communicate(timeout=SECONDS)[1]
    assert (1, True) == (second.returncode, str(first.pid) in errors), errors


def test_damaged_data_ends_with_6(start_tinyraft, bootstrap, tmp_path):
    """A supervisor can tell a disk that lost data from a node that may be started again."""
    data_dir = tmp_path / "data"
    found(data_dir)
    shutil.rmtree(data_dir / "wal")
    (data_dir / "wal").mkdir()
    process = start_tinyraft("serve", WORDS, **bootstrap)
    errors = process.communicate(timeout=SECONDS)[1]
    assert (6, True) == (process.returncode, str(data_dir / "wal") in errors), errors


# --- life and end -----------------------------------------------------------------------------


def test_a_node_that_diverged_runs_on(start_tinyraft, bootstrap, tmp_path):
    """A supervisor would only start it again, and the cluster would lack a copy of its log."""
    found(tmp_path / "data")
    note_divergence(RealDisk(), tmp_path / "data", Divergence(1, 2))
    process = start_tinyraft("serve", WORDS, **bootstrap)
    address = wait_until_started(process).split()[-1]
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2 * LOOK_SECONDS)
    said = ask(address, timeout=SECONDS)
    assert (True, True) == (said.diverged, "in the entries 2 to 2" in said.failed)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=SECONDS)[1]
    assert 0 == process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_it_in_order(start_tinyraft, bootstrap, number):
    """SIGTERM and Ctrl-C shut the node down; that is success."""
    process = start_tinyraft("serve", WORDS, **bootstrap)
    wait_until_started(process)
    process.send_signal(number)
    errors = process.communicate(timeout=SECONDS)[1]
    assert (0, True) == (process.returncode, "'stopped'" in errors), errors


def test_with_parent_it_ends_when_its_input_does(start_tinyraft, bootstrap):
    """A parent that is killed takes its node along: the pipe between them closes."""
    process = start_tinyraft("serve", WORDS, "--with-parent", **bootstrap)
    wait_until_started(process)
    errors = process.communicate(timeout=SECONDS)[1]  # closes standard input
    assert (0, True) == (process.returncode, "'stopped'" in errors), errors


def test_the_env_file_gives_what_the_environment_lacks(start_tinyraft, bootstrap, tmp_path):
    """Real variables win over the file's."""
    given = {"RAFT_DATA_DIR": bootstrap.pop("RAFT_DATA_DIR"), "NODE_ID": "from-the-file"}
    (tmp_path / "node.env").write_text("".join(f"{k}={v}\n" for k, v in given.items()))
    process = start_tinyraft(
        "serve", WORDS, "--env-file", "node.env", NODE_ID="from-outside", **bootstrap
    )
    assert "from-outside" == wait_until_started(process).split()[0]
