"""Why a side has no quote at the venue: for `status`, metrics and logs. Nothing is decided here.

A quote can be missing at four places, and each has its words: the guard lets none be (`guard`: its reasons say more);
the decision wants none (`no_book`, `inventory`, `edge`, `pulled`, `size`); admission held it back (the name of the
check that did, `limits.py`); or an order of ours is not settled yet. While a position is worked down, the order that
does it stands for the quote of its side.

    starting      nothing was decided yet
    in_flight     it was sent, and the venue has not answered
    unknown       it was sent, and the venue did not say what became of it: its quantity stays reserved
    leaving       an order on its way out holds its place
    self_cross    an order of ours that may rest on the other side stands in the way
    taking        the position is worked down by orders that take: nothing rests
"""

from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core.decision import Decision
from mmdaemon.core.fill_quality import side_of
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.types import NS, OrderStatus, Purpose, Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State


class Absence(msgspec.Struct, frozen=True):
    """`why` is one of our own words, fit for a label; `detail` has the figures, empty where there are none."""

    side: Side
    why: str
    detail: str = ""
    is_wanted: bool = True
    """The decision has a quote for the side, or there is none yet; else it says itself why not."""


def absences(state: "State") -> tuple[Absence, ...]:
    """A row for each side, bid first, that nobody wants quoted or on which no order of ours rests."""
    found = (_of(state, side) for side in (Side.BUY, Side.SELL))
    return tuple(absence for absence in found if absence is not None)


def _of(state: "State", side: Side) -> Absence | None:
    decision = state.decision
    if decision is None:
        return Absence(side, "starting", "nothing was decided yet")
    unwanted = decision.no_bid if side is Side.BUY else decision.no_ask
    if unwanted:
        return Absence(side, unwanted, figures(state, side, unwanted), is_wanted=False)
    missing = _why(state, decision, side)
    return None if missing is None else Absence(side, *missing)


def figures(state: "State", side: Side, word: str) -> str:
    """What the judge that said `word` of a side goes by; empty where it goes by nothing more."""
    if word == "edge":
        gate = state.gate.buy if side is Side.BUY else state.gate.sell
        return (
            f"it must earn {gate.edge_bps:.2f} bps of at most {gate.most_bps:.2f}, for {_seconds(state, gate.since_ns)}"
        )
    if word == "size":
        return "what would be quoted is less than the venue takes"
    if word == "pulled":
        judged = side_of(state.quality, side)
        left = f"for {max(0, judged.until_ns - state.mono_ns) / NS:.0f} s more"
        if judged.bound is None:
            return left
        bound = judged.bound
        return f"net {bound.mean_bps:+.2f} bps, at most {bound.upper_bps:+.2f}, over {bound.fills} fills; {left}"
    return ""


def _seconds(state: "State", since_ns: int) -> str:
    return f"{(state.mono_ns - since_ns) / NS if since_ns else 0.0:.0f} s"


def _why(state: "State", decision: Decision, side: Side) -> tuple[str, str] | None:
    """Of a side that is wanted."""
    wanted = next((quote for quote in decision.quotes if quote.side is side), None)
    purpose = Purpose.QUOTE if wanted is None else wanted.purpose
    own = [o for o in state.orders.live.values() if o.side is side and o.purpose is purpose and not o.ended_ns]
    if any(order.acked_ns for order in own):
        return None
    for refusal in state.withheld:
        if refusal.side is side:
            return refusal.check, refusal.detail
    if wanted is not None and wanted.takes and not own:
        return "taking", f"the position has been worked down for {_seconds(state, state.derisk.since_ns)}"
    return _unsettled(own, state, side)


def _unsettled(own: list[WorkingOrder], state: "State", side: Side) -> tuple[str, str]:
    """Nothing forbids the quote, so an order is what it waits for: its own, the one before it, or one opposite."""
    for order in own:
        if order.status is OrderStatus.UNKNOWN:
            return "unknown", f"the venue did not say what became of {order.client_id}"
        if order.cancel_sent_ns:
            return "leaving", f"{order.client_id} is being cancelled"
    if own:
        return "in_flight", f"{own[0].client_id} is on its way"
    for order in state.orders.live.values():
        if order.side is side:
            what = "has ended, and fills of it are still to come" if order.ended_ns else "is on its way out"
            return "leaving", f"{order.client_id} {what}"
    return "self_cross", "our own order on the other side, which may still rest, stands in the way"
