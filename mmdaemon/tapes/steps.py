"""Tick, lot and minimum of a recording that does not carry them: given by whoever opens it, else inferred.

Inference takes the greatest common divisor of every price (size) seen, exact, in 1e-10, and from it the largest step a
venue would have: 1, 2, 2.5 or 5 times a power of ten that divides it. Too few distinct values can give too coarse a
step, never too fine a one; so it is said on how many it rests. The minimum cannot be seen in a recording at all.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from math import gcd
from typing import NamedTuple

import msgspec

from mmdaemon.core.types import E10, Instrument
from mmdaemon.tapes.rows import TapeError

QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "BTC", "ETH")
"""What a symbol may end in, so that its quote currency need not be given."""
SEPARATORS = "-_/:."
AMBIGUOUS = ("TUSD", "BUSD")
"""XBTUSD is quoted in USD and BTCTUSD in TUSD: unless a separator says which, it must be given."""
FEW = 20
"""Fewer distinct values than this are said to be few."""
_DECIMAL = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,2})?", re.ASCII)


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What is stated of an instrument. None is "not stated": the recording says it, or it is inferred or assumed."""

    venue: str | None = None
    symbol: str | None = None
    quote: str | None = None
    tick_e10: int | None = None
    lot_e10: int | None = None
    min_qty_lots: int | None = None
    min_notional_e10: int | None = None


class Inferred(NamedTuple):
    """A step, and how many distinct values (not counting zero) it rests on."""

    step_e10: int
    distinct: int


class Known(NamedTuple):
    """An instrument, and where it comes from in words for `Facts`."""

    instrument: Instrument
    steps_from: str
    minimum_from: str


def infer_step_e10(texts: Iterable[str]) -> Inferred | None:
    """The largest usual step of which every decimal is a multiple; None where there is none but zero.

    Raises:
        ValueError: a text is no finite decimal, or is finer than 1e-10.
    """
    divisor = 0
    distinct: set[str] = set()
    amounts: set[int] = set()
    for text in texts:
        if text in distinct:
            continue
        distinct.add(text)
        if _DECIMAL.fullmatch(text) is None:
            raise ValueError(f"{text[:40]!r} is not a decimal")
        numerator, denominator = Decimal(text).as_integer_ratio()
        amount, rest = divmod(abs(numerator) * E10, denominator)
        if rest:
            raise ValueError(f"{text[:40]} is finer than 1e-10, the finest step there is")
        if amount:
            amounts.add(amount)
            divisor = gcd(divisor, amount)
    return Inferred(_usual(divisor), len(amounts)) if divisor else None


def known(source: str, given: Steps, said: Steps, prices: Iterable[str] = (), sizes: Iterable[str] = ()) -> Known:
    """The instrument of a recording: what was `given` goes before what it `said`, and that before inference.

    `source` names the recording in messages. `prices` and `sizes` are looked at only where tick or lot must be
    inferred; zeros among them do no harm.

    Raises:
        TapeError: symbol, quote, tick or lot is neither given, nor said, nor to be had from what was seen; or the
            steps make no instrument.
    """
    symbol = given.symbol or said.symbol
    if not symbol:
        raise TapeError(f"{source}: it does not say what was traded; give --symbol")
    quote = given.quote or said.quote or quote_of(symbol)
    if not quote:
        raise TapeError(f"{source}: {symbol} does not end in a quote currency known here; give --quote")
    tick_e10, tick_from = _step(source, "tick", given.tick_e10, said.tick_e10, prices)
    lot_e10, lot_from = _step(source, "lot", given.lot_e10, said.lot_e10, sizes)
    min_qty_lots, qty_from = _first(given.min_qty_lots, said.min_qty_lots, 1, "1 lot assumed, nothing says")
    least_e10, least_from = _first(given.min_notional_e10, said.min_notional_e10, 0, "none assumed, nothing says")
    for name, value, least in (("--min-qty", min_qty_lots, 1), ("--min-notional", least_e10, 0)):
        if value < least:
            raise TapeError(f"{source}: the minimum ({name}) cannot be {value}")
    try:
        instrument = Instrument.of(
            venue=given.venue or said.venue or "unknown",
            symbol=symbol,
            quote=quote,
            tick_e10=tick_e10,
            lot_e10=lot_e10,
            min_qty_lots=min_qty_lots,
            min_notional_e10=least_e10,
        )
    except ValueError as error:
        raise TapeError(f"{source}: tick {tick_from}, lot {lot_from}: {error}") from error
    return Known(
        instrument,
        tick_from if tick_from == lot_from else f"tick {tick_from}; lot {lot_from}",
        qty_from if qty_from == least_from else f"size {qty_from}; notional {least_from}",
    )


def quote_of(symbol: str) -> str | None:
    """The quote currency that a symbol ends in (`BTCUSDT`, `BTC-USDT`, `BTC-USDT-PERP`), None where it is not known."""
    text = symbol.upper()
    for suffix in ("PERPETUAL", "PERP", "SWAP"):
        text = text.removesuffix(suffix).rstrip(SEPARATORS)
    quote = next((quote for quote in QUOTES if text.endswith(quote) and text != quote), None)
    return quote if quote not in AMBIGUOUS or text.removesuffix(quote)[-1] in SEPARATORS else None


def _step(source: str, what: str, given: int | None, said: int | None, texts: Iterable[str]) -> tuple[int, str]:
    if given is not None:
        return given, "given"
    if said is not None:
        return said, "stated by the recording"
    values = "prices" if what == "tick" else "sizes"
    try:
        inferred = infer_step_e10(texts)
    except ValueError as error:
        raise TapeError(f"{source}: {what} cannot be inferred from its {values}: {error}; give --{what}") from error
    if inferred is None:
        raise TapeError(f"{source}: it does not say its {what}, and has no {values} to infer it from; give --{what}")
    few = " (few: the true one may be finer)" if inferred.distinct < FEW else ""
    return inferred.step_e10, f"inferred from {inferred.distinct:,} distinct {values}{few}"


def _first(given: int | None, said: int | None, otherwise: int, assumed: str) -> tuple[int, str]:
    if given is not None:
        return given, "given"
    if said is not None:
        return said, "stated by the recording"
    return otherwise, assumed


def _usual(divisor: int) -> int:
    best = power = 1
    while divisor % power == 0:
        best = max(best, *(step for digits in (1, 2, 5, 25) if divisor % (step := digits * power) == 0))
        power *= 10
    return best
