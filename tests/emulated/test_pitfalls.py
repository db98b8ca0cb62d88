"""What ccxt.pro and Bitget do that a client stumbles over (docs/VENUES.md, "Pitfalls"), each shown not to reach us.

The real client, over loopback TCP, at an emulator whose market stands still until a test moves it.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import cycle
from typing import Any

import pytest
from aiohttp import web

from mmdaemon.clock import Clock, RealClock
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import BookUpdate, Event, Fill, LinkChanged, OrderUpdate
from mmdaemon.core.types import NS, Link, OrderStatus, Purpose, Side
from mmdaemon.secret import Credentials, Secret
from mmdaemon.venues.base import Cursor, VenueUnavailable
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Request
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.links import Links
from tests.emulated.build import KINDS, Kind
from tests.venues.emulator.build import KEY, PASSPHRASE, SECRET, Bench, emulated, until

BOTH = pytest.mark.parametrize("kind", KINDS)


class Hand:
    """The adapter at one emulator, and what it told."""

    def __init__(self, bench: Bench, kind: Kind) -> None:
        key = Credentials(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE))
        config = CcxtConfig(account=kind, credentials=key, emulator_url=bench.emulator.url, request_timeout_s=2.0)
        self.bench, self.venue, self.told = bench, CcxtVenue(config, bench.clock), list[Event]()

    @property
    def ccxt(self) -> Any:
        return self.venue._client.exchange

    def books(self) -> list[BookUpdate]:
        return [each for each in self.told if isinstance(each, BookUpdate)]

    def is_up(self) -> bool:
        last = {each.link: each.up for each in self.told if isinstance(each, LinkChanged)}
        return last == {Link.PUBLIC: True, Link.PRIVATE: True}

    def words(self, client_id: str) -> list[OrderStatus]:
        return [each.status for each in self.told if isinstance(each, OrderUpdate) and each.client_id == client_id]

    async def place(self, client_id: str, px_ticks: int = 990) -> None:
        await self.venue.send(
            Place(client_id, Side.BUY, px_ticks, 600, Purpose.QUOTE, 0, post_only=True, reduce_only=False)
        )


def moving(hand: Hand, holds: Callable[[], bool]) -> Callable[[], bool]:
    """The same, asked while the market moves: so that no connection is ended for its silence."""
    mids = cycle((1_001, 1_002))

    def asked() -> bool:
        hand.bench.show_mid(next(mids))
        return holds()

    return asked


@asynccontextmanager
async def adapter(kind: Kind, **settings: Any) -> AsyncGenerator[Hand]:
    async with emulated(account=kind, **settings) as bench:
        hand = Hand(bench, kind)
        try:
            await hand.venue.open(hand.told.append)
            await until(hand.is_up)
            yield hand
        finally:
            await hand.venue.close()
        assert not bench.emulator.defects


@BOTH
async def test_which_api_is_said_and_never_asked_for_by_trying(kind: Kind) -> None:
    """ccxt, left to itself, asks /api/v3/account/settings and takes any failure for "classic"."""
    async with adapter(kind) as hand:
        await hand.place("an-order")
        await until(lambda: OrderStatus.LIVE in hand.words("an-order"))
        assert hand.ccxt.options["uta"] is (kind == "unified")
        signed = {each.path for each in hand.bench.emulator.requests if "ACCESS-TIMESTAMP" in each.headers}
        other = "/api/v3/" if kind == "classic" else "/api/v2/"
        assert signed
        assert not [path for path in signed if path.startswith(other)]


@BOTH
async def test_only_the_markets_of_contracts_are_loaded(kind: Kind) -> None:
    async with adapter(kind) as hand:
        paths = {each.path for each in hand.bench.emulator.requests}
    assert not [path for path in paths if "/spot/public" in path or "/margin/" in path or path.endswith("/coins")]


@BOTH
async def test_a_fee_in_another_coin_is_a_fill_like_any_and_is_said_of_the_account(kind: Kind) -> None:
    """Refused, the private stream would begin anew at each fill; taken for free, nobody would know."""
    async with adapter(kind) as hand:
        faults, connections = hand.bench.emulator.faults, len(hand.bench.emulator.connections)
        as_framed, as_answered = faults.on_frame, faults.on_answer

        def discounted(text: str) -> str:
            return re.sub(r'("feeCoin": ?)"USDT"', r'\1"BGB"', text)

        async def on_answer(request: web.Request, path: str, response: web.Response) -> web.StreamResponse:
            if "fills" in path:
                response.text = discounted(response.text or "")
            return await as_answered(request, path, response)

        faults.on_frame = lambda private, kind, text: as_framed(private, kind, discounted(text))
        faults.on_answer = on_answer
        assert (await hand.venue.facts()).fees_in == ()
        await hand.place("an-order")
        await until(lambda: OrderStatus.LIVE in hand.words("an-order"))
        hand.bench.print(980, 2_000, Side.SELL)
        await until(lambda: [each for each in hand.told if isinstance(each, Fill)])
        told = [each for each in hand.told if isinstance(each, Fill)]
        assert {each.fee_e10 for each in told} == {0}
        read = await hand.venue.fills(Cursor(hand.bench.clock.wall_ns() - 60 * NS))
        assert {(each.trade_id, each.fee_e10) for each in read} >= {(each.trade_id, 0) for each in told}
        assert (await hand.venue.facts()).fees_in == ("BGB",)
        assert len(hand.bench.emulator.connections) == connections
        assert hand.is_up()


@BOTH
@pytest.mark.parametrize("spoilt", [Wrong.MISTYPED_ANSWER, Wrong.DEEP_JSON, Wrong.EMPTY_200, Wrong.HTML_200, None])
async def test_markets_that_cannot_be_read_are_a_venue_that_is_not_there(kind: Kind, spoilt: Wrong | None) -> None:
    """ccxt takes most of it for no market, and of some raises what its parsing meets with: the daemon would end as for
    a defect, and nobody would try again."""
    async with emulated(account=kind) as bench:
        hand, faults = Hand(bench, kind), bench.emulator.faults
        contracts = "market/contracts" if kind == "classic" else "market/instruments"
        as_it_is = faults.on_answer

        async def with_words(request: web.Request, path: str, response: web.Response) -> web.StreamResponse:
            if contracts in path:
                response.text = re.sub(r'"[0-9]{1,4}(\.[0-9]+)?"', '"many"', response.text or "")
            return await as_it_is(request, path, response)

        try:
            await hand.venue.instrument()
            if spoilt is None:
                faults.on_answer = with_words
            else:
                faults.inject(spoilt, count=20, where=contracts)
            with pytest.raises(VenueUnavailable, match="linear perpetual" if spoilt else "could not be read: ValueE"):
                await hand.venue.open(hand.told.append)
        finally:
            await hand.venue.close()


@BOTH
async def test_frames_that_come_while_nobody_waits_are_all_told(kind: Kind) -> None:
    """ccxt wakes who waits, and whoever does not gets the last of them alone. Ours are taken as they come."""
    async with adapter(kind) as hand:
        before, mids = len(hand.books()), range(1_001, 1_041)
        for mid in mids:  # in one turn of the loop
            hand.bench.show_mid(mid)
        await until(lambda: len(hand.books()) - before >= len(mids))
        assert [book.bids[0][0] for book in hand.books()[before:]] == [mid - 1 for mid in mids]


@BOTH
async def test_what_was_told_is_not_changed_by_what_comes_later(kind: Kind) -> None:
    """ccxt hands out its live objects."""
    async with adapter(kind) as hand:
        first = hand.books()[0]
        copied = (first.bids, first.asks)
        hand.bench.show_mid(1_030)
        await until(lambda: hand.books()[-1].bids[0][0] == 1_029)
        assert (first.bids, first.asks) == copied


@BOTH
async def test_nothing_of_a_hot_channel_piles_up_in_ccxt(kind: Kind) -> None:
    async with adapter(kind) as hand:
        for mid in range(1_001, 1_021):
            hand.bench.show_mid(mid)
            hand.bench.print(mid, 1, Side.BUY)
        await hand.place("an-order")
        await until(lambda: hand.words("an-order") and hand.books()[-1].bids[0][0] == 1_019)
        assert not hand.ccxt.orderbooks
        assert not hand.ccxt.trades
        assert not hand.ccxt.orders
        assert not hand.ccxt.myTrades


@BOTH
async def test_an_error_within_ccxts_handler_ends_the_connection_and_not_the_stream(kind: Kind) -> None:
    """It would end ccxt's receive loop without a word, and the stream would stall until the ping time-out."""
    async with adapter(kind) as hand:
        venue_client = hand.venue._client
        (client,) = [each for url, each in hand.ccxt.clients.items() if url.endswith("/public")]

        def breaks(_client: object, _message: object) -> None:
            raise KeyError("a defect of ccxt's")

        client.on_message_callback = breaks
        client.handle_text_or_binary_message('{"event":"something-new"}')
        await until(lambda: venue_client.errors_in_ccxt == 1)
        await until(moving(hand, lambda: not hand.is_up()))
        await until(hand.is_up)
        hand.bench.show_mid(1_020)
        await until(lambda: hand.books()[-1].bids[0][0] == 1_019)


