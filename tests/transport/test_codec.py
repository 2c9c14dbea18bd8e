"""The codec: what members say survives the wire, and nothing else gets through."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.entry import Entry, EntryKind, NodeId, encode_entries, make_entry
from tinyraft.core.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    Reply,
    Request,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
    VoteReply,
)
from tinyraft.transport import codec
from tinyraft.transport.codec import Malformed
from tinyraft.transport.envelope import Envelope
from tinyraft.wire import raft_pb2 as pb

ENVELOPE = Envelope("cluster-1", NodeId("a"), NodeId("b"), incarnation=7)
TOP = 2**63 - 1
MEMBERS = Configuration((Member(NodeId("a"), "a:1", voter=True),)).encode()

# --- what a tinyraft sends --------------------------------------------------------------------

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
terms = st.integers(1, TOP)
numbers = st.integers(0, TOP)
rounds = st.integers(1, TOP)
envelopes = st.builds(
    Envelope,
    ids,
    ids.map(NodeId),
    ids.map(NodeId),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)


@st.composite
def candidacies(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw a term and the end of a log that its owner may have."""
    term = draw(terms)
    last_index = draw(numbers)
    last_term = draw(st.integers(1, term)) if last_index else 0
    return term, last_index, last_term


@st.composite
def appends(draw: st.DrawFn) -> AppendEntries:
    """Draw an append that a leader may send."""
    count = draw(st.integers(0, 5))
    prev_index = draw(st.integers(0, TOP - count))
    low = 1 if prev_index else 0
    prev_term, *rest = sorted(draw(st.lists(terms, min_size=count + 2, max_size=count + 2)))
    kinds = st.sampled_from(EntryKind)
    entries = [
        make_entry(
            index=prev_index + place,
            term=entry_term,
            kind=(kind := draw(kinds)),
            command=MEMBERS if kind is EntryKind.CONFIGURATION else draw(st.binary(max_size=40)),
            time_us=draw(st.integers(0, 2**64 - 1)),
        )
        for place, entry_term in enumerate(rest[:-1], start=1)
    ]
    is_note = not entries and draw(st.booleans())
    return AppendEntries(
        rest[-1], prev_index, prev_term * low, entries, draw(numbers), is_note=is_note
    )


requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        lambda c, transfer: RequestVote(c[0], c[1], c[2], transfer), candidacies(), st.booleans()
    ),
    candidacies().map(lambda c: RequestPreVote(*c)),
    appends(),
    st.builds(Heartbeat, terms, numbers, rounds),
    st.builds(TimeoutNow, terms),
)
replies: st.SearchStrategy[Reply] = st.one_of(
    st.builds(VoteReply, numbers, st.booleans()),
    st.builds(PreVoteReply, numbers, st.booleans()),
    st.builds(AppendReply, numbers, st.booleans(), numbers, numbers, numbers),
    st.builds(HeartbeatReply, numbers, rounds, st.booleans(), numbers, st.binary(max_size=16)),
    st.builds(TimeoutNowReply, numbers),
)


@given(requests, envelopes)
def test_every_request_survives_the_wire(request_: Request, envelope: Envelope) -> None:
    """What was encoded is what the other side decodes, and it knows the sender."""
    sent = codec.encode_request(request_, envelope)
    received = type(sent).FromString(sent.SerializeToString())
    assert (request_, envelope) == codec.decode_request(received)


@given(replies)
def test_every_reply_survives_the_wire(reply: Reply) -> None:
    """A heartbeat's reply and an append's share a message and are still told apart."""
    sent = codec.encode_reply(reply)
    assert reply == codec.decode_reply(type(sent).FromString(sent.SerializeToString()))


@given(appends(), envelopes)
def test_an_append_stream_survives_the_wire(request_: AppendEntries, envelope: Envelope) -> None:
    """The hello names the sender once; appends and the goodbye go without an envelope."""
    opened, appended, ended = (
        pb.AppendStreamRequest.FromString(message.SerializeToString())
        for message in (codec.hello(envelope), codec.append(request_), codec.goodbye())
    )
    assert envelope == codec.decode_hello(opened)
    assert not appended.append.HasField("envelope")
    assert request_ == codec.decode_append(appended, envelope)
    assert codec.decode_append(ended, envelope) is None


