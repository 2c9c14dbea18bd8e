"""Who may use a directory, a port, an id, an address: everybody else is refused, and told why."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tinyraft
from tests.processes import Processes, wait
from tests.scenario.journal import Journal
from tests.scenario.load import Load, check_all, journal_of, through_caller
from tinyraft.storage.data_dir import DataDir
from tinyraft.storage.disk import RealDisk

MakeCluster = Callable[..., Processes]


def config(directory: Path, **settings: object) -> tinyraft.Config:
    settings.setdefault("listen_address", "127.0.0.1:0")
    return tinyraft.Config(data_dir=directory, timeout=0.3, **settings)


def assert_unlocked(directory: Path) -> None:
    DataDir.open(RealDisk(), directory).close()


# --- the data directory -----------------------------------------------------------------------


def test_a_second_process_is_told_who_holds_the_directory(make_cluster: MakeCluster) -> None:
    """One directory serves one process; the second learns the first one's process id."""
    cluster = make_cluster(1)
    second = tinyraft.Server(config(cluster.data_dir(0), bootstrap=True), Journal())
    with pytest.raises(tinyraft.DataDirLocked, match=str(cluster.nodes[0].pid)) as refused:
        second.start()
    assert cluster.nodes[0].pid == refused.value.pid


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    """A path that can't become a directory is named."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(tinyraft.StorageFailed, match="file/data"):
        tinyraft.Server(config(tmp_path / "file" / "data", bootstrap=True), Journal()).start()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that takes no writes, from root neither."""
    directory = tmp_path / "read-only"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine lets nobody mount a read-only file system: {error}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_read_only_directory_is_refused(read_only: Path) -> None:
    """A node that can't write does not start, and names the directory and the reason."""
    server = tinyraft.Server(config(read_only / "data", bootstrap=True), Journal())
    with pytest.raises(tinyraft.StorageFailed, match=r"read-only/data.*[Rr]ead-only file system"):
        server.start()


def test_a_flipped_byte_stops_its_node_and_no_other(cluster: Processes) -> None:
    """A node whose synced log is damaged names file and offset and stays away; the others serve."""
    damaged = (cluster.leader() + 1) % 3
    with Load([through_caller(cluster.caller())] * 4) as load:
        load.wait_applied(100)
        assert 0 == cluster.stop(damaged)
        segment = min((cluster.data_dir(damaged) / "wal").iterdir())
        data = bytearray(segment.read_bytes())
        data[1000] ^= 1
        segment.write_bytes(data)
        cluster.start(damaged)
        assert 1 == cluster.wait_exit(damaged)
        load.wait_applied(100)
    assert "tinyraft.errors.CorruptLog" in cluster.log(damaged)
    last = cluster.log(damaged).splitlines()[-1]
    assert re.search(re.escape(str(segment)) + r" at byte \d+", last), last
    check_all(cluster, load)


# --- the port ---------------------------------------------------------------------------------


