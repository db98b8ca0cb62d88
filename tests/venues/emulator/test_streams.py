"""What the sockets say: a book that is whole for whoever follows its frames, recent trades, private pushes, and the
protocol around them."""

import asyncio
from random import Random
from typing import Any
from zlib import crc32

import pytest

from mmdaemon.venues.codec import Scale
from mmdaemon.venues.emulator.streams import checksum, difference
from mmdaemon.venues.emulator.wrong import Wrong
from tests.venues.emulator.build import BUY, SELL, Socket, channel, emulated, until
from tests.venues.simulated.test_venue import INSTRUMENT

PUBLIC = "/demo/v2/ws/public"
PRIVATE = "/demo/v2/ws/private"
Texts = dict[str, str]


class Followed:
    """A book as a careful client keeps it, in texts."""

    def __init__(self) -> None:
        self.bids: Texts = {}
        self.asks: Texts = {}
        self.seq = 0
        self.checksums = 0

    def take(self, frame: Any) -> None:
        (data,) = frame["data"]
        if frame["action"] == "snapshot":
            assert data["pseq"] == 0
            self.bids, self.asks = {}, {}
        else:
            assert data["pseq"] == self.seq
        assert data["seq"] > self.seq
        self.seq = data["seq"]
        for side, levels in ((self.bids, data["bids"]), (self.asks, data["asks"])):
            for px, qty in levels:
                if qty == "0":
                    del side[px]  # a level that is not there cannot go
                else:
                    side[px] = qty
        if "checksum" in data:
            assert data["checksum"] == self.sum()
            self.checksums += 1

    def best(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        return sorted(self.bids.items(), key=_px, reverse=True), sorted(self.asks.items(), key=_px)

    def sum(self) -> int:
        bids, asks = self.best()
        texts: list[str] = []
        for at in range(25):
            texts += [":".join(side[at]) for side in (bids, asks) if at < len(side)]
        unsigned = crc32(":".join(texts).encode())
        return unsigned if unsigned < 1 << 31 else unsigned - (1 << 32)

    def is_(self, bids: tuple[tuple[int, int], ...], asks: tuple[tuple[int, int], ...]) -> bool:
        scale = Scale(INSTRUMENT)
        shown = [[(scale.px_text(px), scale.qty_text(lots)) for px, lots in side] for side in (bids, asks)]
        return [*self.best()] == shown


def _px(level: tuple[str, str]) -> float:
    return float(level[0])


def some_book(random: Random) -> tuple[Any, Any]:
    mid, depth = random.randint(990, 1_010), random.randint(1, 40)
    bids = tuple((mid - step, random.randint(1, 3)) for step in range(1, 60) if random.random() < 0.7)[:depth]
    asks = tuple((mid + step, random.randint(1, 3)) for step in range(1, 60) if random.random() < 0.7)[:depth]
    return bids, asks


@pytest.mark.parametrize("with_checksum", [False, True])
async def test_who_follows_the_frames_has_the_book(with_checksum: bool) -> None:
    random = Random(3)
    async with emulated(checksum=with_checksum) as bench:
        socket, late, followed = await bench.dial(PUBLIC), await bench.dial(PUBLIC), Followed()
        await socket.subscribe(channel("books"))
        followed.take(await socket.hear())
        for _ in range(150):
            bids, asks = some_book(random)
            bench.show(bids, asks)
            followed.take(await socket.hear())
            assert followed.is_(bids, asks)
        another = Followed()
        await late.subscribe(channel("books"))
        another.take(await late.hear())  # joins in the middle, at the state of all
        assert (another.seq, another.bids, another.asks) == (followed.seq, followed.bids, followed.asks)
        bench.show_mid(700)
        another.take(await late.hear())
        followed.take(await socket.hear())
        assert another.best() == followed.best()
        assert bool(followed.checksums) is with_checksum


def test_the_checksum_is_of_what_is_there_and_of_25_levels() -> None:
    scale = Scale(INSTRUMENT)
    text = "99.9:0.001:100.1:0.0012:99.8:0.0001"
    assert checksum([(999, 10), (998, 1)], [(1_001, 12)], scale) in (crc32(text.encode()), crc32(text.encode()) - 2**32)
    deep = [(1_000 - step, 1) for step in range(40)]
    assert checksum(deep, [], scale) == checksum(deep[:25], [], scale) != checksum(deep[:24], [], scale)
    values = [checksum([(px, 1)], [(px + 1, 1)], scale) for px in range(1, 200)]
    assert all(-(2**31) <= value < 2**31 for value in values)
    assert min(values) < 0 < max(values)


def test_a_difference_names_what_changed_and_what_went() -> None:
    assert difference({1: 5, 2: 6, 3: 7}, {2: 6, 3: 8, 4: 9}) == [(3, 8), (4, 9), (1, 0)]


async def test_a_book_that_did_not_change_is_not_told_and_one_that_did_within_the_interval_once() -> None:
    async with emulated(book_interval_s=0.15) as bench:
        socket, followed = await bench.dial(PUBLIC), Followed()
        await socket.subscribe(channel("books"))
        followed.take(await socket.hear())
        for mid in (1_001, 1_002, 1_003, 1_004):
            bench.show_mid(mid)
        seen = 0
        while not followed.is_(tuple((1_004 - s, 10) for s in (1, 2, 3)), tuple((1_004 + s, 10) for s in (1, 2, 3))):
            followed.take(await socket.hear())
            seen += 1
        assert seen <= 2
        bench.show_mid(1_004)
        bench.show_mid(1_005)
        bench.show_mid(1_004)
        await asyncio.sleep(0.2)
        bench.print(1_004, 1, BUY)
        await socket.subscribe(channel("trade"))  # nothing of the book came before this
        assert (await socket.hear())["arg"]["channel"] == "trade"


async def test_the_first_levels_come_whole_each_time() -> None:
    async with emulated() as bench:
        socket = await bench.dial(PUBLIC)
        for depth, count in (("books1", 1), ("books5", 3)):
            await socket.subscribe(channel(depth))
            frame = await socket.hear()
            assert (frame["action"], len(frame["data"][0]["bids"])) == ("snapshot", count)
        bench.show_mid(1_010)
        for depth in ("books1", "books5"):
            frame = await socket.hear()
            assert frame["arg"]["channel"] == depth
            assert frame["action"] == "snapshot"
            assert frame["data"][0]["bids"][0] == ["100.9", "0.001"]


async def test_a_restart_cuts_all_and_begins_the_sequence_anew() -> None:
    async with emulated() as bench:
        socket, private = await bench.dial(PUBLIC), await bench.private()
        await socket.subscribe(channel("books"))
        before = (await socket.hear())["data"][0]["seq"]
        bench.emulator.restart()
        assert await socket.ended() == await private.ended() == 1006
        again, followed = await bench.dial(PUBLIC), Followed()
        await again.subscribe(channel("books"))
        bench.show_mid(1_001)
        followed.take(await again.hear())
        assert followed.seq < before
        bench.show_mid(1_002)
        followed.take(await again.hear())
        assert len(followed.bids) == 3


async def test_trades_open_with_the_recent_ones_and_are_newest_first() -> None:
    async with emulated() as bench:
        for px in (999, 1_001, 998):
            bench.print(px, 1, BUY if px > 1_000 else SELL)
        await asyncio.sleep(0.01)
        socket = await bench.dial(PUBLIC)
        await socket.subscribe(channel("trade"))
        first = await socket.hear()
        assert first["action"] == "snapshot"
        assert [(row["price"], row["side"]) for row in first["data"]] == [
            ("99.8", "sell"), ("100.1", "buy"), ("99.9", "sell")
        ]  # fmt: skip
        bench.print(1_001, 2, BUY)
        bench.print(1_002, 3, BUY)
        update = await socket.hear()
        assert (update["action"], [row["size"] for row in update["data"]]) == ("update", ["0.0003", "0.0002"])
        ids = [int(row["tradeId"]) for row in [*update["data"], *first["data"]]]
        assert ids == sorted(set(ids), reverse=True)


async def test_the_ticker_has_touch_mark_and_funding() -> None:
    async with emulated(ticker_interval_s=0.0) as bench:
        socket = await bench.dial(PUBLIC)
        await socket.subscribe(channel("ticker"))
        (row,) = (await socket.hear())["data"]
        assert (row["bidPr"], row["askPr"], row["markPrice"]) == ("99.9", "100.1", "100")
        assert int(row["nextFundingTime"]) > bench.account.now_ms()
        bench.show_mid(1_010)
        (row,) = (await socket.hear())["data"]
        assert (row["bidPr"], row["askPr"]) == ("100.9", "101.1")


# --- private ----------------------------------------------------------------------------------------------------------


async def hear_kinds(socket: Socket, count: int) -> list[tuple[str, Any]]:
    frames = [await socket.hear() for _ in range(count)]
    return [(frame["arg"]["channel"], frame["data"]) for frame in frames]


async def test_private_channels_open_with_position_and_account_and_with_no_orders() -> None:
    async with emulated() as bench:
        bench.place("old")
        bench.place("taken", px_ticks=1_001, qty_lots=2, post_only=False)
        await asyncio.sleep(0.03)
        socket = await bench.private()
        await socket.subscribe(channel("orders"), channel("fill"))
        await socket.subscribe(channel("positions"))
        assert (await socket.hear())["data"][0]["total"] == "0.0002"
        await socket.subscribe(channel("account"))
        assert (await socket.hear())["data"][0]["marginCoin"] == "USDT"
        bench.account.cancel("old")
        ((kind, (order,)), (last, _)) = await hear_kinds(socket, 2)
        assert (kind, order["clientOid"], order["status"], last) == ("orders", "old", "cancelled", "account")


async def test_a_fill_is_told_on_each_channel_once() -> None:
    async with emulated() as bench:
        socket = await bench.private()
        await socket.subscribe(channel("orders"), channel("fill"))
        for name in ("positions", "account"):
            await socket.subscribe(channel(name))
            await socket.hear()
        bench.place("a", px_ticks=1_000, qty_lots=5)
        bench.print(1_000, 5, SELL)
        told = await hear_kinds(socket, 6)
        assert [kind for kind, _ in told[:2]] == ["orders", "account"]
        assert sorted(kind for kind, _ in told[2:4]) == ["fill", "orders"]
        assert [kind for kind, _ in told[4:]] == ["positions", "account"]
        fills = {kind: data[0] for kind, data in told[2:4]}
        assert fills["orders"]["tradeId"] == fills["fill"]["tradeId"]
        assert fills["orders"]["status"] == "filled"


async def test_what_happened_while_nobody_listened_is_not_told_again() -> None:
    async with emulated() as bench:
        first = await bench.private()
        await first.subscribe(channel("orders"), channel("fill"))
        bench.place("a", px_ticks=1_000, qty_lots=5)
        await first.hear()
        bench.emulator.outside.reset_sockets("private")
        assert await first.ended() == 1006
        bench.print(1_000, 5, SELL)
        await asyncio.sleep(0.03)
        again = await bench.private()
        await again.subscribe(channel("orders"), channel("fill"))
        bench.place("b")
        assert (await again.hear())["data"][0]["clientOid"] == "b"


async def test_what_was_to_be_told_when_the_venue_restarts_is_never_told() -> None:
    async with emulated(push_delay_s=0.2) as bench:
        bench.place("a")
        bench.emulator.restart()
        socket = await bench.private()
        await socket.subscribe(channel("orders"))
        await asyncio.sleep(0.3)
        await socket.say("ping")
        assert await socket.hear_text() == "pong"


async def test_nobody_is_told_who_is_not_logged_in() -> None:
    async with emulated() as bench:
        stranger = await bench.dial(PRIVATE)
        await stranger.say({"op": "subscribe", "args": [channel("orders")]})
        assert (await stranger.hear())["code"] == 30004
        bench.place("a")
        await asyncio.sleep(0.03)
        await stranger.say("ping")
        assert await stranger.hear_text() == "pong"


@pytest.mark.parametrize("push_delay_s", [0.3, -0.3])
async def test_the_push_comes_after_the_answer_or_before_it(push_delay_s: float) -> None:
    order = {
        "symbol": "BTCUSDT", "productType": "USDT-FUTURES", "marginMode": "crossed", "marginCoin": "USDT",
        "size": "0.0005", "price": "99", "side": "buy", "orderType": "limit", "force": "gtc", "clientOid": "a",
    }  # fmt: skip
    async with emulated(push_delay_s=push_delay_s) as bench:
        socket = await bench.private()
        await socket.subscribe(channel("orders"))
        first: list[str] = []

        async def answered() -> None:
            assert (await bench.post("/api/v2/mix/order/place-order", order))["code"] == "00000"
            first.append("answer")

        async def pushed() -> None:
            assert (await socket.hear())["data"][0]["clientOid"] == "a"
            first.append("push")

        await asyncio.gather(answered(), pushed())
        assert first == (["answer", "push"] if push_delay_s > 0 else ["push", "answer"])


# --- the protocol -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("hello", 30002),
        ("[1]", 30002),
        ('{"op":"subscribe"}', 30002),
        ('{"op":"subscribe","args":[]}', 30002),
        ('{"op":"subscribe","args":["books"]}', 30002),
        ('{"op":{},"args":[{}]}', 30003),
        ('{"op":"trade","args":[{}]}', 30003),
        ('{"op":"login","args":[{}]}', 30003),  # on a public socket
        ('{"op":"subscribe","args":[{}]}', 30001),
        ('{"op":"subscribe","args":[{"instType":"USDT-FUTURES","channel":"nothing","instId":"BTCUSDT"}]}', 30001),
        ('{"op":"subscribe","args":[{"instType":"USDT-FUTURES","channel":"books","instId":"ETHUSDT"}]}', 30001),
        ('{"op":"subscribe","args":[{"instType":"USDT-FUTURES","channel":"orders","instId":"default"}]}', 30004),
        ("[" * 60_000, 30002),
    ],
)
async def test_what_the_venue_does_not_understand_it_says_so_and_listens_on(said: str, code: int) -> None:
    async with emulated() as bench:
        socket = await bench.dial(PUBLIC)
        await socket.say(said)
        answer = await socket.hear()
        assert (answer["event"], answer["code"]) == ("error", code)
        await socket.say("ping")
        assert await socket.hear_text() == "pong"


