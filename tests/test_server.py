"""What a server makes before it starts."""

from __future__ import annotations

import random
from pathlib import Path

import tinyraft
from tinyraft.assembly import make_raft
from tinyraft.core.effects import HardState
from tinyraft.core.entry import NodeId
from tinyraft.storage.recovery import Recovered


def test_chance_is_the_nodes_own(tmp_path: Path) -> None:
    """A program that seeds its own chance neither ties its nodes' timers nor loses a draw to them.

    Members whose timers draw alike campaign together, again and again.
    """
    config = tinyraft.Config(data_dir=tmp_path / "a", bootstrap=True)
    random.seed(1)
    before = random.getstate()
    drawn: list[int] = []
    for _ in range(2):
        random.setstate(before)
        raft = make_raft(config, NodeId("a"), Recovered(HardState(0, None), []))
        for _ in range(40):
            raft.timer.hear_leader()
            drawn.append(raft.timer.timeout)
        assert before == random.getstate()
    assert drawn[:40] != drawn[40:]
