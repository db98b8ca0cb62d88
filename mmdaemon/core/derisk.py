"""Working a position down while increases are blocked: one reduce-only order, more urgent by the clock.

    side  = -sign(position)                          size = min(|position|, largest order)
    passive   F' * (1 -+ distance)                   post-only, from the first moment
    touch     the best price of our own side         post-only, after `touch_after_ns`
    taker     F' * (1 +- taking)                     takes what is there up to that, after `taker_after_ns`

(upper sign: buying). The clock starts when the guard is first REDUCING with a position. It stops when the position is
flat, when no reason blocks increases any more, and when the guard is RUNNING again or stopped hard; SOFT_PAUSE and
RECONCILING let it go on, though nothing rests meanwhile, and a partial fill does not set it back. The stage never falls
while it runs. After a restart of the process it begins anew: the first slice that takes may come later for that, never
sooner.

The end of the trading day: within `day_end_ns` of the rollover a position beyond `day_end_share` of the largest one is
worked down to nothing, whatever else the guard says (its reason DAY_ENDING): passive, from half of that time on at the
touch, in its last fifth taking. It holds until the day has turned (`risk.roll_day`); a share of 1 carries every
position over, and then the new day is charged with its open loss. A day turns by a clock that is the venue's; so the
flag is set and taken back by such a clock alone. With a wrong one the guard pauses (CLOCK), nothing is worked down and
the flag stays; and a clock that was set back behind the window takes it back.

How large an order may be beside all that may still fill on its side is for `diff.py` to place and `limits.py` to admit.
"""

from math import ceil, floor
from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core import risk
from mmdaemon.core.decision import DecisionInputs, DeriskStage, Quote, addends_to
from mmdaemon.core.params import Params
from mmdaemon.core.types import BPS, GuardState, Purpose, Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State

NONE, PASSIVE, TOUCH, TAKER = DeriskStage.NONE, DeriskStage.PASSIVE, DeriskStage.TOUCH, DeriskStage.TAKER
_RISING = (NONE, PASSIVE, TOUCH, TAKER)
_CLOCK_RUNS_IN = (GuardState.REDUCING, GuardState.SOFT_PAUSE, GuardState.RECONCILING)
_NO_DAY = -1


class Derisk(msgspec.Struct):
    """The slice. Changed only by `on_timer`."""

    since_ns: int = 0
    """Since when a position is worked down; 0 = it is not."""
    urgency: DeriskStage = NONE
    ending_day: int = _NO_DAY
    """The trading day (`Risk.day`) before whose end the position is to be flat; -1 = none."""


def stage(derisk: Derisk) -> DeriskStage:
    """How urgent it is."""
    return derisk.urgency


def is_day_ending(state: "State") -> bool:
    """Whether the position must be flat before this trading day ends: the guard's reason DAY_ENDING."""
    return state.derisk.ending_day == state.risk.day != _NO_DAY


def on_timer(state: "State", params: Params, *, blocked: bool) -> bool:
    """Once a second, when the day has been looked at; `blocked`: whether a reason that blocks increases is in force.
    True where the order that works the position down may be due for another price: at a new stage, and while it must
    follow the market."""
    derisk, guard = state.derisk, state.guard.state
    _look_at_the_day(state, params)
    if not state.position.position_lots or not blocked or guard not in _CLOCK_RUNS_IN:
        derisk.since_ns = 0
    elif guard is GuardState.REDUCING and not derisk.since_ns:
        derisk.since_ns = state.mono_ns
    before = derisk.urgency
    if not derisk.since_ns:
        derisk.urgency = NONE
    else:
        to_touch_ns, to_taker_ns = _until(state, params)
        now = TAKER if to_taker_ns <= 0 else TOUCH if to_touch_ns <= 0 else PASSIVE
        derisk.urgency = max(before, now, key=_RISING.index)
    return derisk.urgency is not before or derisk.urgency in (TOUCH, TAKER)


def rises(state: "State", params: Params) -> tuple[DeriskStage, int] | None:
    """What it becomes next and how long from the last event until it may, for those who look on; None while no clock
    runs, and where nothing is more urgent."""
    derisk = state.derisk
    if not derisk.since_ns or derisk.urgency is TAKER:
        return None
    to_touch_ns, to_taker_ns = _until(state, params)
    return (TAKER, to_taker_ns) if derisk.urgency is TOUCH else (TOUCH, to_touch_ns)


