"""Do the members' modules come to the same? This member's half: a rolling digest, and checks.

Law: the digest is a function of the entries and their outcomes alone: not of batches, snapshots or
restarts. No exception's text goes in, as that may hold an address. A member judges itself by what a
majority had in the leader's present term, never by an old verdict that it meets in a replay: with
another version of a module on all members those would take all of them out.

The rolling digest is a CRC-32 over header, command, kind of outcome and result of all entries: its
state is a number, so it goes on from a snapshot's header, and it costs half of a hash chained a
command (`docs/agreement.md`). Two states that differ stay different over equal bytes; that a
difference is missed has a chance of 2**-32. At a check, which the leader appends about once a
second, it becomes a digest of 16 bytes, with the module's own `digest()` where there is one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

from tinyraft.checksum import crc32
from tinyraft.core.check import Verdict, decode_verdict
from tinyraft.core.entry import Entry, EntryKind, Index, Term
from tinyraft.errors import Rejected, TinyraftError
from tinyraft.logs import Log
from tinyraft.module import Module
from tinyraft.storage.divergence import Divergence

LONG_BYTES = 4096  # a copy of a shorter command costs less than a call
KEPT = 16  # checks: the word on one comes with the next, or a few later
STATE = struct.Struct("<QI")
NOTHING, RESULT, REJECTED, ERROR = b"\0", b"\1", b"\2", b"\3"


@dataclass(slots=True, frozen=True)
class Check:
    """What a check came to here.

    Attributes:
        index: Where it stands.
        digest: Of the outcomes before it, and of the module.
        last_command: The last command before it.
    """

    index: Index
    digest: bytes
    last_command: Index


class Agreement:
    """One member's outcomes. Used by the applier's thread; what is public may be read by any."""

    def __init__(self, module: Module, *, term: Callable[[], Term], log: Log) -> None:
        """Begin before the first entry; *term* tells the present one."""
        self.state: int | None = 0  # None: unknown, as a snapshot came without it
        self.checks: tuple[Check, ...] = ()  # the latest, oldest first
        self.last_command: Index = 0
        self.last_check: Index = 0
        self.divergence: Divergence | None = None
        self._agreed: Index = 0
        self._is_disputed = False  # no majority, and that was told
        self._digest = cast("Callable[[], object] | None", getattr(module, "digest", None))
        self._term = term
        self._log = log

    def restored(self, index: Index, state: int | None) -> None:
        """The module goes on from a snapshot up to *index*, whose digest is *state*."""
        self.state, self.checks = state, ()
        self.last_command, self.last_check = index, 0

    def applied(self, entry: Entry, result: bytes | None, error: TinyraftError | None) -> None:
        """Take in the outcome of *entry*; at a check, look whether this member differs.

        Called under the module's mutex.
        """
        if self.state is not None:
            kind = NOTHING if result is None else RESULT
            if error is not None:
                kind = REJECTED if isinstance(error, Rejected) else ERROR
            head, command, outcome = entry.header, entry.command, kind + (result or b"")
            if len(command) > LONG_BYTES:
                self.state = crc32(outcome, crc32(command, crc32(head, self.state)))
            else:
                self.state = crc32(head + command + outcome, self.state)
        if entry.kind is EntryKind.COMMAND:
            self.last_command = entry.index
        elif entry.kind is EntryKind.DIGEST:
            self._check(entry)

    def _check(self, entry: Entry) -> None:
        verdict = decode_verdict(entry.command)
        if verdict is not None:
            self._heed(verdict, is_present=entry.term == self._term())
        self.last_check = entry.index
        own = self._ask_module(entry.index)
        if self.state is not None and own is not None:
            all_of_it = STATE.pack(entry.index, self.state) + own
            digest = blake2b(all_of_it, digest_size=16).digest()
            check = Check(entry.index, digest, self.last_command)
            self.checks = (*self.checks[1 - KEPT :], check)

    def _heed(self, verdict: Verdict, *, is_present: bool) -> None:
        mine = next((check for check in self.checks if check.index == verdict.index), None)
        if mine is None:
            return  # from before a restart or a snapshot
        if verdict.digest == mine.digest:
            self._agreed, self._is_disputed = mine.index, False
        elif not is_present:
            return
        elif verdict.digest:
            self.divergence = Divergence(self._agreed, mine.index)
        elif not self._is_disputed:
            self._is_disputed = True
            self._log.warning(
                "modules_disagree",
                after=self._agreed,
                until=mine.index,
                why="no majority of the members' modules came to the same: one of them, or the"
                " module on all, depends on more than its commands (time, chance, files, sets)",
            )

    def _ask_module(self, index: Index) -> bytes | None:
        """Have the module's own digest; None when it gave none: this member sits the check out."""
        if self._digest is None:
            return b""
        try:
            found = self._digest()
        except Exception as error:  # noqa: BLE001  # perhaps this machine's trouble: no proof
            self._log.warning("digest_failed", index=index, error=repr(error), exc_info=True)
            return None
        if not isinstance(found, bytes):
            self._log.warning("digest_failed", index=index, error=f"a {type(found).__name__}")
            return None
        return found
