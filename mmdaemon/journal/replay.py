"""Two proofs from the journal alone: that each decision follows from its inputs, and what the fills and bills came to.

`verify` recomputes every journaled decision and compares byte for byte, and walks the hash chain from the parameters to
the last row, so that an edited, inserted or deleted row shows. (Gaps in `seq` are normal: only changes are rows.)
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from mmdaemon.journal.reader import JournalReader, exact_sum, together
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import DecisionChain, link

Decide = Callable[[bytes, bytes], bytes]
"""(inputs, params) -> decision, all as journaled. Raises OtherProgram."""
SHOWN = 10


class OtherProgram(Exception):
    """Parameters or inputs are not those that this mmdaemon writes: another one decided, and it alone can again."""


class Mismatch(msgspec.Struct, frozen=True):
    """One thing that is not as it was journaled. `seq` is None where it concerns the run as a whole."""

    epoch: int
    seq: int | None
    what: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`mismatches` are the first of `mismatched`. Runs in `open_ended` have no digest: still running, or cut off."""

    checked: int
    mismatched: int
    mismatches: tuple[Mismatch, ...]
    open_ended: tuple[int, ...]
    pruned: int
    """Decisions that left the journal when they were old. The chain is checked from the last of them on."""
    others: int
    """Decisions of another version of mmdaemon. Their rows are chained as they were written; nothing was recomputed."""

    @property
    def ok(self) -> bool:
        """Something was checked and all of it agreed."""
        return self.checked > 0 and self.mismatched == 0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The left side of the PnL identity, in 1e-10 quote, each addend with the sign it is added with."""

    account_epoch: int
    start_e10: int | None
    cash_flow_e10: int
    """−Σ side · price · size."""
    fees_e10: int
    """Charged on fills: subtracted."""
    fee_bills_e10: int
    """Fees that came as ledger lines of their own: received is positive, added."""
    funding_e10: int
    transfers_e10: int
    position_lots: int
    mark_px_ticks: int | None
    value_e10: int | None
    """position · mark; None where something is held and no mark is known."""
    fills: int
    bills: int

    @property
    def pnl_e10(self) -> int | None:
        """Change of equity, transfers left out. None where the position cannot be valued."""
        if self.value_e10 is None:
            return None
        return self.cash_flow_e10 - self.fees_e10 + self.fee_bills_e10 + self.funding_e10 + self.value_e10

    @property
    def equity_e10(self) -> int | None:
        pnl_e10 = self.pnl_e10
        return None if pnl_e10 is None or self.start_e10 is None else self.start_e10 + pnl_e10 + self.transfers_e10


def verify(
    path: Path, decide: Decide, epoch: int | None = None, progress: Callable[[int], None] | None = None
) -> Verdict:
    """Recompute the decisions of one run, or of all. `progress` is called with the number checked, after each.

    Raises JournalUnreadable.
    """
    found: list[Mismatch] = []
    mismatched = checked = others = pruned = 0
    open_ended: list[int] = []

    def differs(run: int, seq: int | None, what: str) -> None:
        nonlocal mismatched
        mismatched += 1
        if len(found) < SHOWN:
            found.append(Mismatch(run, seq, what))

    with JournalReader(path) as journal:
        # One state of the journal throughout: a run that ends between two queries is no mismatch.
        journal.db.execute("BEGIN")
        runs = [run.epoch for run in journal.runs() if epoch in {None, run.epoch}]
        if not runs:
            raise JournalUnreadable(f"journal {path} has no run {'at all' if epoch is None else epoch}")
        for run in runs:
            params = journal.params(run)
            if params is None:
                params = b""
                if journal.decision_at(run, 1 << 62) is not None:
                    differs(run, None, "the run's parameters are missing")
            last = DecisionChain(run, params).link
            count = 0
            if (gone := journal.pruning("decisions", run)) is not None:
                last, count = gone.chain or b"", gone.rows
                pruned += gone.rows
            for made in journal.decisions(run):
                columns = (made.epoch, made.seq, made.mono_ns, made.ts_ns, made.guard, made.regime)
                if link(last, *columns, made.inputs, made.decision) != made.chain:
                    differs(run, made.seq, "chain broken: this row was edited, or one before it is missing or new")
                last = made.chain
                count += 1
                try:
                    why = _differs(made.inputs, made.decision, params, decide)
                except OtherProgram:
                    others += 1
                    continue
                if why is not None:
                    differs(run, made.seq, why)
                checked += 1
                if progress is not None:
                    progress(checked)
            end = journal.db.execute("SELECT decisions, chain FROM digests WHERE epoch = ?", (run,)).fetchone()
            if end is None:
                open_ended.append(run)
            elif end != (count, last):
                differs(
                    run, None, f"the run ended after {end[0]} decisions, and {count} are here with another last link"
                )
    return Verdict(
        checked=checked,
        mismatched=mismatched,
        mismatches=tuple(found),
        open_ended=tuple(open_ended),
        pruned=pruned,
        others=others,
    )


def _differs(inputs: bytes, decision: bytes, params: bytes, decide: Decide) -> str | None:
    try:
        recomputed = decide(inputs, params)
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        return f"cannot be recomputed: {type(error).__name__}: {error}"
    if recomputed == decision:
        return None
    at = next((i for i, (a, b) in enumerate(zip(recomputed, decision, strict=False)) if a != b), None)
    where = f"from byte {at} on" if at is not None else f"{len(recomputed)} bytes against {len(decision)}"
    return f"another decision than journaled, {where}"


def pnl_identity(path: Path, mark_px_ticks: int | None = None, account_epoch: int | None = None) -> Identity:
    """Sum an account's fills and bills in SQL. Without a mark the last journaled one counts (a minute's or a fill's).

    Raises JournalUnreadable: no such journal or account, or fills of several instrument versions: lots do not add.
    """
    try:
        with JournalReader(path) as journal:
            return _identity(journal.db, path, mark_px_ticks, account_epoch)
    except sqlite3.Error as error:
        raise JournalUnreadable(f"journal {path} cannot be read: {error}") from error


def _identity(db: sqlite3.Connection, path: Path, mark_px_ticks: int | None, account_epoch: int | None) -> Identity:
    account = db.execute(
        "SELECT account_epoch, start_e10 FROM runs WHERE epoch = account_epoch AND epoch = "
        "coalesce(?, (SELECT max(account_epoch) FROM runs))",
        (account_epoch,),
    ).fetchone()
    if account is None:
        raise JournalUnreadable(f"journal {path} has no account that begins with run {account_epoch}")
    epoch, start_e10 = account
    versions = db.execute("SELECT DISTINCT instrument_version FROM fills WHERE account_epoch = ?", (epoch,)).fetchall()
    if len(versions) > 1:
        raise JournalUnreadable(f"journal {path} has fills of instrument versions {sorted(v for (v,) in versions)}")
    fills, *sums = db.execute(
        f"SELECT count(*), {exact_sum('side * notional_e10')}, {exact_sum('fee_e10')}, {exact_sum('side * qty_lots')} "  # noqa: S608
        "FROM fills WHERE account_epoch = ?",
        (epoch,),
    ).fetchone()
    paid_e10, fees_e10, position_lots = together(*sums[0:2]), together(*sums[2:4]), together(*sums[4:6])
    by_kind: dict[str, int] = {}
    bills = 0
    for kind, count, *halves in db.execute(
        f"SELECT kind, count(*), {exact_sum('amount_e10')} FROM bills WHERE account_epoch = ? GROUP BY kind",  # noqa: S608
        (epoch,),
    ):
        by_kind[kind] = together(*halves)
        bills += count
    if mark_px_ticks is None:
        mark_px_ticks = _last_mark(db, epoch)
    value_e10: int | None = 0
    if position_lots:
        unit = db.execute("SELECT unit_e10 FROM instruments WHERE version = ?", versions[0]).fetchone()
        value_e10 = None if mark_px_ticks is None or unit is None else position_lots * mark_px_ticks * unit[0]
    return Identity(
        account_epoch=epoch,
        start_e10=start_e10,
        cash_flow_e10=-paid_e10,
        fees_e10=fees_e10,
        fee_bills_e10=by_kind.get("fee", 0),
        funding_e10=by_kind.get("funding", 0),
        transfers_e10=by_kind.get("transfer", 0),
        position_lots=position_lots,
        mark_px_ticks=mark_px_ticks,
        value_e10=value_e10,
        fills=fills,
        bills=bills,
    )


def _last_mark(db: sqlite3.Connection, account_epoch: int) -> int | None:
    """The newer of the last minute's mark and the last fill's, of the account's own runs."""
    (last,) = db.execute("SELECT max(epoch) FROM runs WHERE account_epoch = ?", (account_epoch,)).fetchone()
    with closing(
        db.execute(
            "SELECT mark_px_ticks FROM ("
            "SELECT * FROM (SELECT epoch, ts_ns, mark_px_ticks FROM minutes "
            "WHERE epoch BETWEEN ? AND ? AND mark_px_ticks NOT NULL "
            "ORDER BY epoch DESC, ts_ns DESC LIMIT 1) UNION ALL "
            "SELECT * FROM (SELECT epoch, ts_ns, mark_px_ticks FROM fills "
            "WHERE epoch BETWEEN ? AND ? AND mark_px_ticks NOT NULL "
            "ORDER BY epoch DESC, seq DESC LIMIT 1)) ORDER BY epoch DESC, ts_ns DESC LIMIT 1",
            (account_epoch, last) * 2,
        )
    ) as marks:
        newest = marks.fetchone()
    return None if newest is None else newest[0]