@BOTH
async def test_a_refused_subscription_is_asked_for_again_on_a_new_connection(kind: Kind) -> None:
    """ccxt rejects everything of the connection, and never asks again."""
    async with emulated(account=kind) as bench:
        bench.emulator.faults.inject(Wrong.SUBSCRIBE_REFUSED, count=1, where="public")
        hand = Hand(bench, kind)
        try:
            await hand.venue.open(hand.told.append)
            await until(moving(hand, hand.is_up))
        finally:
            await hand.venue.close()
        assert bench.emulator.faults.seen[Wrong.SUBSCRIBE_REFUSED] == 1
        assert len([each for each in bench.emulator.connections if not each.private]) >= 2


@BOTH
async def test_what_is_said_on_a_socket_stays_below_the_venues_limit(kind: Kind) -> None:
    """ccxt would say 20 messages a second; the venue hears ten, and closes."""
    async with adapter(kind, limits=True) as hand:
        hand.bench.emulator.restart()
        await until(lambda: not hand.is_up())
        await until(moving(hand, hand.is_up))
        assert {each.why for each in hand.bench.emulator.connections if each.why} == {"the venue restarts"}
        assert len(hand.bench.emulator.connections) == 4


@BOTH
async def test_cancelling_all_where_there_is_nothing_is_no_failure(kind: Kind) -> None:
    """The venue refuses that with 22001, which ccxt raises as an error like any other."""
    async with adapter(kind) as hand:
        await hand.venue.cancel_all()
        await hand.place("an-order")
        await until(lambda: OrderStatus.LIVE in hand.words("an-order"))
        await hand.venue.cancel_all()
        await until(lambda: OrderStatus.CANCELLED in hand.words("an-order"))
        assert await hand.venue.open_orders() == []


