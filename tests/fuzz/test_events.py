"""The event stream into the core: what the fuzzer found, each by itself, and a small run of the fuzzer."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import position
from mmdaemon.core.events import (
    BarClosed,
    BillKind,
    BookUpdate,
    Event,
    Fill,
    FundingRate,
    MarketDataRefused,
    OrderAdopted,
    TradePrint,
)
from mmdaemon.core.types import NS, GuardState, OrderStatus, Purpose, Side
from tests.core.build import MID, Desk, modest, running
from tests.fuzz.events import EPISODE, Episode, Tally, fuzz, state_of_money

BAD_NUMBERS = (math.nan, math.inf, -math.inf, 0.5, 1e30, 10**400, -(10**400), 2**63 + 1)


def at(desk: Desk, event: Event, **changed: Any) -> Event:
    return msgspec.structs.replace(desk.wait(0.001) and event, mono_ns=desk.now[0], ts_ns=desk.now[1], **changed)


def test_a_small_run_of_the_fuzzer() -> None:
    tally = fuzz(1, 20_000)
    assert tally.hostile == 20_000
    assert tally.while_quoting > 3_000, "it fuzzed a core that stood still"
    assert tally.refused > 500
    assert tally.compared > 10
    assert tally.loud > 20
    assert tally.places > 300
    assert len(tally.kinds) == 23


@given(st.integers(0, 2**62))
@modest(30)
def test_any_episode(seed: int) -> None:
    Episode(seed, Tally()).play(EPISODE // 4)


# --- what it found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf, 0.5, -1])
def test_a_book_or_print_of_no_time_is_refused(time: Any) -> None:
    """NaN was kept as the time of the last book, and from then on no book was out of order any more."""
    desk = running()
    before = desk.state.book.bids
    desk.wait(0.1).feed(at(desk, desk.book(MID - 50, MID - 40), venue_ts_ns=time))
    assert desk.state.book.bids == before
    assert desk.state.book.refused["bad_time"] == 1
    assert desk.state.book.last_venue_ts_ns == 0
    desk.feed(TradePrint(*desk.now[:2], time, MID - 500, 1, None))
    assert desk.state.book.refused["bad_time"] == 2
    assert desk.state.book.through_since_ns == 0


@pytest.mark.parametrize("opened", [0.0, math.nan, False])
def test_a_bar_that_opened_at_no_whole_time_is_refused(opened: Any) -> None:
    desk = running()
    desk.feed(BarClosed(*desk.now, opened, MID, MID, MID, MID, 1, "venue"))
    assert desk.state.bars.ignored == {"bad_bar": 1}
    assert desk.state.bars.bars == []


@pytest.mark.parametrize("rate", [1.7e308, -1.7e308, 1.0, math.nan, 10**400])
def test_fee_rates_that_cannot_be_are_none(rate: Any) -> None:
    """A maker rate of 1.7e308 became infinite in bps, and the decision failed: the end of the process."""
    for maker, taker in ((rate, 0.0006), (0.0002, rate)):
        desk = running()
        desk.wait(0.1).feed(desk.fees(maker, taker))
        assert desk.state.venue.fees is None
        assert desk.guard is GuardState.SOFT_PAUSE
        desk.feed(desk.fees())
        desk.seconds(desk.params.guard.soft_clear_ns / NS + 1)
        assert desk.guard is GuardState.RUNNING


def test_funding_without_a_settlement_is_none() -> None:
    """The type forbids it, and nothing enforces that where an event is made: a timer compared None with a time."""
    desk = running()
    broken: Any = None
    desk.wait(0.1).feed(FundingRate(*desk.now, 0.0001, broken, 28_800))
    assert desk.state.venue.funding is None
    desk.seconds(1)
    assert desk.guard is GuardState.REDUCING


@pytest.mark.parametrize(
    ("rate", "next_ts_ns", "interval_s"),
    [
        (1e30, None, 28_800),
        (10**400, None, 28_800),
        (0.0001, 10**400, 28_800),
        (0.0001, math.nan, 28_800),
        (0.0001, None, math.nan),
        (0.0001, None, 10**400),
        (0.0001, None, 0),
    ],
)
def test_funding_that_cannot_be_is_none(rate: Any, next_ts_ns: Any, interval_s: Any) -> None:
    """A settlement in 10**400 ns overflowed a float in the carry: the end of the process."""
    desk = running()
    due = desk.now[1] + 3_600 * NS if next_ts_ns is None else next_ts_ns
    desk.wait(0.1).feed(FundingRate(*desk.now, rate, due, interval_s))
    assert desk.state.venue.funding is None
    assert desk.guard is GuardState.REDUCING


@pytest.mark.parametrize("field", ["position_lots", "wallet_e10", "unrealised_e10", "available_margin_e10"])
@pytest.mark.parametrize("number", BAD_NUMBERS)
def test_an_account_of_no_whole_numbers_is_not_known(field: str, number: Any) -> None:
    """NaN is below no limit, so a margin of NaN passed for plenty; and 10**400 overflowed the ratio."""
    desk = running()
    mark_ns = desk.state.venue.mark_ns
    desk.wait(0.1).feed(at(desk, desk.account(), **{field: number}))
    assert desk.state.venue.account is None
    assert desk.state.venue.mark_ns == mark_ns
    assert desk.guard is GuardState.SOFT_PAUSE
    desk.feed(desk.account())
    desk.seconds(desk.params.guard.soft_clear_ns / NS + 1)
    assert desk.guard is GuardState.RUNNING


@pytest.mark.parametrize("number", BAD_NUMBERS)
def test_money_that_is_not_whole_is_refused_loudly_and_books_nothing(number: Any) -> None:
    """A fee of NaN made equity NaN, and no loss limit can see a loss in that."""
    desk = running()
    before = (state_of_money(desk), list(desk.state.position.trade_ids), list(desk.state.position.bill_ids))
    facts: tuple[Callable[[], Event], ...] = (
        lambda: desk.fill(Side.BUY, 3, fee_e10=number),
        lambda: desk.fill(Side.BUY, number),
        lambda: desk.fill(Side.BUY, 3, number),
        lambda: desk.bill(BillKind.FUNDING, number),
    )
    for make in facts:
        with pytest.raises(ValueError, match=r"fill t|bill b"):
            desk.feed(make())
    good = desk.fill(Side.BUY, 3)
    assert isinstance(good, Fill)
    if number != 2**63 + 1 and type(number) is not int:
        with pytest.raises(ValueError, match="fill t"):
            desk.feed(msgspec.structs.replace(good, venue_ts_ns=number))
    assert (state_of_money(desk), list(desk.state.position.trade_ids), list(desk.state.position.bill_ids)) == before
    assert position.equity_cash_e10(desk.state.position, MID) == position.equity_basis_e10(desk.state.position, MID)


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        ("cum_filled_lots", (*BAD_NUMBERS, -1)),
        ("px_ticks", (*BAD_NUMBERS, 0, -1)),
        ("qty_lots", (*BAD_NUMBERS, 0, -1)),
        ("revision", (*BAD_NUMBERS, -1)),
    ],
)
def test_a_report_that_cannot_be_is_counted_and_frees_nothing(field: str, numbers: tuple[Any, ...]) -> None:
    """A size of 0 in force freed the reservation of an order that rests; a size of 1e18 made the sums floats."""
    for number in numbers:
        for status in OrderStatus:
            desk = running()
            order = desk.live[0]
            before, reserved = repr(order), (desk.state.orders.reserved_buy_lots, desk.state.orders.reserved_sell_lots)
            report = desk.update(order.client_id, status, None, revision=5)
            desk.feed(msgspec.structs.replace(report, **{field: number}))
            assert repr(desk.state.orders.live[order.client_id]) == before, (number, status)
            assert (desk.state.orders.reserved_buy_lots, desk.state.orders.reserved_sell_lots) == reserved
            assert desk.state.orders.anomalies == {"bad_report": 1}


@pytest.mark.parametrize("number", [*BAD_NUMBERS, -1])
def test_an_order_that_cannot_be_is_not_adopted(number: Any) -> None:
    for figures in ((number, 5, 0), (MID, number, 0), (MID, 5, number)):
        desk = running()
        live = list(desk.state.orders.live)
        desk.feed(OrderAdopted(*desk.now, "mmabcd-0-7", Side.BUY, *figures, Purpose.QUOTE, False, OrderStatus.LIVE))
        assert list(desk.state.orders.live) == live
        assert desk.state.orders.anomalies == {"bad_report": 1}


def test_names_of_refusals_are_not_collected_without_end() -> None:
    desk = running()
    for i in range(1_000):
        desk.feed(MarketDataRefused(*desk.now, f"{i}" * 100))
    assert len(desk.state.book.refused) < 100
    assert sum(desk.state.book.refused.values()) == 1_000
    assert max(map(len, desk.state.book.refused)) <= 100


def test_a_level_beyond_the_depth_is_never_looked_at() -> None:
    """What is cut off may be anything, and none of it is kept."""
    desk = running()
    asks: tuple[Any, ...] = (*((MID + 5 + i, 3) for i in range(5)), (math.nan, "x"), None)
    desk.wait(0.1).feed(BookUpdate(*desk.now, tuple((MID - 5 - i, 3) for i in range(5)), asks))
    assert desk.state.book.asks == asks[:5]
