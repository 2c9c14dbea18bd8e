"""The core's messages as protobuf, both ways (dissertation, figures 3.1, 3.2, 3.10 and 9.6).

Law: pure functions. Whatever bytes a stranger sends, decoding ends in a message that the core may
see or in `Malformed`, never in another exception. An append is the hot path: its entries were
encoded when the leader appended them, so sending a batch is one join of bytes.

Protobuf copies a long field three times on its way out. A message on the wire is its fields in any
order, each a number and a value, so `append_on_wire` puts long entries behind what protobuf made of
the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from tinyraft.core.configuration import Configuration
from tinyraft.core.entry import (
    KINDS,
    LIMIT,
    Entry,
    EntryKind,
    Index,
    MalformedEntry,
    Term,
    decode_entries,
    encode_entries,
    make_entry,
    parts_of,
)
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    Reply,
    Request,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
    VoteReply,
)
from tinyraft.errors import FormatTooNew
from tinyraft.transport.envelope import Envelope, Malformed, seal, shown, unseal
from tinyraft.wire import raft_pb2 as pb

__all__ = [
    "Malformed",
    "append",
    "append_on_wire",
    "decode_append",
    "decode_hello",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "goodbye",
    "hello",
]

RequestMessage: TypeAlias = (
    pb.VoteRequest
    | pb.PreVoteRequest
    | pb.AppendEntriesRequest
    | pb.TimeoutNowRequest
    | pb.InstallSnapshotRequest
)
DIGEST_BYTES = 16  # at most
LONG_BYTES = 64 * 1024  # of entries: from here on a copy costs more than Python
LENGTH_DELIMITED = 2  # protobuf's word for a value that begins with its length
ReplyMessage: TypeAlias = (
    pb.VoteResponse
    | pb.PreVoteResponse
    | pb.AppendEntriesResponse
    | pb.TimeoutNowResponse
    | pb.InstallSnapshotResponse
)


# --- requests ---------------------------------------------------------------------------------


def encode_request(request: Request, envelope: Envelope) -> RequestMessage:
    """Encode *request* for a unary call."""
    match request:
        case RequestVote():
            return pb.VoteRequest(
                term=request.term,
                candidate_id=envelope.sender,
                last_log_index=request.last_index,
                last_log_term=request.last_term,
                leadership_transfer=request.transfer,
                envelope=seal(envelope),
            )
        case RequestPreVote():
            return pb.PreVoteRequest(
                term=request.term,
                candidate_id=envelope.sender,
                last_log_index=request.last_index,
                last_log_term=request.last_term,
                envelope=seal(envelope),
            )
        case AppendEntries():
            message = pb.AppendEntriesRequest(leader_id=envelope.sender, envelope=seal(envelope))
            fill_append(message, request)
            return message
        case Heartbeat():
            assert request.round > 0, "round 0 would be read as an append"
            return pb.AppendEntriesRequest(
                term=request.term,
                leader_id=envelope.sender,
                leader_commit=request.commit_index,
                heartbeat_round=request.round,
                envelope=seal(envelope),
            )
        case TimeoutNow():
            return pb.TimeoutNowRequest(term=request.term, envelope=seal(envelope))
        case InstallSnapshot():
            return pb.InstallSnapshotRequest(
                term=request.term,
                envelope=seal(envelope),
                id=request.id,
                index=request.index,
                snapshot_term=request.snapshot_term,
                size=request.size,
                offset=request.offset,
                data=request.data,
            )


def decode_request(message: RequestMessage) -> tuple[Request, Envelope]:
    """Decode a unary request and say who sent it.

    Raises:
        Malformed: A field can't come from a tinyraft of this protocol; the text names it.
    """
    if isinstance(message, pb.VoteRequest):
        refuse_bare_vote(message)
    if not message.HasField("envelope"):
        raise Malformed("envelope is missing: members always say who they are and whom they mean")
    envelope = unseal(message.envelope)
    return decode_body(message, envelope), envelope


def decode_body(message: RequestMessage, envelope: Envelope) -> Request:
    """Decode what stands beside the *envelope*."""
    match message:
        case pb.VoteRequest():
            check_sender(message.candidate_id, field="candidate_id", envelope=envelope)
            term, index, last = candidacy(message)
            return RequestVote(term, index, last, message.leadership_transfer)
        case pb.PreVoteRequest():
            check_sender(message.candidate_id, field="candidate_id", envelope=envelope)
            return RequestPreVote(*candidacy(message))
        case pb.AppendEntriesRequest():
            check_sender(message.leader_id, field="leader_id", envelope=envelope)
            if message.heartbeat_round:
                return decode_heartbeat(message)
            return read_append(message)
        case pb.TimeoutNowRequest():
            return TimeoutNow(checked_term(message.term))
        case pb.InstallSnapshotRequest():
            return read_piece(message)


def refuse_bare_vote(message: pb.VoteRequest) -> None:
    """Refuse the original's form: with it, two leaders in one term are possible."""
    if not message.candidate_id and not message.HasField("envelope"):
        raise Malformed(
            "candidate_id is missing: this is the original library's Vote, which has only a term; "
            "a vote for nobody in particular is no vote, so run tinyraft on every member"
        )


