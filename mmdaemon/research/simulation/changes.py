"""What the venue changes for a while: its rules, its fees, its patience, and how fresh its answers are."""

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import NS, Instrument
from mmdaemon.research.simulation.plan import BEHIND_MAX_S, HISTORY_BEHIND_MAX_S, Fault, Kind
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.faults import FaultKind

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

Refusal = Callable[[object, object, Instrument], str]
_RATES: Final = ("-0.00005", "0", "0.0002", "0.0006", "0.006")
"""Maker rates of other tiers. With the last one no quote can earn what it costs, so that the edge gate closes."""
_STEPS: Final = (2, 5, 10)
"""How much coarser a step or a minimum becomes."""


class Changes:
    """One per seed. Of two changes of one kind at once, the later one holds until the last of them is over."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._on: dict[Kind, int] = {}
        config = world.venue.config
        self._fees = config.maker_rate, config.taker_rate
        self._refusals: dict[Kind, Refusal] = {}

    def begin(self, fault: Fault) -> float:
        """Returns for how many seconds."""
        world, kind = self._world, Kind(fault.kind)
        seconds = fault.seconds
        self._on[kind] = self._on.get(kind, 0) + 1
        match kind:
            case Kind.REPLICA_BEHIND:
                share = (fault.number % 900 + 100) / 1_000
                lags_s = HISTORY_BEHIND_MAX_S * share, BEHIND_MAX_S * share
                world.replica.fall_behind(*(round(lag_s * NS) for lag_s in lags_s))
            case Kind.RULES_CHANGED:
                self._refuse(kind, _coarser(fault.number))
            case Kind.TRADING_SUSPENDED:
                self._refuse(kind, _suspended)
                if fault.number & 1:
                    world.venue.delist()
            case Kind.FEES_CHANGED:
                world.venue.change_fees(Decimal(_RATES[fault.number % len(_RATES)]), Decimal("0.008"))
            case _:
                seconds += 20.0
                world.venue.inject(FaultKind.RATE_STORM, seconds)
        world.clock.call_at(world.clock.mono_ns() + round(seconds * NS), self._end, kind)
        return seconds

    def _end(self, kind: Kind) -> None:
        if kind is Kind.REPLICA_BEHIND:
            self._world.replica.catch_up()
        self._on[kind] -= 1
        if self._on[kind]:
            return
        if kind is Kind.FEES_CHANGED:
            self._world.venue.change_fees(*self._fees)
        elif kind in self._refusals:
            self._refuse(kind, None)

    def _refuse(self, kind: Kind, refusal: Refusal | None) -> None:
        self._refusals.pop(kind, None)
        if refusal is not None:
            self._refusals[kind] = refusal
        self._world.venue.exchange.refusal = self._refusal if self._refusals else rules.refusal

    def _refusal(self, px_ticks: object, qty_lots: object, instrument: Instrument) -> str:
        told = rules.refusal(px_ticks, qty_lots, instrument)
        for each in self._refusals.values():
            told = told or each(px_ticks, qty_lots, instrument)
        return told


def _suspended(_px_ticks: object, _qty_lots: object, _instrument: Instrument) -> str:
    return rules.SUSPENDED


def _coarser(number: int) -> Refusal:
    """A larger tick, lot or minimum than the daemon was told at its start."""
    times = _STEPS[number // 4 % len(_STEPS)]

    def refusal(px_ticks: object, qty_lots: object, instrument: Instrument) -> str:
        assert isinstance(px_ticks, int)
        assert isinstance(qty_lots, int)
        match number % 3:
            case 0:
                return rules.OFF_TICK if px_ticks % times else ""
            case 1:
                return rules.OFF_LOT if qty_lots % times else ""
            case _:
                most = times * 100 * max(1, instrument.min_qty_lots)
                return rules.MIN_QTY if qty_lots < most else ""

    return refusal