async def test_an_unsubscribed_channel_says_no_more() -> None:
    async with emulated() as bench:
        socket = await bench.dial(PUBLIC)
        await socket.subscribe(channel("books"))
        await socket.hear()
        await socket.say({"op": "unsubscribe", "args": [channel("books")]})
        assert await socket.hear() == {"event": "unsubscribe", "arg": channel("books")}
        bench.show_mid(1_010)
        await asyncio.sleep(0.02)
        await socket.say("ping")
        assert await socket.hear_text() == "pong"


async def test_a_public_channel_is_not_on_the_private_socket() -> None:
    async with emulated() as bench:
        socket = await bench.private()
        await socket.say({"op": "subscribe", "args": [channel("books")]})
        assert (await socket.hear())["code"] == 30001


async def test_who_says_too_much_is_told_and_closed() -> None:
    async with emulated() as bench:
        socket = await bench.dial(PUBLIC)
        for _ in range(15):
            await socket.say("ping")
        while (text := await socket.hear_text()) == "pong":
            pass
        assert "30006" in text
        assert await socket.ended() == 1008
    async with emulated(limits=False) as bench:
        socket = await bench.dial(PUBLIC)
        for _ in range(15):
            await socket.say("ping")
            assert await socket.hear_text() == "pong"


async def test_a_silent_socket_is_cut_and_one_that_pings_is_not() -> None:
    async with emulated(silence_s=1.0) as bench:
        silent, alive = await bench.dial(PUBLIC), await bench.dial(PUBLIC)

        async def pings() -> None:
            while True:
                await alive.say("ping")
                assert await alive.hear_text() == "pong"
                await asyncio.sleep(0.1)

        pinging = asyncio.create_task(pings())
        assert await silent.ended() == 1006
        assert not pinging.done()
        pinging.cancel()
        (first, _) = bench.emulator.connections
        await until(lambda: first.ended_ms)
        assert "silent" in first.why


