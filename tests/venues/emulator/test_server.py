"""The server: REST by path, key and limit; a record that is ahead of what is told; faults at their hooks; the control
endpoint; life and end."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mmdaemon.clock import RealClock
from mmdaemon.core.types import E10, OrderStatus
from mmdaemon.venues.emulator.dialect import Route
from mmdaemon.venues.emulator.rows import No
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.emulator.wrong import FAULTS, Hook, Wrong
from mmdaemon.venues.simulated.ledger import Ledger
from tests.venues.emulator.build import BUY, SELL, STILL, Bench, channel, config, emulated, until
from tests.venues.simulated.test_venue import INSTRUMENT

PLACE, CANCEL = "/api/v2/mix/order/place-order", "/api/v2/mix/order/cancel-order"
ASSETS, PRODUCT = "/api/v2/mix/account/accounts", {"productType": "USDT-FUTURES"}
DETAIL = "/api/v2/mix/order/detail"
ORDER = {
    "symbol": "BTCUSDT", "productType": "USDT-FUTURES", "marginMode": "crossed", "marginCoin": "USDT",
    "size": "0.0005", "price": "99", "side": "buy", "orderType": "limit", "force": "gtc",
}  # fmt: skip


def order(client_id: str, **changed: str) -> dict[str, str]:
    return {**ORDER, "clientOid": client_id, **changed}


def named(client_id: str) -> dict[str, str]:
    return {"symbol": "BTCUSDT", "productType": "USDT-FUTURES", "clientOid": client_id}


# --- REST -------------------------------------------------------------------------------------------------------------


async def test_a_request_is_worked_on_and_answered_in_the_venues_envelope() -> None:
    async with emulated() as bench:
        answer = await bench.post(PLACE, order("a"))
        assert answer.keys() == {"code", "msg", "requestTime", "data"}
        assert (answer["code"], answer["msg"]) == ("00000", "success")
        assert abs(answer["requestTime"] - bench.account.now_ms()) < 10_000
        assert answer["data"]["orderId"] == bench.account.order("a").order_id
        assert (await bench.post(CANCEL, named("a")))["code"] == "00000"
        assert bench.account.order("a").status is OrderStatus.CANCELLED
        refused = await bench.post(CANCEL, named("a"))
        assert (refused["code"], refused["data"]) == ("40768", None)


@pytest.mark.parametrize(
    ("account", "path", "code"),
    [("classic", "/api/v3/account/assets", "40084"), ("unified", "/api/v2/mix/account/accounts", "40085")],
)
async def test_an_account_has_one_of_the_two_apis(account: str, path: str, code: str) -> None:
    async with emulated(account=account) as bench:
        assert (await bench.get(path, PRODUCT))["code"] == code
        own, other = ("v2", "v3") if account == "classic" else ("v3", "v2")
        await bench.private(f"/demo/{own}/ws/private")
        socket = await bench.dial(f"/demo/{other}/ws/private")
        await socket.say({"op": "login", "args": [bench.login()]})
        assert (await socket.hear())["code"] == int(code)


async def test_public_calls_of_both_apis_need_no_key() -> None:
    async with emulated() as bench:
        for path in ("/api/v2/public/time", "/api/v2/mix/market/contracts", "/api/v3/market/instruments"):
            url = f"{bench.emulator.url}{path}"
            query = {"productType": "USDT-FUTURES", "category": "USDT-FUTURES"}
            async with bench.session.get(url, params=query) as response:
                assert (response.status, (await response.json())["code"]) == (200, "00000"), path


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v2/nothing"), ("GET", PLACE), ("POST", ASSETS), ("GET", "/"), ("DELETE", PLACE), ("GET", "/v9/ws")],
)
async def test_what_there_is_not_is_not_found(method: str, path: str) -> None:
    async with emulated() as bench, bench.session.request(method, bench.emulator.url + path) as response:
        assert (response.status, (await response.json())["code"]) == (404, "40404")


@pytest.mark.parametrize(
    "body", ["", "{", "1", '"a"', "null", "[" * 50_000, "[]", "{}", '{"symbol": 1}', "\x00", b"\xff\xfe"]
)
async def test_a_body_that_is_no_order_is_refused_and_nothing_is_placed(body: str | bytes) -> None:
    async with emulated() as bench:
        text = body if isinstance(body, str) else body.decode(errors="replace")
        headers = bench.headers("POST", PLACE, body=text)
        async with bench.session.post(bench.emulator.url + PLACE, data=body, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["code"] != "00000"
        assert bench.account.all_orders() == []


async def test_each_path_has_its_own_limit_and_a_refusal_is_certain() -> None:
    async with emulated() as bench:
        codes = [(await bench.post(PLACE, order(f"o{number}")))["code"] for number in range(25)]
        assert codes.count("429") > 0
        assert {"00000", "429"} == set(codes)
        for number, code in enumerate(codes):
            held = number < len(codes) and code == "00000"
            assert any(row.client_id == f"o{number}" for row in bench.account.all_orders()) is held
        assert (await bench.post(CANCEL, named("o0")))["code"] == "00000"  # a bucket of its own
    async with emulated(limits=False) as bench:
        assert {(await bench.post(PLACE, order(f"o{number}")))["code"] for number in range(25)} == {"00000"}


async def test_a_key_that_may_only_read_takes_nothing_out_either() -> None:
    async with emulated() as bench:
        assert (await bench.post(PLACE, order("a")))["code"] == "00000"
        bench.emulator.outside.change_facts(can_trade=False)
        for path, asked in ((PLACE, order("b")), (CANCEL, named("a"))):
            assert (await bench.post(path, asked))["code"] == "40014"
        assert [row.client_id for row in bench.account.open_orders()] == ["a"]
        assert (await bench.get(ASSETS, PRODUCT))["code"] == "00000"
        bench.emulator.outside.change_facts(can_trade=True)
        assert (await bench.post(CANCEL, named("a")))["code"] == "00000"


async def test_under_maintenance_nothing_is_worked_on() -> None:
    async with emulated() as bench:
        assert (await bench.control("maintenance", {"on": True}))[0] == 200
        assert (await bench.post(PLACE, order("a")))["code"] == "40200"
        assert (await bench.get(ASSETS, PRODUCT))["code"] == "40200"
        await bench.control("maintenance", {"on": False})
        assert (await bench.post(PLACE, order("a")))["code"] == "00000"


async def test_whoever_gives_up_unsends_nothing() -> None:
    async with emulated(push_delay_s=-0.5) as bench:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await bench.post(PLACE, order("a"))
        await until(bench.account.all_orders)
        assert bench.account.order("a").status is OrderStatus.LIVE
        await until(lambda: bench.emulator.requests)
        assert bench.emulator.requests[-1].status == 0


async def test_requests_are_remembered_as_they_came() -> None:
    async with emulated() as bench:
        await bench.get(DETAIL, named("zz"))
        await bench.post(PLACE, order("a"))
        read, placed = bench.emulator.requests
        assert (read.method, read.path, read.status, read.body) == ("GET", DETAIL, 400, "")
        assert "clientOid=zz" in read.query
        assert (placed.status, '"clientOid":"a"' in placed.body) == (200, True)
        assert abs(placed.at_ms - bench.account.now_ms()) < 10_000


# --- the record -------------------------------------------------------------------------------------------------------


async def test_whatever_is_told_is_in_the_record_by_then(tmp_path: Path) -> None:
    """Looked up with another connection at the moment of each word: what it sees is committed."""
    path = tmp_path / "venue.sqlite"
    ledger = Ledger(path, "a1", INSTRUMENT, 1_000 * E10, 1)

    def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as db:
            return db.execute(query, values).fetchall()

    async with emulated(ledger=ledger, limits=False, push_delay_s=0.0) as bench:
        socket = await bench.private()
        await socket.subscribe(channel("orders"), channel("fill"))

        async def trades() -> None:
            for number in range(20):
                bench.show_mid(1_000)
                answer = await bench.post(PLACE, order(f"f{number}", price="100.1" if number % 2 else "99"))
                found = rows("SELECT client_id FROM orders WHERE client_id = ?", f"f{number}")
                assert found, answer
                await bench.post(CANCEL, named(f"f{number}"))

        trading = asyncio.create_task(trades())
        fills = ended = 0
        while fills < 10 or ended < 20:
            frame = await socket.hear()
            (data,) = frame["data"]
            if frame["arg"]["channel"] == "fill":
                fills += 1
                query = "SELECT client_id, px_ticks, qty_lots, fee_e10 FROM fills WHERE trade_id = ?"
                ((client_id, px_ticks, qty_lots, fee_e10),) = rows(query, data["tradeId"])
                assert client_id == data["clientOid"]
                assert (px_ticks / 10, qty_lots / 10_000) == (float(data["price"]), float(data["baseVolume"]))
                assert fee_e10 == round(-float(data["feeDetail"][0]["totalFee"]) * E10)
            else:
                ((status,),) = rows("SELECT status FROM orders WHERE client_id = ?", data["clientOid"])
                ended += data["status"] in ("filled", "cancelled")
                if data["status"] in ("filled", "cancelled"):
                    assert status == data["status"]
        await trading
        await bench.post(PLACE, order("dup"))
        await bench.post(PLACE, order("dup"))
        assert len(rows("SELECT 1 FROM requests WHERE client_id = 'dup'")) == 2
        stamp = bench.account.now_ms() - 2_000
        await bench.post(PLACE, order("old"), ACCESS_TIMESTAMP=str(stamp))
        assert rows("SELECT sent_ts_ns FROM requests WHERE client_id = 'old'") == [(stamp * 1_000_000,)]
        truth = bench.account.truth()
        wallet = str(truth.wallet.balance_e10)
    assert rows("SELECT balance_e10, position_lots FROM accounts") == [(wallet, truth.position_lots)]
    assert rows("SELECT ended_ts_ns IS NOT NULL FROM accounts") == [(1,)]
    assert {fill.trade_id for fill in truth.fills} == {row[0] for row in rows("SELECT trade_id FROM fills")}
    ((began, why),) = rows("SELECT began_ts_ns, why FROM connections")
    assert began
    assert why is not None


async def test_what_the_market_did_to_an_order_is_in_the_record_before_it_is_pushed(tmp_path: Path) -> None:
    """No request comes in between."""
    path = tmp_path / "venue.sqlite"
    ledger = Ledger(path, "a1", INSTRUMENT, 1_000 * E10, 1)
    async with emulated(ledger=ledger) as bench:
        socket = await bench.private()
        await socket.subscribe(channel("fill"))
        bench.place("a", px_ticks=1_000)
        await asyncio.sleep(0.02)
        bench.print(1_000, 5, SELL)
        (data,) = (await socket.hear())["data"]
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT client_id FROM fills WHERE trade_id = ?", (data["tradeId"],)).fetchall() == [
                ("a",)
            ]


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_a_lost_request_does_nothing_and_a_lost_answer_has_done_it() -> None:
    async with emulated() as bench:
        for kind, lands in ((Wrong.REQUEST_LOST, False), (Wrong.ANSWER_LOST, True)):
            bench.emulator.faults.inject(kind, where=PLACE)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await bench.post(PLACE, order(kind))
            await until(lambda kind=kind: bench.emulator.faults.seen[kind] == 1)
            assert any(row.client_id == kind for row in bench.account.all_orders()) is lands


async def test_a_request_that_was_late_is_worked_on_late_and_refused_beyond_the_window() -> None:
    async with emulated(window_s=1.0) as bench:
        bench.emulator.faults.inject(Wrong.DELIVERED_LATE, seconds=0.1, where=PLACE)
        assert (await bench.post(PLACE, order("a")))["code"] == "00000"
        bench.emulator.faults.inject(Wrong.DELIVERED_LATE, seconds=1.3, where=PLACE)
        assert (await bench.post(PLACE, order("b")))["code"] == "40008"
        assert [row.client_id for row in bench.account.all_orders()] == ["a"]


async def test_a_gateway_that_gives_up_has_let_the_order_through() -> None:
    async with emulated() as bench:
        bench.emulator.faults.inject(Wrong.SLOW_504, seconds=0.05, where=PLACE)
        with pytest.raises(aiohttp.ContentTypeError):
            await bench.post(PLACE, order("a"))
        assert bench.account.order("a").status is OrderStatus.LIVE
        assert bench.emulator.requests[-1].status == 504


async def test_while_nobody_listens_all_are_cut_and_refused_and_then_let_in_at_the_same_port() -> None:
    async with emulated() as bench:
        port, socket = bench.emulator.port, await bench.private()
        await bench.get(ASSETS, PRODUCT)
        bench.emulator.faults.inject(Wrong.CONNECTION_REFUSED, seconds=0.4)
        assert await socket.ended() == 1006
        with pytest.raises(aiohttp.ClientConnectionError):
            await bench.get(ASSETS, PRODUCT)
        bench.place("meanwhile")
        await bench.reachable()
        assert (await bench.get(ASSETS, PRODUCT))["code"] == "00000"
        assert bench.account.order("meanwhile").status is OrderStatus.LIVE
        assert bench.emulator.port == port
        await bench.private()
        bench.emulator.faults.inject(Wrong.CONNECTION_REFUSED, seconds=30)
        await asyncio.sleep(0.05)


AT_ONCE = [kind for kind, fault in FAULTS.items() if fault.hook in (Hook.SOCKET, Hook.ACCOUNT)]


@pytest.mark.parametrize("kind", AT_ONCE)
async def test_each_fault_of_sockets_and_account_is_done_to_a_live_account(kind: Wrong) -> None:
    """With an order and a position in it: afterwards the account still adds up, and the venue still answers."""
    async with emulated() as bench:
        bench.place("rests")
        bench.place("taken", px_ticks=1_001, qty_lots=2, post_only=False)
        before = bench.account.facts, len(bench.account.all_orders()), len(bench.account.truth().bills)
        socket = await bench.private()
        await socket.subscribe(channel("orders"))
        seconds = 0.05 if FAULTS[kind].seconds.value == "lasts" else 0.0
        bench.emulator.faults.inject(kind, seconds=seconds)
        if FAULTS[kind].hook is Hook.ACCOUNT:
            after = bench.account.facts, len(bench.account.all_orders()), len(bench.account.truth().bills)
            assert after != before
        await asyncio.sleep(0.1)
        await bench.reachable()
        wallet = bench.account.balance().wallet_e10
        lines = bench.account.bills(since_ms=0, until_ms=1 << 60, before_id="", limit=100)
        assert 1_000 * E10 + sum(line.amount_e10 - line.fee_e10 for line in lines) == wallet


async def test_faults_of_the_minute_are_drawn_by_the_emulator() -> None:
    async with emulated() as bench:
        drawn: list[int] = []

        def minute(ordinal: int) -> None:
            drawn.append(ordinal)

        bench.emulator.faults.minute = minute
        bench.emulator._each_minute()
        bench.emulator._each_minute()
        assert drawn == [1, 2]


# --- the control endpoint ---------------------------------------------------------------------------------------------


async def test_a_person_at_a_shell_does_what_others_would() -> None:
    async with emulated() as bench:
        status, foreign = await bench.control("foreign-order", {"side": "buy", "px_ticks": 980, "qty_lots": 4})
        assert (status, foreign["status"]) == (200, "live")
        status, again = await bench.control("foreign-order", {"side": "sell", "px_ticks": 980, "qty_lots": 4})
        assert (status, "refuses" in again["error"]) == (409, True)
        assert (await bench.control("withdraw", {"key": foreign["order_id"]}))[1]["status"] == "cancelled"
        assert (await bench.control("manual-trade", {"side": "sell", "qty_lots": 3})) == (200, {"done": True})
        assert (await bench.control("transfer", {"amount": "-0.5"}))[0] == 200
        assert (await bench.control("facts", {"leverage": 3, "can_withdraw": True}))[0] == 200
        assert (await bench.control("fees", {"maker_rate": "0.001", "taker_rate": "0.002"}))[0] == 200
        facts = bench.account.facts
        assert (facts.leverage, facts.can_withdraw, facts.can_trade, facts.maker_rate) == (3, True, True, "0.001")
        _, record = await bench.control("record")
        assert [fill["qty_lots"] for fill in record["fills"]] == [3]
        assert [bill["kind"] for bill in record["bills"]] == ["trade", "transfer_out"]
        assert record["position"]["lots"] == -3
        assert record["balance"]["wallet_e10"] == bench.account.truth().wallet.balance_e10
        assert len(record["orders"]) == 2


async def test_faults_are_injected_from_a_shell_and_ended() -> None:
    async with emulated() as bench:
        asked = {"kind": "rate_limit", "count": 5, "where": PLACE}
        assert (await bench.control("faults", asked)) == (200, {"done": True})
        assert (await bench.post(PLACE, order("a")))["code"] == "429"
        _, told = await bench.control("faults")
        assert told["seen"] == {"rate_limit": 1}
        assert told["injected"][0]["where"] == PLACE
        await bench.control("calm", {})
        assert (await bench.post(PLACE, order("a")))["code"] == "00000"


@pytest.mark.parametrize(
    ("name", "asked", "status"),
    [
        ("nothing", {}, 404),
        ("nothing", None, 404),
        ("faults", {"kind": "nothing"}, 400),
        ("faults", {"kind": "latency"}, 400),
        ("faults", [], 400),
        ("transfer", {"amount": "NaN"}, 400),
        ("transfer", {"amount": "1", "extra": 1}, 400),
        ("fees", {"maker_rate": "x", "taker_rate": "0"}, 400),
        ("facts", {"leverage": "3"}, 400),
        ("withdraw", {"key": "zz"}, 409),
    ],
)
async def test_what_cannot_be_is_said_and_does_nothing(name: str, asked: object, status: int) -> None:
    async with emulated() as bench:
        before = bench.account.facts, bench.account.balance().wallet_e10
        answered, told = await bench.control(name, asked)
        assert (answered, bool(told["error"])) == (status, True)
        assert before == (bench.account.facts, bench.account.balance().wallet_e10)


async def test_a_page_in_a_browser_cannot_ask_unasked() -> None:
    async with emulated() as bench, bench.session.post(f"{bench.emulator.url}/emulator/restart", data="{}") as response:
        assert response.status == 415


async def test_connections_are_told_with_what_they_asked_for() -> None:
    async with emulated() as bench:
        socket = await bench.private()
        await socket.subscribe(channel("orders"))
        await bench.dial("/demo/v2/ws/public")
        _, told = await bench.control("connections")
        assert [(each["path"], each["logged_in"], each["channels"]) for each in told] == [
            ("/demo/v2/ws/private", True, ["orders"]), ("/demo/v2/ws/public", False, [])
        ]  # fmt: skip
        await socket.wire.close()
        await until(lambda: bench.emulator.connections[0].ended_ms)


# --- life -------------------------------------------------------------------------------------------------------------


async def test_the_end_waits_for_nobody_and_comes_once() -> None:
    clock = RealClock(asyncio.get_running_loop())
    emulator = Emulator(STILL, clock, config())
    await emulator.start()
    async with aiohttp.ClientSession() as session:
        bench = Bench(emulator, session, clock)
        socket = await bench.private()
        emulator.faults.inject(Wrong.REQUEST_LOST)
        waiting = asyncio.create_task(bench.get(ASSETS, PRODUCT))
        await until(lambda: emulator.faults.seen[Wrong.REQUEST_LOST])
        await emulator.close()
        await emulator.close()
        with pytest.raises(aiohttp.ClientError):
            await waiting
        assert await socket.ended() == 1006
        with pytest.raises(aiohttp.ClientConnectionError):
            await bench.get(ASSETS, PRODUCT)


async def test_another_one_may_have_the_port_at_once() -> None:
    async with emulated() as bench:
        port = bench.emulator.port
        await bench.private()
    clock = RealClock(asyncio.get_running_loop())
    emulator = Emulator(STILL, clock, config())
    await emulator.start(port)
    assert emulator.port == port
    await emulator.close()


async def test_a_port_that_is_taken_is_said_so() -> None:
    async with emulated() as bench:
        another = Emulator(STILL, bench.clock, config())
        with pytest.raises(OSError, match=str(bench.emulator.port)):
            await another.start(bench.emulator.port)
        await another.close()


async def test_one_that_never_listened_ends_its_record_too(tmp_path: Path) -> None:
    path = tmp_path / "venue.sqlite"
    ledger = Ledger(path, "a1", INSTRUMENT, 1_000 * E10, 1)
    await Emulator(STILL, RealClock(asyncio.get_running_loop()), config(), ledger=ledger).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT ended_ts_ns IS NOT NULL FROM accounts").fetchall() == [(1,)]


async def test_a_defect_of_the_emulators_own_is_not_hidden() -> None:
    async with emulated() as bench:

        def fails(*_: object) -> None:
            raise ZeroDivisionError

        own = bench.emulator._routes["GET", ASSETS]
        broken = Route("GET", ASSETS, fails, 10)
        bench.emulator._routes["GET", ASSETS] = broken, own[1]
        with pytest.raises(aiohttp.ContentTypeError):
            await bench.get(ASSETS, PRODUCT)
        assert [type(each) for each in bench.emulator.defects] == [ZeroDivisionError]
        _, status = await bench.control("status")
        assert status["defects"] == ["ZeroDivisionError()"]
        bench.emulator.defects.clear()


async def test_a_hook_says_what_the_venue_would_not_do() -> None:
    async with emulated() as bench:
        bench.place("a", px_ticks=990)
        with pytest.raises(No):
            bench.emulator.outside.foreign_order(SELL, 990, 5)
        with pytest.raises(ValueError, match="at once"):
            bench.emulator.outside.act(Wrong.LATENCY, 1.0, "")
        bench.emulator.outside.manual_trade(BUY, 5)
        assert bench.account.truth().position_lots == 5