def check_sender(claimed: str, *, field: str, envelope: Envelope) -> None:
    """Let nobody speak for another."""
    if claimed != envelope.sender:
        raise Malformed(f"{field} is {shown(claimed)}, but {envelope.sender!r} sent the message")


def candidacy(message: pb.VoteRequest | pb.PreVoteRequest) -> tuple[Term, Index, Term]:
    """Read the term, and the end of the candidate's log."""
    term = checked_term(message.term)
    index, last = message.last_log_index, message.last_log_term
    check_position(index, last, at="last_log", limit=term)
    return term, index, last


def decode_heartbeat(message: pb.AppendEntriesRequest) -> Heartbeat:
    """Read a heartbeat, which says nothing about the log."""
    place = message.prev_log_index or message.prev_log_term
    if message.frames or message.log_entries or place or message.is_note:
        raise Malformed("heartbeat_round is set on a message about the log: it can't be both")
    return Heartbeat(
        checked_term(message.term),
        checked(message.leader_commit, field="leader_commit"),
        checked(message.heartbeat_round, field="heartbeat_round"),
    )


def read_piece(message: pb.InstallSnapshotRequest) -> InstallSnapshot:
    """Read a piece of a snapshot; it must lie within the file."""
    term = checked_term(message.term)
    check_position(message.index, message.snapshot_term, at="snapshot", limit=term)
    if not message.index or not message.id:
        raise Malformed("index and id: a snapshot has both, never 0")
    size = checked(message.size, field="size")
    if message.offset + len(message.data) > size:
        raise Malformed(f"offset {message.offset}: the piece ends behind the file's {size} bytes")
    return InstallSnapshot(
        term, message.id, message.index, message.snapshot_term, size, message.offset, message.data
    )


# --- appends ----------------------------------------------------------------------------------


def fill_append(message: pb.AppendEntriesRequest, request: AppendEntries) -> None:
    """Write *request* into *message* in place: a message given to a constructor is copied."""
    fill_place(message, request)
    message.frames = encode_entries(request.entries)


def fill_place(message: pb.AppendEntriesRequest, request: AppendEntries) -> None:
    """Write all of *request* but the entries."""
    message.term = request.term
    message.prev_log_index = request.prev_index
    message.prev_log_term = request.prev_term
    message.leader_commit = request.commit_index
    message.is_note = request.is_note


def read_append(message: pb.AppendEntriesRequest) -> AppendEntries:
    """Read an append, whoever sent it."""
    term = checked_term(message.term)
    index, prev_term = message.prev_log_index, message.prev_log_term
    check_position(index, prev_term, at="prev_log", limit=term)
    entries = read_entries(message)
    check_entries(entries, index=index, term=prev_term, limit=term)
    commit_index = checked(message.leader_commit, field="leader_commit")
    if message.is_note and entries:
        raise Malformed("is_note and entries are both set: somebody waits for the answer, or not?")
    return AppendEntries(term, index, prev_term, entries, commit_index, is_note=message.is_note)


