"""`mmdaemon status` against a served socket: exit codes, what stands first, and what a hostile text cannot do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from mmdaemon.cli.main import main
from mmdaemon.cli.status import NOT_QUOTING, QUOTING, exit_code, render
from mmdaemon.core.types import GuardState
from mmdaemon.ops.control import Answer, Handler, Request, Say
from mmdaemon.ops.status import QuoteView, Status
from tests.ops.samples import picture, served


def telling(status: Status | None, *lines: str) -> Handler:
    async def handle(_request: Request, _say: Say) -> Answer:
        return Answer(status is not None, 0, list(lines), status)

    return handle


def shown(status: Status, width: int = 200) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(render(status, width))
    return capture.get()


def moving_quotes() -> list[QuoteView]:
    return [QuoteView(side, 0, "1", "1", False, -1.0, {}) for side in ("buy", "sell")]


STOPPED: dict[str, Any] = {
    "guard": "hard_stop",
    "kill": "killed",
    "gate_closed": "kill: operator",
    "reasons": ["book", "kill"],
    "why_not_quoting": ["book: no healthy book within its age limit (cured by BookUpdate)", "latched: resume"],
    "quotes": [],
}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, QUOTING),
        ({"guard": "reducing"}, QUOTING),
        ({"quotes": moving_quotes()}, QUOTING),  # every amend is in flight, and the orders stand meanwhile
        ({"open_orders": 0, "unknown_orders": 0}, NOT_QUOTING),
        ({"open_orders": 2, "unknown_orders": 2}, NOT_QUOTING),
        ({"quotes": []}, NOT_QUOTING),
        *(({"guard": state.value}, NOT_QUOTING) for state in GuardState if state.value not in {"running", "reducing"}),
    ],
)
def test_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], code: int) -> None:
    with served(tmp_path, telling(picture(**changes))):
        assert main(["status", "--state-dir", str(tmp_path)]) == code
        assert main(["status", "--json", "--state-dir", str(tmp_path)]) == code
    assert capsys.readouterr().err == ""


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["--json"]):
        assert main(["status", "--state-dir", str(tmp_path), *flags]) == 4
        out, err = capsys.readouterr()
        assert out == ""
        assert f"no daemon answers at {tmp_path / 'control.sock'}" in err
        assert "mmdaemon run" in err
        assert "--state-dir" in err


def test_an_answer_without_a_status_is_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, telling(None, "refused: 16 requests are at work already")):
        assert main(["status", "--state-dir", str(tmp_path)]) == 4
    assert "16 requests are at work already" in capsys.readouterr().err


def test_json_is_the_status_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, telling(picture())):
        main(["status", "--json", "--state-dir", str(tmp_path)])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["version"] == 1
    assert msgspec.json.decode(out, type=Status) == picture()


def test_the_state_directory_is_found_as_the_daemon_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with served(tmp_path, telling(picture())):
        assert main(["status"]) == 0
    capsys.readouterr()


def test_guard_and_reasons_stand_first() -> None:
    lines = shown(picture(**STOPPED)).splitlines()
    assert lines[0] == "HARD_STOP  not quoting  kill switch killed  gate closed: kill: operator"
    assert lines[1] == "  WHY NOT QUOTING"
    assert [line.strip() for line in lines[2:4]] == STOPPED["why_not_quoting"]
    assert any("no target quotes" in line for line in lines)


def test_a_missing_side_is_said() -> None:
    text = shown(picture(why_not_quoting=["no ask: inventory"]))
    assert text.startswith("RUNNING  quoting buy  kill switch armed\n  WHY NOT FULLY\n    no ask: inventory\n")
    assert "WHY" not in shown(picture())


def test_breaks_that_are_not_shown_are_counted() -> None:
    text = " ".join(shown(picture(open_breaks={"hard": 1, "soft": 4})).split())
    assert "and 4 more: `mmdaemon reconcile` shows them" in text
    assert "breaks" not in shown(picture(open_breaks={"hard": 0, "soft": 0}, breaks=[]))


def test_where_nothing_is_quoted_there_is_no_largest_position() -> None:
    assert "-0.0048 of at most 0.0833 at" in shown(picture())
    paused = shown(picture(guard="soft_pause", quotes=[], max_position="0"))
    assert "position     -0.0048 at 59973.9 average" in paused
    assert "of at most" not in paused.split("equity")[0]


def test_prices_between_ticks_are_shown_to_nine_digits() -> None:
    text = " ".join(shown(picture(fair="109797.9610274561", average_px="109806.2743055494")).split())
    assert "fair 109797.961 bid" in text
    assert "at 109806.274 average" in text
    assert "fair unknown bid" in " ".join(shown(picture(fair=None)).split())


def test_a_side_that_must_earn_nothing_says_so() -> None:
    assert "required edge buy  0.00 bps: nothing" in shown(picture(edge_bps={"buy": {"maker_fee": 0.0}}))


def test_silence_of_the_guard_is_said_too() -> None:
    assert "no reason is active, and no quote stands" in shown(picture(quotes=[]))


def test_quotes_have_their_addends_and_small_ones_are_left_out() -> None:
    text = shown(picture())
    row = re.search(r"^buy +1 .*$", text, re.MULTILINE)
    assert row is not None
    assert " ".join(row[0].split()) == "buy 1 59979 0.0016 -3.58 yes skew -0.08 half -2.50 level -1.00"
    assert "carry" not in text
    assert "moving" in text
    assert "required edge sell 3.50 bps: maker_fee +2.00  min_edge +1.50" in text


def test_figures() -> None:
    text = " ".join(shown(picture()).split())
    for piece in (
        "position -0.0048 of at most 0.0833 at 59973.9 average",
        "open orders 2, 1 of unknown fate",
        "breaks manual_trade/t7 (operator, soft, open 1 min 00 s): buy 40 lots at 600000 ticks",
        "equity 99999.9",
        "PnL realised 1.5 unrealised -0.5 fees -0.25 funding 0 total 0.75 day 0.7",
        "fair 60000.5 bid 60000.4 ask 60000.6 mark 60001",
        "feeds public up private DOWN book healthy, 0.250 s old locked 3 times",
        "guard's time running 9.6 s soft_pause 1.5 s",
        "data dropped crossed 4",
        "event loop 0.001 s journal unknown",
        "seen 2026-01-05 00:00:00 UTC",
        "http://127.0.0.1:9877/metrics",
    ):
        assert piece in text


def test_the_regime_says_what_it_is_told_by_and_where_the_bars_come_from() -> None:
    told = {"bars_source": "mids", "bars": 1_440, "band_bps": 2.614, "drift_bps": 0.4}
    text = " ".join(shown(picture(**told)).split())
    assert "regime up band 2.61 bps drift +0.40 bps 1,440 bars from mids" in text
    assert "1,440 bars from mids neutral_low_vol is seen, believed in 12.5 s" in text
    assert "shock drift 4.20 of 10.00 bps high_vol_shock band unknown of 6.00 bps up trend 12.50 of 12.40 bps" in text
    unknown: dict[str, Any] = {"bars_source": "", "band_bps": None, "drift_bps": None}
    text = " ".join(shown(picture(regime="high_vol_shock", shock_by="drift", **unknown)).split())
    assert "regime high_vol_shock by drift band unknown drift unknown no bars yet" in text


def test_what_the_strategy_s_judges_say_is_told_with_its_figures() -> None:
    text = " ".join(shown(picture(), 250).split())
    for piece in (
        "volatility 0.82 bps/sqrt(s) spread x 1.1 for drift, x 1.5 for fills",
        "signal +0.24 bps; its features, before weights: print +0.40 momentum -0.10 gap +0.00 lean +0.02",
        "fees maker 2 bps, taker 5 bps, from the account",
        "funding +0.0100 % due in 3 h 00 min, every 8 h 00 min: a long costs +0.12 bps",
        "buys must earn 4.25 of at most 8.00 bps, gate open; impact 0.50 bps, net -0.80 (at most -0.10) over 34 fills; "
        "pulled, 12 min 00 s left",
        "sells must earn 9.50 of at most 8.00 bps, gate blocked for 1 min 35 s; impact 0.00 bps; at 10% of the size",
        "derisk TOUCH, worked down for 1 min 15 s, taker in 3 min 45 s; day ends in 5 h 00 min",
    ):
        assert piece in text
    nothing = shown(picture(fees=None, funding=None, sigma_bps=None, book_healthy=False, book_locked=True), 250)
    text = " ".join(nothing.split())
    for piece in ("fees unknown", "funding unknown", "volatility unknown", "book NOT HEALTHY, 0.250 s old LOCKED, 3"):
        assert piece in text


def test_unknown_is_said_and_never_0() -> None:
    unknown: dict[str, Any] = dict.fromkeys(("fair", "bid", "ask", "mark", "average_px", "book_age_s"))
    text = " ".join(shown(picture(**unknown, pnl={}, metrics_port=0)).split())
    assert "fair unknown bid unknown ask unknown mark unknown" in text
    assert "book healthy, unknown old" in text
    assert "unknown: no mark yet" in text
    assert "metrics not served" in text


def test_where_the_operator_page_is_served_it_says() -> None:
    assert "page http://127.0.0.1:9878/" in " ".join(shown(picture(page_port=9878), 250).split())
    assert "page" not in shown(picture(), 250)


def test_text_from_outside_steers_no_terminal() -> None:
    text = shown(picture(gate_closed="\x1b[2J[bold]x[/]", why_not_quoting=["a\nFAKE", "\x9b31m"], symbol="\x07B"))
    assert re.search(r"[^\n -~\u00a0-\uffff]", text) is None
    assert "[bold]x[/]" in text
    assert "a\N{REPLACEMENT CHARACTER}FAKE" in text


@pytest.mark.parametrize("changes", [{}, STOPPED])
def test_it_fits_80_columns(changes: dict[str, Any]) -> None:
    assert max(len(line) for line in shown(picture(**changes), 80).splitlines()) <= 80


@pytest.mark.parametrize("width", [80, 109, 110, 200])
def test_a_rung_is_one_line(width: int) -> None:
    addends: dict[str, float] = dict.fromkeys(("skew", "half", "level"), -1.25)
    quotes = [QuoteView("buy", level, "59985.1", "0.0016", True, -12.58, addends) for level in range(3)]
    lines = shown(picture(quotes=quotes), width).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("quote"))
    assert [line.split()[:2] for line in lines[at + 1 : at + 4]] == [["buy", str(level)] for level in range(3)]
    assert ("of which" in lines[at]) == (width >= 110)


def test_addends_that_do_not_fit_beside_their_rung_are_left_out() -> None:
    addends: dict[str, float] = dict.fromkeys(("skew", "carry", "half", "level", "floor", "clamp", "rounding"), -100.25)
    quotes = [QuoteView("buy", 0, "59985.1", "0.0016", True, -12.58, addends)]
    assert "of which" not in shown(picture(quotes=quotes), 120)
    assert "rounding -100.25" in shown(picture(quotes=quotes), 200)


def test_what_is_held_stands_above_the_ladder_and_counts_come_last() -> None:
    lines = [line.strip() for line in shown(picture(), 80).splitlines()]
    starts = ("position", "equity", "PnL", "open orders", "feeds", "quote ", "required edge", "counts", "guard's time")
    at = [next(i for i, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert at == sorted(at)


def test_the_headline_does_not_flap_with_an_amend_in_flight() -> None:
    assert shown(picture(quotes=moving_quotes())).startswith("RUNNING  quoting buy and sell  kill switch armed\n")


@pytest.mark.parametrize("flags", [["--json"], []])
def test_watch_until_ctrl_c(tmp_path: Path, flags: list[str]) -> None:
    with served(tmp_path, telling(picture(quotes=[]))) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmdaemon", "status", "--watch", "--state-dir", str(tmp_path), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            ends = time.monotonic() + 60
            while server.counts["answered"] < 2 and process.poll() is None:
                assert time.monotonic() < ends, "nothing was asked"
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate()
    assert (process.returncode, err) == (3, "")
    if flags:
        assert json.loads(out.splitlines()[0])["guard"] == "running"
    else:
        assert "not quoting" in out


def test_exit_code_needs_an_order_that_stands() -> None:
    assert exit_code(picture(open_orders=0, unknown_orders=0)) == 3
