"""The quoting controller: takes events from the inbox in order, steps the core, and hands on what came of it.

It is the only caller of `step()` and so the only writer of `State`. It never waits between taking an event and
having handed over its rows and commands, so no quote ever mixes an old position with a new regime.
"""

import asyncio
from collections.abc import Callable

from mmdaemon.core import engine
from mmdaemon.core.digest import Digest
from mmdaemon.core.engine import NOTHING, Step, Strategy
from mmdaemon.core.events import Event
from mmdaemon.core.limits import Refusal
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.state import State
from mmdaemon.daemon.assertions import Assertions
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.record import Recorder
from mmdaemon.daemon.sender import Sender
from mmdaemon.journal.connection import JournalFailed

OnStep = Callable[[Event, Step], None]
_BATCH = 256
"""Events taken in before others of the loop get a turn, in a flood."""


class QuotingController:
    """One coroutine. `on_step` tells the other actors what happened, after rows and commands were handed over."""

    def __init__(
        self,
        state: State,
        params: Params,
        inbox: Inbox,
        recorder: Recorder,
        sender: Sender,
        on_step: OnStep,
        strategy: Strategy = decide,
    ) -> None:
        self._state = state
        self._params = params
        self._inbox = inbox
        self._recorder = recorder
        self._sender = sender
        self._on_step = on_step
        self._strategy = strategy
        self._assertions = Assertions(state, params)
        self.digest = Digest(params)
        self.commands = 0
        self.refusals: dict[str, int] = {}
        self.last_refusal: Refusal | None = None

    async def run(self) -> None:
        """Until cancelled. What `step` raises is a defect and ends the task: the supervisor kills."""
        while True:
            if not self._inbox:
                await self._inbox.arrival()
            for _ in range(_BATCH):
                event = self._inbox.take()
                if event is None:
                    break
                self.handle(event)
            else:
                await asyncio.sleep(0)

    def handle(self, event: Event) -> Step:
        """One event, whole: step, rows, commands, word to the others.

        Raises:
            InvariantBroken: the step broke what must always hold; nothing of it was handed on.
        """
        step = engine.step(self._state, event, self._params, self._strategy)
        self._assertions.check(self._state, event, step)
        try:
            number = self._recorder.record(self._state, event, step)
        except JournalFailed:
            # Without intents nothing new may be sent, but cancels must go on: the guard stops for good on the
            # writer's end.
            number = None
        if step is not NOTHING:
            self.digest.update(event.mono_ns, event.ts_ns, step)
            for refusal in step.refusals:
                self.last_refusal = refusal
                self.refusals[refusal.check] = self.refusals.get(refusal.check, 0) + 1
            if step.commands:
                self.commands += len(step.commands)
                self._sender.submit(step.commands, number, event.mono_ns)
        self._on_step(event, step)
        return step
