"""Alertmanager's configuration from credential files: what is filled, what is refused, and what is never shown."""

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmdaemon.ops import alerting
from tests.monitoring.rule_cases import MONITORING
from tests.monitoring.stand import checked, need

TEMPLATE = MONITORING / "alertmanager.yml"
URL = "https://hooks.slack.com/services/T0CANARY/B0/canary"
TOKEN = "4711:canary-token-of-twenty-letters"
SLACK = {"slack_url": URL}
TELEGRAM = {"telegram_bot_token": TOKEN, "telegram_chat_id": "-100123"}
DEADMAN = {"deadman_url": "https://hc.example.org/ping/canary"}


def credentials(folder: Path, files: Mapping[str, str]) -> Path:
    path = folder / "credentials"
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(f"{text}\n")
        (path / name).chmod(0o640)
    return path


def run(folder: Path, files: Mapping[str, str]) -> tuple[int, Path]:
    out = folder / "filled.yml"
    given = ["--credentials", str(credentials(folder, files)), "--template", str(TEMPLATE), "--out", str(out)]
    return alerting.main(given), out


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        (SLACK, {"telegram", "deadman"}),
        (TELEGRAM, {"slack", "deadman"}),
        (SLACK | TELEGRAM, {"deadman"}),
        (SLACK | TELEGRAM | DEADMAN, set[str]()),
    ],
)
def test_what_has_credentials_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: Mapping[str, str], left_out: set[str]
) -> None:
    code, out = run(tmp_path, files)
    said = capsys.readouterr()
    assert code == 0
    assert {line.split()[4].rstrip(":") for line in said.err.splitlines()} == left_out
    text = out.read_text()
    for receiver, word in (
        ("slack", "slack_configs"),
        ("telegram", "telegram_configs"),
        ("deadman", "webhook_configs"),
    ):
        assert (word in text) == (receiver not in left_out)
    assert URL not in text, "Alertmanager reads it from its file"
    assert (TOKEN in text) == ("telegram" not in left_out)
    assert "canary" not in said.out + said.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    need("amtool")
    assert "SUCCESS" in checked("amtool", "check-config", out)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no alert would reach anybody"),
        (DEADMAN, "no alert would reach anybody"),
        (SLACK | {"slack_url": ""}, "slack_url: is empty"),
        (SLACK | {"slack_url": "   "}, "slack_url: is empty"),
        (SLACK | {"slack_url": "http://canary.example.org/x"}, "slack_url: is not an https:// address"),
        (SLACK | {"slack_url": f"{URL}\n{URL}"}, "slack_url: is not an https:// address"),
        (SLACK | {"telegram_bot_token": TOKEN}, "telegram_chat_id: there is no such file"),
        (SLACK | {"telegram_chat_id": "12"}, "telegram_bot_token: there is no such file"),
        (TELEGRAM | {"telegram_bot_token": "canary"}, "telegram_bot_token: is not NUMBER:LETTERS"),
        (TELEGRAM | {"telegram_chat_id": "0"}, "telegram_chat_id: is not a number other than 0"),
        (SLACK | {"deadman_url": ""}, "deadman_url: is empty"),
    ],
)
def test_what_is_refused_is_named_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: Mapping[str, str], says: str
) -> None:
    code, out = run(tmp_path, files)
    said = capsys.readouterr()
    assert code == 78
    assert says in said.err
    assert "canary" not in said.out + said.err.replace(str(tmp_path), "")
    assert not out.exists()


def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = credentials(tmp_path, SLACK)
    (path / "slack_url").chmod(0o644)
    with pytest.raises(alerting.AlertingRefused, match="everybody may read it"):
        alerting.fill(TEMPLATE.read_text(), path)


def test_every_reason_at_once(tmp_path: Path) -> None:
    path = credentials(tmp_path, {"slack_url": "", "telegram_bot_token": ""})
    with pytest.raises(alerting.AlertingRefused) as refused:
        alerting.fill(TEMPLATE.read_text(), path)
    assert len(refused.value.problems) == 3


def test_a_word_that_nothing_fills_is_refused(tmp_path: Path) -> None:
    with pytest.raises(alerting.AlertingRefused, match="pager_key"):
        alerting.fill("key: @pager_key@\n", credentials(tmp_path, SLACK))


def test_what_was_there_stays_where_it_is_refused(tmp_path: Path) -> None:
    _, out = run(tmp_path, SLACK)
    before = out.read_text()
    (tmp_path / "credentials" / "slack_url").write_text("")
    folder = str(tmp_path / "credentials")
    assert alerting.main(["--credentials", folder, "--template", str(TEMPLATE), "--out", str(out)]) == 78
    assert out.read_text() == before


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(credentials(tmp_path, SLACK))
    out = str(tmp_path / "nowhere" / "a.yml")
    assert alerting.main(["--credentials", folder, "--template", str(TEMPLATE), "--out", out]) == 78
    assert "No such file" in capsys.readouterr().err


def test_the_shipped_template_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert alerting.main(["--shipped"]) == 0
    assert Path(capsys.readouterr().out.strip()) == MONITORING
    out = tmp_path / "filled.yml"
    assert alerting.main(["--credentials", str(credentials(tmp_path, SLACK)), "--out", str(out)]) == 0
    assert "slack_configs" in out.read_text()


def test_half_a_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        alerting.main(["--out", "x"])
    assert ended.value.code == 2
    assert "--credentials and --out are needed" in capsys.readouterr().err
