"""What a run of many seeds must have met, so that its silence means something.

Law: counts are for 200 seeds, and grow with their number; fewer than 200 prove nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tinyraft.testing.world import Result

EACH = 200
LEAST: dict[str, int] = {
    "became_leader": 300,
    "stepped_down": 20,
    "log_cut": 15,
    "leader_lost": 400,
    "leader paused": 20,
    "follower paused": 40,
    "leader starved": 15,
    "starved": 15,
    "transfer_begun": 30,
    "transfer_failed": 1,
    "resigned": 12,
    "left": 25,
    "join": 40,
    "moved": 150,
    "sighted": 300,
    "members_change": 250,
    "ChangeInProgress": 400,
    "Promote": 30,
    "Demote": 8,
    "Demote of the leader": 4,
    "Remove": 10,
    "Remove of the leader": 5,
    "removed": 30,
    "crash with unsynced bytes": 400,
    "crash in a disk call": 35,
    "crash in recovery": 40,
    "torn write": 2000,
    "killed": 80,
    "restart with less": 600,
    "kept": 30,
    "damage refused": 15,
    "snapshot_taken": 4000,
    "snapshot_sent": 50,
    "snapshot_installed": 50,
    "snapshot_not_sent": 80,
    "snapshot_damaged": 4,
    "restored": 500,
    "node_failed": 30,
    "module_failed": 10,
    "module_diverged": 15,
    "modules_disagree": 3,
    "answer NotLeader": 500,
    "answer Overloaded": 400,
    "answer ServerStopped": 10,
    "answer ModuleFailed": 30,
    "answer Rejected": 300,
    "answer ModuleError": 300,
    "outcome applied": 6000,
    "outcome maybe": 500,
    "outcome not": 400,
    "session opened": 500,
    "session expired": 350,
    "session expired in doubt": 3,
    "sent elsewhere": 60,
    "request id repeated": 1200,
    "read on the leader": 3000,
    "read on the follower": 5000,
    "read waits for the module": 500,
    "read lost": 40,
    "read failed": 400,
    "fault isolate": 80,
    "fault halves": 60,
    "fault bridge": 50,
    "fault ring": 35,
    "fault cut": 80,
    "fault reset": 80,
    "fault pause": 60,
    "fault loss": 50,
    "fault twice": 45,
    "fault disk full": 35,
    "fault disk error": 35,
    "fault disk filled": 90,
    "storage_full": 35,
    "storage_has_room": 15,
    "answer StorageFull": 40,
    "writer waits for room": 20,
    "fault slow disk": 80,
    "fault move all": 50,
}


def missing(found: Sequence[Result]) -> dict[str, tuple[int, int]]:
    """Name what was met too seldom: how often, and how often it should have been."""
    seen: Counter[str] = Counter()
    for result in found:
        seen += result.seen
    times = len(found) // EACH
    wanted = {what: least * times for what, least in LEAST.items()}
    return {what: (seen[what], least) for what, least in wanted.items() if seen[what] < least}
