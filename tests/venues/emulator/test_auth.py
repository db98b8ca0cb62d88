"""Who may ask: each thing that the venue checks, over the wire and by itself."""

import pytest

from mmdaemon.venues.emulator.auth import Auth, shown, signature
from mmdaemon.venues.emulator.rows import No, Why
from tests.venues.emulator.build import KEY, PASSPHRASE, SECRET, config, emulated, sign

ASSETS = "/api/v2/mix/account/accounts"
PRODUCT = {"productType": "USDT-FUTURES"}
NOW_MS = 1_767_225_600_000


def headers(**changed: str) -> dict[str, str]:
    stamp = changed.pop("ACCESS_TIMESTAMP", str(NOW_MS))
    given = {
        "ACCESS-KEY": KEY,
        "ACCESS-PASSPHRASE": PASSPHRASE,
        "ACCESS-TIMESTAMP": stamp,
        "ACCESS-SIGN": sign(f"{stamp}GET/api/x?a=1 b&c=2"),
        "PAPTRADING": "1",
    }
    return {**given, **{name.replace("_", "-"): value for name, value in changed.items()}}


def test_the_signature_is_that_of_the_venues_documentation() -> None:
    """HMAC-SHA256 in base64, over the query as it reads before it is encoded."""
    assert signature(SECRET, "text") == sign("text")
    auth = Auth(config(), lambda: NOW_MS)
    assert auth.check_request("GET", "/api/x?a=1%20b&c=2", "", headers()) == NOW_MS
    body = '{"a":"1"}'
    stamp = str(NOW_MS)
    auth.check_request("POST", "/api/x", body, headers(ACCESS_SIGN=sign(f"{stamp}POST/api/x{body}")))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ACCESS_KEY": "another"}, Why.KEY),
        ({"ACCESS_KEY": ""}, Why.KEY),
        ({"PAPTRADING": "0"}, Why.ENVIRONMENT),
        ({"ACCESS_TIMESTAMP": str(NOW_MS - 30_001)}, Why.CLOCK),
        ({"ACCESS_TIMESTAMP": str(NOW_MS + 30_001)}, Why.CLOCK),
        ({"ACCESS_TIMESTAMP": ""}, Why.CLOCK),
        ({"ACCESS_TIMESTAMP": "-1"}, Why.CLOCK),
        ({"ACCESS_TIMESTAMP": "9" * 4_000}, Why.CLOCK),
        ({"ACCESS_TIMESTAMP": "²"}, Why.CLOCK),
        ({"ACCESS_PASSPHRASE": "another"}, Why.PASSPHRASE),
        ({"ACCESS_PASSPHRASE": "ünïcode"}, Why.PASSPHRASE),
        ({"ACCESS_SIGN": sign("something else")}, Why.SIGNATURE),
        ({"ACCESS_SIGN": sign(f"{NOW_MS}GET/api/x?a=1 b&c=2", "another")}, Why.SIGNATURE),
    ],
)
def test_each_thing_that_is_wrong_is_refused_by_name(changed: dict[str, str], why: Why) -> None:
    auth = Auth(config(), lambda: NOW_MS)
    with pytest.raises(No) as refused:
        auth.check_request("GET", "/api/x?a=1%20b&c=2", "", headers(**changed))
    assert refused.value.why is why


def test_what_is_signed_is_the_whole_request() -> None:
    auth = Auth(config(), lambda: NOW_MS)
    for method, target, body in (
        ("POST", "/api/x?a=1%20b&c=2", ""),
        ("GET", "/api/y?a=1%20b&c=2", ""),
        ("GET", "/api/x?a=1%20b&c=3", ""),
        ("GET", "/api/x?c=2&a=1%20b", ""),
        ("GET", "/api/x?a=1%20b&c=2", "{}"),
    ):
        with pytest.raises(No, match="signature"):
            auth.check_request(method, target, body, headers())


def test_the_window_is_a_setting_and_its_edge_is_inside() -> None:
    auth = Auth(config(window_s=1.0), lambda: NOW_MS)
    for late_ms in (-1_000, 1_000):
        auth.check_request("GET", "/api/x?a=1%20b&c=2", "", headers(ACCESS_TIMESTAMP=str(NOW_MS + late_ms)))
    with pytest.raises(No, match="clock"):
        auth.check_request("GET", "/api/x?a=1%20b&c=2", "", headers(ACCESS_TIMESTAMP=str(NOW_MS - 1_001)))


@pytest.mark.parametrize("environment", ["demo", "live"])
async def test_a_key_is_of_one_environment(environment: str) -> None:
    async with emulated(environment=environment) as bench:
        assert (await bench.get(ASSETS, PRODUCT))["code"] == "00000"
        bench.demo = not bench.demo
        assert (await bench.get(ASSETS, PRODUCT))["code"] == "40099"
        right, wrong = ("/demo", "") if environment == "demo" else ("", "/demo")
        await bench.private(f"{right}/v2/ws/private")
        socket = await bench.dial(f"{wrong}/v2/ws/private")
        await socket.say({"op": "login", "args": [bench.login()]})
        assert (await socket.hear())["code"] == 30011


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ACCESS_KEY": "another"}, "40006"),
        ({"ACCESS_TIMESTAMP": "1"}, "40008"),
        ({"ACCESS_PASSPHRASE": "another"}, "40012"),
        ({"secret": "another"}, "40009"),
    ],
)
async def test_a_request_that_is_not_in_order_is_refused_with_the_venues_code(
    changed: dict[str, str], code: str
) -> None:
    async with emulated() as bench:
        answer = await bench.get(ASSETS, PRODUCT, **changed)
        assert (answer["code"], answer["data"]) == (code, None)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"apiKey": "another"}, 30011),
        ({"passphrase": "another"}, 30012),
        ({"timestamp": "1"}, 30014),
        ({"sign": "another"}, 30015),
    ],
)
async def test_a_login_that_is_not_in_order_is_refused_and_private_channels_stay_closed(
    changed: dict[str, str], code: int
) -> None:
    async with emulated() as bench:
        socket = await bench.dial("/demo/v2/ws/private")
        await socket.say({"op": "login", "args": [bench.login(**changed)]})
        answer = await socket.hear()
        assert (answer["event"], answer["code"]) == ("error", code)
        await socket.say(
            {"op": "subscribe", "args": [{"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"}]}
        )
        assert (await socket.hear())["code"] == 30004


async def test_a_revoked_key_is_none() -> None:
    async with emulated() as bench:
        bench.emulator.auth.revoked = True
        assert (await bench.get(ASSETS, PRODUCT))["code"] == "40006"


async def test_what_is_remembered_of_a_request_has_no_secret_in_it() -> None:
    async with emulated() as bench:
        await bench.get(ASSETS, PRODUCT)
        _, requests = await bench.control("requests")
        assert requests[-1]["headers"]["PAPTRADING"] == "1"
        for told in (str(bench.emulator.requests), str(requests)):
            assert KEY not in told
            assert PASSPHRASE not in told
    assert shown({"Access-Sign": "x", "ACCESS-TIMESTAMP": "1"}) == {"ACCESS-TIMESTAMP": "1"}
