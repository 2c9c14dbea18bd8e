"""The way to one peer: one channel, unary calls and one stream of appends.

Law: an answer that does not come is None, never an exception; every unary call has a deadline; no
call waits for a connection, since what is said late is better said anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc

from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    InstallSnapshot,
    Reply,
    Request,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
)
from tinyraft.logs import Log
from tinyraft.transport import codec
from tinyraft.transport.envelope import Envelope, Malformed
from tinyraft.transport.options import Options
from tinyraft.wire import raft_pb2 as pb
from tinyraft.wire.raft_pb2_grpc import RaftServiceV1Stub

SERVICE = pb.DESCRIPTOR.services_by_name["RaftServiceV1"].full_name


class Stream:
    """One open stream of appends to a peer."""

    def __init__(self, link: Link, appends: Iterator[AppendEntries]) -> None:
        """Open it; *appends* is read by gRPC's sending thread."""
        self._link = link
        self._call: Any = None  # over: the channel was closed meanwhile
        with suppress(ValueError):  # grpc's word for that
            self._call = link.append_stream(self._requests(appends))

    def _requests(self, appends: Iterator[AppendEntries]) -> Iterator[bytes]:
        yield codec.hello(self._link.envelope).SerializeToString()
        for append in appends:
            yield codec.append_on_wire(append)
        yield codec.goodbye().SerializeToString()

    def __iter__(self) -> Iterator[AppendReply]:
        """Give the replies; end when the stream does."""
        try:
            for message in self._call or ():
                reply = codec.decode_reply(message)
                if isinstance(reply, AppendReply):
                    yield reply
        except grpc.RpcError as error:
            self._link.note(error)
        except Malformed as error:
            self._link.log.warning("bad_reply", peer=self._link.envelope.recipient, why=str(error))
            self._call.cancel()

    def cancel(self) -> None:
        """End it."""
        if self._call is not None:
            self._call.cancel()


class Link:
    """One peer. Thread-safe; nothing is dialled before the first call."""

    def __init__(self, address: str, *, envelope: Envelope, options: Options, log: Log) -> None:
        """Speak to *address* as *envelope* says."""
        self.envelope = envelope
        self.log = log
        self._channel = grpc.insecure_channel(address, options=options)
        self.stub = RaftServiceV1Stub(self._channel)
        self.append_stream: Any = self._channel.stream_stream(  # as in the stub, but of bytes
            f"/{SERVICE}/AppendStream",
            response_deserializer=pb.AppendEntriesResponse.FromString,
        )
        self._refusal = ""

    def call(self, request: Request, *, timeout: float) -> Reply | None:
        """Send *request*; None when no proper answer came within *timeout* seconds."""
        try:
            reply = codec.decode_reply(self._send(request, timeout))
        except grpc.RpcError as error:
            self.note(error)
            return None
        except Malformed as error:
            self.log.warning("bad_reply", peer=self.envelope.recipient, why=str(error))
            return None
        except ValueError:
            return None  # the channel was closed meanwhile
        self._refusal = ""
        return reply

    def _send(self, request: Request, timeout: float) -> codec.ReplyMessage:
        message = codec.encode_request(request, self.envelope)
        match request, message:
            case RequestVote(), pb.VoteRequest():
                return self.stub.Vote(message, timeout=timeout)
            case RequestPreVote(), pb.PreVoteRequest():
                return self.stub.PreVote(message, timeout=timeout)
            case Heartbeat() | AppendEntries(), pb.AppendEntriesRequest():
                return self.stub.AppendEntries(message, timeout=timeout)
            case TimeoutNow(), pb.TimeoutNowRequest():
                return self.stub.TimeoutNow(message, timeout=timeout)
            case InstallSnapshot(), pb.InstallSnapshotRequest():
                return self.stub.InstallSnapshot(message, timeout=timeout)
        raise AssertionError(f"no RPC carries {request!r}")

    def open_stream(self, appends: Iterator[AppendEntries]) -> Stream:
        """Send *appends* as they come, and goodbye when they end."""
        return Stream(self, appends)

    def note(self, error: grpc.RpcError) -> None:
        """Log a refusal, once for as long as it stays the same."""
        refused = error.code() in (
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        text = (error.details() or "") if refused else ""
        if text and text != self._refusal:
            self.log.warning("peer_refused", peer=self.envelope.recipient, why=text)
            self._refusal = text

    def close(self) -> None:
        """Break off every call."""
        self._channel.close()
