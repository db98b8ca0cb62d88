"""`explain` on a real journal: what it shows adds up, is what was journaled, and says why."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmdaemon.cli.addends import Held, edge_sources, held, model_figures, why_missing
from mmdaemon.cli.console import Console
from mmdaemon.cli.explained import rungs_table, show
from mmdaemon.cli.explanation import DecisionStory, Explanation, rung_of, story_of
from mmdaemon.cli.judged import bound_at
from mmdaemon.cli.main import main
from mmdaemon.cli.shown import apportioned, utc
from mmdaemon.core.decision import Decision, DecisionInputs, DeriskStage
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide, floor_distance_bps
from mmdaemon.core.types import E10, GuardState, Purpose, Regime, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import DecisionRow
from tests.cli.conftest import Played

CENT = Decimal("0.0001")


@pytest.fixture
def journal(played: Played) -> Any:
    with JournalReader(played.path / "journal.sqlite") as reader:
        yield reader


@pytest.fixture
def params(journal: JournalReader) -> Params:
    blob = journal.params(1)
    assert blob is not None
    return msgspec.msgpack.decode(blob, type=Params)


def run(played: Played, *arguments: str) -> int:
    return main(["explain", *arguments, "--state-dir", str(played.path)])


def told(played: Played, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(played, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def ids(journal: JournalReader, where: str) -> list[str]:
    query = f"SELECT client_id FROM orders o WHERE epoch = 1 AND {where} ORDER BY updated_seq"
    return [client_id for (client_id,) in journal.db.execute(query)]


def stories(journal: JournalReader, params: Params, every: int) -> list[tuple[DecisionRow, DecisionStory]]:
    rows = list(journal.decisions(1))[::every]
    return [(row, story_of(journal, row, params)) for row in rows]


# --- what is shown adds up --------------------------------------------------------------------------------------------


def test_addends_sum_to_the_quoted_price_and_to_the_required_edge(journal: JournalReader, params: Params) -> None:
    rungs = 0
    for row, story in stories(journal, params, 5):
        made = msgspec.msgpack.decode(row.decision, type=Decision)
        for edge, raw in zip(story.edges, (made.buy_edge, made.sell_edge), strict=True):
            assert sum(addend.bps for addend in edge.addends) == edge.required_bps
            assert abs(edge.required_bps - Decimal(raw.total_bps)) <= CENT / 2
            for addend in edge.addends:
                assert abs(addend.bps - Decimal(getattr(raw, f"{addend.name}_bps"))) <= CENT
        assert len(story.rungs) == len(made.quotes)
        for rung, quote in zip(story.rungs, made.quotes, strict=True):
            rungs += 1
            assert sum(addend.ticks or 0 for addend in rung.addends) == quote.px_ticks == rung.px_ticks
            assert sum(addend.bps for addend in rung.addends) == rung.from_fair_bps
            assert rung.price * E10 == quote.px_ticks * params.instrument.tick_e10
            for addend in rung.addends:
                assert addend.ticks is not None
                assert abs(addend.ticks - Decimal(getattr(quote.addends, addend.name))) <= CENT
                assert rung.addends[0].ticks == story.rungs[0].addends[0].ticks
    assert rungs > 300


def test_addends_that_do_not_sum_are_refused() -> None:
    assert apportioned([1.0, 0.00004, 0.00004, 0.00002], Decimal("1.0001")) == [1, CENT, 0, 0]
    assert apportioned([2.0, -0.33333, -0.33333, -0.33334], Decimal(1)) == [
        2,
        *map(Decimal, ("-0.3333", "-0.3333", "-0.3334")),
    ]
    assert all(not each.is_signed() for each in apportioned([-0.0, 0.0, -0.0], Decimal(0)))
    with pytest.raises(ValueError, match=r"come to 1\.0000 and should be 2"):
        apportioned([0.5, 0.5], Decimal(2))


def test_every_input_is_in_the_table(journal: JournalReader, params: Params) -> None:
    row, story = stories(journal, params, 1)[900]
    seen = msgspec.msgpack.decode(row.inputs, type=DecisionInputs)
    assert tuple(each.field for each in story.inputs) == DecisionInputs.__struct_fields__
    shown = {each.field: each.value for each in story.inputs}
    assert Decimal(shown["bid_px_ticks"]) * E10 == seen.bid_px_ticks * params.instrument.tick_e10
    assert Decimal(shown["position_lots"]) * E10 == seen.position_lots * params.instrument.lot_e10
    assert Decimal(shown["equity_e10"]) * E10 == seen.equity_e10
    assert (shown["guard"], shown["regime"]) == (seen.guard, seen.regime)
    assert all(each.meaning for each in story.inputs)


def test_a_price_s_addends_sum_in_money_too_and_the_sum_of_what_was_journaled_is_told(
    journal: JournalReader, params: Params
) -> None:
    signals = 0
    for row, story in stories(journal, params, 7):
        made = msgspec.msgpack.decode(row.decision, type=Decision)
        for rung, quote in zip(story.rungs, made.quotes, strict=True):
            assert sum(addend.price or 0 for addend in rung.addends) == rung.price
            assert rung.sum_ticks == rung.px_ticks == Decimal(quote.addends.total)
            signals += any(addend.name == "signal" and addend.ticks for addend in rung.addends)
    assert signals > 10


def test_a_quote_whose_addends_miss_its_tick_by_the_least_is_refused(quoting: DecisionInputs, params: Params) -> None:
    """Exactly is exactly: a millionth of a tick would not show in what is printed."""
    quote = decide(quoting, params).quotes[0]
    assert rung_of(quote, params.instrument).sum_ticks == quote.px_ticks
    off = msgspec.structs.replace(quote.addends, rounding=quote.addends.rounding + 1e-6)
    with pytest.raises(ValueError, match="addends come to"):
        rung_of(msgspec.structs.replace(quote, addends=off), params.instrument)


def test_each_addend_of_the_required_edge_has_its_source(quoting: DecisionInputs, params: Params) -> None:
    seen = msgspec.structs.replace(quoting, regime=Regime.UP, carry_bps=-0.12, adverse_buy_bps=0.5, taker_share=0.05)
    sources = edge_sources(seen, params, {"fees": "read from the account", "funding": "-0.0001, due 08:00:00"})
    assert sources == {
        "maker_fee": "the account's own rate (read from the account)",
        "exit": "p_taker 0.05, as measured, x (taker 2 - maker 0.5 + slippage 5)",
        "adverse": "markouts 5 s after our fills of the side in up: measured, at most 10",
        "carry": "funding costs a long -0.12: sells pay it, at most 3 (-0.0001, due 08:00:00)",
        "turnover": "the day's, from 2 to 3 x equity, at most 5",
        "min_edge": "the setting cost.min_edge_bps",
    }
    made = decide(seen, params)
    assert made.sell_edge.carry_bps == 0.12
    assert made.buy_edge.exit_bps == pytest.approx(0.05 * (2 - 0.5 + 5))


def figures_of(seen: DecisionInputs, params: Params) -> dict[str, str]:
    return {each.field: each.value for each in model_figures(seen, decide(seen, params), params)}


def test_the_ladder_s_half_spread_is_made_of_what_is_told(quoting: DecisionInputs, params: Params) -> None:
    seen = msgspec.structs.replace(quoting, band_bps=3.0, drift_multiplier=1.1, tracker_multiplier=1.5)
    told_of = figures_of(seen, params)
    base = max(float(told_of["spread_min"]), float(told_of["touch"])) + 0.1 * 3.0
    assert told_of["band"] == "0.1 x 3"
    assert told_of["multipliers"] == "1.1 x 1.5 x 1"
    assert float(told_of["half"]) == pytest.approx(min(base, float(told_of["half_max"])) * 1.65, abs=1e-3)
    assert figures_of(msgspec.structs.replace(seen, guard=GuardState.SOFT_PAUSE), params) == {}


def test_the_closed_form_s_half_spread_is_made_of_what_is_told(quoting: DecisionInputs, params: Params) -> None:
    glft = msgspec.structs.replace(params, quotes=msgspec.structs.replace(params.quotes, model="glft"))
    seen = msgspec.structs.replace(quoting, sigma_bps=0.8, position_lots=3, drift_multiplier=1.0)
    told_of = figures_of(seen, glft)
    assert float(told_of["half"]) == pytest.approx(float(told_of["c1"]) + float(told_of["c2_half"]), abs=2e-4)
    assert float(told_of["skew"]) == pytest.approx(float(told_of["c2_skew"]), abs=2e-4)
    fair = quoting.fair_ticks
    assert fair is not None
    # c2 in its own unit: Delta / 2 * sigma * c2, with Delta in base and sigma in price.
    sigma_px = 0.8e-4 * fair * 0.1
    half_px = float(told_of["delta"]) / 2 * sigma_px * float(told_of["c2"])
    assert half_px / (fair * 0.1) * 1e4 == pytest.approx(float(told_of["c2_half"]), abs=2e-4)
    unknown = figures_of(msgspec.structs.replace(seen, sigma_bps=0.0), glft)
    assert "sigma is not known yet" in unknown["c2"]
    assert unknown["half"] == unknown["half_max"] + ".0000"


def test_a_side_that_is_held_says_since_when(journal: JournalReader, copied: Path, params: Params) -> None:
    """By the first of the decisions in a row that had it so."""
    rows = list(journal.decisions(1))[100:110]
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        for row in rows[3:]:
            seen = msgspec.msgpack.decode(row.inputs, type=DecisionInputs)
            pulled = msgspec.structs.replace(seen, no_buy="pulled", guard=GuardState.RUNNING, position_lots=0)
            db.execute(
                "UPDATE decisions SET inputs = ?, decision = ? WHERE epoch = 1 AND seq = ?",
                (msgspec.msgpack.encode(pulled), msgspec.msgpack.encode(decide(pulled, params)), row.seq),
            )
    db.close()
    with JournalReader(copied / "journal.sqlite") as changed:
        last = changed.decision_at(1, rows[-1].seq)
        assert last is not None
        assert held(changed, last, Side.BUY, params) == Held(rows[3].mono_ns, rows[3].ts_ns)
        assert held(changed, last, Side.SELL, params) is None
        story = story_of(changed, last, params)
    assert f"taken out at {utc(rows[3].ts_ns)}, until {utc(rows[3].ts_ns + 900 * 10**9)} UTC" in story.no_bid
    assert "pulled" not in story.no_ask


def test_a_pull_is_judged_again_as_the_core_did(journal: JournalReader, params: Params) -> None:
    """Over all fills of the run, and over none."""
    loose = msgspec.structs.replace(params.quality, pull_min_fills=10, pull_memory_ns=7_200 * 10**9)
    judged = msgspec.structs.replace(params, quality=loose)
    fills = [fill for fill in journal.fills(1) if fill.side is Side.SELL and fill.liquidity == "maker"]
    end_ns = fills[-1].mono_ns + 120 * 10**9
    bound = bound_at(journal, 1, Side.SELL, 0, end_ns, judged)
    assert bound is not None
    kept = {m.trade_id: m for m in journal.markouts(1) if m.horizon_s == 5 and m.impact_bps is not None}
    net = []
    for fill in fills:
        if (m := kept.get(fill.trade_id)) is not None:
            assert m.impact_bps is not None
            value_e10 = fill.px_ticks * fill.qty_lots * params.instrument.unit_e10
            net.append(m.effective_bps + m.impact_bps - fill.fee_e10 / value_e10 * 1e4)
    assert bound.fills == len(net) > 20
    assert bound.mean_bps == pytest.approx(sum(net) / len(net), abs=1e-4)
    assert bound.mean_bps < bound.upper_bps
    assert bound_at(journal, 1, Side.SELL, end_ns, end_ns, judged) is None
    said = why_missing(
        Side.SELL,
        msgspec.structs.replace(next(iter_inputs(journal)), no_sell="pulled"),
        msgspec.structs.replace(next(iter_decisions(journal)), quotes=(), no_ask="pulled"),
        params,
        "",
        Held(1, 1_767_254_130 * 10**9, bound),
    )
    assert f"(mean {bound.mean_bps:+.4f} bps, at most {bound.upper_bps:+.4f}, over {bound.fills} fills)" in said


def iter_inputs(journal: JournalReader) -> Iterator[DecisionInputs]:
    return (msgspec.msgpack.decode(row.inputs, type=DecisionInputs) for row in journal.decisions(1))


def iter_decisions(journal: JournalReader) -> Iterator[Decision]:
    return (msgspec.msgpack.decode(row.decision, type=Decision) for row in journal.decisions(1))


def test_what_a_minute_said_of_fees_and_funding_is_a_source(journal: JournalReader, params: Params) -> None:
    row = list(journal.decisions(1))[900]
    story = story_of(journal, row, params)
    sources = {addend.name: addend.source for addend in story.edges[0].addends}
    assert sources["maker_fee"] == "the account's own rate (from simulated)"
    found = re.search(r"\(rate ([+-]\S+) due (\d\d:00:00), as of (\d\d:\d\d:\d\d)\)", sources["carry"])
    assert found is not None
    minute = [each for each in journal.minutes(1) if each.ts_ns <= row.ts_ns][-1]
    assert minute.funding_rate is not None
    assert float(found[1]) == pytest.approx(minute.funding_rate, rel=1e-5)
    assert found[2] == "08:00:00"


def test_an_order_that_works_a_position_down_is_told_as_such(quoting: DecisionInputs, params: Params) -> None:
    seen = msgspec.structs.replace(
        quoting, guard=GuardState.REDUCING, position_lots=30, derisk=DeriskStage.TAKER, signal_bps=0.2
    )
    made = decide(seen, params)
    (rung,) = [rung_of(quote, params.instrument) for quote in made.quotes]
    assert (rung.purpose, rung.side, rung.takes) == ("derisk", "sell", True)
    assert sum(addend.ticks or 0 for addend in rung.addends) == rung.px_ticks
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(rungs_table([(0, rung)], 0, "USDT"))
    assert "ask, derisk (takes) <, ticks" in capture.get()


# --- the decision behind an order -------------------------------------------------------------------------------------


def test_each_placed_quote_is_found_on_its_rung(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    never_amended = ids(
        journal, "purpose = 'quote' AND (SELECT count(*) FROM intents i WHERE i.client_id = o.client_id) = 1"
    )
    assert len(never_amended) > 10
    for client_id in never_amended[:25]:
        found = told(played, capsys, client_id)
        history = journal.order(client_id)
        assert history is not None
        intent = history.intents[0]
        assert found["decision"]["seq"] <= intent.seq
        rung = found["decision"]["rungs"][found["rung"]]
        assert (rung["px_ticks"], rung["level"]) == (intent.px_ticks, intent.level)
        assert rung["side"] == found["order"]["side"]
        assert Decimal(rung["price"]) == Decimal(found["order"]["life"][0]["price"])


def test_the_last_fill(played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]) -> None:
    fill = journal.last_fill()
    assert fill is not None
    found = told(played, capsys, "--last-fill")
    assert found["subject"] == f"fill {fill.trade_id} of order {fill.client_id}"
    assert found == told(played, capsys, fill.trade_id)
    rung = found["decision"]["rungs"][found["rung"]]
    assert rung["px_ticks"] == fill.px_ticks
    filled = [line for line in found["order"]["life"] if line["what"] == "FILL"]
    assert sum(Decimal(line["qty"]) for line in filled) == Decimal(found["order"]["filled"])
    assert f"trade {fill.trade_id}" in filled[-1]["why"]
    assert "bps from the mark" in filled[-1]["why"]


def test_a_fill_is_explained_by_the_price_it_had(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by a later amend, which may have been on its way when the venue filled the order."""
    query = (
        "SELECT f.trade_id FROM fills f JOIN orders o USING (client_id) WHERE f.epoch = 1 AND o.purpose = 'quote' "
        "AND EXISTS (SELECT 1 FROM intents i WHERE i.client_id = f.client_id AND i.px_ticks != f.px_ticks AND "
        "i.seq < f.seq AND i.revision = (SELECT max(revision) FROM intents j WHERE j.client_id = f.client_id))"
    )
    late = [trade_id for (trade_id,) in journal.db.execute(query)]
    assert late
    for trade_id in late[:10]:
        fill = journal.fill(trade_id)
        assert fill is not None
        found = told(played, capsys, trade_id)
        assert found["decision"]["rungs"][found["rung"]]["px_ticks"] == fill.px_ticks
        assert any(line["what"] == "amend failed" for line in found["order"]["life"]) or fill.qty_lots


