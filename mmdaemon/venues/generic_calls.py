"""What the generic adapter asks of ccxt's unified API, and what ccxt's exceptions prove.

The requests are made like those of `bitget.api`, so that the same `outbox` turns commands into outcomes; only here an
"endpoint" is a method of ccxt's. What ccxt raises is one of three:

    Refused      the exchange said no, and ccxt knows what it said: `_MEANINGS`
    Unanswered   every other NetworkError, and whatever ccxt could not make sense of: it may have happened
    Unsent       there was no budget for it, and it never left
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.types import Side
from mmdaemon.venues.bitget.api import Answer, Endpoint, Meaning, Refused, Request, Unanswered, Unsent
from mmdaemon.venues.budget import Budget
from mmdaemon.venues.ccxt_client import UNREADABLE, CcxtClient
from mmdaemon.venues.codec import Scale
from mmdaemon.venues.differences import Row

BY_VENUE: Final = "venue:"
ORDER_WAIT_S: Final = 1.0
_REMEMBERED: Final = 4_096
_UNSENT: Final = "unsent"
"""In place of a meaning, of an order that the exchange never saw."""
_CODE: Final = re.compile(r'"code"\s*:\s*"?(\w{1,12})')

# By the class that is nearest to what was raised. A plain ExchangeError, and what stands for nothing that is certain
# (AuthenticationError has Bitget's "timed out" in it), is UNKNOWN.
_MEANINGS: Final[Mapping[str, Meaning]] = {
    "RateLimitExceeded": Meaning.RATE_LIMIT,
    "DDoSProtection": Meaning.RATE_LIMIT,
    "OrderNotFound": Meaning.NOT_FOUND,
    "InsufficientFunds": Meaning.MARGIN,
    "DuplicateOrderId": Meaning.UNKNOWN,
    "InvalidOrder": Meaning.REFUSED,
    "BadRequest": Meaning.REFUSED,
    "PermissionDenied": Meaning.AUTH,
    "NotSupported": Meaning.REFUSED,
    "ExchangeError": Meaning.UNKNOWN,
}


def proves(error: BaseException, row: Row) -> Refused | Unanswered:
    """What an exception of ccxt's proves about the request."""
    names = [kind.__name__ for kind in type(error).__mro__]
    code = found[1] if (found := _CODE.search(str(error))) else names[0][:12]
    if code in row.absent:
        return Refused(Meaning.NOT_FOUND, code)
    for name in names:
        if name in _MEANINGS:
            return Refused(_MEANINGS[name], code)
    return Unanswered(names[0])


def _fate(row: tuple[str, str] | None) -> Refused | Unsent | None:
    match row:
        case None:
            return None
        case (kind, why) if kind == _UNSENT:
            return Unsent(why)
        case (kind, code):
            return Refused(Meaning(kind), code)


def _change(method: str, per_s: float, lane: Any) -> Endpoint:
    return Endpoint("POST", method, per_s, max(1, round(per_s)), lane=lane)


class Names:
    """Ids of the exchange's by ours and back, as far as they were heard of."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, tuple[str, Side]] = OrderedDict()
        self._ours: OrderedDict[str, str] = OrderedDict()

    def learn(self, client_id: str, order_id: str, side: Side) -> None:
        self._of[client_id], self._ours[order_id] = (order_id, side), client_id
        for known in (self._of, self._ours):
            if len(known) > _REMEMBERED:
                known.popitem(last=False)

    def order_id(self, client_id: str) -> str | None:
        if client_id.startswith(BY_VENUE):
            return client_id.removeprefix(BY_VENUE)
        return self._of[client_id][0] if client_id in self._of else None

    def side(self, client_id: str) -> Side | None:
        return self._of[client_id][1] if client_id in self._of else None

    def ours(self, order_id: str) -> str | None:
        return self._ours.get(order_id)


class GenericRequests:
    """The part of `bitget.api.Api` that changes something, for `outbox.Outbox`."""

    has_dead_man = False

    def __init__(self, row: Row, symbol: str, scale: Scale, contract: Any, names: Names, per_s: float) -> None:
        """`contract`: base coin in one contract, a Decimal. `per_s`: of all requests, what the exchange allows."""
        self._row, self._symbol, self._scale, self._contract, self._names = row, symbol, scale, contract, names
        self._place = _change("create_order", per_s / 4, "order")
        self._batch = _change("create_order", per_s / 4, "order")
        self._amend = _change("edit_order", per_s / 4, "order")
        self._cancel = _change("cancel_order", per_s / 4, "cancel")
        self._cancel_all = _change("cancel_all_orders", per_s / 4, "cancel")

    def place(self, command: Place) -> Request:
        return Request(self._place, self._order(command))

    def place_batch(self, commands: Sequence[Place]) -> Request:
        """One by one: what becomes of an order in a batch of ccxt's is not always told."""
        return Request(self._batch, [self._order(command) for command in commands])

    def batch_refusals(self, answer: Answer, client_ids: Sequence[str]) -> dict[str, Refused | Unsent | None]:
        rows = msgspec.json.decode(answer.data, type=dict[str, tuple[str, str] | None])
        return {client_id: _fate(rows[client_id]) for client_id in client_ids if client_id in rows}

    def amend(self, command: Amend) -> Request:
        """Raises Unsent through `ask` where the exchange's own id is not known."""
        side = self._names.side(command.client_id)
        return Request(
            self._amend,
            {
                "client_id": command.client_id,
                "arguments": (
                    self._names.order_id(command.client_id),
                    self._symbol,
                    "limit",
                    side.name.lower() if side else None,
                    self.amount(command.qty_lots),
                    float(self._scale.px_text(command.px_ticks)),
                ),
                "params": {},
            },
        )

    def cancel(self, client_id: str) -> Request:
        order_id, params = self.named(client_id)
        return Request(self._cancel, {"client_id": "", "arguments": (order_id, self._symbol), "params": params})

    def cancel_all(self) -> Request:
        return Request(self._cancel_all, {"client_id": "", "arguments": (self._symbol,), "params": {}})

    def named(self, client_id: str) -> tuple[str | None, dict[str, str]]:
        """How an order is named to cancel or to read it: (id, params)."""
        order_id = self._names.order_id(client_id)
        if order_id is not None:
            return order_id, {}
        wire = self._row.to_wire(client_id)
        return (None, {self._row.cancel_by: wire}) if self._row.cancel_by else (wire, {})

    def amount(self, qty_lots: int) -> float:
        return float(self._scale.lot * qty_lots / self._contract)

    def _order(self, command: Place) -> Mapping[str, Any]:
        params: dict[str, Any] = {"clientOrderId": self._row.to_wire(command.client_id)}
        if command.post_only:
            params["postOnly"] = True
        elif command.ioc:
            params["timeInForce"] = "IOC"
        if command.reduce_only:
            params["reduceOnly"] = True
        price = float(self._scale.px_text(command.px_ticks))
        side = command.side.name.lower()
        arguments = (self._symbol, "limit", side, self.amount(command.qty_lots), price)
        return {"client_id": command.client_id, "side": command.side, "arguments": arguments, "params": params}


