"""The comparison whole: what rows differ in, a recording played and scored, results known again, and tables."""

import random
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from mmdaemon.core.quotes import decide
from mmdaemon.core.signal import FEATURES
from mmdaemon.core.types import E10, NS, Instrument, Side
from mmdaemon.research.ablation import table
from mmdaemon.research.ablation.bootstrap import Sums
from mmdaemon.research.ablation.fitting import Fitted, adverse_bps, fit
from mmdaemon.research.ablation.page import markdown, page
from mmdaemon.research.ablation.page import verdicts as told_verdicts
from mmdaemon.research.ablation.plot import svg
from mmdaemon.research.ablation.results import Prepared, Result, code_digest, meaning_of, read_result, result_path
from mmdaemon.research.ablation.rows import (
    BY_NAME,
    CAP_QUOTE,
    FILLS,
    ORDER_QUOTE,
    ROWS,
    Group,
    Row,
    Unfit,
    cap_and_order_e10,
)
from mmdaemon.research.ablation.run import Failed, Job, jobs_of, known, plan, play_row, play_rows, prepare
from mmdaemon.research.ablation.score import Score, Window
from mmdaemon.research.calibration.observing import observe
from mmdaemon.settings import Settings
from mmdaemon.tapes import parquet
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Record
from mmdaemon.tapes.rows import TapeError
from tests.tapes.made import Made, snapshot, trade

