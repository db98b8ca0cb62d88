"""The unified account's API (v3): what is asked of it. How its answers to reads are read is in `unified_reads`.

Request by request what ccxt sends for the same order (a test compares them), made from ticks and lots without a float
on the way. One-way position mode: what the daemon checks of the account before it trades.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.types import Instrument
from mmdaemon.venues.bitget import endpoints, unified_reads
from mmdaemon.venues.bitget.api import Answer, Refused, Request
from mmdaemon.venues.bitget.batches import checked, fates, refused
from mmdaemon.venues.bitget.reading import PRODUCT, key
from mmdaemon.venues.bitget.reads import Account
from mmdaemon.venues.codec import Scale

COUNTDOWN_MIN_S: Final = 5
COUNTDOWN_MAX_S: Final = 60
_TAKEN: Final = (None, "", "0", "00000", 0)
"""The `code` of a batch's row that was taken, as far as it has one."""


class _Row(msgspec.Struct, frozen=True):
    clientOid: str | None = None  # noqa: N815 - the venue's word
    code: str | int | None = None


class Unified(Account):
    """See `api.Api`."""

    name: Literal["classic", "unified"] = "unified"
    can_amend = True
    has_dead_man = True

    def __init__(self, contract: Instrument | Scale) -> None:
        super().__init__(contract, unified_reads)

    # --- requests that change something -------------------------------------------------------------------------------
    def place(self, command: Place) -> Request:
        return Request(endpoints.UNIFIED_PLACE, self._order(command))

    def place_batch(self, commands: Sequence[Place]) -> Request:
        """Raises ValueError: none, too many, or a reduce-only one among them, which the venue's batches do not know."""
        checked(commands)
        for command in commands:
            if command.reduce_only:
                raise ValueError(
                    f"{command.client_id} is reduce-only, and a unified batch does not know that: place it"
                )
        return Request(endpoints.UNIFIED_PLACE_BATCH, [self._order(command) for command in commands])

    def batch_refusals(self, answer: Answer, client_ids: Sequence[str]) -> dict[str, Refused | None]:
        """See `api.Api`. Of an answer that cannot be read no order is named."""
        try:
            rows = msgspec.json.decode(answer.data, type=list[_Row] | None)
        except (msgspec.DecodeError, RecursionError):
            return {}
        path = endpoints.UNIFIED_PLACE_BATCH.path
        return fates(
            client_ids,
            [(row.clientOid, None if row.code in _TAKEN else refused(row.code, path)) for row in rows or ()],
        )

    def amend(self, command: Amend) -> Request:
        """The order keeps its ids. Where the venue fails of it the order stays as it was: `autoCancel` is left out."""
        return Request(
            endpoints.UNIFIED_AMEND,
            {
                **key(command.client_id),
                "qty": self._scale.qty_text(command.qty_lots),
                "price": self._scale.px_text(command.px_ticks),
            },
        )

    def cancel(self, client_id: str) -> Request:
        return Request(endpoints.UNIFIED_CANCEL, {"symbol": self._symbol, **key(client_id)})

    def cancel_all(self) -> Request:
        return Request(endpoints.UNIFIED_CANCEL_ALL, {"symbol": self._symbol, "category": PRODUCT})

    def dead_man(self, seconds: int) -> Request:
        """Cancel everything of the account unless asked again within `seconds` (5 to 60); 0 ends it.

        Raises:
            ValueError: the venue has no such countdown.
        """
        if seconds != 0 and not COUNTDOWN_MIN_S <= seconds <= COUNTDOWN_MAX_S:
            raise ValueError(
                f"the countdown is 0 (off) or {COUNTDOWN_MIN_S} to {COUNTDOWN_MAX_S} s at this venue, not {seconds}"
            )
        return Request(endpoints.UNIFIED_DEAD_MAN, {"countdown": str(seconds)})

    def _order(self, command: Place) -> Mapping[str, Any]:
        order = {
            "category": PRODUCT,
            "symbol": self._symbol,
            "qty": self._scale.qty_text(command.qty_lots),
            "side": command.side.name.lower(),
            "clientOid": command.client_id,
            "price": self._scale.px_text(command.px_ticks),
            "orderType": "limit",
            "timeInForce": "post_only" if command.post_only else "ioc" if command.ioc else "gtc",
        }
        if command.reduce_only:
            order["reduceOnly"] = "yes"
        return order
