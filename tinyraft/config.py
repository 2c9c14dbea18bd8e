"""What a node is told before it starts: `Config`, made by hand or from the environment.

Law: a `Config` that exists is valid, whoever made it, and says all that is wrong with it at once.
Reading one changes nothing: not `os.environ`, no file, no log (`Config.warnings` waits for a
logger). A new setting is a field here and a row in `settings.py`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values, find_dotenv

from tinyraft.addresses import (
    THIS_HOST,
    is_loopback,
    is_wildcard,
    join_address,
    parse_addresses,
    split_address,
)
from tinyraft.errors import ConfigError
from tinyraft.settings import MIB, SETTINGS, Faults, check_settings, parse_settings

__all__ = ["SETTINGS", "Config", "parse_addresses", "split_address"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one node. Immutable, and checked when it is made.

    Attributes:
        data_dir: Directory that keeps the node's data (``RAFT_DATA_DIR``). Required; taken as
            written, so ``~`` is not expanded.
        node_id: This node's id (``NODE_ID``): 1 to 64 letters, digits, ``.``, ``_`` or ``-``. ""
            takes the one in the data directory, which mints one when it is new.
        listen_address: Where gRPC listens (``NODE_LISTEN_ADDR``). ``:50051`` is all interfaces;
            with port 0 the system chooses.
        advertise_address: What other members dial (``NODE_ADVERTISE_ADDR``). "" derives it from
            `listen_address`; see `advertised`.
        bootstrap: Whether an empty data directory founds a new cluster (``RAFT_BOOTSTRAP``).
        join: Members that a node with an empty data directory asks to be let in (``RAFT_JOIN``).
        voter: Whether it asks to become a voter, else a learner (``RAFT_VOTER``).
        timeout: Election timeout in seconds, 0.05 to 600 (``RAFT_TIMEOUT_MS``, in milliseconds).
        max_command_bytes: Size of the longest command in bytes (``RAFT_MAX_COMMAND_BYTES``).
        max_pending_commands: How many commands may wait at the leader for their commit, and as many
            for its module, before it answers `Overloaded` (``RAFT_MAX_PENDING_COMMANDS``).
        max_pending_bytes: The same in bytes of commands (``RAFT_MAX_PENDING_BYTES``).
        snapshot_entries: After how many applied commands the module's state is written to disk, if
            it has a ``snapshot`` (``RAFT_SNAPSHOT_ENTRIES``).
        snapshot_bytes: After how many bytes of them, whichever comes first
            (``RAFT_SNAPSHOT_BYTES``).
        trailing_bytes: Bytes of log that stay behind a snapshot all the same, so that a member
            which lags a little needs no snapshot (``RAFT_TRAILING_BYTES``).
        disk_reserve_bytes: Free bytes on the file system of `data_dir` below which a leader answers
            `StorageFull` (``RAFT_DISK_RESERVE_BYTES``): room for two segments of the log and a
            snapshot. 0 looks at nothing.
        warnings: What is allowed but looks like a mistake; the server logs it. Neither compared nor
            shown.

    Raises:
        ConfigError: Something can't be used; all problems are in it.

    .. versionadded:: 0.1.0
    """

    data_dir: Path
    node_id: str = ""
    listen_address: str = ":50051"
    advertise_address: str = ""
    bootstrap: bool = False
    join: tuple[str, ...] = ()
    voter: bool = False
    timeout: float = 3.0
    max_command_bytes: int = MIB
    max_pending_commands: int = 10_000
    max_pending_bytes: int = 64 * MIB
    snapshot_entries: int = 100_000
    snapshot_bytes: int = 64 * MIB
    trailing_bytes: int = 16 * MIB
    disk_reserve_bytes: int = 256 * MIB
    warnings: tuple[str, ...] = field(init=False, default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what can't be used and bring the rest into one form."""
        given = {setting.field: getattr(self, setting.field) for setting in SETTINGS}
        values, faults = _validate(given)
        if faults:
            raise ConfigError([f"{name}={_short(given[name])}: {why}" for name, why in faults])
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "warnings", tuple(_misgivings(self)))

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        dotenv: str | os.PathLike[str] | bool | None = None,
        **overrides: Any,
    ) -> Self:
        """Read the configuration from the environment, which is never changed.

        A blank variable counts as unset, and hides the one of the same name in the `.env` file.

        Args:
            environ: The variables; ``None`` takes `os.environ`.
            dotenv: A `.env` file whose variables count where *environ* has none. ``True`` takes the
                nearest one from the current directory upwards, if there is any.
            **overrides: Fields of `Config` whose variables are not looked at.

        Raises:
            ConfigError: With every problem of every variable, each naming the variable, the value
                found and what would be right; or *dotenv* can't be read.
        """
        found = {**_read_dotenv(dotenv), **(os.environ if environ is None else environ)}
        values, faults = parse_settings(found, skip=overrides)
        broken = {name for name, _ in faults}
        defaults = {f.name: f.default for f in fields(cls) if f.init and f.default is not MISSING}
        complete = {name: value for name, value in defaults.items() if name not in broken}
        faults += _validate({**complete, **values, **overrides})[1]
        if faults:
            labels = _labels(found, overrides=overrides)
            raise ConfigError([f"{labels[name]}: {why}" for name, why in faults])
        config = cls(**values, **overrides)
        object.__setattr__(config, "warnings", (*config.warnings, *_strangers(found)))
        return config

    def advertised(self, bound_port: int) -> str:
        """Return the address that other members dial, now that *bound_port* is listening.

        The port counts only where none was configured. A wildcard host becomes 127.0.0.1 (`Config`
        refuses it where members on other machines are to dial it).
        """
        host, port = split_address(self.advertise_address or self.listen_address)
        return join_address(THIS_HOST if is_wildcard(host) else host, port or bound_port)