async def test_who_does_not_read_is_cut_at_a_bound() -> None:
    async with emulated(waiting_max_bytes=200_000) as bench:
        socket = await bench.dial(PUBLIC)
        await socket.subscribe(channel("books"))
        transport: Any = socket.wire._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()
        (connection,) = bench.emulator.connections
        mid = 0
        async with asyncio.timeout(20):
            while connection.is_open:
                for _ in range(200):
                    mid += 1
                    bench.show_mid(1_000 + mid % 50)
                await asyncio.sleep(0)
        assert "does not read" in connection.why
        transport.resume_reading()
        await until(lambda: connection.ended_ms)
        other = await bench.dial(PUBLIC)
        await other.subscribe(channel("books"))
        assert (await other.hear())["action"] == "snapshot"


async def test_a_forced_close_has_its_code_and_comes_after_what_was_said() -> None:
    async with emulated() as bench:
        socket, private = await bench.dial(PUBLIC), await bench.private()
        await socket.subscribe(channel("books"))
        await socket.hear()
        bench.show_mid(1_010)
        bench.emulator.faults.inject(Wrong.FORCED_CLOSE, where="public")
        assert (await socket.hear())["action"] == "update"
        assert await socket.ended() == 1000
        await private.say("ping")
        assert await private.hear_text() == "pong"