def read_entries(message: pb.AppendEntriesRequest) -> list[Entry]:
    """Read the entries in whichever of the two forms they came."""
    frames, listed = message.frames, message.log_entries
    if listed:
        if frames:
            raise Malformed("frames and log_entries are both set: which of them is the log?")
        return [from_listed(entry) for entry in listed]
    try:
        return decode_entries(frames)
    except MalformedEntry as error:
        raise Malformed(f"frames: {error}") from error


def from_listed(message: pb.LogEntry) -> Entry:
    """Encode an entry that came in the original's form."""
    kind = EntryKind.COMMAND if message.kind == 0 else KINDS.get(message.kind)
    if kind is None:
        raise Malformed(f"log_entries: entry {message.index} is of the unknown kind {message.kind}")
    for field, _ in message.ListFields():
        if field.number > pb.LogEntry.TIME_US_FIELD_NUMBER:
            raise Malformed(f"log_entries: entry {message.index} sets {field.name}, unknown here")
    return make_entry(
        index=message.index,
        term=message.term,
        kind=kind,
        command=message.cmd,
        time_us=message.time_us,
    )


def check_configuration(entry: Entry) -> None:
    """Look at what the core can only die of: it takes configurations from the log on trust."""
    try:
        Configuration.decode(entry.command)
    except (MalformedEntry, FormatTooNew) as error:
        raise Malformed(f"entries: entry {entry.index}: {error}") from error


def check_entries(entries: Sequence[Entry], *, index: Index, term: Term, limit: Term) -> None:
    """Check that *entries* follow *index* without a gap, and that their terms only grow."""
    for entry in entries:
        index += 1
        if entry.index != index:
            raise Malformed(f"entries: index {entry.index} stands where {index} belongs")
        if entry.term < term:
            raise Malformed(f"entries: entry {index} is of term {entry.term}, behind term {term}")
        term = entry.term
        if entry.kind is EntryKind.CONFIGURATION:
            check_configuration(entry)
    if term > limit:
        raise Malformed(f"entries: the last is of term {term}, the leader only of {limit}")
    checked(index, field="entries: the last index")


# --- the append stream ------------------------------------------------------------------------


def hello(envelope: Envelope) -> pb.AppendStreamRequest:
    """Open a stream; the envelope then holds for all of it."""
    return pb.AppendStreamRequest(hello=seal(envelope))


def append(request: AppendEntries) -> pb.AppendStreamRequest:
    """Append on a stream. No envelope: the hello has said who speaks."""
    message = pb.AppendStreamRequest()
    fill_append(message.append, request)
    return message


def append_on_wire(request: AppendEntries) -> bytes:
    """Append on a stream, as the bytes that go out; read like those of `append`."""
    parts = parts_of(request.entries)
    size = sum(map(len, parts))
    if size < LONG_BYTES:
        return append(request).SerializeToString()
    rest = pb.AppendEntriesRequest()
    fill_place(rest, request)
    inner = rest.SerializeToString() + field_head(rest.FRAMES_FIELD_NUMBER, size)
    outer = field_head(pb.AppendStreamRequest.APPEND_FIELD_NUMBER, len(inner) + size)
    return b"".join((outer, inner, *parts))


def field_head(number: int, size: int) -> bytes:
    """Encode what stands before a field's value of *size* bytes."""
    assert number < 1 << 4, "its number and kind fit one byte"
    encoded = bytearray((number << 3 | LENGTH_DELIMITED,))
    while size >= 1 << 7:  # seven bits a byte, the lowest first; all but the last are marked
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def goodbye() -> pb.AppendStreamRequest:
    """End a stream on purpose: an end without this is a death."""
    return pb.AppendStreamRequest(goodbye=True)


def decode_hello(message: pb.AppendStreamRequest) -> Envelope:
    """Read the first message of a stream.

    Raises:
        Malformed: It is no hello.
    """
    if not message.HasField("hello") or message.HasField("append") or message.goodbye:
        raise Malformed("hello is missing: a stream starts with one, and with nothing else")
    return unseal(message.hello)


