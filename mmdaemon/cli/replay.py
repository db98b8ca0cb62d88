"""`mmdaemon replay --verify`: does the journal prove itself? Every decision again from its inputs, every figure again
from the fills.

Decisions: the chain of rows, and each one recomputed and compared byte for byte. Books: see `books.py`. Nothing is
written, and a daemon may run on meanwhile.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, cast

import msgspec
from cyclopts import Parameter

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.books import Books, Finding, books_of
from mmdaemon.cli.console import Console
from mmdaemon.cli.shown import utc
from mmdaemon.cli.verdicts import Recompute, recompute
from mmdaemon.core import position
from mmdaemon.core.decision import Decision
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import SHOWN, OtherProgram, Verdict
from mmdaemon.journal.rows import money_text

NO_JOURNAL = NO_RUN = 1
DIFFERS = 2
_FIELDS = 5
_decision_of = msgspec.msgpack.Decoder(Decision).decode


def replay(
    run: int | None = None,
    *,
    verify: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
) -> int:
    """Recompute every journaled decision and the PnL identity, and compare.

    Exits with 0 where decisions were checked and everything agrees, 2 where anything differs or nothing could be
    checked, 1 where there is no such journal or run. Only reads, also beside a running daemon.

    Parameters
    ----------
    run
        Number of the run; without one the last.
    verify
        Check the journal against itself. (Nothing else can be replayed from a journal alone.)
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    """
    if not verify:
        raise Refused("say what to do with the run: `mmdaemon replay --verify` recomputes it", ExitCode.USAGE)
    path = locate_dir(state_dir).journal_path
    out = Console(highlight=False, soft_wrap=True, markup=False)
    if not path.is_file():
        out.print(f"no journal at {path}; has the daemon run with this state directory? --state-dir names another")
        return NO_JOURNAL
    try:
        return _verify(path, run, out)
    except (JournalUnreadable, sqlite3.Error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        out.print(f"NOT CHECKED: could not be read to the end: {error}")
        return DIFFERS


def _verify(path: Path, epoch: int | None, out: Console) -> int:
    with JournalReader(path) as journal:
        run = journal.run(epoch)
        if run is None:
            runs = [each.epoch for each in journal.runs()]
            if not runs:
                raise JournalUnreadable(f"journal {path} has no run at all")
            there = f"runs are {runs[0]}-{runs[-1]}" if len(runs) > 1 else f"the only one is {runs[0]}"
            out.print(f"there is no run {epoch}; {there}")
            return NO_RUN
        (total,) = journal.db.execute("SELECT count(*) FROM decisions WHERE epoch = ?", (run.epoch,)).fetchone()
    verdict = recompute(Console(stderr=True), path, run.epoch, total)
    ended = "still running, or cut off" if run.ended_ts_ns is None else f"to {utc(run.ended_ts_ns)}"
    out.print(f"run {run.epoch}, {utc(run.started_ts_ns)} {ended}, config {run.config_hash}")
    findings = list(_of_decisions(path, verdict))
    out.print(
        f"decisions      {verdict.checked:,} recomputed, {verdict.mismatched:,} differences"
        + ("; the run has no end, so rows missing there cannot show" if verdict.open_ended else "")
    )
    if verdict.pruned:
        out.print(
            f"               {verdict.pruned:,} older ones were pruned (journal.keep_days) and were not checked; the"
            " chain was, from the last of them on. A backup of before has them (`mmdaemon backup --list`)"
        )
    if verdict.others:
        out.print(
            f"               {verdict.others:,} more were made by another version of mmdaemon, and it alone can"
            " recompute them; that no row was edited was checked"
        )
    books = books_of(path, run)
    _print_books(books, out)
    findings.extend(books.findings)
    for finding in findings[: 2 * SHOWN]:
        when = "the run" if finding.ts_ns is None else utc(finding.ts_ns)
        out.print(f"DIFFERS: {when}{'' if finding.seq is None else f', seq {finding.seq}'}: {finding.what}")
    more = verdict.mismatched - len(verdict.mismatches) + max(0, len(findings) - 2 * SHOWN)
    if more:
        out.print(f"DIFFERS: and {more:,} more")
    if findings:
        out.print("DIFFERS: do not rely on this journal")
    elif verdict.others:
        out.print("NOT CHECKED: what another version decided; everything else agrees")
    elif not verdict.checked and verdict.pruned:
        out.print("NOT CHECKED: every decision of this run was pruned; a backup of before has them")
    elif not verdict.checked:
        out.print("NOT CHECKED: there is no decision to check, and no data proves nothing")
    else:
        out.print("verified: everything agrees")
        return ExitCode.OK
    return DIFFERS


# --- decisions --------------------------------------------------------------------------------------------------------


def differing(journaled: object, recomputed: object, path: str = "") -> Iterator[str]:
    """Fields in which two decisions differ, as "quotes[1].px_ticks: journaled 600123, recomputed 600124"."""
    if isinstance(journaled, msgspec.Struct) and isinstance(recomputed, msgspec.Struct):
        for name in journaled.__struct_fields__:
            below = f"{path}.{name}" if path else name
            yield from differing(getattr(journaled, name), getattr(recomputed, name), below)
    elif isinstance(journaled, tuple) and isinstance(recomputed, tuple):
        before, after = cast("tuple[object, ...]", journaled), cast("tuple[object, ...]", recomputed)
        if len(before) != len(after):
            yield f"{path}: journaled {len(before)}, recomputed {len(after)}"
            return
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            yield from differing(a, b, f"{path}[{i}]")
    elif journaled != recomputed:
        yield f"{path}: journaled {journaled}, recomputed {recomputed}"


def _of_decisions(path: Path, verdict: Verdict) -> Iterator[Finding]:
    """Each difference with its time and the fields that differ."""
    again = Recompute()
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
                    fields = list(differing(_decision_of(made.decision), _decision_of(again(made.inputs, params))))
                except (
                    msgspec.MsgspecError,
                    ValueError,
                    TypeError,
                    LookupError,
                    ArithmeticError,
                    AttributeError,
                    OtherProgram,
                ):
                    fields = []  # `mismatch.what` says that it cannot be recomputed
            fields.sort(key=lambda field: field.startswith("quotes"))  # what quotes rest on comes first
            shown = [
                *fields[:_FIELDS],
                *([f"and {len(fields) - _FIELDS} more fields"] if len(fields) > _FIELDS else []),
            ]
            yield Finding(made.ts_ns, made.seq, f"{mismatch.what}{': ' if fields else ''}{'; '.join(shown)}")


# --- books ------------------------------------------------------------------------------------------------------------


def _print_books(books: Books, out: Console) -> None:
    left, right, mark = books.left, books.right, books.mark_px_ticks
    at = "no checkpoint yet" if books.checkpoint_ts_ns is None else f"the checkpoint of {utc(books.checkpoint_ts_ns)}"
    out.print(
        f"books          {left.fills:,} fills and {left.bills:,} bills of the account of run {left.account_epoch}, "
        f"compared at {books.minutes:,} minutes and {at}"
    )
    cash = {"start": left.start_e10, "traded": left.cash_flow_e10, "position at mark": left.value_e10}
    cash |= {"fees": -left.fees_e10, "funding": left.funding_e10, "transfers": left.transfers_e10}
    unrealised = None if right.position_lots and not mark else position.unrealised_e10(right, mark)
    basis = {"start": right.start_e10, "realised": right.realised_e10, "unrealised": unrealised}
    basis |= {"fees": -right.fees_e10, "funding": right.funding_e10, "transfers": right.transfers_e10}
    for name, total, addends in (("cash flows", books.left_e10, cash), ("cost basis", books.right_e10, basis)):
        said = ", ".join(f"{what} {_money(amount)}" for what, amount in addends.items())
        out.print(f"{name:<14} {_money(total)} = {said}")


def _money(amount_e10: int | None) -> str:
    return "unknown" if amount_e10 is None else money_text(amount_e10)
