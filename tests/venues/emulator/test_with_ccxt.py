"""The emulator is driven by ccxt.pro as installed, through its public calls, for both kinds of account.

What ccxt makes of the venue's words is compared with the emulator's own record of what happened.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mmdaemon.core.types import E10
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.venues.emulator.build import PATIENCE_S, Bench, emulated, until
from tests.venues.emulator.real_ccxt import SYMBOL, client

ACCOUNTS = pytest.mark.parametrize("account", ["classic", "unified"])


@asynccontextmanager
async def driven(account: str, **settings: Any) -> AsyncGenerator[tuple[Bench, Any], None]:
    """A market that moves, and sockets of the live environment that are not those of the demo."""
    source = SyntheticMarket(start_ts_ns=time.time_ns())
    settings = {"book_interval_s": 0.1, "start_e10": 100_000 * E10, **settings}
    async with emulated(source, account=account, **settings) as bench:
        exchange = client(bench.emulator.url, is_unified=account == "unified")
        demo = exchange.urls["api"]["demo"]
        exchange.urls["api"]["ws"] = {name: url.replace("/demo/", "/") for name, url in demo.items()}
        exchange.options["sandboxMode"] = bench.demo
        try:
            async with asyncio.timeout(60):
                await exchange.load_markets()
                yield bench, exchange
        finally:
            await exchange.close()


async def heard(awaited: Any) -> Any:
    return await asyncio.wait_for(awaited, PATIENCE_S)


async def listening(bench: Bench, kind: str) -> None:
    await until(lambda: any(kind in each.channels for each in bench.emulator.sockets_of("")))


@ACCOUNTS
async def test_it_watches_trades_and_reads_and_both_agree_on_every_digit(account: str) -> None:
    async with driven(account) as (bench, exchange):
        book = await heard(exchange.watch_order_book(SYMBOL))
        bids = bench.account.exchange.matching.bids
        assert len(book["bids"]) == len(bids)
        assert abs(book["bids"][0][0] - bids[0][0] / 10) < 100
        assert (await heard(exchange.watch_ticker(SYMBOL)))["bid"] > 0

        orders = asyncio.ensure_future(exchange.watch_orders(SYMBOL))
        await listening(bench, "orders")
        flags = {"postOnly": True, "clientOrderId": "abc-1"}
        placed = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, round(book["bids"][0][0] - 50, 1), flags)
        (told,) = await heard(orders)
        row = bench.account.order("abc-1")
        assert placed["id"] == told["id"] == row.order_id
        assert (told["status"], told["clientOrderId"], told["price"]) == ("open", "abc-1", row.px_ticks / 10)
        (read,) = await exchange.fetch_open_orders(SYMBOL)
        assert (read["id"], read["amount"], read["filled"]) == (row.order_id, 0.01, 0.0)
        orders = asyncio.ensure_future(exchange.watch_orders(SYMBOL))
        await exchange.cancel_order(row.order_id, SYMBOL)
        (told,) = await heard(orders)
        assert told["status"] == "canceled"
        assert (await exchange.fetch_order(row.order_id, SYMBOL))["status"] == "canceled"

        fills, positions = (
            asyncio.ensure_future(exchange.watch_my_trades(SYMBOL)),
            asyncio.ensure_future(exchange.watch_positions([SYMBOL])),
        )
        await listening(bench, "fills")
        await listening(bench, "positions")
        ask = bench.account.exchange.matching.asks[0][0]
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, ask / 10 + 20, {"clientOrderId": "abc-2"})
        (trade, *_) = await heard(fills)
        await heard(positions)
        first, *_ = bench.account.truth().fills
        assert (trade["id"], trade["price"], trade["amount"]) == (
            first.trade_id, first.px_ticks / 10, first.qty_lots / 10_000
        )  # fmt: skip
        assert trade["fee"]["cost"] == first.fee_e10 / E10
        assert {each["id"] for each in await exchange.fetch_my_trades(SYMBOL)} == {
            fill.trade_id for fill in bench.account.truth().fills
        }
        (position,) = await exchange.fetch_positions([SYMBOL])
        assert (position["side"], position["contracts"]) == ("long", bench.account.truth().position_lots / 10_000)

        requests = [each for each in bench.emulator.requests if "/market/" not in each.path]
        assert requests
        assert {each.headers.get("PAPTRADING") for each in requests} == {"1"}
        assert {each.status for each in requests} == {200}
        assert {each.path.split("/")[1] for each in bench.emulator.connections} == {"demo"}


@ACCOUNTS
async def test_a_live_key_is_asked_without_the_header_and_at_the_live_sockets(account: str) -> None:
    async with driven(account, environment="live") as (bench, exchange):
        await exchange.fetch_balance()
        await heard(exchange.watch_order_book(SYMBOL))
        balance = asyncio.ensure_future(exchange.watch_balance())
        await heard(balance)
        assert {each.headers.get("PAPTRADING") for each in bench.emulator.requests} == {None}
        assert {each.path.split("/")[1] for each in bench.emulator.connections} == {
            "v2" if account == "classic" else "v3"
        }


@ACCOUNTS
async def test_it_comes_back_after_a_reset_and_the_book_is_whole(account: str) -> None:
    async with driven(account, book_interval_s=0.02) as (bench, exchange):
        await heard(exchange.watch_order_book(SYMBOL))
        waiting = asyncio.ensure_future(exchange.watch_order_book(SYMBOL))
        await asyncio.sleep(0)
        bench.emulator.outside.reset_sockets("public")
        with pytest.raises(Exception, match=r"closed|closing|Connection|Network"):  # ccxt's NetworkError
            await heard(waiting)
        exchange.orderbooks.pop(SYMBOL, None)  # or ccxt merges the snapshot into the stale book
        for _ in range(5):
            book = await heard(exchange.watch_order_book(SYMBOL))
            assert book["bids"][0][0] < book["asks"][0][0]
            assert len(book["bids"]) == 10
        assert len(bench.emulator.connections) >= 2


async def test_a_classic_key_at_the_unified_api_is_told_so() -> None:
    async with driven("classic") as (_, exchange):
        exchange.options["uta"] = True
        with pytest.raises(Exception, match="40084"):
            await exchange.fetch_balance()
