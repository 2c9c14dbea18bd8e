"""tinyraft: the threaded, synchronous Raft for Flask and plain-threads programs.

Start a `Server` beside your own code, hand it a `Module`, and `Caller.apply` returns only when a
majority has the command on disk; every node's module sees the same commands in the same order.
"""

from __future__ import annotations

from tinyraft._version import __version__
from tinyraft.caller import Caller
from tinyraft.config import Config
from tinyraft.core.configuration import Member
from tinyraft.core.members import Members
from tinyraft.core.role import Role
from tinyraft.core.snapshot import Snapshot
from tinyraft.core.status import Status
from tinyraft.current import CurrentEntry, current_entry
from tinyraft.errors import (
    AlreadyStarted,
    ApplyTimeout,
    ChangeInProgress,
    CommandTooLarge,
    ConfigError,
    ConfigurationChanged,
    ConnectionLost,
    CorruptLog,
    DataDirLocked,
    ErrNoCommit,
    ForkedProcess,
    FormatTooNew,
    IdReused,
    LeadershipLost,
    LifecycleError,
    MaybeApplied,
    MembershipError,
    ModuleError,
    ModuleFailed,
    NodeRemoved,
    NoQuorum,
    NotApplied,
    NotCaughtUp,
    NotLeader,
    NotStarted,
    OutsideApply,
    Overloaded,
    ReadFailed,
    ReentrantCall,
    Rejected,
    RepairRefused,
    RequestIdReused,
    ServerStopped,
    SessionExpired,
    StartFailed,
    StorageError,
    StorageFailed,
    StorageFull,
    TinyraftError,
    UnknownMember,
    WrongCluster,
    may_have_applied,
)
from tinyraft.module import Module
from tinyraft.node.observers import KnownLeader, Mandate, Observer
from tinyraft.server import Server
from tinyraft.submission import Stages, Submission

__all__ = [
    "AlreadyStarted",
    "ApplyTimeout",
    "Caller",
    "ChangeInProgress",
    "CommandTooLarge",
    "Config",
    "ConfigError",
    "ConfigurationChanged",
    "ConnectionLost",
    "CorruptLog",
    "CurrentEntry",
    "DataDirLocked",
    "ErrNoCommit",
    "ForkedProcess",
    "FormatTooNew",
    "IdReused",
    "KnownLeader",
    "LeadershipLost",
    "LifecycleError",
    "Mandate",
    "MaybeApplied",
    "Member",
    "Members",
    "MembershipError",
    "Module",
    "ModuleError",
    "ModuleFailed",
    "NoQuorum",
    "NodeRemoved",
    "NotApplied",
    "NotCaughtUp",
    "NotLeader",
    "NotStarted",
    "Observer",
    "OutsideApply",
    "Overloaded",
    "ReadFailed",
    "ReentrantCall",
    "Rejected",
    "RepairRefused",
    "RequestIdReused",
    "Role",
    "Server",
    "ServerStopped",
    "SessionExpired",
    "Snapshot",
    "Stages",
    "StartFailed",
    "Status",
    "StorageError",
    "StorageFailed",
    "StorageFull",
    "Submission",
    "TinyraftError",
    "UnknownMember",
    "WrongCluster",
    "__version__",
    "current_entry",
    "may_have_applied",
]
