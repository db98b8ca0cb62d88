"""Why an order was there: what the journal says of it, as records that `explain` prints or writes as JSON.

Amounts are decimals, as text in JSON. Addends are rounded by largest remainders, so that what is shown adds up to what
is shown: an edge to 1e-4 bps, a quote to the quoted tick itself.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from mmdaemon.core.decision import Decision, DecisionInputs, EdgeBreakdown, Quote
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import floor_distance_bps
from mmdaemon.core.types import E10, NS, GuardState, Instrument, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import DecisionRow
from mmdaemon.journal.rows import money_text

QUANTUM = Decimal("0.0001")
"""Addends are shown to this many ticks or bps."""
_TORN = Decimal("0.001")
_QUOTING = (GuardState.RUNNING, GuardState.REDUCING)
_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode
_decision_of = msgspec.msgpack.Decoder(Decision).decode


class Addend(msgspec.Struct, frozen=True):
    name: str
    bps: Decimal
    ticks: Decimal | None = None


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """The required edge of one side. `most_bps`: a side that would increase the position is not quoted beyond it."""

    side: str
    addends: tuple[Addend, ...]
    required_bps: Decimal
    most_bps: Decimal
    floor_bps: Decimal | None
    """Least distance from fair value that was applied to this side; None where nothing could be quoted."""
    reducing_u: Decimal | None
    """Where this side reduces the position: the position's share of the largest, for which its floor is lower."""


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    side: str
    level: int
    price: Decimal
    px_ticks: int
    from_fair_bps: Decimal
    qty: Decimal
    left_alone_from: Decimal
    left_alone_to: Decimal
    addends: tuple[Addend, ...]


class Seen(msgspec.Struct, frozen=True):
    """One input: its field, what it means, its value and the unit."""

    field: str
    meaning: str
    value: str
    unit: str