def test_entries_travel_as_the_bytes_that_the_disk_has() -> None:
    """An entry is encoded once: the frames are the entries' own bytes, and nothing is listed."""
    entries = [command(1, b"x"), command(2, b"yz")]
    message = codec.encode_request(AppendEntries(3, 0, 0, entries, 0), ENVELOPE)
    assert isinstance(message, pb.AppendEntriesRequest)
    assert encode_entries(entries) == message.frames
    assert not message.log_entries


def test_the_original_s_entries_become_commands() -> None:
    """A repeated `LogEntry` without a kind is a command, encoded as if we had appended it."""
    message = listed(pb.LogEntry(index=1, term=2, cmd=b"x"), pb.LogEntry(index=2, term=2, cmd=b""))
    decoded, _ = codec.decode_request(message)
    assert AppendEntries(3, 0, 0, [command(1, b"x"), command(2, b"")], 0) == decoded


def test_a_listed_entry_keeps_its_kind_and_time() -> None:
    """The listed form loses nothing that both forms can say."""
    message = listed(pb.LogEntry(index=1, term=2, kind=pb.ENTRY_KIND_NOOP, time_us=9))
    decoded, _ = codec.decode_request(message)
    noop = make_entry(index=1, term=2, kind=EntryKind.NOOP, command=b"", time_us=9)
    assert AppendEntries(3, 0, 0, [noop], 0) == decoded


# --- what is refused --------------------------------------------------------------------------


def command(index: int, payload: bytes, term: int = 2) -> Entry:
    """Make an entry as the leader would."""
    return make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=payload)


def envelope(**changed: object) -> pb.Envelope:
    """Make a good envelope, except for what is *changed*."""
    fields: dict[str, object] = {"cluster_id": "c", "sender": "a", "recipient": "b", "protocol": 1}
    return pb.Envelope(**(fields | changed))  # type: ignore[arg-type]


def vote(**changed: object) -> pb.VoteRequest:
    """Make a good vote request, except for what is *changed*."""
    fields: dict[str, object] = {"term": 3, "candidate_id": "a", "envelope": envelope()}
    return pb.VoteRequest(**(fields | changed))  # type: ignore[arg-type]


def appending(**changed: object) -> pb.AppendEntriesRequest:
    """Make a good append of nothing, except for what is *changed*."""
    fields: dict[str, object] = {"term": 3, "leader_id": "a", "envelope": envelope()}
    return pb.AppendEntriesRequest(**(fields | changed))  # type: ignore[arg-type]


def listed(*entries: pb.LogEntry, **changed: object) -> pb.AppendEntriesRequest:
    """Make an append in the original's form."""
    return appending(log_entries=entries, **changed)


def framed(*entries: Entry, **changed: object) -> pb.AppendEntriesRequest:
    """Make an append in our form."""
    return appending(frames=encode_entries(entries), **changed)


