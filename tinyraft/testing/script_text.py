"""How the data files write messages, entries, writes and configurations, and how these are read.

Law: what is printed can be pasted as input; a field that is not printed is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from tinyraft.core.configuration import Configuration, Member
from tinyraft.core.effects import Write
from tinyraft.core.entry import Entry, EntryKind, NodeId, make_entry
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

Message = Request | Reply

MESSAGES: dict[str, type] = {
    "vote": RequestVote,
    "vote_reply": VoteReply,
    "pre_vote": RequestPreVote,
    "pre_vote_reply": PreVoteReply,
    "append": AppendEntries,
    "append_reply": AppendReply,
    "heartbeat": Heartbeat,
    "heartbeat_reply": HeartbeatReply,
    "timeout_now": TimeoutNow,
    "timeout_now_reply": TimeoutNowReply,
    "install": InstallSnapshot,
    "install_reply": InstallReply,
}
NAMES = {kind: name for name, kind in MESSAGES.items()}
REPLIES = (VoteReply, PreVoteReply, AppendReply, HeartbeatReply, TimeoutNowReply, InstallReply)
SHORT = {"commit_index": "commit", "match_index": "match", "success": "ok", "is_note": "note"}
RARE = {"is_full", "note", "check_index", "check_digest"}  # shown only where they are there
WORD = re.compile(r"[a-z_]+=\[.*?\](?=\s|$)|\d+/\d+ (?:noop|config\([^)]*\))|\S+")


class ScriptError(Exception):
    """The script itself makes no sense."""


def show_configuration(configuration: Configuration) -> str:
    """Name the members: ``1 2 ~3 ~+4``, and behind them who was removed: ``-5``."""
    members = " ".join(
        ("" if m.voter else "~+" if m.wants_vote else "~") + m.id for m in configuration.members
    )
    return members + "".join(f" -{node}" for node in configuration.removed)


def read_configuration(text: str) -> Configuration:
    """Read what `show_configuration` wrote."""
    members = (
        Member(NodeId(name), f"host{name}", not sign, "+" in sign)
        for sign, name in re.findall(r"(?<!\S)(~?\+?)(\w+)", text)
    )
    removed = (NodeId(name) for name in re.findall(r"(?<!\S)-(\w+)", text))
    return Configuration(tuple(members), tuple(removed))


def show_entry(entry: Entry) -> str:
    """Write one entry."""
    place = f"{entry.index}/{entry.term}"
    if entry.kind is EntryKind.CONFIGURATION:
        return f"{place} config({show_configuration(Configuration.decode(entry.command))})"
    return f"{place} noop" if entry.kind is EntryKind.NOOP else f"{place}:{entry.command.decode()}"


def show_entries(entries: Iterable[Entry]) -> str:
    """Write a list of entries."""
    return f"[{', '.join(map(show_entry, entries))}]"


def read_entry(text: str) -> Entry:
    """Read what `show_entry` wrote."""
    found = re.fullmatch(r"(\d+)/(\d+)(?::(\S*)| (noop)| config\((.*)\))", text)
    if found is None:
        raise ScriptError(f"{text!r} is no entry")
    index, term, command, noop, members = found.groups()
    kind, value = EntryKind.COMMAND, (command or "").encode()
    if noop:
        kind = EntryKind.NOOP
    elif members is not None:
        kind, value = EntryKind.CONFIGURATION, read_configuration(members).encode()
    return make_entry(index=int(index), term=int(term), kind=kind, command=value)


def show_message(message: Message) -> str:
    """Write a message: its name, then its fields."""
    words = [NAMES[type(message)]]
    for field in fields(message):
        value = getattr(message, field.name)
        name = SHORT.get(field.name, field.name)
        if name in RARE and not value:
            continue
        if name.endswith("_term"):
            words[-1] += f"/{value}"  # behind its index: prev=3/2
        elif isinstance(value, bool):
            words.append(f"{name}={'yes' if value else 'no'}")
        elif field.name == "entries":
            words.append(f"entries={show_entries(value)}")
        elif field.name in ("id", "size", "offset", "data"):
            continue  # a script's snapshots come in one piece
        else:
            words.append(f"{name.removesuffix('_index')}={value}")
    return " ".join(words)


def read_message(words: Sequence[str]) -> Any:
    """Read what `show_message` wrote; a field that is left out is 0, no or empty."""
    kind, given = MESSAGES[words[0]], dict(word.split("=", 1) for word in words[1:])
    values: dict[str, object] = {}
    for field in fields(kind):
        name = SHORT.get(field.name, field.name)
        if name.endswith(("_index", "_term")):
            place = given.get(name.rpartition("_")[0], "0/0").split("/")
            values[field.name] = int(place[name.endswith("_term")])
        elif field.name == "entries":
            inside = given.get("entries", "[]")[1:-1]
            values[field.name] = [read_entry(text) for text in inside.split(", ") if text]
        elif field.name == "data":
            values["data"] = b""
        else:
            text = given.get(name, "0")
            values[field.name] = text == "yes" if field.type == "bool" else int(text)
    return kind(**values)


def show_write(write: Write) -> str:
    """Write what goes to the disk, in the order in which it goes."""
    words = [f"mark={write.mark}"]
    if write.hard_state is not None:
        words.append(f"term={write.hard_state.term} vote={write.hard_state.voted_for or '-'}")
    if write.base is not None:
        words.append(f"base={write.base[0]}/{write.base[1]}")
    if write.cut_from is not None:
        words.append(f"cut={write.cut_from}")
    if write.entries:
        words.append(show_entries(write.entries))
    return " ".join(words)


def is_vote(message: Message) -> bool:
    """Tell whether *message* belongs to an election."""
    return isinstance(message, RequestVote | VoteReply | RequestPreVote | PreVoteReply)
