"""Position and account as both private streams say them: told where they say something new, else refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.core.events import AccountHint
from tests.venues.bitget.heard import MONO_NS, TS_NS, ApiName, Bench, Json, push

BOTH = pytest.mark.parametrize("api", ["classic", "unified"])
AT = (MONO_NS, TS_NS, TS_NS)
MODES = ("crossed", "one_way")


@pytest.fixture(params=["classic", "unified"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def held(**fields: Any) -> Json:
    """A position, as the classic API writes it."""
    row = {
        "instId": "BTCUSDT",
        "marginCoin": "USDT",
        "holdSide": "long",
        "total": "0.0150",
        "openPriceAvg": "64000.123456789",
        "leverage": 5,
        "marginMode": "crossed",
        "posMode": "one_way_mode",
    }
    return row | fields


def money(api: ApiName, balance: str, unrealised: str, **fields: Any) -> Json:
    """An account, as either API writes it."""
    if api == "classic":
        equity = str(float(balance) + float(unrealised))
        return {"marginCoin": "USDT", "available": balance, "equity": equity, "unrealizedPL": unrealised} | fields
    coin = {"coin": "USDT", "balance": balance, "available": "900", "equity": "1000", "debts": "0"} | fields
    return {"unrealisedPnL": unrealised, "coin": [{**coin, "coin": "ETH", "balance": "7"}, coin]}


def hints(bench: Bench, channel: str, *rows: Any) -> list[AccountHint]:
    told = bench.play(push(bench.api, channel, list(rows)))
    assert {name for name, _ in told} <= {"AccountHint"}
    return [it for _, it in told]


def refusal(bench: Bench, channel: str, *rows: Any) -> str:
    ((name, (kind, reason)),) = bench.play(push(bench.api, channel, list(rows)))
    assert (name, kind) == ("refused", channel)
    return reason


def test_a_position_is_signed_and_comes_with_its_terms(bench: Bench) -> None:
    assert hints(bench, "positions", held()) == [AccountHint(*AT, 150, None, 5.0, *MODES)]
    short = held(holdSide="short", leverage="7")
    assert hints(bench, "positions", short) == [AccountHint(*AT, -150, None, 7.0, *MODES)]


def test_both_sides_of_a_hedge_count_against_each_other(bench: Bench) -> None:
    hedge = {"posMode": "hedge_mode", "marginMode": "isolated"}
    rows = [held(**hedge), held(holdSide="short", total="0.01", leverage="20", **hedge)]
    assert hints(bench, "positions", *rows) == [AccountHint(*AT, 50, None, 20.0, "isolated", "hedge")]


def test_what_is_flat(bench: Bench) -> None:
    """The classic channel says all that is held each time; the unified one what changed, an end with a size of 0."""
    assert [hint.position_lots for hint in hints(bench, "positions")] == ([0] if bench.api == "classic" else [])
    bench.streams.reset_private()
    assert [hint.position_lots for hint in hints(bench, "positions", held(total="0", openPriceAvg="0"))] == [0]


def test_others_positions_are_not_ours(bench: Bench) -> None:
    for other in ({"instId": "ETHUSDT"}, {"marginCoin": "USDC"}):
        bench.streams.reset_private()
        lots = [hint.position_lots for hint in hints(bench, "positions", held(total="?", **other))]
        assert lots == ([0] if bench.api == "classic" else [])


@BOTH
def test_a_wallet_is_what_is_realised(api: ApiName) -> None:
    bench = Bench(api)
    row = money(api, "1000.5", "-3.25")
    assert hints(bench, "account", row) == [AccountHint(*AT, None, 10_005_000_000_000)]
    if api == "unified":
        told = hints(bench, "account", money(api, "1000.5", "0", debts="0.5"))
        assert [hint.wallet_e10 for hint in told] == [10_000_000_000_000]


def test_an_account_that_does_not_say_is_no_wallet(bench: Bench) -> None:
    other = money(bench.api, "5", "0", marginCoin="BTC") if bench.api == "classic" else {"coin": []}
    assert hints(bench, "account", other) == []
    assert hints(bench, "account") == []
    if bench.api == "classic":
        row = money("classic", "5", "0")
        del row["unrealizedPL"]
        assert hints(bench, "account", row) == []


def test_the_same_again_is_told_once_a_connection(bench: Bench) -> None:
    """Each order moves the margin, and so is pushed; the core is not woken for it."""
    assert len(hints(bench, "positions", held())) == 1
    assert hints(bench, "positions", held(openPriceAvg="64001", available="0.01")) == []
    assert len(hints(bench, "positions", held(leverage=6))) == 1
    assert len(hints(bench, "positions", held(leverage=6, total="0.02"))) == 1
    assert len(hints(bench, "account", money(bench.api, "1000.5", "-3.25"))) == 1
    assert hints(bench, "account", money(bench.api, "1000.50000001", "4")) == []
    assert len(hints(bench, "account", money(bench.api, "1000.51", "4"))) == 1
    bench.streams.reset_private()
    assert len(hints(bench, "positions", held(leverage=6, total="0.02"))) == 1
    assert len(hints(bench, "account", money(bench.api, "1000.51", "4"))) == 1


@BOTH
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        *(({"total": "NaN"}, "not_a_number"), ({"total": "-1"}, "negative"), ({"total": "0.00015"}, "off_lot")),
        *(({"total": None}, "malformed"), ({"total": 0.015}, "malformed"), ({"holdSide": "net"}, "bad_side")),
        *(({"openPriceAvg": "0"}, "not_positive"), ({"openPriceAvg": ""}, "not_a_number")),
        *(({"leverage": "0"}, "absurd"), ({"leverage": "1e9"}, "absurd"), ({"leverage": ""}, "not_a_number")),
        *(({"marginMode": "?"}, "unknown_mode"), ({"posMode": ""}, "unknown_mode"), ({"instId": 7}, "malformed")),
    ],
)
def test_a_position_that_cannot_be_is_refused(api: ApiName, fields: Json, reason: str) -> None:
    assert refusal(Bench(api), "positions", held(**fields)) == reason


@BOTH
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        *(({"available": "?"}, "not_a_number"), ({"available": None}, "malformed"), ({"equity": 1.5}, "malformed")),
        ({"available": "1e29"}, "absurd"),
    ],
)
def test_an_account_that_cannot_be_is_refused(api: ApiName, fields: Json, reason: str) -> None:
    assert refusal(Bench(api), "account", money(api, "1000.5", "-3.25", **fields)) == reason


def test_rows_that_are_none_say_so(bench: Bench) -> None:
    for channel in ("positions", "account"):
        assert refusal(bench, channel, 7) == "malformed"
        assert bench.play(push(bench.api, channel, {"a": 1})) == [("refused", (channel, "malformed"))]
    assert bench.play(push(bench.api, "account", None)) == []


def test_two_accounts_are_none(bench: Bench) -> None:
    row = money(bench.api, "1000.5", "-3.25")
    assert refusal(bench, "account", row, row) == "absurd"


def test_the_recorded_sample_of_a_classic_position(shared_data: Path) -> None:
    samples = json.loads((shared_data / "bitget_messages" / "ws_examples.json").read_text())
    (row,) = [entry["example"] for entry in samples["parse_ws_position"] if "posId" in entry["example"]]
    told = hints(Bench("classic"), "positions", row)
    assert [(hint.position_lots, hint.leverage, hint.position_mode) for hint in told] == [(10, 20.0, "hedge")]
