"""Private pushes of both APIs: orders and fills exactly as said, or refused; and the venue's own samples of all."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.core.events import AccountHint, Fill, FundingRate, MarkPrice, TradePrint
from mmdaemon.core.types import E10, ExecKind, Instrument, Liquidity, OrderStatus, Side
from mmdaemon.venues.bitget.streams import OrderPush
from tests.venues.bitget.heard import MONO_NS, TS_NS, ApiName, Bench, Json, fill, order, push

BOTH = pytest.mark.parametrize("api", ["classic", "unified"])
AT = (MONO_NS, TS_NS, TS_NS)


@pytest.fixture(params=["classic", "unified"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def pushed(bench: Bench, **fields: Any) -> OrderPush:
    ((name, it),) = bench.play(push(bench.api, "orders", [order(**fields)]))
    assert name == "OrderPush"
    return it


def filled(bench: Bench, fee: str = "0.038", **fields: Any) -> Fill:
    ((name, it),) = bench.play(push(bench.api, "fill", [fill(bench.api, fee, **fields)]))
    assert name == "Fill"
    return it


def refusal(bench: Bench, channel: str, *rows: Json) -> list[str]:
    told = bench.play(push(bench.api, channel, list(rows)))
    assert {name for name, _ in told} == {"refused"}
    assert {kind for _, (kind, _) in told} == {"orders" if channel == "orders" else "fills"}
    return [reason for _, (_, reason) in told]


def test_an_order(bench: Bench) -> None:
    assert pushed(bench) == OrderPush(
        *AT, "mmabcd-1-7", "1171636690028761089", Side.BUY, OrderStatus.LIVE, 0, 640_001, 150, ""
    )


def test_filled_is_all_of_it_and_not_the_last_fill(bench: Bench) -> None:
    """ccxt shows `baseVolume`, which is the size of the fill that the push is about."""
    told = pushed(bench, status="partially_filled", accBaseVolume="0.0100", baseVolume="0.006")
    assert (told.status, told.cum_filled_lots, told.qty_lots) == (OrderStatus.PARTIAL, 100, 150)


@pytest.mark.parametrize(
    ("status", "filled_text", "meant"),
    [
        *(("init", "0", OrderStatus.LIVE), ("new", "0", OrderStatus.LIVE), ("live", "0.001", OrderStatus.PARTIAL)),
        *(("filled", "0.015", OrderStatus.FILLED), ("cancelled", "0", OrderStatus.CANCELLED)),
        *(("canceled", "0.01", OrderStatus.CANCELLED), ("partially_filled", "0", OrderStatus.LIVE)),
    ],
)
def test_words_of_an_orders_life(bench: Bench, status: str, filled_text: str, meant: OrderStatus) -> None:
    assert pushed(bench, status=status, accBaseVolume=filled_text).status is meant


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("normal_cancel", "cancelled"),
        ("stp_cancel", "self_trade"),
        ("post_only_cancel", "post_only"),
        ("", ""),
        ("?", "cancelled"),
    ],
)
def test_why_it_was_cancelled_is_in_our_words(bench: Bench, word: str, reason: str) -> None:
    """No text of the venue goes into a journal row or a label."""
    assert pushed(bench, status="cancelled", cancelReason=word).reason == reason
    assert pushed(bench, status="live", cancelReason=word).reason == ""


def test_whose_order_it_is(bench: Bench) -> None:
    assert pushed(bench, clientOid="1171636690041344003").client_id == "1171636690041344003"
    assert pushed(bench, clientOid="").client_id == "venue:1171636690028761089"
    assert pushed(bench, clientOid=None).client_id == "venue:1171636690028761089"
    assert pushed(bench, clientOid="drop table\x00").client_id == "venue:1171636690028761089"


def test_a_market_order_has_no_price(bench: Bench) -> None:
    for price in ("0", "0.0", "", None):
        assert pushed(bench, price=price, clientOid="").px_ticks is None


@BOTH
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        *(({"status": "triggered"}, "unknown_status"), ({"side": "long"}, "bad_side"), ({"size": "0"}, "no_size")),
        *(({"accBaseVolume": "0.0151"}, "overfilled"), ({"accBaseVolume": "-0.001"}, "negative")),
        *(({"price": "64000.15"}, "off_tick"), ({"price": "NaN"}, "not_a_number"), ({"uTime": "soon"}, "bad_time")),
        *(({"orderId": " ", "clientOid": ""}, "bad_id"), ({"accBaseVolume": None}, "malformed")),
        *(({"size": 0.015}, "malformed"), ({"clientOid": 7}, "malformed")),
    ],
)
def test_an_order_that_cannot_be_is_refused(api: ApiName, fields: Json, reason: str) -> None:
    assert refusal(Bench(api), "orders", order(**fields)) == [reason]


# --- fills ------------------------------------------------------------------------------------------------------------


def test_a_fill(bench: Bench) -> None:
    assert filled(bench) == Fill(
        *AT, "1171636690314407937", "mmabcd-1-7", Side.BUY, 640_001, 100, 380_000_000, Liquidity.MAKER, ExecKind.TRADE
    )


def test_a_rebate_is_negative_and_a_cost_is_not(bench: Bench) -> None:
    """The classic API writes a cost below zero, the unified one above; ccxt takes the absolute of both."""
    assert filled(bench, fee="0.03842754", tradeScope="taker").fee_e10 == 384_275_400
    assert filled(bench, fee="-0.0064").fee_e10 == -64_000_000
    assert filled(bench, fee="0").fee_e10 == 0


def test_a_fee_of_several_parts(bench: Bench) -> None:
    (part,) = fill(bench.api, "0.01")["feeDetail"]
    assert filled(bench, feeDetail=[part, part]).fee_e10 == 200_000_000


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        *(("open", ExecKind.TRADE), ("close", ExecKind.TRADE), ("sell_single", ExecKind.TRADE)),
        *(("burst_sell_single", ExecKind.LIQUIDATION), ("reduce_buy_single", ExecKind.LIQUIDATION)),
        *(("burst_close_long", ExecKind.LIQUIDATION), ("dte_sys_adl_sell_in_single_side_mode", ExecKind.ADL)),
    ],
)
def test_why_a_fill_happened(bench: Bench, word: str, kind: ExecKind) -> None:
    assert filled(bench, tradeSide=word).exec_kind is kind
    if kind is not ExecKind.TRADE:
        assert filled(bench, tradeSide=word, clientOid="").client_id == "venue:1171636690028761089"


def test_a_word_of_liquidation_beside_it_counts(bench: Bench) -> None:
    assert filled(bench, tradeSide="close", execType="normal").exec_kind is ExecKind.TRADE
    assert filled(bench, tradeSide="close", execType="liquidation").exec_kind is ExecKind.LIQUIDATION
    assert refusal(bench, "fill", fill(bench.api, execType="offset")) == ["unknown_kind"]


@BOTH
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        *(
            ({"tradeSide": "offset_close_long"}, "unknown_kind"),
            ({"tradeSide": "delivery_sell_single"}, "unknown_kind"),
        ),
        *(({"tradeSide": ""}, "unknown_kind"), ({"tradeSide": None}, "unknown_kind"), ({"side": "short"}, "bad_side")),
        *(({"tradeScope": "T"}, "bad_scope"), ({"baseVolume": "0"}, "no_size"), ({"baseVolume": "-1"}, "negative")),
        *(({"price": "0"}, "not_positive"), ({"price": "64000.11"}, "off_tick"), ({"feeDetail": []}, "no_fee")),
        *(({"tradeId": ""}, "bad_id"), ({"uTime": None}, "bad_time"), ({"clientOid": ""}, "unknown_order")),
        *(({"feeDetail": None}, "malformed"), ({"feeDetail": [{"feeCoin": "USDT"}]}, "malformed")),
        *(({"price": 64000.1}, "malformed"), ({"tradeId": 5}, "malformed")),
    ],
)
def test_a_fill_that_is_not_understood_is_told_as_refused(api: ApiName, fields: Json, reason: str) -> None:
    """Only what is known to be a trade is booked as one; and nothing of it is guessed."""
    assert refusal(Bench(api), "fill", fill(api, **fields)) == [reason]


@pytest.mark.parametrize(
    ("changed", "fee_e10", "fees_in"),
    [
        ({"feeCoin": "BGB"}, 0, {"BGB"}),
        ({"deduction": "yes"}, 380_000_000, {"a deduction"}),
        ({"deduction": True}, 380_000_000, {"a deduction"}),  # as reads take it: a fill that is refused ends the stream
        ({"deduction": False}, 380_000_000, set[str]()),
    ],
)
def test_a_fee_in_another_coin_is_remembered(bench: Bench, changed: Json, fee_e10: int, fees_in: set[str]) -> None:
    """The fill is booked with what it cost in quote currency; that it cost more is for the account's facts to say."""
    (part,) = fill(bench.api)["feeDetail"]
    assert bench.fees_in == set()
    assert filled(bench, feeDetail=[part | changed]).fee_e10 == fee_e10
    assert bench.fees_in == fees_in


