"""Facts to journal, made by hand, and a clock that stands still."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from mmdaemon.clock import Timer
from mmdaemon.core.commands import Place
from mmdaemon.core.events import Bill, BillKind, Fill, OrderUpdate
from mmdaemon.core.types import E10, NS, ExecKind, Instrument, Liquidity, OrderStatus, Purpose, Side
from mmdaemon.journal.recovery import Recovered, recover
from mmdaemon.journal.rows import RunStart
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.journal.statements import STATEMENTS, Row

WALL_NS = 1_790_000_000 * NS
INSTRUMENT = Instrument.of(venue="sim", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 1000)
"""Tick 0.1, lot 0.001: a tick on a lot is 0.0001 quote."""


class StillClock:
    """Moves only when a test moves it."""

    def __init__(self, wall_ns: int = WALL_NS) -> None:
        self.now_ns = NS
        self.offset_ns = wall_ns - NS

    def mono_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.offset_ns

    def call_at(self, mono_ns: int, callback: Callable[..., object], *args: Any) -> Timer:
        raise AssertionError("nothing here may wait")


def state_dir(path: Path) -> StateDir:
    return open_dir(path / "state", {})


def run_start(*, fresh_account: bool = False, symbol: str = "BTCUSDT") -> RunStart:
    return RunStart(
        venue="sim",
        symbol=symbol,
        version="0.1.0",
        config_hash="cafe",
        mode="simulated",
        durability="process",
        fresh_account=fresh_account,
        provenance={"market": "made by hand"},
    )


def begin(state: StateDir, clock: StillClock | None = None, *, fresh_account: bool = False) -> Recovered:
    return recover(state, run_start(fresh_account=fresh_account), clock or StillClock(), bot_tag="abcd")


def write(path: Path, rows: Iterable[Row]) -> None:
    """Straight into the file, by the statements' own SQL."""
    with closing(sqlite3.connect(path)) as db, db:
        for statement, values in rows:
            db.execute(STATEMENTS[statement], values)


def query(path: Path, sql: str, *args: object) -> list[Any]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(sql, args).fetchall()


def dump(path: Path) -> str:
    """All content, rowids in order."""
    with closing(sqlite3.connect(path)) as db:
        return "\n".join(db.iterdump())


def place(client_id: str = "mmabcd-1-1", side: Side = Side.BUY, px_ticks: int = 1000, qty_lots: int = 5) -> Place:
    return Place(client_id, side, px_ticks, qty_lots, Purpose.QUOTE, 0, True, False)


def update(
    client_id: str = "mmabcd-1-1",
    status: OrderStatus = OrderStatus.LIVE,
    *,
    cum: int | None = None,
    px_ticks: int | None = None,
    qty_lots: int | None = None,
    revision: int | None = None,
) -> OrderUpdate:
    return OrderUpdate(NS, WALL_NS, None, client_id, status, cum, px_ticks, qty_lots, revision, "")


def fill(
    trade_id: str = "t1",
    client_id: str = "mmabcd-1-1",
    side: Side = Side.BUY,
    px_ticks: int = 1000,
    qty_lots: int = 5,
    fee_e10: int = 7,
    venue_ts_ns: int | None = None,
) -> Fill:
    return Fill(
        NS,
        WALL_NS,
        venue_ts_ns,
        trade_id,
        client_id,
        side,
        px_ticks,
        qty_lots,
        fee_e10,
        Liquidity.MAKER,
        ExecKind.TRADE,
    )


def bill(bill_id: str = "b1", kind: BillKind = BillKind.FUNDING, amount_e10: int = -3) -> Bill:
    return Bill(NS, WALL_NS, None, bill_id, kind, amount_e10)
