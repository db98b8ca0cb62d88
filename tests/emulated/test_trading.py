"""A daemon that trades: the real client, the wire, the venue's own record against our journal."""

from pathlib import Path

import pytest

from tests.emulated.build import KINDS, Kind, site


@pytest.mark.parametrize("kind", KINDS)
async def test_it_makes_a_market_and_ends_with_nothing_resting(tmp_path: Path, kind: Kind) -> None:
    async with site(tmp_path, kind) as here:
        await here.begin()
        await here.until_trading(fills=5)
        assert await here.stop() == 0
        assert here.resting() == []
        venue, ours = here.venue_fills(), here.journaled()
        assert {fill.trade_id for fill in ours} == {fill.trade_id for fill in venue}
        assert len(ours) == len(venue)
