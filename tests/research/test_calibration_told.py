"""What a calibration says: the preset loads, the JSON comes back, the page draws, what was not made is no number."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core import signal
from mmdaemon.research.calibration.fitting import calibrate
from mmdaemon.research.calibration.page import NAMES, PLOTS, page_of, write
from mmdaemon.research.calibration.preset import fragment, pays_from
from mmdaemon.research.calibration.records import (
    Beyond,
    Calibration,
    From,
    Intensity,
    Interval,
    NotMade,
    Poor,
    SignalFit,
)
from mmdaemon.research.calibration.tables import between_text, source_lines, tables
from mmdaemon.settings import load
from mmdaemon.settings.presets import PRESETS
from tests.research.calibration_tapes import drawn, settings, tape
from tests.research.test_report_page import PAINTED, opened, parsed

HOSTILE = "</script><script>document.title='owned'</script><img src=x>&amp;'\"\n[limits]\ncollar_bps = 499"


@pytest.fixture(scope="module")
def made() -> Calibration:
    """Prints go far, and the mid stands still: a maker earns all of the distance."""
    return calibrate(tape(drawn(seconds=1_800, sigma_bps=0.02, a_per_s=2.0, k_per_bp=0.8)), settings())


@pytest.fixture(scope="module")
def nothing() -> Calibration:
    return calibrate(tape(drawn(seconds=5)), settings())


@pytest.fixture(scope="module")
def with_signal(made: Calibration) -> Calibration:
    count = len(signal.FEATURES)
    found = SignalFit(5.0, signal.FEATURES, (0.123456,) * count, (1.0,) * count, 0.1, 6_000, 0.2, 0.1, (), ())
    return msgspec.structs.replace(made, signal=found)


def row(distance_bps: float, worth_bps: float, known: bool = True) -> Beyond:
    between = Interval(worth_bps - 1, worth_bps + 1, 9) if known else None
    return Beyond(From.FAIR, "up", distance_bps, 5.0, 40, worth_bps - distance_bps, worth_bps, between)


def loaded(text: str, tmp_path: Path) -> dict[str, object]:
    path = tmp_path / "fragment.toml"
    path.write_text(text, encoding="utf-8")
    result = load(path, {}, {})
    return {name: value for name, value in result.settings.flat().items() if result.origins[name] == str(path)}


# --- the preset -------------------------------------------------------------------------------------------------------


def test_the_preset_sets_what_was_fitted_and_says_where_each_figure_is_from(
    with_signal: Calibration, tmp_path: Path
) -> None:
    text = fragment(with_signal)
    said = loaded(text, tmp_path)
    found = with_signal.intensity["both"]
    assert isinstance(found, Intensity)
    assert said["glft.intensity_per_s"] == pytest.approx(found.a_per_s, rel=1e-3)
    assert said["glft.decay_per_bp"] == pytest.approx(found.k_per_bp, rel=1e-3)
    assert said["glft.fit_r2"] == pytest.approx(found.r2, abs=1e-4)
    for name in signal.FEATURES:
        assert said[f"signal.{name}_weight"] == 0.1235
    widths = {name: value for name, value in said.items() if name.endswith("spread_min_bps")}
    assert widths
    assert set(widths.values()) == {0.2}  # a print beyond 0.1 bps earns already
    lines = text.splitlines()
    for line in lines:
        if " = " in line and not line.startswith(("#", "preset")):
            assert "  # " in line, f"no figure beside {line}"
    assert any(line.startswith("#   ") and "by steps of 1 s" in line for line in lines)
    assert "quotes.model" not in text


def test_nothing_fitted_sets_nothing_and_says_why(nothing: Calibration, tmp_path: Path) -> None:
    text = nothing.preset
    assert set(loaded(text, tmp_path)) == {"preset"}
    assert text.count("too few prints in this regime") == 5
    assert "# no A and k, " in text
    assert "# no weights, " in text
    assert "# " + "  not known by steps of 1 s" in text


def test_a_refused_fit_is_not_in_the_preset(made: Calibration, tmp_path: Path) -> None:
    found = made.intensity["both"]
    assert isinstance(found, Intensity)
    text = fragment(msgspec.structs.replace(made, intensity={"both": Poor(found, "R2 is 0.1")}))
    assert '# no A and k, so quotes.model = "glft" is refused: R2 is 0.1' in text
    assert not [name for name in loaded(text, tmp_path) if name.startswith("glft.")]


def test_where_nothing_pays_the_width_stays(made: Calibration, tmp_path: Path) -> None:
    text = fragment(msgspec.structs.replace(made, beyond=(row(0.1, -2.0), row(0.5, -0.5), row(1.0, -1.0))))
    assert not [name for name in loaded(text, tmp_path) if name.startswith("regimes.")]
    assert "# spread_min_bps stays" in text
    assert "as far as 1 bps" in text
    assert "best -0.50 bps at 0.5 (40 prints, 95 % -1.5 to 0.5)" in text


def test_it_pays_from_where_every_further_distance_pays_too() -> None:
    assert pays_from([row(0.1, 1.0), row(0.5, -0.1), row(1.0, 0.1), row(2.0, 0.5)]) == row(1.0, 0.1)
    assert pays_from([row(0.1, 1.0), row(0.5, -0.1)]) is None
    assert pays_from([]) is None


def test_what_is_known_of_too_few_blocks_suggests_nothing(made: Calibration) -> None:
    text = fragment(msgspec.structs.replace(made, beyond=(row(0.1, -1.0), row(2.0, 3.0, known=False))))
    assert "spread_min_bps = " not in text


def test_widths_and_weights_are_held_within_bounds_and_each_other(with_signal: Calibration, tmp_path: Path) -> None:
    fit = with_signal.signal
    assert isinstance(fit, SignalFit)
    wild = msgspec.structs.replace(fit, weights=(99.0,) * len(fit.weights))
    calm = msgspec.structs.replace(row(12.5, 1.0), regime="neutral_low_vol")
    near = msgspec.structs.replace(row(0.01, 1.0), regime="down")
    text = fragment(msgspec.structs.replace(with_signal, signal=wild, beyond=(calm, near)))
    said = loaded(text, tmp_path)
    assert said["regimes.neutral_low_vol.spread_min_bps"] == 25.0
    most = float(PRESETS["tight"]["regimes.neutral_low_vol.spread_max_bps"])
    assert said.get("regimes.neutral_low_vol.spread_max_bps", most) == max(50.0, most) > 25.0
    assert said["regimes.down.spread_min_bps"] == 0.1
    assert "; held at the least, it was 0.02" in text
    assert said[f"signal.{signal.FEATURES[0]}_weight"] == 5.0
    assert "; held at the most, it was 99" in text


def test_quotes_rest_on_the_signal_so_widths_do_where_there_is_one(made: Calibration) -> None:
    blind, knowing = row(0.1, 1.0), msgspec.structs.replace(row(1.0, 1.0), of=From.SIGNAL)
    text = fragment(msgspec.structs.replace(made, beyond=(blind, knowing)))
    assert "spread_min_bps = 2.0  # twice 1 bps from fair value with the signal below" in text


def test_a_recording_cannot_write_settings(made: Calibration, tmp_path: Path) -> None:
    named = msgspec.structs.replace(made.source, symbol=HOSTILE, venue=HOSTILE, quote=HOSTILE)
    text = fragment(msgspec.structs.replace(made, source=named))
    assert "limits" not in tomllib.loads(text)
    assert "limits.collar_bps" not in loaded(text, tmp_path)


# --- JSON, tables, page -----------------------------------------------------------------------------------------------


def test_three_files_are_written_and_the_json_is_all_of_it(made: Calibration, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "folder"
    assert write(made, out) == tuple(out / name for name in NAMES)
    assert write(made, out) == tuple(out / name for name in NAMES)
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    assert msgspec.json.decode((out / "calibration.json").read_bytes(), type=Calibration) == made
    assert (out / "calibration.toml").read_text(encoding="utf-8") == made.preset
    embedded = [text for kind, text in parsed(out / "calibration.html").blocks if kind == "application/json"]
    assert embedded == [(out / "calibration.json").read_text(encoding="utf-8")]


def test_json_says_not_made_and_never_a_number(nothing: Calibration) -> None:
    data = json.loads(msgspec.json.encode(nothing))
    for each in (data["closed_form"], data["signal"], *data["intensity"].values(), *data["reach"].values()):
        assert set(each) == {"type", "why"}
        assert each["type"] == "not_made"
    assert data["markouts"] == data["windows"] == data["beyond"] == []


def test_every_fit_is_in_a_table_and_every_missing_one_says_why(made: Calibration, nothing: Calibration) -> None:
    shown = {table.name: table for table in tables(made)}
    assert all(table.rows for table in shown.values())
    for table in shown.values():
        assert {len(each) for each in table.rows} <= {len(table.columns)}
    for name, table in {table.name: table for table in tables(nothing)}.items():
        assert not table.rows
        assert table.notes, name
    assert [each[0] for each in shown["horizons"].rows] == ["1 s", "5 s", "15 s", "30 s"]
    brief = {table.name: table for table in tables(made, every=False)}
    assert 0 < len(brief["beyond"].rows) < len(shown["beyond"].rows)
    assert 0 < len(brief["markouts"].rows) < len(shown["markouts"].rows)
    assert [between_text(*each) for each in ((None, None), (None, 0.0), (5.0, None), (0.5, 1.0))] == [
        *("all", "below 0", "5 and more", "0.5 to 1")
    ]
    assert dict(source_lines(made))["market"] == "recorded at made, BTCUSDT perpetual"


@pytest.mark.parametrize(("which", "width", "scheme"), [("with_signal", 390, "dark"), ("nothing", 1280, "light")])
def test_offline_it_asks_for_nothing_complains_of_nothing_and_draws_what_there_is(
    which: str, width: int, scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    calibration: Calibration = request.getfixturevalue(which)
    write(calibration, tmp_path)
    path = tmp_path / "calibration.html"
    with opened(path, width=width, scheme=scheme) as (page, requests, complaints):
        heard = list(complaints)
        painted = [canvas.evaluate(PAINTED) for canvas in page.query_selector_all("canvas")]
        empty = page.locator(".panel .empty").count()
        said = page.locator("#missing li").all_inner_texts()
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert requests == [path.as_uri()]
    assert heard == []
    assert too_wide <= 0
    # Of a fit with no blocks nothing is drawn either.
    assert (len(painted), empty) == ((len(PLOTS) - 1, 1) if which == "with_signal" else (0, len(PLOTS)))
    assert all(count > 8 for count in painted), "a plot is blank"
    assert [each.strip() for each in said] == [" ".join(each.split()) for each in calibration.missing()]


def test_what_a_recording_says_stays_text(made: Calibration, tmp_path: Path) -> None:
    facts = {**made.source.facts, HOSTILE: HOSTILE}
    named = msgspec.structs.replace(made.source, symbol=HOSTILE, venue=HOSTILE, quote=HOSTILE, facts=facts)
    told = msgspec.structs.replace(made, source=named, signal=NotMade(HOSTILE))
    write(told, tmp_path)
    page = parsed(tmp_path / "calibration.html")
    assert "img" not in page.tags
    raw = (tmp_path / "calibration.html").read_text(encoding="utf-8")
    assert HOSTILE not in raw
    assert page_of(told, (tmp_path / "calibration.json").read_bytes()) == raw
