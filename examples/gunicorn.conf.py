"""One worker with threads: a node is one process.

`create_app` runs in the worker, after the fork, and starts the node there. Never set `preload_app`
(the node would start before the fork) or `max_requests` (the node would restart under load).
"""

import os
from pathlib import Path

wsgi_app = "flask_words:create_app()"
chdir = str(Path(__file__).parent)
bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
workers = 1
threads = 8
worker_class = "gthread"
preload_app = False
max_requests = 0


def worker_exit(_arbiter, worker):
    """Hand leadership over before the process ends."""
    app = getattr(worker, "wsgi", None)  # None where the application failed to load
    if app is not None:
        app.extensions["tinyraft"].shutdown()
