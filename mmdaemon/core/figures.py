"""What a number that comes from outside may be, before anything is computed from it.

Types say what a field should hold, and nothing enforces them where an event is made. Each of these asks for a range, so
that NaN and infinity, which lie in none, are refused without being named; and for the exact type, because one float
among integers makes every sum after it a float, and a `bool` is no number at all.
"""

from collections.abc import Iterable

from mmdaemon.core.events import AccountSnapshot, FundingRate

LARGEST = 1 << 48
"""Above any price in ticks and any size in lots that is real."""
_MONEY = 1 << 63
"""What fits into the journal's columns: 922 million in 1e-10 of quote."""
_INTERVAL_MAX_S = 31 * 86_400


def is_count(x: object) -> bool:
    """A price in ticks or a size in lots: whole, positive and not absurd."""
    return type(x) is int and 0 < x <= LARGEST


def is_report(counts: Iterable[object], sums: Iterable[object]) -> bool:
    """Figures of an order, each as said or None: `counts` are price and size, `sums` may be 0 (filled, revision)."""
    return all(x is None or (type(x) is int and 0 < x <= LARGEST) for x in counts) and all(
        x is None or (type(x) is int and 0 <= x <= LARGEST) for x in sums
    )


def is_money(x: object) -> bool:
    """An amount in 1e-10 of quote, of either sign."""
    return type(x) is int and -_MONEY <= x < _MONEY


def is_time(x: object) -> bool:
    """A moment in nanoseconds of UTC."""
    return type(x) is int and 0 <= x < _MONEY


def is_time_or_none(x: object) -> bool:
    """A moment in nanoseconds of UTC, or not said."""
    return x is None or is_time(x)


def is_rate(x: object) -> bool:
    """A fee or funding rate: a fraction of notional, and less than all of it."""
    return isinstance(x, int | float) and -1.0 < x < 1.0


def is_funding(e: FundingRate) -> bool:
    """A rate for a settlement that can be."""
    return is_rate(e.rate) and is_time(e.next_ts_ns) and is_interval_s(e.interval_s)


def is_account(e: AccountSnapshot) -> bool:
    """An account that can be, at a time that the venue told."""
    # Without the venue's own time nobody knows when it was so: ours says only when we heard of it.
    money = (e.wallet_e10, e.unrealised_e10, e.available_margin_e10)
    return is_time(e.venue_ts_ns) and is_money(e.position_lots) and all(map(is_money, money))


def is_interval_s(x: object) -> bool:
    """Time between settlements: something, and at most a month."""
    return type(x) is int and 0 < x <= _INTERVAL_MAX_S
