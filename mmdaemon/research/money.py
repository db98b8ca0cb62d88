"""The account's money up to the end of a run, from its fills and bills: exact sums, held against each minute's figures.

Two things are checked at each minute that the daemon journaled: start + cash flows + position at the minute's mark is
the equity that its position module had, to the last digit; and the addends of the attribution come to that equity
less the start.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmdaemon.core.types import Instrument, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import Minute


class Attributed(msgspec.Struct, frozen=True):
    """Addends of equity less start, each with the sign it is added with."""

    spread_e10: int
    inventory_e10: int
    impact_e10: int
    fees_e10: int
    funding_e10: int
    transfers_e10: int

    @property
    def total_e10(self) -> int:
        return sum(msgspec.structs.astuple(self))

    @property
    def pnl_e10(self) -> int:
        """Without transfers."""
        return self.total_e10 - self.transfers_e10


class Money(msgspec.Struct, frozen=True, kw_only=True):
    fills: list[FillRow]
    """Of this run."""
    position_lots: list[int]
    """After each of them."""
    opening_lots: int
    """Position when the run began."""
    minutes: list[Minute]
    start_e10: int | None
    pnl_e10: int | None
    """Of the account up to the run's end, at the last mark of the run; transfers left out."""
    transfers_e10: int
    mark_px_ticks: int | None
    attributed: Attributed | None
    """As of the last minute; None without one."""
    before: Attributed | None
    """As of the last minute of earlier runs of the account; None where there is none, or none is needed."""
    agreeing: int
    """Minutes at which equity was as cash flows have it."""
    footing: int
    checkable: int
    """Minutes with a known mark, equity and start."""
    booked_later: bool
    """Something was filled or billed after the last minute."""

    @property
    def worst_lots(self) -> int:
        """The largest position of the run, signed; what it began with counts."""
        return max(self.opening_lots, *self.position_lots, key=abs) if self.position_lots else self.opening_lots

    @property
    def later_e10(self) -> int | None:
        """What happened after the last minute: PnL that no addend has yet."""
        if self.pnl_e10 is None or self.attributed is None:
            return None
        return self.pnl_e10 - self.attributed.pnl_e10


def instrument_of(journal: JournalReader, path: Path, run: RunRow) -> Instrument:
    """The instrument that the run's fills are in, else the last that was known by its end."""
    versions = journal.db.execute(
        "SELECT DISTINCT instrument_version FROM fills WHERE account_epoch = ?", (run.account_epoch,)
    ).fetchall()
    if len(versions) > 1:
        raise JournalUnreadable(f"journal {path} has fills of instrument versions {sorted(v for (v,) in versions)}")
    fields = Instrument.__struct_fields__
    query = f"SELECT {', '.join(fields)} FROM instruments WHERE version = coalesce(?, version) "  # noqa: S608 - our own
    found = journal.db.execute(
        f"{query} ORDER BY version DESC LIMIT 1", versions[0] if versions else (None,)
    ).fetchone()
    if found is None:
        raise JournalUnreadable(
            f"run {run.epoch} of journal {path} ended before its instrument was known: there is nothing to report"
        )
    return msgspec.convert(dict(zip(fields, found, strict=True)), Instrument)


def parts_of(minute: Minute) -> Attributed:
    return Attributed(
        minute.spread_e10,
        minute.inventory_e10,
        minute.impact_e10,
        -minute.fees_e10,
        minute.funding_e10,
        minute.transfers_e10,
    )


