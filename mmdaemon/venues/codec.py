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


class _Counts(dict[str, int]):
    """Steps by text, each read once: prices repeat. What cannot be read raises Malformed."""

    def __init__(self, step_e10: int, off_step: str, least: int, too_small: str) -> None:
        super().__init__()
        self._step_e10, self._off_step, self._least, self._too_small = step_e10, off_step, least, too_small
        decimals = len(str(E10 // step_e10)) - 1
        self._point = -1 - decimals if step_e10 * 10**decimals == E10 else -1
        """Where the point is in a text whose digits are the count, steps being a tenth and so on; -1 is nowhere."""

    def __missing__(self, text: str) -> int:
        """Plain digits, which is what a venue sends, go without a Decimal: many times as fast, and sizes hardly
        repeat."""
        at = self._point
        if text[at : at + 1] == "." and -at < len(text) <= 15:
            digits = text[:at] + text[at + 1 :]
            if digits.isdecimal() and digits.isascii():
                return self._known(text, int(digits))
        units, point, parts = text.partition(".")
        digits = units + parts
        if (
            0 < len(units) <= 15
            and len(parts) <= 10
            and (parts or not point)
            and digits.isascii()
            and digits.isdecimal()
        ):
            return self._known(text, _steps(int(digits) * _TENS[10 - len(parts)], self._step_e10, self._off_step))
        return self._known(text, self.read(text))

    def _known(self, text: str, count: int) -> int:
        if not self._least <= count <= LARGEST:
            raise Malformed(self._too_small if count < self._least else "absurd")
        if len(self) >= _CACHED_MAX:
            self.clear()
        self[text] = count
        return count

    def read(self, text: object) -> int:
        count = _count(text, self._step_e10, self._off_step)
        if count < self._least:
            raise Malformed(self._too_small)
        return count


class Scale:
    """Text to ticks and lots of one instrument, and back."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.tick = Decimal(instrument.tick_e10) / E10
        self.lot = Decimal(instrument.lot_e10) / E10
        self.ticks_of = _Counts(instrument.tick_e10, "off_tick", 1, "not_positive")
        """`px_ticks` of a text, which costs no call where it is known."""
        self.lots_of = _Counts(instrument.lot_e10, "off_lot", 0, "negative")
        """`qty_lots` of a text."""

    def px_ticks(self, text: object) -> int:
        """A price above 0. Raises Malformed: not a number, not positive, off the tick, or absurd."""
        return self.ticks_of[text] if type(text) is str else self.ticks_of.read(text)

    def qty_lots(self, text: object) -> int:
        """A size of 0 or more. Raises Malformed: not a number, negative, off the lot, or absurd."""
        return self.lots_of[text] if type(text) is str else self.lots_of.read(text)

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


class Tally(Scale):
    """For who counts orders and neither prices nor sizes them: a kill, which must not wait for the contract's rules. A
    price is a positive number, a size is something or nothing; what is no number is refused all the same."""

    def __init__(self, symbol: str) -> None:
        super().__init__(Instrument.of(venue="", symbol=symbol, version=0, tick_e10=E10, lot_e10=E10))

    def px_ticks(self, text: object) -> int:
        if number(text) <= 0:
            raise Malformed("not_positive")
        return 1

    def qty_lots(self, text: object) -> int:
        if (value := number(text)) < 0:
            raise Malformed("negative")
        return 1 if value else 0


def _count(text: object, step_e10: int, reason: str) -> int:
    """How many steps a number is."""
    return _steps(_e10(number(text), reason), step_e10, reason)


def _steps(value_e10: int, step_e10: int, reason: str) -> int:
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
