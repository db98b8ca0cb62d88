"""What is plotted of a run: columns over time, thinned where there are more than a picture shows."""

from collections.abc import Sequence

import msgspec

from mmdaemon.core.types import E10, NS
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.research.money import Money, parts_of
from mmdaemon.research.report.quoting import EDGES, GuardSpan, Quoted
from mmdaemon.research.report.records import Lines, Span
from mmdaemon.research.report.thinning import lines, spans
from mmdaemon.research.report.words import Units, because

_PRICES_MOST = 16_000
_ROWS_MOST = 8_000
_EDGES_MOST = 5_000
_SPANS_MOST = 2_500
_HOLE_NS = 60 * NS


def _ms(ts_ns: Sequence[int], start_ts_ns: int) -> list[float]:
    return [(ts - start_ts_ns) / 1e6 for ts in ts_ns]


def _prices(ticks: Sequence[float | None], units: Units) -> list[float | None]:
    """To a hundredth of a tick."""
    return [None if px is None else round(px * units.tick, 10) if px == int(px) else _near(px, units) for px in ticks]


def _near(px_ticks: float, units: Units) -> float:
    return round(round(px_ticks, 2) * units.tick, 10)


def price(made: Quoted, units: Units, start_ts_ns: int) -> Lines:
    times, ticks = _broken(made)
    columns = {name: _prices(column, units) for name, column in ticks.items()}
    return lines(_ms(times, start_ts_ns), columns, _PRICES_MOST)


