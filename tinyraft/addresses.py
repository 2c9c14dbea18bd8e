"""Addresses as people write them: `host:port`, `[IPv6]:port`, and Go's `:port`.

Law: text only; nothing is resolved or dialled here. gRPC takes port 99999 modulo 65536 and finds
fault with a host only when it dials, so both are checked before it sees them.
"""

from __future__ import annotations

import ipaddress
import re

from tinyraft.errors import ConfigError

THIS_HOST = "127.0.0.1"

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PORT = re.compile(r"[0-9]{1,5}")


def split_address(text: str) -> tuple[str, int]:
    """Take *text* apart into host and port.

    The host comes without the brackets of IPv6, and is "" in the form `:port`. Port 0 passes: only
    who listens may use it (`dialled` refuses it).

    Raises:
        ConfigError: It is no address; the message quotes it and says what would be right.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        raise ConfigError([f"{text!r} must have the form host:port, [IPv6]:port or :port"])
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ConfigError([f"the port of {text!r} must be a number from 0 to 65535"])
    return _bare_host(host, text=text), int(port)


def join_address(host: str, port: int) -> str:
    """Put together what `split_address` took apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dialled(text: str) -> str:
    """Return *text* in the form that is dialled; an address without a host means this host.

    Raises:
        ConfigError: It is no address, or its port is 0.
    """
    host, port = split_address(text)
    if port == 0:
        raise ConfigError([f"the port of {text!r} must be from 1 to 65535, because it is dialled"])
    return join_address(THIS_HOST if is_wildcard(host) else host, port)


def parse_addresses(text: str) -> tuple[str, ...]:
    """Return the addresses to dial in a comma-separated list, in order and each once.

    Blanks and empty items mean nothing: "" is no address, not one empty address.

    Raises:
        ConfigError: With one problem for each item that is no address.
    """
    found: dict[str, None] = {}
    problems: list[str] = []
    for item in filter(None, map(str.strip, text.split(","))):
        try:
            found[dialled(item)] = None
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def is_wildcard(host: str) -> bool:
    """Tell whether *host* means "all interfaces", so that nobody else can dial it."""
    ip = _ip(host)
    return not host or (ip is not None and ip.is_unspecified)


def is_loopback(host: str) -> bool:
    """Tell whether *host* reaches only this machine; a name is not resolved to find out."""
    ip = _ip(host)
    return host.lower() == "localhost" or (ip is not None and ip.is_loopback)


def _bare_host(host: str, *, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        bare = host[1:-1]
        if ":" not in bare or _ip(bare) is None:
            raise ConfigError([f"the brackets of {text!r} must hold an IPv6 address"])
        return bare
    if _ip(host) is not None and ":" in host:
        raise ConfigError([f"the IPv6 address in {text!r} must stand in brackets: [::1]:50051"])
    looks_like_ip = host.replace(".", "").isdigit()
    if host and (not _NAME.fullmatch(host) or (looks_like_ip and _ip(host) is None)):
        raise ConfigError([f"the host of {text!r} must be a name, an IPv4 address or [IPv6]"])
    return host


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
