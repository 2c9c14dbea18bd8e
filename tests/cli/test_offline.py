"""`tinyraft inspect`, `recover`, `restore`, as they are typed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import tinyraft
from tests.cluster import until
from tinyraft.cli.commands import group
from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import HardState, Mark, Write
from tinyraft.core.entry import EntryKind, NodeId, make_entry
from tinyraft.core.snapshot import Snapshot
from tinyraft.storage.data_dir import DataDir, Identity
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.divergence import Divergence, note_divergence
from tinyraft.storage.snapshots import Snapshots
from tinyraft.storage.wal import Wal

FOUNDERS = Configuration(
    tuple(Member(NodeId(name), f"{name}:1", True, False, ord(name)) for name in "abc")
)


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., Path]:
    """Make the directory that a member of three left behind, with so many entries."""

    def make(name: str, last: int) -> Path:
        data_dir = DataDir.open(RealDisk(), tmp_path / name)
        data_dir.save_identity(Identity(NodeId(name), "the-cluster", ord(name)))
        wal, _ = Wal.open(
            RealDisk(),
            data_dir.wal_directory,
            segment_bytes=4096,
            log_id=ord(name) >> 1 | 1,
        )
        first = make_entry(index=1, term=1, kind=EntryKind.CONFIGURATION, command=FOUNDERS.encode())
        more = [
            make_entry(index=index, term=1, kind=EntryKind.COMMAND, command=b"word")
            for index in range(2, last + 1)
        ]
        wal.write([Write(Mark(0), HardState(2, NodeId("b")), None, [first, *more])])
        wal.close()
        data_dir.close()
        return tmp_path / name

    return make


def run(*args: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(group, [str(arg) for arg in args])


def test_inspect_shows_what_is_there(leave: Callable[..., Path]) -> None:
    """Each fact on a line of its own; for scripts as JSON."""
    path = leave("a", 5)
    lines = run("inspect", path).stdout.splitlines()
    for expected in (
        "node            a",
        "cluster         the-cluster",
        "term            2",
        "vote            b",
        "log             entries 1 to 5, the last of term 1",
        "configuration   entry 1: a, b, c",
        "snapshots       none",
    ):
        assert expected in lines
    found = json.loads(run("inspect", path, "--json").stdout)
    assert ("a", 5) == (found["identity"]["node_id"], found["last_index"])


def test_inspect_tells_of_a_module_that_diverged(leave: Callable[..., Path]) -> None:
    """What is in that directory may be wrong: whoever chooses among several is to know."""
    path = leave("a", 5)
    note_divergence(RealDisk(), path, Divergence(3, 5))
    (line,) = [text for text in run("inspect", path).stdout.splitlines() if "diverged" in text]
    assert "in the entries 4 to 5" in line


def test_a_running_node_is_not_touched(tmp_path: Path) -> None:
    """Its lock is respected by each of the three."""
    config = tinyraft.Config(
        data_dir=tmp_path / "n", listen_address="127.0.0.1:0", bootstrap=True, timeout=0.3
    )
    with tinyraft.Server(config, Words()):
        for args in (["inspect"], ["recover", "--plan"], ["recover", "--keep", "n"]):
            result = run(*args, tmp_path / "n")
            assert 1 == result.exit_code
            assert "is in use by process" in result.stderr


class Words:
    """A module with snapshots."""

    def __init__(self) -> None:
        self.words: list[bytes] = []

    def apply(self, command: bytes, /) -> bytes:
        """Note a word."""
        self.words.append(command)
        return b"%d" % len(self.words)

    def snapshot(self) -> list[bytes]:
        """Give all words."""
        return [b"\n".join(self.words)]

    def restore(self, chunks: list[bytes], /) -> None:
        """Take them back."""
        self.words = b"".join(chunks).split(b"\n")


def test_a_plan_then_the_repair(leave: Callable[..., Path], tmp_path: Path) -> None:
    """The first step names the best log and the command; the second does it, and says what next."""
    a, b = leave("a", 5), tmp_path / "b.json"
    planned = run("recover", "--plan", a)
    assert 0 == planned.exit_code, planned.output
    assert "nothing is left of the voters b, c" in planned.stdout
    assert "the best log is that of a" in planned.stdout
    assert f"  tinyraft recover {a} --keep a" in planned.stdout
    b.write_text(run("recover", "--plan", "--json", leave("b", 4)).stdout)
    both = run("recover", "--plan", a, b)
    assert (1, True) == (both.exit_code, "start them as they are" in both.stderr)

    done = run("recover", a, "--keep", "a")
    assert 0 == done.exit_code, done.output
    assert "a is the only member now" in done.stdout
    assert f"the directory as it was: {a / 'before-recovery-1'}" in done.stdout
    assert "configuration   entry 6: a" in run("inspect", a).stdout
    assert "removed         b, c" in run("inspect", a).stdout


def test_a_better_log_elsewhere_is_respected(
    leave: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a plan from another machine says counts like a directory."""
    monkeypatch.setattr("tests.cli.test_offline.FOUNDERS", five())
    worse, better = leave("a", 5), tmp_path / "better.json"
    better.write_text(run("recover", "--plan", "--json", leave("b", 9)).stdout)
    refused = run("recover", worse, better, "--keep", "a")
    assert (1, True) == (refused.exit_code, "keep b" in refused.stderr)
    assert not (worse / "before-recovery-1").exists()
    better.write_text("{}")
    broken = run("recover", worse, better, "--keep", "a")
    assert (1, True) == (broken.exit_code, "neither a data directory nor" in broken.stderr)


