"""Why an order was there: what the journal says of it, as records that `explain` prints or writes as JSON.

Amounts are decimals, as text in JSON. Addends are rounded by largest remainders, so that what is shown adds up to what
is shown: an edge to 1e-4 bps, a quote to the quoted tick itself. Those of a quote were journaled so that they come to
its tick exactly; a row in which they do not is not shown.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from mmdaemon.cli.addends import edge_sources, held, model_figures, signal_words, why_missing
from mmdaemon.cli.shown import QUANTUM, Seen, apportioned, distance, inputs, price, size, utc
from mmdaemon.core.decision import Decision, DecisionInputs, EdgeBreakdown, Quote
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import floor_distance_bps
from mmdaemon.core.types import NS, Instrument, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import DecisionRow

_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode
_decision_of = msgspec.msgpack.Decoder(Decision).decode


class Addend(msgspec.Struct, frozen=True):
    """A part of a required edge, in bps, with where it comes from; or of a quoted price, in bps, ticks and money."""

    name: str
    bps: Decimal
    ticks: Decimal | None = None
    price: Decimal | None = None
    source: str = ""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """The required edge of one side. `most_bps`: what the edge gate holds it against, half of the widest spread."""

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
    sum_ticks: Decimal
    """What the addends come to as they were journaled, unrounded: `px_ticks`, or the row is refused."""
    purpose: str
    takes: bool
    """It was to trade at once, up to its price."""


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
    derisk: str
    """How urgently a position was worked down: "none", "passive", "touch", "taker"."""
    signal: str
    model: str
    """"ladder" or "glft"; `figures` is what its half-spread and skew were made of."""
    figures: tuple[Seen, ...]
    reservation: Decimal
    half_bps: Decimal
    skew_bps: Decimal
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


# --- a decision -------------------------------------------------------------------------------------------------------


def story_of(journal: JournalReader, row: DecisionRow, params: Params) -> DecisionStory:
    """Everything a decision saw and concluded.

    Raises ValueError, msgspec.MsgspecError: the row was not written by this program.
    """
    seen, made = _inputs_of(row.inputs), _decision_of(row.decision)
    instrument = params.instrument
    reasons = guard_reasons(journal, row.epoch, row.seq)
    sources = edge_sources(seen, params, cost_facts(journal, row))

    def why(side: Side) -> str:
        said = why_missing(side, seen, made, params, reasons)
        is_held = said.startswith(("edge:", "pulled:"))
        return why_missing(side, seen, made, params, reasons, held(journal, row, side, params)) if is_held else said

    return DecisionStory(
        epoch=row.epoch,
        seq=row.seq,
        ts_ns=row.ts_ns,
        utc=utc(row.ts_ns),
        guard=seen.guard.value,
        guard_reasons=reasons,
        regime=seen.regime.value,
        inputs=tuple(inputs(seen, instrument)),
        edges=(
            _edge(Side.BUY, made.buy_edge, sources, seen, made, params),
            _edge(Side.SELL, made.sell_edge, sources, seen, made, params),
        ),
        no_bid=why(Side.BUY),
        no_ask=why(Side.SELL),
        rungs=tuple(rung_of(quote, instrument) for quote in made.quotes),
        derisk=seen.derisk.value,
        signal=signal_words(seen, params),
        model=params.quotes.model,
        figures=tuple(model_figures(seen, made, params)),
        reservation=price(Decimal(made.reservation_ticks).quantize(QUANTUM), instrument),
        half_bps=Decimal(made.half_bps).quantize(QUANTUM),
        skew_bps=Decimal(made.skew_bps).quantize(QUANTUM),
        holds_from=price(Decimal(made.band_lo_ticks).quantize(QUANTUM), instrument),
        holds_to=price(Decimal(made.band_hi_ticks).quantize(QUANTUM), instrument),
        refresh_s=made.refresh_ns / NS,
        max_position=size(made.max_position_lots, instrument),
    )


def cost_facts(journal: JournalReader, row: DecisionRow) -> dict[str, str]:
    """What the last minute's sample before a decision says of fees and funding, in words; nothing without one."""
    found = journal.db.execute(
        "SELECT ts_ns, fee_source, funding_rate, funding_due_ts_ns FROM minutes WHERE epoch = ? AND ts_ns <= ? "
        "ORDER BY ts_ns DESC LIMIT 1",
        (row.epoch, row.ts_ns),
    ).fetchone()
    if found is None:
        return {}
    ts_ns, fee_source, rate, due_ts_ns = found
    facts = {"fees": f"from {fee_source}"} if fee_source else {}
    if rate is not None and due_ts_ns is not None:
        facts["funding"] = f"rate {rate:+g} due {utc(due_ts_ns)[11:19]}, as of {utc(ts_ns)[11:19]}"
    return facts


def guard_reasons(journal: JournalReader, epoch: int, seq: int) -> str:
    """Why the guard was where it was at an event: the reasons of its last move."""
    moved = journal.db.execute(
        "SELECT reasons FROM transitions WHERE epoch = ? AND seq <= ? ORDER BY seq DESC, rowid DESC LIMIT 1",
        (epoch, seq),
    ).fetchone()
    return "" if moved is None else moved[0].replace(" ", ", ")


def _edge(
    side: Side,
    edge: EdgeBreakdown,
    sources: Mapping[str, str],
    seen: DecisionInputs,
    made: Decision,
    params: Params,
) -> Edge:
    fields = EdgeBreakdown.__struct_fields__
    total = Decimal(edge.total_bps).quantize(QUANTUM)
    shown = apportioned([getattr(edge, field) for field in fields], total)
    names = [field.removesuffix("_bps") for field in fields]
    addends = tuple(Addend(name, bps, source=sources[name]) for name, bps in zip(names, shown, strict=True))
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
        most_bps=Decimal(params.regimes[seen.regime].spread_max_bps / 2).quantize(QUANTUM),
        floor_bps=floor_bps,
        reducing_u=reducing_u,
    )


def rung_of(quote: Quote, instrument: Instrument) -> Rung:
    if quote.addends.total != quote.px_ticks:
        raise ValueError(f"addends come to {quote.addends.total!r} and should be {quote.px_ticks}")
    names = quote.addends.__struct_fields__
    ticks = [float(getattr(quote.addends, name)) for name in names]
    fair = quote.addends.fair
    bps = [0.0, *(each / fair * 1e4 for each in ticks[1:])]
    away = Decimal((quote.px_ticks - fair) / fair * 1e4).quantize(QUANTUM)
    shown = apportioned(ticks, Decimal(quote.px_ticks))
    both = zip(names, apportioned(bps, away), shown, (distance(each, instrument) for each in shown), strict=True)
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
        sum_ticks=Decimal(quote.addends.total),
        purpose=quote.purpose.value,
        takes=quote.takes,
    )
