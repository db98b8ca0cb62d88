"""`mmdaemon calibrate`: what it prints, what it writes, its exit codes, and whole recordings of real markets."""

import sys
from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli.main import main
from mmdaemon.research.calibration.page import NAMES
from mmdaemon.research.calibration.records import Calibration, Intensity, NotMade, Sigma, SignalFit, SignalPoor
from mmdaemon.tapes.parquet import write
from tests.research.calibration_tapes import drawn, instrument
from tests.tapes.made import Made


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tape") / "a.parquet"
    write(Made(drawn(seconds=900, sigma_bps=1.0), instrument=instrument(0.1)), path)
    return path


def read(out: Path) -> Calibration:
    return msgspec.json.decode((out / "calibration.json").read_bytes(), type=Calibration)


def test_it_prints_every_fit_and_writes_three_files(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["calibrate", str(recording), "--out", str(out)]) == 0
    told = capsys.readouterr()
    text = " ".join(told.out.split())
    for piece in (
        "recorded at made, BTCUSDT perpetual",
        "used all of it: 900 s",
        "Volatility of the mid",
        "Intensity of prints",
        "A, 1/s",
        "k, 1/bp",
        "R2 of the line",
        "Closed form (GLFT)",
        "gamma at which the largest position",
        "How far prints reach",
        "How often an order that is left there is reached",
        "What the average print was worth to its maker",
        "Short-horizon signal",
        "What an order at a distance would have been worth",
    ):
        assert piece in text
    for name in NAMES:
        assert f"written {out / name}" in text.replace("\n", "")
    made = read(out)
    assert isinstance(made.intensity["both"], Intensity)
    assert isinstance(made.sigma[0], Sigma)
    assert made.source.used == "all of it"


def test_the_preset_is_taken_by_check_config(recording: Path, tmp_path: Path) -> None:
    assert main(["calibrate", str(recording), "--out", str(tmp_path)]) == 0
    assert main(["check-config", "--config", str(tmp_path / "calibration.toml")]) == 0


def test_a_part_of_it_and_another_horizon(recording: Path, tmp_path: Path) -> None:
    assert main(["calibrate", str(recording), "--out", str(tmp_path / "a"), "--until", "0.5"]) == 0
    assert main(["calibrate", str(recording), "--out", str(tmp_path / "b"), "--hours", "0.125"]) == 0
    halves = [read(tmp_path / name) for name in "ab"]
    assert halves[0].source.seconds == pytest.approx(450, abs=1)
    assert halves[1].source.seconds == pytest.approx(450, abs=1)
    assert halves[1].source.used == "the first 0.125 h of it"
    assert main(["calibrate", str(recording), "--out", str(tmp_path / "c"), "--horizon", "20"]) == 0
    signal = read(tmp_path / "c").signal
    assert isinstance(signal, SignalPoor)  # the mid is a random walk
    assert signal.found.horizon_s == 20.0


def test_the_configuration_is_the_daemons(recording: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[glft]\ngamma = 0.5\n", encoding="utf-8")
    arguments = ["calibrate", str(recording), "--config", str(config), "--set", "glft.fit_r2_min=1.0"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert isinstance(read(tmp_path / "a").closed_form, NotMade)  # no line is that straight
    assert main([*arguments[:-2], "--out", str(tmp_path / "b")]) == 0
    form = read(tmp_path / "b").closed_form
    assert not isinstance(form, NotMade)
    assert form.gamma_per_quote == 0.5
    config.write_text("[glft]\ngama = 0.5\n", encoding="utf-8")
    assert main([*arguments, "--out", str(tmp_path / "c")]) == 78
    assert not (tmp_path / "c").exists()


def test_a_tape_too_short_says_which_fits_were_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.parquet"
    write(Made(drawn(seconds=5), instrument=instrument(0.1)), path)
    assert main(["calibrate", str(path), "--out", str(tmp_path / "out")]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "not made, or refused: " in out
    assert "sigma over 1 s: " in out
    assert "30 are needed: record longer" in out
    assert "intensity, both: " in out
    assert main(["check-config", "--config", str(tmp_path / "out" / "calibration.toml")]) == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name a recording to calibrate on"),
        (["a.parquet", "--hours", "1", "--until", "0.5"], "both say how much to use"),
        (["a.parquet", "--hours", "0"], "--hours 0 must be above 0"),
        (["a.parquet", "--hours", "nan"], "--hours nan must be above 0"),
        (["a.parquet", "--until", "1.5"], "--until 1.5 is a fraction"),
        (["a.parquet", "--until", "0"], "--until 0 is a fraction"),
        (["a.parquet", "--horizon", "0"], "--horizon 0 must be 0.1 s at least"),
        (["a.parquet", "--lot", "0"], "--lot 0 is not a positive multiple"),
    ],
)
def test_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", *arguments]) == 64
    assert why in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_read_is_78_and_leaves_nothing(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(recording.read_bytes()[:-1])
    assert main(["calibrate", str(broken), "--out", str(tmp_path / "out")]) == 78
    assert main(["calibrate", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 78
    assert not (tmp_path / "out").exists()
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    assert main(["calibrate", str(recording), "--out", str(blocked)]) == 78
    err = capsys.readouterr().err
    assert "broken.parquet: not a whole Parquet file" in err
    assert "cannot be written or read" in err


def test_without_numpy_it_says_what_to_install(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert main(["calibrate", str(recording), "--out", str(tmp_path / "out")]) == 78
    assert "needs numpy, which is not installed; install the extra" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


# --- real recordings --------------------------------------------------------------------------------------------------


def test_a_real_market_half_an_hour_long(shared_data: Path, tmp_path: Path) -> None:
    """Hyperliquid, 35 minutes: sides are known, the touch is one tick."""
    plain = ["calibrate", str(shared_data / "hyperliquid_btc"), "--out", str(tmp_path)]
    assert main([*plain, "--horizon", "5"]) == 0
    assert main(["check-config", "--config", str(tmp_path / "calibration.toml")]) == 0
    made = read(tmp_path)
    assert (made.source.prints, made.source.unsided) == (6_614, 0)
    one, five, *_ = made.sigma
    assert isinstance(one, Sigma)
    assert isinstance(five, Sigma)
    assert 0.3 < one.bps < five.bps < 0.7
    fit = made.intensity["both"]
    assert isinstance(fit, Intensity)
    assert fit.r2 > 0.98
    assert 0.05 < fit.a_per_s < 0.12
    assert 1.3 < fit.k_per_bp < 2.1
    assert isinstance(made.signal, SignalFit)
    assert made.signal.r2_out > 0.1
    worth = {each.distance_bps: each for each in made.beyond if each.regime == "all" and each.of == "fair"}
    assert worth[0.5].worth_bps < -1.0  # the book comes later than the prints: what F says is old by then


def test_the_first_hours_of_a_real_day(shared_data: Path, tmp_path: Path) -> None:
    """StandX, two hours of 24: sides are inferred, a fifth of the time is blind."""
    folder = shared_data / "standx_btc_perp"
    hours = [str(path) for path in sorted(folder.glob("*_0[0-1].parquet"))]
    assert main(["calibrate", *hours, "--out", str(tmp_path), "--hours", "1.5"]) == 0
    made = read(tmp_path)
    assert made.source.seconds == pytest.approx(5_400, abs=60)
    assert 0.7 < made.source.observed_s / made.source.seconds < 0.9
    assert made.source.unsided > 1_000
    assert isinstance(made.intensity["both"], Intensity)
    assert isinstance(made.signal, SignalFit)
    assert made.signal.weights[0] > 0  # the book lags the prints
    assert made.signal.r2_out > 0.15
