"""What a fill was worth later, and what that adds to the next quote."""

import math
from bisect import bisect_right
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import fading, fair_value, markout
from mmdaemon.core.events import BookUpdate, Fill, LinkChanged, TimerFired
from mmdaemon.core.fading import FadingMean
from mmdaemon.core.markout import HORIZONS_S, Held, Markout, Markouts
from mmdaemon.core.types import BPS, NEVER_NS, NS, ExecKind, Link, Liquidity, Regime, Side
from tests.core.build import DEFAULT, MID, Desk, modest, running

P = DEFAULT.cost
BTC = DEFAULT.instrument
UNIT = BTC.unit_e10
CALM, SHOCK = Regime.NEUTRAL_LOW_VOL, Regime.HIGH_VOL_SHOCK
TAU_S = 1_800.0
LATE_NS = 2 * NS


def fill(
    at_s: float,
    side: Side,
    px_ticks: int,
    qty_lots: int = 10,
    liquidity: Liquidity = Liquidity.MAKER,
    kind: ExecKind = ExecKind.TRADE,
    told_after_ns: int | None = None,
) -> Fill:
    at_ns = round(at_s * NS)
    venue_ts_ns = None if told_after_ns is None else at_ns - told_after_ns
    return Fill(at_ns, at_ns, venue_ts_ns, f"t{at_ns}", "x", side, px_ticks, qty_lots, 0, liquidity, kind)


class Market:
    """Fills and what closes their horizons, by the second."""

    def __init__(self) -> None:
        self.m = Markouts()
        self.seq = 0

    def fill(
        self,
        at_s: float,
        side: Side = Side.BUY,
        px: int = 99_900,
        fair: float | None = 100_000.0,
        regime: Regime = CALM,
        **more: Any,
    ) -> None:
        markout.on_fill(self.m, fill(at_s, side, px, **more), fair, regime, BTC, LATE_NS)

    def book(self, at_s: float, held: Held) -> tuple[Markout, ...]:
        """An event at that moment, `held` being the book of before."""
        self.seq += 1
        closed = markout.close(self.m, round(at_s * NS), held, self.seq)
        for each in closed:
            markout.learn(self.m, each, UNIT, P)
        return closed

    def timer(self, at_s: float, fair: float | None) -> tuple[Markout, ...]:
        """Just after that moment, with a book from just before the first moment that is due."""
        return self.book(at_s + 1e-9, Held(fair, -NEVER_NS, NEVER_NS))

    def adverse(self, at_s: float, side: Side = Side.BUY, regime: Regime = CALM) -> float:
        return markout.adverse_bps(self.m, regime, side, round(at_s * NS), P)

    def toxic(self, at_s: float, impact_bps: float, side: Side = Side.BUY) -> None:
        """A fill after which the price moved by so much for us within 5 s."""
        self.fill(at_s, side)
        self.timer(at_s + 5, 100_000.0 * (1 + side * impact_bps * 1e-4))


# --- horizons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_each_horizon_is_closed_once_at_its_second(side: Side) -> None:
    market = Market()
    market.fill(10, side, px=100_000 - side * 100)  # 10 bps better than fair
    done: list[tuple[float, Markout]] = []
    for tenth in range(700):
        at_s = 10 + tenth / 10
        done += [(at_s - 10, m) for m in market.timer(at_s, 100_000.0 + side * tenth)]
    assert [m.horizon_s for _, m in done] == list(HORIZONS_S)
    assert [after for after, _ in done] == pytest.approx(HORIZONS_S)
    for after, m in done:
        assert m.effective_bps == pytest.approx(10.0)
        assert m.impact_bps == pytest.approx(after)  # a tick is 0.1 bps, ten a second
        assert m.markout_bps == m.effective_bps + after == pytest.approx(10.0 + after)
    assert not market.m.pending
    assert market.m.next_due_ns == NEVER_NS


def test_a_price_that_moves_against_us_is_negative_impact() -> None:
    for side in Side:
        market = Market()
        market.fill(1, side, px=100_000)
        (one,) = market.timer(2, 100_000.0 - side * 30)
        assert (one.effective_bps, one.impact_bps) == (0.0, pytest.approx(-3.0))