REFUSED: dict[str, tuple[codec.RequestMessage, str]] = {
    "no envelope": (pb.TimeoutNowRequest(term=1), "envelope is missing"),
    "no envelope, but a candidate": (pb.VoteRequest(term=1, candidate_id="a"), "envelope is miss"),
    "the original's vote": (pb.VoteRequest(term=1), "original library's Vote"),
    "a newer protocol": (vote(envelope=envelope(protocol=2)), "envelope.protocol is 2"),
    "no protocol": (vote(envelope=envelope(protocol=0)), "envelope.protocol is 0"),
    "no cluster": (vote(envelope=envelope(cluster_id="")), "envelope.cluster_id is empty"),
    "no sender": (vote(envelope=envelope(sender="")), "envelope.sender is empty"),
    "no recipient": (vote(envelope=envelope(recipient="")), "envelope.recipient is empty"),
    "a path as an id": (vote(envelope=envelope(sender="../a")), "envelope.sender is '../a'"),
    "a line in an id": (vote(envelope=envelope(sender="a\n")), r"envelope.sender is 'a\\n'"),
    "an endless id": (vote(envelope=envelope(sender="a" * 65)), r"'a{40}'\.\.\. \(65 characters\)"),
    "another candidate": (vote(candidate_id="z"), "candidate_id is 'z', but 'a'"),
    "another pre-candidate": (
        pb.PreVoteRequest(term=3, candidate_id="z", envelope=envelope()),
        "candidate_id is 'z', but 'a'",
    ),
    "another leader": (appending(leader_id="z"), "leader_id is 'z', but 'a'"),
    "term 0": (vote(term=0), "term is 0"),
    "an absurd term": (vote(term=2**63), f"term is {2**63}"),
    "an absurd transfer": (
        pb.TimeoutNowRequest(term=2**64 - 1, envelope=envelope()),
        f"term is {2**64 - 1}",
    ),
    "an absurd last index": (vote(last_log_index=2**63, last_log_term=1), "last_log_index is"),
    "a log ahead of its term": (vote(last_log_index=1, last_log_term=4), "last_log_term is 4"),
    "a term before the log": (vote(last_log_term=1), "last_log_term is 1 at last_log_index 0"),
    "an absurd previous index": (
        appending(prev_log_index=2**63, prev_log_term=1),
        "prev_log_index is",
    ),
    "no previous term": (appending(prev_log_index=1), "prev_log_term is 0 at prev_log_index 1"),
    "a previous term ahead": (
        appending(prev_log_index=1, prev_log_term=4),
        "prev_log_term is 4, above",
    ),
    "an absurd commit": (appending(leader_commit=2**63), "leader_commit is"),
    "a gap at the join": (framed(command(2, b"")), "index 2 stands where 1 belongs"),
    "a gap inside": (framed(command(1, b""), command(3, b"")), "index 3 stands where 2 belongs"),
    "an entry ahead of its leader": (framed(command(1, b"", term=4)), "the last is of term 4"),
    "terms that fall": (
        framed(command(1, b"", term=2), command(2, b"", term=1)),
        "entry 2 is of term 1, behind term 2",
    ),
    "a term behind the previous": (
        framed(command(2, b"", term=1), prev_log_index=1, prev_log_term=2),
        "entry 2 is of term 1, behind term 2",
    ),
    "an entry past the end of numbers": (
        listed(pb.LogEntry(index=2**63, term=2), prev_log_index=TOP, prev_log_term=2),
        "the last index is",
    ),
    "broken frames": (appending(frames=b"\x01\x02"), "frames: 2 bytes"),
    "both forms": (
        appending(frames=b"x", log_entries=[pb.LogEntry(index=1, term=1)]),
        "frames and log_entries",
    ),
    "an unknown kind": (
        listed(pb.LogEntry(index=1, term=1, kind=9)),  # type: ignore[arg-type]
        "unknown kind 9",
    ),
    "a session": (listed(pb.LogEntry(index=1, term=1, sequence=4)), "sets sequence"),
    "a machine version": (
        listed(pb.LogEntry(index=1, term=1, machine_version=1)),
        "sets machine_version",
    ),
    "a heartbeat with entries": (appending(heartbeat_round=1, frames=b"x"), "heartbeat_round"),
    "a heartbeat with a place": (
        appending(heartbeat_round=1, prev_log_index=1, prev_log_term=1),
        "heartbeat_round",
    ),
    "a heartbeat that is a note": (appending(heartbeat_round=1, is_note=True), "heartbeat_round"),
    "an absurd round": (appending(heartbeat_round=2**63), "heartbeat_round is"),
    "a note with entries": (framed(command(1, b""), is_note=True), "is_note and entries"),
}


@pytest.mark.parametrize(("message", "text"), REFUSED.values(), ids=REFUSED)
def test_refuses(message: codec.RequestMessage, text: str) -> None:
    """What no tinyraft sends is refused, and the text names the field."""
    with pytest.raises(Malformed, match=text):
        codec.decode_request(message)


STREAMED: dict[str, tuple[pb.AppendStreamRequest, str]] = {
    "nothing": (pb.AppendStreamRequest(), "append or goodbye"),
    "both": (pb.AppendStreamRequest(append=appending(), goodbye=True), "append or goodbye"),
    "a second hello": (pb.AppendStreamRequest(hello=envelope()), "hello is set again"),
    "an envelope": (pb.AppendStreamRequest(append=appending()), "append.envelope is set"),
    "a heartbeat": (
        pb.AppendStreamRequest(append=pb.AppendEntriesRequest(term=1, heartbeat_round=1)),
        "append.heartbeat_round is set",
    ),
    "another leader": (
        pb.AppendStreamRequest(append=pb.AppendEntriesRequest(term=1, leader_id="z")),
        "append.leader_id is 'z', but 'a'",
    ),
    "term 0": (pb.AppendStreamRequest(append=pb.AppendEntriesRequest()), "term is 0"),
}


