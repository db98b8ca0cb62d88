"""An account's books, kept twice: the fills and bills of the journal against what the daemon made of them.

    cash flows    start − Σ side·price·size − fees + funding + transfers + position·mark, added up in SQL
    cost basis    start + realised + unrealised − fees + funding + transfers, of the position slice

The position slice is that of the last checkpoint with what was booked after it, as a restart would take it up. All
fills and bills are booked from the start too, by the same module, and held against the figures that the daemon wrote
down at each minute and at the checkpoint: an edited row shows in the one or in the other.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from mmdaemon.core import position
from mmdaemon.core.events import Bill, Fill
from mmdaemon.core.position import Position
from mmdaemon.core.types import Instrument
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import BillRow, FillRow, Run
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import Identity, pnl_identity
from mmdaemon.journal.rows import Minute, money_text

_TRIES = 5
_CARRIED = (
    *("position_lots", "cost_e10", "realised_e10", "fees_e10", "funding_e10", "transfers_e10", "cash_flow_e10"),
    *("turnover_e10", "buys", "sells", "fifo", "fifo_realised_e10"),
)
"""Fields of the position slice that follow from fills and bills alone."""


class _Params(msgspec.Struct):
    """What the books need of a run's parameters, whichever version of mmdaemon wrote them."""

    instrument: Instrument


class Finding(NamedTuple):
    """One thing that does not agree. `ts_ns` and `seq` are None where it concerns the run as a whole."""

    ts_ns: int | None
    seq: int | None
    what: str


class Books(NamedTuple):
    """An account's fills and bills, from cash flows (`left`) and by the position module (`right`), at one mark."""

    left: Identity
    right: Position
    minutes: int
    """Minutes whose figures were compared."""
    checkpoint_ts_ns: int | None
    findings: tuple[Finding, ...]

    @property
    def mark_px_ticks(self) -> int:
        return self.left.mark_px_ticks or 0

    @property
    def left_e10(self) -> int | None:
        """Equity."""
        return self.left.equity_e10

    @property
    def right_e10(self) -> int | None:
        if self.right.position_lots and not self.mark_px_ticks:
            return None
        return position.equity_basis_e10(self.right, self.mark_px_ticks)


def books_of(path: Path, run: Run) -> Books:
    """Both sides of the PnL identity for the account of a run, over all its runs.

    Raises JournalUnreadable: what is needed for it is not there.
    """
    for _ in range(_TRIES):
        with JournalReader(path) as journal:
            journal.db.execute("BEGIN")  # one state of the journal for all that is read here
            facts = _facts(journal, run)
            left = pnl_identity(path, account_epoch=run.account_epoch)
            if left.fills + left.bills == len(facts):
                return _booked(journal, run, left, facts)
    raise JournalUnreadable(f"journal {path} grew at each of {_TRIES} readings; try again")


_Fact = tuple[int, int, FillRow | BillRow]


def _facts(journal: JournalReader, run: Run) -> list[_Fact]:
    epochs = [each.epoch for each in journal.runs() if each.account_epoch == run.account_epoch]
    fills: list[_Fact] = [(fill.epoch, fill.seq, fill) for epoch in epochs for fill in journal.fills(epoch)]
    bills: list[_Fact] = [(bill.epoch, bill.seq, bill) for epoch in epochs for bill in journal.bills(epoch)]
    return sorted(fills + bills, key=lambda fact: fact[:2])


