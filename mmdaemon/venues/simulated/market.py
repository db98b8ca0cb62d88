"""A synthetic perpetual like BTCUSDT: book, trades, mark and funding rate from a seed, without end if so wished.

Price. A hidden fair price in thousandths of a tick moves by normal steps, whose size follows the stretch and a slow
volatility level (log AR(1) of forty minutes), plus a trend or a hidden informed drift where the stretch has one, plus a
spring of three days that keeps an endless market near its start. It is a martingale but for those.

Book. About four updates a second. The touch is one tick wide most of the time; behind it stand the levels of
`liquidity.py`. A touch that moves past a level has taken it: at least the old touch prints, and so does the furthest
displayed level that was passed, or, where the move left the displayed book, the new touch or a price beyond it.

Sweeps. Now and then one order takes a side far beyond what is displayed (ten levels are 0.3 bps): it prints at every
displayed level and at one to eight prices on the way to its far end, which is at least 1 bps away, all in one
moment. Then the price settles 0 to 90 % of the way back, in half of the sweeps at once and else by a gap in front of
the touch that the next move fills (a second or so), without a trade. A sweep by somebody informed does not revert.
Sweeps are rare in calm, common in trends and informed flow, most common in bursts, and as often up as down. They are
what fills a maker who rests some bps from the touch and follows it.

Rules a matching engine may lean on
  * a book is never crossed or locked; each side is sorted, sizes are positive;
  * a trade prints at a level of the last book, on the side it takes from, or beyond its last displayed level;
  * while a touch stands, the next book shows it less exactly what traded there; it is refilled only in updates in
    which nothing traded on that side;
  * events come by `venue_ts_ns` (at equal time: trades, book, mark, funding), and by `ts_ns`, FIFO after a seeded
    latency;
  * same seed, schedule and configuration: the same events. All state is integer; only `Random.random()` is drawn.

Calibration (BTC; the mixture of a day without a schedule; the test states the bands). Recorded, then seed 7:
  * 1-minute ATR(14)/price: median 2.6, p99 9.5, max 12.4 bps (Bitget minutes, January 2025). Here 3.1, 9.6, 12.6
    (medians of other seeds: 3.0 to 3.8);
  * 30 s |drift|: of the same minutes, by the square root of time: median 1.1, p95 4.6, p99 6.8 bps. Handed down are
    1.9, 9.7 and 16.2, from a wilder market: a minute's range holds its 30 s drifts, so a median of 1.9 needs an ATR of
    about 6 (Hyperliquid: 1.8 with 6.4). The StandX day, with an ATR of 2.4, has 0.8, 6.8 and 13.2. Here
    0.65, 5.8 and 10.4;
  * touch one tick, median 2.7 BTC; trades median 0.0007, p90 0.075 BTC. Here 2.9; 0.0008, 0.082;
  * funding per 8 h: mean 0.009, mean absolute 0.53, range about -1.5..+1 bps;
  * reach: bursts of prints of one side (gaps to 100 ms, 250 ms in all) an hour, by how far beyond the mid before them
    they printed; and the share of it that the mid had come back 1 s and 5 s later, of those from 3 bps on:

      bps                                  1     2     3     4     5     8     back 1 s, 5 s
      StandX, 2026-01-06 (19 h)          178    56    24    12   5.8   0.7     0.34  0.04   its calm hours 0.43  0.29
      Hyperliquid, 2025-09-04 (35 min)   148    26     5   1.7   1.7     0     0.13  0.01   of 3 sweeps
      Binance, 2024-08-08 (6 wild min)   930   355   240   188   157   125     0.39  0.51
      here                               124    54    28    14   6.6   1.0     0.32  0.32   informed flow 0, below 0
"""

import math
from collections.abc import Iterator
from random import Random

from mmdaemon.core.events import FundingRate, MarketEvent, MarkPrice, SourceEnded
from mmdaemon.core.types import E10, NEVER_NS, NS, Instrument
from mmdaemon.venues.simulated import stretches
from mmdaemon.venues.simulated.liquidity import DRAWS, NORMAL
from mmdaemon.venues.simulated.order_flow import MarketConfig, OrderFlow
from mmdaemon.venues.simulated.stretches import Schedule, Stretch

MINUTE_NS = 60 * NS
FUNDING_INTERVAL_S = 8 * 3600


class FundingPath:
    """The predicted rate, a step a minute: AR(1) in 1e-9 of notional, remembering two settlements.

    Stationary deviation 0.66 bps, so mean absolute 0.53; mean 0.009; held within +-1.5 bps.
    """

    MEAN_E9 = 900
    SD_E9 = 66_000
    BOUND_E9 = 150_000
    MEMORY_MINUTES = 960

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random
        self._kick = round(self.SD_E9 * math.sqrt(2 / self.MEMORY_MINUTES))
        self.rate_e9 = self.MEAN_E9 + NORMAL[int(self._random() * DRAWS)] * self.SD_E9 // 1_000

    def step(self) -> None:
        pull = (self.MEAN_E9 - self.rate_e9) // self.MEMORY_MINUTES
        kick = NORMAL[int(self._random() * DRAWS)] * self._kick // 1_000
        self.rate_e9 = max(-self.BOUND_E9, min(self.BOUND_E9, self.rate_e9 + pull + kick))


