"""What the machine does to a cluster: its clock is set, its disk is full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

import tinyraft
from tests.processes import Processes
from tests.scenario.conftest import JOURNAL
from tests.scenario.load import Load, check_all, mixed
from tinyraft.wire import raft_pb2 as pb

MakeCluster = Callable[..., Processes]

# --- the clock ----------------------------------------------------------------------------------

YEAR = 365 * 24 * 3600
# The time of day is off by as many seconds as a file says; the monotonic clock is left alone.
OFF = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long off(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("TINYRAFT_OFF"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += off();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    now->tv_sec += off();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def clocks(tmp_path: Path) -> dict[str, str]:
    """An environment in which the file ``off`` sets the clock."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    source, library = tmp_path / "off.c", tmp_path / "off.so"
    source.write_text(OFF)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60
    )
    environ = {"LD_PRELOAD": str(library), "TINYRAFT_OFF": str(tmp_path / "off")}
    (tmp_path / "off").write_text(str(YEAR))
    told = subprocess.check_output(
        [sys.executable, "-c", "import time; print(time.time())"], env=os.environ | environ
    )
    assert float(told) - time.time() > YEAR - 60, "the nodes' clocks can't be set like this"
    (tmp_path / "off").write_text("0")
    return environ


def test_a_clock_that_jumps_by_a_year_disturbs_nobody(
    make_cluster: MakeCluster, clocks: dict[str, str]
) -> None:
    """Forwards or backwards: the same leader serves in the same term, and nothing is lost (P46)."""
    cluster = make_cluster(environ=clocks)
    before = cluster.wait_converged()
    with Load(mixed(cluster)) as load:
        for off in (YEAR, -YEAR, 3600, -3600, 0):
            Path(clocks["TINYRAFT_OFF"]).write_text(str(off))
            load.wait_applied(50)
            Event().wait(0.5)  # as long as an election would need
    check_all(cluster, load)
    after = cluster.wait_converged()
    assert (before.term, before.node_id) == (after.term, after.node_id)


# --- the disk -----------------------------------------------------------------------------------

LONG = bytes(900_000)
MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Mounts file systems of a size, and ends them."""
    mounted: list[Path] = []

    def mount(name: str, size: str) -> Path:
        directory = tmp_path / name
        directory.mkdir(parents=True)
        options = ["-t", "tmpfs", "-o", f"size={size}", "none", str(directory)]
        try:
            subprocess.run(["mount", *options], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine lets nobody mount a small file system: {error}")
        mounted.append(directory)
        return directory

    yield mount
    for directory in mounted:
        subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path, *, leave: int) -> Path:
    """Take all the room of a file system but *leave* bytes, and return what took it."""
    ballast = directory / "ballast"
    found = os.statvfs(directory)
    size = found.f_bavail * found.f_frsize - leave
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return ballast


def test_a_full_disk_costs_one_node_its_office_and_nothing_else(
    small_disk: Callable[[str, str], Path],
) -> None:
    """A leader without room for its next segment hands over, follows as far as it can, and waits.

    With room it goes on by itself, in the same process (P42).
    """
    disk = small_disk("cluster/n0", "100m")  # one segment; two do not fit
    environ = {"RAFT_DISK_RESERVE_BYTES": "0"}
    with Processes(3, directory=disk.parent, program=[JOURNAL], environ=environ) as cluster:
        assert 0 == cluster.leader()
        cluster.wait_ready()
        pid, caller, places = cluster.nodes[0].pid, cluster.caller(), list[int]()
        while len(places) < 100:  # more than one segment
            places.append(int(caller.apply(LONG, timeout=20) or b"0"))
        assert list(range(1, 101)) == places
        said = cluster.wait(
            lambda: (s := cluster.status(0)) and s.storage_full and s, "it says that it is full"
        )
        assert f"{disk} has no room for the next segment" in said.storage_full
        assert said.role != pb.ROLE_LEADER
        assert said.durable_index < 100, "what did not fit is not vouched for"
        assert "storage_full" in cluster.log(0)

        subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
        assert b"101" == caller.apply(b"last")
        cluster.wait_converged()
        assert b"last" == cluster.query(0, b"100")
        cluster.wait(lambda: (s := cluster.status(0)) and not s.storage_full, "it has room again")
        assert pid == cluster.nodes[0].pid
        assert "node_failed" not in cluster.log(0)


def test_a_cluster_whose_disks_are_full_refuses_and_serves_again(
    small_disk: Callable[[str, str], Path],
) -> None:
    """Below the mark nobody takes commands: certain, and with what to do; nobody stops (P42)."""
    disk = small_disk("cluster", "600m")
    environ = {"RAFT_DISK_RESERVE_BYTES": str(32 * MIB)}
    with Processes(3, directory=disk, program=[JOURNAL], environ=environ) as cluster:
        cluster.wait_ready()
        pids, caller, applied = [one.pid for one in cluster.nodes], cluster.caller(), 0
        for leave in (16 * MIB, 0):
            assert b"%d" % (applied + 1) == caller.apply(b"before")
            ballast = fill(disk, leave=leave)

            def refused() -> str:
                nonlocal applied
                try:
                    caller.apply(b"while", timeout=1)
                except tinyraft.StorageFull as error:
                    return str(error)
                applied += 1
                return ""

            applied += 1
            text = cluster.wait(refused, "commands to be refused")
            assert "takes no commands" in text
            assert "RAFT_DISK_RESERVE_BYTES" in text
            cluster.wait(
                lambda: all((s := cluster.status(n)) and s.storage_full for n in range(3)),
                "all to say that they are full",
            )
            ballast.unlink()
            cluster.wait(lambda: not refused(), "commands to be taken again")
        status = cluster.wait_converged()
        assert status.commit_index >= applied
        words = cluster.query(0).split()
        assert applied == len(words)
        assert pids == [one.pid for one in cluster.nodes]
        assert all("node_failed" not in cluster.log(node) for node in range(3))