def test_a_fee_in_no_coin_is_refused(bench: Bench) -> None:
    (part,) = fill(bench.api)["feeDetail"]
    assert refusal(bench, "fill", fill(bench.api, feeDetail=[part | {"feeCoin": ""}])) == ["fee_coin"]


def test_a_fill_without_our_id_is_of_the_order_that_is_known_by_the_venues(bench: Bench) -> None:
    """Samples of the classic channel have none."""
    bench.streams.learn("42", "mmabcd-1-9")  # from the answer to placing it
    assert filled(bench, clientOid=None, orderId="42").client_id == "mmabcd-1-9"
    pushed(bench, orderId="43", clientOid="mmabcd-1-10")  # from its push
    bench.streams.reset_private()
    assert filled(bench, clientOid="", orderId="43").client_id == "mmabcd-1-10"
    pushed(bench, orderId="44", clientOid="")  # another's
    assert filled(bench, clientOid="", orderId="44").client_id == "venue:44"
    for i in range(5_000):
        bench.streams.learn(f"n{i}", "mmabcd-1-11")
    assert len(bench.streams._client_ids) <= 4_096


def test_one_bad_row_costs_no_other(bench: Bench) -> None:
    rows = [fill(bench.api), fill(bench.api, price=7), fill(bench.api, tradeId="2"), fill(bench.api, tradeSide="?")]
    told = bench.play(push(bench.api, "fill", rows))
    assert [name for name, _ in told] == ["Fill", "Fill", "refused", "refused"]
    assert [reason for _, (_, reason) in told[2:]] == ["malformed", "unknown_kind"]
    told = bench.play(push(bench.api, "orders", [order(status="?"), order(), 7]))
    assert [name for name, _ in told] == ["OrderPush", "refused", "refused"]


