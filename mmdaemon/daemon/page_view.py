"""What the operator page draws over time, looked at once a second: `State` turned into a `Row`. No rule is here."""

import re

from mmdaemon.core import position
from mmdaemon.core.fair_value import fair_value_ticks
from mmdaemon.core.observe import regime_in_force
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import E10, NS, Instrument, Purpose, Side
from mmdaemon.ops.page import Row


def base_of(instrument: Instrument) -> str:
    """What sizes are of, as far as the symbol tells; empty where it does not."""
    return re.split("[-/_]", instrument.symbol.removesuffix(instrument.quote))[0]


def row_of(state: State, params: Params, now_ns: int, ts_ns: int) -> Row:
    """A sample at `now_ns` (mono) and `ts_ns` (UTC). Reads, and changes nothing."""
    book, held, decision, mark = state.book, state.position, state.decision, state.venue.mark_px_ticks
    tick, lot = params.instrument.tick_e10 / E10, params.instrument.lot_e10 / E10
    standing = [o for o in state.orders.live.values() if o.purpose is Purpose.QUOTE and o.acked_ns and not o.ended_ns]
    bids = [o.px_ticks for o in standing if o.side is Side.BUY]
    asks = [o.px_ticks for o in standing if o.side is Side.SELL]
    parts = position.attribution(held, mark, state.markouts.impact_5s_e10) if mark else None
    read_ns = state.facts.reconciled_ns

    def price(ticks: float | None) -> float | None:
        return round(ticks * tick, 10) if ticks else None

    return Row(
        ts_ms=ts_ns / 1e6,
        guard=state.guard.state.value,
        regime=regime_in_force(state).value,
        fair=price(fair_value_ticks(book, params.quotes.depth_levels)),
        bid=price(book.bid_px),
        ask=price(book.ask_px),
        quote_bid=price(max(bids, default=None)),
        quote_ask=price(min(asks, default=None)),
        position=round(held.position_lots * lot, 10),
        largest=round(decision.max_position_lots * lot, 10) if decision else None,
        spread=parts.spread_e10 / E10 if parts else None,
        impact=parts.impact_e10 / E10 if parts else None,
        inventory=parts.inventory_e10 / E10 if parts else None,
        fees=parts.fees_e10 / E10 if parts else None,
        funding=parts.funding_e10 / E10 if parts else None,
        total=(parts.total_e10 - parts.transfers_e10) / E10 if parts else None,
        read_age_s=(now_ns - read_ns) / NS if read_ns else None,
    )
