"""What stands between commit and apply: counted in commands and bytes, and refused above that."""

from __future__ import annotations

import pytest

from tinyraft.core.entry import NodeId
from tinyraft.errors import Overloaded, may_have_applied
from tinyraft.node.backlog import Backlog


def make(*, max_commands: int = 10, max_bytes: int = 1000) -> Backlog:
    """Make an empty one."""
    return Backlog(NodeId("a"), max_commands=max_commands, max_bytes=max_bytes)


def test_commands_are_counted_by_their_indexes() -> None:
    """Whoever proposed them: what an earlier leader left is as long a wait."""
    backlog = make(max_commands=10)
    backlog.refuse_if_long(committed=109, applied=100)
    with pytest.raises(Overloaded, match="the module is 10 commands and 0 bytes behind") as caught:
        backlog.refuse_if_long(committed=110, applied=100)
    assert not may_have_applied(caught.value)
    backlog.refuse_if_long(committed=110, applied=101)


def test_bytes_count_until_their_batch_is_applied() -> None:
    """At the bound nothing more is taken; an applied batch makes room."""
    backlog = make(max_bytes=100)
    backlog.proposed(first=1, count=2, size=60)
    backlog.refuse_if_long(committed=2, applied=0)
    backlog.proposed(first=3, count=1, size=40)
    with pytest.raises(Overloaded, match="2 commands and 100 bytes behind"):
        backlog.refuse_if_long(committed=3, applied=1)
    backlog.refuse_if_long(committed=3, applied=2)
    assert 40 == backlog.bytes


def test_what_was_cut_counts_no_longer() -> None:
    """A leader that lost its office, and what it had appended, begins anew at these places."""
    backlog = make()
    backlog.proposed(first=1, count=2, size=60)
    backlog.proposed(first=3, count=5, size=500)
    backlog.proposed(first=4, count=1, size=7)
    assert 67 == backlog.bytes
    backlog.applied(4)
    assert (0, 0) == (backlog.bytes, len(backlog))
