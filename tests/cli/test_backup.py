"""`tinyraft snapshot` and `tinyraft export`, and a new cluster from what was exported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cluster import LocalCluster, Words
from tests.processes import free_ports
from tests.test_snapshots import Notes
from tinyraft.cli.commands import group


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """One node whose module has snapshots."""
    made = LocalCluster(tmp_path)
    try:
        made.make("a", module=Notes(), bootstrap=True).start()
        assert made["a"].wait_ready()
        yield made
    finally:
        made.close()


def run(*args: str) -> Result:
    return CliRunner(env={"RAFT_JOIN": None}).invoke(group, args)


def done(*args: str) -> Any:
    result = run(*args, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def test_a_snapshot_is_taken_from_outside(cluster: LocalCluster) -> None:
    """The node says of which entry; addresses that are silent are passed over."""
    cluster["a"].apply(b"note")
    (silent,) = free_ports(["127.0.0.1"])
    told = done("snapshot", "--addr", f"127.0.0.1:{silent},{cluster.addresses[0]}")
    assert {"node_id": "a", "index": cluster["a"].status().snapshot_index} == told
    assert told["index"] == cluster["a"].status().last_applied


def test_what_was_exported_begins_a_new_cluster(cluster: LocalCluster, tmp_path: Path) -> None:
    """The whole way of a backup: export, restore, start, go on."""
    cluster["a"].apply(b"one")
    cluster["a"].apply(b"two")
    file = tmp_path / "backup.snapshot"
    told = done("export", str(file), "--addr", cluster.addresses[0])
    assert {"file": str(file), "bytes": file.stat().st_size} == told
    assert 0 == run("restore", str(file), str(tmp_path / "m"), "--node-id", "m").exit_code
    module = Notes()
    server = cluster.make("m", module=module)
    server.start()
    assert server.wait_ready()
    assert [b"one", b"two"] == module.notes
    assert b"3" == server.apply(b"three")
    assert server.status().cluster_id != cluster["a"].status().cluster_id


def test_an_export_replaces_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    """What is there stays."""
    file = tmp_path / "there"
    file.write_text("mine")
    result = run("export", str(file), "--addr", cluster.addresses[0])
    assert (1, "mine") == (result.exit_code, file.read_text())
    assert "replaces nothing" in result.stderr


def test_nobody_to_ask_is_told(tmp_path: Path) -> None:
    """Silence has its own exit code, and leaves no file."""
    (silent,) = free_ports(["127.0.0.1"])
    for args in (["snapshot"], ["export", str(tmp_path / "file")]):
        assert 3 == run(*args, "--addr", f"127.0.0.1:{silent}").exit_code
    assert [] == list(tmp_path.iterdir())


def test_a_module_without_snapshots_is_told_of(cluster: LocalCluster, tmp_path: Path) -> None:
    """The refusal names what is missing; nothing is left behind."""
    server = cluster.make("w", module=Words(), voter=False)
    server.start()
    assert server.wait_ready(timeout=20)
    file = tmp_path / "file"
    for args in (["snapshot"], ["export", str(file)]):
        result = run(*args, "--addr", server.status().address)
        assert 1 == result.exit_code
        assert "no snapshot()" in result.stderr
    assert [] == list(tmp_path.glob("file*"))
