"""Settings for every test, and the cluster in one process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster import LocalCluster, our_threads, until

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
    until(lambda: set(our_threads()) <= set(before), what=f"no thread left: {our_threads()}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Lend three voters to all tests of a module, which must leave them at work."""
    made = LocalCluster(tmp_path_factory.mktemp("shared")).start(3)
    yield made
    made.close()
    until(lambda: not our_threads(), what="no thread left")
