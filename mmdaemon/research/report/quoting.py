"""What was decided over time: fair value, target quotes, the required edge, regime and guard, and when nothing stood.

Decisions are journaled where they changed, and each holds until the next. Between two of them fair value stays within
the band of the first (its requote tolerance), so what is drawn from decisions is as fine as that.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator

import msgspec

from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.params import RegimeParams
from mmdaemon.core.types import GuardState, Regime, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.research.guard_time import GuardSpan
from mmdaemon.research.report.words import because

EDGES = ("maker_fee", "exit", "adverse", "carry", "turnover", "min_edge")
_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode
_decision_of = msgspec.msgpack.Decoder(Decision).decode
TOO_SMALL = "less than the smallest order"
_REASONS_SHOWN = 4
"""In words; their names are all told. At a start nearly everything is unknown."""
_WHY = {
    "guard": "the guard",
    "no_book": "no healthy book",
    "inventory": "inventory at its largest",
    "edge": "the required edge is wider than the widest spread",
    "pulled": "the side's own fills lost",
    "size": TOO_SMALL,
}


class Bare(msgspec.Struct, kw_only=True):
    """A stretch of time in which no quote was wanted."""

    from_mono_ns: int
    from_ts_ns: int
    to_mono_ns: int
    to_ts_ns: int
    words: list[str]
    """Why, in the order it became so."""
    codes: list[str] = []
    """The guard's reasons among them, by their names."""


class Quoted(msgspec.Struct, kw_only=True):
    """Columns of a run's decisions, one entry each, in order."""

    mono_ns: list[int] = []
    ts_ns: list[int] = []
    fair: list[float | None] = []
    """In ticks, as are bid and ask: our best targets."""
    bid: list[float | None] = []
    ask: list[float | None] = []
    most_lots: list[int] = []
    regime: list[str] = []
    edges: tuple[list[list[float] | None], list[list[float] | None]] = msgspec.field(default_factory=lambda: ([], []))
    """Buys and sells, a row of `EDGES` in bps for each decision; None before the first that quoted: until then fees
    may not be known."""
    most_bps: list[float | None] = []
    """What the edge gate holds them against: half of the widest spread of the regime."""
    leans: list[tuple[float, float, float] | None] = []
    """How far signal, skew and carry moved both quotes, up if positive, in bps; None where nothing was quoted."""
    maker_bps: float | None = None
    """As the last decision knew them; None where none ever quoted."""
    taker_bps: float | None = None
    both_ns: int = 0
    """Time in which both sides were wanted, one of them, and none."""
    one_ns: int = 0
    none_ns: int = 0
    signal_bps_ns: float = 0.0
    """Size of the signal and of the half-spread, each times how long they stood; of what was quoted."""
    half_bps_ns: float = 0.0
    bare: list[Bare] = []