def test_a_taken_port_is_named_and_nothing_stays_behind(tmp_path: Path) -> None:
    """A start that fails frees lock and threads, and may be tried again when the port is free."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        server = tinyraft.Server(
            config(tmp_path, listen_address=address, bootstrap=True), Journal()
        )
        with pytest.raises(tinyraft.StartFailed, match=rf"{address}.*in use"):
            server.start()
    assert_unlocked(tmp_path)
    assert set() == set(threading.enumerate()) - before
    with server:
        assert server.wait_ready(10)


# --- identity ---------------------------------------------------------------------------------


def test_another_node_id_is_refused(make_cluster: MakeCluster) -> None:
    """A directory belongs to one id; the start under another one names both."""
    cluster = make_cluster(1)
    assert 0 == cluster.stop(0)
    server = tinyraft.Server(config(cluster.data_dir(0), node_id="other"), Journal())
    with pytest.raises(tinyraft.ConfigError, match=r"'other'.*'n0'"):
        server.start()
    assert_unlocked(cluster.data_dir(0))


def test_bootstrap_may_stay_set(make_cluster: MakeCluster) -> None:
    """A founder that starts again with RAFT_BOOTSTRAP goes on with the cluster that it founded."""
    cluster = make_cluster(1)
    founded = cluster.wait_converged()
    cluster.caller().apply(b"kept")
    for _ in range(2):
        cluster.restart(0)
        cluster.wait_ready()
    assert founded.cluster_id == cluster.wait_converged().cluster_id
    assert [b"kept"] == journal_of(cluster, 0)


def test_a_founder_with_a_lost_disk_founds_no_second_cluster(cluster: Processes) -> None:
    """While others answer at RAFT_JOIN, an empty directory with RAFT_BOOTSTRAP is a lost disk."""
    cluster.kill(0)
    shutil.rmtree(cluster.data_dir(0))
    cluster.leader()
    cluster.start(0)
    assert 1 == cluster.wait_exit(0)
    assert "StartFailed" in cluster.log(0)
    assert "disk was lost" in cluster.log(0)
    cluster.caller([1, 2]).apply(b"the others serve on")


def test_a_wiped_voter_is_refused_under_its_old_id(cluster: Processes) -> None:
    """A voter that forgot its votes must not vote again: it is told to take a new NODE_ID."""
    wiped = (cluster.leader() or 3) - 1 or 2  # neither the leader nor the founder
    before = cluster.wait_converged()
    cluster.kill(wiped)
    shutil.rmtree(cluster.data_dir(wiped))
    cluster.start(wiped)
    wait(lambda: "new NODE_ID" in cluster.log(wiped), "the advice")
    with Load([through_caller(cluster.caller())] * 2) as load:
        load.wait_applied(50)
    status = cluster.status(wiped)
    assert status is not None
    assert (0, False) == (status.last_index, status.ready)
    assert 0 == cluster.stop(wiped)
    shutil.rmtree(cluster.data_dir(wiped))
    cluster.move(wiped, cluster.free_address(wiped))
    cluster.start(wiped, NODE_ID="fresh")
    wait(lambda: (s := cluster.status(wiped)) and s.ready, "the new member")
    check_all(cluster, load)
    assert before.cluster_id == cluster.wait_converged().cluster_id


# --- addresses --------------------------------------------------------------------------------


def test_another_cluster_at_a_members_address_is_refused(make_cluster: MakeCluster) -> None:
    """A node of another cluster at a known address takes no entries and disturbs nobody."""
    cluster, stranger = make_cluster(3, name="ours"), make_cluster(1, name="theirs")
    absent = (cluster.leader() + 1) % 3
    stranger.caller().apply(b"theirs")
    theirs = stranger.wait_converged()
    cluster.kill(absent)
    stranger.kill(0)
    stranger.move(0, cluster.addresses[absent])
    stranger.start(0)
    with Load([through_caller(cluster.caller())] * 2) as load:
        load.wait_applied(100)
        leader = cluster.leader()
        wait(lambda: theirs.cluster_id in cluster.log(leader), "the refusal at the leader")
    stranger.wait_ready()
    check_all(cluster, load)
    found = cluster.status(absent)
    assert found is not None
    assert (theirs.cluster_id, b"theirs") == (found.cluster_id, cluster.query(absent))


def test_members_at_swapped_addresses_are_never_confused(cluster: Processes) -> None:
    """Who is dialled for another refuses, so one disk never votes twice; both are found again."""
    cluster.wait_converged()
    for _ in range(2):  # there, where no log can have them both, and back
        addresses = cluster.addresses
        for node in (1, 2):
            cluster.kill(node)
        for node in (1, 2):
            cluster.move(node, addresses[3 - node])
            cluster.start(node)
        with Load([through_caller(cluster.caller())] * 2) as load:
            load.wait_applied(50)
        check_all(cluster, load)


# --- fork -------------------------------------------------------------------------------------


def test_a_forked_child_is_refused_and_holds_no_lock(tmp_path: Path) -> None:
    """In a child every call raises `ForkedProcess`; without its parent the directory is free."""
    with Processes(
        1, directory=tmp_path, program=[Path(__file__).with_name("forking.py")]
    ) as cluster:
        wait(lambda: "child is done" in cluster.log(0), "the child")
        answers = [line for line in cluster.log(0).splitlines() if line.startswith("child: ")]
        assert [] == [line for line in answers if not line.endswith(" ForkedProcess")]
        assert 9 == len(answers)
        assert cluster.wait_converged().ready
        child = int(cluster.log(0).split("child is done, ")[1].split()[0])
        cluster.kill(0)
        try:
            os.kill(child, 0)  # lives on
            assert_unlocked(cluster.data_dir(0))
        finally:
            os.kill(child, 9)
