"""What a person at a shell may ask of the emulator, beside the venue's own protocol. JSON both ways, on loopback only.

    GET   /emulator/record, /requests, /connections, /faults, /status
    POST  /emulator/faults         {"kind", "seconds"?, "count"?, "where"?}      see `mmdaemon emulator --list-faults`
          /emulator/calm           {}                                            no fault any more
          /emulator/foreign-order  {"side", "px_ticks", "qty_lots", "client_id"?}
          /emulator/withdraw       {"key"}                                       order id or client id
          /emulator/manual-trade   {"side", "qty_lots"}
          /emulator/transfer       {"amount"}                                    decimal text, negative is out
          /emulator/facts          {any of position_mode, margin_mode, leverage, can_trade, can_withdraw, addresses}
          /emulator/fees           {"maker_rate", "taker_rate"}                  decimal text
          /emulator/restart        {}
          /emulator/maintenance    {"on"}

A POST wants `Content-Type: application/json`, so that no page in a browser can send one unasked.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec
from aiohttp import web

from mmdaemon.core.types import E10, Side
from mmdaemon.venues.emulator.rows import No
from mmdaemon.venues.emulator.wrong import Wrong

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.server import Emulator

T = TypeVar("T", bound=msgspec.Struct)
_SIDES: Final = {"buy": Side.BUY, "sell": Side.SELL}
_EVER_MS: Final = 1 << 60


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Fault(_Asked, frozen=True):
    kind: Wrong
    seconds: float = 0.0
    count: int = 1
    where: str = ""


class _Order(_Asked, frozen=True):
    side: Literal["buy", "sell"]
    px_ticks: int
    qty_lots: int
    client_id: str = ""


class _Withdraw(_Asked, frozen=True):
    key: str


class _Trade(_Asked, frozen=True):
    side: Literal["buy", "sell"]
    qty_lots: int


class _Transfer(_Asked, frozen=True):
    amount: str


class _Facts(_Asked, frozen=True, omit_defaults=True):
    position_mode: Literal["one_way", "hedge"] | None = None
    margin_mode: Literal["crossed", "isolated"] | None = None
    leverage: int | None = None
    can_trade: bool | None = None
    can_withdraw: bool | None = None
    addresses: str | None = None


class _Fees(_Asked, frozen=True):
    maker_rate: str
    taker_rate: str


class _Nothing(_Asked, frozen=True):
    pass


class _Maintenance(_Asked, frozen=True):
    on: bool


class Control:
    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._reads: dict[str, Callable[[], Any]] = {
            "record": self.record,
            "requests": lambda: [*emulator.requests],
            "connections": self._connections,
            "faults": lambda: {"seen": dict(emulator.faults.seen), "injected": [*emulator.faults.injected]},
            "status": self._status,
        }
        self._deeds: dict[str, Callable[[bytes], Any]] = {
            "faults": _with(_Fault, self._inject),
            "calm": _with(_Nothing, lambda _: emulator.faults.clear()),
            "foreign-order": _with(_Order, self._foreign_order),
            "withdraw": _with(_Withdraw, lambda asked: emulator.outside.withdraw(asked.key)),
            "manual-trade": _with(
                _Trade, lambda asked: emulator.outside.manual_trade(_SIDES[asked.side], asked.qty_lots)
            ),
            "transfer": _with(_Transfer, lambda asked: emulator.outside.transfer(int(_decimal(asked.amount) * E10))),
            "facts": _with(_Facts, self._change_facts),
            "fees": _with(_Fees, self._change_fees),
            "restart": _with(_Nothing, lambda _: emulator.restart()),
            "maintenance": _with(_Maintenance, self._maintain),
        }

    async def handle(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/emulator/")
        if request.method == "GET" and name in self._reads:
            return _json(self._reads[name]())
        if request.method != "POST" or name not in self._deeds:
            return _json({"error": f"there is no {request.method} /emulator/{name:.40}"}, 404)
        if request.content_type != "application/json":
            return _json({"error": "a POST wants Content-Type: application/json"}, 415)
        try:
            done = self._deeds[name](await request.read())
        except No as no:
            return _json({"error": f"the venue refuses it: {no.why}"}, 409)
        except (msgspec.DecodeError, ValueError) as error:
            return _json({"error": str(error)}, 400)
        self._emulator.account.keep()
        return _json({"done": True} if done is None else done)

    # --- reads --------------------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """The account's own record: orders that it took in, fills, bills, balance and position."""
        account = self._emulator.account
        return {
            "orders": account.all_orders(),
            "fills": account.fills(since_ms=0, until_ms=_EVER_MS, before_id="", limit=_EVER_MS)[::-1],
            "bills": account.bills(since_ms=0, until_ms=_EVER_MS, before_id="", limit=_EVER_MS)[::-1],
            "balance": account.balance(),
            "position": account.position(),
        }

    def _connections(self) -> list[dict[str, Any]]:
        return [
            {
                "number": each.number,
                "path": each.path,
                "began_ms": each.began_ms,
                "ended_ms": each.ended_ms,
                "why": each.why,
                "logged_in": each.logged_in,
                "channels": sorted(each.channels),
                "heard": each.heard,
                "sent": each.sent,
            }
            for each in self._emulator.connections
        ]

    def _status(self) -> dict[str, Any]:
        emulator = self._emulator
        account = emulator.account
        return {
            "account": account.kind,
            "environment": emulator.config.environment,
            "now_ms": account.now_ms(),
            "open_orders": len(account.open_orders()),
            "facts": account.facts,
            "maintenance": emulator.is_under_maintenance,
            "defects": [repr(each) for each in emulator.defects],
        }

    # --- deeds --------------------------------------------------------------------------------------------------------

    def _inject(self, asked: _Fault) -> None:
        self._emulator.faults.inject(asked.kind, seconds=asked.seconds, count=asked.count, where=asked.where)

    def _foreign_order(self, asked: _Order) -> Any:
        return self._emulator.outside.foreign_order(_SIDES[asked.side], asked.px_ticks, asked.qty_lots, asked.client_id)

    def _change_facts(self, asked: _Facts) -> None:
        given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
        self._emulator.outside.change_facts(**given)

    def _change_fees(self, asked: _Fees) -> None:
        self._emulator.outside.change_fees(_decimal(asked.maker_rate), _decimal(asked.taker_rate))

    def _maintain(self, asked: _Maintenance) -> None:
        self._emulator.is_under_maintenance = asked.on


def _with(kind: type[T], does: Callable[[T], Any]) -> Callable[[bytes], Any]:
    """Raises msgspec.DecodeError for what is none of that kind."""
    return lambda body: does(msgspec.json.decode(body or b"{}", type=kind))


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise ValueError(f"{text!r:.40} is no decimal number")
    return value


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(answer), content_type="application/json")
