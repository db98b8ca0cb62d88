"""What a fill cost, by its `feeDetail`: one rule for the stream and for reads of both APIs. Unknown is never zero.

    no line at all      not known. The stream refuses the fill, so that it is read; a read refuses it for a minute, as
                        the venue may show it later, and then books the account's own rate of maker or taker. Should
                        the venue have charged another, equity of venue and books differ, and quoting stops; refusing
                        for ever would stop every reconciliation for the sake of one row
    in quote currency   booked as it is
    in base currency    booked at the fill's price
    in another coin     nothing of the wallet that books are kept of: 0
    by a deduction      booked as stated; what of it the wallet paid is not said

What is in another coin, base included, or by a deduction is remembered by name. `AccountFacts.fees_in` has it, and the
daemon stops for it, saying so once: its result and its edge are counted in quote currency.
"""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from mmdaemon.core.events import FeeSchedule, Fill
from mmdaemon.core.figures import is_money
from mmdaemon.core.types import E10, NS, Liquidity
from mmdaemon.venues.bitget.api import Endpoint
from mmdaemon.venues.bitget.reading import take
from mmdaemon.venues.codec import Malformed, Scale, nearest

SHOWN_NS: Final = 60 * NS
"""By then a fill shows what it cost."""
_KEPT: Final = frozenset((None, False, "", "no"))
_COINS_MAX: Final = 16
Line = tuple[str, Decimal, str | bool | None]
"""Coin, amount (positive is a cost), and whether something else paid for it."""


def charged_e10(scale: Scale, px_ticks: int, lines: Sequence[Line], elsewhere: set[str]) -> int:
    """What was charged, in quote currency; `elsewhere` takes the names of what else it was paid in.

    Raises:
        Malformed: there is no line, an amount without a coin, or no such amount.
    """
    if not lines:
        raise Malformed("no_fee")
    quote = scale.instrument.quote
    base = scale.instrument.symbol.removesuffix(quote)
    total, other = Decimal(0), set[str]()
    for coin, amount, deduction in lines:
        if amount and not coin:
            raise Malformed("fee_coin")
        total += amount if coin == quote else amount * px_ticks * scale.tick if coin == base else 0
        if amount and coin != quote:
            other.add(coin if coin.isascii() and coin.isalnum() and len(coin) <= 10 else "another coin")
        if amount and deduction not in _KEPT:
            other.add("a deduction")
    fee_e10 = nearest(total * E10)
    if not is_money(fee_e10):
        raise Malformed("absurd")
    if len(elsewhere) < _COINS_MAX:
        elsewhere |= other
    return fee_e10


class Bill:
    """Fills of one read, with what they cost."""

    def __init__(self, scale: Scale, rates: Callable[[], Awaitable[FeeSchedule]], elsewhere: set[str] | None) -> None:
        self._scale, self._read_rates = scale, rates
        self._elsewhere = set[str]() if elsewhere is None else elsewhere
        self._rates: FeeSchedule | None = None

    async def with_fee(self, endpoint: Endpoint, fill: Fill, lines: Sequence[Line], venue_now_ns: int) -> Fill:
        """Raises VenueUnavailable: what it cost is not shown yet, or cannot be read."""
        if lines or venue_now_ns - (fill.venue_ts_ns or 0) < SHOWN_NS:

            def charged(told: Sequence[Line]) -> int:
                return charged_e10(self._scale, fill.px_ticks, told, self._elsewhere)

            return msgspec.structs.replace(fill, fee_e10=take(endpoint, "fee", charged, lines))
        self._rates = rates = self._rates or await self._read_rates()
        rate = rates.maker_rate if fill.liquidity is Liquidity.MAKER else rates.taker_rate
        px, qty = fill.px_ticks * self._scale.tick, fill.qty_lots * self._scale.lot
        return msgspec.structs.replace(fill, fee_e10=nearest(Decimal(repr(rate)) * px * qty * E10))
