"""What the operator page draws is what `status` says of the same moment, and unknown where that is unknown."""

import pytest

from mmdaemon.clock import Clock
from mmdaemon.core.types import E10, NS, Instrument, Purpose
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.page_view import base_of, row_of
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.ops.page import Row
from mmdaemon.ops.status import Status
from mmdaemon.research.session import play
from mmdaemon.settings import load
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.stretches import Stretch
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.cli.conftest import EAGER, START_TS_NS


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Row, Status, float]]:
    """(row, status, best bid that rests), each second of a busy run, and once before there was a mark."""
    found: list[tuple[Row, Status, float]] = []

    async def script(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
        for _ in range(240):
            state = daemon.state
            row = row_of(state, daemon.params, clock.mono_ns(), clock.wall_ns())
            resting = [
                o.px_ticks * daemon.params.instrument.tick_e10 / E10
                for o in state.orders.live.values()
                if o.purpose is Purpose.QUOTE and o.side > 0 and o.acked_ns and not o.ended_ns
            ]
            found.append((row, daemon.parts.status(), max(resting, default=0.0)))
            await sleep_ns(clock, NS)
        return "the script is over"

    state_dir = open_dir(tmp_path_factory.mktemp("page") / "state", {}).lock()
    market = SyntheticMarket(seed=7, start_ts_ns=START_TS_NS, schedule=((Stretch.BURSTING, 600),))
    try:
        play(load(None, EAGER, {}).settings, state_dir, market, script, bot_tag="test")
    finally:
        state_dir.release()
    return found


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def test_each_row_is_what_status_says_then(samples: list[tuple[Row, Status, float]]) -> None:
    for row, status, bid in samples:
        assert (row.guard, row.regime, row.ts_ms) == (status.guard, status.regime, status.at_ts_ns / 1e6)
        assert (row.bid, row.ask, row.position) == (_number(status.bid), _number(status.ask), float(status.position))
        assert row.fair == pytest.approx(_number(status.fair))
        assert row.total == (float(status.pnl["total"]) if status.pnl else None)
        assert row.fees == (float(status.pnl["fees"]) if status.pnl else None)
        assert row.quote_bid == (pytest.approx(bid) if bid else None)
        assert row.largest in {None, float(status.max_position)}
    assert len({row.position for row, _, _ in samples}) > 5
    assert any(bid for _, _, bid in samples)


def test_the_addends_come_to_the_total(samples: list[tuple[Row, Status, float]]) -> None:
    known = [row for row, _, _ in samples if row.total is not None]
    assert len(known) > 200
    for row in known:
        parts = (row.spread, row.impact, row.inventory, row.fees, row.funding)
        assert sum(part for part in parts if part is not None) == pytest.approx(row.total, abs=1e-9)
    assert any(row.impact for row in known)


def test_before_anything_is_known_it_is_unknown_and_not_zero(samples: list[tuple[Row, Status, float]]) -> None:
    first, status, _ = samples[0]
    assert status.mark is None
    assert (first.total, first.spread, first.fees, first.fair, first.bid, first.largest) == (None,) * 6
    assert first.read_age_s is None
    ages = [row.read_age_s for row, _, _ in samples[60:]]
    assert all(age is not None and 0 <= age < 60 for age in ages)


@pytest.mark.parametrize(
    ("symbol", "base"), [("BTCUSDT", "BTC"), ("BTC/USDT:USDT", "BTC"), ("ETH-USDT", "ETH"), ("USDT", "")]
)
def test_what_sizes_are_of(symbol: str, base: str) -> None:
    instrument = Instrument.of(
        venue="simulated", symbol=symbol, tick_e10=E10 // 10, lot_e10=E10 // 10_000, min_notional_e10=5 * E10
    )
    assert base_of(instrument) == base