def test_the_net_markout_is_without_the_fee_that_was_charged() -> None:
    market = Market()
    rebated = fill(1, Side.SELL, 100_000, qty_lots=10)
    fee_e10 = -round(BTC.notional_e10(100_000, 10) * 0.5e-4)
    markout.on_fill(market.m, msgspec.structs.replace(rebated, fee_e10=fee_e10), 100_010.0, CALM, BTC, LATE_NS)
    (one,) = market.timer(2, 100_000.0)
    assert one.markout_bps == pytest.approx(0.0, abs=1e-9)
    assert one.net_bps == pytest.approx(0.5, abs=1e-4)


def test_a_horizon_without_a_healthy_book_is_unavailable_and_never_zero() -> None:
    market = Market()
    market.fill(1)
    for closed in (market.timer(2, None), market.timer(6, None)):
        assert [(m.fair_ticks, m.impact_bps, m.markout_bps, m.net_bps) for m in closed] == [(None,) * 4]
    assert market.m.unavailable == 2
    assert not market.m.impacts  # nothing was learned from what was not seen
    assert [m.horizon_s for m in market.timer(62, 100_000.0)] == [30, 60]


def test_a_horizon_takes_the_book_of_its_own_moment_however_late_it_is_closed() -> None:
    """Received at the moment or before, and not older then than the guard lets it be."""
    for from_s, until_s, available in ((5.5, 6.5, True), (6.0, 8.0, True), (4.0, 6.0, False), (6.1, 8.1, False)):
        market = Market()
        market.fill(5)
        (one,) = market.book(6.2, Held(100_000.0, round(from_s * NS), round(until_s * NS)))
        assert (one.fair_ticks is not None) is available


def test_at_the_moment_itself_a_book_may_still_come() -> None:
    market = Market()
    market.fill(5)
    assert market.book(6.0, Held(100_000.0, NS, NEVER_NS)) == ()


def test_a_fill_with_no_book_before_it_has_no_markout() -> None:
    market = Market()
    market.fill(1, fair=None)
    assert (market.m.unpriced, len(market.m.pending)) == (1, 0)


def test_a_fill_that_was_told_late_has_no_markout() -> None:
    """What a gap held back is read later, with a book of later: that is not what it was made at."""
    market = Market()
    market.fill(10, told_after_ns=LATE_NS + 1)
    assert (market.m.unpriced, len(market.m.pending)) == (1, 0)
    market.fill(20, told_after_ns=LATE_NS)
    market.fill(30, told_after_ns=-NS)
    assert (market.m.unpriced, len(market.m.pending)) == (1, 2)


def test_fills_in_flight_are_kept_apart() -> None:
    market = Market()
    market.fill(1, Side.BUY)
    market.fill(4, Side.SELL)
    first, second = "t1000000000", "t4000000000"
    assert [(m.fill.trade_id, m.horizon_s) for m in market.timer(5, 100_000.0)] == [(first, 1), (second, 1)]
    assert [(m.fill.trade_id, m.horizon_s) for m in market.timer(6, 100_000.0)] == [(first, 5)]
    market.timer(61, 100_000.0)
    assert [p.fill.trade_id for p in market.m.pending] == [second]


def test_what_one_event_closes_is_in_the_order_of_its_moments() -> None:
    """So that what is learned does not depend on which event closed it."""
    market = Market()
    for second in (1, 2, 27):
        market.fill(second)
    closed = market.timer(40, 100_000.0)
    due = [m.due_ns for m in closed]
    assert due == sorted(due)
    assert len(due) == 8


def test_what_an_event_closed_is_there_until_the_next_one() -> None:
    market = Market()
    market.fill(1)
    closed = market.timer(2, 100_000.0)
    assert markout.matured_in(market.m, market.seq) == closed != ()
    assert markout.matured_in(market.m, market.seq + 1) == ()


