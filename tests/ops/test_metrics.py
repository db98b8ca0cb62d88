"""Metrics as a scraper sees them: over HTTP on loopback, from a hand-made status."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import GuardState, KillState, Regime
from mmdaemon.daemon.breaks import Kind
from mmdaemon.ops.control import OUTCOMES
from mmdaemon.ops.metrics import METRICS, metrics_markdown
from mmdaemon.ops.metrics_health import BREAK_KINDS, DISTRIBUTIONS
from mmdaemon.ops.metrics_server import MetricsError, MetricsServer
from mmdaemon.ops.status import MarkoutView, Status
from tests.ops.samples import picture

ROOT = Path(__file__).resolve().parents[2]
Scrape = Callable[..., Awaitable[dict[tuple[str, frozenset[tuple[str, str]]], float]]]


async def get(port: int, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, response.headers["Content-Type"], await response.text()


@pytest.fixture
async def scrape() -> AsyncIterator[Scrape]:
    servers: list[MetricsServer] = []

    async def once(status: Status, **sources: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        server = MetricsServer(lambda: status, 0, **sources)
        servers.append(server)
        await server.start()
        code, kind, text = await get(server.port, "/metrics")
        assert code == 200
        assert kind.startswith("text/plain")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    yield once
    for server in servers:
        await server.close()


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"mmdaemon_{name}", frozenset(labels.items())


def of(seen: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for (found, labels), value in seen.items() if found == f"mmdaemon_{name}"}


async def test_figures(scrape: Scrape) -> None:
    seen = await scrape(picture(), control=lambda: {"answered": 2}, logs_dropped=lambda: 5)
    expected = {
        key(
            "build_info", version="0.1.0", config_hash="c0ffee", mode="simulated", venue="simulated", symbol="BTCUSDT"
        ): 1,
        key("run_epoch"): 3,
        key("start_timestamp_seconds"): 1_767_571_200 - 11.5,
        key("gate_closed"): 0,
        key("quotes_working", side="buy"): 2,
        key("quotes_working", side="sell"): 0,
        key("quote_distance_ratio", side="buy"): pytest.approx(2.58e-4),
        key("quote_distance_ratio", side="sell"): pytest.approx(2.42e-4),
        key("required_edge_ratio", side="sell", addend="min_edge"): pytest.approx(1.5e-4),
        key("price_quote", of="fair"): 60000.5,
        key("price_quote", of="average"): 59973.9,
        key("position_base"): -0.0048,
        key("position_limit_base"): 0.0833,
        key("equity_quote"): 99999.9,
        key("pnl_quote"): 0.75,
        key("pnl_day_quote"): 0.7,
        key("pnl_realised_quote"): 1.5,
        key("pnl_unrealised_quote"): -0.5,
        key("pnl_fees_quote"): -0.25,
        key("pnl_funding_quote"): 0,
        key("open_orders"): 2,
        key("unknown_orders"): 1,
        key("open_breaks", weight="hard"): 0,
        key("open_breaks", weight="soft"): 1,
        key("fills_total", side="buy"): 3,
        key("fills_total", side="sell"): 2,
        key("events_total"): 174,
        key("commands_total"): 30,
        key("link_up", link="public"): 1,
        key("link_up", link="private"): 0,
        key("book_timestamp_seconds"): 1_767_571_200 - 0.25,
        key("loop_lag_seconds"): 0.001,
        key("market_refused_total", reason="crossed"): 4,
        key("control_requests_total", outcome="answered"): 2,
        key("logs_dropped_total"): 5,
        key("guard_seconds_total", state="soft_pause"): 1.5,
        key("book_healthy"): 1,
        key("book_locked"): 0,
        key("book_locks_total"): 3,
    }
    assert {name: seen.get(name) for name in expected} == expected


async def test_the_strategy_s_figures(scrape: Scrape) -> None:
    seen = await scrape(picture())
    bps = 1e-4
    expected = {
        key("regime_threshold_ratio", regime="high_vol_shock", figure="drift"): 10 * bps,
        key("regime_threshold_ratio", regime="high_vol_shock", figure="band"): 6 * bps,
        key("band_ratio"): 3.1 * bps,
        key("drift_ratio"): -4.2 * bps,
        key("sigma_ratio"): 0.82 * bps,
        key("signal_ratio"): 0.24 * bps,
        key("signal_feature_ratio", feature="momentum"): -0.1 * bps,
        key("spread_multiplier", of="drift"): 1.1,
        key("spread_multiplier", of="tracker"): 1.5,
        key("required_edge_limit_ratio", side="buy"): 8 * bps,
        key("edge_gate_blocked", side="buy"): 0,
        key("edge_gate_blocked", side="sell"): 1,
        key("edge_gate_beyond_seconds", side="sell"): 95,
        key("side_pull", side="buy", state="pulled"): 1,
        key("side_pull", side="buy", state="quoted"): 0,
        key("side_pull", side="sell", state="quoted"): 1,
        key("net_markout_ratio", side="buy"): -0.8 * bps,
        key("net_markout_bound_ratio", side="buy"): -0.1 * bps,
        key("size_share", side="sell"): 0.1,
        key("carry_ratio"): 0.12 * bps,
        key("funding_rate_ratio"): bps,
        key("funding_timestamp_seconds"): 1_767_582_000,
        key("fee_rate_ratio", of="maker"): 2 * bps,
        key("fee_rate_ratio", of="taker"): 5 * bps,
        key("derisk_stage", stage="touch"): 1,
        key("derisk_stage", stage="none"): 0,
        key("derisk_seconds"): 75,
        key("day_ending"): 0,
        key("markouts_total", side="buy", horizon="5s"): 34,
        key("markouts_unavailable_total", side="buy", horizon="5s"): 2,
        key("markout_sum_ratio", side="buy", horizon="5s"): -17 * bps,
    }
    assert {name: seen.get(name) for name in expected} == pytest.approx(expected)
    unjudged = {key("net_markout_ratio", side="sell"), key("net_markout_bound_ratio", side="sell")}
    assert unjudged.isdisjoint(seen)


@pytest.mark.parametrize(
    ("metric", "label", "field", "states"),
    [
        ("guard_state", "state", "guard", GuardState),
        ("kill_state", "state", "kill", KillState),
        ("regime", "regime", "regime", Regime),
    ],
)
async def test_one_state_is_1_and_all_others_0(
    scrape: Scrape, metric: str, label: str, field: str, states: Any
) -> None:
    for state in (min(states), max(states)):
        seen = of(await scrape(picture(**{field: state.value})), metric, label)
        assert seen == {each.value: float(each is state) for each in states}


@pytest.mark.parametrize(("source", "venue", "mids"), [("venue", 1, 0), ("mids", 0, 1), ("", 0, 0)])
async def test_where_the_bars_come_from(scrape: Scrape, source: str, venue: float, mids: float) -> None:
    seen = of(await scrape(picture(bars_source=source)), "bars_source", "source")
    assert seen == {"venue": venue, "mids": mids}


async def test_every_reason_is_there_and_the_active_ones_are_1(scrape: Scrape) -> None:
    seen = of(await scrape(picture(reasons=["book", "kill"])), "guard_reason", "reason")
    assert seen == {reason.value: float(reason in {Reason.BOOK, Reason.KILL}) for reason in Reason}


async def test_a_side_that_is_not_quoted_is_there_with_its_reason_alone(scrape: Scrape) -> None:
    seen = await scrape(picture(absent={"buy": "collar", "sell": "Text of a venue"}))
    assert {labels: value for (name, labels), value in seen.items() if name == "mmdaemon_quote_absent"} == {
        frozenset({("side", "buy"), ("why", "collar")}): 1.0
    }
    assert "mmdaemon_quote_absent" not in {name for name, _ in await scrape(picture())}


async def test_what_the_daemon_stands_on(scrape: Scrape) -> None:
    seen = await scrape(picture())
    expected = {
        key("heartbeat_timestamp_seconds"): 1_767_571_199.5,
        key("journal_failed"): 0,
        key("journal_commits_total"): 41,
        key("journal_rows_total"): 230,
        key("state_dir_free_bytes"): 4e9,
        key("state_dir_size_bytes"): 1e10,
        key("backup_timestamp_seconds"): 1_767_571_100,
        key("backup_failures"): 0,
        key("journal_size_bytes"): 4_096_000,
        key("journal_oldest_decision_timestamp_seconds"): 1_767_000_000,
        key("journal_pruned_rows_total"): 640,
        key("backup_dir_free_bytes"): 5e9,
        key("backup_dir_size_bytes"): 2e10,
        key("clock_offset_seconds"): -0.02,
        key("unprotected_seconds"): 0,
        key("account_ok"): 1,
        key("margin_available_ratio"): 0.9,
        key("equity_day_open_quote"): 100_000,
        key("equity_peak_quote"): 100_001.5,
        key("order_reject_streak"): 2,
        key("limit_ratio", of="daily_loss"): 0.03,
        key("limit_ratio", of="margin_hard"): 0.1,
        key("fees_known"): 1,
        key("guard_entries_total", state="hard_stop"): 1,
        key("guard_entries_total", state="stopping"): 0,
        key("guard_reason_raised_total", reason="book"): 3,
        key("guard_reason_raised_total", reason="daily_loss"): 0,
        key("order_failures_total", what="rejected"): 2,
        key("order_failures_total", what="unknown"): 0,
        key("link_losses_total", link="private"): 1,
        key("link_losses_total", link="public"): 0,
        key("fills_after_pause_total", when="later"): 1,
        key("fills_after_pause_total", when="in_flight"): 0,
        key("open_breaks_of_kind", kind="manual_trade"): 1,
        key("open_breaks_of_kind", kind="position"): 0,
        key("send_to_answer_seconds_bucket", request="cancel", le="0.001"): 3,
        key("send_to_answer_seconds_bucket", request="cancel", le="0.01"): 5,
        key("send_to_answer_seconds_bucket", request="cancel", le="+Inf"): 6,
        key("send_to_answer_seconds_count", request="cancel"): 6,
        key("send_to_answer_seconds_sum", request="cancel"): 0.05,
        key("journal_commit_seconds_count"): 6,
    }
    assert {name: seen.get(name) for name in expected} == pytest.approx(expected)


async def test_each_row_is_seen_at_some_time(scrape: Scrape) -> None:
    """None is a name that nothing ever gives a value."""
    seen = await scrape(picture(absent={"buy": "collar"}, counts={"surprises": 1}, journal_age_s=0.2))
    names = {name for name, _ in seen}
    assert {metric.name for metric in METRICS} - names == set()
    assert {f"{each.name}_bucket" for each in DISTRIBUTIONS} - names == set()


def test_the_kinds_of_breaks_are_those_of_the_ledger() -> None:
    assert set(BREAK_KINDS) == {kind.value for kind in Kind}


async def test_what_was_never_measured_is_absent_and_not_zero(scrape: Scrape) -> None:
    health = picture().health
    assert health is not None
    unknown = dict.fromkeys(
        (
            *("disk_free_bytes", "disk_size_bytes", "backup_ts_ns", "clock_offset_s", "unprotected_s", "account_ok"),
            *("margin_available", "day_open_equity", "journal_bytes", "journal_since_ts_ns"),
            *("backup_free_bytes", "backup_size_bytes"),
        )
    )
    names = {name for name, _ in await scrape(picture(health=replace(health, **unknown)))}
    for name in (
        *("state_dir_free_bytes", "state_dir_size_bytes", "backup_timestamp_seconds", "clock_offset_seconds"),
        *("unprotected_seconds", "account_ok", "margin_available_ratio", "equity_day_open_quote"),
        *("journal_size_bytes", "journal_oldest_decision_timestamp_seconds", "backup_dir_free_bytes"),
    ):
        assert f"mmdaemon_{name}" not in names


async def test_counters_begin_at_0_and_unknown_gauges_are_absent(scrape: Scrape) -> None:
    nothing: dict[str, Any] = {
        **dict.fromkeys(("fair", "bid", "ask", "mark", "average_px", "book_age_s", "loop_lag_s", "journal_age_s")),
        **{field: {} for field in ("pnl", "counts", "market_refused", "edge_bps", "guard_seconds", "links")},
        "quotes": [],
        **dict.fromkeys(("band_bps", "drift_bps", "sigma_bps", "fees", "funding")),
        "markouts": [MarkoutView("buy", 1, 0, 0.0, 0)],
        "book_locks": 0,
        "signal_counts": {"operator": {"applied": 0}},
        "health": None,
    }
    seen = await scrape(picture(**nothing))
    names = {name for name, _ in seen}
    for absent in (
        *("price_quote", "pnl_quote", "book_timestamp_seconds", "loop_lag_seconds", "journal_lag_seconds"),
        *("band_ratio", "drift_ratio", "sigma_ratio", "fee_rate_ratio", "funding_rate_ratio"),
        "funding_timestamp_seconds",
    ):
        assert f"mmdaemon_{absent}" not in names
    counters = {metric.name for metric in METRICS if metric.kind == "counter"} - {"mmdaemon_other_total"}
    assert counters <= names
    assert all(value == 0 for (name, _), value in seen.items() if name in counters)
    assert of(seen, "control_requests_total", "outcome").keys() == OUTCOMES.keys()
    assert of(seen, "link_up", "link") == {"public": 0, "private": 0}


async def test_text_of_a_venue_never_becomes_a_label(scrape: Scrape) -> None:
    refused = {"crossed": 1, "order mm1-2-3 rejected": 2, "bad\nline": 3, "x" * 41: 4}
    seen = of(await scrape(picture(market_refused=refused)), "market_refused_total", "reason")
    assert seen["other"] == 9
    assert seen["crossed"] == 1
    assert all(re.fullmatch("[a-z0-9_]{1,40}", reason) for reason in seen)


async def test_a_new_count_is_exported_before_it_has_a_row(scrape: Scrape) -> None:
    seen = await scrape(picture(counts={"events": 1, "surprises": 7}))
    assert of(seen, "other_total", "of") == {"surprises": 7}


async def test_process_metrics_are_there(scrape: Scrape) -> None:
    names = {name for name, _ in await scrape(picture())}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"} <= names


async def test_each_scrape_reads_anew() -> None:
    statuses = iter([picture(run_epoch=1), picture(run_epoch=2)])
    server = MetricsServer(lambda: next(statuses), 0)
    await server.start()
    assert "\nmmdaemon_run_epoch 1.0\n" in (await get(server.port, "/metrics"))[2]
    assert "\nmmdaemon_run_epoch 2.0\n" in (await get(server.port, "/metrics"))[2]
    await server.close()


async def test_healthz_and_nothing_else() -> None:
    server = MetricsServer(lambda: picture(guard="hard_stop", kill="killed"), 0)
    await server.start()
    code, _, text = await get(server.port, "/healthz")
    assert code == 200
    assert '"guard": "hard_stop"' in text
    assert '"kill": "killed"' in text
    assert (await get(server.port, "/"))[0] == 404
    await server.close()
    assert server.port == 0


async def test_loopback_only() -> None:
    server = MetricsServer(picture, 0)
    await server.start()
    assert server._runner is not None
    assert [address[0] for address in server._runner.addresses] == ["127.0.0.1"]
    await server.close()


async def test_a_port_in_use_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = MetricsServer(picture, port)
        with pytest.raises(MetricsError, match=rf"port {port} .* in use.* set metrics\.port"):
            await server.start()
    assert server.port == 0
    await server.close()


async def test_close_before_start_and_with_a_client_that_hangs() -> None:
    await MetricsServer(picture, 0).close()
    server = MetricsServer(picture, 0)
    await server.start()
    _reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /metr")
    await writer.drain()
    async with asyncio.timeout(10):
        await server.close()
    writer.close()


def test_names_follow_the_conventions() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch("mmdaemon_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search("_(ms|us|ns|bps|percent)(_|$)", metric.name), "base units"
        assert metric.help.endswith(".")
        assert "|" not in metric.help


def test_the_documentation_is_the_table() -> None:
    document = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
    assert document == metrics_markdown(), "run: python -m mmdaemon.ops.metrics"
    for each in DISTRIBUTIONS:
        assert f"| `{each.name}` | histogram |" in document
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in document
