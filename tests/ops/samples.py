"""A hand-made picture of a running daemon, and a control socket that another thread serves, for commands to ask."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mmdaemon.ops.control import ControlServer, Handler
from mmdaemon.ops.status import (
    VERSION,
    BreakView,
    DeriskView,
    FeesView,
    FundingView,
    HealthView,
    HistogramView,
    MarkoutView,
    QuoteView,
    RegimeView,
    SideView,
    SignalView,
    Status,
)

_PICTURE = Status(
    version=VERSION,
    at_ts_ns=1_767_571_200_000_000_000,
    run_epoch=3,
    mode="simulated",
    venue="simulated",
    symbol="BTCUSDT",
    config_hash="c0ffee",
    program_version="0.1.0",
    metrics_port=9877,
    guard="running",
    reasons=[],
    why_not_quoting=[],
    kill="armed",
    gate_closed="",
    regime="up",
    fair="60000.5",
    bid="60000.4",
    ask="60000.6",
    mark="60001",
    book_age_s=0.25,
    quotes=[
        QuoteView("buy", 0, "59985", "0.0016", True, -2.58, {"skew": -0.08, "half": -2.5, "carry": 0.0}),
        QuoteView("buy", 1, "59979", "0.0016", True, -3.58, {"skew": -0.08, "half": -2.5, "level": -1.0}),
        QuoteView("sell", 0, "60015", "0.0016", False, 2.42, {"skew": -0.08, "half": 2.5}),
    ],
    edge_bps={"buy": {"maker_fee": 2.0, "min_edge": 1.0}, "sell": {"maker_fee": 2.0, "min_edge": 1.5}},
    open_orders=2,
    unknown_orders=1,
    position="-0.0048",
    max_position="0.0833",
    average_px="59973.9",
    equity="99999.9",
    pnl={"realised": "1.5", "unrealised": "-0.5", "fees": "-0.25", "funding": "0", "total": "0.75", "day": "0.7"},
    counts={"events": 174, "commands": 30, "fills_buy": 3, "fills_sell": 2},
    market_refused={"crossed": 4},
    links={"public": True, "private": False},
    guard_seconds={"running": 9.6, "soft_pause": 1.5},
    loop_lag_s=0.001,
    journal_age_s=None,
    uptime_s=11.5,
    open_breaks={"hard": 0, "soft": 1},
    breaks=[
        BreakView("manual_trade/t7", "operator", False, "buy 40 lots at 600000 ticks", 1_767_571_140_000_000_000),
    ],
    bars_source="venue",
    bars=1_440,
    band_bps=3.1,
    drift_bps=-4.2,
    regime_rows=[
        RegimeView("high_vol_shock", "drift", 4.2, 10.0),
        RegimeView("high_vol_shock", "band", None, 6.0),
        RegimeView("up", "trend", 12.5, 12.4),
    ],
    regime_seen="neutral_low_vol",
    regime_leaves_in_s=12.5,
    sigma_bps=0.82,
    signal_bps=0.24,
    signal_features={"print": 0.4, "momentum": -0.1, "gap": 0.0, "lean": 0.02},
    signals=[
        SignalView("desk", "target_inventory", 0.25, 0.8, 21.5, False),
        SignalView("model", "pause", "increase", 1.0, 55.0, True),
    ],
    signal_effect={"target": 0.2, "direction_bps": 0.0, "size": 1.0, "spread": 1.0},
    signal_counts={"desk": {"applied": 3, "stale": 1}, "unknown": {"malformed": 2}},
    fees=FeesView(2.0, 5.0, "the account"),
    funding=FundingView(0.0001, 1_767_582_000_000_000_000, 28_800),
    carry_bps=0.12,
    adverse_bps={"buy": 0.5, "sell": 0.0},
    drift_multiplier=1.1,
    tracker_multiplier=1.5,
    sides={
        "buy": SideView(4.25, 8.0, "open", 0.0, "pulled", 720.0, -0.8, -0.1, 34, 1.0),
        "sell": SideView(9.5, 8.0, "blocked", 95.0, "quoted", 0.0, None, None, 0, 0.1),
    },
    derisk=DeriskView("touch", 75.0, "taker", 225.0, 18_000.0, False),
    markouts=[MarkoutView("buy", 5, 34, -17.0, 2), MarkoutView("sell", 5, 0, 0.0, 0)],
    book_healthy=True,
    book_locked=False,
    book_locks=3,
    health=HealthView(
        heartbeat_ts_ns=1_767_571_199_500_000_000,
        journal_failed=False,
        journal_commits=41,
        journal_rows=230,
        disk_free_bytes=4_000_000_000,
        disk_size_bytes=10_000_000_000,
        backup_ts_ns=1_767_571_100_000_000_000,
        backup_failures=0,
        backup_error="",
        journal_bytes=4_096_000,
        journal_since_ts_ns=1_767_000_000_000_000_000,
        journal_keep_days=35,
        pruned_rows=640,
        backup_free_bytes=5_000_000_000,
        backup_size_bytes=20_000_000_000,
        clock_offset_s=-0.02,
        unprotected_s=0.0,
        account_ok=True,
        margin_available=0.9,
        day_open_equity="100000",
        peak_equity="100001.5",
        reject_streak=2,
        limits={"daily_loss": 0.03, "drawdown": 0.05, "margin_soft": 0.2, "margin_hard": 0.1},
        guard_entries={"hard_stop": 1, "running": 2},
        reasons_raised={"book": 3, "kill": 1},
        order_failures={"rejected": 2, "cancel": 1},
        link_losses={"private": 1},
        fills_after_pause={"later": 1},
        breaks_open={"manual_trade": 1},
        histograms={
            name: HistogramView([0.001, 0.01], [3, 2, 1], 0.05)
            for name in (
                *("event_to_send", "place_to_answer", "amend_to_answer", "cancel_to_answer"),
                *("loop_lag", "journal_commit"),
            )
        },
    ),
)


def picture(**changes: Any) -> Status:
    """A daemon that runs, quotes both sides with the buys standing, and is short. `changes` by field."""
    return replace(_PICTURE, **changes)


@contextmanager
def served(state_dir: Path, handle: Handler) -> Generator[ControlServer]:
    """The door of a daemon in `state_dir`, in a thread of its own: a command runs a loop of its own."""
    server = ControlServer(state_dir / "control.sock", handle)
    up, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.start()
        up.set()
        await stop.wait()
        await server.close(grace_s=0.0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        yield server
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)