def test_impact_in_money_is_that_of_the_first_five_seconds() -> None:
    market = Market()
    market.fill(1, Side.SELL)
    market.timer(2, 100_050.0)
    market.timer(6, 100_020.0)
    market.timer(61, 100_900.0)
    assert market.m.impact_5s_e10 == -20 * 10 * UNIT


@pytest.mark.parametrize(
    "not_a_quote", [{"liquidity": Liquidity.TAKER}, {"kind": ExecKind.LIQUIDATION}, {"kind": ExecKind.ADL}]
)
def test_what_took_is_valued_and_not_learned_from(not_a_quote: dict[str, Any]) -> None:
    market = Market()
    market.fill(1, **not_a_quote)
    closed = market.timer(62, 99_000.0)
    assert len(closed) == len(HORIZONS_S)
    assert market.m.impact_5s_e10 != 0
    assert market.adverse(62) == 0.0


# --- adverse selection ------------------------------------------------------------------------------------------------


def test_one_bad_fill_is_averaged_with_fifty_of_nothing() -> None:
    market = Market()
    market.toxic(1, -10.2)
    assert market.adverse(6) == pytest.approx(10.2 / 51)


def test_the_first_fills_count_alike_however_close_together() -> None:
    market = Market()
    market.toxic(1, -10.0)
    market.toxic(1.1, 0.0)
    assert market.adverse(6.1) == pytest.approx(5.0 * 2 / 52, rel=0.001)


def test_it_is_kept_by_side_and_regime() -> None:
    market = Market()
    market.toxic(1, -10.0, Side.SELL)
    assert market.adverse(6, Side.SELL) > 0
    assert market.adverse(6, Side.BUY) == 0.0
    assert market.adverse(6, Side.SELL, SHOCK) == 0.0


def test_a_price_that_moves_for_us_gives_no_discount() -> None:
    market = Market()
    market.toxic(1, 10.0)
    assert market.adverse(6) == 0.0


@pytest.mark.parametrize("fills", [1, 12, 1_000])
def test_without_fills_it_decays_by_e_in_each_tau(fills: int) -> None:
    market = Market()
    for i in range(fills):
        market.toxic(1 + i * 6, -8.0)
    last_s = (fills - 1) * 6 + 6
    start = market.adverse(last_s)
    assert start > 0
    for k in range(1, 12):
        assert market.adverse(last_s + k * TAU_S) == pytest.approx(start * math.exp(-k))


@pytest.mark.parametrize("fills", [1, 12, 1_000])
@pytest.mark.parametrize("silence_s", [0.5, 60.0, TAU_S / 4, TAU_S, 5 * TAU_S])
def test_a_fill_of_nothing_brings_back_nothing(fills: int, silence_s: float) -> None:
    """What was forgotten in a silence stays forgotten: the fill that ends it never adds to what it does not show."""
    market = Market()
    for i in range(fills):
        market.toxic(1 + i * 6, -8.0)
    end_s = (fills - 1) * 6 + 6 + silence_s
    before = market.adverse(end_s)
    market.toxic(end_s - 5, 0.0)
    assert market.adverse(end_s) < before


@pytest.mark.parametrize("gap_s", [2.0, 30.0, 600.0])
def test_under_constant_toxicity_it_converges(gap_s: float) -> None:
    """To the measured impact, shrunk by how many fills the memory holds. It does not run away."""
    market = Market()
    seen: list[float] = []
    n = math.ceil(8 * TAU_S / gap_s)
    for i in range(n):
        market.toxic(1 + i * gap_s, -6.0)
        seen.append(market.adverse(1 + i * gap_s + 5))
    fills = 1 / (1 - math.exp(-gap_s / TAU_S))
    assert seen[-1] == pytest.approx(6.0 * fills / (fills + 50), rel=0.01)
    assert all(b >= a - 1e-9 for a, b in pairwise(seen))
    assert abs(seen[-1] - seen[-2]) < 1e-3


