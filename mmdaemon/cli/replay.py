"""`mmdaemon replay --verify`: does the journal prove itself? Every decision again from its inputs, every figure again
from the fills.

Decisions: the chain of rows, and each one recomputed and compared byte for byte. Books: the cash flows of all fills and
bills, added up in SQL, against the position module's cost basis; and all of them booked once more, against what the
daemon itself had at each minute and at the last checkpoint. Nothing is written, and a daemon may run on meanwhile.
"""

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.core import position
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.events import Bill, Fill
from mmdaemon.core.params import Params
from mmdaemon.core.position import Position
from mmdaemon.core.quotes import decide
from mmdaemon.core.types import NS, Instrument
from mmdaemon.journal import replay as proof
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import BillRow, FillRow, Run
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import SHOWN, Identity
from mmdaemon.journal.rows import Minute, money_text
from mmdaemon.journal.state_dir import StateDir, locate

NO_JOURNAL = 1
DIFFERS = 2
_TRIES = 5
_encode = msgspec.msgpack.Encoder().encode
_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode
_decision_of = msgspec.msgpack.Decoder(Decision).decode
_CARRIED = (
    "position_lots cost_e10 realised_e10 fees_e10 funding_e10 transfers_e10 cash_flow_e10 turnover_e10 buys sells "
    "fifo fifo_realised_e10 fee_bills_e10"
).split()
"""Fields of the position slice that follow from fills and bills alone."""


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
        """Equity. The ledger's fee lines are left out: a memorandum, because fills carry their fees."""
        return None if self.left.equity_e10 is None else self.left.equity_e10 - self.left.fee_bills_e10

    @property
    def right_e10(self) -> int | None:
        if self.right.position_lots and not self.mark_px_ticks:
            return None
        return position.equity_basis_e10(self.right, self.mark_px_ticks)


def replay(
    run: int | None = None,
    *,
    verify: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
    instance: str = "default",
) -> int:
    """Recompute every journaled decision and the PnL identity, and compare.

    Exits with 0 where decisions were checked and everything agrees, 2 where anything differs or nothing could be
    checked, 1 where there is no journal. Only reads, also beside a running daemon.

    Parameters
    ----------
    run
        Number of the run; without one the last.
    verify
        Check the journal against itself. (Nothing else can be replayed from a journal alone.)
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own for the instance.
    instance
        Name of the bot where several run on one machine.
    """
    if not verify:
        raise Refused("say what to do with the run: `mmdaemon replay --verify` recomputes it", ExitCode.USAGE)
    path = StateDir(locate(state_dir, instance, os.environ), None).journal_path
    out = Console(highlight=False, soft_wrap=True, markup=False)
    if not path.is_file():
        out.print(f"no journal at {path}; has the daemon run with this state directory? --state-dir names another")
        return NO_JOURNAL
    try:
        return _verify(path, run, out)
    except (JournalUnreadable, sqlite3.Error, msgspec.MsgspecError) as error:
        out.print(f"DIFFERS: could not be checked to the end: {error}")
        return DIFFERS


def _verify(path: Path, epoch: int | None, out: Console) -> int:
    with JournalReader(path) as journal:
        run = journal.run(epoch)
        if run is None:
            raise JournalUnreadable(f"journal {path} has no run {'at all' if epoch is None else epoch}")
        (total,) = journal.db.execute("SELECT count(*) FROM decisions WHERE epoch = ?", (run.epoch,)).fetchone()
    verdict = _checked(path, run, total)
    ended = "still running, or cut off" if run.ended_ts_ns is None else f"to {utc(run.ended_ts_ns)}"
    out.print(f"run {run.epoch}, {utc(run.started_ts_ns)} {ended}, config {run.config_hash}")
    findings = list(_of_decisions(path, verdict))
    out.print(
        f"decisions      {verdict.checked:,} recomputed, {verdict.mismatched:,} differences"
        + ("; the run has no end, so rows missing there cannot show" if verdict.open_ended else "")
    )
    if not verdict.checked:
        findings.append(Finding(None, None, "there is no decision to check: no data proves nothing"))
    books = books_of(path, run)
    _print_books(books, out)
    findings.extend(books.findings)
    for finding in findings[: 2 * SHOWN]:
        when = "the run" if finding.ts_ns is None else utc(finding.ts_ns)
        out.print(f"DIFFERS: {when}{'' if finding.seq is None else f', seq {finding.seq}'}: {finding.what}")
    more = verdict.mismatched - len(verdict.mismatches) + max(0, len(findings) - 2 * SHOWN)
    if more:
        out.print(f"DIFFERS: and {more:,} more")
    out.print("DIFFERS: do not rely on this journal" if findings else "verified: everything agrees")
    return DIFFERS if findings else ExitCode.OK


