"""The venue's own account of us, in decimals, by its own code: the third witness of the PnL identity.

It knows nothing of `core.position`. Prices and sizes enter as ticks and lots, are decimals inside, and money leaves as
integers of 1e-10 quote. All sums are exact (an inexact one raises); only three things are rounded, half-even to 1e-10:
a fee, a funding payment, and the cost that leaves with a reduction (the rest of the cost stays, so nothing leaks).

    balance = start + realised - fees + funding + transfers + charges
    equity  = balance + unrealised = cash + position * mark
    cash    = start - sum(side * price * size) - fees + funding + transfers + charges
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

from mmdaemon.core.types import Instrument, Liquidity, Side

_EXACT = Context(prec=80, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact])
_ROUNDED = Context(prec=80, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
_QUANTUM = Decimal("1e-10")
_ZERO = Decimal(0)


def from_e10(amount_e10: int) -> Decimal:
    return Decimal(amount_e10).scaleb(-10, _EXACT)


def to_e10(amount: Decimal) -> int:
    """Exact, or an `ArithmeticError`: money that is no whole number of 1e-10 must not leave."""
    scaled = amount.scaleb(10, _EXACT)
    whole = int(scaled)
    if whole != scaled:
        raise ArithmeticError(f"{amount} is not a whole number of 1e-10 quote")
    return whole


class Wallet:
    """Balance and position of one account in one instrument. Amounts are quote currency unless named `_e10`."""

    def __init__(self, instrument: Instrument, start_e10: int, maker_rate: Decimal, taker_rate: Decimal) -> None:
        self._tick = from_e10(instrument.tick_e10)
        self._lot = from_e10(instrument.lot_e10)
        self._rates = {Liquidity.MAKER: maker_rate, Liquidity.TAKER: taker_rate}
        self.start = from_e10(start_e10)
        self.size = _ZERO
        """Signed position in base currency."""
        self.cost = _ZERO
        """What the open position cost: signed size times average entry."""
        self.paid = _ZERO
        """Sum of side * price * size over all fills."""
        self.realised = self.fees = self.funding = self.transfers = self.charges = _ZERO

    # --- what happens -------------------------------------------------------------------------------------------------

    def fill(self, side: Side, px_ticks: int, qty_lots: int, liquidity: Liquidity, rate: Decimal | None = None) -> int:
        """Book a fill. Returns the fee charged (1e-10 quote, negative is a rebate); `rate` replaces the schedule's."""
        price = _EXACT.multiply(self._tick, Decimal(px_ticks))
        size = _EXACT.multiply(self._lot, Decimal(side * qty_lots))
        value = _EXACT.multiply(price, size)
        self.paid = _EXACT.add(self.paid, value)
        if self.size and (self.size > 0) != (size > 0):
            closed = size if abs(size) <= abs(self.size) else -self.size
            self._reduce(closed, _EXACT.multiply(price, closed))
            size = _EXACT.subtract(size, closed)
            value = _EXACT.multiply(price, size)
        self.size = _EXACT.add(self.size, size)
        self.cost = _EXACT.add(self.cost, value)
        charged = self._rates[liquidity] if rate is None else rate
        fee = self._rounded(_EXACT.multiply(_EXACT.multiply(price, self._lot), Decimal(qty_lots)), charged)
        self.fees = _EXACT.add(self.fees, fee)
        return to_e10(fee)

    def charge_at(self, maker_rate: Decimal, taker_rate: Decimal) -> None:
        """Another fee tier, from the next fill on."""
        self._rates = {Liquidity.MAKER: maker_rate, Liquidity.TAKER: taker_rate}

    def _reduce(self, closed: Decimal, value: Decimal) -> None:
        """Close part of the position (`closed` has the other sign) for `value` = price * closed."""
        share = _ROUNDED.divide(_EXACT.multiply(self.cost, -closed), self.size)
        removed = share.quantize(_QUANTUM, context=_ROUNDED)
        self.cost = _EXACT.subtract(self.cost, removed)
        self.size = _EXACT.add(self.size, closed)
        self.realised = _EXACT.subtract(self.realised, _EXACT.add(removed, value))

    def settle_funding(self, mark_ticks: int, rate: float) -> int:
        """Longs pay shorts where the rate is positive. Returns what was received (1e-10 quote)."""
        payment = -self._rounded(self._value(mark_ticks), Decimal(repr(rate)))
        self.funding = _EXACT.add(self.funding, payment)
        return to_e10(payment)

    def transfer(self, amount_e10: int) -> None:
        self.transfers = _EXACT.add(self.transfers, from_e10(amount_e10))

    def charge(self, amount_e10: int) -> None:
        """Booked by the venue outside fills: positive is received."""
        self.charges = _EXACT.add(self.charges, from_e10(amount_e10))

    # --- what it comes to ---------------------------------------------------------------------------------------------

    def _value(self, px_ticks: int) -> Decimal:
        return _EXACT.multiply(self.size, _EXACT.multiply(self._tick, Decimal(px_ticks)))

    def _rounded(self, value: Decimal, rate: Decimal) -> Decimal:
        return _EXACT.multiply(value, rate).quantize(_QUANTUM, context=_ROUNDED)

    def _booked(self) -> Decimal:
        booked = _EXACT.subtract(self.start, self.fees)
        for amount in (self.funding, self.transfers, self.charges):
            booked = _EXACT.add(booked, amount)
        return booked

    @property
    def balance_e10(self) -> int:
        return to_e10(_EXACT.add(self._booked(), self.realised))

    @property
    def cash_e10(self) -> int:
        return to_e10(_EXACT.subtract(self._booked(), self.paid))

    @property
    def position_lots(self) -> int:
        return int(_EXACT.divide(self.size, self._lot))

    @property
    def average_entry(self) -> Decimal | None:
        """None while flat."""
        return _ROUNDED.divide(self.cost, self.size) if self.size else None

    def unrealised_e10(self, mark_ticks: int) -> int:
        return to_e10(_EXACT.subtract(self._value(mark_ticks), self.cost))

    def equity_e10(self, mark_ticks: int) -> int:
        return self.balance_e10 + self.unrealised_e10(mark_ticks)

    def is_below_maintenance(self, mark_ticks: int, rate: Decimal) -> bool:
        """Whether equity no longer carries the position: equity < |position| * mark * rate."""
        needed = _EXACT.multiply(abs(self._value(mark_ticks)), rate)
        return bool(self.size) and from_e10(self.equity_e10(mark_ticks)) < needed