class GenericCalls:
    """See `bitget.api.Sends`. A call goes on whoever stops waiting for it."""

    def __init__(self, client: CcxtClient, row: Row, clock: Clock, names: Names, timeout_s: float) -> None:
        self._client, self._row, self._clock, self._names, self._timeout_s = client, row, clock, names, timeout_s
        self._budgets: dict[str, Budget] = {}
        self._under_way: set[asyncio.Task[Answer | Refused | Unanswered]] = set()
        self._closed = False

    async def ask(self, request: Request) -> Answer:
        if isinstance(request.params, Sequence):
            return await self._each(request)
        params = cast("Mapping[str, Any]", request.params)
        endpoint = request.endpoint
        if endpoint.path == "edit_order" and None in params["arguments"][:4]:
            raise Unsent("no_id")
        if endpoint.path == "cancel_all_orders":
            self._drop("cancel_all")
        await self.turn(endpoint)
        method: Any = getattr(self._client.exchange, endpoint.path)
        call = method(*params["arguments"], params=dict(params["params"]))
        task = asyncio.get_running_loop().create_task(self._outcome(endpoint, params, call), name="venue.call")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    async def turn(self, endpoint: Endpoint) -> None:
        """Wait for the budget. Raises Unsent."""
        if self._closed:
            raise Unsent("closed")
        budget = self._budgets.setdefault(endpoint.path, Budget(endpoint, self._clock))
        patience_s = {"order": ORDER_WAIT_S, "cancel": None, "other": self._timeout_s}[endpoint.lane]
        if (why := await budget.turn(patience_s)) is not None:
            raise Unsent(why)

    async def _each(self, request: Request) -> Answer:
        """Of each its own fate; whose is not known is left out."""
        orders = cast("Sequence[Mapping[str, Any]]", request.params)
        became = await asyncio.gather(
            *(self.ask(Request(request.endpoint, order)) for order in orders), return_exceptions=True
        )
        told: dict[str, tuple[str, str] | None] = {}
        for order, outcome in zip(orders, became, strict=True):
            match outcome:
                case Answer():
                    told[order["client_id"]] = None
                case Refused():
                    told[order["client_id"]] = (outcome.meaning, outcome.code)
                case Unsent():
                    told[order["client_id"]] = (_UNSENT, str(outcome))
                case Unanswered():
                    pass
                case _:
                    raise outcome
        return Answer(msgspec.Raw(msgspec.json.encode(told)), 0)

    async def _outcome(
        self, endpoint: Endpoint, params: Mapping[str, Any], call: Awaitable[Any]
    ) -> Answer | Refused | Unanswered:
        try:
            said: Any = await call
            if endpoint.path == "create_order" and said["id"]:
                self._names.learn(params["client_id"], str(said["id"]), params["side"])
        except self._client.network_errors as error:
            outcome = proves(error, self._row)
            code = outcome.code if isinstance(outcome, Refused) else ""
            if endpoint.path == "cancel_all_orders" and code in self._row.nothing_to_cancel:
                return Refused(Meaning.NOTHING_TO_CANCEL, code)
            if isinstance(outcome, Refused) and outcome.meaning is Meaning.RATE_LIMIT:
                self._budgets[endpoint.path].limited(0.0)
            return outcome
        except asyncio.CancelledError:
            return Unanswered("closed")
        except UNREADABLE:
            return Unanswered("unreadable")
        return Answer(msgspec.Raw(b"null"), 0)

    async def close(self) -> None:
        self._closed = True
        self._drop("closed")
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, why: str) -> None:
        for budget in self._budgets.values():
            if why == "closed" or budget.endpoint.lane == "order":
                budget.drop(why)
