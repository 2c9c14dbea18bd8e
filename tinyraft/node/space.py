"""Room on the disk: looked at now and then, by a thread of its own, because looking may block.

Law: decides when this node counts as full, and nothing else. Below the mark (`Room.reserve_bytes`)
it takes no commands while it can still write snapshots, change members and follow; so a full disk
is met at the door and not in the middle of the log. It has room again only well above the mark, or
it would say one thing and the other in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from tinyraft.logs import Log

LOOK_SECONDS = 0.5
MIB = 1024 * 1024


@dataclass(slots=True, frozen=True)
class Room:
    """Where the data lives, how to ask what is free there, and how much of it is kept back.

    Attributes:
        path: The data directory.
        free: Gives the bytes that are left; may block, may raise `OSError`.
        reserve_bytes: Below this no commands are taken; 0 looks at nothing.
    """

    path: str
    free: Callable[[], int]
    reserve_bytes: int


ENDLESS = Room("", lambda: 0, 0)


class Space:
    """Looks, and tells *changed* when the disk becomes full or has room again."""

    def __init__(
        self,
        room: Room,
        *,
        provide: Callable[[], bool],
        changed: Callable[[bool], object],
        log: Log,
    ) -> None:
        """Look at *room*, and have the log's next segment provided for (*provide* may block)."""
        self.shortage = ""  # why no commands are taken, and what to do
        self.seconds = LOOK_SECONDS
        self._room = room
        self._provide = provide
        self._changed = changed
        self._log = log
        self._free = 0
        self._is_blind = False
        self._stopping = Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(self.seconds)

    @property
    def is_stopping(self) -> bool:
        """Whether its thread is to end."""
        return self._stopping.is_set()

    def look(self) -> None:
        """Look once."""
        was_full = bool(self.shortage)
        is_low = self._is_low(was_full=was_full)
        is_full = not self._provide() or is_low
        self.shortage = self._describe(is_low=is_low) if is_full else ""
        if is_full != was_full:
            self._tell(is_full=is_full)

    def _is_low(self, *, was_full: bool) -> bool:
        room = self._room
        if not room.reserve_bytes:
            return False
        try:
            self._free = room.free()
        except OSError as error:
            if not self._is_blind:
                self._log.warning("free_space_unknown", path=room.path, error=str(error))
            self._is_blind = True
            return was_full
        self._is_blind = False
        return self._free < room.reserve_bytes + (room.reserve_bytes // 4 if was_full else 0)

    def _describe(self, *, is_low: bool) -> str:
        path = self._room.path
        if is_low:
            return (
                f"{path} has {in_mib(self._free)} left, and {in_mib(self._room.reserve_bytes)} are"
                " kept back: free space there, or set RAFT_DISK_RESERVE_BYTES lower"
            )
        return f"{path} has no room for the next segment of the log: free space there"

    def _tell(self, *, is_full: bool) -> None:
        room = self._room
        facts = {"path": room.path, "free_bytes": self._free, "reserve_bytes": room.reserve_bytes}
        if is_full:
            self._log.warning("storage_full", why=self.shortage, **facts)
        else:
            self._log.info("storage_has_room", **facts)
        self._changed(is_full)

    def stop(self) -> None:
        """Let the thread end."""
        self._stopping.set()


def in_mib(size: int) -> str:
    """Say a size as people do."""
    return f"{size / MIB:.1f} MiB"
