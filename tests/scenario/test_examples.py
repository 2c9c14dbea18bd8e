"""What the README and the examples tell people to do works as it is written there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import PATIENCE, free_ports, wait
from tinyraft.transport import admin

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that end with the test."""
    with ExitStack() as ending:

        def start_one(*command: str | Path, log: str = "log", **environ: str) -> Any:
            output = ending.enter_context((tmp_path / log).open("ab"))
            plain = {k: v for k, v in os.environ.items() if not k.startswith(("RAFT_", "NODE_"))}
            program = subprocess.Popen(
                [str(part) for part in command],
                env={**plain, "PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "ERROR", **environ},
                stdout=output,
                stderr=output,
                cwd=tmp_path,
                process_group=0,
            )
            ending.callback(end_group, program)
            return program

        yield start_one


def end_group(program: subprocess.Popen[bytes]) -> None:
    """End a program with all its children."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait(PATIENCE)


def ask(port: int, path: str, data: bytes | None = None) -> tuple[int, bytes]:
    """Send a request; 0 while nobody listens."""
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def words_at(port: int) -> list[str]:
    """Read the words of one node."""
    status, body = ask(port, "/word/")
    return json.loads(body) if status == 202 else []


def post(port: int, word: bytes) -> None:
    """Add a word as soon as somebody takes it."""
    wait(lambda: ask(port, "/word", word)[0] == 201, f"{word!r} is taken at {port}")


def test_the_word_tracker(start: Start, tmp_path: Path) -> None:
    """A founder, a voter and a learner: any takes a word, all have it, also after kill -9."""
    ports, https = free_ports(["127.0.0.1"] * 3), free_ports(["127.0.0.1"] * 3)

    def run(node: int) -> Any:
        more = {"RAFT_JOIN": f"127.0.0.1:{ports[0]}"} if node else {"RAFT_BOOTSTRAP": "true"}
        return start(
            sys.executable,
            EXAMPLES / "word_tracker.py",
            NODE_ID=f"n{node}",
            NODE_LISTEN_ADDR=f"127.0.0.1:{ports[node]}",
            RAFT_DATA_DIR=str(tmp_path / f"n{node}"),
            RAFT_TIMEOUT_MS="500",
            RAFT_VOTER="true" if node == 1 else "false",
            PORT=str(https[node]),
            **more,
        )

    nodes = [run(0), run(1), run(2)]
    for port, word in zip(https, [b"one", b"two", b"three"], strict=True):
        post(port, word)
    assert 409 == ask(https[2], "/word", b"")[0]
    assert 404 == ask(https[0], "/other")[0]
    for port in https:
        wait(lambda p=port: words_at(p) == ["one", "two", "three"], "all have all words")
    nodes[0].kill()
    nodes[0].wait(PATIENCE)
    nodes[0] = run(0)
    post(https[0], b"four")
    wait(lambda: words_at(https[2]) == ["one", "two", "three", "four"], "the learner has it")
    for node in reversed(nodes):
        node.send_signal(signal.SIGTERM)
        assert 0 == node.wait(PATIENCE)


def test_plain_threads(start: Start, tmp_path: Path) -> None:
    """What an earlier run counted is there in the next."""
    for run in (1, 2):
        program = start(
            sys.executable,
            EXAMPLES / "plain_threads.py",
            log=f"run-{run}",
            RAFT_DATA_DIR=str(tmp_path / "counter"),
            RAFT_BOOTSTRAP="true",
            NODE_LISTEN_ADDR=f"127.0.0.1:{free_ports(['127.0.0.1'])[0]}",
        )
        assert 0 == program.wait(PATIENCE)
        said = (tmp_path / f"run-{run}").read_text()
        for worker in range(1, 5):
            assert f"worker-{worker} {25 * run}\n" in said


def test_a_job_runs_on_one_node(start: Start, tmp_path: Path) -> None:
    """Its steps are numbered without a gap, by one node a token, and it outlives a kill -9."""
    ports = free_ports(["127.0.0.1"] * 3)

    def run(node: int) -> Any:
        more = {"RAFT_JOIN": f"127.0.0.1:{ports[0]}"} if node else {"RAFT_BOOTSTRAP": "true"}
        return start(
            sys.executable,
            EXAMPLES / "one_job.py",
            log=f"log-{node}",
            NODE_ID=f"n{node}",
            NODE_LISTEN_ADDR=f"127.0.0.1:{ports[node]}",
            RAFT_DATA_DIR=str(tmp_path / f"n{node}"),
            RAFT_TIMEOUT_MS="500",
            RAFT_VOTER="true",
            PAUSE="0.02",
            **more,
        )

    def steps() -> list[tuple[int, str, int]]:
        """Read who did which step, under which token."""
        said = "\n".join((tmp_path / f"log-{node}").read_text() for node in range(3))
        found = re.findall(r"step (\d+) by (n\d), token (\d+)", said)
        return sorted((int(step), by, int(token)) for step, by, token in found)

    nodes = [run(0), run(1), run(2)]
    address = f"127.0.0.1:{ports[0]}"

    def has_three_voters() -> bool:
        status = admin.ask(address, timeout=1.0)
        return status is not None and [m.voter for m in status.members] == [True] * 3

    wait(has_three_voters, "all vote")
    wait(lambda: len(steps()) > 5, "it is being done")
    nodes[0].kill()
    nodes[0].wait(PATIENCE)
    seen = len(steps())
    wait(lambda: len(steps()) > seen + 5, "another does it")
    for node in nodes[1:]:
        node.send_signal(signal.SIGTERM)
        assert 0 == node.wait(PATIENCE)
    done = steps()
    assert len({step for step, _, _ in done}) == len(done), "no step was done twice"
    tokens = [token for _, _, token in done]
    assert sorted(tokens) == tokens
    owners = {token: by for _, by, token in done}
    assert {(token, by) for _, by, token in done} == set(owners.items()), "one node a token"
    assert len(set(owners.values())) > 1


def test_a_plain_grpc_client(start: Start, tmp_path: Path, make_cluster: Any) -> None:
    """Without tinyraft it finds the leader and has a word applied, also after a kill -9."""
    cluster = make_cluster()
    addresses = ",".join(cluster.addresses)

    def send(word: str) -> str:
        client = start(sys.executable, EXAMPLES / "plain_grpc_client.py", addresses, word, log=word)
        assert 0 == client.wait(PATIENCE), (tmp_path / word).read_text()
        return (tmp_path / word).read_text()

    leader = cluster.leader()
    assert send("one") == f"leader: {cluster.addresses[leader]}\napplied\n"
    cluster.kill(leader)
    new = cluster.leader()
    assert send("two") == f"leader: {cluster.addresses[new]}\napplied\n"
    assert b"one\ntwo" == cluster.query(new)


SERVERS = {
    "flask run": ["-m", "flask", "--app", "flask_words.py", "run"],
    "the reloader": ["-m", "flask", "--app", "flask_words.py", "run", "--debug"],
    "gunicorn": ["-m", "gunicorn", "--config", "gunicorn.conf.py"],
}


@pytest.mark.parametrize("name", SERVERS)
def test_flask(start: Start, tmp_path: Path, name: str) -> None:
    """One node in the process that serves; the words outlive it, and it ends in time."""
    shutil.copytree(EXAMPLES, tmp_path / "app")
    http, port = free_ports(["127.0.0.1"] * 2)
    environ = {
        "RAFT_DATA_DIR": str(tmp_path / "data"),
        "RAFT_BOOTSTRAP": "true",
        "NODE_LISTEN_ADDR": f"127.0.0.1:{port}",
        "PORT": str(http),
        "FLASK_RUN_PORT": str(http),
    }
    log = tmp_path / "log"
    command = [sys.executable, *SERVERS[name]]
    where = [str(tmp_path / "app" / part) if part.endswith(".py") else part for part in command]
    for run in (1, 2):
        server = start(*where, **environ)
        post(http, b"word %d" % run)
        assert 409 == ask(http, "/word", b"")[0]
        if name == "the reloader":
            (tmp_path / "app" / "flask_words.py").touch()
            wait(lambda r=run: log.read_text().count("Restarting with") >= 2 * r, "it reloads")
            wait(lambda: words_at(http), "it serves again")
        assert [f"word {n}" for n in range(1, run + 1)] == words_at(http)
        if name == "gunicorn":
            # The master alone, as a supervisor does. Ctrl-C signals the worker twice, and its own
            # handler of the second may wait for a lock that the first one holds.
            server.send_signal(signal.SIGTERM)
        else:
            os.killpg(server.pid, signal.SIGINT)  # as a terminal does
        server.wait(PATIENCE)
        assert "DataDirLocked" not in log.read_text()


def test_the_readme(start: Start, tmp_path: Path) -> None:
    """Its program runs as it stands there, and is reached from elsewhere."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    first, second, compact = blocks
    first = first.replace("from_env(), Words()", "from_env(), CompactWords()")
    port = free_ports(["127.0.0.1"])[0]
    code = f"{first}\n{compact}\n{second.replace('127.0.0.1:50052', f'127.0.0.1:{port}')}\n"
    here = "print(server.read(lambda words: list(words.words)))  # linearizable, too\n"
    more = f"{here}        from_elsewhere()\n        server.snapshot()\n        {here}"
    program = code.replace(here, more) + "\nmain()\n"
    assert 2 == program.count(here)
    (tmp_path / "app.py").write_text(program)
    app = start(
        sys.executable,
        tmp_path / "app.py",
        NODE_ID="n1",
        NODE_LISTEN_ADDR=f"127.0.0.1:{port}",
        RAFT_DATA_DIR=str(tmp_path / "n1"),
        RAFT_BOOTSTRAP="true",
    )
    code_of_end = app.wait(PATIENCE)
    said = (tmp_path / "log").read_text()
    assert 0 == code_of_end, said
    assert ["b'1'", "['hello']", "['hello', 'world']"] == said.splitlines()[-3:]
