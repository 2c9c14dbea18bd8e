"""The client: finds the leader and says what became of a command (dissertation 6.1, 6.2).

Law: retries only what is certainly not applied; everything else is told as `MaybeApplied` and left
to the program. One deadline bounds the whole call.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from threading import Condition
from time import monotonic
from types import TracebackType
from typing import Literal, Self

import grpc

from tinyraft.addresses import parse_addresses
from tinyraft.errors import (
    CommandTooLarge,
    ConfigError,
    MaybeApplied,
    ModuleFailed,
    NodeRemoved,
    NoQuorum,
    NotApplied,
    NotStarted,
    ReadFailed,
    TinyraftError,
    WrongCluster,
)
from tinyraft.route import Retry, Route
from tinyraft.transport.commands import CommandStream
from tinyraft.transport.guard import Guard, OwnerProcess
from tinyraft.transport.options import caller_options
from tinyraft.transport.remote import query

OPEN_SECONDS = 1.0  # how long a node may take to greet before the next one is tried
QUERY_SECONDS = 2.0


class Caller:
    """A client of one cluster. Make one a process and share it between threads.

    Any one address suffices: the leader is found from there. Also a context manager.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self, addresses: str | Iterable[str], *, max_command_bytes: int = 1024 * 1024
    ) -> None:
        """Prepare; nothing is dialled yet.

        Args:
            addresses: Members' addresses, ``"10.0.0.1:50051,10.0.0.2:50051"`` or a list of them.
            max_command_bytes: The longest command in bytes; the cluster's
                ``RAFT_MAX_COMMAND_BYTES`` where that is configured.

        Raises:
            ConfigError: There is no address, or one that can't be dialled.
        """
        text = addresses if isinstance(addresses, str) else ",".join(addresses)
        self._addresses = parse_addresses(text)
        if not self._addresses:
            raise ConfigError([f"addresses={text!r}: at least one host:port is needed"])
        self._max_command_bytes = max_command_bytes
        self._options = caller_options(max_command_bytes=max_command_bytes)
        self._owner = OwnerProcess("this tinyraft.Caller")
        self._changed = Condition()  # guards all below; leaf
        self._route = Route(self._addresses, random=random.Random())
        self._channels: dict[str, grpc.Channel] = {}
        self._current: CommandStream | None = None
        self._is_looking = False
        self._cluster = ""
        self._is_closed = False
        self._guard: Guard | None = None

    def apply(self, command: bytes, *, timeout: float | None = 10.0) -> bytes | None:
        """Replicate *command* and return what the leader's module answered.

        Blocks until a majority has the command on disk and the leader has applied it. Looks for the
        leader, waits for one to appear, and tries again as long as time is left, but only what is
        certain not to have been applied.

        Safe from any number of threads; calls may overtake each other.

        Args:
            command: Opaque bytes, at most ``max_command_bytes``.
            timeout: Seconds for everything, retries included. ``None`` waits for ever.

        Returns:
            The module's result.

        Raises:
            Rejected: The module refused it. It is in the log; no member changed its state.
            ModuleError: The module raised something else.
            CommandTooLarge: Nothing was sent.
            NoQuorum: No leader was found in time. Nothing was appended (`NotApplied`).
            Overloaded: The leader took no more work. Nothing was appended (`NotApplied`).
            StorageFull: The leader's disk is nearly full. Nothing was appended (`NotApplied`).
            ApplyTimeout: Time ran out after it was sent (`MaybeApplied`). It may be applied.
            ConnectionLost: The connection broke after it was sent (`MaybeApplied`); likewise.
            WrongCluster: An address leads to another cluster than the one met first.
            NotStarted: The caller was closed.
        """
        self._owner.check()
        if len(command) > self._max_command_bytes:
            raise CommandTooLarge(
                f"a command of {len(command)} bytes; the limit is {self._max_command_bytes}"
            )
        deadline = None if timeout is None else monotonic() + timeout
        why: NotApplied = NoQuorum(f"no leader was found within {timeout} s")
        while True:
            stream = self._leader(deadline, why)
            try:
                return stream.apply(command, timeout=time_left(deadline))
            except TinyraftError as error:
                retry = self._after(stream, error)
                if retry is None:
                    if isinstance(error, NoQuorum) and not isinstance(why, NoQuorum):
                        raise why from error  # what a node said tells more than that time ran out
                    raise
                why = retry.why
                if not retry.at_once:
                    self._pause(deadline)

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

        ``"stale"``: the first member that is reached answers at once, and may be behind.

        Blocks; tries one member after the other as long as there is time. Safe from any thread.

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
        deadline = monotonic() + timeout
        last: Exception | None = None
        while (left := deadline - monotonic()) > 0:
            for address in self._addresses:
                try:
                    return query(
                        self._channel(address),
                        request,
                        is_stale=consistency == "stale",
                        timeout=min(left, QUERY_SECONDS),
                    )
                except ReadFailed:
                    raise  # the module's word
                except (NotApplied, MaybeApplied, NotStarted, ModuleFailed, NodeRemoved) as error:
                    self._refuse_closed()
                    last = error
            self._pause(deadline)
        raise ReadFailed(f"no node answered within {timeout} s; the last said: {last}")

    # --- the leader ---------------------------------------------------------------------------

    def _leader(self, deadline: float | None, why: NotApplied) -> CommandStream:
        """Return the stream to the leader; one thread looks for it, the others wait.

        Raises:
            NotApplied: Time ran out; *why* says what was met last.
        """
        with self._changed:
            while True:
                self._refuse_closed()
                if self._current is not None and self._current.is_usable:
                    return self._current
                if self._current is not None:
                    self._current.finish()  # silent: what was sent waits, the rest goes elsewhere
                    self._current = None
                if not self._is_looking:
                    self._is_looking = True
                    break
                left = time_left(deadline)
                if left is not None and left <= 0:
                    raise why
                self._changed.wait(left)
        found = None
        try:
            found = self._look(deadline, why)
            return found
        finally:
            with self._changed:
                self._is_looking = False
                self._current = found or self._current
                self._changed.notify_all()

    def _look(self, deadline: float | None, why: NotApplied) -> CommandStream:
        while True:
            left = time_left(deadline)
            if left is not None and left <= 0:
                raise why
            with self._changed:
                self._refuse_closed()
                address = self._route.next()
            stream = self._try(address, OPEN_SECONDS if left is None else left)
            if stream is not None:
                return stream
            with self._changed:
                is_time_for_a_pause = self._route.tried()
            if is_time_for_a_pause:
                self._pause(deadline)

    def _try(self, address: str, left: float) -> CommandStream | None:
        """Open a stream to *address* and keep it if that is the leader."""
        try:
            stream = CommandStream(self._channel(address), address)
        except ValueError as error:  # grpc's word for a channel that was closed meanwhile
            raise NotStarted("this caller was closed") from error
        if not stream.wait_open(min(left, OPEN_SECONDS)):
            stream.break_off(f"{address} did not answer")
            return None
        greeting = stream.greeting
        self._pin(greeting.get("tinyraft-cluster", ""), address, stream)
        with self._changed:
            leads = self._route.greeted(
                greeting.get("tinyraft-node", ""),
                leader=greeting.get("tinyraft-leader-id", ""),
                address=greeting.get("tinyraft-leader-address", ""),
                term=int(greeting.get("tinyraft-leader-term", "0")),
            )
        if leads:
            return stream
        stream.finish()
        return None

    def _pin(self, cluster: str, address: str, stream: CommandStream) -> None:
        if self._cluster and cluster and cluster != self._cluster:
            stream.finish()
            raise WrongCluster(
                f"{address} belongs to cluster {cluster}, this caller to {self._cluster}:"
                " check its addresses"
            )
        self._cluster = self._cluster or cluster

    def _after(self, stream: CommandStream, error: TinyraftError) -> Retry | None:
        """Decide what follows from *error*, and leave *stream* if its node does not lead."""
        with self._changed:
            retry = self._route.after(error)
            leaves = retry is not None and retry.elsewhere
            if leaves and self._current is stream:
                self._current = None
        if leaves:
            stream.finish()
        return retry

    def _pause(self, deadline: float | None) -> None:
        """Wait a little, not beyond *deadline*, and not after the caller was closed."""
        with self._changed:
            pause, left = self._route.pause(), time_left(deadline)
            if not self._is_closed:
                self._changed.wait(pause if left is None else max(0.0, min(pause, left)))

    def _channel(self, address: str) -> grpc.Channel:
        with self._changed:
            self._refuse_closed()
            if self._guard is None:
                self._guard = Guard("tinyraft-caller-guard", self.close)
                self._guard.start()
            if address not in self._channels:
                self._channels[address] = grpc.insecure_channel(address, options=self._options)
            return self._channels[address]

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise NotStarted("this caller was closed")

    # --- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Break off everything; whoever waits gets `MaybeApplied` or `NotStarted`. Idempotent."""
        self._owner.check()
        with self._changed:
            self._is_closed = True
            current, self._current = self._current, None
            channels, self._channels = self._channels, {}
            guard, self._guard = self._guard, None
            self._changed.notify_all()
        if current is not None:
            current.break_off("the caller was closed")
        for channel in channels.values():
            channel.close()
        if guard is not None:
            guard.cancel()

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


def time_left(deadline: float | None) -> float | None:
    """Seconds until *deadline* (monotonic); None without one."""
    return None if deadline is None else deadline - monotonic()
