"""What is done about a clock that the venue refuses, and what an order must not have of it."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from mmdaemon.core.types import NS
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Answer, Endpoint, Meaning, Refused, Request, Unanswered
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.own_time import OwnTime, offset_ns
from tests.emulated.build import credentials

AHEAD_NS = 40 * NS


class StillClock:
    def mono_ns(self) -> int:
        return 5 * NS

    def wall_ns(self) -> int:
        return 1_790_000_000 * NS

    def call_at(self, mono_ns: int, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        raise NotImplementedError


class Venue:
    """Refuses everything signed for its time; says what time it is, unless it does not."""

    def __init__(self, meaning: Meaning = Meaning.CLOCK, *, tells: bool = True) -> None:
        self.meaning, self.tells = meaning, tells
        self.asked: list[str] = []

    async def ask(self, request: Request) -> Answer:
        self.asked.append(request.endpoint.path)
        await asyncio.sleep(0)
        if request.endpoint is not endpoints.TIME:
            raise Refused(self.meaning, "40008")
        if not self.tells:
            raise Unanswered("timeout")
        return Answer(msgspec.Raw(b"null"), StillClock().wall_ns() + AHEAD_NS)


async def refused(venue: Venue, *endpoints_asked: Endpoint) -> list[int]:
    """All at once, each refused as it is. What was told."""
    told: list[int] = []
    sends = OwnTime(venue, StillClock(), told.append)
    outcomes = await asyncio.gather(
        *(sends.ask(Request(endpoint, {})) for endpoint in endpoints_asked), return_exceptions=True
    )
    assert all(isinstance(each, Refused) and each.meaning is venue.meaning for each in outcomes), outcomes
    return told


@pytest.mark.parametrize("endpoint", [endpoints.CLASSIC_CANCEL_ALL, endpoints.UNIFIED_CANCEL, endpoints.CLASSIC_FILLS])
async def test_who_is_refused_for_its_time_has_learnt_the_venues_before_it_hears_of_it(endpoint: Endpoint) -> None:
    venue = Venue()
    assert await refused(venue, endpoint) == [AHEAD_NS]
    assert venue.asked == [endpoint.path, endpoints.TIME.path]


async def test_it_is_asked_once_for_all_and_nothing_is_sent_again() -> None:
    venue = Venue()
    asked = (endpoints.CLASSIC_CANCEL_ALL, endpoints.CLASSIC_CANCEL, endpoints.CLASSIC_OPEN_ORDERS)
    assert await refused(venue, *asked) == [AHEAD_NS]
    assert sorted(venue.asked) == sorted([*(endpoint.path for endpoint in asked), endpoints.TIME.path])


@pytest.mark.parametrize("endpoint", [endpoints.CLASSIC_PLACE, endpoints.UNIFIED_PLACE_BATCH, endpoints.UNIFIED_AMEND])
async def test_an_order_changes_nothing(endpoint: Endpoint) -> None:
    venue = Venue()
    assert await refused(venue, endpoint) == []
    assert venue.asked == [endpoint.path]


async def test_other_refusals_and_a_venue_that_does_not_say_change_nothing() -> None:
    assert await refused(Venue(Meaning.AUTH), endpoints.CLASSIC_CANCEL) == []
    assert await refused(Venue(tells=False), endpoints.CLASSIC_CANCEL) == []


async def test_the_offset_is_the_venues_less_ours() -> None:
    assert await offset_ns(Venue(), StillClock()) == AHEAD_NS


async def test_all_but_orders_is_signed_by_it() -> None:
    client = CcxtClient(CcxtConfig(credentials=credentials()), StillClock())
    ours_ms, theirs_ms = 1_790_000_000_000, 1_790_000_040_000

    def stamp(endpoint: Endpoint) -> int:
        _, headers, _ = client.sign(Request(endpoint, {"symbol": "BTCUSDT"}))
        return int(headers["ACCESS-TIMESTAMP"])

    try:
        every = (endpoints.CLASSIC_CANCEL, endpoints.UNIFIED_CANCEL_ALL, endpoints.CLASSIC_OPEN_ORDERS)
        assert {stamp(endpoint) for endpoint in every} == {ours_ms}
        client.venue_ahead_ns = AHEAD_NS
        assert {stamp(endpoint) for endpoint in every} == {theirs_ms}
        assert {stamp(each) for each in (endpoints.CLASSIC_PLACE, endpoints.UNIFIED_AMEND)} == {ours_ms}
        assert client.exchange.milliseconds() == ours_ms
    finally:
        await client.close()
