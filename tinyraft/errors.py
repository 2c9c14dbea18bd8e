"""The one tree of exceptions: the branch says what a program must know.

`NotApplied` is certain: no effect, safe to retry. `MaybeApplied` is unknown: retry only what may
happen twice. A defect of tinyraft itself is an `AssertionError` and stands outside the tree.

Law: this file imports nothing of tinyraft, and no gRPC code is named here (`transport/statuses.py`
holds that table).
"""

from __future__ import annotations

from collections.abc import Sequence


class TinyraftError(Exception):
    """The root of everything that tinyraft raises on purpose."""


class ConfigError(TinyraftError, ValueError):
    """The configuration can't be used; every problem is listed at once.

    Attributes:
        problems: One sentence a problem, each naming its variable and the value found.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Join *problems* into one message."""
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


# --- the outcome of a command -----------------------------------------------------------------


class NotApplied(TinyraftError):
    """Certain: the command had no effect and never will. Safe to retry."""


class NotLeader(NotApplied):
    """This node does not lead.

    Attributes:
        leader_id: Who leads, as far as this node knows; "" when it knows nobody.
        leader_address: Where that node is dialled; "" when unknown.
        term: The term of that knowledge, so that an older hint can't replace a newer one.
    """

    def __init__(
        self, message: str, *, leader_id: str = "", leader_address: str = "", term: int = 0
    ) -> None:
        """Carry the hint beside the *message*."""
        super().__init__(message)
        self.leader_id = leader_id
        self.leader_address = leader_address
        self.term = term


class NoQuorum(NotApplied):
    """No leader was found in time: too few voters are up, or none can be reached."""


class Overloaded(NotApplied):
    """The node took no more work. Nothing was appended; try again a little later.

    Its text says what waits: commands for the log, for their commit, or for the module.
    """


class CommandTooLarge(NotApplied):
    """The command is longer than ``max_command_bytes``. Nothing was sent."""


class StorageFull(NotApplied):
    """The leader's disk is nearly full, and it refuses commands while it can still tidy up."""


class MaybeApplied(TinyraftError):
    """Unknown: the command was handed over, and its outcome was not seen.

    Attributes:
        request_id: The id that asks for the same command's outcome again; "" when it had none.
    """

    def __init__(self, message: str, *, request_id: str = "") -> None:
        """Carry the *request_id* beside the *message*."""
        super().__init__(message)
        self.request_id = request_id


class ApplyTimeout(MaybeApplied, TimeoutError):
    """Time ran out after the command was handed over. It may still be applied."""


class LeadershipLost(MaybeApplied):
    """The node lost its leadership after it had appended the command.

    `Mandate.check` raises it too: what was begun as the leader may have taken effect.
    """


class ConnectionLost(MaybeApplied):
    """The connection broke after the command was sent and before it was answered."""


class SessionExpired(MaybeApplied):
    """The cluster forgot the caller's session, so it can't tell whether this is a repetition.

    This time nothing was applied; an earlier sending of the same command may have been.
    """


class ServerStopped(MaybeApplied):
    """The server stopped, or its disk failed, after it had appended the command."""


class Rejected(TinyraftError):
    """The module refused the command: an answer, the same on every member.

    A module raises it to refuse, `Caller.apply` and `Server.apply` raise it to tell. The command is
    in the log; no member changed its state. (The original's ``ErrNoCommit``.)
    """


ErrNoCommit = Rejected


class RequestIdReused(Rejected):
    """The ``request_id`` was given to another command before; this one changed nothing."""


class ModuleError(TinyraftError):
    """The module raised something else than `Rejected`; the log goes on behind it."""


# --- reads and membership ---------------------------------------------------------------------


class ReadFailed(TinyraftError):
    """The read could not be answered; it had no effect."""


class MembershipError(TinyraftError):
    """The change of membership was refused. Nothing was appended."""


class ChangeInProgress(MembershipError):
    """Another change is not yet committed, or the leader's term is too young for one."""


class ConfigurationChanged(MembershipError):
    """The configuration is not the one that the caller saw (``expect=``): look again, then ask."""


class UnknownMember(MembershipError):
    """No member has that id."""


class IdReused(MembershipError):
    """That id belongs, or belonged, to another data directory."""


class NotCaughtUp(MembershipError):
    """The learner is too far behind to vote."""


class WrongCluster(MembershipError):
    """The other side belongs to another cluster, or takes us for somebody else."""


class NodeRemoved(MembershipError):
    """This node was removed from the cluster."""


# --- storage ----------------------------------------------------------------------------------


class StorageError(TinyraftError):
    """The data directory can't be trusted or used; the node does not go on."""


class StorageFailed(StorageError):
    """A write or sync failed. Nothing more is written until the process starts anew."""


class CorruptLog(StorageError):
    """Synced bytes are damaged or missing.

    Attributes:
        path: The file.
        offset: The first byte that can't be trusted; -1 when a whole file is meant.
    """

    def __init__(self, message: str, *, path: str, offset: int) -> None:
        """Say where beside the *message*."""
        super().__init__(message)
        self.path = path
        self.offset = offset


class DataDirLocked(StorageError):
    """Another process holds the data directory.

    Attributes:
        pid: That process, 0 when it could not be read.
    """

    def __init__(self, message: str, *, pid: int) -> None:
        """Name the holder beside the *message*."""
        super().__init__(message)
        self.pid = pid


class RepairRefused(StorageError):
    """A repair by hand would lose more than it must, or is not needed. Nothing was changed."""


class FormatTooNew(StorageError):
    """A newer tinyraft wrote this directory or message."""


class ModuleFailed(TinyraftError):
    """The module met this node's own trouble (memory, files); the node applies nothing more."""


# --- lifecycle --------------------------------------------------------------------------------


class LifecycleError(TinyraftError):
    """The object is not in a state for this call."""


class NotStarted(LifecycleError):
    """The server is not running."""


class AlreadyStarted(LifecycleError):
    """The server was started before; make a new one."""


class StartFailed(LifecycleError, OSError):
    """The server could not start; nothing is left running."""


class ForkedProcess(LifecycleError):
    """This object was started in another process; a fork does not inherit its threads."""


class ReentrantCall(LifecycleError):
    """The module called back into its own server from inside a callback; that would deadlock."""


class OutsideApply(LifecycleError):
    """`current_entry` was asked for outside `Module.apply`, where there is none."""


def may_have_applied(error: BaseException) -> bool:
    """Tell whether the command behind *error* may have taken effect.

    False for `NotApplied` and for everything that is refused before a command exists; true for
    `MaybeApplied`, for `ModuleError` (a module may have changed something before it raised), for
    `ModuleFailed` (the other members apply the command), and for errors tinyraft does not know.
    """
    if isinstance(error, MaybeApplied | ModuleError | ModuleFailed):
        return True
    return not isinstance(error, TinyraftError)
