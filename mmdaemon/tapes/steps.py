"""Tick, lot and minimum of a recording that does not carry them: given by whoever opens it, else inferred.

Inference takes the greatest common divisor of every price (size) seen, exact, in 1e-10, and from it the largest step a
venue would have: 1, 2, 2.5 or 5 times a power of ten that divides it. Too few distinct values can give too coarse a
step, never too fine a one; so it is said on how many it rests. A few of very many that alone ask for a finer step are
taken for damaged: one wrong digit must not make the tick of a whole recording. The reader names such a row and asks for
the step (`refuse_off_inferred`). The minimum cannot be seen in a recording at all.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from math import gcd
from typing import NamedTuple

import msgspec

from mmdaemon.core.types import E10, Instrument
from mmdaemon.tapes.rows import Refusals, TapeError

QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "BTC", "ETH")
"""What a symbol may end in, so that its quote currency need not be given."""
SEPARATORS = "-_/:."
AMBIGUOUS = ("TUSD", "BUSD")
"""XBTUSD is quoted in USD and BTCTUSD in TUSD: unless a separator says which, it must be given."""
FEW = 20
"""Fewer distinct values than this are said to be few."""
OFF_MOST = 3
OFF_PER = 1_000
"""At most so many distinct values, and fewer than one in so many, may be off the step that is inferred."""
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
    """A step, how many distinct values (not counting zero) it rests on, and how many of them are no multiples of it."""

    step_e10: int
    distinct: int
    off: int = 0


class Known(NamedTuple):
    """An instrument, and where it comes from in words for `Facts`."""

    instrument: Instrument
    steps_from: str
    minimum_from: str
    inferred: frozenset[str] = frozenset()
    """Reasons by which readers refuse what is off a step that was inferred: "off_tick", "off_lot"."""


def infer_step_e10(texts: Iterable[str]) -> Inferred | None:
    """The largest usual step of which every decimal is a multiple, but for a few of very many (`OFF_MOST`, `OFF_PER`);
    None where there is none but zero.

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
    return _but_for_a_few(_usual(divisor), amounts) if divisor else None


def refuse_off_inferred(inferred: Collection[str], refusals: Refusals) -> None:
    """Raise TapeError, with file and row, where something was refused for being off an inferred step. `inferred` is
    `Known.inferred`."""
    for reason in inferred:
        if reason in refusals.counts:
            found = next(text for text in refusals.described if f": {reason}: " in text)
            step = reason.removeprefix("off_")
            raise TapeError(
                f"{found}; the {step} was inferred, so that row is damaged or the true one is finer: give the {step} "
                f"of the venue (--{step}), and what is off it is dropped and counted"
            )


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
    tick_e10, tick_from, is_tick_inferred = _step(source, "tick", given.tick_e10, said.tick_e10, prices)
    lot_e10, lot_from, is_lot_inferred = _step(source, "lot", given.lot_e10, said.lot_e10, sizes)
    min_qty_lots, qty_from = _first(given.min_qty_lots, said.min_qty_lots, 1, "1 lot assumed, nothing says")
    least_e10, least_from = _first(given.min_notional_e10, said.min_notional_e10, 0, "none assumed, nothing says")
    for name, value, least in (("--min-qty", min_qty_lots, 1), ("--min-notional", least_e10, 0)):
        if value < least:
            raise TapeError(f"{source}: the minimum ({name}) cannot be {value}; give another")
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
        raise TapeError(f"{source}: tick {tick_from}, lot {lot_from}: {error}; give others") from error
    return Known(
        instrument,
        tick_from if tick_from == lot_from else f"tick {tick_from}; lot {lot_from}",
        qty_from if qty_from == least_from else f"size {qty_from}; notional {least_from}",
        frozenset({"off_tick"} if is_tick_inferred else ()) | frozenset({"off_lot"} if is_lot_inferred else ()),
    )


def quote_of(symbol: str) -> str | None:
    """The quote currency that a symbol ends in (`BTCUSDT`, `BTC-USDT`, `BTC-USDT-PERP`), None where it is not known."""
    text = symbol.upper()
    for suffix in ("PERPETUAL", "PERP", "SWAP"):
        text = text.removesuffix(suffix).rstrip(SEPARATORS)
    quote = next((quote for quote in QUOTES if text.endswith(quote) and text != quote), None)
    return quote if quote not in AMBIGUOUS or text.removesuffix(quote)[-1] in SEPARATORS else None


def _step(source: str, what: str, given: int | None, said: int | None, texts: Iterable[str]) -> tuple[int, str, bool]:
    """The step, where it comes from, and whether it was inferred."""
    if given is not None:
        return given, "given", False
    if said is not None:
        return said, "stated by the recording", False
    values = "prices" if what == "tick" else "sizes"
    try:
        inferred = infer_step_e10(texts)
    except ValueError as error:
        raise TapeError(f"{source}: {what} cannot be inferred from its {values}: {error}; give --{what}") from error
    if inferred is None:
        raise TapeError(f"{source}: it does not say its {what}, and has no {values} to infer it from; give --{what}")
    few = " (few: the true one may be finer)" if inferred.distinct < FEW else ""
    off = f", but for {inferred.off} off it" if inferred.off else ""
    return inferred.step_e10, f"inferred from {inferred.distinct:,} distinct {values}{few}{off}", True


def _first(given: int | None, said: int | None, otherwise: int, assumed: str) -> tuple[int, str]:
    if given is not None:
        return given, "given"
    if said is not None:
        return said, "stated by the recording"
    return otherwise, assumed


def _but_for_a_few(step_e10: int, amounts: Collection[int]) -> Inferred:
    """The coarsest usual step that is as good but for a few, else the one that all are multiples of."""
    most = min(OFF_MOST, (len(amounts) - 1) // OFF_PER)
    found = Inferred(step_e10, len(amounts))
    for coarser in _coarser(step_e10, max(amounts)) if most else ():
        off = 0
        for amount in amounts:
            off += amount % coarser != 0
            if off > most:
                break
        else:
            found = Inferred(coarser, len(amounts), off)
    return found


def _coarser(step_e10: int, most_e10: int) -> Iterator[int]:
    """Usual steps above one, ascending."""
    power = 1
    while power <= most_e10:
        yield from (step for tenths in (10, 20, 25, 50) if step_e10 < (step := tenths * power // 10) <= most_e10)
        power *= 10


def _usual(divisor: int) -> int:
    best = power = 1
    while divisor % power == 0:
        best = max(best, *(step for digits in (1, 2, 5, 25) if divisor % (step := digits * power) == 0))
        power *= 10
    return best
