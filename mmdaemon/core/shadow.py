"""The second look: everything incremental, evaluated in full, and compared. On in tests and simulation
(`Params.shadow`).

A guard that is evaluated only when something changed can miss the one event that cures a reason; sums kept by
differences can drift; a requote gate can sleep through a change. Each shows up only as a daemon that does less than
it should, which no other test sees.
"""

from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core import fair_value, orders, reasons, signals
from mmdaemon.core.decision import DecisionInputs
from mmdaemon.core.params import Params
from mmdaemon.core.types import GuardState

if TYPE_CHECKING:
    from mmdaemon.core.state import State


class ShadowMismatch(AssertionError):
    """An incremental result differs from the full evaluation. A defect of ours: nothing may trade on."""


def check(state: "State", observed: DecisionInputs, params: Params) -> None:
    """Compare guard, reservations, signals and requote gate with their full evaluation.

    Raises:
        ShadowMismatch: naming what differs and both values.
    """
    _check_guard(state, params)
    _check_reservations(state)
    _check_signals(state, params)
    _check_requote_gate(state, observed, params)


def _check_guard(state: "State", params: Params) -> None:
    if state.guard.dirty:
        return  # it will be evaluated at the next event, and says so
    bits, _ = reasons.full(state, state.mono_ns, params)
    if bits != state.guard.raw:
        raise ShadowMismatch(
            f"guard at event {state.seq}: holds {reasons.reasons_of(state.guard.raw)}, "
            f"in full {reasons.reasons_of(bits)}"
        )


def _check_reservations(state: "State") -> None:
    kept = (state.orders.reserved_buy_lots, state.orders.reserved_sell_lots)
    full = orders.reserved_full(state.orders)
    if kept != full:
        raise ShadowMismatch(f"reservations at event {state.seq}: kept {kept}, in full {full} (buy, sell lots)")


def _check_signals(state: "State", params: Params) -> None:
    kept, full = state.signals.effect, signals.full_effect(state.signals, state.mono_ns, params.signals)
    if kept != full:
        raise ShadowMismatch(f"signals at event {state.seq}: hold {kept}, in full {full}")


def _check_requote_gate(state: "State", now: DecisionInputs, params: Params) -> None:
    last, decision = state.inputs, state.decision
    if last is None or decision is None or state.dirty:
        return
    if _slow(now) != _slow(last):
        raise ShadowMismatch(f"requote gate at event {state.seq} slept: decided on {_slow(last)}, now {_slow(now)}")
    if now.guard not in (GuardState.RUNNING, GuardState.REDUCING) or now.fair_ticks is None:
        return
    if not fair_value.stays_within(
        state.book, decision.band_lo_ticks, decision.band_hi_ticks, params.quotes.depth_levels, state.signal.bps
    ):
        raise ShadowMismatch(
            f"requote gate at event {state.seq} slept: fair value {now.fair_ticks} outside "
            f"[{decision.band_lo_ticks}, {decision.band_hi_ticks}]"
        )


def _slow(inputs: DecisionInputs) -> DecisionInputs:
    """The inputs without what the band covers: time and the book."""
    return msgspec.structs.replace(
        inputs, mono_ns=0, ts_ns=0, bid_px_ticks=0, ask_px_ticks=0, fair_ticks=None, signal_bps=0.0
    )
