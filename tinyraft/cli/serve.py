"""`tinyraft serve`: one node as a process of its own.

Law: the node's settings come from the environment alone. Every way to end (a signal, the parent's
end, a failure) goes through `Server.shutdown`, which hands leadership over.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import click

from tinyraft.cli.exits import USAGE, Fault
from tinyraft.config import Config
from tinyraft.module import Module
from tinyraft.server import Server

LISTENS = "{} listens at {}"  # the one line on stdout
LOOK_SECONDS = 1.0  # how soon a node that has failed is noticed
ORPHAN_SECONDS = 15.0  # shutdown is bounded by about 6; longer means that it hangs


def log_to_stderr(level: str) -> None:
    """Configure logging for this process."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s %(message)s",
    )


def serve(target: str, *, env_file: str | None, with_parent: bool) -> None:
    """Run a node with the state machine of *target* until the process is told to end."""
    bell = Bell()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bell.ring())
    if with_parent:
        threading.Thread(
            target=follow_parent, args=(bell,), name="tinyraft-parent", daemon=True
        ).start()
    config = Config.from_env(dotenv=env_file)
    with Server(config, load(target)) as server:
        started = server.status()
        click.echo(LISTENS.format(started.node_id, started.address))
        while not bell.wait(LOOK_SECONDS):
            said = server.status()
            if said.failed and not said.diverged:  # that one is of use as long as it replicates
                raise Fault(f"the node stopped working: {said.failed}")


class Bell:
    """Rung once to end the process.

    A socket, not an `Event`: a signal's handler runs in the middle of the main thread's `wait`,
    where it could meet an event's lock taken by the very thread that it interrupts.
    """

    def __init__(self) -> None:
        """Not rung yet."""
        self._waits, self._rings = socket.socketpair()

    def ring(self) -> None:
        """Ring; may be called by a signal's handler and by any thread."""
        self._rings.send(b".")

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds; tell whether it was rung."""
        self._waits.settimeout(timeout)
        try:
            return bool(self._waits.recv(1))
        except TimeoutError:
            return False


def follow_parent(bell: Bell) -> None:
    """Ring when standard input ends, as it does when the process that holds it dies."""
    try:
        while os.read(0, 1024):
            pass
    except OSError:
        pass  # closed from the start: nobody holds it
    bell.ring()
    threading.Event().wait(ORPHAN_SECONDS)
    os._exit(1)  # nobody is left who could end a process that hangs


# --- MODULE:FACTORY ---------------------------------------------------------------------------


def load(target: str) -> Module:
    """Import the factory that *target* names and call it.

    What the user's own code raises is not caught: its traceback says more than we could.

    Raises:
        Fault: There is no such factory, or it makes no state machine.
    """
    name, _, path = target.partition(":")
    if not name or not path:
        raise wrong(target, "must be MODULE:FACTORY, as in words:Words")
    factory = import_module(target, name)
    for part in path.split("."):
        if not hasattr(factory, part):
            raise wrong(target, f"{getattr(factory, '__name__', name)} has no {part!r}")
        factory = getattr(factory, part)
    if not callable(factory):
        raise wrong(target, "can't be called; name a class, or a function that makes the module")
    module: object = factory()
    if not isinstance(module, Module):
        raise wrong(target, f"made a {type(module).__name__}, which has no apply(command) method")
    return module


def import_module(target: str, name: str) -> object:
    """Import *name*, from the current directory too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise  # an import inside the user's module
        raise wrong(target, f"no module {missing!r}, neither installed nor in {here}") from error


def wrong(target: str, why: str) -> Fault:
    """Make the error about a *target* that can't be used."""
    return Fault(f"{target!r}: {why}", code=USAGE)