# --- decisions --------------------------------------------------------------------------------------------------------


def recompute(inputs: bytes, params: bytes) -> bytes:
    """The decision that follows from inputs and parameters, all encoded as `daemon.record` journals them.

    Raises msgspec.MsgspecError: one of them is not what it should be.
    """
    return _encode(decide(_inputs_of(inputs), params_of(params)))


_last: tuple[bytes, Params] | None = None


def params_of(blob: bytes) -> Params:
    """A run's parameters. The last ones are kept: a run has one, and tens of thousands of decisions."""
    global _last  # noqa: PLW0603 - a cache of one
    if _last is None or _last[0] != blob:
        _last = (blob, msgspec.msgpack.decode(blob, type=Params))
    return _last[1]


def differing(journaled: object, recomputed: object, path: str = "") -> Iterator[str]:
    """Fields in which two decisions differ, as "quotes[1].px_ticks: journaled 600123, recomputed 600124"."""
    if isinstance(journaled, msgspec.Struct) and isinstance(recomputed, msgspec.Struct):
        for name in journaled.__struct_fields__:
            below = f"{path}.{name}" if path else name
            yield from differing(getattr(journaled, name), getattr(recomputed, name), below)
    elif isinstance(journaled, tuple) and isinstance(recomputed, tuple) and len(journaled) == len(recomputed):
        for i, (a, b) in enumerate(zip(journaled, recomputed, strict=True)):
            yield from differing(a, b, f"{path}[{i}]")
    elif isinstance(journaled, tuple) and isinstance(recomputed, tuple):
        yield f"{path}: journaled {len(journaled)}, recomputed {len(recomputed)}"
    elif journaled != recomputed:
        yield f"{path}: journaled {journaled}, recomputed {recomputed}"


