"""What Ctrl-C must not leave half done.

Law: Python raises `KeyboardInterrupt` in the main thread alone, between any two steps of whatever
that does, gRPC's and the standard library's own included. So what must be whole is done in another
thread, and the main thread waits for it at a lock written in C.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable


def undivided(work: Callable[[], object], *, name: str) -> None:
    """Run *work* in a thread of its own, *name*, and wait for it; Ctrl-C ends the waiting alone.

    The program's end waits for that thread. Raises what *work* raises.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    failure: list[BaseException] = []
    is_done = threading.Lock()
    is_done.acquire()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised by who waits
            failure.append(error)
        finally:
            is_done.release()

    def begin() -> None:
        try:
            threading.Thread(target=run, name=name, daemon=False).start()
        except RuntimeError:  # the system has no thread for it
            run()

    # To start a `Thread` is to wait for it, in steps written in Python: not here.
    try:
        _thread.start_new_thread(begin, ())
    except RuntimeError:  # likewise, or it is the interpreter's end
        run()
    is_done.acquire()
    if failure:
        raise failure[0]