def test_an_order_of_the_kill_switch_has_no_decision(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    flattened = ids(journal, f"purpose = '{Purpose.FLATTEN}'")
    assert flattened
    found = told(played, capsys, flattened[0])
    assert found["decision"] is None
    assert "kill switch" in found["no_decision"]
    assert found["order"]["life"][0]["what"] == "place"


# --- its life ---------------------------------------------------------------------------------------------------------


def test_a_life_is_whole_and_in_order(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    for client_id in ids(journal, "purpose = 'quote'")[::20]:
        history = journal.order(client_id)
        assert history is not None
        life = told(played, capsys, client_id)["order"]["life"]
        parts = (history.intents, history.cancels, history.events, history.fills)
        assert len(life) == sum(map(len, parts))
        assert life[0]["what"] == "place"
        assert life[0]["age_s"] == 0
        assert [line["seq"] for line in life] == sorted(line["seq"] for line in life)
        ages = [line["age_s"] for line in life]
        assert ages == sorted(ages)
        asked = [
            line
            for line in life
            if line["what"].startswith(("place", "amend ", "cancel")) and "failed" not in line["what"]
        ]
        assert all(line["why"] for line in asked if line["what"] != "cancelled")
        ends = [i for i, line in enumerate(life) if line["what"] in {"filled", "cancelled", "rejected"}]
        assert ends
        for line in life[ends[0] + 1 :]:
            assert line["what"] in {"FILL", "amend failed", "cancel failed"} or "late" in line["why"]


def reasons_for_cancels(played: Played, capsys: pytest.CaptureFixture[str], client_ids: list[str]) -> set[str]:
    lines = [line for each in client_ids for line in told(played, capsys, each)["order"]["life"]]
    return {line["why"] for line in lines if line["what"] in {"cancel", "cancelled"}}


def cancelled_by(journal: JournalReader, to_state: str, reason: str) -> list[str]:
    query = "SELECT seq FROM transitions WHERE epoch = 1 AND to_state = ? AND reasons = ?"
    (seq,) = journal.db.execute(query, (to_state, reason)).fetchone()
    return ids(journal, f"client_id IN (SELECT client_id FROM cancels WHERE epoch = 1 AND seq = {seq})")


def test_why_a_pause_cancelled(played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]) -> None:
    cancelled = cancelled_by(journal, "soft_pause", "operator_pause")
    assert cancelled
    assert "guard: soft_pause (operator_pause) quotes nothing" in reasons_for_cancels(played, capsys, cancelled)


def test_why_a_kill_cancelled(played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]) -> None:
    cancelled = cancelled_by(journal, "hard_stop", "kill")
    assert cancelled
    assert "guard: hard_stop (kill) quotes nothing" in reasons_for_cancels(played, capsys, cancelled)


