"""How far a verb is, said on stderr now and then where no bar can be drawn: in a log, behind a pipe, under a scheduler.

By wall time and from a thread, because what takes long may be one call that tells nothing of itself: opening a large
recording, say.
"""

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

EVERY_S = 10.0


@contextmanager
def telling(text: Callable[[], str], *, quiet: bool = False) -> Generator[None]:
    """While it lasts, `text()` every `EVERY_S` seconds; the first time after as long, so that what is quick says
    nothing. `text` is called in another thread."""
    if quiet:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(EVERY_S):
            print(f"mmdaemon: {text()}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="telling", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
