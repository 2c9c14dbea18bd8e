"""Two of three disks are lost for ever: the third goes on, new nodes join, the dead stay out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.processes import Processes

MakeCluster = Callable[..., Processes]


def tinyraft(*args: object) -> str:
    """Run the command line; it must end well."""
    return subprocess.run(
        [sys.executable, "-m", "tinyraft", *map(str, args)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def test_one_disk_of_three_is_enough_to_go_on(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """Everything that it had is served, first alone, then by three; who was given up is refused.

    What survives is a follower's disk (P71).
    """
    cluster = make_cluster()
    leader = cluster.leader()
    kept, lost = [node for node in range(3) if node != leader], leader
    survivor, other = kept
    caller = cluster.caller()
    words = [b"word %d" % number for number in range(200)]
    for word in words:
        caller.apply(word)
    cluster.wait_converged()
    for node in range(3):
        cluster.kill(node)
    former = tmp_path / "former"
    shutil.copytree(cluster.data_dir(other), former)
    for node in (lost, other):
        shutil.rmtree(cluster.data_dir(node))

    directory, name = cluster.data_dir(survivor), f"n{survivor}"
    plan = tinyraft("recover", directory, "--plan")
    assert f"the best log is that of {name}" in plan
    assert (
        f"nothing is left of the voters {', '.join(sorted(f'n{n}' for n in (lost, other)))}" in plan
    )
    done = tinyraft("recover", directory, "--keep", name)
    assert f"{name} is the only member now" in done

    cluster.start(survivor)
    assert survivor == cluster.leader([survivor])
    alone = cluster.caller([survivor])
    assert b"%d" % (len(words) + 1) == alone.apply(b"alone")
    assert [*words, b"alone"] == cluster.query(survivor).split(b"\n")

    cluster.start(other, RAFT_DATA_DIR=str(former))  # n2's old disk turns up again
    cluster.wait(lambda: "is from before repair 1" in cluster.log(other), "the old disk is refused")
    alone.apply(b"undisturbed")
    before = cluster.status(survivor)
    assert before is not None
    assert [name] == [member.id for member in before.members]
    cluster.kill(other)

    for node in (lost, other):
        directory = cluster.data_dir(node)
        cluster.start(node, NODE_ID=f"new{node}", RAFT_BOOTSTRAP="false")
        assert directory == cluster.data_dir(node)
    cluster.wait_ready(seconds=30)
    everywhere = [*words, b"alone", b"undisturbed", b"together"]
    alone.apply(b"together")
    cluster.wait_converged()
    for node in range(3):
        assert everywhere == cluster.query(node).split(b"\n")

    cluster.kill(survivor)  # the new ones are a majority, and are of the new epoch too
    assert cluster.leader([lost, other]) in (lost, other)
    assert b"%d" % (len(everywhere) + 1) == cluster.caller([lost, other]).apply(b"last")
