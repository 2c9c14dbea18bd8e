"""The channels of one client, by address: made when first asked for, closed together.

Law: no stream is opened, and no channel closed, where Ctrl-C can come in between (see `undivided`):
a call that is half begun or half ended is one that gRPC waits for, for ever.
"""

from __future__ import annotations

from threading import Lock

import grpc

from tinyraft.errors import NotStarted
from tinyraft.transport.options import Options


class Channels:
    """Channels that are kept. Thread-safe; its lock is a leaf."""

    def __init__(self, options: Options, *, closed: str) -> None:
        """Make them with *options*; who comes after `close` is told *closed*."""
        self._options = options
        self._why = closed
        self._lock = Lock()  # guards all below; leaf
        self._channels: dict[str, grpc.Channel] = {}
        self._is_closed = False

    def to(self, address: str) -> grpc.Channel:
        """Return the channel to *address*.

        Raises:
            NotStarted: They were closed.
        """
        with self._lock:
            if self._is_closed:
                raise NotStarted(self._why)
            if address not in self._channels:
                self._channels[address] = grpc.insecure_channel(address, options=self._options)
            return self._channels[address]

    def close(self) -> None:
        """Break off every call, and make no more. Idempotent."""
        with self._lock:
            self._is_closed = True
            channels, self._channels = self._channels, {}
        while channels:
            channels.popitem()[1].close()  # forgotten here, too: gRPC's finalizers run in between
