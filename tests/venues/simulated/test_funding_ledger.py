"""The simulated venue's ledger over 99 recorded BTC settlements, against a computation of its own in decimals.

    payment = -position * mark * rate,   mark = opening of the 15-minute mark candle that begins at the settlement

Positive is received. The recorded marks and rates (`bitget_history`) are played through the whole venue: its feed, its
clock, its order of things. Nothing of `mmdaemon` is used to compute what must come out.
"""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core import position
from mmdaemon.core.events import Bill, BillKind, BookUpdate, Event, FundingRate, MarketEvent, MarkPrice, SourceEnded
from mmdaemon.core.types import E10, NS, Instrument, Side
from mmdaemon.venues.base import Cursor
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.records import Truth
from mmdaemon.venues.simulated.venue import SimulatedVenue

MS = 1_000_000
INTERVAL_S = 28_800
INSTRUMENT = Instrument.of(venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
TICK, LOT = Decimal("0.1"), Decimal("0.0001")
SETTLEMENTS = 99


class Settlement(NamedTuple):
    ts_ns: int
    rate: float


class Recorded(NamedTuple):
    settlements: list[Settlement]
    marks: list[tuple[int, Decimal]]
    """Openings of the 15-minute mark candles, from four hours before the first settlement to the last."""

    def mark_at(self, ts_ns: int) -> Decimal:
        return dict(self.marks)[ts_ns]


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> Recorded:
    folder = shared_data / "bitget_history"
    funding = pq.read_table(folder / "BTC-USDT_funding.parquet").to_pylist()
    candles = pq.read_table(folder / "BTC-USDT_mark_15m.parquet", columns=["timestamp_ms", "open"]).to_pylist()
    settlements = [Settlement(row["timestamp_ms"] * MS, row["rate"]) for row in funding]
    begin, end = settlements[0].ts_ns - 4 * 3_600 * NS, settlements[-1].ts_ns
    opened = ((row["timestamp_ms"] * MS, Decimal(repr(row["open"]))) for row in candles)
    return Recorded(settlements, [mark for mark in opened if begin <= mark[0] <= end])


class Market:
    """Marks and predicted rates as a venue tells them: each rate for the whole interval before it is settled, the next
    one at the very moment of the settlement."""

    instrument = INSTRUMENT
    refused: dict[str, int] = {}  # noqa: RUF012 - a source's count, never written here
    provenance: dict[str, str] = {"market": "recorded marks and rates"}  # noqa: RUF012

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.start_ts_ns = recorded.marks[0][0]

    def events(self) -> Iterator[MarketEvent]:
        rates = iter(self._recorded.settlements)
        told_ns = 0
        for at, mark in self._recorded.marks:
            ticks = int(mark / TICK)
            if at == self.start_ts_ns:
                yield BookUpdate(0, at, at, ((ticks - 500, 10_000),), ((ticks + 500, 10_000),))
            yield MarkPrice(0, at, at, ticks)
            if at >= told_ns and (settlement := next(rates, None)) is not None:
                yield FundingRate(0, at, at, settlement.rate, settlement.ts_ns, INTERVAL_S)
                told_ns = settlement.ts_ns
        ended_ns = self._recorded.marks[-1][0] + NS
        yield SourceEnded(0, ended_ns, ended_ns)


def expected(recorded: Recorded, lots: int) -> list[Decimal]:
    return [-(lots * LOT) * recorded.mark_at(each.ts_ns) * Decimal(repr(each.rate)) for each in recorded.settlements]


def quote(amount_e10: int) -> Decimal:
    return Decimal(amount_e10).scaleb(-10)


class Played(NamedTuple):
    bills: list[Bill]
    """As a daemon reads them."""
    seen: list[Event]
    truth: Truth


def play(recorded: Recorded, lots: int, leverage: int = 1) -> Played:
    """Hold `lots` from one second after the start, to beyond the last settlement."""
    market = Market(recorded)
    seen: list[Event] = []

    async def main(clock: VirtualClock) -> Played:
        venue = SimulatedVenue(market, clock, SimulatedConfig(leverage=leverage), 7)
        await venue.open(seen.append)
        await asyncio.sleep(1)
        venue.manual_trade(Side.BUY if lots > 0 else Side.SELL, abs(lots))
        await asyncio.sleep((recorded.marks[-1][0] - market.start_ts_ns) // NS + 10)
        played = Played(await venue.bills(Cursor(0)), seen, venue.truth())
        await venue.close()
        return played

    return run_virtual(main, start_wall_ns=market.start_ts_ns)


def test_the_recording_is_what_it_is_said_to_be(recorded: Recorded) -> None:
    """99 settlements, exactly eight hours apart, each with a candle that opens at it; rates of both signs."""
    times = [each.ts_ns for each in recorded.settlements]
    rates = [each.rate * 1e4 for each in recorded.settlements]
    assert len(times) == SETTLEMENTS
    assert {later - earlier for earlier, later in pairwise(times)} == {INTERVAL_S * NS}
    assert len(recorded.marks) == (SETTLEMENTS - 1) * 32 + 16 + 1
    assert (min(rates), max(rates)) == pytest.approx((-1.47, 1.0))
    assert sum(rates) / SETTLEMENTS == pytest.approx(0.0087, abs=5e-5)
    assert sum(map(abs, rates)) / SETTLEMENTS == pytest.approx(0.53, abs=5e-3)


@pytest.mark.parametrize(("lots", "leverage"), [(7_000, 1), (-7_000, 1), (7_000, 5), (-7_000, 5)])
def test_each_bill_and_their_sum_are_those_of_the_decimals(recorded: Recorded, lots: int, leverage: int) -> None:
    """0.7 BTC long and short, at leverage 1 and 5: every bill to the last digit, at the settlement, once, read and told
    alike; the wallet and our own books come to the same sum."""
    played = play(recorded, lots, leverage)
    wanted = expected(recorded, lots)
    assert [(bill.kind, bill.venue_ts_ns) for bill in played.bills] == [
        (BillKind.FUNDING, each.ts_ns) for each in recorded.settlements
    ]
    assert [quote(bill.amount_e10) for bill in played.bills] == wanted
    assert len({bill.bill_id for bill in played.bills}) == SETTLEMENTS
    streamed = [event for event in played.seen if isinstance(event, Bill)]
    assert [(bill.bill_id, bill.amount_e10) for bill in streamed] == [
        (bill.bill_id, bill.amount_e10) for bill in played.bills
    ]
    assert played.truth.wallet.funding == sum(wanted)

    books = position.begin(INSTRUMENT, 0)
    for bill in (*streamed, *played.bills):  # what the stream told is read again
        position.on_bill(books, bill)
    assert quote(books.funding_e10) == sum(wanted)
    assert books.duplicate_bills == SETTLEMENTS


def test_what_a_long_pays_a_short_receives_and_the_sum_is_known(recorded: Recorded) -> None:
    """One BTC held long over all 99 pays 2.9044876: less than the sum of the rates, +0.86 bps, at the average mark
    (5.92), because the mark was lower at the settlements that cost most."""
    long, short = expected(recorded, 10_000), expected(recorded, -10_000)
    assert sum(long) == Decimal("-2.9044876") == -sum(short)
    played = [[quote(bill.amount_e10) for bill in play(recorded, lots).bills] for lots in (10_000, -10_000)]
    assert played == [long, short]


def test_a_mark_of_the_very_moment_counts_and_one_later_does_not(recorded: Recorded) -> None:
    """A mark, a rate of the next interval and the settlement at one moment: the mark is in, the rate is not."""
    first = recorded.settlements[0]
    at = first.ts_ns
    marks = [(at - 900 * NS, Decimal("60000.0")), (at, Decimal("61000.0")), (at + NS, Decimal("62000.0"))]
    (bill,) = play(Recorded([first, Settlement(at + INTERVAL_S * NS, -0.005)], marks), 10_000).bills
    assert quote(bill.amount_e10) == -Decimal(61_000) * Decimal(repr(first.rate))
