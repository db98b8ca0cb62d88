"""`mmdaemon init`: what it writes is commented, complete, and means what it says."""

import os
import shlex
import stat
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from cyclopts import App

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.init import NAME, ORIGINS, Preset, text_of, without
from mmdaemon.cli.install import OURS, program, unreachable
from mmdaemon.cli.main import main
from mmdaemon.journal.reader import JournalReader
from mmdaemon.settings import load, shipped_config
from mmdaemon.settings.credentials import file_names
from mmdaemon.settings.documents import CONFIG_FILES
from mmdaemon.settings.model import catalogue

PRESETS = get_args(Preset)


def run(*arguments: str | Path) -> int:
    """As the command line calls it."""
    app = App()
    app.command("mmdaemon.cli.init:init", name="init")
    code = app(["init", *map(str, arguments)], exit_on_error=False, result_action="return_value")
    assert isinstance(code, int)
    return code


def test_as_written_it_is_the_defaults(tmp_path: Path) -> None:
    assert run("--to", tmp_path) == 0
    written, nothing = load(tmp_path / NAME, None, {}), load(None, None, {})
    assert written.settings == nothing.settings
    assert written.settings.config_hash == nothing.settings.config_hash
    assert written.origins == nothing.origins
    assert tomllib.loads((tmp_path / NAME).read_text(encoding="utf-8")).keys() <= {"run", "regimes"} | {
        path.partition(".")[0] for path in catalogue()
    }


def test_desk_is_the_preset_and_nothing_else(tmp_path: Path) -> None:
    assert run("--to", tmp_path, "--preset", "desk") == 0
    written = load(tmp_path / NAME, None, {})
    assert written.settings == load(None, {"preset": "desk"}, {}).settings
    assert [path for path, origin in written.origins.items() if origin == str(tmp_path / NAME)] == ["preset"]


def test_each_shipped_file_can_be_had(tmp_path: Path) -> None:
    assert set(CONFIG_FILES) <= set(PRESETS) == set(ORIGINS)
    for name in CONFIG_FILES:
        assert run("--to", tmp_path / name, "--preset", name) == 0
        assert (tmp_path / name / NAME).read_bytes() == shipped_config(name).read_bytes()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_is_there_with_its_default_and_can_be_changed(preset: str, tmp_path: Path) -> None:
    """Taking the # away from every setting gives the same settings, now all set by the file."""
    text = text_of(preset)
    lines: list[str] = []
    for line in text.splitlines():
        uncommented = line.removeprefix("#")
        is_setting = " = " in line and not line.startswith("# ") and uncommented.split(" = ")[0].isidentifier()
        lines.append(uncommented if is_setting else line)
    path = tmp_path / NAME
    path.write_text(text, encoding="utf-8")
    before = load(path, None, {}).settings
    path.write_text("\n".join(lines), encoding="utf-8")
    after = load(path, None, {})
    assert after.settings == before
    assert set(after.origins.values()) == {str(path)}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_it_says_to_do_next_works(preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my bot"
    assert run("--to", folder, "--preset", preset) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{folder / NAME} written, from preset {preset}.")
    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("  mmdaemon ")]
    checks = [command[1:] for command in commands if command[1] == "check-config"]
    assert checks == [["check-config", str(folder / NAME)]]
    assert main(checks[0]) == 0
    runs = [command[1:] for command in commands if command[1] == "run"]
    flags = [f"--{preset}"] if preset in {"paper", "testnet", "live"} else []
    assert runs == [["run", *flags, "--config", str(folder / NAME)]]


def test_what_it_says_to_run_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--to", tmp_path) == 0
    arguments = ["run", "--config", tmp_path / NAME, "--state-dir", tmp_path / "state", "--speed", "max"]
    assert main([*map(str, arguments), "--duration", "5"]) == 0
    assert "PnL" in capsys.readouterr().out
    with JournalReader(tmp_path / "state" / "journal.sqlite") as journal:
        there = journal.run()
    assert there is not None
    same = load(None, {"run.speed": "max", "run.duration_s": 5.0}, {}).settings
    assert there.config_hash == same.config_hash


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text("mine = 1\n")
    with pytest.raises(Refused, match=r"is there already; .*--to.*--force") as refused:
        run("--to", tmp_path)
    assert refused.value.code is ExitCode.USAGE
    assert path.read_text() == "mine = 1\n"
    assert run("--to", tmp_path, "--force") == 0
    assert path.read_text(encoding="utf-8") == text_of("tight")
    assert [each.name for each in tmp_path.iterdir()] == [NAME]


def test_a_link_to_nowhere_and_a_folder_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused, match="is there already"):
        run("--to", tmp_path, "--force")
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(Refused, match="is there already; name another folder"):
        run("--to", tmp_path, "--force")


def test_anybody_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert run("--to", tmp_path / "a" / "b") == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b" / NAME).stat().st_mode) == 0o644


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be written: ") as refused:
        run("--to", tmp_path / "file" / "below")
    assert refused.value.code is ExitCode.USAGE