def _checked(path: Path, run: Run, total: int) -> proof.Verdict:
    columns = (TextColumn("recomputing decisions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    err = Console(stderr=True)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def tick(checked: int) -> None:
            if not checked % 100:
                progress.update(task, completed=checked)

        return proof.verify(path, recompute, run.epoch, tick)


def _of_decisions(path: Path, verdict: proof.Verdict) -> Iterator[Finding]:
    """Each difference with its time and the fields that differ."""
    with JournalReader(path) as journal:
        for mismatch in verdict.mismatches:
            made = None if mismatch.seq is None else journal.decision_at(mismatch.epoch, mismatch.seq)
            params = journal.params(mismatch.epoch)
            if made is None or params is None or made.seq != mismatch.seq:
                yield Finding(None, mismatch.seq, mismatch.what)
                continue
            fields: list[str] = []
            if not mismatch.what.startswith("chain"):
                try:
                    fields = list(differing(_decision_of(made.decision), _decision_of(recompute(made.inputs, params))))
                except (msgspec.MsgspecError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
                    fields = []  # `mismatch.what` says that it cannot be recomputed
            yield Finding(made.ts_ns, made.seq, f"{mismatch.what}{': ' if fields else ''}{'; '.join(fields[:5])}")


# --- books ------------------------------------------------------------------------------------------------------------


def books_of(path: Path, run: Run) -> Books:
    """Both sides of the PnL identity for the account of a run, over all its runs.

    Left: journal sums. Right: the last checkpoint's position slice with what was booked after it, as a restart would.
    An edited row shows in the one or the other, or against the figures of the minutes and of the checkpoint.

    Raises JournalUnreadable.
    """
    for _ in range(_TRIES):
        with JournalReader(path) as journal:
            journal.db.execute("BEGIN")  # one state of the journal for all that is read here
            facts = _facts(journal, run)
            left = proof.pnl_identity(path, account_epoch=run.account_epoch)
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
    instrument = params_of(params).instrument
    epochs = [each.epoch for each in journal.runs() if each.account_epoch == run.account_epoch]
    found = journal.db.execute(
        "SELECT epoch, seq, ts_ns, blob FROM checkpoints WHERE slice = 'position' AND epoch BETWEEN ? AND ? "
        "ORDER BY epoch DESC, seq DESC LIMIT 1",
        (epochs[0], epochs[-1]),
    ).fetchone()
    held = None if found is None else msgspec.msgpack.decode(found[3], type=Position)
    held_since = (0, 0) if found is None else (found[0], found[1])
    findings: list[Finding] = []
    ours = position.begin(instrument, left.start_e10 or 0)
    minutes = [minute for epoch in epochs for minute in journal.minutes(epoch)]
    stops: list[tuple[int, int, Minute | Position]] = [(minute.epoch, minute.seq, minute) for minute in minutes]
    if held is not None:
        stops.append((*held_since, held))
    wrong_minutes = at = 0
    for epoch, seq, there in sorted(stops, key=lambda stop: stop[:2]):
        while at < len(facts) and facts[at][:2] <= (epoch, seq):
            _book(ours, facts[at][2], instrument, findings)
            at += 1
        if isinstance(there, Position):
            findings.extend(_against_checkpoint(ours, there, found[2], seq))
        elif not wrong_minutes and (finding := _against_minute(ours, there)):
            # What is wrong at one minute is wrong at all later ones.
            wrong_minutes += 1
            findings.append(finding)
    for *_, fact in facts[at:]:
        _book(ours, fact, instrument, findings)
    right = ours
    if held is not None:
        right = held
        for epoch, seq, fact in facts:
            if (epoch, seq) > held_since:
                _book(right, fact, instrument, findings)
    books = Books(left, right, len(minutes), None if found is None else found[2], ())
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
    return Finding(minute.ts_ns, minute.seq, "fills and bills up to this minute are not what the daemon had: " + "; ".join(wrong))


def _against_checkpoint(ours: Position, there: Position, ts_ns: int, seq: int) -> Iterator[Finding]:
    wrong = [name for name in _CARRIED if getattr(ours, name) != getattr(there, name)]
    if wrong:
        said = "; ".join(f"{name} was {getattr(there, name)}, rows give {getattr(ours, name)}" for name in wrong[:5])
        yield Finding(ts_ns, seq, f"fills and bills up to the checkpoint are not what the daemon had: {said}")


def _print_books(books: Books, out: Console) -> None:
    left, right, mark = books.left, books.right, books.mark_px_ticks
    out.print(
        f"books          {left.fills:,} fills and {left.bills:,} bills of the account of run {left.account_epoch}, "
        f"compared at {books.minutes:,} minutes and "
        + ("no checkpoint yet" if books.checkpoint_ts_ns is None else f"the checkpoint of {utc(books.checkpoint_ts_ns)}")
    )
    value = left.value_e10
    unrealised = None if value is None else position.unrealised_e10(right, mark) if mark else 0
    for name, total, addends in (
        ("cash flows", books.left_e10, {"start": left.start_e10, "traded": left.cash_flow_e10, "position at mark": value,
            "fees": -left.fees_e10, "funding": left.funding_e10, "transfers": left.transfers_e10}),
        ("cost basis", books.right_e10, {"start": right.start_e10, "realised": right.realised_e10, "unrealised": unrealised,
            "fees": -right.fees_e10, "funding": right.funding_e10, "transfers": right.transfers_e10}),
    ):
        said = ", ".join(f"{what} {_money(amount)}" for what, amount in addends.items())
        out.print(f"{name:<14} {_money(total)} = {said}")


def _money(amount_e10: int | None) -> str:
    return "unknown" if amount_e10 is None else money_text(amount_e10)


def utc(ts_ns: int) -> str:
    """UTC to the millisecond, cut off and not rounded."""
    seconds, rest = divmod(ts_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"
