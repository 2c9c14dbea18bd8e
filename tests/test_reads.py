"""Reads: what a program gets without asking for it."""

from __future__ import annotations

import inspect

import pytest

import tinyraft
from tests.cluster import LocalCluster


def test_no_read_is_stale_unless_it_says_so(cluster: LocalCluster) -> None:
    """Who may get an old answer has written the word: there is no default (P86)."""
    for read in (tinyraft.Server.read, tinyraft.Caller.query):
        consistency = inspect.signature(read).parameters["consistency"]
        assert consistency.default is inspect.Parameter.empty
        assert consistency.kind is inspect.Parameter.KEYWORD_ONLY
    server, caller = cluster.start(1)["a"], cluster.caller()
    for word in ("linearizable", "", "STALE", None):
        with pytest.raises(tinyraft.ReadFailed, match="only 'stale'"):
            server.read(lambda module: module, consistency=word)  # type: ignore[arg-type]
        with pytest.raises(tinyraft.ReadFailed, match="only 'stale'"):
            caller.query(b"", consistency=word)  # type: ignore[arg-type]
    assert 0 == server.read(lambda module: len(module.words), consistency="stale")
    assert b"0" == caller.query(b"", consistency="stale")
