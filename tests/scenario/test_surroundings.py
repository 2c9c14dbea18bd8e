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

ONE_SEGMENT = "100m"  # two do not fit
LONG = bytes(900_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system for one segment of the log; `remount` makes it larger."""
    directory = tmp_path / "cluster" / "n0"
    directory.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={ONE_SEGMENT}", "none", str(directory)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine lets nobody mount a small file system: {error}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_ends_one_node_and_loses_nothing(small_disk: Path) -> None:
    """A leader without room for a segment says so, others serve; with room it returns (P42)."""
    directory = small_disk.parent
    with Processes(3, directory=directory, program=[JOURNAL]) as cluster:
        assert 0 == cluster.leader()
        caller, places = cluster.caller([1, 2]), []
        while not (status := cluster.status(0)) or not status.failed:
            try:
                places.append(int(caller.apply(LONG) or b"0"))
            except tinyraft.MaybeApplied:
                places.append(0)
            assert len(places) < 200
        assert "No space left" in status.failed
        assert cluster.leader([1, 2]) in (1, 2)
        places += [int(caller.apply(b"after") or b"0") for _ in range(5)]

        cluster.restart(0)  # still no room: it must say so again, and harm nobody
        cluster.wait(lambda: (s := cluster.status(0)) and s.failed, "no space again", seconds=30)
        places += [int(caller.apply(b"again") or b"0") for _ in range(5)]

        cluster.kill(0)
        subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
        cluster.start(0)
        cluster.wait_ready([0], seconds=30)
        cluster.wait_converged()
        last = int(caller.apply(b"last") or b"0")
        cluster.wait_converged()
        assert b"last" == cluster.query(0, b"%d" % (last - 1))
    acknowledged = [place for place in places if place]
    assert acknowledged == sorted(set(acknowledged))
    assert len(places) + 1 - last in range(places.count(0) + 1)
