"""Between a venue's text and the core's integers. Everything that a venue says in digits passes here.

A number is taken exactly or refused: never rounded into place, never through a float. What is refused raises
`Malformed`, whose message names the reason alone, for counting: text of the venue is in no log and no metric.

Outgoing prices and sizes are whole ticks and lots already, so nothing is rounded on the way out either: a price that
ccxt would round to the nearest tick (a bid rounded up) cannot come about.
"""

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from mmdaemon.core.figures import LARGEST, is_money
from mmdaemon.core.types import E10, Instrument

_TEXT_MAX: Final = 40
_DIGITS_MAX: Final = 28
"""What a Decimal multiplies by a power of ten without rounding, and more than any number of a market has."""
_EXPONENT_MAX: Final = 30
_NUMBER: Final = re.compile(r"-?[0-9]{1,28}(\.[0-9]{1,28})?([eE][-+]?[0-9]{1,2})?", re.ASCII)
"""As JSON writes a number. `Decimal` takes more: blanks, underscores, digits of any script."""
_TENS: Final = tuple(10**power for power in range(11))
_LATEST_MS: Final = 7_258_118_400_000
"""2200-01-01 UTC. What is later is damage; what is earlier fits into the journal in nanoseconds."""
_CACHED_MAX: Final = 1 << 16


class Malformed(ValueError):
    """What the venue said is no such number, or no such message. `str()` of it is a short reason, without its text."""


def number(text: object) -> Decimal:
    """A finite decimal number as the venue writes them: a string; an integer is taken too, a float never is.

    Raises:
        Malformed: it is none, or of an absurd magnitude or precision.
    """
    if type(text) is int and abs(text) < 10**_DIGITS_MAX:
        return Decimal(text)
    if type(text) is not str or len(text) > _TEXT_MAX or _NUMBER.fullmatch(text) is None:
        raise Malformed("not_a_number")
    value = Decimal(text)
    if len(value.as_tuple().digits) > _DIGITS_MAX or not -_EXPONENT_MAX < value.adjusted() < _EXPONENT_MAX:
        raise Malformed("absurd")
    return value


def nearest(value: Decimal) -> int:
    """The whole number next to it, half to even. The mode is named: ccxt sets the thread's own to another."""
    return int(value.to_integral_value(ROUND_HALF_EVEN))


def money_e10(text: object) -> int:
    """An amount in quote currency as 1e-10 of it; digits beyond the tenth are rounded half-even, as nothing that a
    venue books has them.

    Raises:
        Malformed: it is no number, or more than the journal can hold.
    """
    amount = nearest(number(text) * E10)
    if not is_money(amount):
        raise Malformed("absurd")
    return amount


def milliseconds_ns(text: object) -> int:
    """A moment in UTC, from the venue's milliseconds (a string or an integer). Raises Malformed."""
    if type(text) is str and len(text) <= 15 and text.isascii() and text.isdecimal():
        text = int(text)
    if type(text) is not int or not 0 < text < _LATEST_MS:
        raise Malformed("bad_time")
    return text * 1_000_000


class Scale:
    """Text to ticks and lots of one instrument, and back. Prices repeat, so what was read once is remembered."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.tick = Decimal(instrument.tick_e10) / E10
        self.lot = Decimal(instrument.lot_e10) / E10
        self._px: dict[str, int] = {}
        self._qty: dict[str, int] = {}

    def px_ticks(self, text: object) -> int:
        """A price above 0. Raises Malformed: not a number, not positive, off the tick, or absurd."""
        if type(text) is str and (known := self._px.get(text)) is not None:
            return known
        ticks = _count(text, self.instrument.tick_e10, "off_tick")
        if ticks <= 0:
            raise Malformed("not_positive")
        _remember(self._px, text, ticks)
        return ticks

    def qty_lots(self, text: object) -> int:
        """A size of 0 or more. Raises Malformed: not a number, negative, off the lot, or absurd."""
        if type(text) is str and (known := self._qty.get(text)) is not None:
            return known
        lots = _count(text, self.instrument.lot_e10, "off_lot")
        if lots < 0:
            raise Malformed("negative")
        _remember(self._qty, text, lots)
        return lots

    def signed_lots(self, text: object) -> int:
        """A size of either sign. Raises Malformed."""
        return _count(text, self.instrument.lot_e10, "off_lot")

    def near_px_ticks(self, text: object) -> int:
        """A price that need not be on a tick (a mark, an average), rounded half-even to one. Raises Malformed."""
        value = number(text)
        if value <= 0:
            raise Malformed("not_positive")
        ticks = nearest(value / self.tick)
        if not 0 < ticks <= LARGEST:
            raise Malformed("absurd")
        return ticks

    def px_text(self, px_ticks: int) -> str:
        return format((self.tick * px_ticks).normalize(), "f")

    def qty_text(self, qty_lots: int) -> str:
        return format((self.lot * qty_lots).normalize(), "f")


def _count(text: object, step_e10: int, reason: str) -> int:
    """How many steps a number is. Plain digits, which is what a venue sends, go without a Decimal: four times as fast,
    and sizes hardly repeat."""
    plain = False
    value_e10 = 0
    if type(text) is str:
        units, point, parts = text.partition(".")
        digits = units + parts
        plain = bool(
            0 < len(units) <= 15
            and len(parts) <= 10
            and (parts or not point)
            and digits.isascii()
            and digits.isdecimal()
        )
        if plain:
            value_e10 = int(digits) * _TENS[10 - len(parts)]
    if not plain:
        value_e10 = _e10(number(text), reason)
    count, rest = divmod(value_e10, step_e10)
    if rest:
        raise Malformed(reason)
    if not -LARGEST <= count <= LARGEST:
        raise Malformed("absurd")
    return count


def _e10(value: Decimal, reason: str) -> int:
    """An exact number of 1e-10. Raises Malformed(reason) where there is none."""
    scaled = value * E10
    if scaled != (units := int(scaled)):
        raise Malformed(reason)
    return units


def _remember(known: dict[str, int], text: object, count: int) -> None:
    if type(text) is str:
        if len(known) >= _CACHED_MAX:
            known.clear()
        known[text] = count
