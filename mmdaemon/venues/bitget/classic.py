"""The classic account's API (v2): what is asked of it. How its answers to reads are read is in `classic_reads`.

Request by request what ccxt sends for the same order (a test compares them), made from ticks and lots without a float
on the way. One-way position mode, crossed margin: what the daemon checks of the account before it trades.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.types import Instrument
from mmdaemon.venues.bitget import classic_reads, endpoints
from mmdaemon.venues.bitget.api import Answer, Refused, Request
from mmdaemon.venues.bitget.batches import checked, fates, refused
from mmdaemon.venues.bitget.reading import COIN, PRODUCT, key
from mmdaemon.venues.bitget.reads import Account
from mmdaemon.venues.codec import Scale

_MARGIN_MODE: Final = "crossed"


class _Taken(msgspec.Struct, frozen=True):
    clientOid: str | None = None  # noqa: N815 - the venue's word


class _Failed(msgspec.Struct, frozen=True):
    clientOid: str | None = None  # noqa: N815
    errorCode: str | int | None = None  # noqa: N815


class _Batch(msgspec.Struct, frozen=True):
    successList: list[_Taken] | None = None  # noqa: N815
    failureList: list[_Failed] | None = None  # noqa: N815


class Classic(Account):
    """See `api.Api`. An amendment here would be a cancel and a new order of another id (and of untouched orders only),
    so there is none; nor is there a dead-man countdown."""

    name: Literal["classic", "unified"] = "classic"
    can_amend = False
    has_dead_man = False

    def __init__(self, contract: Instrument | Scale) -> None:
        super().__init__(contract, classic_reads)

    # --- requests that change something -------------------------------------------------------------------------------
    def place(self, command: Place) -> Request:
        return Request(endpoints.CLASSIC_PLACE, self._order(command))

    def place_batch(self, commands: Sequence[Place]) -> Request:
        """Raises ValueError: none, or too many."""
        checked(commands)
        return Request(
            endpoints.CLASSIC_PLACE_BATCH,
            {
                "symbol": self._symbol,
                "orderList": [self._order(command) for command in commands],
                "marginMode": _MARGIN_MODE,
                "marginCoin": COIN,
                "productType": PRODUCT,
            },
        )

    def batch_refusals(self, answer: Answer, client_ids: Sequence[str]) -> dict[str, Refused | None]:
        """See `api.Api`. Of an answer that cannot be read no order is named."""
        try:
            batch = msgspec.json.decode(answer.data, type=_Batch | None)
        except (msgspec.DecodeError, RecursionError):
            return {}
        if batch is None:
            return {}
        path = endpoints.CLASSIC_PLACE_BATCH.path
        return fates(
            client_ids,
            [(row.clientOid, None) for row in batch.successList or ()]
            + [(row.clientOid, refused(row.errorCode, path)) for row in batch.failureList or ()],
        )

    def amend(self, command: Amend) -> Request:
        raise RuntimeError(f"a classic account cannot amend {command.client_id}; can_amend says so")

    def cancel(self, client_id: str) -> Request:
        params = {"symbol": self._symbol, **key(client_id), "productType": PRODUCT}
        return Request(endpoints.CLASSIC_CANCEL, params)

    def cancel_all(self) -> Request:
        return Request(endpoints.CLASSIC_CANCEL_ALL, {"symbol": self._symbol, "productType": PRODUCT})

    def dead_man(self, seconds: int) -> Request:
        raise RuntimeError(f"a classic account has no dead-man countdown ({seconds} s); has_dead_man says so")

    def _order(self, command: Place) -> Mapping[str, Any]:
        order = {
            "symbol": self._symbol,
            "orderType": "limit",
            "price": self._scale.px_text(command.px_ticks),
            "force": "post_only" if command.post_only else "IOC" if command.ioc else "GTC",
            "marginCoin": COIN,
            "size": self._scale.qty_text(command.qty_lots),
            "productType": PRODUCT,
            "clientOid": command.client_id,
            "marginMode": _MARGIN_MODE,
            "side": command.side.name.lower(),
        }
        if command.reduce_only:
            order["reduceOnly"] = "YES"
        return order
