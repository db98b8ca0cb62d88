"""From a command to a request, and from what became of the request to an event. Every command has one outcome.

What proves what:

    place   answered          LIVE. What filled of it is not said
            refused           REJECTED, where the refusal is certain; else UNKNOWN
            anything else     UNKNOWN
    amend   answered          nothing yet: the push or the read that shows the new price and size is the outcome
            refused           RequestFailed, with its revision
            anything else     UNKNOWN
    cancel  answered          nothing yet: what filled before is not said, and without it nothing may be freed
            refused           RequestFailed: not found, already ended, too many requests
            anything else     UNKNOWN
    (none)  never left        what a refusal would be, with the reason "unsent:..."

Orders that are handed over in one turn of the loop go out as one batch. What its answer does not name is UNKNOWN.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import RATE_LIMITED, UNSENT, Event, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, OrderStatus
from mmdaemon.venues.bitget.api import BATCH_MAX, Answer, Api, Meaning, Refused, Request, Sends, Unanswered, Unsent
from mmdaemon.venues.bitget.streams import OrderPush

PUSH_WITHIN_NS: Final = 5 * NS
"""An order that the venue took is on the private stream by then, or the stream is not what it seems."""
_REMEMBERED: Final = 4_096


class Outbox:
    """`send` returns at once. `on_push` makes the event of an order push, which knows no revisions."""

    def __init__(
        self,
        api: Api,
        sends: Sends,
        clock: Clock,
        tell: Callable[[Event], None],
        withdraw: Callable[[Request], bool] = lambda _: False,
    ) -> None:
        """`withdraw`: have a request of `sends` not leave, where it has not left yet."""
        self._api, self._sends, self._clock, self._tell, self._take_back = api, sends, clock, tell, withdraw
        self._places: list[Place] = []
        self._asked: dict[str, Request] = {}
        """By client id, in which request an order is that was not answered yet."""
        self._amends: dict[str, list[Amend]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected: dict[str, int] = {}
        """Orders that the venue took, and by when the stream should have said so."""
        self._pushed: OrderedDict[str, None] = OrderedDict()
        self.batches = 0

    def send(self, command: Command) -> None:
        match command:
            case Place():
                if not self._places:
                    asyncio.get_running_loop().call_soon(self._flush)
                self._places.append(command)
            case Amend():
                self._amends.setdefault(command.client_id, []).append(command)
                self._start(self._amend(command))
            case Cancel():
                if not self._withdraw(command.client_id):
                    self._start(self._cancel(command))

    def withdraw_all(self) -> None:
        """What has not left yet does not leave: a kill goes before it."""
        for place in self._places[:]:
            self._withdraw(place.client_id)

    def _withdraw(self, client_id: str) -> bool:
        for place in self._places:
            if place.client_id == client_id:
                self._places.remove(place)
                self._update(client_id, OrderStatus.CANCELLED, 0, None, None, None, "never_sent")
                return True
        # One that waits for the budget would land behind its cancel. With it goes the batch that it is part of: what
        # that was decided for has moved too.
        request = self._asked.get(client_id)
        return request is not None and self._take_back(request)

    async def close(self) -> None:
        """Nothing is told any more. What was sent goes on to arrive."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, carried: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(carried, name="venue.request")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What a request raised beyond its outcomes is a defect, and the loop's owner must hear of it."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"message": "a request to the venue failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)

    # --- placing ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        places, self._places = self._places, []
        # Alone goes what only reduces: the unified API's batches do not know of it.
        together = [place for place in places if not place.reduce_only]
        alone = [place for place in places if place.reduce_only]
        if len(together) == 1:
            alone += together
        else:
            for first in range(0, len(together), BATCH_MAX):
                self._start(self._place_batch(together[first : first + BATCH_MAX]))
        for place in alone:
            self._start(self._place(place))

    async def _ask(self, request: Request, commands: list[Place]) -> Answer:
        """Raises as `Sends.ask`."""
        self._asked |= dict.fromkeys((command.client_id for command in commands), request)
        try:
            return await self._sends.ask(request)
        finally:
            for command in commands:
                del self._asked[command.client_id]

    async def _place(self, command: Place) -> None:
        try:
            await self._ask(self._api.place(command), [command])
        except Unsent as error:
            self._unsent(command, error)
        except Refused as refused:
            self._refused(command, refused)
        except Unanswered as error:
            self._unknown(command.client_id, str(error))
        else:
            self._took(command)

    async def _place_batch(self, commands: list[Place]) -> None:
        self.batches += 1
        try:
            answer = await self._ask(self._api.place_batch(commands), commands)
            became = self._api.batch_refusals(answer, [command.client_id for command in commands])
        except Unsent as error:
            for command in commands:
                self._unsent(command, error)
        except Refused as refused:
            for command in commands:
                self._refused(command, refused)
        except Unanswered as error:
            for command in commands:
                self._unknown(command.client_id, str(error))
        else:
            for command in commands:
                if command.client_id not in became:
                    self._unknown(command.client_id, "unnamed")
                    continue
                match became[command.client_id]:
                    case None:
                        self._took(command)
                    case Unsent() as error:
                        self._unsent(command, error)
                    case Refused() as refused:
                        self._refused(command, refused)

    def _took(self, command: Place) -> None:
        if command.client_id not in self._pushed:
            self._expected[command.client_id] = self._clock.mono_ns() + PUSH_WITHIN_NS
        self._update(command.client_id, OrderStatus.LIVE, None, command.px_ticks, command.qty_lots, 0, "")

    def _unsent(self, command: Place, error: Unsent) -> None:
        self._update(command.client_id, OrderStatus.REJECTED, 0, None, None, None, f"{UNSENT}{error}")

    def _refused(self, command: Place, refused: Refused) -> None:
        if refused.meaning in (Meaning.UNKNOWN, Meaning.NOT_FOUND, Meaning.NOTHING_TO_CANCEL):
            self._unknown(command.client_id, refused.code)
            return
        self._update(command.client_id, OrderStatus.REJECTED, 0, None, None, None, _reason(refused))

    # --- changing and taking out --------------------------------------------------------------------------------------

    async def _amend(self, command: Amend) -> None:
        client_id, revision = command.client_id, command.revision
        try:
            await self._sends.ask(self._api.amend(command))
        except Unsent as error:
            self._failed(client_id, "amend", f"{UNSENT}{error}", revision)
        except Refused as refused:
            if refused.meaning is Meaning.UNKNOWN:
                self._unknown(client_id, refused.code)
            else:
                self._failed(client_id, "amend", _reason(refused), revision)
        except Unanswered as error:
            self._unknown(client_id, str(error))

    async def _cancel(self, command: Cancel) -> None:
        try:
            await self._sends.ask(self._api.cancel(command.client_id))
        except Unsent as error:
            self._failed(command.client_id, "cancel", f"{UNSENT}{error}", None)
        except Refused as refused:
            if refused.meaning is Meaning.UNKNOWN:
                self._unknown(command.client_id, refused.code)
            else:
                self._failed(command.client_id, "cancel", _reason(refused), None)
        except Unanswered as error:
            self._unknown(command.client_id, str(error))

    def _failed(self, client_id: str, request: str, reason: str, revision: int | None) -> None:
        if revision is not None:
            self._forget_amends(client_id, revision, only=True)
        now = (self._clock.mono_ns(), self._clock.wall_ns(), None)
        self._tell(RequestFailed(*now, client_id, request, reason, revision))

    # --- the stream ---------------------------------------------------------------------------------------------------

    def on_push(self, push: OrderPush) -> OrderUpdate:
        """What the private stream says of an order, with the revision that its price and size are of, where known."""
        client_id = push.client_id
        self._expected.pop(client_id, None)
        self._pushed[client_id] = None
        self._pushed.move_to_end(client_id)
        if len(self._pushed) > _REMEMBERED:
            self._pushed.popitem(last=False)
        revision: int | None = None
        for amend in reversed(self._amends.get(client_id, ())):
            if (amend.px_ticks, amend.qty_lots) == (push.px_ticks, push.qty_lots):
                revision = amend.revision
                break
        if push.status.is_terminal:
            self._amends.pop(client_id, None)
        elif revision is not None:
            self._forget_amends(client_id, revision, only=False)
        return OrderUpdate(
            push.mono_ns,
            push.ts_ns,
            push.venue_ts_ns,
            client_id,
            push.status,
            push.cum_filled_lots,
            push.px_ticks,
            push.qty_lots,
            revision,
            push.reason,
        )

    def is_push_overdue(self) -> bool:
        """The venue took an order and its stream is silent about it: pings prove nothing. Each is told once."""
        now = self._clock.mono_ns()
        late = [client_id for client_id, due_ns in self._expected.items() if due_ns <= now]
        for client_id in late:
            del self._expected[client_id]
        return bool(late)

    def link_lost(self) -> None:
        """The private stream ended: what it would have said is not replayed, and is not waited for."""
        self._expected.clear()

    def _forget_amends(self, client_id: str, revision: int, *, only: bool) -> None:
        rest = [
            amend
            for amend in self._amends.get(client_id, ())
            if (amend.revision != revision if only else amend.revision > revision)
        ]
        if rest:
            self._amends[client_id] = rest
        else:
            self._amends.pop(client_id, None)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _unknown(self, client_id: str, reason: str) -> None:
        self._update(client_id, OrderStatus.UNKNOWN, None, None, None, None, reason)

    def _update(
        self,
        client_id: str,
        status: OrderStatus,
        cum_filled_lots: int | None,
        px_ticks: int | None,
        qty_lots: int | None,
        revision: int | None,
        reason: str,
    ) -> None:
        now = (self._clock.mono_ns(), self._clock.wall_ns(), None)
        self._tell(OrderUpdate(*now, client_id, status, cum_filled_lots, px_ticks, qty_lots, revision, reason))


def _reason(refused: Refused) -> str:
    return RATE_LIMITED if refused.meaning is Meaning.RATE_LIMIT else f"{refused.meaning}:{refused.code}"
