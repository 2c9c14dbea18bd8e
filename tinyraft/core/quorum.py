"""Majorities (dissertation 3.4, 3.6).

Law: one function knows what a majority is; votes, commits and check-quorum all ask it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tinyraft.core.entry import Index, NodeId


def majority(size: int) -> int:
    """Count how many of *size* voters decide: more than half."""
    return size // 2 + 1


def has_quorum(voters: Collection[NodeId], agreeing: Collection[NodeId]) -> bool:
    """Tell whether a majority of *voters* is among the *agreeing*; no voters never agree."""
    return bool(voters) and sum(v in agreeing for v in voters) >= majority(len(voters))


def agreed_index(voters: Collection[NodeId], match: Mapping[NodeId, Index]) -> Index:
    """Find the highest index that a majority of *voters* has; 0 without voters."""
    if not voters:
        return 0
    indexes = sorted((match.get(voter, 0) for voter in voters), reverse=True)
    return indexes[majority(len(voters)) - 1]