def test_rows_of_other_symbols_are_not_ours_to_judge(bench: Bench) -> None:
    eth = "ETHUSDT"
    assert bench.play(push(bench.api, "orders", [order(instId=eth, price="?")])) == []
    assert bench.play(push(bench.api, "fill", [fill(bench.api, symbol=eth, tradeSide="?")])) == []
    if bench.api == "unified":  # spot has the same symbols, and one stream for all
        assert bench.play(push("unified", "fill", [fill("unified", category="spot")])) == []
        assert bench.play(push("unified", "orders", [order(category="coin-futures")])) == []
        assert len(bench.play(push("unified", "fill", [fill("unified", category="USDT-FUTURES")]))) == 1


def test_no_rows_are_none(bench: Bench) -> None:
    for rows in ([], None):
        assert bench.play(push(bench.api, "orders", rows), push(bench.api, "fill", rows)) == []
    assert [it[1] for _, it in bench.play(push(bench.api, "fill", [7]))] == ["malformed"]
    assert bench.play(push(bench.api, "fill", {"a": 1})) == [("refused", ("fills", "malformed"))]


def test_a_private_push_of_another_product_is_refused(bench: Bench) -> None:
    ((name, fact),) = bench.play(push(bench.api, "fill", [fill(bench.api)], instType="SPOT"))
    assert (name, fact.reason) == ("MarketDataRefused", "wrong_product")


# --- the venue's own samples ------------------------------------------------------------------------------------------