def test_a_setting_is_taken_out_of_its_own_table() -> None:
    text = '[a]\nmode = "x"\n[run]\n# mode = as it was\nmode = "live"\nend = 1'
    assert without(text, "run.mode") == '[a]\nmode = "x"\n[run]\n# mode = as it was\n#mode = "simulated"\nend = 1'
    with pytest.raises(ValueError, match=r"does not set run\.seed"):
        without(text, "run.seed")


def test_the_wheels_own_folder_is_looked_in_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a wheel config/ is mmdaemon/_config; there is no checkout beside it."""
    installed = tmp_path / "mmdaemon"
    (installed / "_config").mkdir(parents=True)
    for name in CONFIG_FILES:
        (installed / "_config" / f"{name}.toml").write_bytes(shipped_config(name).read_bytes())
    monkeypatch.setattr(sys.modules["mmdaemon.settings.loading"], "PACKAGE", installed)
    assert shipped_config("paper").parent == installed / "_config"
    assert run("--to", tmp_path / "out") == 0
    (installed / "_config" / "testnet.toml").unlink()
    with pytest.raises(Refused, match=r"shipped configuration of desk cannot be read .*install mmdaemon again") as gone:
        run("--to", tmp_path / "other", "--preset", "desk")
    assert gone.value.code is ExitCode.CONFIG


# --- the service ------------------------------------------------------------------------------------------------------

BOT = ("etc/mmdaemon/btc.toml", "etc/mmdaemon/btc.env")


def installed(root: Path, *more: str) -> int:
    return run("--systemd", "--install", "--instance", "btc", "--root", root, *more)


def test_the_service_is_shown_before_it_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--systemd", "--instance", "btc", "--preset", "paper", "--root", tmp_path) == 0
    said = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert said.startswith("Nothing was changed.")
    (again,) = [line.strip() for line in said.splitlines() if line.startswith("  mmdaemon init ")]
    assert all(str(tmp_path / where) in said for where in (*OURS.values(), *BOT))
    assert run(*shlex.split(again)[2:]) == 0
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        *OURS.values(),
        *BOT,
    }
    capsys.readouterr()
    assert run("--systemd", "--instance", "btc", "--preset", "paper", "--root", tmp_path) == 0
    assert " write " not in capsys.readouterr().out


def test_the_units_run_this_very_command(tmp_path: Path) -> None:
    assert installed(tmp_path, "--preset", "testnet") == 0
    for name in ("mmdaemon@.service", "mmdaemon-reaper@.service"):
        text = (tmp_path / OURS[name]).read_text(encoding="utf-8")
        commands = [line.partition("=")[2].split()[0] for line in text.splitlines() if "/mmdaemon " in line]
        assert commands
        assert set(commands) == {program()}
        assert stat.S_IMODE((tmp_path / OURS[name]).stat().st_mode) == 0o644
    assert load(tmp_path / BOT[0], None, {}).settings.run.mode == "testnet"
    assert (tmp_path / BOT[1]).read_text().endswith("MODE=--testnet\n")


def test_installed_again_ours_is_mended_and_the_bots_own_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed(tmp_path) == 0
    unit, config = tmp_path / OURS["mmdaemon@.service"], tmp_path / BOT[0]
    whole = unit.read_text()
    unit.write_text("[Service]\n")
    config.write_text("[run]\n")
    capsys.readouterr()
    assert installed(tmp_path) == 0
    said = capsys.readouterr().out
    assert (unit.read_text(), config.read_text()) == (whole, "[run]\n")
    assert f"replaced  {unit}" in said
    assert f"unchanged {config}" in said
    assert " write" not in said
    assert installed(tmp_path) == 0
    assert capsys.readouterr().out.count("unchanged") == len(OURS) + len(BOT)


def test_what_is_next_is_said_with_the_keys_where_there_are_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed(tmp_path) == 0
    assert "credstore" not in capsys.readouterr().out
    assert installed(tmp_path, "--preset", "live") == 0
    said = capsys.readouterr().out
    for name in file_names("bitget"):
        assert f"/etc/credstore/mmdaemon.btc.{name}" in said
    assert "systemctl enable --now mmdaemon@btc" in said
    assert "preflight" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--systemd", "--instance", "BTC"), "lower-case"),
        (("--systemd", "--instance", "../x"), "lower-case"),
        (("--systemd", "--to", "x"), "--to and --force"),
        (("--systemd", "--force"), "--to and --force"),
        (("--install",), "belong to --systemd"),
        (("--instance", "btc"), "belong to --systemd"),
    ],
)
def test_a_service_that_is_asked_for_wrongly(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        run(*words)
    assert refused.value.code is ExitCode.USAGE


def test_a_program_that_the_sandbox_hides_is_no_service() -> None:
    assert "hides /home" in unreachable(Path("/home/trader/.venv/bin/mmdaemon"))
    assert "hides /root" in unreachable(Path("/root/.local/bin/python3.11"))
    assert unreachable(Path("/usr/bin/env")) == ""