@BOTH
async def test_a_post_only_order_that_would_cross_is_taken_and_then_cancelled(kind: Kind) -> None:
    """OrderImmediatelyFillable never comes: an answered order is LIVE until the stream says otherwise."""
    async with adapter(kind) as hand:
        await hand.place("crossing", px_ticks=1_003)
        await until(lambda: OrderStatus.CANCELLED in hand.words("crossing"))
        last = [each for each in hand.told if isinstance(each, OrderUpdate)][-1]
        assert (last.reason, last.cum_filled_lots) == ("post_only", 0)
        assert OrderStatus.REJECTED not in hand.words("crossing")


@BOTH
async def test_the_same_id_again_is_of_unknown_fate(kind: Kind) -> None:
    """40786, which ccxt raises as any error: the order of that id is, or was, there."""
    async with adapter(kind) as hand:
        await hand.place("twice")
        await until(lambda: OrderStatus.LIVE in hand.words("twice"))
        hand.told.clear()
        await hand.place("twice")
        await until(lambda: OrderStatus.UNKNOWN in hand.words("twice"))
        # The first one is told of by its answer and by its push, of which one may come only now.
        assert [word for word in hand.words("twice") if word is not OrderStatus.LIVE] == [OrderStatus.UNKNOWN]


@BOTH
async def test_no_request_is_ever_sent_twice(kind: Kind) -> None:
    """Neither by ccxt nor by us, whatever becomes of the first."""
    async with adapter(kind) as hand:
        faults = hand.bench.emulator.faults
        for number, wrong in enumerate((Wrong.ANSWER_LOST, Wrong.BAD_GATEWAY_HTML, Wrong.CONNECTION_RESET)):
            faults.inject(wrong, count=1, where="place-order")
            await hand.place(f"once-{number}")
            await until(lambda number=number: OrderStatus.UNKNOWN in hand.words(f"once-{number}"))
        sent = [each.body for each in hand.bench.emulator.requests if each.path.endswith("place-order")]
        assert all(sum(f"once-{number}" in body for body in sent) <= 1 for number in range(3))
        await hand.venue.send(Cancel("once-0", risk=True))
        await until(lambda: OrderStatus.CANCELLED in hand.words("once-0"))


