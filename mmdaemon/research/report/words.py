"""Figures as text: exact, with their unit, and "unknown" where they are."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from mmdaemon.core.reasons import RULES
from mmdaemon.core.types import E10, NS, Instrument
from mmdaemon.journal.rows import money_text
from mmdaemon.research.report.records import UNKNOWN, Figure

_BECAUSE = {rule.reason.value: rule.because for rule in RULES}


def because(code: str) -> str:
    """A reason of the guard in words; what is none of them as it stands."""
    return _BECAUSE.get(code, code)


class Units:
    """Ticks, lots and 1e-10 of one instrument, as decimals."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.quote = instrument.quote
        # BTC of BTC-USD, BTCUSDT and BTC; of BTCUSD at a venue that settles in something else, all of it.
        self.base = re.split("[-/_]", instrument.symbol.removesuffix(instrument.quote))[0] or "base"
        self.tick = instrument.tick_e10 / E10
        self.lot = instrument.lot_e10 / E10
        self._px_step = _step(instrument.tick_e10)
        self._qty_step = _step(instrument.lot_e10)

    def price(self, px_ticks: int) -> str:
        return f"{(Decimal(px_ticks) * self.instrument.tick_e10 / E10).quantize(self._px_step):f}"

    def size(self, qty_lots: int) -> str:
        return f"{(Decimal(qty_lots) * self.instrument.lot_e10 / E10).quantize(self._qty_step):f}"

    def money(self, label: str, amount_e10: int | None, note: str = "") -> Figure:
        """A signed amount."""
        value = None if amount_e10 is None else money_text(amount_e10)
        return Figure(label=label, shown=self.signed(amount_e10), value=value, unit=self.quote, note=note)

    def amount(self, label: str, amount_e10: int | None, note: str = "") -> Figure:
        """One that needs no sign: a level, not a change."""
        if amount_e10 is None:
            return unknown(label, note)
        value = money_text(amount_e10)
        return Figure(label=label, shown=f"{value} {self.quote}", value=value, unit=self.quote, note=note)

    def signed(self, amount_e10: int | None) -> str:
        """With sign and unit, exact to the last digit that is not zero."""
        if amount_e10 is None:
            return UNKNOWN
        return f"{'' if amount_e10 < 0 else '+'}{money_text(amount_e10)} {self.quote}"

    def sized(self, label: str, qty_lots: int | None, note: str = "") -> Figure:
        if qty_lots is None:
            return unknown(label, note)
        size = self.size(qty_lots)
        return Figure(label=label, shown=f"{size} {self.base}", value=size, unit=self.base, note=note)


def _step(unit_e10: int) -> Decimal:
    """The last decimal that a multiple of the unit needs."""
    exponent = Decimal(unit_e10).scaleb(-10).normalize().as_tuple().exponent
    return Decimal(1).scaleb(min(0, int(exponent)))


def unknown(label: str, note: str = "") -> Figure:
    return Figure(label=label, shown=UNKNOWN, value=None, note=note)


def count(label: str, number: int | None, unit: str = "", note: str = "") -> Figure:
    if number is None:
        return unknown(label, note)
    return Figure(label=label, shown=f"{number:,}{' ' if unit else ''}{unit}", value=str(number), unit=unit, note=note)


def share(label: str, part: int, whole: int, note: str = "") -> Figure:
    """Part of a whole in percent to a tenth, rounded down where it would read 100 and is not; unknown of nothing."""
    if whole <= 0:
        return unknown(label, note)
    tenths = min(999, round(1000 * part / whole)) if part < whole else 1000 * part // whole
    text = f"{tenths // 10}.{tenths % 10}"
    return Figure(label=label, shown=f"{text} %", value=text, unit="%", note=note)


def utc(ts_ns: int) -> str:
    """UTC to the millisecond, cut off and not rounded."""
    seconds, rest = divmod(ts_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"


def lasting(ns: int) -> str:
    """A length of time as people say it: "8 h 30 min", "12.4 s"."""
    tenths = ns // (NS // 10)
    if tenths < 600:
        return f"{tenths // 10}.{tenths % 10} s"
    seconds = ns // NS
    for unit, within, size, part in (("min", "s", 60, 1), ("h", "min", 3600, 60), ("d", "h", 86_400, 3600)):
        if seconds < size * (24 if unit == "h" else 60) or unit == "d":
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {within}" if rest else "")
    raise AssertionError


def milliseconds(ns: int) -> str:
    return f"{ns / 1e6:.1f} ms" if ns < 10 * NS else f"{ns / NS:.1f} s"