def _broken(made: Quoted) -> tuple[list[int], dict[str, list[float | None]]]:
    """Times, and fair value, bid and ask in ticks. While nothing is quoted fair value is not followed, so its line ends
    at the decision that took the quotes out; and it is not drawn over more than a minute without a decision."""
    times: list[int] = []
    fair: list[float | None] = []
    bid: list[float | None] = []
    ask: list[float | None] = []
    was_bare = False
    last = len(made.ts_ns) - 1
    for i, ts_ns in enumerate(made.ts_ns):
        is_bare = made.bid[i] is None and made.ask[i] is None
        rows = [(ts_ns, None if is_bare and was_bare else made.fair[i])]
        gap_ns = made.ts_ns[i + 1] - ts_ns if i < last else 0
        is_end = is_bare and not was_bare and i < last and not (made.bid[i + 1] is None and made.ask[i + 1] is None)
        if (is_end or gap_ns > _HOLE_NS) and gap_ns > 1 and rows[0][1] is not None:
            rows.append((ts_ns + min(gap_ns // 2, 1_000_000), None))
        for at_ns, value in rows:
            times.append(at_ns)
            fair.append(value)
            bid.append(made.bid[i])
            ask.append(made.ask[i])
        was_bare = is_bare
    return times, {"fair": fair, "bid": bid, "ask": ask}


def minutes(money: Money, units: Units, start_ts_ns: int) -> Lines:
    each = money.minutes
    ticks: dict[str, list[float | None]] = {
        "mark": [m.mark_px_ticks for m in each],
        "bid": [m.bid_px_ticks for m in each],
        "ask": [m.ask_px_ticks for m in each],
    }
    columns = {name: _prices(column, units) for name, column in ticks.items()}
    return lines(_ms([m.ts_ns for m in each], start_ts_ns), columns, _ROWS_MOST)


def position(money: Money, units: Units, run: RunRow, end_ts_ns: int) -> Lines:
    """Held after each fill, from the run's start to its end."""
    lots = [money.opening_lots, *money.position_lots]
    t = [run.started_ts_ns, *(fill.ts_ns for fill in money.fills), end_ts_ns]
    held: list[float | None] = [round(each * units.lot, 10) for each in [*lots, lots[-1]]]
    return lines(_ms(t, run.started_ts_ns), {"position": held}, _ROWS_MOST)


def limits(made: Quoted, units: Units, start_ts_ns: int) -> Lines:
    """Where the largest position changed."""
    rows = [i for i, lots in enumerate(made.most_lots) if i == 0 or lots != made.most_lots[i - 1]]
    rows += [len(made.most_lots) - 1] if made.most_lots else []
    most: list[float | None] = [round(made.most_lots[i] * units.lot, 10) or None for i in rows]
    columns = {"long": most, "short": [None if each is None else -each for each in most]}
    return lines(_ms([made.ts_ns[i] for i in rows], start_ts_ns), columns, _EDGES_MOST)


def pnl(money: Money, start_ts_ns: int) -> Lines:
    each = money.minutes
    parts = [parts_of(minute) for minute in each]
    columns: dict[str, list[float | None]] = {
        "spread": [part.spread_e10 / E10 for part in parts],
        "impact": [part.impact_e10 / E10 for part in parts],
        "inventory": [part.inventory_e10 / E10 for part in parts],
        "fees": [part.fees_e10 / E10 for part in parts],
        "funding": [part.funding_e10 / E10 for part in parts],
    }
    if any(part.transfers_e10 for part in parts):
        columns["transfers"] = [part.transfers_e10 / E10 for part in parts]
    start = money.start_e10
    columns["total"] = [
        None if start is None or minute.equity_e10 is None else (minute.equity_e10 - start) / E10 for minute in each
    ]
    return lines(_ms([m.ts_ns for m in each], start_ts_ns), columns, _ROWS_MOST)


def edges(made: Quoted, side: int, start_ts_ns: int) -> Lines:
    """The required edge of a side in bps, addend by addend, where it changed, and what the gate holds it against.
    Thinned by what the addends come to."""
    rounded = [
        None if row is None else [*(round(bps, 4) for bps in row), most]
        for row, most in zip(made.edges[side], made.most_bps, strict=True)
    ]
    rows = [i for i, row in enumerate(rounded) if i == 0 or row != rounded[i - 1]]
    rows += [len(rounded) - 1] if rounded and rows[-1] != len(rounded) - 1 else []
    picked = [rounded[i] for i in rows]
    columns: dict[str, list[float | None]] = {
        name: [None if row is None else row[addend] for row in picked] for addend, name in enumerate((*EDGES, "most"))
    }
    columns["total"] = [None if row is None else round(sum(bps or 0.0 for bps in row[:-1]), 4) for row in picked]
    return lines(_ms([made.ts_ns[i] for i in rows], start_ts_ns), columns, _EDGES_MOST, by=("total", "most"))


def leans(made: Quoted, start_ts_ns: int) -> Lines:
    """What moved both quotes together, in bps, at decisions."""
    columns: dict[str, list[float | None]] = {
        name: [None if row is None else round(row[i], 4) for row in made.leans]
        for i, name in enumerate(("signal", "skew", "carry"))
    }
    return lines(_ms(made.ts_ns, start_ts_ns), columns, _EDGES_MOST)


def guard(whole: Sequence[GuardSpan], start_ts_ns: int) -> list[Span]:
    """Its reasons in words, each with its code."""
    drawn = spans(
        [
            Span(
                (each.from_ts_ns - start_ts_ns) / 1e6,
                (each.to_ts_ns - start_ts_ns) / 1e6,
                each.state.value,
                ", ".join(each.reasons),
            )
            for each in whole
            if each.to_ts_ns > each.from_ts_ns
        ],
        _SPANS_MOST,
    )
    return [msgspec.structs.replace(span, why=_in_words(span.why)) for span in drawn]


def _in_words(codes: str) -> str:
    told = [code if because(code) == code else f"{because(code)} ({code})" for code in codes.split(", ") if code]
    return "; ".join(told)


def regime(made: Quoted, start_ts_ns: int, end_ts_ns: int) -> list[Span]:
    """Of the decisions; before the first it is not known."""
    rows = [i for i, name in enumerate(made.regime) if i == 0 or name != made.regime[i - 1]]
    ends = [made.ts_ns[i] for i in rows[1:]] + [end_ts_ns]
    return spans(
        [
            Span((made.ts_ns[i] - start_ts_ns) / 1e6, (end - start_ts_ns) / 1e6, made.regime[i])
            for i, end in zip(rows, ends, strict=False)
            if end > made.ts_ns[i]
        ],
        _SPANS_MOST,
    )
