"""The client: has each command applied once, and says what became of it (dissertation 6).

Law: nothing is decided here; `Delivery` delivers. One deadline bounds the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from types import TracebackType
from typing import Literal, Self

from tinyraft.addresses import parse_addresses
from tinyraft.core.entry import LONGEST_REQUEST_ID
from tinyraft.delivery import Delivery
from tinyraft.errors import (
    CommandTooLarge,
    ConfigError,
    MaybeApplied,
    ModuleFailed,
    NodeRemoved,
    NotApplied,
    NotStarted,
    ReadFailed,
)
from tinyraft.ledger import Lane
from tinyraft.submission import Submission
from tinyraft.transport.channels import Channels
from tinyraft.transport.guard import OwnerProcess
from tinyraft.transport.options import caller_options
from tinyraft.transport.queries import Queries
from tinyraft.transport.slots import Slot, refuse_callback
from tinyraft.transport.undivided import undivided

QUERY_SECONDS = 2.0
PAUSE_SECONDS = 0.05


class Caller:
    """A client of one cluster. Make one a process and share it between threads.

    Any one address suffices: the leader is found from there. Every command has a number in the
    caller's session, so it is applied once, however often it has to be sent. A context manager.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        *,
        max_command_bytes: int = 1024 * 1024,
        exactly_once: bool = True,
    ) -> None:
        """Prepare; nothing is dialled yet.

        Args:
            addresses: Members' addresses, ``"10.0.0.1:50051,10.0.0.2:50051"`` or a list of them.
            max_command_bytes: The longest command in bytes; the cluster's
                ``RAFT_MAX_COMMAND_BYTES`` where that is configured.
            exactly_once: Open a session, and send again what may have been lost. Without it a
                command is sent once, or again only when it is certain not to have been applied.

        Raises:
            ConfigError: There is no address, or one that can't be dialled.
        """
        text = addresses if isinstance(addresses, str) else ",".join(addresses)
        self._addresses = parse_addresses(text)
        if not self._addresses:
            raise ConfigError([f"addresses={text!r}: at least one host:port is needed"])
        self._max_command_bytes = max_command_bytes
        self._owner = OwnerProcess("this tinyraft.Caller")
        self._channels = Channels(
            caller_options(max_command_bytes=max_command_bytes), closed="this caller was closed"
        )
        self._delivery = Delivery(
            self._addresses, channels=self._channels, is_exactly_once=exactly_once
        )
        self._queries = Queries(self._channels)
        self._nearest = 0  # which of the addresses answered the last query

    # --- commands -----------------------------------------------------------------------------

    def apply(
        self, command: bytes, *, timeout: float | None = 10.0, request_id: str = ""
    ) -> bytes | None:
        """Replicate *command* and return what the leader's module answered.

        Blocks until a majority has the command on disk and the leader has applied it. Looks for the
        leader, waits for one to appear, and sends again as long as time is left; the cluster
        applies the command once (dissertation 6.3).

        Safe from any number of threads; calls at the same time may overtake each other.

        Args:
            command: Opaque bytes, at most ``max_command_bytes``.
            timeout: Seconds for everything, retries included. ``None`` waits for ever.
            request_id: The program's own name for the command, at most 256 bytes. Who sends the
                same again, from any process, gets the first answer again, as long as it is among
                the last 100,000 of the cluster.

        Returns:
            The module's result.

        Raises:
            Rejected: The module refused it. It is in the log; no member changed its state.
            RequestIdReused: *request_id* belongs to another command; likewise.
            ModuleError: The module raised something else.
            CommandTooLarge: Nothing was sent.
            NoQuorum: No leader was found in time. Nothing was appended (`NotApplied`).
            Overloaded: The leader, or this caller, had too much under way. Nothing was appended
                (`NotApplied`).
            StorageFull: The leader's disk is nearly full. Nothing was appended (`NotApplied`).
            ApplyTimeout: Time ran out after it was sent (`MaybeApplied`). It may be applied.
            ConnectionLost: Likewise; only without ``exactly_once``, or after a node's refusal.
            SessionExpired: The cluster forgot this caller while the command was sent again; an
                earlier sending may have been applied (`MaybeApplied`).
            WrongCluster: An address leads to another cluster than the one met first.
            ReentrantCall: Called from the callback of a future.
            NotStarted: The caller was closed.
        """
        refuse_callback()
        slot = Slot(command, request_id=request_id, deadline=deadline_in(timeout))
        self._check(slot)
        self._delivery.deliver(slot)
        if slot.error is not None:
            raise slot.error
        return slot.result

    def submit(
        self, command: bytes, *, timeout: float | None = 10.0, request_id: str = ""
    ) -> Submission:
        """Send *command* and return at once, with a future of its result.

        Blocks only while this caller has too much under way (16,384 commands, 64 MiB). What one
        thread submits is applied in that order, unless a sending fails: what is sent again may be
        overtaken. Callbacks of the future run in the caller's own threads and must not block.

        Args:
            command: As for `apply`.
            timeout: Likewise; the future is done by then.
            request_id: Likewise.

        Returns:
            A future that raises what `apply` raises; done, it knows ``index``, ``term`` and
            ``stages``.

        Raises:
            CommandTooLarge: Nothing was sent.
            Overloaded: There was no room in time. Nothing was sent.
            NotStarted: The caller was closed.
        """
        submission = Submission()
        slot = Slot(
            command,
            request_id=request_id,
            deadline=deadline_in(timeout),
            on_done=submission.settle,
            is_future=True,
        )
        self._check(slot)
        self._delivery.post(slot)
        return submission

    def apply_many(
        self, commands: Sequence[bytes], *, timeout: float | None = 10.0
    ) -> list[bytes | None]:
        """Replicate *commands* together and return what the module answered to each.

        Blocks until all are over. They are applied in order, as for `submit`, and each for itself:
        some may be applied, and others not.

        Args:
            commands: As for `apply`, each.
            timeout: Seconds for all of them.

        Raises:
            TinyraftError: As `apply`; the first one in order. `submit` tells of each.
        """
        refuse_callback()
        self._owner.check()
        deadline = deadline_in(timeout)
        slots = [Slot(command, deadline=deadline, is_one_of_many=True) for command in commands]
        for slot in slots:
            self._check_size(slot)
        self._delivery.deliver_all(slots)
        for slot in slots:
            if slot.error is not None:
                raise slot.error
        return [slot.result for slot in slots]

    def _check(self, slot: Slot) -> None:
        self._owner.check()
        self._check_size(slot)

    def _check_size(self, slot: Slot) -> None:
        if len(slot.command) > self._max_command_bytes:
            raise CommandTooLarge(
                f"a command of {len(slot.command)} bytes; the limit is {self._max_command_bytes}"
            )
        if slot.request_id and len(slot.request_id.encode()) > LONGEST_REQUEST_ID:
            raise CommandTooLarge(
                f"a request_id of {len(slot.request_id.encode())} bytes; the limit is"
                f" {LONGEST_REQUEST_ID}"
            )

    # --- reads --------------------------------------------------------------------------------

    def query(
        self,
        request: bytes,
        *,
        consistency: Literal["linearizable", "stale"] = "linearizable",
        timeout: float = 10.0,
    ) -> bytes:
        """Ask a member's module, without a log entry and without a write to any disk.

        ``"linearizable"``: the answer has everything that anybody was told before this call began,
        what this program applied included. A member answers when its leader has heard from a
        majority that it still leads; any member will do.

        ``"stale"``: the first member that is reached answers, and may be behind; but it has applied
        whatever this caller was told that it had applied.

        Blocks; tries one member after the other as long as there is time, first the one that
        answered the last query. Safe from any thread; queries at the same time share a message.

        Args:
            request: Whatever the module's ``query`` takes.
            consistency: ``"linearizable"`` or ``"stale"``.
            timeout: Seconds for everything.

        Returns:
            What the module's ``query`` answered.

        Raises:
            ReadFailed: No node answered in time, or the module could not.
            NotStarted: The caller was closed.
        """
        self._owner.check()
        if consistency not in ("linearizable", "stale"):
            raise ReadFailed(f"consistency={consistency!r} is neither 'linearizable' nor 'stale'")
        self._delivery.begin()
        deadline = monotonic() + timeout
        min_index = self._delivery.last_index
        last: Exception | None = None
        while deadline > monotonic():
            first, count = self._nearest, len(self._addresses)
            for number in ((first + offset) % count for offset in range(count)):
                left = max(0.0, deadline - monotonic())
                try:
                    result = self._queries.ask(
                        self._addresses[number],
                        request,
                        is_stale=consistency == "stale",
                        min_index=min_index,
                        timeout=min(left, QUERY_SECONDS),
                    )
                except ReadFailed:
                    raise  # the module's word
                except (NotApplied, MaybeApplied, NotStarted, ModuleFailed, NodeRemoved) as error:
                    self._delivery.refuse_closed()
                    last = error
                else:
                    self._nearest = number
                    return result
            self._delivery.sleep(min(PAUSE_SECONDS, max(0.0, deadline - monotonic())))
        raise ReadFailed(f"no node answered within {timeout} s; the last said: {last}")

    # --- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Break off everything; whoever waits gets `MaybeApplied` or `NotStarted`. Idempotent.

        Ctrl-C ends the waiting, not the closing: the program ends behind it.
        """
        self._owner.check()
        undivided(self._close, name="tinyraft-caller-closing")

    def _close(self) -> None:
        self._delivery.close()
        self._queries.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def caller_at_home(
    home: Callable[..., Lane], addresses: Iterable[str], *, max_command_bytes: int
) -> Caller:
    """Make the caller of a program that has a node of its own; see `Delivery.live_at`."""
    caller = Caller(addresses, max_command_bytes=max_command_bytes)
    caller._delivery.live_at(home)
    return caller


def deadline_in(seconds: float | None) -> float | None:
    """Make a deadline (monotonic) of a timeout."""
    return None if seconds is None else monotonic() + seconds
