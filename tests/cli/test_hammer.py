"""`tinyraft hammer`: real processes, SIGKILL and SIGSTOP, and a verdict that can be trusted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic

import pytest
from click.testing import CliRunner

from tests.cli.conftest import clean_environment
from tests.cli.test_demo import wait_until_gone
from tinyraft.caller import Caller
from tinyraft.cli.chaos import KILL, PAUSE, plan
from tinyraft.cli.clients import MOST_WORDS, Clients
from tinyraft.cli.commands import group
from tinyraft.cli.gaps import Gaps
from tinyraft.cli.history import History
from tinyraft.cli.words import SLICE, Words

real = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="kills and pauses")
SECONDS = 55.0
HERE = str(Path(__file__).parents[2])


@pytest.mark.slow
@pytest.mark.timeout(120)  # a busy machine takes ten seconds to bring a killed node back
@real
def test_it_finds_nothing_wrong_while_leaders_die_and_freeze(start_tinyraft):
    """Every figure is there, and every word is accounted for."""
    args = ("--seconds", "5", "--every", "2.5", "--clients", "6", "--seed", "5", "--json")
    output, errors = (process := start_tinyraft("hammer", *args)).communicate(timeout=2 * SECONDS)
    assert 0 == process.returncode, errors
    told = json.loads(output)
    assert (True, []) == (told["ok"], told["problems"])
    assert told["sent"] == told["acknowledged"] + told["unknown"] + told["refused"]
    assert min(told["acknowledged"], told["reads"], told["kills"]) > 0
    assert told["kills"] == told["outage_ms"]["kill"]["count"]
    assert 0 < told["apply_ms"]["p50"] <= told["apply_ms"]["p99"] <= told["apply_ms"]["max"]
    assert told["longest_gap_ms"] > 0
    assert (3, 6, 5) == (told["nodes"], told["clients"], told["seed"])


@pytest.fixture
def node(start_tinyraft):
    """Start a node with a module that is named, and give its address."""

    def start(module: str) -> str:
        process = start_tinyraft(
            "serve",
            module,
            "--with-parent",
            NODE_ID="n1",
            NODE_LISTEN_ADDR="127.0.0.1:0",
            RAFT_BOOTSTRAP="true",
            RAFT_DATA_DIR="data",
            PYTHONPATH=HERE,
        )
        return process.stdout.readline().split()[-1]

    return start


@pytest.mark.slow
def test_a_cluster_of_the_user_s_own_is_not_struck(node, start_tinyraft):
    """What it held before is left alone and not judged; the words of the run are."""
    address = node("tinyraft.cli.words:Words")
    with Caller(address) as caller:
        caller.apply(b"mine")
    for _ in range(2):
        args = ("--addresses", address, "--seconds", "1", "--clients", "3")
        process = start_tinyraft("hammer", *args)
        output, errors = process.communicate(timeout=SECONDS)
        assert 0 == process.returncode, errors
        first, *_, last = output.splitlines()
        assert first.startswith("3 clients, 1 nodes, ")
        assert "kills" not in first
        assert "nothing was lost, duplicated or misordered, and no read was stale" == last


class Forgetful(Words):
    """Answers as a list of words does, and loses one."""

    def apply(self, command: bytes) -> bytes:
        answer = super().apply(command)
        if len(self.words) == 5:
            self.words[3] = b"something else"
        return answer


class Silent:
    """Not a list of words."""

    def apply(self, command: bytes) -> None:
        return None

    def query(self, request: bytes) -> bytes:
        return b"?"


@pytest.mark.slow
def test_a_planted_loss_is_found(node, start_tinyraft):
    """The exit code says it, and the text names the word."""
    address = node("tests.cli.test_hammer:Forgetful")
    process = start_tinyraft("hammer", "--addresses", address, "--seconds", "1", "--json")
    output, errors = process.communicate(timeout=SECONDS)
    told = json.loads(output)
    assert (1, 1, False) == (process.returncode, told["lost"], told["ok"])
    assert re.search(r"promises were broken:\n  lost: 127.0.0.1:\d+ lacks '", errors)


def test_another_module_is_refused(node):
    """What its answers mean can't be judged."""
    result = CliRunner().invoke(
        group, ["hammer", "--addresses", node("tests.cli.test_hammer:Silent")]
    )
    assert (2, True) == (result.exit_code, "must run tinyraft.cli.words:Words" in result.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
@real
def test_no_node_survives_the_hammer(number, tmp_path, start_tinyraft):
    """Ctrl-C ends clients and nodes in the middle of the work."""
    keep = tmp_path / "kept"
    process = start_tinyraft("hammer", "--keep", str(keep), "--clients", "4", "--nodes", "1")
    assert process.stderr.readline().startswith("seed ")
    line = process.stderr.readline()
    assert line.startswith("1 nodes are up"), line + process.stderr.read()
    pid = int((keep / "n1" / "LOCK").read_text().split()[0])
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    expected = -signal.SIGKILL if number == signal.SIGKILL else 130
    assert expected == process.returncode
    wait_until_gone([pid])


# --- its parts --------------------------------------------------------------------------------


def test_the_plan_follows_the_seed_alone():
    """So a run can be struck at the same times again; a kill each interval, a pause between."""
    blows = list(plan(Random(7), seconds=60.0, every=3.0))
    assert blows == list(plan(Random(7), seconds=60.0, every=3.0))
    assert blows != list(plan(Random(8), seconds=60.0, every=3.0))
    assert [KILL, PAUSE] * 20 == [blow.kind for blow in blows]
    assert all(one.at + one.rest < two.at for one, two in pairwise(blows))
    assert blows[-1].at < 60.0


def test_a_long_run_remembers_no_more_than_a_short_one():
    """Words are sent only as fast as a million will last."""
    history = History(b"r", 2)
    began = monotonic()
    with Clients(["127.0.0.1:1"], history, Gaps(began), seconds=MOST_WORDS * 50.0, seed=1) as two:
        assert 50.0 * 2 == two._interval
    assert max(map(len, history.books)) <= 1


@real
def test_a_frozen_node_ends_with_its_parent(tmp_path):
    """Who is killed can't wake its nodes; the system does."""
    program = f"""
import sys, threading
from pathlib import Path
from tinyraft.cli.processes import Processes
with Processes(1, directory=Path({str(tmp_path)!r})) as processes:
    processes.nodes[0].pause()
    print(processes.nodes[0]._process.pid, flush=True)
    threading.Event().wait()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until_gone([pid])


def test_the_words_come_in_slices():
    """However many there are, each answer has room for its part."""
    module = Words()
    for number in range(SLICE + 5):
        module.apply(b"%d" % number)
    assert SLICE == len(module.query(b"words 0").split(b"\n"))
    assert b"\n".join(module.words[SLICE:]) == module.query(b"words %d" % SLICE)
    assert b"\n".join(module.words) == module.query(b"words")