GOOD = Fitted(
    until_s=600.0,
    mean_mid=65_000.0,
    prints=10_000,
    a_per_s=0.2,
    k_per_px=0.3,
    k_per_bp=1.95,
    r2=0.97,
    poor="",
    adverse_bps=0.4,
    signal=(0.5, -0.25, 99.0, 0.0),
    signal_r2=0.3,
)
MID = 650_000
MARKET = Instrument.of(venue="made", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
PLAYED_S = 180


def market(seconds: int = PLAYED_S) -> list[Record]:
    """A mid that walks by a tick or two, ten books a second, and takers of both sides that reach up to 9 ticks."""
    chance = random.Random(5)
    mid, records = MID, list[Record]()
    for step in range(seconds * 10):
        mid += chance.choice((-2, -1, 0, 1, 2))
        levels = range(20)
        bids = tuple((mid - 5 - i, 50) for i in levels)
        asks = tuple((mid + 5 + i, 50) for i in levels)
        records.append(snapshot(step * 100, bids=bids, asks=asks))
        if chance.random() < 0.25:
            side = chance.choice((Side.BUY, Side.SELL))
            records.append(trade(step * 100 + 50, px=mid + side * chance.randint(5, 60), lots=30, side=side))
    return records


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tape") / "walk.parquet"
    parquet.write(Made(market(), instrument=MARKET), path)
    return path


def silent(_job: Job, _passed_ns: int) -> None:
    pass


@pytest.fixture(scope="module")
def played(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared, dict[str, Result]]:
    """A few rows, played once."""
    out = tmp_path_factory.mktemp("out")
    prepared = prepare([recording], "walk", out)
    jobs = jobs_of(["walk"], ["queue"], ["full", "join", "fixed_2_5", "micro", "model_glft", "gated"])
    results = {
        each.row: each for each in play_rows(jobs, {"walk": prepared}, out, 0, silent) if isinstance(each, Result)
    }
    return out, prepared, results


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("fills", FILLS)
def test_each_row_has_settings_and_a_strategy(row: Row, fills: str) -> None:
    settings = row.settings(GOOD, fills, "standx")
    assert settings.simulated.fills == fills
    assert settings.guard.book_age_max_s == 5.0
    assert row.settings(GOOD, fills, "binance").guard.book_age_max_s == 2.0
    assert (row.strategy(GOOD) is decide) is (row.group is not Group.RULE)


def test_what_is_switched_off_is_all_that_differs_from_the_full_strategy() -> None:
    full = BY_NAME["full"].settings(GOOD, "queue", "binance").flat()
    for row in ROWS:
        if row.group is not Group.OFF:
            continue
        flat = row.settings(GOOD, "queue", "binance").flat()
        assert {path for path in full if flat[path] != full[path]} <= set(row.over), row.name


def test_all_but_the_presets_own_have_one_order_size_and_one_cap() -> None:
    for row in ROWS:
        bounds = cap_and_order_e10(row.settings(GOOD, "queue", "binance"))
        expected = (round(CAP_QUOTE * E10), round(ORDER_QUOTE * E10))
        assert (bounds == expected) is not row.shipped_sizes, row.name


def test_fees_and_gates() -> None:
    for row in ROWS:
        settings = row.settings(GOOD, "queue", "binance")
        gated = row.group is Group.GATED
        assert settings.simulated.maker_fee_bps == (2.0 if gated else 0.0), row.name
        assert settings.gate.enabled is (gated and row.name in ("gated", "gated_no_pull")), row.name
        assert settings.quality.pull is (gated and row.name in ("gated", "gated_no_gate")), row.name
        is_capped = settings.cost.turnover_cap_multiple < 1_000
        assert is_capped is (gated and row.name != "gated_open"), row.name


def test_the_signals_weights_are_those_that_were_fitted_but_for_presets_as_shipped_and_rules() -> None:
    """And within the bounds of the settings."""
    for row in ROWS:
        flat = row.settings(GOOD, "queue", "binance").flat()
        weights = tuple(flat[f"signal.{name}_weight"] for name in FEATURES)
        is_full = row.group in (Group.FULL, Group.OFF, Group.GATED) or row.name == "model_glft"
        assert (weights == (0.5, -0.25, 5.0, 0.0)) is is_full, row.name
        assert (flat["signal.cap_bps"] == 0.0) is (row.group is Group.RULE or row.name == "no_signal"), row.name


def test_without_a_fitted_signal_the_presets_stays() -> None:
    none = msgspec.structs.replace(GOOD, signal=None, signal_why="too short")
    for name in ("full", "tight_signal"):
        assert BY_NAME[name].settings(none, "queue", "binance").signal == Settings().signal
    tape = msgspec.structs.replace(PREPARED, fitted=none)
    assert "the preset's, because too short" in markdown([tape], results(full=score(-0.3)), "c")
    assert "momentum -0.25, gap +99.00" in markdown([PREPARED], results(full=score(-0.3)), "c")


def test_each_run_has_a_rule_of_its_own() -> None:
    assert BY_NAME["join"].strategy(GOOD) is not BY_NAME["join"].strategy(GOOD)


def test_without_a_fit_a_row_says_why() -> None:
    none = msgspec.structs.replace(GOOD, a_per_s=None, k_per_px=None, poor="too few prints", adverse_bps=None)
    for name in ("as_1", "glft_0_05"):
        with pytest.raises(Unfit, match="too few prints"):
            BY_NAME[name].strategy(none)
    with pytest.raises(Unfit, match="no average adverse move"):
        BY_NAME["micro"].strategy(none)
    with pytest.raises(Unfit, match="too few prints"):
        BY_NAME["model_glft"].settings(none, "queue", "binance")


# --- what is fitted ---------------------------------------------------------------------------------------------------


def test_the_average_adverse_move_is_by_value_and_for_the_taker() -> None:
    """A purchase of 3 is followed by 4 ticks up, a sale of 1 by 2 ticks up: (3 * 4 - 2) / 4 of 10,000 ticks."""
    books = [(0, 10_000), (10_000, 10_004), (20_000, 10_004), (30_000, 10_006), (40_000, 10_006)]
    records: list[Record] = [
        snapshot(ms, bids=((mid - 1, 5),), asks=((mid + 1, 5),), late_ms=0)
        for ms, mid in books
        for ms in (ms, ms + 1_500)
    ]
    records += [snapshot(5_500, bids=((10_003, 5),), asks=((10_005, 5),), late_ms=0)]
    records += [snapshot(25_500, bids=((10_005, 5),), asks=((10_007, 5),), late_ms=0)]
    records += [trade(1_600, px=10_001, lots=3, side=Side.BUY, late_ms=0)]
    records += [trade(21_600, px=10_003, lots=1, side=Side.SELL, late_ms=0)]
    records.sort(key=lambda record: record.venue_ts_ns)
    tape = Tape(Made(records, instrument=MARKET))
    found = adverse_bps(observe(tape, Settings().to_params(MARKET, "abcd", 1)))
    expected = (3 * 10_001 * 4 / 10_000 - 10_003 * 2 / 10_004) / (3 * 10_001 + 10_003) * 1e4
    assert found == pytest.approx(expected)


def test_only_the_beginning_is_fitted_on() -> None:
    tape = Tape(Made(market(60), instrument=MARKET))
    part, whole = fit(tape, Settings(), 20 * NS), fit(tape, Settings(), 60 * NS)
    assert 0 < part.prints < whole.prints / 2
    assert part.a_per_s is None
    assert "needed" in part.poor


# --- played -----------------------------------------------------------------------------------------------------------


def test_a_recording_is_scored_after_its_first_third(played: tuple[Path, Prepared, dict[str, Result]]) -> None:
    _, prepared, results = played
    span_ns = prepared.whole.to_ns - prepared.whole.from_ns
    assert prepared.scored.from_ns == prepared.whole.from_ns + span_ns // 3
    assert prepared.scored.block_ns == 60 * NS
    join = results["join"]
    assert join.scored is not None
    assert join.whole is not None
    assert 0 < join.scored.fills < join.whole.fills
    assert join.ended == "the recording is over"


def test_the_rules_are_played_by_the_engine(played: tuple[Path, Prepared, dict[str, Result]]) -> None:
    """One that joins the touch trades more than one that stands off, neither passes the cap, and 30 s are 30 s."""
    _, _, results = played
    join, fixed = results["join"].whole, results["fixed_2_5"].whole
    assert join is not None
    assert fixed is not None
    assert join.value > fixed.value
    for score in (join, fixed):
        assert score.over_cap_lots in (0, None)
        assert score.max_share <= 1.001
    assert fixed.orders + fixed.amends <= 2 * (PLAYED_S // 30 + 1)
    assert join.orders + join.amends + join.cancels > 60


def test_a_row_that_cannot_be_fitted_is_refused_and_not_left_out(
    played: tuple[Path, Prepared, dict[str, Result]],
) -> None:
    _, prepared, results = played
    assert prepared.fitted.a_per_s is None
    assert "needed" in results["model_glft"].refused
    assert results["model_glft"].scored is None
    setting = table.settings_of([prepared], list(results.values()))[0]
    assert any("needed" in note for note in table.edges(setting).notes)


def test_what_is_known_is_not_played_again_and_what_changed_is(
    played: tuple[Path, Prepared, dict[str, Result]], recording: Path
) -> None:
    out, prepared, results = played
    jobs = [Job("walk", "queue", name) for name in results]
    found, left = known(jobs, {"walk": prepared}, out)
    assert ({each.row for each in found}, left) == (set(results), [])
    assert prepare([recording], "walk", out) == prepared
    part = msgspec.structs.replace(prepared, key="another part")
    assert known(jobs, {"walk": part}, out) == ([], jobs)
    refitted = msgspec.structs.replace(prepared, fitted=msgspec.structs.replace(prepared.fitted, adverse_bps=9.0))
    assert known(jobs, {"walk": refitted}, out)[1] == [job for job in jobs if BY_NAME[job.row].make is not None]


def test_a_result_of_other_code_is_not_known(
    played: tuple[Path, Prepared, dict[str, Result]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, prepared, _ = played
    """Unless it will do; then it is said."""
    jobs = [Job("walk", "queue", "join")]
    for module in ("run", "table"):
        monkeypatch.setattr(f"mmdaemon.research.ablation.{module}.code_digest", lambda: "other")
    assert known(jobs, {"walk": prepared}, out) == ([], jobs)
    taken, left = known(jobs, {"walk": prepared}, out, any_code=True)
    assert ([each.row for each in taken], left) == (["join"], [])
    told = "Played with other code than today's: walk queue join."
    assert told in markdown([prepared], taken, "c")
    monkeypatch.undo()
    assert told not in markdown([prepared], taken, "c")


def test_what_a_module_means_is_not_its_comments() -> None:
    one = '"""A."""\n\n\ndef f(x):\n    """B."""\n    return x + 1  # C\n'
    assert meaning_of(one) == meaning_of("def f(x):\n  return (x + 1)\n")
    assert meaning_of(one) != meaning_of("def f(x):\n  return x + 2\n")
    assert meaning_of('def f():\n    return """B."""\n') != meaning_of("def f():\n    return 1\n")


def test_a_file_that_is_no_result_is_played_anew(
    played: tuple[Path, Prepared, dict[str, Result]], tmp_path: Path
) -> None:
    path = result_path(tmp_path, "walk", "queue", "join")
    path.write_text('{"key": 3')
    assert read_result(path) is None
    assert known([Job("walk", "queue", "join")], {"walk": played[1]}, tmp_path)[0] == []


def test_a_row_is_the_same_each_time(played: tuple[Path, Prepared, dict[str, Result]], tmp_path: Path) -> None:
    out, prepared, results = played
    for name in ("walk-columns.npz",):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    again = play_row(Job("walk", "queue", "micro"), prepared, tmp_path, silent)
    assert msgspec.structs.replace(again, cpu_s=0.0) == msgspec.structs.replace(results["micro"], cpu_s=0.0)


def test_processes_play_the_same_and_one_that_fails_stops_no_other(
    played: tuple[Path, Prepared, dict[str, Result]], tmp_path: Path
) -> None:
    out, prepared, results = played
    (tmp_path / "walk-columns.npz").write_bytes((out / "walk-columns.npz").read_bytes())
    gone = msgspec.structs.replace(prepared, name="gone", paths=("/nowhere/at.all",))
    (tmp_path / "gone-columns.npz").write_bytes((out / "walk-columns.npz").read_bytes())
    jobs = [Job("gone", "queue", "join"), Job("walk", "queue", "fixed_2_5")]
    made = list(play_rows(jobs, {"walk": prepared, "gone": gone}, tmp_path, 1, silent))
    failed = [each for each in made if isinstance(each, Failed)]
    assert [each.job.tape for each in failed] == ["gone"]
    assert isinstance(failed[0].error, TapeError)
    assert [each.digest for each in made if isinstance(each, Result)] == [results["fixed_2_5"].digest]


def test_the_key_is_of_everything_that_a_row_follows_from(played: tuple[Path, Prepared, dict[str, Result]]) -> None:
    _, prepared, _ = played
    keys = {plan(job, prepared)[0] for job in jobs_of(["walk"], FILLS, list(BY_NAME))}
    assert len(keys) == len(ROWS) * len(FILLS)


# --- tables -----------------------------------------------------------------------------------------------------------


def score(e5: float, fills: int = 500, value: float = 1e6, **over: object) -> Score:
    """Ten hours, fifty blocks, of which each earned the same."""
    made = Score(
        hours=10.0,
        fills=fills,
        taker_fills=0,
        value=value,
        tape_share=0.1,
        edges={"1": e5, "5": e5, "30": None, "60": e5},
        e5_mid=e5,
        e5_venue=e5,
        effective=e5,
        unavailable=3,
        sums=Sums((value / 50,) * 50, (value / 50 * e5,) * 50),
        healthy_h=9.0,
        two_sided=0.95,
        two_sided_tape=0.9,
        at_cap=0.1,
        max_position=9_900.0,
        max_share=0.99,
        over_cap_lots=0,
        drawdown=50.0,
        pnl=-12.0,
        attribution={"spread": 3.0, "inventory": -5.0, "impact": -10.0, "fees": 0.0, "funding": 0.0, "transfers": 0.0},
        orders=600,
        amends=6_000,
        cancels=60,
        guard={"running": 0.9, "soft_pause: book": 0.1},
        absent={"edge": 0.4, "guard": 0.1},
    )
    return msgspec.structs.replace(made, **over)


PREPARED = Prepared(
    key="k",
    code=code_digest(),
    name="day",
    paths=("day",),
    hours=0.0,
    instrument=MARKET,
    provenance={},
    learned=Window(0, 5 * 3600 * NS, 720 * NS),
    scored=Window(5 * 3600 * NS, 15 * 3600 * NS, 720 * NS),
    whole=Window(0, 15 * 3600 * NS, 720 * NS),
    fitted=GOOD,
)


def results(learned: dict[str, Score] | None = None, /, **scores: Score) -> list[Result]:
    return [
        Result(
            key="k",
            code=code_digest(),
            tape="day",
            row=row,
            fills="queue",
            learned=(learned or {}).get(row, scored),
            scored=scored,
            whole=scored,
        )
        for row, scored in scores.items()
    ]


def verdicts(**scores: Score) -> dict[str, bool | None]:
    (setting,) = table.settings_of([PREPARED], results(**scores))
    return {each.name: each.holds for each in table.bar(setting)}


def test_the_bar() -> None:
    rules = {"join": score(-0.5), "fixed_2_5": score(-1.0, value=5e5)}
    reached = {"edge": True, "participation": True, "both sides": True, "cap": True}
    assert verdicts(full=score(-0.3), **rules) == reached
    assert verdicts(full=score(-0.41), **rules) == {**reached, "edge": False}
    assert verdicts(full=score(-0.3, value=4e5), **rules) == {**reached, "participation": False}
    assert verdicts(full=score(-0.3, two_sided=0.89), **rules) == {**reached, "both sides": False}
    assert verdicts(full=score(-0.3, over_cap_lots=1), **rules) == {**reached, "cap": False}


def test_the_bar_in_words() -> None:
    """`cap: reached` would say that the position stood at it."""
    (setting,) = table.settings_of([PREPARED], results(full=score(-0.3, over_cap_lots=1), join=score(-0.5)))
    told = {text.split(".")[0] for text in told_verdicts(setting)}
    assert told == {"edge: met", "both sides: met", "cap: not met"}


def test_a_row_is_not_said_to_have_a_signal_that_could_not_be_fitted() -> None:
    unfitted = msgspec.structs.replace(PREPARED, fitted=msgspec.structs.replace(GOOD, signal=None, signal_why="none"))
    for tape, named in ((PREPARED, "fitted signal"), (unfitted, "its own signal")):
        (setting,) = table.settings_of([tape], results(full=score(-0.3), join=score(-0.5)))
        assert table.edges(setting).rows[0][0] == f"full strategy (`tight`, {named})"
        assert f"full strategy (tight, {named})" in svg(setting)
        assert "`" not in page([tape], list(setting.results.values()), "mmdaemon compare").split("<main>")[1]


def test_an_interval_that_reaches_below_0_is_not_reached() -> None:
    """Better by 0.15 in the mean, and worse in every second block."""
    mixed = Sums((2e4,) * 50, tuple(2e4 * (-0.35 + (9.0 if block % 2 else -9.0)) for block in range(50)))
    assert verdicts(full=score(-0.35, sums=mixed), join=score(-0.5))["edge"] is False


def test_a_rule_with_a_handful_of_fills_is_no_best_rule() -> None:
    (setting,) = table.settings_of(
        [PREPARED], results(full=score(-0.3), join=score(-0.5), fixed_12_5=score(4.0, fills=table.LEAST_FILLS - 1))
    )
    assert setting.best is not None
    assert setting.best[0].row == "join"


def test_a_parameter_is_chosen_on_the_hours_that_were_fitted_on_and_not_on_those_that_are_scored() -> None:
    """Gamma 5 is the best of all hours and hardly trades in those that were fitted on; 1 is the best that does."""
    scored = {"fixed_2_5": score(-1.0), "glft_0_05": score(-0.5), "glft_1": score(-0.4), "glft_5": score(0.3)}
    learned = {
        "fixed_2_5": score(-1.0, value=1e5),
        "glft_0_05": score(-0.6, value=5e5),
        "glft_1": score(-0.2, value=1e5),
        "glft_5": score(0.9, value=9e4),
    }
    (setting,) = table.settings_of([PREPARED], results(learned, full=score(-0.3), **scored))
    assert setting.passed_over == {"glft_0_05", "glft_5"}
    assert setting.best is not None
    assert setting.best[0].row == "glft_1"
    marked = [row[0] for row in table.edges(setting).rows if row[0].endswith(" *")]
    assert marked == [BY_NAME[name].label + " *" for name in ("glft_0_05", "glft_5")]
    assert table.edges(setting).notes[0].startswith("* does not stand")


def test_where_no_parameter_traded_enough_the_first_stands() -> None:
    few = {name: score(-0.1, value=1.0) for name in ("glft_0_05", "glft_1")}
    scored = {"fixed_2_5": score(-1.0), "glft_0_05": score(-0.5), "glft_1": score(-0.4)}
    (setting,) = table.settings_of([PREPARED], results({**few, "fixed_2_5": score(-1.0)}, **scored))
    assert setting.passed_over == {"glft_1"}


def test_tables_say_what_the_scores_say() -> None:
    (setting,) = table.settings_of(
        [PREPARED], results(full=score(-0.3), no_skew=score(-0.4), join=score(-0.5), gated=score(0.1))
    )
    made = {each.title: each for each in table.tables_of(setting)}
    first = made["Edge and participation"]
    assert [row[0] for row in first.rows] == [BY_NAME[name].label for name in ("full", "no_skew", "join")]
    full, no_skew, join = (dict(zip(first.columns, row, strict=True)) for row in first.rows)
    assert full["e5, bps"] == "-0.300"
    assert full["less best rule (join)"] == "+0.200 [+0.200, +0.200]"
    assert no_skew["less full"] == "-0.100 [-0.100, -0.100]"
    assert join["less best rule (join)"] == table.UNKNOWN
    assert full["value/h, k"] == "100.0"
    risk = dict(
        zip(made["Position, money and messages"].columns, made["Position, money and messages"].rows[0], strict=True)
    )
    assert (risk["amends/min"], risk["cancels/min"], risk["lots over"]) == ("10.0", "0.1", "0")
    gate = made["Staying out, with a maker fee of 2 bps"]
    assert gate.rows[0][1:4] == ("50.0 %", "edge 40.0 %, guard 10.0 %", "90.0 %")
    assert made["Edge by horizon, bps"].rows[0][4] == table.UNKNOWN


def test_markdown_page_and_plot_are_of_the_same_tables() -> None:
    made = results(full=score(-0.3), join=score(-0.5), fixed_12_5=score(-3.0, fills=4, value=1e3))
    text = markdown([PREPARED], made, "mmdaemon compare day")
    (setting,) = table.settings_of([PREPARED], made)
    for each in table.tables_of(setting):
        for row in each.rows:
            assert f"| {' | '.join(row)} |" in text
    assert "![e5 against participation, day](ablation-day.svg)" in text
    assert "limits.max_order_quote = 1000" in text
    html = page([PREPARED], made, "mmdaemon compare <day>")
    assert "&lt;day&gt;" in html
    assert "<script" not in html
    drawn = ElementTree.fromstring(svg(setting))
    circles = [each for each in drawn.iter() if each.tag.endswith("circle")]
    assert len(circles) == 2 * 3
    assert sum("few" in (each.get("class") or "") for each in circles) == 2
    xs = {float(each.get("cx") or "nan") for each in circles}
    assert all(0 <= x <= 980 for x in xs)


def test_without_results_there_is_no_plot() -> None:
    (setting,) = table.settings_of(
        [PREPARED], [Result(key="k", code=code_digest(), tape="day", row="join", fills="queue", refused="no")]
    )
    assert svg(setting) == ""
    assert "not played: no" in markdown([PREPARED], list(setting.results.values()), "c")
