"""The word tracker: a replicated list of words behind a small HTTP server.

    POST /word    the body is a word; 201 when a majority has it on disk
    GET  /word/   the words, as this node knows them; 202

Found a cluster, and let two voters and a learner join (each in a shell of its own):

    NODE_ID=n1 NODE_LISTEN_ADDR=127.0.0.1:50051 RAFT_DATA_DIR=/tmp/words/n1 PORT=8000 \
        RAFT_BOOTSTRAP=true python examples/word_tracker.py

    NODE_ID=n2 NODE_LISTEN_ADDR=127.0.0.1:50052 RAFT_DATA_DIR=/tmp/words/n2 PORT=8001 \
        RAFT_JOIN=127.0.0.1:50051 RAFT_VOTER=true python examples/word_tracker.py

    NODE_ID=n3 NODE_LISTEN_ADDR=127.0.0.1:50053 RAFT_DATA_DIR=/tmp/words/n3 PORT=8002 \
        RAFT_JOIN=127.0.0.1:50051 RAFT_VOTER=true python examples/word_tracker.py

    NODE_ID=n4 NODE_LISTEN_ADDR=127.0.0.1:50054 RAFT_DATA_DIR=/tmp/words/n4 PORT=8003 \
        RAFT_JOIN=127.0.0.1:50051 python examples/word_tracker.py

Then, at any node:

    curl --data hello http://127.0.0.1:8001/word
    curl http://127.0.0.1:8003/word/

Kill a node with -9 and start it again with the same command: the words are still there. HTTP_ADDR
(host:port) says where HTTP listens; PORT changes the port alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import tinyraft


class WordTracker:
    """The state machine: appends every command to a list."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def apply(self, command: bytes) -> None:
        if not command:
            raise tinyraft.Rejected("an empty word")
        self.words.append(command.decode(errors="replace"))


class HttpServer(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], raft: tinyraft.Server) -> None:
        super().__init__(address, Handler)
        self.raft = raft


class Handler(BaseHTTPRequestHandler):
    server: HttpServer

    def do_POST(self) -> None:
        if self.path != "/word":
            self.answer(404, "POST /word")
            return
        word = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.server.raft.apply(word, timeout=10)
        except tinyraft.Rejected as error:
            self.answer(409, str(error))
        except tinyraft.NotApplied as error:  # certain: nothing happened, so it may be sent again
            self.answer(503, str(error))
        except tinyraft.MaybeApplied as error:  # unknown: whoever sent it must decide
            self.answer(504, str(error))
        else:
            self.answer(201, "")

    def do_GET(self) -> None:
        if self.path != "/word/":
            self.answer(404, "GET /word/")
            return
        words = self.server.raft.read(lambda module: list(module.words), consistency="stale")
        self.answer(202, json.dumps(words))

    def answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode() if text else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def http_address() -> tuple[str, int]:
    host, _, port = os.environ.get("HTTP_ADDR", ":8000").rpartition(":")
    return host, int(os.environ.get("PORT") or port)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    with (
        contextlib.suppress(KeyboardInterrupt),
        tinyraft.Server(tinyraft.Config.from_env(), WordTracker()) as raft,
        HttpServer(http_address(), raft) as http,
    ):
        http.serve_forever()


if __name__ == "__main__":
    main()