def test_it_forgets_a_toxic_past_as_good_fills_come() -> None:
    market = Market()
    for i in range(300):
        market.toxic(1 + i * 10, -8.0)
    worst = market.adverse(3_001)
    for i in range(300, 1_500):
        market.toxic(1 + i * 10, 0.0)
    assert market.adverse(15_001) < 0.02 * worst


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(-500, 500)), max_size=40))
@modest(80)
def test_it_stays_between_nothing_and_its_cap(history: list[tuple[float, float]]) -> None:
    market, at_s = Market(), 1.0
    for wait_s, impact in history:
        at_s += wait_s
        market.toxic(at_s, impact)
        at_s += 5
        assert 0.0 <= market.adverse(at_s) <= P.adverse_cap_bps
        assert 0.0 <= market.adverse(at_s + 10_000) <= market.adverse(at_s)


# --- the mean that forgets --------------------------------------------------------------------------------------------


def learned(*fills: tuple[float, float], averaged: bool = False) -> FadingMean:
    made = FadingMean()
    for at_s, x in fills:
        fading.learn(made, x, round(at_s * NS), round(TAU_S * NS), averaged=averaged)
    return made


def test_a_fill_stands_for_the_time_before_it_a_quarter_of_tau_at_most() -> None:
    quarter = 1 - math.exp(-0.25)
    assert learned((1, 8.0)).mean == pytest.approx(8 * quarter)
    kept = math.exp(-60 / TAU_S)
    assert learned((1, 8.0), (61, 2.0)).mean == pytest.approx(8 * quarter * kept + 2 * (1 - kept))
    assert learned((1, 8.0), (1 + TAU_S, 2.0)).mean == pytest.approx(8 * quarter * math.exp(-1) + 2 * quarter)


def test_fills_at_one_moment_all_count_in_an_average() -> None:
    assert learned((1, 8.0), (1, 2.0), (1, -1.0), averaged=True).mean == pytest.approx(3.0)
    assert learned((1, 8.0), (1, 2.0), averaged=False).mean == learned((1, 8.0)).mean


def test_it_moves_with_the_clock_of_another_process() -> None:
    made = learned((100, 8.0))
    fading.rebase(made, -60 * NS, 50 * NS)
    assert made.at_ns == 40 * NS
    fading.rebase(made, 60 * NS, 50 * NS)
    assert made.at_ns == 50 * NS  # never in the future
    none = FadingMean()
    fading.rebase(none, 60 * NS, 90 * NS)
    assert none.at_ns == 0


# --- in the engine ----------------------------------------------------------------------------------------------------


def hurt(desk: Desk, times: int) -> None:
    for _ in range(times):
        desk.all_of(desk.book(MID - 5, MID + 5), desk.fill(Side.BUY, 1, MID - 20), desk.fill(Side.SELL, 1, MID - 20))
        for _ in range(6):
            desk.book(MID - 605, MID - 595)
            desk.seconds(1)


def test_toxic_buys_push_the_bid_away_and_leave_the_ask() -> None:
    desk = running()
    hurt(desk, 12)
    assert desk.state.sampled.adverse_buy_bps >= 1.0
    assert desk.state.sampled.adverse_sell_bps == 0.0
    assert desk.state.inputs is not None
    assert desk.state.inputs.adverse_buy_bps == desk.state.sampled.adverse_buy_bps


def test_a_stale_book_makes_a_horizon_unavailable() -> None:
    desk = running()
    desk.feed(desk.fill(Side.BUY, 1))
    desk.wait(10).all_of(desk.health(), desk.timer())
    # After one second the book was still good, and that is known ten seconds later.
    assert [m.fair_ticks for m in markout.matured_in(desk.state.markouts, desk.state.seq)] == [float(MID), None]
    assert desk.state.markouts.unavailable == 1
    assert desk.state.markouts.impacts == {}


def test_a_break_of_the_stream_comes_after_what_was_due_before_it() -> None:
    desk = running()
    desk.feed(desk.fill(Side.BUY, 1))
    desk.wait(1.5).feed(desk.link("public", False))
    assert [m.fair_ticks for m in markout.matured_in(desk.state.markouts, desk.state.seq)] == [float(MID)]
    desk.wait(4).feed(desk.timer())
    assert desk.state.markouts.unavailable == 1


