"""Tick and lot from what was seen, exactly, and where the instrument says it comes from."""

from decimal import Decimal
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.types import E10
from mmdaemon.tapes.rows import TapeError
from mmdaemon.tapes.steps import Steps, infer_step_e10, known, quote_of


@pytest.mark.parametrize(
    ("texts", "step", "distinct"),
    [
        (["64000.1", "64000.3", "64000.1"], "0.1", 2),
        (["0.25", "0.5", "1.75"], "0.25", 3),
        (["1.3", "1.6"], "0.1", 2),  # 0.3 divides neither; of 1.3 and 1.6 only 0.1 does
        (["0.6", "1.2", "0"], "0.2", 2),  # 0.6 is no step of a venue
        (["2.5", "7.5"], "2.5", 2),
        (["3e3", "600"], "200", 2),
        (["1E-10"], "0.0000000001", 1),
        (["5", "5.0", "10"], "5", 2),
        (["-0.5", "1.5"], "0.5", 2),
    ],
)
def test_the_largest_usual_step_that_divides_everything(texts: list[str], step: str, distinct: int) -> None:
    inferred = infer_step_e10(texts)
    assert inferred is not None
    assert (Decimal(inferred.step_e10).scaleb(-10), inferred.distinct) == (Decimal(step), distinct)


@given(st.lists(st.integers(1, 10**9), min_size=1), st.sampled_from(["0.1", "0.5", "0.00001", "25", "1"]))
def test_never_finer_than_the_true_step_and_everything_is_a_multiple(counts: list[int], step: str) -> None:
    inferred = infer_step_e10(str(count * Decimal(step)) for count in counts)
    assert inferred is not None
    amounts = [int(count * Decimal(step) * E10) for count in counts]
    assert inferred.step_e10 >= int(Decimal(step) * E10)
    assert all(amount % inferred.step_e10 == 0 for amount in amounts)
    digits = str(inferred.step_e10).rstrip("0")
    assert digits in {"1", "2", "5", "25"}
    assert inferred.step_e10 <= gcd(*amounts)


@pytest.mark.parametrize(
    ("good", "bad", "step"),
    [
        (1_000, 1, "0.1"),
        (999, 1, "0.001"),  # one in a thousand is a tenth of a percent
        (3_001, 3, "0.1"),
        (2_900, 3, "0.001"),
        (9_000, 4, "0.001"),
    ],
)
def test_a_few_of_very_many_do_not_make_the_step_finer(good: int, bad: int, step: str) -> None:
    """A wrong digit in one price would otherwise be the tick of the whole recording."""
    prices = [f"{93_000 + n / 10:.1f}" for n in range(good)] + [f"{93_465 + n}.123" for n in range(bad)]
    inferred = infer_step_e10(prices)
    assert inferred is not None
    assert Decimal(inferred.step_e10).scaleb(-10) == Decimal(step)
    assert (inferred.distinct, inferred.off) == (good + bad, bad if step == "0.1" else 0)


def test_nothing_to_infer_from() -> None:
    assert infer_step_e10([]) is None
    assert infer_step_e10(["0", "0.000"]) is None


@pytest.mark.parametrize(("text", "why"), [("nan", "not a decimal"), ("1_0", "not a decimal"), ("", "not a decimal")])
def test_what_is_no_decimal_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        infer_step_e10(["1.0", text])


def test_floats_that_were_not_rounded_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.30000000000000004 is finer than 1e-10"):
        infer_step_e10([str(0.1 + 0.2)])


def test_given_goes_before_said_and_said_before_inferred() -> None:
    said = Steps(venue="x", symbol="BTCUSDT", lot_e10=10**7, min_notional_e10=5 * E10)
    found = known("a.csv", Steps(tick_e10=10**9, min_qty_lots=3), said, ["1.5"], ["9"])
    assert (found.instrument.tick_e10, found.instrument.lot_e10) == (10**9, 10**7)
    assert (found.instrument.min_qty_lots, found.instrument.min_notional_e10) == (3, 5 * E10)
    assert (found.instrument.venue, found.instrument.quote) == ("x", "USDT")
    assert found.steps_from == "tick given; lot stated by the recording"
    assert found.minimum_from == "size given; notional stated by the recording"


def test_inference_says_on_how_much_it_rests() -> None:
    many = [f"{n}.1" for n in range(1_500)]
    found = known("a.csv", Steps(symbol="BTCUSDT"), Steps(), many, ["0.001", "0.004"])
    assert found.steps_from == (
        "tick inferred from 1,500 distinct prices; lot inferred from 2 distinct sizes (few: the true one may be finer)"
    )
    assert found.minimum_from == "size 1 lot assumed, nothing says; notional none assumed, nothing says"
    assert found.instrument.venue == "unknown"
    assert found.instrument.min_qty_lots == 1


@pytest.mark.parametrize(
    ("given", "prices", "why"),
    [
        (Steps(), ["1"], "give --symbol"),
        (Steps(symbol="BTC"), ["1"], "BTC does not end in a quote currency known here; give --quote"),
        (Steps(symbol="BTCUSDT"), [], "no prices to infer it from; give --tick"),
        (Steps(symbol="BTCUSDT"), ["x"], "tick cannot be inferred from its prices: 'x' is not a decimal; give --tick"),
        (Steps(symbol="BTCUSDT", tick_e10=1, lot_e10=1), [], "not a whole number of 1e-10"),
        (Steps(symbol="BTCUSDT", min_qty_lots=0), ["1"], r"minimum \(--min-qty\) cannot be 0"),
        (Steps(symbol="BTCUSDT", min_notional_e10=-1), ["1"], r"minimum \(--min-notional\) cannot be -1"),
    ],
)
def test_what_cannot_be_known_is_asked_for(given: Steps, prices: list[str], why: str) -> None:
    with pytest.raises(TapeError, match=f"a.csv: .*{why}"):
        known("a.csv", given, Steps(), prices, ["1"])


def test_steps_that_are_given_need_nothing_to_infer_from() -> None:
    given = Steps(symbol="BTC-PERP", quote="USD", tick_e10=E10, lot_e10=E10)
    assert known("a.csv", given, Steps()).steps_from == "given"


@pytest.mark.parametrize(
    ("symbol", "quote"),
    [
        ("BTCUSDT", "USDT"),
        ("btc-usdt-perp", "USDT"),
        ("ETH/USDC", "USDC"),
        ("BTC-USDT-SWAP", "USDT"),
        ("BTC-PERPETUAL", None),
        ("XBTUSD", None),  # or BTC in TUSD?
        ("XBT-USD", "USD"),
        ("BTC_TUSD", "TUSD"),
        ("ETHUSD", "USD"),
        ("USDT", None),
    ],
)
def test_quotes(symbol: str, quote: str | None) -> None:
    assert quote_of(symbol) == quote
