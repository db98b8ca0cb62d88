"""Journals for the report's tests: two runs of the whole daemon, played once, and one made by hand, row by row."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from mmdaemon.core.decision import Decision, DecisionInputs, DeriskStage, EdgeBreakdown, Quote, addends_to
from mmdaemon.core.types import E10, NS, GuardState, Regime, Side
from mmdaemon.journal import rows
from mmdaemon.journal.rows import DecisionChain, Minute
from mmdaemon.journal.statements import Row
from mmdaemon.research.session import until_the_end
from mmdaemon.venues.simulated.stretches import Stretch
from tests.cli.conftest import BUSY, START_TS_NS, _busy, play_busy
from tests.journal.samples import INSTRUMENT, WALL_NS, begin, state_dir, write

EDGE = EdgeBreakdown(2.0, 0.25, 0.5, 0.0, 0.0, 1.0)
UNIT_E10 = INSTRUMENT.unit_e10
START_E10 = 1000 * E10


def play_both(path: Path) -> Path:
    """A busy run with fills on both sides, a settlement, a pause, a kill and a resume; then a calm minute."""
    play_busy(path, BUSY, _busy)
    play_busy(path, ((Stretch.CALM, 600),), until_the_end(60), START_TS_NS + 3_600 * NS)
    return path / "journal.sqlite"


def bare_journal(path: Path) -> Path:
    """Run 1 has begun and knows its instrument. It has no end."""
    state = state_dir(path)
    begin(state)
    write(state.journal_path, [rows.instrument_row(INSTRUMENT, WALL_NS)])
    return state.journal_path


def second_run(path: Path, *, fresh_account: bool = False) -> None:
    begin(state_dir(path.parents[1]), fresh_account=fresh_account)


def change(path: Path, sql: str, *args: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql, args)


def at_s(seconds: float) -> tuple[int, int]:
    """(mono, UTC) that long after the run began."""
    return NS + round(seconds * NS), WALL_NS + round(seconds * NS)


def seen(
    seconds: float, fair: float | None = 1000.0, guard: GuardState = GuardState.RUNNING, **over: object
) -> DecisionInputs:
    mono_ns, ts_ns = at_s(seconds)
    bid = 0 if fair is None else 999
    inputs = DecisionInputs(
        mono_ns=mono_ns,
        ts_ns=ts_ns,
        bid_px_ticks=bid,
        ask_px_ticks=bid and 1001,
        fair_ticks=fair,
        signal_bps=0.0,
        guard=guard,
        regime=Regime.UP,
        band_bps=12.5,
        sigma_bps=0.0,
        drift_multiplier=1.0,
        tracker_multiplier=1.0,
        position_lots=0,
        equity_e10=START_E10,
        maker_bps=2.0,
        taker_bps=6.0,
        carry_bps=0.125,
        adverse_buy_bps=0.5,
        adverse_sell_bps=0.25,
        turnover_bps=0.0,
        taker_share=0.05,
        size_buy_share=1.0,
        size_sell_share=1.0,
        no_buy="",
        no_sell="",
        derisk=DeriskStage.NONE,
    )
    return msgspec.structs.replace(inputs, **over)


def made(bid: int | None, ask: int | None, no_bid: str = "", no_ask: str = "", **over: object) -> Decision:
    quotes = [
        Quote(side, 0, px, 7, px - 1, px + 1, addends_to(px, 1000.0, *[0.0] * 7))
        for side, px in ((Side.BUY, bid), (Side.SELL, ask))
        if px is not None
    ]
    decision = Decision(tuple(quotes), no_bid, no_ask, 999.0, 1001.0, NS, 40, 1000.0, 10.0, 0.5, EDGE, EDGE)
    return msgspec.structs.replace(decision, **over)


def decision_rows(*each: tuple[int, DecisionInputs, Decision], epoch: int = 1) -> list[Row]:
    chain = DecisionChain(epoch, b"")
    encode = msgspec.msgpack.encode
    return [
        chain.row(seq, inputs.mono_ns, inputs.ts_ns, inputs.guard, inputs.regime, encode(inputs), encode(decision))
        for seq, inputs, decision in each
    ]


def minute(seconds: float, seq: int, *, epoch: int = 1, mark: int | None = 1000, **figures: int | None) -> Row:
    """Flat and untraded but for `figures`."""
    mono_ns, ts_ns = at_s(seconds)
    zeros = ("position_lots", "spread_e10", "inventory_e10", "impact_e10", "fees_e10", "funding_e10", "transfers_e10")
    columns: dict[str, int | None] = dict.fromkeys((*zeros, "turnover_e10", "fills"), 0)
    columns |= dict.fromkeys(("book_healthy", "book_healthy_ns", "fee_source", "funding_rate", "funding_due_ts_ns"))
    columns |= {"equity_e10": START_E10, "bid_px_ticks": None, "ask_px_ticks": None} | figures
    fixed = {"epoch": epoch, "ts_ns": ts_ns, "mono_ns": mono_ns, "seq": seq, "mark_px_ticks": mark}
    sample = msgspec.convert({**fixed, "guard": "running", "regime": "up", **columns}, Minute)
    return rows.minute_row(sample)
