"""The table of settings: which variable fills which field, how it is read, what it must be.

Law: a row looks at its own value alone (`config.py` compares values with each other) and touches
nothing else. README and command line print this table; there is no other list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tinyraft.addresses import parse_addresses, split_address

MIB = 1024 * 1024

Faults: TypeAlias = list[tuple[str, str]]  # (field, what would be right)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of `SETTINGS`.

    Attributes:
        variable: Its name in the environment.
        field: Its name in `Config`.
        default: What counts when it is unset, as it would be written in the environment.
        meaning: What it does, with its unit.
        parse: From the variable's text to a value; raises `ValueError` with what would be right.
        check: From a value to the one that is kept; raises the same.
    """

    variable: str
    field: str
    default: str
    meaning: str
    parse: Callable[[str], object]
    check: Callable[[Any], object]


def parse_settings(found: Mapping[str, str], *, skip: Container[str]) -> tuple[Any, Faults]:
    """Turn the variables of *found* that are not blank into values; *skip* names fields."""
    values: dict[str, Any] = {}
    faults: Faults = []
    for setting in SETTINGS:
        text = found.get(setting.variable, "").strip()
        if setting.field in skip:
            continue
        if text:
            try:
                values[setting.field] = setting.parse(text)
            except ValueError as error:
                faults.append((setting.field, str(error)))
        elif setting.field == "data_dir":
            faults.append((setting.field, "is required; name a directory that outlives the node"))
    return values, faults


def check_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], Faults]:
    """Bring the values of *given* into the form that is kept."""
    values: dict[str, Any] = {}
    faults: Faults = []
    for setting in SETTINGS:
        if setting.field in given:
            try:
                values[setting.field] = setting.check(given[setting.field])
            except ValueError as error:
                faults.append((setting.field, str(error)))
    return values, faults


def _flag(text: str) -> bool:
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false (or 1, 0, yes, no, on, off)")


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError("must be a whole number, in digits only")
    return int(text)


def _milliseconds(text: str) -> float:
    return _whole(text) / 1000


def _typed(value: Any, *kinds: type) -> Any:
    """Refuse another type: the text "false" would be true, and True would be the number 1."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"must be of type {names}, not {type(value).__name__}")
    return value


def _check_node_id(value: Any) -> str:
    text: str = _typed(value, str).strip()
    if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise ValueError(
            "must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return text


def _check_listen(value: Any) -> str:
    text: str = _typed(value, str).strip()
    split_address(text)
    return text


def _check_advertise(value: Any) -> str:
    text: str = _typed(value, str).strip()
    if text and split_address(text)[1] == 0:
        raise ValueError("the port must be from 1 to 65535; leave it unset to follow the listener")
    return text


def _check_flag(value: Any) -> bool:
    return bool(_typed(value, bool))


def _check_join(value: Any) -> tuple[str, ...]:
    return parse_addresses(",".join(_typed(item, str) for item in _typed(value, tuple, list)))


def _check_data_dir(value: Any) -> Path:
    path = Path(_typed(value, str, Path))
    if not str(value).strip():
        raise ValueError("must name a directory")
    return path


def _check_timeout(value: Any) -> float:
    seconds = _typed(value, int, float)
    if not 0.05 <= seconds <= 600:
        raise ValueError("must be from 50 to 600000 milliseconds (0.05 to 600 seconds)")
    return float(seconds)


def _between(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        number: int = _typed(value, int)
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}")
        return number

    return check


SETTINGS: tuple[Setting, ...] = (
    Setting(
        variable="NODE_ID",
        field="node_id",
        default="",
        meaning="this node's id; unset: the data directory's, which mints one",
        parse=str,
        check=_check_node_id,
    ),
    Setting(
        variable="NODE_LISTEN_ADDR",
        field="listen_address",
        default=":50051",
        meaning="where gRPC listens; :port is all interfaces, port 0 lets the system choose",
        parse=str,
        check=_check_listen,
    ),
    Setting(
        variable="NODE_ADVERTISE_ADDR",
        field="advertise_address",
        default="",
        meaning="host:port that other members dial; unset: the listen address",
        parse=str,
        check=_check_advertise,
    ),
    Setting(
        variable="RAFT_BOOTSTRAP",
        field="bootstrap",
        default="false",
        meaning="true: an empty data directory founds a new cluster",
        parse=_flag,
        check=_check_flag,
    ),
    Setting(
        variable="RAFT_JOIN",
        field="join",
        default="",
        meaning="members (host:port, ...) that an empty data directory asks to be let in, and"
        " through which a node that moved is found",
        parse=parse_addresses,
        check=_check_join,
    ),
    Setting(
        variable="RAFT_VOTER",
        field="voter",
        default="false",
        meaning="true: join as a voter; false: as a learner, which does not vote",
        parse=_flag,
        check=_check_flag,
    ),
    Setting(
        variable="RAFT_DATA_DIR",
        field="data_dir",
        default="",
        meaning="directory that keeps the node's data; required",
        parse=Path,
        check=_check_data_dir,
    ),
    Setting(
        variable="RAFT_TIMEOUT_MS",
        field="timeout",
        default="3000",
        meaning="election timeout in milliseconds, 50 to 600000",
        parse=_milliseconds,
        check=_check_timeout,
    ),
    Setting(
        variable="RAFT_MAX_COMMAND_BYTES",
        field="max_command_bytes",
        default=str(MIB),
        meaning="size of the longest command in bytes",
        parse=_whole,
        check=_between(1, 256 * MIB),
    ),
    Setting(
        variable="RAFT_MAX_PENDING_COMMANDS",
        field="max_pending_commands",
        default="10000",
        meaning="commands that may wait at the leader for their commit, and as many for the module",
        parse=_whole,
        check=_between(1, 10_000_000),
    ),
    Setting(
        variable="RAFT_MAX_PENDING_BYTES",
        field="max_pending_bytes",
        default=str(64 * MIB),
        meaning="bytes of commands that may wait at the leader, likewise",
        parse=_whole,
        check=_between(1, 1024 * 1024 * MIB),
    ),
    Setting(
        variable="RAFT_SNAPSHOT_ENTRIES",
        field="snapshot_entries",
        default="100000",
        meaning="applied commands after which the module's state is written to disk",
        parse=_whole,
        check=_between(1, 10**12),
    ),
    Setting(
        variable="RAFT_SNAPSHOT_BYTES",
        field="snapshot_bytes",
        default=str(64 * MIB),
        meaning="bytes of applied commands after which it is, whichever comes first",
        parse=_whole,
        check=_between(1, 1024 * 1024 * MIB),
    ),
    Setting(
        variable="RAFT_TRAILING_BYTES",
        field="trailing_bytes",
        default=str(16 * MIB),
        meaning="bytes of log that stay for members that lag a little",
        parse=_whole,
        check=_between(0, 1024 * 1024 * MIB),
    ),
    Setting(
        variable="RAFT_DISK_RESERVE_BYTES",
        field="disk_reserve_bytes",
        default=str(256 * MIB),
        meaning="free bytes below which a leader takes no commands; 0 looks at nothing",
        parse=_whole,
        check=_between(0, 1024 * 1024 * MIB),
    ),
)
