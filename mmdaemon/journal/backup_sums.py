"""What a journal comes to: the sums by which a copy of it is proven to be one.

All of them are read in the transaction that the caller holds, so they are of one moment. Integers throughout: money is
1e-10 of quote currency, sizes are lots. Nothing is rounded, so two journals either have the same sums or differ.
"""

import sqlite3

import msgspec

from mmdaemon.core.types import E10

_INT64_HALVES = "coalesce(sum({0} >> 32), 0), coalesce(sum({0} & 4294967295), 0)"
"""SQL for two columns whose `_together` is the exact sum; `sum` alone fails beyond 64 bits."""


class AccountSums(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one account."""

    account_epoch: int
    start_e10: int | None
    """Equity when it was first met; None where no run got so far."""
    fills: int
    position_lots: int
    bought_e10: int
    sold_e10: int
    fees_e10: int
    """Charged with fills; negative is a rebate."""
    funding_e10: int
    """Received."""
    transfers_e10: int
    other_bills_e10: int
    mark_px_ticks: int | None
    """The last that is journaled; None before the first minute."""
    pnl_e10: int | None
    """Equity at that mark, less start and transfers: realised and unrealised, fees and funding taken in. None where
    start or mark is not known."""


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """A journal in figures."""

    schema: int
    bot_tag: str
    venue: str
    symbol: str
    created_ts_ns: int
    last_epoch: int
    rows: dict[str, int]
    """Of every table, by name."""
    last_chain: str
    """Of the newest decision: it hashes all that came before it. Empty where there is none."""
    accounts: tuple[AccountSums, ...]

    @property
    def whose(self) -> tuple[str, str, str]:
        """Tag, venue and symbol: what makes two journals those of one bot."""
        return self.bot_tag, self.venue, self.symbol


class NotAJournal(Exception):
    """The database is none of mmdaemon's, or one that has no run yet. The message says what is missing."""


def sums_of(db: sqlite3.Connection) -> Sums:
    """Every figure. Reads each table once, so minutes where there are many million rows.

    Raises:
        NotAJournal: there is no bot in it.
        sqlite3.Error: it cannot be read to the end.
    """
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    if schema < 1 or not {"meta", "runs", "fills", "bills", "minutes", "decisions"} <= set(names):
        raise NotAJournal(f"it has schema version {schema} and lacks the tables of a journal")
    meta = db.execute("SELECT bot_tag, venue, symbol, created_ts_ns FROM meta").fetchone()
    if meta is None:
        raise NotAJournal("it is a journal in which no run has begun")
    bot_tag, venue, symbol, created_ts_ns = meta
    chain = db.execute("SELECT chain FROM decisions ORDER BY epoch DESC, seq DESC LIMIT 1").fetchone()
    accounts = db.execute("SELECT DISTINCT account_epoch FROM runs ORDER BY 1").fetchall()
    return Sums(
        schema=schema,
        bot_tag=bot_tag,
        venue=venue,
        symbol=symbol,
        created_ts_ns=created_ts_ns,
        last_epoch=_one(db, "SELECT coalesce(max(epoch), 0) FROM runs"),
        rows={name: _one(db, f'SELECT count(*) FROM "{name}"') for name in names},  # noqa: S608 - names of its own
        last_chain=bytes(chain[0]).hex() if chain else "",
        accounts=tuple(_account(db, epoch) for (epoch,) in accounts),
    )


def _account(db: sqlite3.Connection, account: int) -> AccountSums:
    (start_e10,) = db.execute("SELECT start_e10 FROM runs WHERE epoch = ?", (account,)).fetchone() or (None,)
    fills = "FROM fills WHERE account_epoch = ?"
    bought_e10, sold_e10 = (_sum(db, "notional_e10", f"{fills} AND side = {side}", account) for side in (1, -1))
    fees_e10 = _sum(db, "fee_e10", fills, account)
    bills = {
        kind: _sum(db, "amount_e10", f"FROM bills WHERE account_epoch = ? AND kind {test}", account)
        for kind, test in (
            ("funding", "= 'funding'"),
            ("transfer", "= 'transfer'"),
            ("other", "NOT IN ('funding', 'transfer')"),
        )
    }
    position_lots = _one(db, f"SELECT coalesce(sum(side * qty_lots), 0) {fills}", account)
    marked = db.execute(
        "SELECT mark_px_ticks, (SELECT unit_e10 FROM instruments ORDER BY version DESC LIMIT 1) FROM minutes "
        "JOIN runs USING (epoch) WHERE account_epoch = ? AND mark_px_ticks IS NOT NULL ORDER BY epoch DESC, "
        "minutes.ts_ns DESC LIMIT 1",
        (account,),
    ).fetchone()
    mark_px_ticks, unit_e10 = marked or (None, None)
    pnl_e10 = None
    if start_e10 is not None and mark_px_ticks is not None and unit_e10 is not None:
        value_e10 = position_lots * mark_px_ticks * unit_e10
        pnl_e10 = sold_e10 - bought_e10 - fees_e10 + bills["funding"] + bills["other"] + value_e10
    return AccountSums(
        account_epoch=account,
        start_e10=start_e10,
        fills=_one(db, f"SELECT count(*) {fills}", account),
        position_lots=position_lots,
        bought_e10=bought_e10,
        sold_e10=sold_e10,
        fees_e10=fees_e10,
        funding_e10=bills["funding"],
        transfers_e10=bills["transfer"],
        other_bills_e10=bills["other"],
        mark_px_ticks=mark_px_ticks,
        pnl_e10=pnl_e10,
    )


def _one(db: sqlite3.Connection, query: str, *values: int) -> int:
    return int(db.execute(query, values).fetchone()[0])


def _sum(db: sqlite3.Connection, column: str, rest: str, account: int) -> int:
    high, low = db.execute(f"SELECT {_INT64_HALVES.format(column)} {rest}", (account,)).fetchone()
    return (int(high) << 32) + int(low)


def lines(sums: Sums) -> list[str]:
    """For people: whose journal it is, and what it comes to."""
    return [
        f"bot {sums.bot_tag}, {sums.symbol} at {sums.venue}; {sums.rows['runs']} runs, schema {sums.schema}",
        *(
            f"account of run {each.account_epoch}: {each.fills} fills, position {each.position_lots} lots, "
            f"fees {_money(each.fees_e10)}, funding {_money(each.funding_e10)}, PnL {_money(each.pnl_e10)}"
            for each in sums.accounts[-3:]
        ),
    ]


def _money(amount_e10: int | None) -> str:
    if amount_e10 is None:
        return "unknown"
    whole, part = divmod(abs(amount_e10), E10)
    return f"{'-' if amount_e10 < 0 else ''}{whole}.{part:010d}".rstrip("0").rstrip(".")