def cents(symbol: str) -> Instrument:
    return Instrument.of(venue="bitget", symbol=symbol, tick_e10=E10 // 100, lot_e10=E10 // 10_000)


def played(sample: Json, symbol: str, **arg: str) -> list[tuple[str, Any]]:
    """What is told of a sample, with a word of its subscription made that of our product."""
    bench = Bench("unified" if "topic" in sample["arg"] else "classic", instrument=cents(symbol))
    bench.now = (MONO_NS, sample["ts"] * 1_000_000)
    bench.streams.set_interval_s(28_800)
    bench.streams._is_first_trades = False
    bench.streams.learn("1169142761031114781", "mmabcd-1-8")
    return bench.play(sample | {"arg": sample["arg"] | arg})


def test_every_sample_of_our_channels_decodes(shared_data: Path) -> None:
    samples: dict[str, list[Json]] = json.loads((shared_data / "bitget_messages" / "ws_examples.json").read_text())
    pushes = [entry["example"] for name in samples for entry in samples[name] if isinstance(entry["example"], dict)]
    pushes = [sample for sample in pushes if "data" in sample]
    futures = {
        (sample["arg"].get("channel") or sample["arg"]["topic"], "topic" in sample["arg"]): sample
        for sample in pushes
        if sample["arg"]["instType"] in ("USDT-FUTURES", "UTA")
    }
    assert len(pushes) == 19
    assert len(futures) == 8

    at = (MONO_NS, 1_701_843_962_812_000_000, 1_701_843_962_811_000_000)
    assert [fact for _, fact in played(futures["ticker", False], "BTCUSDT")] == [
        MarkPrice(*at, 4_347_640),
        FundingRate(*at, 0.000096, 1_701_849_600_000_000_000, 28_800),
    ]
    at = (MONO_NS, 1_714_471_276_629_000_000, 1_714_471_276_596_000_000)
    ids = ("1169142761312637004", "mmabcd-1-8")
    assert played(futures["fill", False], "LTCUSDT") == [
        ("Fill", Fill(*at, *ids, Side.BUY, 8_087, 1_000, 48_522_000, Liquidity.TAKER, ExecKind.TRADE))
    ]
    at = (MONO_NS, 1_733_904_123_981_000_000, 1_736_378_720_623_000_000)
    ids = ("1288888888888888888", "1288888888888888889")
    assert played(futures["fill", True], "BTCUSDT") == [
        ("Fill", Fill(*at, *ids, Side.BUY, 9_499_300, 100, 5_699_580_000, Liquidity.TAKER, ExecKind.TRADE))
    ]
    at = (MONO_NS, 1_742_367_838_124_000_000, 1_742_367_838_115_000_000)
    assert played(futures["order", True], "BTCUSDT") == [
        ("OrderPush", OrderPush(*at, "xxx", "xxx", Side.BUY, OrderStatus.FILLED, 10, None, 10, ""))
    ]
    assert played(futures["orders", False], "BTCUSDT") == []  # without rows
    at = (MONO_NS, 1_730_711_666_652_000_000, 1_730_711_666_652_000_000)
    hint = AccountHint(*at, 0, None, 20.0, "crossed", "hedge")
    assert played(futures["position", True], "BTCUSDT") == [("AccountHint", hint)]
    assert played(futures["account", False], "BTCUSDT") == []  # it does not say what of it is unrealised
    assert played(futures["account", True], "BTCUSDT") == []  # of another coin

    (trades,) = [sample for sample in pushes if sample["arg"].get("channel") == "trade"]
    at = (MONO_NS, 1_701_910_980_730_000_000, 1_701_910_980_366_000_000)
    told = [("TradePrint", TradePrint(*at, 4_385_401, 535, Side.BUY))]
    assert played(trades, "BTCUSDT", instType="USDT-FUTURES") == told
    assert played(trades | {"data": trades["data"] * 2}, "BTCUSDT", instType="USDT-FUTURES") == told


def test_samples_of_other_products_and_channels_say_nothing(shared_data: Path) -> None:
    samples: dict[str, list[Json]] = json.loads((shared_data / "bitget_messages" / "ws_examples.json").read_text())
    handed_on = 0
    for entry in (entry for entries in samples.values() for entry in entries):
        sample = entry["example"]
        is_ours = isinstance(sample, dict) and sample.get("arg", {}).get("instType") in ("USDT-FUTURES", "UTA")
        for api in ("classic", "unified"):
            bench = Bench(api)
            if isinstance(sample, dict) and not is_ours:
                handed_on += not bench.streams.on_frame(json.dumps(sample))
                assert {name for name, _ in bench.heard.take()} <= {"MarketDataRefused"}
    assert handed_on > 30