def money_of(journal: JournalReader, run: RunRow, unit_e10: int) -> Money:
    """All that is known of the account's money when the run ended, or as far as it was journaled."""
    account, at = run.account_epoch, run.epoch
    start = journal.run(account)
    start_e10 = None if start is None else start.start_e10
    flows = _flows(journal, account, at)
    earlier = [flow for flow in flows if flow[0] < at]
    opening_lots = sum(flow[3] for flow in earlier)
    fills = list(journal.fills(at))
    held = opening_lots
    position: list[int] = []
    for fill in fills:
        held += fill.side * fill.qty_lots
        position.append(held)
    minutes = list(journal.minutes(at))
    last = minutes[-1] if minutes else None
    agreeing, footing, checkable = _checked(flows, minutes, start_e10, unit_e10)
    mark = _last_mark(minutes, fills, at) or _earlier_mark(journal, account, at)
    cash_e10, transfers_e10 = sum(flow[2] for flow in flows), sum(flow[4] for flow in flows)
    value_e10 = 0 if not held else None if mark is None else held * mark * unit_e10
    return Money(
        fills=fills,
        position_lots=position,
        opening_lots=opening_lots,
        minutes=minutes,
        start_e10=start_e10,
        pnl_e10=None if value_e10 is None else cash_e10 - transfers_e10 + value_e10,
        transfers_e10=transfers_e10,
        mark_px_ticks=mark,
        attributed=None if last is None else parts_of(last),
        before=_before(journal, account, at),
        agreeing=agreeing,
        footing=footing,
        checkable=checkable,
        booked_later=last is not None and any(flow[:2] > (last.epoch, last.seq) for flow in flows),
    )


_Flow = tuple[int, int, int, int, int]
"""(epoch, seq, cash in e10, lots, of it transfers in e10)"""


def _flows(journal: JournalReader, account: int, until: int) -> list[_Flow]:
    fills = journal.db.execute(
        "SELECT epoch, seq, side, notional_e10, qty_lots, fee_e10 FROM fills WHERE account_epoch = ? AND epoch <= ?",
        (account, until),
    )
    flows: list[_Flow] = [
        (epoch, seq, -side * notional - fee, side * lots, 0) for epoch, seq, side, notional, lots, fee in fills
    ]
    bills = journal.db.execute(
        "SELECT epoch, seq, amount_e10, kind FROM bills WHERE account_epoch = ? AND epoch <= ?", (account, until)
    )
    flows.extend((epoch, seq, amount, 0, amount if kind == "transfer" else 0) for epoch, seq, amount, kind in bills)
    return sorted(flows)


def _checked(
    flows: Sequence[_Flow], minutes: Sequence[Minute], start_e10: int | None, unit_e10: int
) -> tuple[int, int, int]:
    agreeing = footing = checkable = 0
    done = cash_e10 = held = 0
    for minute in minutes:
        while done < len(flows) and flows[done][:2] <= (minute.epoch, minute.seq):
            cash_e10 += flows[done][2]
            held += flows[done][3]
            done += 1
        if start_e10 is None or minute.equity_e10 is None or minute.mark_px_ticks is None:
            continue
        checkable += 1
        agreeing += minute.equity_e10 == start_e10 + cash_e10 + held * minute.mark_px_ticks * unit_e10
        footing += parts_of(minute).total_e10 == minute.equity_e10 - start_e10
    return agreeing, footing, checkable


def _last_mark(minutes: Sequence[Minute], fills: Sequence[FillRow], epoch: int) -> int | None:
    """The newer of the last minute's mark and the last fill's."""
    marks = [(minute.seq, minute.mark_px_ticks) for minute in minutes[-1:] if minute.epoch == epoch]
    marks += [(fill.seq, fill.mark_px_ticks) for fill in fills[-1:]]
    known = [(seq, mark) for seq, mark in marks if mark is not None]
    return max(known)[1] if known else None


def _earlier_mark(journal: JournalReader, account: int, until: int) -> int | None:
    found = journal.db.execute(
        "SELECT mark_px_ticks FROM minutes WHERE epoch >= ? AND epoch <= ? AND mark_px_ticks NOT NULL "
        "ORDER BY epoch DESC, ts_ns DESC LIMIT 1",
        (account, until),
    ).fetchone()
    return None if found is None else found[0]


def _before(journal: JournalReader, account: int, epoch: int) -> Attributed | None:
    if account == epoch:
        return None
    found = journal.db.execute(
        "SELECT epoch FROM minutes WHERE epoch >= ? AND epoch < ? ORDER BY epoch DESC LIMIT 1", (account, epoch)
    ).fetchone()
    if found is None:
        return None
    last: Minute | None = None
    for last in journal.minutes(found[0]):  # noqa: B007 - the last one is wanted
        pass
    return None if last is None else parts_of(last)


def sides(fills: Sequence[FillRow]) -> tuple[int, int]:
    """(buys, sells)"""
    buys = sum(fill.side is Side.BUY for fill in fills)
    return buys, len(fills) - buys
