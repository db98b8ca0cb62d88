"""The unit files as they are shipped: what systemd thinks of them, and what of the program they rely on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.install import OURS
from mmdaemon.cli.main import build
from mmdaemon.settings import load
from mmdaemon.settings.credentials import NOTIFY_URLS, file_names

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = ("mmdaemon@.service", "mmdaemon-reaper@.service")
EXPOSURE_MAX = 1.3

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here (Debian's package systemd)"
)


def settings_of(name: str) -> list[tuple[str, str]]:
    """(setting, value) of a unit file, in order; continued lines joined."""
    text = (UNITS / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", ";", "["))]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def value_of(name: str, setting: str) -> str:
    (value,) = [value for key, value in settings_of(name) if key == setting]
    return value


def instance(folder: Path, name: str) -> Path:
    """As an instance, with a command that is there: `verify` looks for it."""
    for each in UNITS.glob("*.service"):
        text = each.read_text(encoding="utf-8").replace("/usr/bin/mmdaemon", "/bin/true")
        (folder / each.name.replace("@", "@btc")).write_text(text, encoding="utf-8")
    for each in UNITS.glob("*.timer"):
        (folder / each.name.replace("@", "@btc")).write_text(each.read_text(encoding="utf-8"), encoding="utf-8")
    return folder / name.replace("@", "@btc")


@analyze
@pytest.mark.parametrize("name", [*SERVICES, "mmdaemon-reaper@.timer"])
def test_systemd_finds_no_fault(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", instance(tmp_path, name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@analyze
@pytest.mark.parametrize("name", SERVICES)
def test_little_of_the_machine_is_within_reach(name: str, tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", instance(tmp_path, name)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE_MAX, said


def test_both_services_are_in_one_sandbox() -> None:
    def sandbox(name: str) -> list[tuple[str, str]]:
        said = settings_of(name)
        return said[said.index(("NoNewPrivileges", "yes")) :]

    service, reaper = (sandbox(name) for name in SERVICES)
    assert [each for each in service if each[0] != "WantedBy"] == reaper
    for setting in ("User", "LimitCORE", "CoredumpFilter", "StateDirectory", "RuntimeDirectory"):
        assert value_of(SERVICES[0], setting) == value_of(SERVICES[1], setting)


@pytest.mark.parametrize("name", SERVICES)
def test_every_part_of_a_key_is_handed_over(name: str) -> None:
    loaded = [value for key, value in settings_of(name) if key == "LoadCredential"]
    whom_to_tell = [f"{NOTIFY_URLS}:mmdaemon.%i.{NOTIFY_URLS}"] if name == SERVICES[0] else []
    assert loaded == [f"{part}:mmdaemon.%i.{part}" for part in file_names("bitget")] + whom_to_tell


@pytest.mark.parametrize("name", SERVICES)
def test_every_command_is_one(name: str) -> None:
    for key, value in settings_of(name):
        if key.startswith("Exec") and "mmdaemon" in value:
            words = re.findall(r'"[^"]*"|\S+', value.replace("$MODE", "--paper"))
            build().parse_args([word.strip('"') for word in words[1:]], exit_on_error=False, print_error=False)


def test_what_a_restart_does_not_mend_is_not_restarted() -> None:
    prevented = {int(code) for code in value_of(SERVICES[0], "RestartPreventExitStatus").split()}
    assert prevented == {ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.CONFIG}


def test_there_is_time_for_a_stop_and_a_sweep() -> None:
    """The stall thread has its turn before the watchdog, a sweep ends before it is killed, the prefix of processes
    that the metrics need is not hidden."""
    defaults = load(None, None, {}).settings
    assert float(value_of(SERVICES[0], "TimeoutStopSec")) >= defaults.venue.in_flight_max_s + 15
    assert float(value_of(SERVICES[0], "WatchdogSec")) > 2 * defaults.run.stall_s
    for name in SERVICES:
        (gives_up,) = re.findall(r"kill --direct --if-dirty --for (\d+)", (UNITS / name).read_text(encoding="utf-8"))
        limit = value_of(name, "TimeoutStopSec" if name == SERVICES[0] else "TimeoutStartSec")
        assert float(gives_up) < float(limit)
        assert "ProcSubset" not in dict(settings_of(name))


def test_the_crash_loop_is_the_guards_first() -> None:
    starts, window_s = (int(value_of(SERVICES[0], f"StartLimit{each}")) for each in ("Burst", "IntervalSec"))
    run = load(None, None, {}).settings.run
    assert starts > run.crash_loop_starts
    assert window_s >= run.crash_loop_window_s
    # One that takes two seconds to find out that the venue is away never gets there.
    assert starts * (float(value_of(SERVICES[0], "RestartSec")) + 2) >= window_s


def test_every_shipped_file_is_installed() -> None:
    assert {path.name for path in UNITS.iterdir()} == set(OURS)
