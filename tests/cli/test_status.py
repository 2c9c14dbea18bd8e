"""`tinyraft status`: the whole cluster from any one address."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import tinyraft
from tests.cluster import until
from tinyraft.cli.commands import group
from tinyraft.cli.words import Words


def serve(directory: Path, name: str, **settings) -> tinyraft.Server:
    config = tinyraft.Config(
        data_dir=directory / name,
        node_id=name,
        listen_address="127.0.0.1:0",
        timeout=0.3,
        **settings,
    )
    return tinyraft.Server(config, Words())


@pytest.fixture
def founder(tmp_path: Path) -> Iterator[tinyraft.Server]:
    """A cluster of one."""
    with serve(tmp_path, "n1", bootstrap=True) as server:
        assert server.wait_ready(timeout=20)
        yield server


@pytest.fixture
def learner(tmp_path: Path, founder: tinyraft.Server) -> Iterator[tinyraft.Server]:
    """A member without a vote."""
    with serve(tmp_path, "n2", join=(founder.status().address,)) as server:
        assert server.wait_ready(timeout=20)
        yield server


@pytest.fixture
def dead_address() -> Iterator[str]:
    """An address at which nobody listens, and nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def run(*args: str, **environment: str | None):
    return CliRunner(env={"RAFT_JOIN": None, **environment}).invoke(group, ["status", *args])


def nodes_of(result) -> dict[str, dict]:
    assert 0 == result.exit_code, result.output
    return {node["id"]: node for node in json.loads(result.stdout)["nodes"]}


@pytest.mark.parametrize("asked", ["founder", "learner"])
def test_any_one_address_shows_all_members(asked, founder, learner, request):
    """The members are found from whoever answers."""
    address = request.getfixturevalue(asked).status().address
    nodes = nodes_of(run(address, "--json"))
    found = {name: (n["role"], n["voter"], n["leader_id"]) for name, n in nodes.items()}
    assert {"n1": ("leader", True, "n1"), "n2": ("follower", False, "n1")} == found


def test_the_table_says_the_same_in_lines(founder, learner):
    """One line a node under a line of titles."""
    lines = run(founder.status().address).stdout.splitlines()
    assert ["id", "address", "role", "vote"] == lines[0].split()[:4]
    assert [["n1", "leader", "voter"], ["n2", "follower", "learner"]] == [
        [cells[0], cells[2], cells[3]] for cells in map(str.split, lines[1:])
    ]


def test_an_address_that_is_silent_does_not_hide_the_others(founder, dead_address):
    """Two addresses were given, one answers: that is enough."""
    nodes = nodes_of(run(f"{dead_address},{founder.status().address}", "--json"))
    assert ["n1"] == list(nodes)


def test_a_member_that_is_down_is_shown_as_such(founder, learner):
    """The configuration has it, and it gives no answer."""
    learner.shutdown()
    nodes = nodes_of(run(founder.status().address, "--json"))
    assert {"n1": True, "n2": False} == {name: n["reachable"] for name, n in nodes.items()}
    assert "no answer" in run(founder.status().address).stdout


def test_raft_join_is_asked_when_no_address_is_given(founder):
    """In a node's own environment the command needs no argument."""
    assert ["n1"] == list(nodes_of(run("--json", RAFT_JOIN=founder.status().address)))


def test_nobody_there_ends_with_3(dead_address):
    """Told apart from a command that was refused, for scripts."""
    result = run(dead_address)
    assert (3, f"tinyraft: nobody answers at {dead_address}\n") == (result.exit_code, result.stderr)


@pytest.mark.parametrize("text", ["host:99999", "10.0.0.1", ","])
def test_what_is_no_address_ends_with_2(text):
    """A typing error is not an unreachable cluster."""
    assert 2 == run(text).exit_code


def test_a_node_whose_disk_is_full_says_so(tmp_path):
    """Where, how much is left, and what to do; in the table and for scripts."""
    enough = 1 << 40  # more than any disk of these tests has
    with serve(tmp_path, "n1", bootstrap=True, disk_reserve_bytes=enough) as server:
        until(lambda: server.is_leader and server.status().storage_full)
        address = server.status().address
        with pytest.raises(tinyraft.StorageFull, match="n1 takes no commands"):
            server.apply(b"word", timeout=1)
        said = nodes_of(run(address, "--json"))["n1"]["storage_full"]
        assert f"{tmp_path / 'n1'} has " in said
        assert "RAFT_DISK_RESERVE_BYTES" in said
        assert f"disk full: {said}" in run(address).stdout
