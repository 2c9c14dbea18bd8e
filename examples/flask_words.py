"""The word tracker inside a Flask application.

    export RAFT_DATA_DIR=/tmp/flask-words RAFT_BOOTSTRAP=true NODE_LISTEN_ADDR=127.0.0.1:50051

    flask --app examples/flask_words.py run                  one process
    flask --app examples/flask_words.py run --debug          the reloader's child has the node
    gunicorn --config examples/gunicorn.conf.py              one worker with threads

    curl --data hello http://127.0.0.1:5000/word             (gunicorn: port 8000)
    curl http://127.0.0.1:5000/word/

The node ends with the process that serves: on Ctrl-C it hands leadership over first.
"""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

import tinyraft
from tinyraft.flask import Raft, should_start


class WordTracker:
    """The state machine: appends every command to a list."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def apply(self, command: bytes) -> None:
        if not command:
            raise tinyraft.Rejected("an empty word")
        self.words.append(command.decode(errors="replace"))


raft = Raft(WordTracker)


def create_app() -> Flask:
    app = Flask(__name__)
    raft.init_app(app)

    @app.post("/word")
    def add_word() -> tuple[str, int]:
        # What goes wrong becomes 409, 503 or 504 by itself; the body says what became of the word.
        raft.server.apply(request.get_data(), timeout=10)
        return "", 201

    @app.get("/word/")
    def list_words() -> tuple[Response, int]:
        words = raft.server.read(lambda module: list(module.words), consistency="stale")
        return jsonify(words), 202

    if should_start():
        raft.start(app)
    return app