def _until(state: "State", params: Params) -> tuple[int, int]:
    """Time until it stands at the touch, and until it takes; not above 0 from then on."""
    # A clock that stepped and was not read since says nothing of how long the day has: one timer of it would take, and
    # no stage falls.
    if is_day_ending(state) and risk.clock_is_true(state, params):
        left_ns, span_ns = risk.to_rollover_ns(state.ts_ns, params.rollover_hour_utc), params.derisk.day_end_ns
        return left_ns - span_ns // 2, left_ns - span_ns // 5
    worked_ns = state.mono_ns - state.derisk.since_ns
    return params.derisk.touch_after_ns - worked_ns, params.derisk.taker_after_ns - worked_ns


def _look_at_the_day(state: "State", params: Params) -> None:
    """Set the flag, or take it back where this is no longer the end of a day; the turn of the day itself ends it."""
    mark, share = state.venue.mark_px_ticks, params.derisk.day_end_share
    if not mark or share >= 1 or not risk.clock_is_true(state, params):
        return
    if risk.to_rollover_ns(state.ts_ns, params.rollover_hour_utc) > params.derisk.day_end_ns:
        state.derisk.ending_day = _NO_DAY
        return
    most_lots = risk.max_position_lots(state.risk.equity_e10, float(mark), params.quotes, params.instrument)
    if abs(state.position.position_lots) > share * most_lots:
        state.derisk.ending_day = state.risk.day


def quote(inputs: DecisionInputs, fair_ticks: float, params: Params) -> Quote | None:
    """The order that works the position down now; None where there is nothing to do, or no valid size. `fair_ticks` is
    F', fair value with the signal in it. Until the clock has looked it is passive."""
    position_lots, micro, now = inputs.position_lots, inputs.fair_ticks, inputs.derisk
    if not position_lots or micro is None:
        return None
    side = Side.SELL if position_lots > 0 else Side.BUY
    is_buy = side is Side.BUY
    touch_ticks = inputs.bid_px_ticks if is_buy else inputs.ask_px_ticks
    # The best price that does not take: one tick outside the opposite touch.
    outer_ticks = inputs.ask_px_ticks - 1 if is_buy else inputs.bid_px_ticks + 1
    if now is TAKER:
        away = side * min(params.derisk.taking_bps, params.limits.collar_bps) * BPS * fair_ticks
    elif now is TOUCH:
        away = touch_ticks - fair_ticks
    else:
        away = -side * params.derisk.distance_bps * BPS * fair_ticks
    wanted = held = fair_ticks + away
    if now is not TAKER:
        held = min(wanted, outer_ticks) if is_buy else max(wanted, outer_ticks)
    px_ticks = floor(held) if is_buy else ceil(held)  # away from F', and within the collar where it takes
    if px_ticks <= 0:
        return None
    instrument = params.instrument
    most_e10 = min(params.quotes.max_order_e10, params.limits.max_order_e10)
    # A sale that takes may go out nearer than this (`diff.py`), where the same lots are worth more.
    worth_px_ticks = max(px_ticks, ceil(fair_ticks))
    qty_lots = min(abs(position_lots), most_e10 // instrument.notional_e10(worth_px_ticks, 1), instrument.max_qty_lots)
    if not instrument.is_valid_size(px_ticks, qty_lots):
        return None
    lo = hi = px_ticks
    if now is not TAKER and now is not TOUCH:
        tolerance = params.quotes.tolerance_min_bps * BPS * fair_ticks
        lo, hi = ceil(px_ticks - tolerance), floor(px_ticks + tolerance)
        lo, hi = (lo, min(hi, outer_ticks)) if is_buy else (max(lo, outer_ticks), hi)
    signal = fair_ticks - micro + 0.0
    addends = addends_to(px_ticks, micro, signal, 0.0, 0.0, away + 0.0, 0.0, 0.0, held - wanted)
    return Quote(side, 0, px_ticks, qty_lots, lo, hi, addends, Purpose.DERISK, takes=now is TAKER)
