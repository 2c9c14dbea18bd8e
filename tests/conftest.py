"""Settings for every test, and the cluster in one process."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster import LocalCluster, our_threads, until

POOLED = re.compile(r"-(peers|callers|unary|admin|health)-\d+$")

# A shell that runs the tests in the background lets them ignore Ctrl-C, and the programs that they
# start would do so too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Shared and small machines stall for seconds: time is pytest-timeout's business, not hypothesis's.
settings.register_profile(
    "tinyraft", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tinyraft")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Lend a cluster that ends with the test and leaves no thread."""
    before = our_threads()
    made = LocalCluster(tmp_path)
    yield made
    made.close()
    until(lambda: not new_threads(before), what=f"no thread left: {new_threads(before)}")


def new_threads(before: list[str]) -> set[str]:
    """Name our threads that were not there *before*.

    Where another cluster goes on beside the test, its pools may make threads at any time.
    """
    new = set(our_threads()) - set(before)
    return {name for name in new if not before or not POOLED.search(name)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Lend three voters to all tests of a module, which must leave them at work."""
    made = LocalCluster(tmp_path_factory.mktemp("shared")).start(3)
    yield made
    made.close()
    until(lambda: not our_threads(), what="no thread left")