@BOTH
async def test_it_closes_at_once_and_twice_with_pumps_that_wait(kind: Kind) -> None:
    """ccxt cancels futures that others await, from within: their owners would see a cancellation that is not theirs."""
    async with adapter(kind) as hand:
        await hand.venue.close()
        await hand.venue.close()
        told = len(hand.told)
        hand.bench.show_mid(1_010)
        await asyncio.sleep(0)
        assert len(hand.told) == told
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not [name for name in names if name.startswith("venue.")]


async def test_a_watch_that_fails_at_once_leaves_the_loop_to_others() -> None:
    """An awaited future that is done never yields: a pump without a pause would freeze the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    clock = RealClock(loop)
    client = CcxtClient(CcxtConfig(), clock)
    done.set_exception(client.network_errors[0]("gone"))
    asked: list[None] = []

    async def watch() -> None:
        asked.append(None)
        await done

    def told(_link: Link, _up: bool) -> None: ...

    links = Links(client, clock, {"books": (Link.PUBLIC, watch)}, told, lambda: False)
    links.start()
    turns = 0
    while len(asked) < 3:
        turns += 1
        await asyncio.sleep(0.001)
    await links.close()
    await client.close()
    assert turns >= 10


async def test_signatures_and_logins_carry_the_daemons_clock() -> None:
    """ccxt corrects REST by a measured difference and the login not at all; here all is judged by one clock."""

    class Late(RealClock):
        @staticmethod
        def wall_ns() -> int:
            return 1_700_000_000 * NS

    clock: Clock = Late(asyncio.get_running_loop())
    key = Credentials(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE))
    client = CcxtClient(CcxtConfig(credentials=key), clock)
    _, headers, _ = client.sign(Request(endpoints.UNIFIED_SETTINGS, {}))
    assert headers["ACCESS-TIMESTAMP"] == str(clock.wall_ns() // 1_000_000)
    assert client.exchange.seconds() == clock.wall_ns() // NS
    assert headers["PAPTRADING"] == "1"


@pytest.mark.parametrize(("environment", "said"), [("demo", "1"), ("live", None)])
@BOTH
async def test_the_environment_is_in_every_signed_request_and_in_the_sockets(
    kind: Kind, environment: Any, said: str | None
) -> None:
    key = Credentials(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE))
    client = CcxtClient(
        CcxtConfig(account=kind, environment=environment, credentials=key), RealClock(asyncio.get_running_loop())
    )
    for endpoint in vars(endpoints).values():
        if isinstance(endpoint, endpoints.Endpoint) and endpoint.signed:
            _, headers, _ = client.sign(Request(endpoint, {}))
            assert headers.get("PAPTRADING") == said, endpoint.path


def test_the_versions_are_those_that_were_proven() -> None:
    """aiohttp 3.14.4 and later stall a ccxt connection silently."""
    major, minor, patch = map(int, version("aiohttp").split("."))
    assert (major, minor, patch) < (3, 14, 4)
    assert version("ccxt") == "4.5.90"
