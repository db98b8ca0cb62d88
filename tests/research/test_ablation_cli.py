"""`mmdaemon compare` from its command line: what it refuses, what it writes, and that a second time goes on."""

import sys
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.main import main
from mmdaemon.tapes import parquet
from tests.research.test_ablation import MARKET, market
from tests.tapes.made import Made


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tape") / "walk.parquet"
    parquet.write(Made(market(60), instrument=MARKET), path)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_what_is_wrong_with_the_arguments_is_said(
    capsys: pytest.CaptureFixture[str], walk: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "walk"
    twin.mkdir()
    out = ["--out", str(tmp_path / "out")]
    for arguments, told in (
        ([], "name a recording"),
        ([str(walk), "--rows", "full,best"], "no such name: best"),
        ([str(walk), "--fills", "all"], "no such name: all"),
        ([str(walk), "--hours", "-1"], "--hours -1"),
        ([str(walk), "--jobs", "0"], "--jobs 1 at least"),
        ([str(walk), str(twin)], "rename one"),
        ([str(tmp_path / "nothing")], "no such recording"),
        ([str(walk), "--show"], "has no results of walk"),
    ):
        code, _, err = said(capsys, *arguments, *out)
        assert (code, told in err) == (ExitCode.USAGE, True), arguments
    code, _, err = said(capsys, str(twin), *out)
    assert (code, "walk" in err) == (ExitCode.CONFIG, True)
    assert not (tmp_path / "out" / "compare.md").exists()


def test_it_plays_writes_and_goes_on(capsys: pytest.CaptureFixture[str], walk: Path, tmp_path: Path) -> None:
    out, docs = tmp_path / "out", tmp_path / "new" / "ABLATION.md"
    plain = [str(walk), "--fills", "touch", "--jobs", "1", "--out", str(out)]
    code, text, _ = said(capsys, *plain, "--rows", "join", "--docs", str(docs))
    assert code == ExitCode.OK
    assert "1/1 walk touch join: e5 " in text
    assert docs.read_text() == (out / "compare.md").read_text()
    assert "join the touch, 1 s" in docs.read_text()
    assert "`mmdaemon compare walk --rows join --fills touch`" in docs.read_text()
    assert str(tmp_path) not in docs.read_text()
    code, text, _ = said(capsys, *plain, "--rows", "join,micro")
    assert "1 rows are known; 1 to play" in text
    assert "1/1 walk touch micro: e5 " in text
    assert "join the touch, 1 s" in (out / "compare.html").read_text()
    code, text, _ = said(capsys, *plain, "--show")
    assert code == ExitCode.OK
    assert "micro-price" in text


def test_without_numpy_it_names_the_extra(
    capsys: pytest.CaptureFixture[str], walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    code, _, err = said(capsys, str(walk))
    assert (code, "mmdaemon[tapes]" in err) == (ExitCode.CONFIG, True)