def test_a_refused_book_closes_nothing() -> None:
    desk = running()
    desk.feed(desk.fill(Side.BUY, 1))
    before = desk.state.markouts.pending[-1].next_horizon
    desk.wait(1.5).feed(BookUpdate(*desk.now, (), ((MID, 1),)))
    assert desk.state.markouts.pending[-1].next_horizon == before


def test_a_fill_of_a_time_that_has_not_come_does_not_keep_all_that_come_after_it() -> None:
    market = Market()
    market.fill(1e9)
    for second in range(1, 200):
        market.fill(float(second))
        market.timer(second + 0.5, 100_000.0)
    assert len(market.m.pending) <= 62
    assert market.m.unavailable == 0


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["book", "book", "book", "book", "fill", "timer", "refused", "cut"]),
        st.sampled_from([0, 1, 250_000_000, 999_999_999, 1_000_000_000, 2_000_000_001, 7_000_000_000]),
        st.integers(-40, 40),
    ),
    max_size=60,
)


@given(_STEPS)
@modest(60)
def test_every_horizon_is_the_last_book_at_or_before_its_moment(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain search over all books, however books, timers, refusals and breaks of the stream fall."""
    desk = Desk(msgspec.structs.replace(DEFAULT, shadow=False)).learn()
    limit_ns = DEFAULT.guard.book_age_max_ns
    books: list[tuple[int, float | None]] = [(desk.state.book.healthy_mono_ns, float(MID))]
    fills: list[tuple[str, int, float | None]] = []
    found: dict[tuple[str, int], float | None] = {}

    def feed(event: BookUpdate | Fill | TimerFired | LinkChanged) -> None:
        desk.feed(event)
        for closed in markout.matured_in(desk.state.markouts, desk.state.seq):
            key = (closed.fill.trade_id, closed.horizon_s)
            assert key not in found
            found[key] = closed.fair_ticks

    for kind, wait_ns, off in steps:
        desk.now_ns += wait_ns
        match kind:
            case "book":
                feed(desk.book(MID + off - 5, MID + off + 5, bid_qty=100 + abs(off)))
                books.append(
                    (desk.now_ns, fair_value.fair_value_ticks(desk.state.book, 1))
                )  # all levels of a side are alike
            case "refused":
                feed(BookUpdate(*desk.now, ((MID + 9, 1),), ((MID, 1),)))
            case "fill":
                made = desk.fill(Side.BUY, 1)
                fills.append((made.trade_id, desk.now_ns, books[-1][1]))
                feed(made)
            case "cut":
                feed(LinkChanged(*desk.now, Link.PUBLIC, True))
                books.append((desk.now_ns, None))
            case _:
                feed(desk.timer())
    desk.now_ns += 100 * NS
    feed(desk.timer())

    expected: dict[tuple[str, int], float | None] = {}
    for trade_id, at_ns, fair0 in fills:
        for horizon_s in HORIZONS_S if fair0 is not None else ():
            due_ns = at_ns + horizon_s * NS
            from_ns, fair = books[bisect_right(books, due_ns, key=lambda book: book[0]) - 1]
            expected[trade_id, horizon_s] = fair if due_ns - from_ns <= limit_ns else None
    assert found.keys() == expected.keys()
    for key, fair in expected.items():
        assert found[key] == (fair if fair is None else pytest.approx(fair, abs=1e-6))
    unpriced = sum(fair0 is None for _, _, fair0 in fills)
    assert (desk.state.markouts.unpriced, desk.state.markouts.next_due_ns) == (unpriced, NEVER_NS)


def test_bps_are_of_the_fair_value_at_the_fill() -> None:
    market = Market()
    market.fill(1, Side.BUY, px=99_000, fair=100_000.0)
    (one,) = market.timer(2, 101_000.0)
    assert one.effective_bps == pytest.approx(1_000 / 100_000 / BPS)
    assert one.impact_bps == pytest.approx(1_000 / 100_000 / BPS)
