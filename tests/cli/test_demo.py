"""`tinyraft demo`, from end to end: real processes, a real SIGKILL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from click.testing import CliRunner

from tinyraft.cli.cluster import PortLost, wait_until_up
from tinyraft.cli.commands import group
from tinyraft.cli.exits import Fault
from tinyraft.cli.processes import NodeProcess, Processes, environment

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills with SIGKILL")

WORDS = "the quick brown fox jumps over the lazy dog " * 10
SECONDS = 45.0


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A short text."""
    path = tmp_path / "words.txt"
    path.write_text(WORDS)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_the_demo_finds_every_acknowledged_word_on_every_node(count, words, start_tinyraft):
    """The leader dies in the middle, and nothing that was acknowledged is lost or doubled."""
    process = start_tinyraft("demo", "--nodes", str(count), "--words", str(words), "--json")
    output, errors = process.communicate(timeout=SECONDS)
    assert 0 == process.returncode, errors
    result = json.loads(output)
    number = len(WORDS.split())
    assert [] == result["problems"]
    assert number == result["words"] == result["acknowledged"] + len(result["unknown"])
    there = result["acknowledged"] + sum(word["applied"] for word in result["unknown"])
    assert [there] * count == [node["words"] for node in result["nodes"]]
    assert 1 == len({(node["digest"], node["last_applied"]) for node in result["nodes"]})
    assert 1 == sum(node["role"] == "leader" for node in result["nodes"])
    assert result["failover_ms"] > 0


@pytest.mark.slow
def test_it_prints_a_table_and_keeps_what_it_was_told_to_keep(words, tmp_path, start_tinyraft):
    """For people: a line a node, the failover, the verdict; data and logs where they asked."""
    keep = tmp_path / "kept"
    process = start_tinyraft("demo", "--nodes", "1", "--words", str(words), "--keep", str(keep))
    output, errors = process.communicate(timeout=SECONDS)
    assert 0 == process.returncode, errors
    lines = output.splitlines()
    assert ["node", "role", "term", "commit", "applied", "words", "digest"] == lines[0].split()
    assert ["n1", "leader"] == lines[1].split()[:2]
    assert "every acknowledged word is on every node exactly once, in the same order" == lines[-1]
    assert {"n1", "n1.log"} == {path.name for path in keep.iterdir()}
    assert str(keep) in errors


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_no_node_survives_the_demo(nodes, number, tmp_path, start_tinyraft):
    """Whatever ends the demo, even SIGKILL, its nodes end too."""
    keep = tmp_path / "kept"
    process = start_tinyraft("demo", "--nodes", str(nodes), "--keep", str(keep))
    line = process.stderr.readline()
    assert line.startswith(f"{nodes} nodes are up"), line + process.stderr.read()
    pids = [int((keep / f"n{i}" / "LOCK").read_text().split()[0]) for i in range(1, nodes + 1)]
    process.send_signal(number)
    errors = process.communicate(timeout=SECONDS)[1]
    expected = -signal.SIGKILL if number == signal.SIGKILL else 130
    assert expected == process.returncode, errors
    wait_until_gone(pids)


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of these processes is there, or fail."""
    script = "import os, sys, time\nfor pid in map(int, sys.argv[1:]):\n" + (
        "    while os.path.exists(f'/proc/{pid}') and open(f'/proc/{pid}/stat').read().split()[2]"
        " != 'Z':\n        time.sleep(0.02)\n"
    )
    subprocess.run([sys.executable, "-c", script, *map(str, pids)], timeout=20, check=True)


# --- refusals ---------------------------------------------------------------------------------


def test_a_directory_that_is_not_empty_is_refused(tmp_path):
    """An earlier run's data is neither mixed with this one's nor thrown away."""
    (tmp_path / "something").touch()
    result = CliRunner().invoke(group, ["demo", "--keep", str(tmp_path)])
    assert (2, True) == (result.exit_code, f"{tmp_path} is not empty" in result.stderr)


def test_a_text_without_words_is_refused(tmp_path):
    """Nothing to send is a mistake."""
    (tmp_path / "empty.txt").write_text(" \n")
    result = CliRunner().invoke(group, ["demo", "--words", str(tmp_path / "empty.txt")])
    assert (2, True) == (result.exit_code, "has no words" in result.stderr)


def test_a_node_that_does_not_come_up_shows_its_log(tmp_path, monkeypatch):
    """The reason is on the screen, not in a directory that is gone."""
    monkeypatch.setenv("RAFT_TIMEOUT_MS", "soon")
    with (
        Processes(1, directory=tmp_path) as processes,
        pytest.raises(Fault, match="RAFT_TIMEOUT_MS='soon'") as caught,
    ):
        wait_until_up(processes.nodes, deadline=monotonic() + SECONDS)
    assert 1 == caught.value.exit_code


def test_a_port_that_was_lost_is_told_from_other_failures(tmp_path):
    """The demo starts anew with other ports; a user never sees that race."""
    with Processes(1, directory=tmp_path) as processes:
        wait_until_up(processes.nodes, deadline=monotonic() + SECONDS)
        late = NodeProcess("n2", processes.nodes[0].address, directory=tmp_path, join="")
        late.start()
        try:
            with pytest.raises(PortLost):
                wait_until_up([late], deadline=monotonic() + SECONDS)
        finally:
            late.wait(SECONDS)


def test_the_caller_s_own_node_settings_do_not_reach_the_demo_s_nodes():
    """Except those that all nodes may share."""
    given = {"NODE_ID": "mine", "RAFT_JOIN": "10.0.0.1:1", "RAFT_TIMEOUT_MS": "900", "HOME": "/h"}
    assert {"RAFT_TIMEOUT_MS": "900", "HOME": "/h"} == environment(given)
    assert {"RAFT_TIMEOUT_MS": "500"} == environment({})