def five() -> Configuration:
    """Make a cluster of which two are no majority."""
    return Configuration(
        tuple(Member(NodeId(name), f"{name}:1", True, False, ord(name)) for name in "abcde")
    )


@pytest.mark.parametrize("args", [[], ["--plan", "--keep", "a"]], ids=" ".join)
def test_one_of_the_two_steps_must_be_meant(leave: Callable[..., Path], args: list[str]) -> None:
    """Nothing is repaired by leaving something out."""
    result = run("recover", leave("a", 3), *args)
    assert (2, True) == (result.exit_code, "--plan, or --keep ID" in result.stderr)


def test_a_damaged_directory_ends_with_6(leave: Callable[..., Path]) -> None:
    """It can't be trusted, and nobody goes on with it."""
    path = leave("a", 3)
    (segment,) = (path / "wal").glob("*.wal")
    data = bytearray(segment.read_bytes())
    data[150] ^= 1
    segment.write_bytes(data)
    for args in (["inspect", path], ["recover", path, "--keep", "a"]):
        assert 6 == run(*args).exit_code


def test_an_exported_file_is_restored(tmp_path: Path) -> None:
    """What a running node wrote aside begins a cluster of its own, beside the first."""
    options = {"listen_address": "127.0.0.1:0", "timeout": 0.3}
    first = tinyraft.Config(data_dir=tmp_path / "n", node_id="n", bootstrap=True, **options)  # type: ignore[arg-type]
    with tinyraft.Server(first, Words()) as server:
        assert server.wait_ready(timeout=20)
        server.apply(b"one")
        server.export(tmp_path / "backup")
        told = run("restore", tmp_path / "backup", tmp_path / "x", "--node-id", "x")
        assert 0 == told.exit_code, told.output
        second, module = tinyraft.Config(data_dir=tmp_path / "x", **options), Words()  # type: ignore[arg-type]
        with tinyraft.Server(second, module) as restored:
            assert b"2" == restored.apply(b"two")
            assert [b"one", b"two"] == module.words
            assert server.status().cluster_id != restored.status().cluster_id


def test_restore_begins_a_cluster_that_serves(tmp_path: Path) -> None:
    """From a snapshot's file under any name, also a read-only one, to words that can be asked."""
    shelf = Snapshots.open(RealDisk(), tmp_path / "shelf")
    meta = Snapshot(7, 3, FOUNDERS, 1)
    file = shelf.write(meta, [b"one\ntwo"], cluster_id="the-cluster")
    backup = tmp_path / "backup"
    shutil.copy(file.path, backup)
    backup.chmod(0o400)
    told = run("restore", backup, tmp_path / "x", "--node-id", "x")
    assert 0 == told.exit_code, told.output
    assert "it begins with entry 7 of cluster the-cluster" in told.stdout
    again = run("restore", backup, tmp_path / "x", "--node-id", "x")
    assert (1, True) == (again.exit_code, "restore into an empty directory" in again.stderr)
    module = Words()
    config = tinyraft.Config(data_dir=tmp_path / "x", listen_address="127.0.0.1:0", timeout=0.3)
    with tinyraft.Server(config, module) as server:
        assert server.wait_ready(timeout=20)
        assert b"3" == server.apply(b"three")
        assert [b"one", b"two", b"three"] == module.words
        status = server.status()
        assert status.cluster_id != "the-cluster"
        until(lambda: server.status().members[0].address == status.address, what="its address")
