"""The venue's money, against brute force in fractions."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core.types import E10, Instrument, Liquidity, Side
from mmdaemon.venues.simulated.wallet import Wallet, to_e10

INSTRUMENT = Instrument.of(venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
START_E10 = 100_000 * E10
MAKER, TAKER = Decimal("0.0002"), Decimal("0.0006")


def wallet(maker: Decimal = MAKER) -> Wallet:
    return Wallet(INSTRUMENT, START_E10, maker, TAKER)


def test_a_round_trip_by_hand() -> None:
    w = wallet()
    # 0.5 BTC at 60,000.0: 30,000 quote, 2 bps: 6 quote
    assert w.fill(Side.BUY, 600_000, 5_000, Liquidity.MAKER) == 6 * E10
    assert w.average_entry == Decimal(60_000)
    assert w.unrealised_e10(601_000) == 50 * E10
    # out at 60,200.0 as taker: 30,100 quote, 6 bps: 18.06
    assert w.fill(Side.SELL, 602_000, 5_000, Liquidity.TAKER) == 18 * E10 + 6 * E10 // 100
    assert w.position_lots == 0
    assert w.average_entry is None
    assert w.balance_e10 == START_E10 + 100 * E10 - 24 * E10 - 6 * E10 // 100
    assert w.unrealised_e10(1) == 0


def test_a_fill_through_zero_closes_one_position_and_opens_the_other() -> None:
    w = wallet()
    w.fill(Side.SELL, 600_000, 3_000, Liquidity.MAKER)
    w.fill(Side.BUY, 590_000, 5_000, Liquidity.MAKER)
    assert w.position_lots == 2_000
    assert w.average_entry == Decimal(59_000)
    assert to_e10(w.realised) == 300 * E10


def test_a_rebate_is_received() -> None:
    assert wallet(Decimal("-0.0001")).fill(Side.BUY, 600_000, 5_000, Liquidity.MAKER) == -3 * E10


def test_a_fee_is_rounded_half_even_to_1e_10() -> None:
    w = Wallet(INSTRUMENT, START_E10, Decimal("0.0000000005"), TAKER)
    # one lot at 30,000 ticks is worth 0.3, so the fee is 1.5e-10; then 0.5e-10 and 2.5e-10
    assert w.fill(Side.BUY, 30_000, 1, Liquidity.MAKER) == 2
    assert w.fill(Side.BUY, 10_000, 1, Liquidity.MAKER) == 0
    assert w.fill(Side.BUY, 50_000, 1, Liquidity.MAKER) == 2


@pytest.mark.parametrize(
    ("side", "rate", "received"),
    [(Side.BUY, 0.0001, -3), (Side.BUY, -0.0001, 3), (Side.SELL, 0.0001, 3), (Side.SELL, -0.0001, -3)],
)
def test_longs_pay_shorts_where_the_rate_is_positive(side: Side, rate: float, received: int) -> None:
    w = wallet()
    w.fill(side, 600_000, 5_000, Liquidity.MAKER)
    before_e10 = w.balance_e10
    assert w.settle_funding(600_000, rate) == received * E10
    assert w.balance_e10 - before_e10 == received * E10


def test_funding_is_on_the_mark_and_not_on_the_entry() -> None:
    w = wallet()
    w.fill(Side.BUY, 600_000, 5_000, Liquidity.MAKER)
    assert w.settle_funding(300_000, 0.0001) == -15 * E10 // 10


def test_transfers_and_charges_are_kept_apart() -> None:
    w = wallet()
    w.transfer(-7)
    w.charge(3)
    assert (w.balance_e10, to_e10(w.transfers), to_e10(w.charges)) == (START_E10 - 4, -7, 3)


def test_money_finer_than_1e_10_never_leaves() -> None:
    with pytest.raises(ArithmeticError, match="whole number of 1e-10"):
        to_e10(Decimal("1e-11"))


def test_maintenance() -> None:
    w = Wallet(INSTRUMENT, 1_000 * E10, Decimal(0), Decimal(0))
    w.fill(Side.BUY, 600_000, 1_000, Liquidity.MAKER)  # 0.1 BTC for 6,000 with 1,000
    # equity 1,000 - 0.1 * fall; needed 0.4 % of value
    assert not w.is_below_maintenance(503_000, Decimal("0.004"))
    assert w.is_below_maintenance(501_000, Decimal("0.004"))
    assert not wallet().is_below_maintenance(600_000, Decimal("0.004"))


fills = st.tuples(
    st.just("fill"),
    st.sampled_from(list(Side)),
    st.integers(1, 2_000_000),
    st.integers(1, 100_000),
    st.sampled_from(list(Liquidity)),
)
others = st.one_of(
    st.tuples(st.just("funding"), st.integers(1, 2_000_000), st.floats(-0.01, 0.01)),
    st.tuples(st.just("transfer"), st.integers(-(10**14), 10**14)),
    st.tuples(st.just("charge"), st.integers(-(10**14), 10**14)),
)


def half_even_e10(amount: Fraction) -> int:
    return round(amount * E10)  # `round` of a Fraction is half-even and exact


@settings(max_examples=150)
@given(st.lists(st.one_of(fills, others), max_size=25), st.integers(1, 2_000_000))
def test_the_wallet_equals_brute_force_to_the_last_digit(steps: list[tuple], mark: int) -> None:
    """start + realised - fees + funding + transfers + unrealised = cash + position * mark, by an oracle of its own."""
    w = wallet()
    tick, lot = Fraction(1, 10), Fraction(1, 10_000)
    cash, position, fees, funding, moved = Fraction(START_E10, E10), 0, 0, 0, 0
    for step in steps:
        match step:
            case ("fill", side, px, qty, liquidity):
                fee = w.fill(side, px, qty, liquidity)
                value = px * tick * qty * lot
                rate = Fraction(2, 10_000) if liquidity is Liquidity.MAKER else Fraction(6, 10_000)
                assert fee == half_even_e10(value * rate)
                fees += fee
                cash -= side * value
                position += side * qty
            case ("funding", px, rate):
                paid = w.settle_funding(px, rate)
                assert paid == -half_even_e10(position * lot * px * tick * Fraction(repr(rate)))
                funding += paid
            case ("transfer", amount):
                w.transfer(amount)
                moved += amount
            case ("charge", amount):
                w.charge(amount)
                moved += amount
            case _:
                raise AssertionError(step)
    cash_e10 = cash * E10 - fees + funding + moved
    equity_e10 = cash_e10 + position * lot * mark * tick * E10
    assert w.position_lots == position
    assert w.cash_e10 == cash_e10
    assert w.equity_e10(mark) == equity_e10
    identity = START_E10 + to_e10(w.realised) - fees + funding + moved + w.unrealised_e10(mark)
    assert identity == equity_e10
    if not position:
        assert w.cost == 0
