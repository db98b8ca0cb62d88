"""Settings: what is refused and how it is said, which source wins, what is documented, and what reaches the core."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.params import Params
from mmdaemon.core.types import E10, NS, Instrument, Regime
from mmdaemon.settings import (
    ConfigError,
    Loaded,
    Problem,
    Settings,
    assignments,
    config_folder,
    least_equity,
    load,
    shipped_config,
)
from mmdaemon.settings.credentials import VARIABLES
from mmdaemon.settings.documents import CONFIG_FILES, documents, settings_markdown
from mmdaemon.settings.model import bounds_of, catalogue, default_of, extra_of, is_hashed, tables
from mmdaemon.settings.presets import COLUMNS, PRESETS
from mmdaemon.settings.problems import looks_secret, unit_of

ROOT = Path(__file__).resolve().parents[1]
BTC = Instrument.of(
    venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000, min_notional_e10=5 * E10
)
NUMBERS = {path: field for path, field in catalogue().items() if bounds_of(field) != (None, None)}


def load_text(tmp_path: Path, text: str, env: Mapping[str, str] | None = None, **overrides: Any) -> Loaded:
    file = tmp_path / "test.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, {key.replace("__", "."): value for key, value in overrides.items()}, env or {})


def problems(tmp_path: Path, text: str, env: Mapping[str, str] | None = None, **overrides: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, env, **overrides)
    return list(caught.value.problems)


def only(found: list[Problem]) -> Problem:
    assert len(found) == 1, found
    return found[0]


# --- defaults ---------------------------------------------------------------------------------------------------------


def test_defaults_are_valid_and_come_from_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDAEMON_LIMITS__COLLAR_BPS", "99")
    assert Settings().limits.collar_bps == 200.0, "only `load` reads the environment"
    assert load(None, environ={}).settings == Settings()
    assert load(None).settings.limits.collar_bps == 99.0


def test_defaults_of_the_design() -> None:
    settings = Settings()
    assert settings.run.mode == "simulated"
    assert settings.simulated.equity_quote == 100_000
    assert (settings.simulated.maker_fee_bps, settings.simulated.taker_fee_bps) == (2, 6)
    assert (settings.venue.in_flight_max_s, settings.guard.book_age_max_s) == (15, 2)
    assert (settings.guard.daily_loss_fraction, settings.guard.drawdown_fraction) == (0.03, 0.05)
    assert settings.metrics.port == 9877
    row = settings.regimes.neutral_low_vol
    assert (row.spread_min_bps, row.spread_max_bps, row.levels_min, row.levels_max) == (2, 12, 1, 1)


def test_desk_preset_is_the_desk_s_table() -> None:
    settings = Settings(preset="desk")
    shock = settings.regimes.high_vol_shock
    assert (shock.spread_min_bps, shock.spread_max_bps, shock.refresh_s) == (80, 200, 120)
    assert shock.order_size_fraction == pytest.approx((0.0003 + 0.0005) / 2)
    assert settings.quotes.max_position_fraction == 0.60
    assert settings.quotes.max_position_quote == 1_000
    assert settings.limits.max_order_quote == 250
    assert settings.limits.cancels_per_minute == 50


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fill_the_whole_table_with_settings_that_exist(name: str) -> None:
    assert {f"regimes.{regime}.{column}" for regime in Regime for column in COLUMNS} <= set(PRESETS[name])
    assert set(PRESETS[name]) <= set(catalogue())
    loaded = load(None, {"preset": name}, {})
    for path, value in PRESETS[name].items():
        assert loaded.settings.flat()[path] == value
        assert loaded.origins[path] == f"preset {name}"


# --- precedence -------------------------------------------------------------------------------------------------------


def test_precedence_and_origin(tmp_path: Path) -> None:
    path, toml = "limits.collar_bps", "[limits]\ncollar_bps = 110"
    env = {"MMDAEMON_LIMITS__COLLAR_BPS": "120"}
    for loaded, value, origin in (
        (load(None, environ={}), 200, "default"),
        (load_text(tmp_path, toml), 110, str(tmp_path / "test.toml")),
        (load_text(tmp_path, toml, env), 120, "$MMDAEMON_LIMITS__COLLAR_BPS"),
        (load_text(tmp_path, toml, env, limits__collar_bps=130), 130, "command line"),
        (load_text(tmp_path, "", None, limits__collar_bps=130), 130, "command line"),
    ):
        assert loaded.settings.limits.collar_bps == value
        assert loaded.origins[path] == origin
        assert loaded.origins["limits.max_open_orders"] == "default", "a table is merged key by key"


@pytest.mark.parametrize("source", ["toml", "env", "cli"])
def test_one_cell_of_the_table_over_the_preset(tmp_path: Path, source: str) -> None:
    loaded = load_text(
        tmp_path,
        'preset = "desk"\n' + ("[regimes.up]\nspread_min_bps = 9" if source == "toml" else ""),
        {"MMDAEMON_REGIMES__UP__SPREAD_MIN_BPS": "9"} if source == "env" else {},
        **({"regimes__up__spread_min_bps": 9} if source == "cli" else {}),
    )
    assert loaded.settings.regimes.up.spread_min_bps == 9
    assert loaded.settings.regimes.up.spread_max_bps == 55, "the rest of the row is the preset's"
    assert loaded.settings.quotes.max_position_fraction == 0.6


def test_a_preset_named_by_any_source_lies_under_all_of_them(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "[limits]\nmax_order_quote = 99", {"MMDAEMON_PRESET": "desk"})
    assert loaded.settings.limits.max_order_quote == 99
    assert loaded.settings.limits.cancels_per_minute == 50
    assert load_text(tmp_path, 'preset = "desk"', preset="tight").settings.limits.cancels_per_minute == 280


def test_texts_of_environment_and_command_line_are_read_as_toml() -> None:
    env = {
        "MMDAEMON_RUN__STATE_DIR": "2024",
        "MMDAEMON_RUN__SEED": "1_000",
        "MMDAEMON_CONTROL__ENABLED": "false",
        "MMDAEMON_SIMULATED__FILLS": "touch",
        "MMDAEMON_QUOTES__SKEW_CAP_BPS": "1e1",
        "MMDAEMON_SHARED": "/not/a/setting",
        "OTHER": "x",
    }
    settings = load(None, assignments(["run.duration_s=60", "simulated.post_only = reject"]), env).settings
    assert settings.run.state_dir == "2024", "text stays text, whatever it looks like"
    assert settings.run.seed == 1_000
    assert settings.control.enabled is False
    assert settings.simulated.fills == "touch"
    assert settings.quotes.skew_cap_bps == 10
    assert settings.run.duration_s == 60
    assert settings.simulated.post_only == "reject"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "nearest"),
    [
        ("[limits]\ncolar_bps = 9", "limits.colar_bps", "limits.collar_bps"),
        ("[guard]\nbook_age_max = 9", "guard.book_age_max", "guard.book_age_max_s? Its unit is seconds"),
        ("[guard]\nbook_age_max_ms = 2000", "guard.book_age_max_ms", "guard.book_age_max_s? Its unit is seconds"),
        ("[guard]\nbook_age_ms = 2000", "guard.book_age_ms", "guard.book_age_max_s? Its unit is seconds"),
        ("[guard]\ndaily_loss_pct = 3", "guard.daily_loss_pct", "guard.daily_loss_fraction? Its unit is a fraction"),
        ("[guard]\ncollar_bps = 9", "guard.collar_bps", "limits.collar_bps"),
        ("[limit]\ncolar_bps = 9", "limit.colar_bps", "limits.collar_bps"),
        ("[regimes.upp]\nlevels_max = 3", "regimes.upp.levels_max", "levels_max"),
        ("[regimes.up]\nlevel_max = 3", "regimes.up.level_max", "regimes.up.levels_max"),
        ("pre_set = 'desk'", "pre_set", "preset"),
        ("[zzz.qqq]\nxxxxxxxx = 1", "zzz.qqq.xxxxxxxx", ""),
        ("[strategy]", "strategy", ""),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(tmp_path: Path, text: str, path: str, nearest: str) -> None:
    problem = only(problems(tmp_path, text))
    assert problem.path == path
    assert problem.reason == "is not a setting"
    assert nearest in problem.nearest
    assert bool(nearest) == bool(problem.nearest)
    assert problem.origin == str(tmp_path / "test.toml")


@pytest.mark.parametrize("name", ["LIMITS__COLAR_BPS", "LIMITS_COLLAR_BPS", "limits__collar_bps"])
def test_unknown_variables_are_refused_with_the_nearest(tmp_path: Path, name: str) -> None:
    problem = only(problems(tmp_path, "", {f"MMDAEMON_{name}": "9"}))
    assert problem.origin == f"$MMDAEMON_{name}"
    assert "limits.collar_bps" in problem.nearest


def test_unknown_overrides_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, assignments(["limits.colar_bps=9"]), {})
    assert only(list(caught.value.problems)).origin == "command line"
    with pytest.raises(ConfigError, match=r"--set limits\.collar_bps=VALUE"):
        assignments(["limits.collar_bps"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[limits]\ncollar_bps = "200"', "must be a number, in bps"),
        ("[limits]\ncollar_bps = true", "must be a number"),
        ("[limits]\ncollar_bps = [200]", "must be a number"),
        ("[limits]\ncollar_bps = 2024-01-01", "must be a number"),
        ("[limits.collar_bps]\nvalue = 200", "must be a number"),
        ("[limits]\nmax_open_orders = 20.0", "must be a whole number"),
        ("[limits]\ncollar_bps = nan", "is not a finite number"),
        ("[limits]\ncollar_bps = inf", "is above 500, the ceiling that is compiled in"),
        ("[limits]\ncollar_bps = -1", "is below 1, the least allowed"),
        ('[control]\nenabled = "yes"', "must be true or false"),
        ("[control]\nenabled = 1", "must be true or false"),
        ('[simulated]\nfills = "probability"', 'must be one of "through", "queue", "touch"'),
        ("[run]\nstate_dir = 7", "must be text"),
        ('[run]\ninstance = "../x"', "should match pattern"),
        ("limits = 5", "is a table of settings, not a value"),
        ("[[limits]]\ncollar_bps = 5", "is a table of settings, not a value"),
        ('preset = "tigt"', 'must be one of "tight", "desk"'),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in only(problems(tmp_path, text)).reason


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        ("guard.book_age_max_s", 2_000, "milliseconds: this setting is in seconds, write 2"),
        ("run.crash_loop_window_s", 600_000, "milliseconds: this setting is in seconds, write 600"),
        ("guard.daily_loss_fraction", 3, "percent: this setting is a fraction, write 0.03"),
        ("guard.daily_loss_fraction", 300, "bps: this setting is a fraction, write 0.03"),
        ("limits.collar_bps", 0.02, "a fraction of price: this setting is in bps, write 200"),
        ("detector.middle_quantile", 70, "percent: this setting is a fraction, write 0.7"),
    ],
)
def test_a_value_in_another_unit_is_recognised(path: str, value: float, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {path: value}, {})
    assert hint in only(list(caught.value.problems)).nearest


def test_a_fraction_that_is_too_large_is_no_percentage() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"quality.tracker_return_fraction": 1}, {})
    problem = only(list(caught.value.problems))
    assert ("above 0.95" in problem.reason, problem.nearest) == (True, "")


REAL = {"run.mode": "testnet", "journal.durability": "power", "venue.in_flight_max_s": 31}
NOT_LOOPBACK = (
    "localhost:8080", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:8080/", "127.0.0.1:80@example.org:80",
    "127.0.0.1.example.org:80", "[::1]:8080", "0.0.0.0:8080", "api.bitget.com:80", "127.1:80",
)  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"regimes.up.spread_min_bps": 36}, "regimes.up.spread_min_bps"),
        ({"regimes.up.levels_min": 2}, "regimes.up.levels_min"),
        ({"regimes.up.levels_max": 10, "limits.max_open_orders": 19}, "regimes.up.levels_max"),
        ({"regimes.up.order_size_fraction": 0.05, "regimes.up.levels_max": 2}, "regimes.up.order_size_fraction"),
        ({"limits.collar_bps": 19}, "regimes.high_vol_shock.spread_max_bps"),
        ({"detector.middle_band_bps": 7}, "detector.middle_band_bps"),
        ({"detector.middle_quantile": 0.995}, "detector.middle_quantile"),
        ({"cost.turnover_soft_multiple": 4}, "cost.turnover_soft_multiple"),
        ({"guard.margin_hard_fraction": 0.3}, "guard.margin_hard_fraction"),
        ({"guard.position_unknown_s": 20}, "venue.reconcile_position_s"),
        ({"limits.max_order_quote": 100_001}, "limits.max_order_quote"),
        ({"limits.messages_per_minute": 279}, "limits.cancels_per_minute"),
        ({"quality.pull_horizon_s": 60, "quality.pull_memory_s": 2879}, "quality.pull_memory_s"),
        ({"quality.pull_memory_s": 479}, "quality.pull_memory_s"),
        ({"quality.pull_horizon_s": 7}, "quality.pull_horizon_s"),
        ({"quotes.model": "glft"}, "glft.fit_r2"),
        ({"derisk.touch_after_s": 301}, "derisk.touch_after_s"),
        ({"simulated.request_latency_s": 2, "venue.in_flight_max_s": 1}, "simulated.request_latency_s"),
        ({**REAL, "venue.in_flight_max_s": 30}, "venue.in_flight_max_s"),
        ({**REAL, "guard.clock_offset_max_s": 2.0}, "venue.in_flight_max_s"),
        ({**REAL, "venue.exchange": "okx", "venue.in_flight_max_s": 14}, "venue.in_flight_max_s"),
        ({**REAL, "journal.durability": "process"}, "journal.durability"),
        ({**REAL, "run.mode": "live", "venue.exchange": "okx"}, "venue.exchange"),
        ({"quotes.depth_levels": 11}, "quotes.depth_levels"),
        ({"venue.dead_man_s": 4}, "venue.dead_man_s"),
        ({"venue.stop_bps": 49}, "venue.stop_bps"),
        ({"venue.emulator": "http://127.0.0.1:8080"}, "venue.emulator"),
        *(({**REAL, "venue.emulator": f"http://{where}"}, "venue.emulator") for where in NOT_LOOPBACK),
        ({"run.mode": "paper", "run.tape": "x"}, "run.tape"),
        ({"run.mode": "paper", "run.speed": "max"}, "run.speed"),
    ],
)
def test_contradictions_are_refused(overrides: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides, {})
    assert only(list(caught.value.problems)).path == path


def test_settings_built_in_code_are_checked_too() -> None:
    with pytest.raises(ValueError, match=r"guard\.margin_hard_fraction exceeds guard\.margin_soft_fraction"):
        Settings.model_validate({"guard": {"margin_hard_fraction": 0.3}})
    with pytest.raises(ValueError, match="frozen"):
        Settings().limits.collar_bps = 900


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"run.mode": "paper"},
        {**REAL, "venue.emulator": "http://127.0.0.1:8080"},
        {**REAL, "run.mode": "live", "venue.emulator": "http://127.0.0.1:65535"},
    ],
)
def test_short_windows_where_no_exchange_trades_are_allowed(overrides: dict[str, Any]) -> None:
    assert load(None, {**overrides, "venue.in_flight_max_s": 1}, {}).settings.venue.in_flight_max_s == 1


def test_an_exchange_without_proof_trades_live_where_the_operator_insists() -> None:
    okx = {**REAL, "venue.exchange": "okx"}
    assert load(None, okx, {}).settings.venue.exchange == "okx", "its test environment is there to find out"
    insisted = {**okx, "run.mode": "live", "venue.insist_unproven": True}
    assert load(None, insisted, {}).settings.run.mode == "live"


def test_what_a_flag_stands_for_holds_where_nobody_says_anything(tmp_path: Path) -> None:
    flag: Any = {"run.mode": "paper", "preset": "desk"}
    loaded = load(None, {}, {}, flag)
    assert (loaded.settings.run.mode, loaded.origins["run.mode"]) == ("paper", "flag")
    assert loaded.settings.limits.cancels_per_minute == 50
    file = tmp_path / "c.toml"
    file.write_text('[run]\nmode = "simulated"')
    said = load(file, {}, {}, flag)
    assert (said.settings.run.mode, said.origins["run.mode"]) == ("simulated", str(file))


CANARY = "canary-5f3a9c1e77d04b"


@pytest.mark.parametrize(
    "text",
    [
        f'api_key = "{CANARY}"',
        f'[venue]\nsecret = "{CANARY}"',
        f'[venue]\nPassphrase = "{CANARY}"',
        f'[venue]\napi_secrt = "{CANARY}"',
        f'[credentials]\nbitget = "{CANARY}"',
        f'[venue.bitget]\naccess-token = "{CANARY}"',
        f'venue = {{ x = {{ apikey = "{CANARY}" }} }}',
        f'[venue]\nsymbl = "{CANARY}"',
        f'[venue]\nsymbl = ["{CANARY}"]',
    ],
)
def test_keys_in_toml_are_an_error_and_never_repeated(tmp_path: Path, text: str) -> None:
    problem = only(problems(tmp_path, text))
    assert CANARY not in str(problem)
    if "symbl" not in text:
        assert "key or credential" in problem.reason
        assert "LoadCredential" in problem.nearest


def test_keys_in_variables_and_overrides_are_not_repeated(tmp_path: Path) -> None:
    found = problems(tmp_path, "", {"MMDAEMON_VENUE__API_KEY": CANARY}, venue__secret=CANARY)
    assert [problem.path for problem in found] == ["venue.api_key", "venue.secret"]
    assert CANARY not in "".join(map(str, found))


@pytest.mark.parametrize("value", ["bg_0123456789abcdef0123456789abcdef", "5f3a9c1e77d04b" * 3, f" {'A1' * 32} "])
@pytest.mark.parametrize("path", ["venue.symbol", "run.state_dir", "run.instance", "venue.emulator", "preset"])
def test_a_key_under_the_name_of_a_setting_is_an_error_and_never_repeated(
    tmp_path: Path, path: str, value: str
) -> None:
    table, _, key = path.rpartition(".")
    for found in (
        problems(tmp_path, (f"[{table}]\n" if table else "") + f'{key} = "{value}"'),
        problems(tmp_path, "", {"MMDAEMON_" + path.upper().replace(".", "__"): value}),
        problems(tmp_path, "", None, **{path: value}),
    ):
        problem = only(found)
        assert (problem.path, problem.reason) == (path, "looks like a key, which is never a setting")
        assert value.strip() not in str(problem)
        assert "bitget_api_secret" in problem.nearest


def test_the_variables_of_credentials_are_no_settings(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "", dict.fromkeys(VARIABLES, CANARY))
    assert loaded.settings == Settings()


def test_no_setting_looks_like_a_secret() -> None:
    assert [path for path in catalogue() if looks_secret(path)] == []


def test_all_errors_at_once(tmp_path: Path) -> None:
    text = (
        "[limits]\ncollar_bps = 900\ncolar = 1\n[guard]\nmargin_soft_fraction = 'x'\n[regimes.up]\nspread_min_bps = 36"
    )
    found = problems(tmp_path, text, {"MMDAEMON_RUN__SEED": "-1"}, metrics__port=70_000)
    assert [problem.path for problem in found] == [
        "guard.margin_soft_fraction",
        "limits.colar",
        "limits.collar_bps",
        "metrics.port",
        "regimes.up.spread_min_bps",
        "run.seed",
    ]
    port = found[3]
    assert (port.origin, port.value) == ("command line", "70000")
    assert str(port) == "metrics.port = 70000 (command line): is above 65535, the ceiling that is compiled in"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[limits\n", "is not TOML"),
        (b"[limits]\ncollar_bps = 1\ncollar_bps = 2", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "there is no such file"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "x.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    problem = only(list(caught.value.problems))
    assert problem.path == str(file)
    assert reason in problem.reason
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {}, {})


# --- ceilings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NUMBERS)
def test_no_source_passes_a_bound(tmp_path: Path, path: str) -> None:
    low, high = bounds_of(NUMBERS[path])
    assert low is not None
    assert high is not None, f"{path} has no ceiling"
    step = 1 if NUMBERS[path].annotation is int else 1e-3
    table, _, key = path.rpartition(".")
    for value in (high + max(step, high * 1e-9) if step != 1 else high + 1, low - step):
        for found in (
            problems(tmp_path, f"[{table}]\n{key} = {value}"),
            problems(tmp_path, "", {"MMDAEMON_" + path.upper().replace(".", "__"): str(value)}),
            problems(tmp_path, "", None, **{path: value}),
        ):
            # A bound that is passed is reported for that path, once, whatever else it contradicts.
            assert [problem.path for problem in found].count(path) == 1


def test_ceilings_that_protect_money() -> None:
    ceilings = {
        "venue.leverage": 5,
        "quotes.max_position_fraction": 3.0,
        "guard.daily_loss_fraction": 0.2,
        "guard.drawdown_fraction": 0.3,
        "limits.collar_bps": 500,
        "limits.cancels_per_minute": 600,
        "guard.book_age_max_s": 30,
    } | {f"regimes.{regime}.order_size_fraction": 0.05 for regime in Regime}
    assert {path: bounds_of(catalogue()[path])[1] for path in ceilings} == ceilings
    assert bounds_of(catalogue()["limits.reserve_for_cancels_fraction"])[0] == 0.3


# --- the hash ---------------------------------------------------------------------------------------------------------


def another(path: str) -> Any:
    """A valid value of this setting other than its default, alone in its change."""
    field, default = catalogue()[path], default_of(path)
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        choices = getattr(field.annotation, "__args__", ())
        if path == "venue.emulator":
            return "http://127.0.0.1:8080"
        if path in ("signals.shadow_sources", "signals.careful_sources"):
            return "operator"
        return next((choice for choice in choices if choice != default), "other")
    if path == "quality.pull_horizon_s":
        return 30
    low, high = bounds_of(field)
    assert low is not None
    assert high is not None
    special = {
        "venue.book_depth": 9,
        "venue.dead_man_s": 29,
        "limits.max_open_orders": 21,
        "quotes.max_position_quote": 90_000.0,
    }
    if path in special:
        return special[path]
    up = path.endswith(
        ("_max_bps", "levels_max", "shock_band_bps", "shock_quantile", "_cap_multiple", "absolute_shock_bps")
    )
    up |= path in {"guard.margin_soft_fraction", "guard.position_unknown_s", "limits.messages_per_minute"}
    if field.annotation is int:
        return default + 1 if (up or default - 1 < low) and default + 1 <= high else default - 1
    return min(default * 1.01, high) if up or default * 0.99 < low or default == low else default * 0.99


def changed(path: str) -> Settings:
    value = 1.0 if default_of(path) == 0.0 and catalogue()[path].annotation is float else another(path)
    overrides = {path: value}
    if path == "venue.emulator":
        overrides["run.mode"] = "paper"
    if path == "quotes.model":
        overrides["glft.fit_r2"] = 0.9
    if path.endswith("levels_min"):
        overrides[path.replace("_min", "_max")] = value
    return load(None, overrides, {}).settings


# Settings that act through others: a preset through its values.
@pytest.mark.parametrize("path", sorted(set(catalogue()) - {"preset"}))
def test_every_setting_but_paths_and_ports_is_in_the_hash(path: str) -> None:
    settings = changed(path)
    assert settings.flat()[path] != default_of(path)
    before = load(None, {"run.mode": settings.run.mode} if path != "run.mode" else {}, {}).settings
    assert (settings.config_hash != before.config_hash) == is_hashed(catalogue()[path])


def test_paths_ports_and_ways_to_look_and_nothing_else_are_left_out_of_the_hash() -> None:
    left_out = {path for path, field in catalogue().items() if not is_hashed(field)}
    assert left_out == {
        "run.tape", "run.state_dir", "run.instance", "venue.remote", "venue.emulator", "metrics.port",
        "log.level", "backup.dir", "page.enabled", "page.port", "page.history_s",
    }  # fmt: skip


def test_the_hash_is_of_values_not_of_their_source(tmp_path: Path) -> None:
    as_toml = load_text(tmp_path, "[limits]\ncollar_bps = 150").settings.config_hash
    assert as_toml == load(None, {"limits.collar_bps": 150.0}, {}).settings.config_hash
    assert as_toml == load(None, {}, {"MMDAEMON_LIMITS__COLLAR_BPS": "1.5e2"}).settings.config_hash
    by_hand = {path: default_of(path, "desk") for preset in PRESETS.values() for path in preset}
    desk_by_hand = load(None, by_hand, {}).settings
    assert desk_by_hand.config_hash == Settings(preset="desk").config_hash
    zeros = [load(None, {"simulated.maker_fee_bps": zero}, {}).settings.config_hash for zero in (0.0, -0.0)]
    assert zeros[0] == zeros[1]


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "from mmdaemon.settings import Settings; print(Settings().config_hash)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == Settings().config_hash


# --- to the core ------------------------------------------------------------------------------------------------------


def numbers(params: Params) -> Any:
    return json.loads(msgspec.json.encode(msgspec.structs.replace(params, config_hash="")))


def differing(before: Any, after: Any, prefix: str = "") -> set[str]:
    if not isinstance(before, dict):
        return {prefix} if before != after else set()
    if before.keys() != after.keys():
        return {prefix}
    return {path for key in before for path in differing(before[key], after[key], f"{prefix}.{key}".strip("."))}


TO_PARAMS = {
    "venue.in_flight_max_s": {"in_flight_max_ns"},
    "venue.ack_check_s": {"ack_check_ns"},
    "venue.amend": {"diff.can_amend"},
    "run.rollover_hour_utc": {"rollover_hour_utc"},
    "run.shadow": {"shadow"},
    "limits.max_order_quote": {"limits.max_order_e10", "quotes.max_order_e10"},
    "signals.sources": {"signals.sources"},
    "signals.shadow_sources": {"signals.sources.operator.shadow"},
    "signals.careful_sources": {"signals.sources.operator.kinds"},
    "signals.min_confidence": {"signals.sources.operator.min_confidence"},
    "signals.max_age_s": {"signals.sources.operator.max_age_ns"},
    "signals.ttl_max_s": {"signals.sources.operator.ttl_max_ns"},
    "signals.rate_per_minute": {"signals.sources.operator.rate_per_minute"},
    "quotes.min_quote_life_s": {"diff.min_quote_life_ns"},
    "quotes.max_position_quote": {"quotes.max_position_e10"},
    "quotes.tolerance_fraction": {"quotes.tolerance_share"},
    "cost.adverse_memory_s": {"cost.adverse_tau_ns"},
    "cost.inventory_half_life_s": {"cost.inventory_tau_ns"},
    "guard.position_unknown_s": {"guard.unknown_position_ns"},
    "detector.exit_fraction": {"detector.exit_share"},
    "signal.print_weight": {"signal.weights"},
    "signal.momentum_weight": {"signal.weights"},
    "signal.gap_weight": {"signal.weights"},
    "signal.lean_weight": {"signal.weights"},
    "glft.intensity_per_s": {"glft.intensity_per_s"},
    "glft.fit_r2": set(),
    "glft.fit_r2_min": set(),
    "gate.return_fraction": {"gate.return_share"},
    "quality.tracker_multiplier": {"quality.tracker_widen"},
    "quality.tracker_memory_s": {"quality.tracker_tau_ns"},
    "quality.tracker_return_fraction": {"quality.tracker_return"},
    "quality.pull": {"quality.pull_enabled"},
    "quality.pull_horizon_s": {"quality.pull_horizon_s"},
    "derisk.day_end_position_fraction": {"derisk.day_end_share"},
}
CORE_TABLES = ("signals.",
    "regimes.", "detector.", "cost.", "quotes.", "signal.", "glft.", "gate.", "quality.", "derisk.",
    "limits.", "guard.",
)  # fmt: skip


def expected_in_params(path: str) -> set[str]:
    if path in TO_PARAMS:
        return TO_PARAMS[path]
    if path.endswith("levels_min"):  # `changed` moves both: the least may not exceed the most
        return {path, path.replace("_min", "_max")}
    if not path.startswith(CORE_TABLES):
        return set()
    for suffix in ("_fraction", "_multiple"):
        path = path.removesuffix(suffix)
    return {path.removesuffix("_s") + "_ns" if path.endswith("_s") else path}


def test_to_params_covers_every_field() -> None:
    """Changing one setting changes exactly the numbers of the core it stands for; and every number has its setting."""
    base = numbers(Settings().to_params(BTC, "abcd", 1))
    reached: set[str] = set()
    for path in sorted(set(catalogue()) - {"preset"}):
        moved = differing(base, numbers(changed(path).to_params(BTC, "abcd", 1)))
        assert moved == expected_in_params(path), path
        reached |= moved
    every = differing(base, json.loads(json.dumps(base), parse_int=lambda _: None, parse_float=lambda _: None))
    every |= {"diff.can_amend", "shadow"}
    given_otherwise = {path for path in every if path.startswith("instrument.")} | {"run_epoch"}
    assert every - reached == given_otherwise


def test_units_in_params() -> None:
    params = Settings().to_params(BTC, "abcd", 3)
    assert (params.instrument, params.bot_tag, params.run_epoch) == (BTC, "abcd", 3)
    assert params.config_hash == Settings().config_hash
    assert set(params.regimes) == set(Regime)
    assert params.guard.loop_lag_max_ns == NS // 2
    assert params.quotes.max_position_e10 == 100_000 * E10
    assert params.limits.max_order_e10 == params.quotes.max_order_e10 == 500 * E10
    assert params.cost.inventory_tau_ns == round(540 / 0.6931471805599453 * NS)
    assert (
        load(None, {"limits.max_order_quote": 250.1}, {}).settings.limits.to_params().max_order_e10 == 2_501 * E10 // 10
    )


def test_amending_needs_the_venue_and_the_operator() -> None:
    off = load(None, {"venue.amend": False}, {}).settings
    assert Settings().to_params(BTC, "abcd", 1).diff.can_amend
    assert not Settings().to_params(BTC, "abcd", 1, can_amend=False).diff.can_amend
    assert not off.to_params(BTC, "abcd", 1).diff.can_amend


@given(
    px_ticks=st.integers(1, 2_000_000),
    min_lots=st.integers(1, 500),
    min_notional=st.integers(0, 100),
    size=st.floats(1e-5, 0.01),
)
def test_least_equity_is_where_the_order_becomes_valid(
    px_ticks: int, min_lots: int, min_notional: int, size: float
) -> None:
    instrument = Instrument.of(
        venue="v", symbol="s", tick_e10=E10 // 10, lot_e10=E10 // 10_000,
        min_qty_lots=min_lots, min_notional_e10=min_notional * E10,
    )  # fmt: skip
    settings = load(None, {"regimes.up.order_size_fraction": size, "limits.max_order_quote": 100_000}, {}).settings
    row = next(row for row in least_equity(settings, instrument, px_ticks) if row.regime is Regime.UP)

    def valid(equity_quote: float) -> bool:
        lots = int(size * equity_quote * E10 * (1 + 1e-12)) // instrument.notional_e10(px_ticks, 1)
        return instrument.is_valid_size(px_ticks, lots)

    assert row.equity_quote is not None
    assert valid(row.equity_quote * (1 + 1e-9))
    assert not valid(row.equity_quote * (1 - 1e-6))


def test_no_equity_helps_where_the_order_cap_is_below_the_venue_s_minimum() -> None:
    settings = load(None, {"limits.max_order_quote": 4}, {}).settings
    assert all(row.equity_quote is None for row in least_equity(settings, BTC, 600_000))


# --- documents --------------------------------------------------------------------------------------------------------


def test_documents_are_as_generated() -> None:
    for path, text in documents(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m mmdaemon.settings.documents`"


def test_every_setting_is_documented_with_its_unit() -> None:
    text = settings_markdown()
    for path, field in catalogue().items():
        assert field.description, path
        cell = path.rpartition(".")[2] if path.startswith("regimes.") else path
        assert f"| `{cell}`" in text
        if path in NUMBERS:
            assert unit_of(path) or extra_of(field).get("unit"), f"{path} does not say its unit"
    for path, table in tables().items():
        assert table.__doc__, path


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_shipped_files_load_clean_and_hold_every_key(name: str, tmp_path: Path) -> None:
    file = shipped_config(name)
    assert file.parent == config_folder()
    loaded = load(file, {}, {})
    assert {path: loaded.settings.flat()[path] for path in CONFIG_FILES[name].sets} == CONFIG_FILES[name].sets
    lines = file.read_text(encoding="utf-8").splitlines()
    uncommented = "\n".join(line.removeprefix("#") for line in lines if not line.startswith("# "))
    tree = tomllib.loads(uncommented)
    for path in catalogue():
        value: Any = tree
        for key in path.split("."):
            value = value[key]
    everything = load_text(tmp_path, uncommented)
    assert everything.settings == loaded.settings, "what is commented out is what holds anyway"
    assert set(everything.origins.values()) == {str(tmp_path / "test.toml")}


@pytest.mark.parametrize("name", ["paper", "testnet", "live"])
def test_files_of_modes_say_the_flag_that_runs_them(name: str) -> None:
    text = " ".join(shipped_config(name).read_text(encoding="utf-8").replace("\n# ", " ").split())
    assert f"`mmdaemon run --{name} --config FILE`" in text
    assert ("bitget_api_passphrase" in text) == (name != "paper")
    assert load(shipped_config(name), {}, {}).settings.run.mode == name


def test_there_are_no_other_shipped_files() -> None:
    assert {path.stem for path in config_folder().glob("*.toml")} == set(CONFIG_FILES)
