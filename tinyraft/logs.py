"""Where log lines go: the application's structlog if it configured one, else the standard library.

Law: a library configures nothing and prints nothing by itself; unconfigured, only warnings reach
stderr. Events are short verbs, facts are fields; never the bytes of a command.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

RENDER = structlog.processors.KeyValueRenderer(key_order=["event"])


def one_line(logger: Any, method: str, facts: Any) -> tuple[tuple[object], dict[str, Any]]:
    """Write the facts in one line; the standard library puts the traceback below it."""
    exc_info = facts.pop("exc_info", None)
    return (RENDER(logger, method, facts),), {"exc_info": exc_info}


class Log:
    """Log lines of one part of one node. Thread-safe."""

    def __init__(self, part: str, **facts: object) -> None:
        """Bind *facts*, such as the node's id, to every line."""
        # Not bound yet: that would keep what structlog was before the application set it up.
        self._ours = structlog.stdlib.get_logger(f"tinyraft.{part}", **facts)
        self._plain: Any = structlog.wrap_logger(
            logging.getLogger(f"tinyraft.{part}"),
            processors=[
                structlog.stdlib.filter_by_level,
                one_line,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        ).bind(**facts)

    def _logger(self) -> Any:
        return self._ours if structlog.is_configured() else self._plain

    def debug(self, event: str, **facts: object) -> None:
        """Log something of each message."""
        self._logger().debug(event, **facts)

    def info(self, event: str, **facts: object) -> None:
        """Log a change of state."""
        self._logger().info(event, **facts)

    def warning(self, event: str, **facts: object) -> None:
        """Log what an operator may have to act on."""
        self._logger().warning(event, **facts)

    def error(self, event: str, **facts: object) -> None:
        """Log why the node stopped working."""
        self._logger().error(event, **facts)
