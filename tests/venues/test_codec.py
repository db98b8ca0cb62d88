"""A venue's digits: exact, or refused by name."""

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal, Underflow, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.figures import LARGEST
from mmdaemon.core.types import E10, Instrument
from mmdaemon.venues.codec import Malformed, Scale, Tally, milliseconds_ns, money_e10, number

BTC = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
FIVES = Instrument.of(venue="bitget", symbol="XUSDT", tick_e10=5 * E10 // 100, lot_e10=E10 * 10)
NOT_NUMBERS = (
    *(
        "",
        " ",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1_000",
        " 1",
        "1 ",
        "+1",
        "1.",
        ".5",
        "-",
        "--1",
        "0x10",
        "1e",
        "1e+",
    ),
    *("1.2.3", "1,5", "١", "１", "1\x00", "1" * 41, "1e999", "0." + "0" * 40),
    *(1.0, float("nan"), True, None, b"1", [], {}, Decimal(1)),
)


@pytest.mark.parametrize("text", NOT_NUMBERS, ids=repr)
def test_what_is_no_number_is_none_anywhere(text: object) -> None:
    """`Decimal` takes blanks, underscores and the digits of any script; nothing here does."""
    for read in (number, money_e10, Scale(BTC).px_ticks, Scale(BTC).qty_lots, Scale(BTC).signed_lots):
        with pytest.raises(Malformed):
            read(text)
    with pytest.raises(Malformed):
        Scale(BTC).near_px_ticks(text)


@pytest.mark.parametrize(
    ("text", "ticks"),
    [("64000.1", 640_001), ("64000.10", 640_001), ("64000", 640_000), ("0.1", 1), ("6.4e4", 640_000), ("1E-1", 1)],
)
def test_a_price_is_whole_ticks(text: str, ticks: int) -> None:
    assert Scale(BTC).px_ticks(text) == ticks


def test_steps_that_are_no_power_of_ten() -> None:
    scale = Scale(FIVES)
    assert (scale.px_ticks("1.05"), scale.qty_lots("30")) == (21, 3)
    for read, text, why in ((scale.px_ticks, "1.06", "off_tick"), (scale.qty_lots, "15", "off_lot")):
        with pytest.raises(Malformed, match=f"^{why}$"):
            read(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(("0", "not_positive"), ("0.0", "not_positive"), ("-0.1", "not_positive"), ("64000.05", "off_tick")),
        *(("64000.10000000001", "off_tick"), ("1e29", "absurd"), ("99999999999999", "absurd"), ("1e-20", "off_tick")),
    ],
)
def test_prices_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=f"^{why}$"):
        Scale(BTC).px_ticks(text)


@pytest.mark.parametrize(("text", "why"), [("-0.0001", "negative"), ("0.00005", "off_lot"), ("1e20", "absurd")])
def test_sizes_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=f"^{why}$"):
        Scale(BTC).qty_lots(text)


def test_a_size_of_nothing_is_one_and_a_signed_one_may_be_below() -> None:
    assert Scale(BTC).qty_lots("0.0000") == 0
    assert Scale(BTC).signed_lots("-0.0150") == -150


def test_a_refusal_says_nothing_of_the_venue() -> None:
    with pytest.raises(Malformed) as refused:
        number("drop table fills")
    assert str(refused.value) == "not_a_number"


@given(st.integers(1, LARGEST), st.integers(0, 4))
def test_out_and_in_again(count: int, zeros: int) -> None:
    """Wire text drops trailing zeros; with some more it is still the same number."""
    for instrument in (BTC, FIVES):
        scale = Scale(instrument)
        for text_of, read in ((scale.px_text, scale.px_ticks), (scale.qty_text, scale.qty_lots)):
            text = text_of(count)
            assert not text.endswith(".")
            assert "e" not in text.lower()
            assert read(text) == read((text if "." in text else f"{text}.0") + "0" * zeros) == count


@given(st.decimals(min_value=0, max_value=10**9, places=12))
def test_without_a_decimal_it_is_the_same_number(value: Decimal) -> None:
    """The way of plain digits, against arithmetic in Decimal."""
    text = format(value, "f")
    lots = value * 10_000
    if lots == int(lots):
        assert Scale(BTC).qty_lots(text) == int(lots)
    else:
        with pytest.raises(Malformed, match=r"^off_lot$"):
            Scale(BTC).qty_lots(text)


def test_a_mark_goes_to_the_nearest_tick() -> None:
    scale = Scale(BTC)
    marks = ("64000.04", "64000.05", "64000.15", "64000.06")
    assert [scale.near_px_ticks(mark) for mark in marks] == [640_000, 640_000, 640_002, 640_001]
    for text in ("0", "-1", "0.04", "1e28"):
        with pytest.raises(Malformed):
            scale.near_px_ticks(text)


def test_money_is_exact_to_the_tenth_digit() -> None:
    assert money_e10("-0.03842754") == -384_275_400
    assert money_e10("0.00000000005") == 0  # half to even
    assert money_e10("0.00000000015") == 2
    assert money_e10("922337203.6854775807") == 2**63 - 1
    for text in ("922337203.6854775808", "1e20"):
        with pytest.raises(Malformed, match=r"^absurd$"):
            money_e10(text)


def test_moments_are_of_this_age() -> None:
    assert milliseconds_ns("1701843962811") == milliseconds_ns(1_701_843_962_811) == 1_701_843_962_811_000_000
    for text in ("0", 0, -1, "", "1e12", "1.5", 1.5, True, None, "٣", "9" * 15, "9" * 5_000, 7_258_118_400_000):
        with pytest.raises(Malformed, match=r"^bad_time$"):
            milliseconds_ns(text)


def test_a_hostile_feed_does_not_grow_the_memory() -> None:
    scale = Scale(BTC)
    for i in range(140_000):
        scale.qty_lots(f"{i}.0001")
    assert len(scale.lots_of) <= 1 << 16
    assert scale.qty_lots("139999.0001") == 1_399_990_001


@pytest.mark.parametrize("mode", [ROUND_UP, ROUND_DOWN, ROUND_HALF_UP, ROUND_CEILING])
def test_rounding_is_ours_whatever_the_thread_s_is(mode: str) -> None:
    """`ccxt.base.decimal_to_precision` leaves ROUND_HALF_UP, and a trap, in the context of the whole thread."""
    with localcontext() as context:
        context.rounding = mode
        context.traps[Underflow] = True
        assert money_e10("0.00000000005") == 0
        assert money_e10("0.00000000015") == 2
        scale = Scale(BTC)
        assert [scale.near_px_ticks(mark) for mark in ("64000.05", "64000.15")] == [640_000, 640_002]


def test_who_only_counts_orders_needs_no_rules_and_takes_no_nonsense() -> None:
    """A kill reads what rests before, and whether or not, the contract can be read."""
    tally = Tally("XUSDT")
    assert tally.instrument.symbol == "XUSDT"
    assert [tally.px_ticks(text) for text in ("0.000000000001", "64000.05", "1e9")] == [1, 1, 1]
    assert [tally.qty_lots(text) for text in ("0", "0.00", "0.000000000001", "123456789012")] == [0, 0, 1, 1]
    for text in ("", "nan", "-1", None, 1.5):
        with pytest.raises(Malformed):
            tally.px_ticks(text)
        with pytest.raises(Malformed):
            tally.qty_lots(text)
    with pytest.raises(Malformed):
        tally.px_ticks("0")