def decode_append(message: pb.AppendStreamRequest, envelope: Envelope) -> AppendEntries | None:
    """Read a later message of the stream that *envelope* opened; ``None`` is its goodbye.

    Raises:
        Malformed: It says neither, or more than one thing, or speaks for somebody else.
    """
    if message.HasField("hello"):
        raise Malformed(f"hello is set again on the stream of {envelope.sender!r}")
    if message.goodbye == message.HasField("append"):
        raise Malformed("append or goodbye: exactly one of them has to be set")
    if message.goodbye:
        return None
    inner = message.append
    if inner.HasField("envelope"):
        raise Malformed("append.envelope is set: on a stream the hello speaks for every message")
    if inner.heartbeat_round:
        raise Malformed("append.heartbeat_round is set: heartbeats are calls of their own")
    if inner.leader_id:
        check_sender(inner.leader_id, field="append.leader_id", envelope=envelope)
    return read_append(inner)


# --- replies ----------------------------------------------------------------------------------


def encode_reply(reply: Reply) -> ReplyMessage:
    """Encode *reply*."""
    match reply:
        case VoteReply():
            return pb.VoteResponse(term=reply.term, vote_granted=reply.granted)
        case PreVoteReply():
            return pb.PreVoteResponse(term=reply.term, vote_granted=reply.granted)
        case AppendReply():
            return pb.AppendEntriesResponse(
                term=reply.term,
                success=reply.success,
                match_index=reply.match_index,
                conflict_index=reply.conflict_index,
                conflict_term=reply.conflict_term,
            )
        case HeartbeatReply():
            assert reply.round > 0, "round 0 would be read as an append's reply"
            return pb.AppendEntriesResponse(
                term=reply.term,
                heartbeat_round=reply.round,
                storage_full=reply.is_full,
                check_index=reply.check_index,
                check_digest=reply.check_digest,
            )
        case TimeoutNowReply():
            return pb.TimeoutNowResponse(term=reply.term)
        case InstallReply():
            return pb.InstallSnapshotResponse(
                term=reply.term, offset=reply.offset, match_index=reply.match_index
            )


def decode_reply(message: ReplyMessage) -> Reply:
    """Decode a reply. Its term may be 0: a member that never heard of any term refuses so.

    Raises:
        Malformed: A term or index is impossible.
    """
    term = checked(message.term, field="term")
    match message:
        case pb.VoteResponse():
            return VoteReply(term, message.vote_granted)
        case pb.PreVoteResponse():
            return PreVoteReply(term, message.vote_granted)
        case pb.AppendEntriesResponse() if message.heartbeat_round:
            round_ = checked(message.heartbeat_round, field="heartbeat_round")
            index = checked(message.check_index, field="check_index")
            if len(message.check_digest) > DIGEST_BYTES:
                raise Malformed(f"check_digest has {len(message.check_digest)} bytes: it is none")
            return HeartbeatReply(term, round_, message.storage_full, index, message.check_digest)
        case pb.AppendEntriesResponse():
            return AppendReply(
                term,
                message.success,
                checked(message.match_index, field="match_index"),
                checked(message.conflict_index, field="conflict_index"),
                checked(message.conflict_term, field="conflict_term"),
            )
        case pb.TimeoutNowResponse():
            return TimeoutNowReply(term)
        case pb.InstallSnapshotResponse():
            return InstallReply(
                term,
                checked(message.offset, field="offset"),
                checked(message.match_index, field="match_index"),
            )


# --- numbers ----------------------------------------------------------------------------------


def checked(value: int, *, field: str) -> int:
    """Return *value* if it can be a term, index or round: one bad message must not freeze us."""
    if value >= LIMIT:
        raise Malformed(f"{field} is {value}: nothing counts that far, so it is damage or malice")
    return value


def checked_term(value: int) -> Term:
    """Return the term of a request, which is never 0."""
    if value == 0:
        raise Malformed("term is 0: nobody leads or campaigns before term 1")
    return checked(value, field="term")


def check_position(index: Index, term: Term, *, at: str, limit: Term) -> None:
    """Check a place in the log: both 0 before the first entry, and no term above the sender's."""
    checked(index, field=f"{at}_index")
    if (index == 0) != (term == 0):
        raise Malformed(f"{at}_term is {term} at {at}_index {index}: either both are 0 or none")
    if term > limit:
        raise Malformed(f"{at}_term is {term}, above the message's own term {limit}")