@pytest.mark.parametrize(("message", "text"), STREAMED.values(), ids=STREAMED)
def test_a_stream_refuses(message: pb.AppendStreamRequest, text: str) -> None:
    """A later message of a stream is an append of the hello's sender, or a goodbye."""
    with pytest.raises(Malformed, match=text):
        codec.decode_append(message, ENVELOPE)


HELLOS: dict[str, tuple[pb.AppendStreamRequest, str]] = {
    "nothing": (pb.AppendStreamRequest(), "hello is missing"),
    "a goodbye": (codec.goodbye(), "hello is missing"),
    "more": (pb.AppendStreamRequest(hello=envelope(), goodbye=True), "hello is missing"),
    "a bad one": (pb.AppendStreamRequest(hello=envelope(sender="")), "sender is empty"),
}


@pytest.mark.parametrize(("message", "text"), HELLOS.values(), ids=HELLOS)
def test_a_stream_starts_with_a_hello(message: pb.AppendStreamRequest, text: str) -> None:
    """The first message names the sender and says nothing else."""
    with pytest.raises(Malformed, match=text):
        codec.decode_hello(message)


@pytest.mark.parametrize(
    "message",
    [
        pb.VoteResponse(term=2**63),
        pb.PreVoteResponse(term=2**63),
        pb.TimeoutNowResponse(term=2**63),
        pb.AppendEntriesResponse(term=1, match_index=2**63),
        pb.AppendEntriesResponse(term=1, conflict_index=2**63),
        pb.AppendEntriesResponse(term=1, conflict_term=2**63),
        pb.AppendEntriesResponse(term=1, heartbeat_round=2**63),
    ],
)
def test_absurd_replies_are_refused(message: codec.ReplyMessage) -> None:
    """One absurd number must not move a term to where no election can follow."""
    with pytest.raises(Malformed, match=f" is {2**63}"):
        codec.decode_reply(message)


def test_a_digest_that_is_none_is_refused() -> None:
    """A leader keeps some of what a peer says: it must not be megabytes."""
    message = pb.AppendEntriesResponse(term=1, heartbeat_round=1, check_digest=bytes(17))
    with pytest.raises(Malformed, match="17 bytes"):
        codec.decode_reply(message)


def test_round_0_is_never_sent() -> None:
    """A heartbeat of round 0 would be read as an append of nothing."""
    with pytest.raises(AssertionError):
        codec.encode_request(Heartbeat(1, 0, 0), ENVELOPE)
    with pytest.raises(AssertionError):
        codec.encode_reply(HeartbeatReply(1, 0))


# --- what nobody sends ------------------------------------------------------------------------

MESSAGES: list[type[codec.RequestMessage]] = [
    pb.VoteRequest,
    pb.PreVoteRequest,
    pb.AppendEntriesRequest,
    pb.TimeoutNowRequest,
]
words = st.one_of(st.sampled_from([0, 1, 2, 3, 2**63 - 1, 2**63, 2**64 - 1]), st.integers(0, 9))
texts = st.one_of(st.sampled_from(["", "a", "b"]), st.text(max_size=70))
wild_envelopes = st.one_of(
    st.builds(envelope),
    st.builds(
        pb.Envelope, cluster_id=texts, sender=texts, recipient=texts, protocol=st.integers(0, 2)
    ),
)
wild_entries = st.builds(
    pb.LogEntry,
    index=words,
    term=words,
    cmd=st.binary(max_size=9),
    kind=st.integers(-1, 7),
    time_us=words,
    sequence=st.sampled_from([0, 0, 0, 1]),
)
wild_frames = st.one_of(
    st.just(b""),
    st.binary(max_size=80),
    st.lists(st.integers(1, 4).map(lambda index: command(index, b"x")), max_size=3).map(
        encode_entries
    ),
)
wild_appends = st.builds(
    pb.AppendEntriesRequest,
    term=words,
    leader_id=texts,
    prev_log_index=words,
    prev_log_term=words,
    log_entries=st.lists(wild_entries, max_size=3),
    leader_commit=words,
    heartbeat_round=words,
    envelope=wild_envelopes,
    frames=wild_frames,
)


