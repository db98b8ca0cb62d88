"""Figures of a decision as people read them: exact decimals, moments in UTC, and every input with its meaning."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from mmdaemon.core.decision import DecisionInputs
from mmdaemon.core.types import E10, NS, Instrument
from mmdaemon.journal.rows import money_text

QUANTUM = Decimal("0.0001")
"""Addends are shown to this many ticks or bps."""
_TORN = Decimal("0.001")


class Seen(msgspec.Struct, frozen=True):
    """One figure: its field, what it means, its value and the unit."""

    field: str
    meaning: str
    value: str
    unit: str


def utc(ts_ns: int) -> str:
    """UTC to the millisecond, cut off and not rounded."""
    seconds, rest = divmod(ts_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"


def price(px_ticks: float | Decimal, instrument: Instrument) -> Decimal:
    """Ticks in quote currency: whole ones with the instrument's own decimals, others with four more."""
    ticks = Decimal(px_ticks)
    step = _step(instrument.tick_e10)
    return (ticks * instrument.tick_e10 / E10).quantize(step if ticks == int(ticks) else step * QUANTUM)


def distance(ticks: Decimal, instrument: Instrument) -> Decimal:
    """A part of a price in quote currency, with four decimals more than the instrument's: exact for ticks that are
    shown to `QUANTUM`, so that what sums in ticks sums here."""
    return (ticks * instrument.tick_e10 / E10).quantize(_step(instrument.tick_e10) * QUANTUM)


def size(qty_lots: int, instrument: Instrument) -> Decimal:
    """Lots in base currency."""
    return (Decimal(qty_lots) * instrument.lot_e10 / E10).quantize(_step(instrument.lot_e10))


def _step(unit_e10: int) -> Decimal:
    """The last decimal that a multiple of the unit needs."""
    exponent = Decimal(unit_e10).scaleb(-10).normalize().as_tuple().exponent
    return Decimal(1).scaleb(min(0, int(exponent)))


def apportioned(addends: Sequence[float], total: Decimal) -> list[Decimal]:
    """The addends to `QUANTUM`, adding up to `total` exactly, by largest remainders: those that are whole stay so, and
    so does the first.

    Raises ValueError: they do not add up to it to begin with, so the row was not written by `decide`.
    """
    exact = [Decimal(addend) for addend in addends]
    if abs(sum(exact) - total) > _TORN:
        raise ValueError(f"addends come to {sum(exact):.4f} and should be {total}")
    shown = [addend.quantize(QUANTUM) for addend in exact]
    rest = int((total - sum(shown)) / QUANTUM)
    step = QUANTUM if rest > 0 else -QUANTUM
    by_error = sorted(range(1, len(exact)), key=lambda i: (exact[i] - shown[i]) * (1 if rest > 0 else -1), reverse=True)
    for turn in range(abs(rest)):
        shown[by_error[turn % len(by_error)]] += step
    return [addend + 0 for addend in shown]  # + 0: no negative zero


def inputs(seen: DecisionInputs, instrument: Instrument) -> Iterator[Seen]:
    """Every field of what a decision saw, in order."""

    def money(px_ticks: float | None) -> str:
        return "none" if not px_ticks else str(price(Decimal(px_ticks).quantize(QUANTUM), instrument))

    quote = instrument.quote
    values: dict[str, tuple[str, str, str]] = {
        "mono_ns": ("time on the monotonic clock", f"{seen.mono_ns / NS:.3f}", "s"),
        "ts_ns": ("time", utc(seen.ts_ns), "UTC"),
        "bid_px_ticks": ("best bid", money(seen.bid_px_ticks), quote),
        "ask_px_ticks": ("best ask", money(seen.ask_px_ticks), quote),
        "fair_ticks": ("micro-price", money(seen.fair_ticks), quote),
        "signal_bps": ("short-horizon signal", f"{seen.signal_bps:+.4f}" if seen.signal_bps else "0", "bps"),
        "guard": ("guard", seen.guard.value, ""),
        "regime": ("regime", seen.regime.value, ""),
        "band_bps": ("volatility band, ATR(14) of minutes", _known(seen.band_bps), "bps"),
        "sigma_bps": ("volatility of the mid", _known(seen.sigma_bps), "bps / sqrt(s)"),
        "drift_multiplier": ("spread multiplier while the mid runs", f"{seen.drift_multiplier:g}", "times"),
        "tracker_multiplier": ("spread multiplier while fills lose", f"{seen.tracker_multiplier:g}", "times"),
        "position_lots": ("position", str(size(seen.position_lots, instrument)), "base"),
        "equity_e10": ("equity", money_text(seen.equity_e10), quote),
        "maker_bps": ("maker fee", f"{seen.maker_bps:g}", "bps"),
        "taker_bps": ("taker fee", f"{seen.taker_bps:g}", "bps"),
        "carry_bps": ("expected funding cost of a long", f"{seen.carry_bps:g}", "bps"),
        "adverse_buy_bps": ("measured impact after buys", f"{seen.adverse_buy_bps:g}", "bps"),
        "adverse_sell_bps": ("measured impact after sells", f"{seen.adverse_sell_bps:g}", "bps"),
        "turnover_bps": ("penalty for the day's turnover", f"{seen.turnover_bps:g}", "bps"),
        "taker_share": ("share of our volume that takes", f"{seen.taker_share:g}", "of 1"),
        "size_buy_share": ("share of normal size, buys", f"{seen.size_buy_share:g}", "of 1"),
        "size_sell_share": ("share of normal size, sells", f"{seen.size_sell_share:g}", "of 1"),
        "no_buy": ("what keeps buys from increasing", seen.no_buy or "nothing", ""),
        "no_sell": ("what keeps sells from increasing", seen.no_sell or "nothing", ""),
        "derisk": ("how the position is worked down", _urgency(seen), ""),
        "target": ("inventory that signals draw to", f"{seen.target:+g}" if seen.target else "0", "of the largest"),
        "direction_bps": (
            "reservation price, by signals",
            f"{seen.direction_bps:+.4f}" if seen.direction_bps else "0",
            "bps",
        ),
        "signal_size": ("size of what increases, by signals", f"{seen.signal_size:g}", "of 1"),
        "signal_spread": ("spread multiplier, by signals", f"{seen.signal_spread:g}", "times"),
    }
    for name in DecisionInputs.__struct_fields__:
        yield Seen(name, *values[name])


def _known(bps: float) -> str:
    return f"{bps:.4f}" if bps else "not known yet"


def _urgency(seen: DecisionInputs) -> str:
    return "not at all" if seen.derisk == "none" else seen.derisk.value