async def test_a_half_open_socket_neither_hears_nor_says_and_is_not_closed() -> None:
    async with emulated() as bench:
        socket = await bench.dial(PUBLIC)
        bench.emulator.faults.inject(Wrong.HALF_OPEN, seconds=1.0)
        await socket.say("ping")
        bench.show_mid(1_010)
        with pytest.raises(TimeoutError):
            await socket.wire.receive(timeout=0.1)
        assert await socket.hear_text() == "pong"  # what was sent into it is read once it is over


async def test_a_muted_pong_is_of_one_side() -> None:
    async with emulated() as bench:
        socket, private = await bench.dial(PUBLIC), await bench.private()
        bench.emulator.faults.inject(Wrong.PONG_MUTED, seconds=30, where="public")
        await socket.say("ping")
        await private.say("ping")
        assert await private.hear_text() == "pong"
        await socket.subscribe(channel("trade"))  # answered, and no pong before it
        assert bench.emulator.connections[0].heard == 2


async def test_refused_logins_and_subscriptions_and_lost_acknowledgements() -> None:
    async with emulated() as bench:
        faults = bench.emulator.faults
        faults.inject(Wrong.LOGIN_REFUSED)
        socket = await bench.dial(PRIVATE)
        await socket.say({"op": "login", "args": [bench.login()]})
        assert (await socket.hear())["code"] == 30005
        faults.inject(Wrong.ACK_LOST)
        await socket.say({"op": "login", "args": [bench.login()]})
        await socket.say("ping")
        assert await socket.hear_text() == "pong"
        faults.inject(Wrong.SUBSCRIBE_REFUSED)
        await socket.say({"op": "subscribe", "args": [channel("orders")]})
        answer = await socket.hear()
        assert (answer["code"], answer["arg"]) == (30001, channel("orders"))
        await socket.subscribe(channel("orders"))


# --- how much it carries ----------------------------------------------------------------------------------------------


async def test_thousands_of_frames_reach_a_client_in_order_and_none_is_dropped() -> None:
    """The figure of messages a second is in the benchmark; here only that nothing is lost at full speed."""
    async with emulated() as bench:
        socket, followed = await bench.dial(PUBLIC), Followed()
        await socket.subscribe(channel("books"))
        followed.take(await socket.hear())

        async def market() -> None:
            for number in range(3_000):
                bench.show_mid(1_000 + number % 7)
                if number % 10 == 0:
                    await asyncio.sleep(0)

        playing = asyncio.create_task(market())
        for _ in range(2_999):  # the first is no change
            followed.take(await socket.hear())
        await playing
        assert len(followed.bids) == 3
