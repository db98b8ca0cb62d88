"""A daemon that can be broken while it runs: a `sitecustomize` for the interpreter of a service, by PYTHONPATH.

Once a file `break-KIND` is in the state directory, that breaks: `controller` takes events and does nothing with them,
`inbox` loses the wake-up of its reader, `loop` is blocked. The file is gone then, so a restart is whole again.
"""

from typing import Final

INJECTED: Final = """
import asyncio, os, time
state = os.environ.get("STATE_DIRECTORY", "")
if state:
    from mmdaemon.core import engine
    from mmdaemon.daemon.inbox import Inbox
    from mmdaemon.daemon.quoting import QuotingController
    broken = set()
    def breaks(kind):
        if kind not in broken and os.path.exists(f"{state}/break-{kind}"):
            os.unlink(f"{state}/break-{kind}")
            broken.add(kind)
        return kind in broken
    arrival, handle = Inbox.arrival, QuotingController.handle
    def never(self):
        if breaks("inbox"):  # the wake-up is lost
            return asyncio.get_running_loop().create_future()
        return arrival(self)
    def stalled(self, event):
        if breaks("controller"):  # it takes events, and does nothing with them
            return engine.NOTHING
        if breaks("loop"):
            time.sleep(600)
        return handle(self, event)
    Inbox.arrival, QuotingController.handle = never, stalled
"""