class DecisionStory(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int
    ts_ns: int
    utc: str
    guard: str
    guard_reasons: str
    regime: str
    inputs: tuple[Seen, ...]
    edges: tuple[Edge, Edge]
    no_bid: str
    """Empty, or why there is none."""
    no_ask: str
    rungs: tuple[Rung, ...]
    reservation: Decimal
    half_bps: Decimal
    holds_from: Decimal
    """While fair value stays within, nothing is decided anew."""
    holds_to: Decimal
    refresh_s: float
    max_position: Decimal


class Moment(msgspec.Struct, frozen=True):
    """One line of an order's life. `age_s` counts from its first line."""

    ts_ns: int
    utc: str
    age_s: float
    seq: int
    what: str
    price: Decimal | None = None
    qty: Decimal | None = None
    why: str = ""


class OrderStory(msgspec.Struct, frozen=True, kw_only=True):
    client_id: str
    side: str
    purpose: str
    level: int
    status: str
    price: Decimal
    qty: Decimal
    filled: Decimal
    life: tuple[Moment, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`decision` is None where no decision was behind it, and then `no_decision` says why."""

    subject: str
    run: int
    symbol: str
    quote: str
    decision: DecisionStory | None
    no_decision: str = ""
    rung: int | None = None
    """Which of the decision's rungs the order stood for."""
    order: OrderStory | None = None
    resting: tuple[OrderStory, ...] = ()
    """What of ours was out at a moment that was asked for."""


# --- figures ----------------------------------------------------------------------------------------------------------


def utc(ts_ns: int) -> str:
    """UTC to the millisecond, cut off and not rounded."""
    seconds, rest = divmod(ts_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"


def price(px_ticks: float | Decimal, instrument: Instrument) -> Decimal:
    """Ticks in quote currency: whole ones with the instrument's own decimals, others with four more."""
    ticks = Decimal(px_ticks)
    step = _step(instrument.tick_e10)
    return (ticks * instrument.tick_e10 / E10).quantize(step if ticks == int(ticks) else step * QUANTUM)


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


# --- a decision -------------------------------------------------------------------------------------------------------


def story_of(journal: JournalReader, row: DecisionRow, params: Params) -> DecisionStory:
    """Everything a decision saw and concluded.

    Raises ValueError, msgspec.MsgspecError: the row was not written by this program.
    """
    seen, made = _inputs_of(row.inputs), _decision_of(row.decision)
    instrument = params.instrument
    most_bps = Decimal(params.regimes[seen.regime].spread_max_bps / 2).quantize(QUANTUM)
    reasons = guard_reasons(journal, row.epoch, row.seq)
    return DecisionStory(
        epoch=row.epoch,
        seq=row.seq,
        ts_ns=row.ts_ns,
        utc=utc(row.ts_ns),
        guard=seen.guard.value,
        guard_reasons=reasons,
        regime=seen.regime.value,
        inputs=tuple(_inputs(seen, instrument)),
        edges=(
            _edge(Side.BUY, made.buy_edge, most_bps, seen, made),
            _edge(Side.SELL, made.sell_edge, most_bps, seen, made),
        ),
        no_bid=why_missing(Side.BUY, seen, made, params, reasons),
        no_ask=why_missing(Side.SELL, seen, made, params, reasons),
        rungs=tuple(_rung(quote, instrument) for quote in made.quotes),
        reservation=price(Decimal(made.reservation_ticks).quantize(QUANTUM), instrument),
        half_bps=Decimal(made.half_bps).quantize(QUANTUM),
        holds_from=price(Decimal(made.band_lo_ticks).quantize(QUANTUM), instrument),
        holds_to=price(Decimal(made.band_hi_ticks).quantize(QUANTUM), instrument),
        refresh_s=made.refresh_ns / NS,
        max_position=size(made.max_position_lots, instrument),
    )


def guard_reasons(journal: JournalReader, epoch: int, seq: int) -> str:
    """Why the guard was where it was at an event: the reasons of its last move."""
    moved = journal.db.execute(
        "SELECT reasons FROM transitions WHERE epoch = ? AND seq <= ? ORDER BY seq DESC, rowid DESC LIMIT 1",
        (epoch, seq),
    ).fetchone()
    return "" if moved is None else moved[0].replace(" ", ", ")


def why_missing(side: Side, seen: DecisionInputs, made: Decision, params: Params, reasons: str) -> str:
    """Why a side has no quote, in words and figures; empty where it has one."""
    instrument = params.instrument
    if any(quote.side is side for quote in made.quotes):
        return ""
    because = f" ({reasons})" if reasons else ""
    match made.no_bid if side is Side.BUY else made.no_ask:
        case "guard" if seen.guard in _QUOTING:
            return f"guard: {seen.guard.value}{because} lets only the side quote that reduces the position"
        case "guard":
            return f"guard: {seen.guard.value}{because} quotes nothing"
        case "no_book":
            return "no_book: there is no healthy book, so there is no fair value"
        case "inventory":
            held, most = size(seen.position_lots, instrument), size(made.max_position_lots, instrument)
            return f"inventory: position {held} has reached its largest, {most}"
        case "edge":
            edge = made.buy_edge if side is Side.BUY else made.sell_edge
            most_bps = params.regimes[seen.regime].spread_max_bps / 2
            return (
                f"edge: a fill must earn {edge.total_bps:.4f} bps, and half of the widest spread in "
                f"{seen.regime.value} is {most_bps:g} bps"
            )
        case "size":
            share = params.regimes[seen.regime].order_size * seen.size_share
            return f"size: {share:.3%} of equity is less than the smallest order the venue takes"
        case _:
            return "size: what there is room for is less than the smallest order the venue takes"


def _inputs(seen: DecisionInputs, instrument: Instrument) -> Iterator[Seen]:
    def money(px_ticks: float | None) -> str:
        return "none" if not px_ticks else str(price(Decimal(px_ticks).quantize(QUANTUM), instrument))

    quote = instrument.quote
    values: dict[str, tuple[str, str, str]] = {
        "mono_ns": ("time on the monotonic clock", f"{seen.mono_ns / NS:.3f}", "s"),
        "ts_ns": ("time", utc(seen.ts_ns), "UTC"),
        "bid_px_ticks": ("best bid", money(seen.bid_px_ticks), quote),
        "ask_px_ticks": ("best ask", money(seen.ask_px_ticks), quote),
        "fair_ticks": ("fair value", money(seen.fair_ticks), quote),
        "guard": ("guard", seen.guard.value, ""),
        "regime": ("regime", seen.regime.value, ""),
        "band_bps": ("volatility band, ATR(14) of minutes", _band(seen.band_bps), "bps"),
        "drift_multiplier": ("spread multiplier while the mid runs", f"{seen.drift_multiplier:g}", "times"),
        "position_lots": ("position", str(size(seen.position_lots, instrument)), "base"),
        "equity_e10": ("equity", money_text(seen.equity_e10), quote),
        "maker_bps": ("maker fee", f"{seen.maker_bps:g}", "bps"),
        "taker_bps": ("taker fee", f"{seen.taker_bps:g}", "bps"),
        "carry_bps": ("expected funding cost of a long", f"{seen.carry_bps:g}", "bps"),
        "adverse_buy_bps": ("measured impact after buys", f"{seen.adverse_buy_bps:g}", "bps"),
        "adverse_sell_bps": ("measured impact after sells", f"{seen.adverse_sell_bps:g}", "bps"),
        "turnover_bps": ("penalty for the day's turnover", f"{seen.turnover_bps:g}", "bps"),
        "size_share": ("share of normal size", f"{seen.size_share:g}", "of 1"),
    }
    for name in DecisionInputs.__struct_fields__:
        yield Seen(name, *values[name])


def _band(band_bps: float) -> str:
    return f"{band_bps:.4f}" if band_bps else "not known yet"


def _edge(side: Side, edge: EdgeBreakdown, most_bps: Decimal, seen: DecisionInputs, made: Decision) -> Edge:
    names = EdgeBreakdown.__struct_fields__
    total = Decimal(edge.total_bps).quantize(QUANTUM)
    shown = apportioned([getattr(edge, name) for name in names], total)
    addends = tuple(Addend(name.removesuffix("_bps"), bps) for name, bps in zip(names, shown, strict=True))
    reducing = side * seen.position_lots < 0
    floor_bps = reducing_u = None
    if made.max_position_lots > 0:
        u = seen.position_lots / made.max_position_lots
        floor_bps = Decimal(floor_distance_bps(edge, u, reducing=reducing)).quantize(QUANTUM)
        reducing_u = Decimal(abs(u)).quantize(Decimal("0.01")) if reducing else None
    return Edge(
        side=side.name.lower(),
        addends=addends,
        required_bps=total,
        most_bps=most_bps,
        floor_bps=floor_bps,
        reducing_u=reducing_u,
    )


def _rung(quote: Quote, instrument: Instrument) -> Rung:
    names = quote.addends.__struct_fields__
    ticks = [float(getattr(quote.addends, name)) for name in names]
    fair = quote.addends.fair
    bps = [0.0, *(each / fair * 1e4 for each in ticks[1:])]
    away = Decimal((quote.px_ticks - fair) / fair * 1e4).quantize(QUANTUM)
    both = zip(names, apportioned(bps, away), apportioned(ticks, Decimal(quote.px_ticks)), strict=True)
    return Rung(
        side=quote.side.name.lower(),
        level=quote.level,
        price=price(quote.px_ticks, instrument),
        px_ticks=quote.px_ticks,
        from_fair_bps=away,
        qty=size(quote.qty_lots, instrument),
        left_alone_from=price(quote.lo_px_ticks, instrument),
        left_alone_to=price(quote.hi_px_ticks, instrument),
        addends=tuple(Addend(*each) for each in both),
    )