def next_settlement_ns(ts_ns: int) -> int:
    """The first of 00:00, 08:00, 16:00 UTC after a moment."""
    interval = FUNDING_INTERVAL_S * NS
    return (ts_ns // interval + 1) * interval


class SyntheticMarket:
    """A `MarketSource`. Every call of `events` plays the same market from its start.

    `duration_s` None is endless. `schedule` is played first, and then the seeded mixture of `stretches.py`.
    `played` lists `(start_ts_ns, kind)` of the stretches of the latest playing so far.

    Raises:
        ValueError: a duration, stretch or configuration that makes no market; it names which.
    """

    def __init__(
        self,
        seed: int = 7,
        start_ts_ns: int = 1_767_225_600 * NS,
        duration_s: float | None = None,
        schedule: Schedule = (),
        config: MarketConfig | None = None,
    ) -> None:
        config = config or MarketConfig()
        stretches.check(schedule)
        if duration_s is not None and not 0 < duration_s < math.inf:
            raise ValueError(f"duration_s must be positive, or None for an endless market; got {duration_s}")
        if seed < 0 or start_ts_ns < 0:
            raise ValueError(f"seed and start_ts_ns must not be negative, got {seed} and {start_ts_ns}")
        config.check()
        self.seed = seed
        self.schedule = schedule
        self.duration_s = duration_s
        self.config = config
        self.played: list[tuple[int, Stretch]] = []
        self._updates_a_mark = max(1, round(config.updates_per_s))
        self._start_ts_ns = start_ts_ns
        self._instrument = Instrument.of(
            venue="simulated",
            symbol="BTCUSDT",
            tick_e10=E10 // 10,
            lot_e10=E10 // 10_000,
            min_notional_e10=5 * E10,
        )

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def start_ts_ns(self) -> int:
        return self._start_ts_ns

    @property
    def refused(self) -> dict[str, int]:
        return {}

    @property
    def provenance(self) -> dict[str, str]:
        planned = ", ".join(f"{kind} {seconds:g} s" for kind, seconds in self.schedule)
        return {
            "market": "synthetic, made by mmdaemon; nobody traded in it",
            "seed": str(self.seed),
            "stretches": f"{planned}; then the seeded mixture" if planned else "seeded mixture",
            "duration": "endless" if self.duration_s is None else f"{self.duration_s:g} s",
            "book": f"{self.config.levels} levels a side, {self.config.updates_per_s:g} updates a second",
            "volatility": f"{self.config.volatility:g} of the calibrated",
            "feed latency": f"{self.config.feed_latency_ms:g} ms median, seeded",
            "funding": "seeded AR(1), settled at 00, 08 and 16 UTC",
            "impact of our orders": "none: the market does not see them",
        }

    def events(self) -> Iterator[MarketEvent]:
        flow = OrderFlow(self.seed, self._start_ts_ns, self.schedule, self.config)
        funding = FundingPath(self.seed * 8)
        self.played = flow.played
        end = NEVER_NS if self.duration_s is None else self._start_ts_ns + round(self.duration_s * NS)
        next_funding = (flow.now_ns // MINUTE_NS + 1) * MINUTE_NS
        yield flow.opening()
        mark_millis = (flow.bid_px + flow.ask_px) * 500
        yield _mark(flow, mark_millis)
        yield _funding(flow, funding)
        count = 0
        while True:
            latest_ts_ns = flow.ts_ns
            happened = flow.update()
            if flow.now_ns >= end:
                break
            yield from happened
            count += 1
            if count % self._updates_a_mark == 0:
                mark_millis += ((flow.bid_px + flow.ask_px) * 500 - mark_millis) // 4
                yield _mark(flow, mark_millis)
            if flow.now_ns >= next_funding:
                while flow.now_ns >= next_funding:
                    funding.step()
                    next_funding += MINUTE_NS
                yield _funding(flow, funding)
        yield SourceEnded(0, max(latest_ts_ns, end), end)


def _mark(flow: OrderFlow, mark_millis: int) -> MarkPrice:
    return MarkPrice(0, flow.ts_ns, flow.now_ns, (mark_millis + 500) // 1_000)


def _funding(flow: OrderFlow, funding: FundingPath) -> FundingRate:
    settles = next_settlement_ns(flow.now_ns)
    return FundingRate(0, flow.ts_ns, flow.now_ns, funding.rate_e9 / 1e9, settles, FUNDING_INTERVAL_S)
