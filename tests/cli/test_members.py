"""`tinyraft members` and the verbs that change them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import tinyraft
from tests.cluster import LocalCluster, until
from tests.processes import free_ports
from tinyraft.cli.commands import group


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Two voters and a learner."""
    made = LocalCluster(tmp_path)
    try:
        made.start(2)
        made.make("c", voter=False).start()
        assert made["c"].wait_ready(timeout=20)
        yield made
    finally:
        made.close()


def run(*args: str, **environment: str | None) -> Result:
    return CliRunner(env={"RAFT_JOIN": None, **environment}).invoke(group, args)


def done(*args: str) -> Any:
    result = run(*args, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def votes(cluster: LocalCluster, name: str) -> dict[str, bool]:
    return {member.id: member.voter for member in cluster[name].members().members}


def test_members_are_shown_from_any_address(cluster: LocalCluster) -> None:
    """As a table with the index behind it, or as JSON; by RAFT_JOIN too."""
    for address in cluster.addresses:
        shown = done("members", "--addr", address)
        assert {"a": True, "b": True, "c": False} == {m["id"]: m["voter"] for m in shown["members"]}
        assert cluster.leader() == shown["leader_id"]
    result = run("members", RAFT_JOIN=cluster.addresses[0])
    lines = result.stdout.splitlines()
    assert (0, ["id", "address", "vote"]) == (result.exit_code, lines[0].split())
    assert ["voter", "voter", "learner"] == [line.split()[2] for line in lines[1:4]]
    assert f"index {shown['index']}" == lines[4]


def test_the_verbs_do_what_they_say(cluster: LocalCluster) -> None:
    """Asked at the learner, who passes it on; each prints the index for the next --expect."""
    where = ("--addr", cluster["c"].status().address)
    index = done("promote", "c", *where)["index"]
    until(lambda: votes(cluster, "a")["c"])
    assert index < (index := done("demote", "c", *where, "--expect", str(index))["index"])
    until(lambda: not votes(cluster, "a")["c"])
    assert index < done("add-voter", "c", cluster["c"].status().address, *where)["index"]
    until(lambda: votes(cluster, "a")["c"])
    other = cluster.followers()[0]
    assert {"leader_id": other} == done("transfer", "--to", other, *where)
    result = run("remove", other, *where)
    assert (0, True) == (result.exit_code, result.stdout.startswith(f"removed {other}, index "))
    until(lambda: cluster[other].status().removed)
    assert [other] == done("members", *where)["removed"]
    status = run("status", cluster[other].status().address)
    assert "removed" in status.stdout


def test_a_node_is_added_before_it_runs(cluster: LocalCluster) -> None:
    """A learner at once; a voter is waited for, unless that is not wanted."""
    (port,) = free_ports(["127.0.0.1"])
    there, where = f"127.0.0.1:{port}", ("--addr", cluster.addresses[0])
    done("add-learner", "d", there, *where)
    assert "not seen yet" in run("members", *where).stdout
    result = run("add-voter", "d", there, *where, "--timeout", "0.5")
    assert (1, True) == (result.exit_code, f"see that it runs at {there}" in result.stderr)
    assert 0 == run("add-voter", "d", there, *where, "--no-wait").exit_code


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["remove", "x"], "no member is called 'x'"),
        (["remove", "c", "--expect", "1"], "not of entry 1"),
        (["promote", "x"], "no member is called 'x'"),
        (["transfer", "--to", "c"], "can't be handed to c"),
        (["add-learner", "a", "127.0.0.1:1"], "the id 'a' is that of the member at"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_refusal_ends_with_1(cluster: LocalCluster, args: list[str], why: str) -> None:
    """With its reason, and nothing has changed."""
    before = cluster["a"].members()
    result = run(*args, "--addr", cluster.addresses[0])
    assert (1, True) == (result.exit_code, why in result.stderr), result.output
    assert before == cluster["a"].members()


@pytest.mark.parametrize("args", [["members"], ["remove", "a"], ["transfer"]], ids=" ".join)
def test_nobody_there_ends_with_3(args: list[str]) -> None:
    """Certain: nothing was done."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        result = run(*args, "--addr", address)
    wanted = f"tinyraft: nobody answers at {address}\n"
    assert (3, wanted) == (result.exit_code, result.stderr)


def test_an_address_that_is_silent_is_passed_over(cluster: LocalCluster) -> None:
    """Two were given, one answers: that is enough for a change."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        silent = f"127.0.0.1:{held.getsockname()[1]}"
        done("demote", "c", "--addr", f"{silent},{cluster.addresses[0]}")


def test_a_cluster_without_a_leader_ends_with_1(cluster: LocalCluster) -> None:
    """It answers, and could not do it: told apart from silence."""
    leader = cluster.leader()
    other = next(name for name in "ab" if name != leader)
    cluster[leader].shutdown()
    del cluster.servers[leader]
    cluster[other].shutdown()
    until(lambda: not cluster["c"].status().leader_id, what="the learner to notice")
    result = run("remove", "a", "--addr", cluster["c"].status().address, "--timeout", "0.5")
    assert (1, True) == (result.exit_code, "leader" in result.stderr), result.output
    assert isinstance(cluster["c"].members(), tinyraft.Members)
