"""Price, book and trades of the synthetic perpetual, one book update at a time. What it promises is in `market.py`.

State is integer. Each update draws one 53-bit number and spends it by bit fields; rarer things draw one more.
"""

import math
from random import Random

import msgspec

from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.venues.simulated import stretches
from mmdaemon.venues.simulated.liquidity import DRAWS, EXPONENTIAL, NORMAL, RESIDUES, VARIANTS, ladders, lognormal
from mmdaemon.venues.simulated.stretches import BEHAVIOUR, Schedule, Stretch

MS = 1_000_000
TWO_53 = 1 << 53
"""`random()` is a whole number of these parts, so a product with it is exact."""

LEVEL_EVERY = 40
"""Updates between two steps of the volatility level: 10 s."""
LEVEL_SD_LOG = 0.3
LEVEL_MEMORY = 240
"""Steps the level remembers: forty minutes."""
LEVEL_KICK = round(1_000_000 * LEVEL_SD_LOG * math.sqrt(2 / LEVEL_MEMORY))
"""A step of the level: millionths of its logarithm."""
SPRING = 20
"""The fair price returns by 2**-20 of its distance an update: a time constant of three days."""
TOUCH_LOTS = lognormal(median=29_500, sigma=0.9, least=200, most=600_000)
TRADE_LOTS = lognormal(median=7, sigma=3.65, least=1, most=80_000)
WIDTHS = (2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6, 8, 10, 14)
"""Ticks of a touch that is wider than one."""
SWEEP_TICKS = tuple(min(1_200, 60 + 87 * draw // 1_000_000) for draw in EXPONENTIAL)
"""How far beyond the touch a sweep prints, at a price of 600,000: at least 1 bps, and half as many a bps further."""
SWEEP_REVERTS = (0, 50, 150, 300, 450, 600, 750, 900)
"""Thousandths of its reach that the price comes back after a sweep by somebody who knew nothing; mean 0.4."""
SWEEP_FACTOR = 2
"""Prints of a sweep are this many times as large as the stretch's others."""

Levels = tuple[tuple[int, int], ...]


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What may be chosen of the market besides its stretches."""

    start_px_ticks: int = 600_000
    levels: int = 10
    """A side."""
    updates_per_s: float = 4.0
    """Cadence of the book. Moves are per update, so this also scales how fast the market lives."""
    volatility: float = 1.0
    """Multiplies every move and drift."""
    feed_latency_ms: float = 12.0
    """Median; p99 is about three times it."""

    def check(self) -> None:
        """Raises ValueError naming the field that makes no market, and what it may be."""
        for name, least, most in (
            ("start_px_ticks", 10_000, 10**9),
            ("levels", 2, 50),
            ("updates_per_s", 0.1, 100),
            ("volatility", 0, 10),
            ("feed_latency_ms", 0, 60_000),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"market {name} must be {least} to {most}, got {value}")


class OrderFlow:
    """The moving parts. `update` advances to the next book and returns what happened on the way, the book last."""

    def __init__(self, seed: int, start_ts_ns: int, schedule: Schedule, config: MarketConfig) -> None:
        self.now_ns = start_ts_ns
        """Venue time of the latest book."""
        self.ts_ns = start_ts_ns
        """Local time of the latest event."""
        self.played: list[tuple[int, Stretch]] = []
        self._random = Random(seed * 8 + 1).random
        self._coming = stretches.playing(schedule, seed * 8 + 2)
        self._ladders = ladders(seed * 8 + 3, config.levels)
        self._latencies = lognormal(median=config.feed_latency_ms * MS, sigma=0.47, least=0, most=300_000 * MS)
        period_ns = NS / config.updates_per_s
        self._pauses = [round(period_ns * (0.8 + 0.4 * (i + 0.5) / 64)) for i in range(64)]
        self._scale = config.volatility * config.start_px_ticks / 600_000
        self._stretch_end_ns = start_ts_ns
        self._behaviour = BEHAVIOUR[Stretch.CALM]
        self._level_log = 0
        self._level_count = 0
        self._sd = self._drift = self._informed = self._share_millis = 0
        self._until_sweep = EXPONENTIAL[int(self._random() * DRAWS)]
        self._anchor = self._fair = config.start_px_ticks * 1_000
        self._variant, self._turn = 0, 1
        self.bid_px = config.start_px_ticks
        self.ask_px = self.bid_px + 1
        self._bid_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
        self._ask_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
        self._bids_behind: Levels = ()
        self._asks_behind: Levels = ()
        self._rebuild_bids()
        self._rebuild_asks()
        self._bids: Levels = ((self.bid_px, self._bid_lots), *self._bids_behind)
        self._asks: Levels = ((self.ask_px, self._ask_lots), *self._asks_behind)

    def opening(self) -> BookUpdate:
        self.ts_ns += self._latencies[int(self._random() * DRAWS)]
        return BookUpdate(0, self.ts_ns, self.now_ns, self._bids, self._asks)

    def update(self) -> list[TradePrint | BookUpdate]:
        # Bits: 0-5 pause, 6-15 does the touch move, 16-37 what it does then, 41-52 latency.
        draw = int(self._random() * TWO_53)
        self.now_ns = now = self.now_ns + self._pauses[draw & 63]
        late = self._latencies[draw >> 41]
        self._level_count -= 1
        if self._level_count < 0 or now >= self._stretch_end_ns:
            self._turn_weather()
        self._fair += self._drift
        if self._informed:
            self._fair += self._informed
            if self._random() * 1_024 < self._behaviour.informed_flip_p:
                self._informed = -self._informed

        happened: list[TradePrint | BookUpdate] = []
        self._until_sweep -= self._behaviour.sweep_ppm
        if self._until_sweep < 0:
            self._until_sweep = EXPONENTIAL[int(self._random() * DRAWS)]
            self._sweep(late, happened)
        elif (draw >> 6) & 1023 < self._behaviour.move_p:
            self._move(NORMAL[(draw >> 16) & 4095], late, happened)
        else:
            self._stand(draw >> 16, late, happened)
        self._bids = ((self.bid_px, self._bid_lots), *self._bids_behind)
        self._asks = ((self.ask_px, self._ask_lots), *self._asks_behind)
        self.ts_ns = max(self.ts_ns, now + late)
        happened.append(BookUpdate(0, self.ts_ns, now, self._bids, self._asks))
        return happened

    def _turn_weather(self) -> None:
        """Begin the stretch that is due, let the volatility level take its step, and set what follows from both."""
        while self.now_ns >= self._stretch_end_ns:
            kind, lasts_ns = next(self._coming)
            self.played.append((self._stretch_end_ns, kind))
            self._stretch_end_ns += lasts_ns
            self._behaviour = BEHAVIOUR[kind]
        if self._level_count < 0:
            self._level_count = LEVEL_EVERY - 1
            kick = NORMAL[int(self._random() * DRAWS)] * LEVEL_KICK // 1_000
            self._level_log += kick - self._level_log // LEVEL_MEMORY
        # The level's mean square is 1. Moves are a share of price. Rounded, so that no platform's exp can show.
        share = self._scale * self._fair / self._anchor
        level = round(share * math.exp(self._level_log / 1_000_000 - LEVEL_SD_LOG**2), 6)
        self._sd = round(self._behaviour.sd_millis * level)
        self._share_millis = round(share * 1_000)
        self._drift = round(self._behaviour.drift_millis * level) + ((self._anchor - self._fair) >> SPRING)
        informed = round(self._behaviour.informed_millis * level)
        self._informed = informed if self._informed >= 0 else -informed

    def _move(self, normal_millis: int, late: int, happened: list[TradePrint | BookUpdate]) -> None:
        """The touch moves to the fair price and takes what stands in its way."""
        self._fair += normal_millis * self._sd // 1_000
        old_bid, old_ask = self.bid_px, self.ask_px
        # Bits: 0-3 width, 4-13 whether wide, 14-25 and 26-37 sizes of the prints, 38-49 size of the new bid.
        draw = int(self._random() * TWO_53)
        self.bid_px = bid = self._fair // 1_000
        wide = (draw >> 4) & 1023 < self._behaviour.wide_p
        self.ask_px = ask = bid + (WIDTHS[draw & 15] if wide else 1)
        if bid >= old_ask or ask <= old_bid:
            side, taken = (Side.BUY, self._asks) if bid >= old_ask else (Side.SELL, self._bids)
            reach = bid if side is Side.BUY else ask
            px, lots = taken[0]
            self._print(self.now_ns - 2 * MS, late, px, min(self._trade_lots(draw >> 14), lots), side, happened)
            last = px
            for level_px, level_lots in taken:
                if (level_px - reach) * side > 0:
                    break
                last, lots = level_px, level_lots
            else:
                last = reach  # beyond what is displayed
            if last != px:
                self._print(self.now_ns - MS, late, last, min(self._trade_lots(draw >> 26), lots), side, happened)
        if bid != old_bid:
            self._bid_lots = TOUCH_LOTS[(draw >> 38) & 4095]
            self._rebuild_bids()
        if ask != old_ask:
            self._ask_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
            self._rebuild_asks()

    def _sweep(self, late: int, happened: list[TradePrint | BookUpdate]) -> None:
        """One order takes a side to a far price, through what is displayed and beyond it.

        The other touch follows to where the price settles. The touch it took is there too, or in half of the sweeps
        still at the far price: that gap is filled by the next move, so a price comes back without a trade.
        """
        # Bits: 0-2 whether it knows, 3 its side and 4-6 what reverts if not, 7-9 prints beyond, 10-21 reach, 22 gap.
        draw = int(self._random() * TWO_53)
        knows = self._informed != 0 and draw & 7 != 0
        buying = self._informed > 0 if knows else draw & 8 != 0
        reach = SWEEP_TICKS[(draw >> 10) & 4095] * self._share_millis // 1_000
        back = 0 if knows else reach * SWEEP_REVERTS[(draw >> 4) & 7] // 1_000
        side, taken = (Side.BUY, self._asks) if buying else (Side.SELL, self._bids)
        far = (self.bid_px + 1 if buying else self.ask_px - 1) + reach * side
        if (far - taken[0][0]) * side <= 0:
            return  # no volatility was asked for, or the gap of the last sweep is wider than this one reaches
        at = self.now_ns - (self._pauses[0] >> 1)
        for px, lots in taken:
            if (px - far) * side > 0:
                break
            self._print(at, late, px, min(self._sweep_lots(), lots), side, happened)
        else:
            last = taken[-1][0]
            beyond = (far - last) * side
            prints = min(beyond, 1 + ((draw >> 7) & 7))
            for step in range(1, prints + 1):
                self._print(at, late, last + beyond * step // prints * side, self._sweep_lots(), side, happened)
        self._fair += (reach - back) * side * 1_000
        settled, gap = far - back * side, back if (draw >> 22) & 1 else 0
        if settled + gap * side == taken[0][0]:
            gap += 1  # all was taken there, and nobody is back yet
        self.bid_px, self.ask_px = (settled - 1, settled + gap) if buying else (settled - gap, settled + 1)
        self._bid_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
        self._ask_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
        self._rebuild_bids()
        self._rebuild_asks()

    def _sweep_lots(self) -> int:
        return self._trade_lots(int(self._random() * DRAWS)) * SWEEP_FACTOR

    def _stand(self, draw: int, late: int, happened: list[TradePrint | BookUpdate]) -> None:
        """The touch stands: trades wear it down, makers refill it, sizes behind it change."""
        bid_lots, ask_lots = self._bid_lots, self._ask_lots
        # Bits: 0-9 does anybody trade, 10-11 and 12-13 does a side refill, 14-15 do sizes behind change.
        if draw & 1023 < self._behaviour.trade_p:
            more = int(self._random() * TWO_53)
            for _ in range(2 if more & 3 == 0 else 1):
                self._trade_at_touch(more >> 2, late, happened)
                more >>= 20
        if (draw >> 10) & 3 == 0 and self._bid_lots == bid_lots:
            self._bid_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
        if (draw >> 12) & 3 == 0 and self._ask_lots == ask_lots:
            self._ask_lots = TOUCH_LOTS[int(self._random() * DRAWS)]
        if (draw >> 14) & 3 == 0:
            if not 0 <= self._variant + self._turn < VARIANTS:
                self._turn = -self._turn
            self._variant += self._turn
            self._rebuild_bids()
            self._rebuild_asks()

    def _trade_at_touch(self, draw: int, late: int, happened: list[TradePrint | BookUpdate]) -> None:
        """One trade, leaving at least a lot. Bits: 0-2 whether it knows, 3 its side if not, 4-15 its size."""
        if draw & 7 and self._informed:
            buying = self._informed > 0
        else:
            buying = bool(draw & 8)
        at = self.now_ns - (self._pauses[0] >> 1)
        lots = self._trade_lots(draw >> 4)
        if buying:
            lots = min(lots, self._ask_lots - 1)
            if lots > 0:
                self._ask_lots -= lots
                self._print(at, late, self.ask_px, lots, Side.BUY, happened)
        else:
            lots = min(lots, self._bid_lots - 1)
            if lots > 0:
                self._bid_lots -= lots
                self._print(at, late, self.bid_px, lots, Side.SELL, happened)

    def _trade_lots(self, draw: int) -> int:
        return TRADE_LOTS[draw & 4095] * self._behaviour.size_factor

    def _print(
        self, at: int, late: int, px: int, lots: int, side: Side, happened: list[TradePrint | BookUpdate]
    ) -> None:
        self.ts_ns = max(self.ts_ns, at + late)
        happened.append(TradePrint(0, self.ts_ns, at, px, lots, side))

    def _rebuild_bids(self) -> None:
        touch = self.bid_px
        rungs = self._ladders[self._variant][0][touch % RESIDUES]
        self._bids_behind = tuple([(touch - away, lots) for away, lots in rungs])

    def _rebuild_asks(self) -> None:
        touch = self.ask_px
        rungs = self._ladders[self._variant][1][touch % RESIDUES]
        self._asks_behind = tuple([(touch + away, lots) for away, lots in rungs])