def quoted(journal: JournalReader, run: RunRow, spans: list[GuardSpan], end_mono_ns: int, end_ts_ns: int) -> Quoted:
    """All decisions of a run.

    Raises msgspec.MsgspecError: a row was not written by this program.
    """
    made = Quoted()
    most_bps = _most_bps(journal.params(run.epoch))
    starts = [span.from_mono_ns for span in spans]

    def guard_words(mono_ns: int) -> tuple[str, tuple[str, ...]]:
        span = spans[max(0, bisect_right(starts, mono_ns) - 1)]
        state = span.state.value.replace("_", " ")
        said = [because(reason) for reason in span.reasons[:_REASONS_SHOWN]]
        rest = len(span.reasons) - len(said)
        said += [f"and {rest} more"] if rest else []
        return f"{state} ({'; '.join(said)})" if said else state, span.reasons

    since_ns, wanted = run.started_mono_ns, 0
    signal_bps = half_bps = 0.0
    open_bare: Bare | None = Bare(
        from_mono_ns=run.started_mono_ns,
        from_ts_ns=run.started_ts_ns,
        to_mono_ns=0,
        to_ts_ns=0,
        words=[GuardState.STARTING.value],
    )
    is_pruned = journal.pruning("decisions", run.epoch) is not None
    for mono_ns, ts_ns, inputs, decision in _rows(journal, run.epoch):
        if is_pruned:  # what was quoted before is not known, which is not nothing
            is_pruned, since_ns, open_bare = False, mono_ns, None
        seen, concluded = _inputs_of(inputs), _decision_of(decision)
        _count(made, wanted, mono_ns - since_ns, signal_bps, half_bps)
        signal_bps, half_bps = abs(seen.signal_bps), concluded.half_bps
        bid = ask = None
        for quote in concluded.quotes:
            if quote.side is Side.BUY:
                bid = float(quote.px_ticks) if bid is None else bid
            else:
                ask = float(quote.px_ticks)
                break
        since_ns, wanted = mono_ns, (bid is not None) + (ask is not None)
        made.mono_ns.append(mono_ns)
        made.ts_ns.append(ts_ns)
        made.fair.append(seen.fair_ticks)
        made.bid.append(bid)
        made.ask.append(ask)
        made.most_lots.append(concluded.max_position_lots)
        made.regime.append(seen.regime.value)
        made.most_bps.append(most_bps.get(seen.regime))
        leans = (seen.signal_bps, -concluded.skew_bps, -seen.carry_bps)
        made.leans.append(leans if concluded.half_bps else None)
        priced = wanted > 0 or made.maker_bps is not None
        for rows, edge in zip(made.edges, (concluded.buy_edge, concluded.sell_edge), strict=True):
            rows.append(list(msgspec.structs.astuple(edge)) if priced else None)
        if priced:
            made.maker_bps, made.taker_bps = seen.maker_bps, seen.taker_bps
        open_bare = _follow(made, open_bare, wanted, (mono_ns, ts_ns), lambda: _why(concluded, guard_words, mono_ns))  # noqa: B023 - called at once
    _count(made, wanted, max(0, end_mono_ns - since_ns), signal_bps, half_bps)
    _follow(made, open_bare, 1, (end_mono_ns, end_ts_ns), lambda: ("", ()))
    return made


def _rows(journal: JournalReader, epoch: int) -> Iterator[tuple[int, int, bytes, bytes]]:
    return journal.db.execute(
        "SELECT mono_ns, ts_ns, inputs, decision FROM decisions WHERE epoch = ? ORDER BY seq", (epoch,)
    )


class _Table(msgspec.Struct):
    """Of a run's parameters, the one thing needed here: readable whatever else a version of them has."""

    regimes: dict[Regime, RegimeParams]


def _most_bps(params: bytes | None) -> dict[Regime, float]:
    table = {} if params is None else msgspec.msgpack.decode(params, type=_Table).regimes
    return {regime: row.spread_max_bps / 2 for regime, row in table.items()}


def _count(made: Quoted, wanted: int, ns: int, signal_bps: float, half_bps: float) -> None:
    if wanted:
        made.signal_bps_ns += signal_bps * ns
        made.half_bps_ns += half_bps * ns
    match wanted:
        case 0:
            made.none_ns += ns
        case 1:
            made.one_ns += ns
        case _:
            made.both_ns += ns


def _follow(
    made: Quoted, bare: Bare | None, wanted: int, now: tuple[int, int], why: Callable[[], tuple[str, tuple[str, ...]]]
) -> Bare | None:
    """Open, go on with or close a stretch without quotes; returns the one that is open."""
    if wanted:
        if bare is not None:
            bare.to_mono_ns, bare.to_ts_ns = now
            made.bare.append(bare)
        return None
    if bare is None:
        bare = Bare(from_mono_ns=now[0], from_ts_ns=now[1], to_mono_ns=0, to_ts_ns=0, words=[])
    word, codes = why()
    if word not in bare.words:
        bare.words.append(word)
        bare.codes += [code for code in codes if code not in bare.codes]
    return bare


def _why(
    made: Decision, guard_words: Callable[[int], tuple[str, tuple[str, ...]]], mono_ns: int
) -> tuple[str, tuple[str, ...]]:
    """In words, and the guard's reasons by their names."""
    if "guard" in (made.no_bid, made.no_ask):
        return guard_words(mono_ns)
    words = dict.fromkeys(_WHY.get(word, word) for word in (made.no_bid, made.no_ask) if word)
    return "; ".join(words) or "no quote, and no reason given", ()
