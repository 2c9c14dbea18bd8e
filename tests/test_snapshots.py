"""Snapshots as a program sees them: `Server.snapshot`, `Server.export`, and a restart from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import tinyraft
from tests.cluster import LocalCluster, until
from tinyraft.storage.disk import RealDisk
from tinyraft.storage.snapshot_file import FrameReader


class Notes:
    """A module with snapshots; it counts how often it was given what."""

    def __init__(self) -> None:
        self.notes: list[bytes] = []
        self.applied = self.restored = 0

    def apply(self, command: bytes, /) -> bytes:
        """Note it."""
        self.applied += 1
        self.notes.append(command)
        return b"%d" % len(self.notes)

    def snapshot(self) -> Iterator[bytes]:
        """Copy all notes."""
        return (note + b"\n" for note in list(self.notes))

    def restore(self, chunks: Iterable[bytes], /) -> None:
        """Replace all notes."""
        self.restored += 1
        self.notes = b"".join(chunks).splitlines()


def test_a_restart_goes_on_from_the_snapshot(cluster: LocalCluster) -> None:
    """What is in it is not applied again; what came behind it is."""
    server = cluster.make("a", module=Notes(), bootstrap=True)
    server.start()
    for note in (b"one", b"two"):
        server.apply(note)
    taken = server.snapshot()
    assert taken.index == server.status().snapshot_index == server.status().last_applied
    assert [m.id for m in taken.configuration.members] == ["a"]
    server.apply(b"three")
    server.shutdown()

    module = Notes()
    again = cluster.make("a", module=module)
    again.start()
    assert again.wait_ready()
    assert (module.notes, module.applied, module.restored) == ([b"one", b"two", b"three"], 1, 1)
    assert again.apply(b"four") == b"4"


def test_a_follower_exports_too(cluster: LocalCluster, tmp_path: Path) -> None:
    """The file is a whole snapshot; it replaces nothing that is there."""
    for name in "abc":
        cluster.make(name, module=Notes(), bootstrap=name == "a").start()
        cluster.wait_voters(list(cluster.servers))
    cluster["a"].apply(b"note")
    follower = cluster[cluster.followers()[0]]
    until(lambda: follower.status().last_applied == cluster["a"].status().last_applied)
    target = tmp_path / "notes.snapshot"
    exported = follower.export(target)
    file = RealDisk().open(target)
    reader = FrameReader(file, index=exported.index)
    assert (reader.header.meta, b"".join(reader.chunks())) == (exported, b"note\n")
    file.close()
    with pytest.raises(FileExistsError, match="replaces nothing"):
        follower.export(target)
    assert [target] == list(tmp_path.glob("*.snapshot*"))


def test_a_module_without_snapshots_says_so(cluster: LocalCluster) -> None:
    """It is told what it lacks; the server goes on."""
    server = cluster.make("a", bootstrap=True)
    server.start()
    with pytest.raises(tinyraft.ModuleError, match="no snapshot"):
        server.snapshot()
    assert server.apply(b"word") == b"1"


def test_a_snapshot_of_a_stopped_server_is_refused(cluster: LocalCluster) -> None:
    """As all that needs a running one."""
    server = cluster.make("a", module=Notes(), bootstrap=True)
    with pytest.raises(tinyraft.NotStarted):
        server.snapshot()


def test_a_full_disk_harms_no_export(cluster: LocalCluster, tmp_path: Path) -> None:
    """What could not be written is not left behind, and the server goes on."""
    server = cluster.make("a", module=Notes(), bootstrap=True)
    server.start()
    server.apply(b"note")
    with pytest.raises(tinyraft.StorageFailed, match="missing"):
        server.export(tmp_path / "missing" / "notes.snapshot")
    assert server.apply(b"more") == b"2"
