"""`mmdaemon preflight --testnet` against the emulator: each open point is measured, and nothing is left behind."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mmdaemon.clock import RealClock
from mmdaemon.core.types import Side
from mmdaemon.venues.base import KeyRefused
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.probe import Probe
from mmdaemon.venues.probed import Line, NotEmpty, ProbedVenue
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.emulated.build import KEY, KINDS, PASSPHRASE, SECRET, TOXIC, Kind, credentials

WINDOW_S = 4.0


@asynccontextmanager
async def probing(kind: Kind, **changed: Any) -> AsyncGenerator[tuple[Emulator, Probe]]:
    clock = RealClock(asyncio.get_running_loop())
    given: dict[str, Any] = {"window_s": WINDOW_S, "book_interval_s": 0.05, **changed}
    config = EmulatorConfig(account=kind, api_key=KEY, secret=SECRET, passphrase=PASSPHRASE, **given)
    emulator = Emulator(SyntheticMarket(seed=7, start_ts_ns=clock.wall_ns(), schedule=TOXIC), clock, config)
    await emulator.start()
    reached = CcxtConfig(account=kind, credentials=credentials(), emulator_url=emulator.url, request_timeout_s=2.0)
    venue = ProbedVenue(reached, clock)
    try:
        yield emulator, Probe(venue, clock, in_flight_max_s=5.0, leverage=1)
    finally:
        await venue.close()
        await emulator.close()


def by_name(lines: list[Line]) -> dict[str, Line]:
    found = {line.name: line for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_each_open_point_is_measured_and_nothing_is_left(kind: Kind) -> None:
    async with probing(kind, dead_man_granted=True) as (emulator, probe):
        lines = by_name(await probe.run(trades=True))
        account = emulator.account
        assert not account.open_orders()
        assert account.position() is None
        assert not emulator.defects
    assert [line for line in lines.values() if line.outcome == "failed"] == []
    window = lines["signature_window"].figures
    taken_s, refused_s = float(window["taken_s"]), float(window["refused_s"])
    assert taken_s <= WINDOW_S
    assert refused_s - taken_s < 0.3
    assert refused_s > WINDOW_S - 2.0, "a slow machine makes a request older, and never younger"
    assert lines["account_type"].figures["other_api_code"] == {"classic": "40084", "unified": "40085"}[kind]
    assert lines["amendment"].figures == {
        "same_order_id": kind == "unified",
        "same_client_id": kind == "unified",
        "force": "post_only",
    }
    assert lines["post_only_cancelled"].figures["our_reason"] == "post_only"
    assert "post" in str(lines["post_only_cancelled"].figures["cancel_reason_on_stream"]).lower()
    assert lines["contract_BTCUSDT"].figures
    assert lines["contract_ETHUSDT"].outcome == "not_checked", "the emulator has one contract"
    assert lines["dead_man"].figures == {"granted": kind == "unified"}
    assert lines["dead_man"].outcome == {"classic": "not_checked", "unified": "passed"}[kind]
    assert lines["maker_fee_sign"].outcome in {"passed", "not_checked"}
    assert lines["left_behind"].outcome == "passed"


async def test_what_is_there_already_is_left_alone() -> None:
    async with probing("unified") as (emulator, probe):
        account = emulator.account
        px_ticks = account.mark_px_ticks() // 2
        flags = {"post_only": True, "reduce_only": False, "ioc": False}
        account.place(client_id="somebody", side=Side.BUY, px_ticks=px_ticks, qty_lots=10, **flags)
        with pytest.raises(NotEmpty, match="1 orders rest"):
            await probe.run(trades=False)
        assert [each.client_id for each in account.open_orders()] == ["somebody"]
        assert not [each for each in emulator.requests if each.method == "POST"]


async def test_a_live_key_is_refused_before_anything_is_placed() -> None:
    async with probing("unified", environment="live") as (emulator, probe):
        with pytest.raises(KeyRefused):
            await probe.run(trades=False)
        assert not [each for each in emulator.requests if each.method == "POST"]


async def test_a_window_longer_than_we_wait_fails_and_says_what_to_set() -> None:
    async with probing("classic", window_s=30.0) as (_, probe):
        lines = by_name(await probe.run(trades=False))
    assert lines["signature_window"].outcome == "failed"
    assert "venue.in_flight_max_s must not be less than 30" in lines["signature_window"].said
    assert lines["maker_fee_sign"].outcome == "not_checked"
    assert lines["left_behind"].outcome == "passed"


async def test_what_goes_wrong_is_a_line_and_what_may_have_landed_is_waited_for() -> None:
    async with probing("unified") as (emulator, probe):
        emulator.faults.inject(Wrong.ANSWER_LOST, count=1, where="/api/v3/trade/place-order")
        lines = by_name(await probe.run(trades=False))
        assert not emulator.account.open_orders()
        assert emulator.faults.seen[Wrong.ANSWER_LOST] == 1
    assert lines["order_round_trip"].outcome in {"failed", "passed"}
    assert lines["left_behind"].outcome == "passed"