def _booked(journal: JournalReader, run: Run, left: Identity, facts: list[_Fact]) -> Books:
    params = journal.params(run.epoch)
    if params is None:
        raise JournalUnreadable(f"run {run.epoch} has no parameters, so nobody knows what a lot is worth")
    instrument = msgspec.msgpack.decode(params, type=_Params).instrument
    epochs = [each.epoch for each in journal.runs() if each.account_epoch == run.account_epoch]
    found = journal.db.execute(
        "SELECT epoch, seq, ts_ns, blob FROM checkpoints WHERE slice = 'position' AND epoch BETWEEN ? AND ? "
        "ORDER BY epoch DESC, seq DESC LIMIT 1",
        (epochs[0], epochs[-1]),
    ).fetchone()
    held = None if found is None else msgspec.msgpack.decode(found[3], type=Position)
    held_since: tuple[int, int] = (0, 0) if found is None else (found[0], found[1])
    held_ts_ns: int | None = None if found is None else found[2]
    findings: list[Finding] = []
    ours = position.begin(instrument, left.start_e10 or 0)
    minutes = [minute for epoch in epochs for minute in journal.minutes(epoch)]
    stops: list[tuple[int, int, Minute | Position]] = [(minute.epoch, minute.seq, minute) for minute in minutes]
    if held is not None:
        stops.append((held_since[0], held_since[1], held))
    at = 0
    wrong = False
    for epoch, seq, there in sorted(stops, key=lambda stop: stop[:2]):
        while at < len(facts) and facts[at][:2] <= (epoch, seq):
            _book(ours, facts[at][2], instrument, findings)
            at += 1
        if isinstance(there, Position):
            findings.extend(_against_checkpoint(ours, there, held_ts_ns, seq))
        elif not wrong and (finding := _against_minute(ours, there)):
            # What is wrong at one minute is wrong at all later ones.
            wrong = True
            findings.append(finding)
    for *_, fact in facts[at:]:
        _book(ours, fact, instrument, findings)
    right = ours
    if held is not None:
        right = held
        for epoch, seq, fact in facts:
            if (epoch, seq) > held_since:
                _book(right, fact, instrument, findings)
    books = Books(left, right, len(minutes), held_ts_ns, ())
    if books.left_e10 is None or books.left_e10 != books.right_e10:
        difference = "one side is unknown"
        if books.left_e10 is not None and books.right_e10 is not None:
            difference = f"cash flows less cost basis = {money_text(books.left_e10 - books.right_e10)}"
        findings.append(Finding(None, None, f"the PnL identity does not hold: {difference}"))
    return books._replace(findings=tuple(dict.fromkeys(findings)))


def _book(books: Position, row: FillRow | BillRow, instrument: Instrument, findings: list[Finding]) -> None:
    """By the rules of the core. What cannot be booked is found, and left out."""
    times = (row.mono_ns if isinstance(row, FillRow) else 0, row.ts_ns, row.venue_ts_ns)
    try:
        if isinstance(row, FillRow):
            terms = (row.trade_id, row.client_id, row.side, row.px_ticks, row.qty_lots, row.fee_e10)
            position.on_fill(books, Fill(*times, *terms, row.liquidity, row.exec_kind), instrument)
        else:
            position.on_bill(books, Bill(*times, row.bill_id, row.kind, row.amount_e10))
    except ValueError as error:
        findings.append(Finding(row.ts_ns, row.seq, str(error)))


def _against_minute(ours: Position, minute: Minute) -> Finding | None:
    figures = {
        "position_lots": (minute.position_lots, ours.position_lots),
        "fills": (minute.fills, ours.buys + ours.sells),
        "turnover_e10": (minute.turnover_e10, ours.turnover_e10),
        "fees_e10": (minute.fees_e10, ours.fees_e10),
        "funding_e10": (minute.funding_e10, ours.funding_e10),
        "transfers_e10": (minute.transfers_e10, ours.transfers_e10),
    }
    if minute.mark_px_ticks and minute.equity_e10 is not None:
        figures["equity_e10"] = (minute.equity_e10, position.equity_basis_e10(ours, minute.mark_px_ticks))
    wrong = [f"{name} was {there}, rows give {here}" for name, (there, here) in figures.items() if there != here]
    if not wrong:
        return None
    return Finding(
        minute.ts_ns, minute.seq, "fills and bills up to this minute are not what the daemon had: " + "; ".join(wrong)
    )


def _against_checkpoint(ours: Position, there: Position, ts_ns: int | None, seq: int) -> Iterator[Finding]:
    wrong = [name for name in _CARRIED if getattr(ours, name) != getattr(there, name)]
    if wrong:
        said = "; ".join(f"{name} was {getattr(there, name)}, rows give {getattr(ours, name)}" for name in wrong[:5])
        yield Finding(ts_ns, seq, f"fills and bills up to the checkpoint are not what the daemon had: {said}")
