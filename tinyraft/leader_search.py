"""A caller's look for the leader: one address after another, by what each node says (6.2).

Law: a node is believed when its stream is open and its greeting says that it leads, and never one
of another cluster than the first that was met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from tinyraft.errors import NotStarted, WrongCluster
from tinyraft.route import Route
from tinyraft.transport.channels import Channels
from tinyraft.transport.commands import Answer, CommandStream

OPEN_SECONDS = 1.0  # how long a node may take to greet before the next one is tried
LONGEST_PATIENCE = 16.0  # with a node that is silent, but greets

Waiting = Callable[[Callable[[float], bool], float], bool]
"""Waits for a condition, which itself waits so long as it is told, so many seconds at most."""


class LeaderSearch:
    """Looks for the leader. Used by one thread."""

    def __init__(
        self,
        route: Route,
        *,
        channels: Channels,
        lock: Lock,
        answered: Callable[[object, Sequence[Answer]], None],
    ) -> None:
        """Look where *route* says; streams guard slots by *lock* and tell what was *answered*."""
        self._route = route
        self._channels = channels
        self._lock = lock
        self._answered = answered
        self._cluster = ""
        self._silent = ("", 0.0)  # who was left for its silence, and after how long

    def left_silent(self, stream: CommandStream) -> None:
        """Remember that *stream* was left because its node said nothing for long."""
        self._silent = stream.address, stream.patience

    def try_next(self, wait_for: Waiting) -> CommandStream | None:
        """Open a stream to the next address; give it if that leads, else end it.

        Raises:
            WrongCluster: The address leads to another cluster.
            NotStarted: The channels were closed.
        """
        address = self._route.next()
        try:
            stream = CommandStream(
                self._channels.to(address), address, lock=self._lock, answered=self._answered
            )
        except ValueError as error:  # grpc's word for a channel that was closed meanwhile
            raise NotStarted("this caller was closed") from error
        except RuntimeError:  # grpc's, when the system has no thread for it: later, perhaps
            return None
        if not wait_for(stream.wait_open, OPEN_SECONDS) or not stream.is_usable:
            stream.break_off()
            return None
        if self._leads(stream):
            return stream
        stream.finish()
        return None

    def _leads(self, stream: CommandStream) -> bool:
        """Judge a node by its greeting, and learn whom it follows."""
        greeting, address = stream.greeting, stream.address
        cluster = greeting.get("tinyraft-cluster", "")
        if self._cluster and cluster and cluster != self._cluster:
            stream.finish()
            raise WrongCluster(
                f"{address} belongs to cluster {cluster}, this caller to {self._cluster}:"
                " check its addresses"
            )
        self._cluster = self._cluster or cluster
        leads = self._route.greeted(
            greeting.get("tinyraft-node", ""),
            leader=greeting.get("tinyraft-leader-id", ""),
            address=greeting.get("tinyraft-leader-address", ""),
            term=int(greeting.get("tinyraft-leader-term", "0")),
        )
        if leads:
            (silent, patience), self._silent = self._silent, ("", 0.0)
            if silent == address:  # it lives, and is slow: streams in vain would only slow it more
                stream.patience = min(2 * patience, LONGEST_PATIENCE)
        return leads
