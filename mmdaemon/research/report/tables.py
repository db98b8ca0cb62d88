"""What is listed rather than drawn: fills, what people did, the kill switch, breaks, reads of the venue's truth."""

from collections.abc import Mapping, Sequence

import msgspec

from mmdaemon.core.types import Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow, KillRow
from mmdaemon.journal.rows import money_text
from mmdaemon.research.report.quoting import Bare
from mmdaemon.research.report.records import (
    UNKNOWN,
    ActionLine,
    BreakLine,
    FillLine,
    FillMarks,
    KillLine,
    ReconciliationLine,
    Stop,
)
from mmdaemon.research.report.words import Units, because, lasting, utc

FILLS_SHOWN = 500
MARKS_MOST = 6_000
_STRETCHES = MARKS_MOST // 4
STOPS_SHOWN = 12


def fill_lines(fills: Sequence[FillRow], after: Mapping[str, str], units: Units) -> list[FillLine]:
    """The latest, the last one first. `after` has the 5 s markout by trade id."""
    return [
        FillLine(
            time=utc(fill.ts_ns),
            side=fill.side.name.lower(),
            price=units.price(fill.px_ticks),
            size=units.size(fill.qty_lots),
            value=money_text(fill.notional_e10),
            fee=money_text(fill.fee_e10),
            liquidity=fill.liquidity.value,
            kind=fill.exec_kind.value,
            markout_5s=after.get(fill.trade_id, UNKNOWN),
            order=fill.client_id,
            trade=fill.trade_id,
        )
        for fill in reversed(fills[-FILLS_SHOWN:])
    ]


def fills_listed(fills: Sequence[FillRow]) -> str:
    return f"all {len(fills):,}" if len(fills) <= FILLS_SHOWN else f"the latest {FILLS_SHOWN:,} of {len(fills):,}"


def fill_marks(fills: Sequence[FillRow], after: Mapping[str, str], units: Units, start_ts_ns: int) -> FillMarks:
    """What is drawn of the fills: all, or of each stretch of time the dearest and the cheapest of each side."""
    drawn = list(fills)
    if len(drawn) > MARKS_MOST:
        length = max(1, (drawn[-1].ts_ns - drawn[0].ts_ns) // _STRETCHES + 1)
        ends: dict[tuple[int, Side], list[FillRow]] = {}
        for fill in drawn:
            lowest_highest = ends.setdefault(((fill.ts_ns - drawn[0].ts_ns) // length, fill.side), [fill, fill])
            if fill.px_ticks < lowest_highest[0].px_ticks:
                lowest_highest[0] = fill
            if fill.px_ticks > lowest_highest[1].px_ticks:
                lowest_highest[1] = fill
        chosen = {fill.trade_id for pair in ends.values() for fill in pair}
        drawn = [fill for fill in drawn if fill.trade_id in chosen]
    return FillMarks(
        t_ms=[(fill.ts_ns - start_ts_ns) / 1e6 for fill in drawn],
        price=[float(units.price(fill.px_ticks)) for fill in drawn],
        side=[int(fill.side) for fill in drawn],
        size=[units.size(fill.qty_lots) for fill in drawn],
        fee=[money_text(fill.fee_e10) for fill in drawn],
        markout_5s=[after.get(fill.trade_id, UNKNOWN) for fill in drawn],
        rows=len(fills),
    )


def stop_lines(bare: Sequence[Bare], start_ts_ns: int) -> list[Stop]:
    """The longest stretches without a quote, the longest first."""
    longest = sorted(bare, key=lambda each: each.from_mono_ns - each.to_mono_ns)[:STOPS_SHOWN]
    return [
        Stop(
            started=utc(each.from_ts_ns),
            lasted=lasting(each.to_mono_ns - each.from_mono_ns),
            why="; then ".join(each.words),
            codes=", ".join(each.codes),
            from_ms=(each.from_ts_ns - start_ts_ns) / 1e6,
            to_ms=(each.to_ts_ns - start_ts_ns) / 1e6,
        )
        for each in longest
    ]


def action_lines(journal: JournalReader, epoch: int) -> list[ActionLine]:
    return [
        ActionLine(time=utc(row.ts_ns), action=row.action, reason=row.reason, who=row.who, outcome=row.outcome)
        for row in journal.operator_actions(epoch)
    ]


def kill_lines(journal: JournalReader, epoch: int) -> list[KillLine]:
    return [_kill_line(row) for row in journal.kills() if row.epoch == epoch]


def _kill_line(row: KillRow) -> KillLine:
    """What the guard threw it for is its reasons, by their names."""
    codes = row.reason.split()
    is_coded = all(because(code) != code for code in codes)
    return KillLine(
        time=utc(row.ts_ns),
        state=row.state.value,
        reason="; ".join(map(because, codes)) if is_coded else row.reason,
        codes=", ".join(codes) if is_coded else "",
        evidence=_evidence(row.evidence),
    )


def _evidence(text: str) -> str:
    """Its fields in words; as it stands where it is not what the kill switch writes."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError:
        return text
    return ", ".join(
        f"{name.replace('_', ' ')} {UNKNOWN if value is None else value}"
        for name, value in fields.items()
        if not name.endswith("_ns") and value != -1
    )


def break_lines(journal: JournalReader, from_ts_ns: int, to_ts_ns: int) -> list[BreakLine]:
    """Breaks that were open at any time of the run, whichever run opened them."""
    return [
        BreakLine(
            opened=utc(row.opened_ts_ns),
            name=row.name,
            severity="hard" if row.hard else "soft",
            detail=row.detail,
            closed="still open" if row.closed_ts_ns is None else utc(row.closed_ts_ns),
            resolution=row.resolution or "",
        )
        for row in journal.breaks()
        if row.opened_ts_ns <= to_ts_ns and (row.closed_ts_ns is None or row.closed_ts_ns >= from_ts_ns)
    ]


def reconciliation_lines(journal: JournalReader, epoch: int) -> list[ReconciliationLine]:
    found = journal.db.execute(
        "SELECT scope, count(*), sum(breaks <> '[]'), max(ts_ns) FROM reconciliations WHERE epoch = ? "
        "GROUP BY scope ORDER BY scope",
        (epoch,),
    )
    return [
        ReconciliationLine(scope=scope, reads=f"{reads:,}", with_breaks=f"{broken:,}", last=utc(last))
        for scope, reads, broken, last in found
    ]
