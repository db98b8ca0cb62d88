"""Tapes whose volatility, intensity and later prices are known, because they were drawn from them."""

from collections.abc import Sequence
from math import exp, log
from random import Random

from mmdaemon.core.types import E10, Instrument, Side
from mmdaemon.settings import Settings, load
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Depth, DepthKind, Record, Trade
from tests.tapes.made import T0, Made

PX = 60_000.0
STEP_MS = 250
SIZE = 7


def settings(**overrides: float | str) -> Settings:
    return load(None, {path.replace("__", "."): value for path, value in overrides.items()}, {}).settings


def instrument(tick: float) -> Instrument:
    return Instrument.of(venue="made", symbol="BTCUSDT", tick_e10=round(tick * E10), lot_e10=E10 // 1000)


def tape(records: Sequence[Record], tick: float = 0.1) -> Tape:
    return Tape(Made(records, instrument=instrument(tick)))


def book(ms: float, bid: int, spread: int = 1, bid_qty: int = SIZE, ask_qty: int = SIZE, late_ms: float = 0.0) -> Depth:
    """Two levels a side, in ticks."""
    at = T0 + round(ms * 1e6)
    bids, asks = ((bid, bid_qty), (bid - 1, SIZE)), ((bid + spread, ask_qty), (bid + spread + 1, SIZE))
    return Depth(at, at + round(late_ms * 1e6), DepthKind.SNAPSHOT, bids, asks)


def trade(ms: float, px: int, aggressor: Side | None, lots: int = 1, late_ms: float = 0.0) -> Trade:
    at = T0 + round(ms * 1e6)
    return Trade(at, at + round(late_ms * 1e6), px, lots, aggressor)


def drawn(
    *,
    seconds: int = 1_800,
    tick: float = 0.1,
    sigma_bps: float = 0.0,
    a_per_s: float = 1.0,
    k_per_bp: float = 1.0,
    seed: int = 1,
    least_bps: float | None = None,
) -> list[Record]:
    """Books every 250 ms, one tick wide, whose mid is a random walk of that volatility; on each side prints arrive at
    random, as often as one order at the first price beyond the mid would be reached, and as far as A and k say. With
    `least_bps` every print goes that far at least: no exponential."""
    random = Random(seed)
    records: list[Record] = []
    mid = PX / tick
    bid = round(mid)
    k_per_tick = k_per_bp * tick / PX * 1e4
    first = 0.5  # ticks from the mid: where prices begin
    prints: list[tuple[float, Side]] = []
    for side in (Side.BUY, Side.SELL):
        at_ms, rate = 0.0, a_per_s * exp(-k_per_tick * first)
        while (at_ms := at_ms - 1e3 * log(1.0 - random.random()) / rate) < seconds * 1_000:
            prints.append((at_ms, side))
    prints.sort()
    done = 0
    for step in range(seconds * 1_000 // STEP_MS):
        ms = step * STEP_MS
        mid *= 1.0 + sigma_bps * 1e-4 * (STEP_MS / 1e3) ** 0.5 * random.gauss(0.0, 1.0)
        bid = round(mid - 0.5)
        records.append(book(ms, bid))
        while done < len(prints) and prints[done][0] < ms + STEP_MS:
            at_ms, side = prints[done]
            done += 1
            # Whole ticks beyond the first price: geometric, so that P(reach >= d) = exp(-k (d - first)).
            beyond = int(-log(1.0 - random.random()) / k_per_tick)
            if least_bps is not None:
                beyond += round(least_bps * 1e-4 * PX / tick)
            px = bid + 1 + beyond if side is Side.BUY else bid - beyond
            records.append(trade(max(at_ms, ms + 0.001), px, side))
    return records
