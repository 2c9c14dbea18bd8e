"""The four roles (dissertation 3.3, 9.6)."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """What a member is at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
