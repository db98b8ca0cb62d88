"""The generic adapter, driven as "bitget" against the emulator: it trades, and its journal is the venue's own record.

That proves the adapter, and of other exchanges nothing: neither their wire nor ccxt's reading of it.
"""

from decimal import Decimal
from pathlib import Path

import pytest

from mmdaemon.daemon import wire
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.generic import GenericVenue
from tests.emulated.build import KINDS, Kind, Site, site

BOTH = pytest.mark.parametrize("kind", KINDS)
NO_STOP = {
    "venue__stop_bps": 0.0,
    "venue__dead_man_s": 0,
    # ccxt's own requests are slower than ours, and nothing here is about time: a stop reads for so long at most.
    "venue__in_flight_max_s": 8.0,
    "venue__request_timeout_s": 3.0,
}
COSTS = Decimal("0.0001")
"""A maker's fee: of a rebate too the sign is right by REST, but what ccxt's stream says of it is not."""


@pytest.fixture(autouse=True)
def generic(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange_of(settings: wire.Settings, clock: wire.Clock, key: wire.Credentials | None) -> GenericVenue:
        return GenericVenue(wire.exchange_config(settings, key), clock)

    monkeypatch.setattr(wire, "exchange_of", exchange_of)


def equal_to_the_last_digit(here: Site) -> None:
    venue, ours = here.venue_fills(), here.journaled()
    assert {fill.trade_id for fill in ours} == {fill.trade_id for fill in venue}
    assert len(ours) == len(venue)
    by_id = {fill.trade_id: fill for fill in venue}
    for fill in ours:
        theirs = by_id[fill.trade_id]
        assert (fill.client_id, fill.side, fill.px_ticks, fill.qty_lots, fill.fee_e10) == (
            theirs.client_id,
            theirs.side,
            theirs.px_ticks,
            theirs.qty_lots,
            theirs.fee_e10,
        )


@pytest.mark.parametrize(("kind", "maker_rate"), [("classic", -COSTS), ("unified", COSTS)], ids=KINDS)
async def test_it_trades_and_its_journal_is_the_venues_record(tmp_path: Path, kind: Kind, maker_rate: Decimal) -> None:
    async with site(tmp_path, kind, maker_rate=maker_rate) as here:
        await here.begin(**NO_STOP)
        await here.until_trading(fills=3)
        assert await here.stop() == 0
        assert here.resting() == []
        equal_to_the_last_digit(here)


@BOTH
async def test_what_a_connection_lost_is_read_and_an_order_without_an_answer_looked_up(
    tmp_path: Path, kind: Kind
) -> None:
    """With the rebate that is the other one's cost above."""
    async with site(tmp_path, kind, maker_rate=COSTS if kind == "classic" else -COSTS) as here:
        await here.begin(**NO_STOP)
        await here.until_trading(fills=1)
        before, faults = len(here.emulator.connections), here.emulator.faults
        here.emulator.restart()
        await here.until(lambda: len(here.emulator.connections) >= before + 2)
        await here.until_trading(fills=1)
        faults.inject(Wrong.ANSWER_LOST, count=2, where="place-order")
        await here.until(lambda: faults.seen[Wrong.ANSWER_LOST] == 2)
        await here.until_trading(fills=len(here.venue_fills()) + 1)
        assert await here.stop() == 0
        assert here.resting() == []
        equal_to_the_last_digit(here)