def test_an_end_that_nobody_here_asked_for(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = ids(
        journal,
        "status = 'cancelled' AND reason = 'post_only' "
        "AND NOT EXISTS (SELECT 1 FROM cancels c WHERE c.client_id = o.client_id)",
    )
    assert taken
    assert reasons_for_cancels(played, capsys, taken[:1]) == {"post_only; no cancel of ours: the venue's own doing"}


def test_without_a_cancel_of_ours_the_kill_switch_is_named(
    copied: Path, played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    client_id = cancelled_by(journal, "hard_stop", "kill")[0]
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM cancels WHERE client_id = ?", (client_id,))
    db.close()
    why = reasons_for_cancels(Played(copied, 0, 0), capsys, [client_id])
    assert why == {"by the kill switch: fire drill"}


def test_why_an_order_was_moved(played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each amend for its price: the order stood outside what every rung leaves alone, and the rung named wants
    it."""
    checked = 0
    for client_id in ids(journal, "revision > 2")[:8]:
        life = told(played, capsys, client_id)["order"]["life"]
        sent = [line for line in life if line["price"] and line["what"].startswith(("place", "amend "))]
        for before, after in pairwise(sent):
            if not after["why"].startswith("price: "):
                continue
            made = journal.decision_at(1, after["seq"])
            assert made is not None
            quotes = msgspec.msgpack.decode(made.decision, type=Decision).quotes
            stood = Decimal(before["price"]) * 10
            side = told(played, capsys, client_id)["order"]["side"]
            ranges = [(q.lo_px_ticks, q.hi_px_ticks) for q in quotes if q.side.name.lower() == side]
            assert not any(lo <= stood <= hi for lo, hi in ranges)
            assert f"wants {after['price']}," in after["why"]
            checked += 1
    assert checked > 5


# --- why a side is missing --------------------------------------------------------------------------------------------


@pytest.fixture
def quoting(journal: JournalReader) -> DecisionInputs:
    """Inputs from which both sides were quoted, with nothing held."""
    for row in journal.decisions(1):
        seen = msgspec.msgpack.decode(row.inputs, type=DecisionInputs)
        made = msgspec.msgpack.decode(row.decision, type=Decision)
        if {quote.side for quote in made.quotes} == {Side.BUY, Side.SELL}:
            return msgspec.structs.replace(seen, position_lots=0)
    raise AssertionError("both sides were never quoted")


@pytest.mark.parametrize(
    ("change", "no_bid", "no_ask"),
    [
        ({}, "", ""),
        ({"position_lots": 10**6}, "inventory: position 100.0000 has reached its largest, 0.0", ""),
        ({"adverse_sell_bps": 60.0, "no_sell": "edge"}, "", "edge: a fill must earn 6"),
        ({"no_buy": "pulled"}, "pulled: net markouts 5 s after its fills were below 0 with 95 % confidence", ""),
        ({"equity_e10": 100 * E10}, "size: 0.0", "size: 0.0"),
        ({"fair_ticks": None}, "no_book: ", "no_book: "),
        ({"guard": GuardState.SOFT_PAUSE}, "guard: soft_pause (book) quotes nothing", "guard: soft_pause (book)"),
        (
            {"guard": GuardState.REDUCING, "position_lots": 100},
            "guard: reducing (book) lets only the side quote that reduces",
            "",
        ),
        ({"guard": GuardState.REDUCING}, "guard: reducing", "guard: reducing"),
    ],
)
def test_why_a_side_is_missing(
    quoting: DecisionInputs, params: Params, change: dict[str, Any], no_bid: str, no_ask: str
) -> None:
    seen = msgspec.structs.replace(quoting, regime=Regime.HIGH_VOL_SHOCK, **change)
    made = decide(seen, params)
    for side, expected in ((Side.BUY, no_bid), (Side.SELL, no_ask)):
        why = why_missing(side, seen, made, params, "book")
        assert why.startswith(expected)
        assert bool(why) is bool(expected)
        assert bool(why) is not any(quote.side is side for quote in made.quotes)


def test_the_edge_gate_in_figures(quoting: DecisionInputs, params: Params) -> None:
    seen = msgspec.structs.replace(quoting, regime=Regime.HIGH_VOL_SHOCK, adverse_sell_bps=60.0, no_sell="edge")
    made = decide(seen, params)
    most_bps = params.regimes[Regime.HIGH_VOL_SHOCK].spread_max_bps / 2
    assert why_missing(Side.SELL, seen, made, params, "", Held(1, 1_767_254_130 * 10**9)) == (
        f"edge: a fill must earn {made.sell_edge.total_bps:.4f} bps, and half of the widest spread in high_vol_shock "
        f"is {most_bps:g} bps; blocked since 2026-01-01 07:55:30.000 UTC; it returns below {0.9 * most_bps:g} bps"
    )


# --- a moment ---------------------------------------------------------------------------------------------------------


def test_a_pause_explains_itself(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(played, capsys, "2026-01-01T07:46:55")
    assert found["decision"]["guard"] == "soft_pause"
    assert found["decision"]["no_bid"] == "guard: soft_pause (operator_pause) quotes nothing"
    assert found["decision"]["rungs"] == []
    assert found["resting"] == []


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T07:55:30", "2026-01-01 07:55:30.000Z", "2026-01-01T09:55:30+02:00", "2026-01-01T07:55:30+00:00"],
)
def test_ways_to_write_a_moment(played: Played, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(played, capsys, text)
    assert found["subject"] == "2026-01-01 07:55:30.000 UTC"
    assert found["run"] == 1
    assert found["decision"]["utc"] <= "2026-01-01 07:55:30.000"


@pytest.mark.parametrize("text", ["08:40:30", "8:40:30", "08:40:30.000", "08:40:30Z"])
def test_a_time_of_day_is_of_the_last_run(played: Played, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(played, capsys, text)
    assert (found["subject"], found["run"]) == ("2026-01-01 08:40:30.000 UTC", 2)


def test_the_decision_in_force_is_the_last_one(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(played, capsys, "2026-01-01T07:55:30")
    ts_ns = 1_767_254_130 * 10**9
    last = [row.seq for row in journal.decisions(1) if row.ts_ns <= ts_ns][-1]
    assert found["decision"]["seq"] == last


def test_what_was_out_is_what_the_daemon_had(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    """At each minute the daemon wrote down its own best prices."""
    compared = 0
    for minute in journal.minutes(1):
        if minute.bid_px_ticks is None or minute.ask_px_ticks is None:
            continue
        seconds, rest = divmod(minute.ts_ns, 10**9)
        text = f"2026-01-01T{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 1000:06d}"
        out = [order for order in told(played, capsys, text)["resting"] if order["status"] in {"live", "partial"}]
        tick = Decimal(1) / 10
        assert max(Decimal(order["price"]) for order in out if order["side"] == "buy") == minute.bid_px_ticks * tick
        assert min(Decimal(order["price"]) for order in out if order["side"] == "sell") == minute.ask_px_ticks * tick
        compared += 1
    assert compared > 10


# --- as text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 160])
def test_on_paper(
    played: Played,
    journal: JournalReader,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    fill = journal.last_fill()
    assert fill is not None
    assert run(played, "--last-fill") == 0
    said = capsys.readouterr().out
    quotes = len(told(played, capsys, "--last-fill")["decision"]["rungs"])
    exactly = f"addends as journaled come to the quoted tick exactly: {quotes} of {quotes} quotes"
    assert exactly in " ".join(said.split())
    assert re.search(r"p_taker 0\.0\d+, as measured, x \(taker 2 - maker 0\.5 \+ slippage 5\)", " ".join(said.split()))
    assert "its features are not journaled" in " ".join(said.split())
    assert said.startswith(f"fill {fill.trade_id} of order {fill.client_id}, run 2, BTCUSDT\n")
    assert "guard running, regime neutral_high_vol" in " ".join(said.split())
    for word in (
        "best bid",
        "maker fee",
        "= required",
        "reservation price",
        "may stay from",
        "= quoted" if width > 80 else "= from fair",
        "FILL",
        "UTC",
    ):
        assert word in said
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width
    assert "\x1b[" not in said


def test_on_paper_a_moment_without_quotes(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(played, "2026-01-01T07:46:55") == 0
    said = capsys.readouterr().out
    assert "no bid: guard: soft_pause (operator_pause) quotes nothing" in said
    assert "nothing of ours was out at that time" in said


def test_a_long_life_is_cut_but_no_fill_is(
    played: Played, journal: JournalReader, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    longest = ids(journal, "revision > 20 AND filled_lots > 0")
    assert longest
    assert run(played, longest[0]) == 0
    said = capsys.readouterr().out
    life = told(played, capsys, longest[0])["order"]["life"]
    assert f"{len(life)} lines in all; --json has every one" in said
    assert said.count(" FILL ") == sum(line["what"] == "FILL" for line in life)


def test_nothing_is_cut_off_at_80_columns(
    journal: JournalReader, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a ladder of ten rungs of six figures each."""
    row = next(row for row in journal.decisions(1) if msgspec.msgpack.decode(row.decision, type=Decision).quotes)
    story = story_of(journal, row, params)
    rung = msgspec.structs.replace(story.rungs[0], price=Decimal("123456.78"))
    ladder = tuple(msgspec.structs.replace(rung, level=level) for level in range(10))
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        show(
            Explanation(
                subject="a fill",
                run=1,
                symbol="BTCUSDT",
                quote="USDT",
                decision=msgspec.structs.replace(story, rungs=ladder),
                rung=7,
            ),
            console,
        )
    said = capture.get()
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    assert said.count("123456.78") == 10
    assert all(re.search(rf"\b(bid|ask) {level}\b", said) for level in range(10))
    assert re.search(r"(bid|ask) 7 <", said)


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("held", [-3, 0, 2])
def test_the_floor_that_was_applied_to_a_reducing_side(
    journal: JournalReader, quoting: DecisionInputs, params: Params, held: int, width: int
) -> None:
    most = decide(quoting, params).max_position_lots
    seen = msgspec.structs.replace(quoting, position_lots=held * most // 10)
    made = decide(seen, params)
    row = msgspec.structs.replace(
        next(journal.decisions(1)), inputs=msgspec.msgpack.encode(seen), decision=msgspec.msgpack.encode(made)
    )
    story = story_of(journal, row, params)
    reducing = {-3: "buy", 0: "", 2: "sell"}[held]
    for edge in story.edges:
        if edge.side == reducing:
            required = made.buy_edge if held < 0 else made.sell_edge
            floor_bps = floor_distance_bps(required, seen.position_lots / most, reducing=True)
            assert edge.floor_bps is not None
            assert float(edge.floor_bps) == pytest.approx(floor_bps, abs=1e-4)
            assert edge.floor_bps < edge.required_bps
            assert edge.reducing_u == Decimal(f"0.{abs(held)}0")
        else:
            assert (edge.floor_bps, edge.reducing_u) == (edge.required_bps, None)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        show(Explanation(subject="", run=1, symbol="", quote="USDT", decision=story), console)
    assert (f"floor here (reducing, u 0.{abs(held)}0)" in capture.get()) == bool(held)


# --- not found --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("mmtest-1-99999", "no order, fill or time 'mmtest-1-99999'"),
        ("yesterday", "--last-fill needs none of them"),
        (
            "2026-01-01T08:20:00",
            "no run was on at 2026-01-01 08:20:00.000 UTC. The last: run 1 2026-01-01 07:40:00.000",
        ),
        ("07:50:00", "run 2 was on from 2026-01-01 08:40:00.000"),
        ("25:00:00", "no order, fill or time '25:00:00'"),
    ],
)
def test_what_is_not_there_is_1(played: Played, what: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(played, what) == 1
    assert said in capsys.readouterr().err


def test_no_journal_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--last-fill", "--state-dir", str(tmp_path / "nowhere")]) == 1
    assert "there is no journal at" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_journal_of_a_later_program_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    assert main(["explain", "--last-fill", "--state-dir", str(copied)]) == 1
    assert "has schema version 999" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_141(played: Played) -> None:
    """As with `| head -1`, but before the first line is written."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "mmdaemon", "explain", "--last-fill", "--state-dir", str(played.path)]
    with os.fdopen(write, "w") as closed:
        ended = subprocess.run(
            command, stdout=closed, stderr=subprocess.PIPE, check=False, cwd=Path(__file__).resolve().parents[2]
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_no_fill_is_1(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM fills")
    db.close()
    assert main(["explain", "--last-fill", "--state-dir", str(copied)]) == 1
    assert "there is no fill in this journal yet" in capsys.readouterr().err


def test_a_torn_decision_is_said_and_not_shown(
    copied: Path, journal: JournalReader, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quote whose addends do not come to its price was not written by `decide`."""
    fill = journal.last_fill()
    assert fill is not None
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        for seq, blob in db.execute("SELECT seq, decision FROM decisions WHERE epoch = 2").fetchall():
            made = msgspec.msgpack.decode(blob, type=Decision)
            quotes = tuple(msgspec.structs.replace(quote, px_ticks=quote.px_ticks - 1) for quote in made.quotes)
            forged = msgspec.msgpack.encode(msgspec.structs.replace(made, quotes=quotes))
            db.execute("UPDATE decisions SET decision = ? WHERE epoch = 2 AND seq = ?", (forged, seq))
    db.close()
    assert main(["explain", "--last-fill", "--state-dir", str(copied)]) == 1
    assert "cannot be believed: addends come to" in capsys.readouterr().err


def test_a_decision_of_another_version_is_not_called_a_lie(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        for seq, blob in db.execute("SELECT seq, inputs FROM decisions WHERE epoch = 2").fetchall():
            fewer = msgspec.msgpack.encode(msgspec.msgpack.decode(blob)[:-5])  # the last four may be missing
            db.execute("UPDATE decisions SET inputs = ? WHERE epoch = 2 AND seq = ?", (fewer, seq))
    assert main(["explain", "--last-fill", "--state-dir", str(copied)]) == 1
    said = capsys.readouterr().err
    assert "another version of mmdaemon decided that" in said
    assert "cannot be believed" not in said


@pytest.mark.parametrize("arguments", [[], ["mmtest-1-1", "--last-fill"]])
def test_one_thing_at_a_time(played: Played, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(played, *arguments) == 64
    assert "say what to explain" in capsys.readouterr().err