def decodes_or_refuses(message: codec.RequestMessage) -> None:
    """Decode; a message that passes must be one that we could have sent."""
    try:
        decoded, sender = codec.decode_request(message)
    except Malformed:
        return
    again, _ = codec.decode_request(codec.encode_request(decoded, sender))
    assert decoded == again


def field(number: int, value: int | bytes) -> bytes:
    """Write one field as protobuf does: a length and as many bytes, or a varint of two bytes."""
    if isinstance(value, bytes):
        size = len(value)
        return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + value
    return bytes([number << 3, value & 0x7F | 0x80, value >> 7])


fields = st.builds(
    field,
    st.integers(1, 11),
    st.one_of(st.integers(0, 2**14 - 1), st.binary(max_size=60), ids.map(str.encode)),
)
nested = st.builds(field, st.integers(5, 9), st.lists(fields, max_size=4).map(b"".join))
garbage = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(fields, nested), max_size=8).map(b"".join),
)


@given(st.sampled_from(MESSAGES), garbage)
def test_garbage_is_refused(kind: type[codec.RequestMessage], data: bytes) -> None:
    """Bytes that protobuf can parse are a request or `Malformed`, never another exception."""
    try:
        message = kind.FromString(data)
    except DecodeError:
        return
    decodes_or_refuses(message)


@given(requests, envelopes, st.sampled_from(MESSAGES), st.data())
def test_damaged_requests_are_refused(
    request_: Request,
    sender: Envelope,
    kind: type[codec.RequestMessage],
    data: st.DataObject,
) -> None:
    """So is a good message with a byte changed, also when it reaches the wrong method."""
    damaged = bytearray(codec.encode_request(request_, sender).SerializeToString())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = kind.FromString(bytes(damaged))
    except DecodeError:
        return
    decodes_or_refuses(message)


@given(wild_appends)
def test_wild_appends_are_refused(message: pb.AppendEntriesRequest) -> None:
    """So is any well-formed message whose fields do not fit together."""
    decodes_or_refuses(message)


@given(wild_appends, st.booleans(), st.booleans())
def test_wild_streams_are_refused(
    message: pb.AppendEntriesRequest, sealed: bool, goodbye: bool
) -> None:
    """The stream's form is as strict as the call's."""
    if not sealed:
        message.ClearField("envelope")
        message.ClearField("leader_id")
        message.ClearField("heartbeat_round")
    streamed = pb.AppendStreamRequest(append=message, goodbye=goodbye)
    try:
        decoded = codec.decode_append(streamed, ENVELOPE)
    except Malformed:
        return
    assert decoded is not None
    assert decoded == codec.decode_append(codec.append(decoded), ENVELOPE)


@given(st.integers(0, 2), st.integers(codec.LONG_BYTES - 100, codec.LONG_BYTES + 100), terms)
def test_long_entries_go_out_without_protobuf_and_come_in_with_it(
    count: int, size: int, term: int
) -> None:
    """The bytes are those of the same message, on both sides of the length that decides."""
    entries = [
        make_entry(index=index, term=term, kind=EntryKind.COMMAND, command=bytes(size))
        for index in range(8, 8 + count)
    ]
    request = AppendEntries(term, 7, term, entries, 5)
    data = codec.append_on_wire(request)
    assert codec.append(request) == pb.AppendStreamRequest.FromString(data)


@given(st.integers(0, 2**32))
def test_the_head_of_a_field_is_protobufs(size: int) -> None:
    """However long the value is: a message of a field alone says so."""
    head = codec.field_head(pb.AppendEntriesRequest.FRAMES_FIELD_NUMBER, size % 5000)
    whole = pb.AppendEntriesRequest(frames=bytes(size % 5000)).SerializeToString()
    assert not size % 5000 or head + bytes(size % 5000) == whole
    assert codec.field_head(1, size)[1:] == _varint(size)


def _varint(number: int) -> bytes:
    """Take protobuf's own: a message of one unsigned field, without that field's number."""
    return pb.AppendEntriesRequest(term=number).SerializeToString()[1:] or b"\0"