def _validate(given: Mapping[str, Any]) -> tuple[dict[str, Any], Faults]:
    """Check each value that is *given*, then those that depend on each other."""
    values, faults = check_settings(given)
    return values, [*faults, *_conflicts(values)]


def _conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find values that are right alone and wrong together; those that are missing are skipped."""
    if {"listen_address", "advertise_address", "join"} <= values.keys():
        host, _ = split_address(values["advertise_address"] or values["listen_address"])
        if is_wildcard(host) and not _all_loopback(values["join"]):
            yield (
                "advertise_address",
                "must name the host that members on other machines dial, as in 10.0.0.1:50051",
            )
    if {"max_command_bytes", "max_pending_bytes"} <= values.keys():
        least = values["max_command_bytes"]
        if values["max_pending_bytes"] < least:
            yield "max_pending_bytes", f"must be at least the longest command, {least}"


def _misgivings(config: Config) -> Iterator[str]:
    """Say what is allowed and looks like a mistake."""
    written = config.advertise_address or config.listen_address
    host, _ = split_address(written)
    if is_wildcard(host):
        yield (
            f"NODE_ADVERTISE_ADDR: {written!r} names no host, so {THIS_HOST} is advertised and"
            " members on other machines can't reach this node"
        )
    elif is_loopback(host) and not _all_loopback(config.join):
        yield (
            f"NODE_ADVERTISE_ADDR: {written!r} is advertised, which members on other machines"
            " can't reach, but RAFT_JOIN names some"
        )
    if config.data_dir.parts[:1] == ("~",):
        yield f"RAFT_DATA_DIR: '~' is not expanded; the directory is {str(config.data_dir)!r}"


def _all_loopback(addresses: Iterable[str]) -> bool:
    return all(is_loopback(split_address(address)[0]) for address in addresses)


def _strangers(names: Iterable[str]) -> Iterator[str]:
    """Name variables that look like ours and are not.

    Every RAFT_* counts. NODE_* belongs to others too (NODE_ENV, NODE_IP), so there only a near miss
    does: 0.86 lies just above the likeness of NODE_IP to NODE_ID.
    """
    known = [setting.variable for setting in SETTINGS]
    for name in sorted(set(names) - set(known)):
        upper = name.upper()
        cutoff = {"RAFT_": 0.75, "NODE_": 0.86}.get(upper[:5])
        if cutoff is None:
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=cutoff)
        hint = f"; did you mean {near[0]}?" if near else ""
        if near or upper.startswith("RAFT_"):
            yield f"{name} is no setting of tinyraft and was ignored{hint}"


def _labels(found: Mapping[str, str], *, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Say for each field where its value came from, and what it was."""
    labels = {}
    for setting in SETTINGS:
        name, variable = setting.field, setting.variable
        if name in overrides:
            labels[name] = f"{name}={_short(overrides[name])}"
        elif variable in found:
            labels[name] = f"{variable}={_short(found[variable])}"
        else:
            default = f", so {setting.default}" if setting.default else ""
            labels[name] = f"{variable} (unset{default})"
    return labels


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_dotenv(dotenv: str | os.PathLike[str] | bool | None) -> dict[str, str]:
    """Return the variables of a `.env` file; names without a value are not set."""
    path = (find_dotenv(usecwd=True) or None) if dotenv is True else dotenv
    if path is None or path is False:
        return {}
    try:
        # Opened here: dotenv_values takes a missing file for an empty one. With or without a BOM.
        with Path(path).open(encoding="utf-8-sig") as stream:
            values = dotenv_values(stream=stream)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"dotenv={os.fspath(path)!r}: can't be read: {error}"]) from error
    return {name: value for name, value in values.items() if value is not None}
