"""Equity as the loss limits see it: now, at the trading day's open, at its peak since the last resume.

    day     = floor((UTC - rollover hour) / 24 h)
    day PnL = equity - day_open,   day_open = equity when the day opened + transfers since + the loss then open
    peak    = highest equity since the last resume, moved along with transfers

There are no counters to reset: what the day may lose is measured from a value that is journaled when the day opens. A
position carried over at a loss charges that loss to the new day too, so that no rollover hides one.
"""

from math import floor
from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core import position
from mmdaemon.core.params import Params, QuoteParams
from mmdaemon.core.types import NS, Instrument

if TYPE_CHECKING:
    from mmdaemon.core.state import State

DAY_S = 86_400


class Risk(msgspec.Struct):
    """The slice. Changed only by `sample` and `roll_day`, and by an operator's resume (`apply.py`)."""

    equity_e10: int = 0
    day: int = -1
    day_open_e10: int = 0
    """Equity at the day's open plus the day's transfers."""
    day_turnover_start_e10: int = 0
    peak_e10: int = 0
    """Highest equity since the last resume, transfers taken out."""
    transfers_seen_e10: int = 0
    resumed_ns: int = 0
    """When the operator last resumed; 0 = never."""


def sample(state: "State") -> None:
    """Equity at the mark, and the peak. Nothing while no mark is known."""
    if not state.venue.mark_px_ticks:
        return
    risk = state.risk
    risk.equity_e10 = position.equity_basis_e10(state.position, state.venue.mark_px_ticks)
    # The peak moves with transfers, so that a deposit is no profit and a withdrawal no drawdown.
    moved = state.position.transfers_e10 - risk.transfers_seen_e10
    if moved:
        risk.transfers_seen_e10 = state.position.transfers_e10
        risk.peak_e10 += moved
        risk.day_open_e10 += moved
    risk.peak_e10 = max(risk.peak_e10, risk.equity_e10)


def roll_day(state: "State", params: Params) -> None:
    """A new trading day, if it has come. An open loss is charged to it too, so that none vanishes."""
    day = (state.ts_ns // NS - params.rollover_hour_utc * 3600) // DAY_S
    risk = state.risk
    # A clock that steps back opens no day again: that would give the day's loss and turnover back.
    if day <= risk.day or not state.venue.mark_px_ticks or (risk.day >= 0 and not clock_is_true(state, params)):
        return
    sample(state)
    open_loss = 0
    if risk.day >= 0:
        open_loss = max(0, -position.unrealised_e10(state.position, state.venue.mark_px_ticks))
    risk.day = day
    risk.day_open_e10 = risk.equity_e10 + open_loss
    risk.day_turnover_start_e10 = state.position.turnover_e10


def to_rollover_ns(ts_ns: int, rollover_hour_utc: int) -> int:
    """Time until the next trading day begins, in (0, 24 h]."""
    day_ns = DAY_S * NS
    return day_ns - (ts_ns - rollover_hour_utc * 3600 * NS) % day_ns


def max_position_lots(equity_e10: int, fair_ticks: float, params: QuoteParams, instrument: Instrument) -> int:
    """Largest position in lots: the base band of equity, never beyond the notional cap."""
    value_e10 = min(int(params.max_position * equity_e10), params.max_position_e10)
    return max(0, floor(value_e10 / (fair_ticks * instrument.unit_e10)))


def clock_is_true(state: "State", params: Params) -> bool:
    """Whether our UTC is the venue's, as last measured, and has not stepped since: a day that a wrong clock opened
    would forgive the loss of the true one."""
    health = state.facts.health
    if health is None or health.clock_offset_s is None:
        return False
    stepped_ns = (state.ts_ns - state.mono_ns) - (health.ts_ns - health.mono_ns)
    most_ns = params.guard.clock_offset_max_ns
    return abs(health.clock_offset_s) * NS <= most_ns and abs(stepped_ns) <= most_ns
