"""tinyraft in a Flask application.

Law: `Raft.init_app` opens and starts nothing, so that an application may be made as often as its
tests and commands like; the node starts in `Raft.start`, in the one process that serves requests.

    raft = Raft(Words)

    def create_app() -> Flask:
        app = Flask(__name__)
        raft.init_app(app)
        ...
        if should_start():
            raft.start(app)
        return app

A node is one process: run one worker with threads, and start it after the fork (no `--preload`). A
second process with the same data directory is refused with `DataDirLocked`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import TypeAlias

import click
from flask import Flask, Response, current_app, jsonify
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from tinyraft.config import SETTINGS, Config
from tinyraft.errors import (
    CommandTooLarge,
    MaybeApplied,
    NotApplied,
    NotStarted,
    ReadFailed,
    Rejected,
    TinyraftError,
)
from tinyraft.module import Module
from tinyraft.server import Server

__all__ = ["Node", "Raft", "should_start"]

Answer: TypeAlias = tuple[Response, int, dict[str, str]]

RETRY_AFTER = {"Retry-After": "1"}  # seconds; an election takes less

# What a view need not catch: the error, its HTTP status, what became of the command, headers.
ANSWERS: tuple[tuple[type[TinyraftError], int, str, dict[str, str]], ...] = (
    (CommandTooLarge, 413, "not-applied", {}),
    (Rejected, 409, "rejected", {}),
    (NotApplied, 503, "not-applied", RETRY_AFTER),  # Overloaded, NoQuorum, ...
    (ReadFailed, 503, "not-applied", RETRY_AFTER),
    (NotStarted, 503, "not-applied", RETRY_AFTER),
    (MaybeApplied, 504, "maybe-applied", {}),  # no Retry-After: doing it twice may be wrong
)


class Node:
    """The node of one application; ``app.extensions["tinyraft"]``."""

    def __init__(self, app: Flask, factory: Callable[[], Module]) -> None:
        """Prepare; the configuration is read by `start`."""
        self._app = app
        self._factory = factory
        self._lock = Lock()  # guards _server
        self._server: Server | None = None

    def start(self) -> None:
        """Start the node; for what this raises see `tinyraft.Server.start`."""
        with self._lock:
            server = Server(Config.from_env(variables(self._app)), self._factory())
            server.start()
            self._server = server

    def shutdown(self) -> None:
        """Shut the node down if it runs; the next `start` makes a new one from its disk."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    @property
    def server(self) -> Server:
        """The running node.

        Raises:
            NotStarted: There is none; views answer 503 then.
        """
        server = self._server
        if server is None:
            raise NotStarted("this application's node was not started; call Raft.start(app)")
        return server


class Raft:
    """The extension: gives every application that it is initialised with a node of its own.

    .. versionadded:: 0.1.0
    """

    def __init__(self, factory: Callable[[], Module], app: Flask | None = None) -> None:
        """Remember *factory*, a class or function that makes the state machine."""
        self._factory = factory
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Prepare *app*: its node, and answers for tinyraft's errors. Nothing is started.

        The settings are those of the environment, under the same names; one that ``app.config`` has
        counts instead.
        """
        app.extensions["tinyraft"] = Node(app, self._factory)
        for kind, status, outcome, headers in ANSWERS:
            app.register_error_handler(kind, answering(status, outcome, headers))

    def start(self, app: Flask) -> None:
        """Start the node of *app*. Call it in the process that serves; see `should_start`."""
        node_of(app).start()

    def shutdown(self, app: Flask) -> None:
        """Shut the node of *app* down. Without it that happens when the main thread ends."""
        node_of(app).shutdown()

    @property
    def server(self) -> Server:
        """The running node of the current application."""
        return node_of(current_app).server


def should_start() -> bool:
    """Tell whether this process is the one that serves requests.

    False in the parent of Flask's reloader and in commands that only look at the application, such
    as `flask routes`. `app.run(debug=True)` from a script can't be told apart in the reloader's
    parent: use `use_reloader=False` there.
    """
    if is_running_from_reloader():
        return True
    context = click.get_current_context(silent=True)
    if context is None:
        return True  # gunicorn, waitress, a script
    if context.info_name != "run":
        return False
    reload = context.params.get("reload")
    return not (get_debug_flag() if reload is None else reload)


def node_of(app: Flask) -> Node:
    """Find the node that `init_app` made."""
    node: Node = app.extensions["tinyraft"]
    return node


def variables(app: Flask) -> dict[str, str]:
    """Put the settings in ``app.config`` over those of the environment."""
    names = (setting.variable for setting in SETTINGS)
    given = {name: app.config[name] for name in names if app.config.get(name) is not None}
    return {**os.environ, **{name: written(value) for name, value in given.items()}}


def written(value: object) -> str:
    """Write *value* as it would stand in the environment."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def answering(
    status: int, outcome: str, headers: dict[str, str]
) -> Callable[[TinyraftError], Answer]:
    """Make a handler that says what became of the command."""

    def answer(error: TinyraftError) -> Answer:
        body = {"error": type(error).__name__, "message": str(error), "outcome": outcome}
        if isinstance(error, MaybeApplied) and error.request_id:
            body["request_id"] = error.request_id
        return jsonify(body), status, headers

    return answer
