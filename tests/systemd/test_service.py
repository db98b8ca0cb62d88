"""The unit under a real systemd: start, READY, watchdog, stop, sweep, latch, reload, keys, log fields. On one machine,
with a venue process that outlives each daemon and keeps its own record."""

import json
import os
import shlex
from collections.abc import Generator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from tests.bench.crashes import CONFIG
from tests.systemd.broken import INJECTED
from tests.systemd.machine import ENVIRONMENT, Machine, machine

pytestmark = [
    pytest.mark.timeout(240),
]
NEEDED = "MMDAEMON_NEED_SYSTEMD"
UNIT = "mmdaemon@bot"
STATE = "/var/lib/mmdaemon/bot"
RECORD = "/run/venue/record.sqlite"
KEYS = {
    f"bitget_api_{part}": f"canary-{part}-of-the-test" for part in ("key", "secret", "passphrase")
}  # not a key of anything

DROP_IN = """
[Service]
Environment={environment}
Environment=PYTHONPATH={state}/inject:{pythonpath}
WatchdogSec=4
TimeoutAbortSec=3
RestartSec=1
"""
VENUE = """
[Service]
Type=exec
User=mmdaemon
Environment={environment}
RuntimeDirectory=venue
ExecStart=/opt/mmdaemon/bin/mmdaemon venue --listen /run/venue/sock --record {record} --seed 11 \\
    --config /etc/mmdaemon/bot.toml
"""


class Bot:
    """The service, and what its venue says of it."""

    def __init__(self, on: Machine) -> None:
        self.on = on
        self._cursor = ""

    def status(self) -> dict[str, object]:
        said = self.on.run("mmdaemon", "status", "--json", "--state-dir", STATE, check=False).stdout
        return json.loads(said) if said else {}

    def quoting(self) -> None:
        """Started, and orders of it rest. From here on `log` is read."""
        self.on.run("systemctl", "reset-failed", UNIT, check=False)
        self.on.run("systemctl", "start", UNIT)
        self.on.wait_for("it to quote", lambda: self.status().get("guard") == "running" and self.resting() > 0, UNIT)
        shown = self.on.run("journalctl", "-n", "0", "--show-cursor").stdout
        self._cursor = shown.partition("cursor: ")[2].strip()

    def resting(self) -> int:
        query = "SELECT count(*) FROM orders WHERE status NOT IN ('filled', 'cancelled', 'rejected')"
        code = f"import sqlite3; print(sqlite3.connect({RECORD!r}, timeout=10).execute({query!r}).fetchone()[0])"
        return int(self.on.run("/opt/python/bin/python3", "-c", code).stdout)

    def log(self) -> str:
        """What was said since it quoted. (With a match beside it `--after-cursor` would leave out the first one.)"""
        return self.on.journal("--after-cursor", self._cursor)

    def events(self, name: str) -> str:
        return self.on.journal("-u", UNIT, f"MMDAEMON_EVENT={name}")

    def restarts(self) -> int:
        return int(self.on.show(UNIT, "NRestarts"))

    def pid(self) -> str:
        return self.on.show(UNIT, "MainPID")

    def break_down(self, kind: str) -> None:
        self.on.run("touch", f"{STATE}/break-{kind}")

    def comes_back(self, pid: str) -> None:
        """By itself: nobody resumes it."""
        self.on.wait_for("systemd to begin it again", lambda: self.pid() not in ("0", pid), UNIT)
        self.on.wait_for("it to quote by itself", lambda: self.status().get("guard") == "running", UNIT)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Generator[Machine, None, None]:
    if not os.environ.get(NEEDED):
        pytest.skip(f"boots a systemd, as root: only with {NEEDED}=1")
    with ExitStack() as undo:
        it = undo.enter_context(machine(tmp_path_factory.mktemp("machine")))
        install(it)
        yield it


def install(it: Machine) -> None:
    """Bot, venue, keys, and what the test changes of the unit: shorter times, and a daemon that can be broken."""
    it.write("/etc/mmdaemon/bot.toml", CONFIG.format(socket="/run/venue/sock", in_flight_max_s=1.0))
    it.run(
        "sed",
        "-i",
        "s/^enabled = false/port = 0/; s/^crash_loop/stall_s = 30\\ncrash_loop/",
        "/etc/mmdaemon/bot.toml",
    )
    for name, text in KEYS.items():
        it.write(f"/etc/credstore/mmdaemon.bot.{name}", text, "400")
    first = it.run("mmdaemon", "init", "--systemd", "--install", "--instance", "bot").stdout
    assert "written   /etc/systemd/system/mmdaemon@.service" in first
    assert "unchanged /etc/mmdaemon/bot.toml" in first
    words = {name: value for name, value in ENVIRONMENT.items() if name in ("LD_LIBRARY_PATH", "PYTHONPATH")}
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in words.items())
    said = DROP_IN.format(environment=environment, pythonpath=words["PYTHONPATH"], state=STATE)
    it.write(f"/etc/systemd/system/{UNIT}.service.d/test.conf", said)
    it.write("/etc/systemd/system/mmdaemon-reaper@bot.service.d/test.conf", f"[Service]\nEnvironment={environment}\n")
    it.write("/etc/systemd/system/venue.service", VENUE.format(environment=environment, record=RECORD))
    it.write(f"{STATE}/inject/sitecustomize.py", INJECTED)
    it.run("chown", "-R", "mmdaemon:", "/var/lib/mmdaemon")
    it.run("systemctl", "daemon-reload")
    it.run("systemctl", "start", "venue")


@pytest.fixture
def bot(booted: Machine) -> Bot:
    return Bot(booted)


def test_installed_again_nothing_changes(booted: Machine) -> None:
    said = booted.run("mmdaemon", "init", "--systemd", "--install", "--instance", "bot").stdout.splitlines()
    done = [line for line in said[: said.index("Next:")] if not line.startswith("ran ")]
    assert [line.split()[0] for line in done] == ["unchanged"] * 7
    assert "uid=" in booted.run("id", "mmdaemon").stdout
    assert booted.run("stat", "-c", "%a %U", "/etc/credstore").stdout == "700 root\n"


def test_ready_means_a_fresh_book_and_a_clean_reconciliation_and_the_status_line_says_it(bot: Bot) -> None:
    bot.on.run("systemctl", "start", UNIT)  # returns with READY
    seen = bot.status()
    assert seen["guard"] in ("running", "soft_pause", "reducing")
    assert seen["book_healthy"] is True
    assert seen["kill"] == "armed"
    bot.quoting()
    bot.on.wait_for("the line", lambda: bot.on.show(UNIT, "StatusText").startswith("running: "), UNIT)
    assert "\n" not in bot.on.show(UNIT, "StatusText")


def test_in_the_sandbox_the_metrics_of_the_process_are_there(bot: Bot) -> None:
    bot.quoting()
    with urlopen(f"http://127.0.0.1:{bot.status()['metrics_port']}/metrics", timeout=10) as page:
        text = page.read().decode()
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"):
        assert any(line.startswith(f"{name} ") for line in text.splitlines()), name


def test_keys_are_handed_over_to_the_bot_alone(bot: Bot) -> None:
    bot.quoting()
    folder = f"/run/credentials/{UNIT}.service"
    for name, text in KEYS.items():
        assert bot.on.run("cat", f"{folder}/{name}").stdout == text
    environ = bot.on.run("cat", f"/proc/{bot.pid()}/environ").stdout
    assert f"CREDENTIALS_DIRECTORY={folder}" in environ
    assert not any(text in environ for text in KEYS.values())
    assert bot.on.run("su", "-s", "/bin/sh", "nobody", "-c", f"ls {folder}", check=False).returncode != 0


def test_fills_are_found_in_the_journal_by_their_field(bot: Bot) -> None:
    bot.quoting()
    bot.on.wait_for("a fill in the journal", lambda: "fill order=" in bot.events("fill"), UNIT)
    said = bot.on.run("journalctl", "-u", "mmdaemon@*", "MMDAEMON_EVENT=fill", "-o", "json", "--no-pager").stdout
    fills = [json.loads(line) for line in said.splitlines()]
    assert {fill["MESSAGE_ID"] for fill in fills} == {fills[0]["MESSAGE_ID"]}
    assert all(fill["MMDAEMON_ORDER"].startswith("mm") and fill["MMDAEMON_RUN"].isdigit() for fill in fills)
    assert {fill["PRIORITY"] for fill in fills} == {"6"}
    assert {fill["_SYSTEMD_UNIT"] for fill in fills} == {f"{UNIT}.service"}
    symbol, order = fills[0]["MMDAEMON_SYMBOL"], fills[0]["MMDAEMON_ORDER"]
    assert order in bot.on.journal(f"MMDAEMON_SYMBOL={symbol}", f"MMDAEMON_ORDER={order}")
    moves = bot.on.run("journalctl", "MMDAEMON_EVENT=guard", "-o", "json", "--no-pager").stdout.splitlines()
    assert {json.loads(move)["MMDAEMON_GUARD"] for move in moves} >= {"running"}


def test_a_stop_is_clean_and_leaves_nothing_to_sweep(bot: Bot) -> None:
    bot.quoting()
    bot.on.run("systemctl", "stop", UNIT)
    assert bot.resting() == 0
    assert (bot.on.show(UNIT, "Result"), bot.on.show(UNIT, "ExecMainStatus")) == ("success", "0")
    assert "stopped exit_code=0" in bot.log()
    assert "the last run stopped cleanly: nothing to do" in bot.log()


def test_after_a_sigkill_the_venue_is_swept_before_the_restart_and_it_goes_on_by_itself(bot: Bot) -> None:
    bot.quoting()
    pid = bot.pid()
    bot.on.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", UNIT)
    bot.comes_back(pid)
    log = bot.log()
    assert 0 < log.index("quiet: 0 orders rest") < log.index("started state_dir=")
    assert bot.on.run("ls", STATE).stdout.split().count("KILLED") == 0


def test_a_process_that_was_stopped_is_ended_by_the_watchdog(bot: Bot) -> None:
    bot.quoting()
    pid = bot.pid()
    bot.on.run("kill", "-STOP", pid)
    bot.comes_back(pid)
    assert "Watchdog timeout" in bot.log()
    assert "0 orders rest" in bot.log()


@pytest.mark.parametrize("kind", ["controller", "inbox", "loop"])
def test_where_the_core_makes_no_progress_the_watchdog_is_not_fed(bot: Bot, kind: str) -> None:
    """Whatever else may work: with `controller` and `inbox` the loop turns, its timers fire, its socket answers."""
    bot.quoting()
    pid = bot.pid()
    bot.break_down(kind)
    bot.comes_back(pid)
    log = bot.log()
    assert "Watchdog timeout" in log
    assert "Current thread" in log or "Thread 0x" in log  # where it stood
    assert "quiet: 0 orders rest" in log


def test_a_kill_outlives_the_restart_and_latched_is_ready_too(bot: Bot) -> None:
    bot.quoting()
    bot.on.run("mmdaemon", "kill", "--state-dir", STATE, "--reason", "drill")
    assert bot.on.show(UNIT, "ActiveState") == "active"  # a kill never makes the process exit
    bot.on.run("systemctl", "restart", UNIT)
    assert ", kill switch kill" in bot.on.show(UNIT, "StatusText")
    assert bot.status()["guard"] == "hard_stop"
    assert bot.resting() == 0
    bot.on.wait_for("it to be killed", lambda: bot.status().get("kill") == "killed", UNIT)
    bot.on.run("mmdaemon", "resume", "--state-dir", STATE, "--reason", "drill over")
    bot.on.wait_for("it to quote", lambda: bot.status().get("guard") == "running", UNIT)


def test_a_reload_applies_the_log_level_and_names_what_needs_a_restart(bot: Bot) -> None:
    bot.quoting()
    pid, config = bot.pid(), "/etc/mmdaemon/bot.toml"
    bot.on.run("cp", config, "/run/bot.toml")
    said = f"printf '[log]\nlevel = \"WARNING\"\n' >> {config}"
    bot.on.run("sh", "-c", f"{said} && sed -i s/^cancels_per_minute.*/cancels_per_minute=599/ {config}")
    try:
        bot.on.run("systemctl", "reload", UNIT)
        bot.on.wait_for("it to say so", lambda: "reloaded applied=1 needs_restart=1" in bot.log(), UNIT)
        refused = bot.events("reload_refused")
        assert "setting=limits.cancels_per_minute running=600 file=599" in refused
        bot.on.run("sh", "-c", f"echo 'collar_bsp = 3' >> {config}")
        bot.on.run("systemctl", "reload", UNIT)
        bot.on.wait_for("it to refuse", lambda: "reload_failed" in bot.log(), UNIT)
        assert "collar_bsp" in bot.events("reload_refused")
    finally:
        bot.on.run("cp", "/run/bot.toml", config)
    bot.on.run("systemctl", "reload", UNIT)
    bot.on.wait_for("the old level", lambda: bot.log().count("reload_applied") == 2, UNIT)
    assert (bot.on.show(UNIT, "ActiveState"), bot.pid()) == ("active", pid)


def test_a_configuration_with_an_error_is_not_started_again_and_again(bot: Bot) -> None:
    bot.on.run("systemctl", "stop", UNIT)
    config = "/etc/mmdaemon/bot.toml"
    bot.on.run("cp", config, "/run/bot.toml")
    bot.on.run("sh", "-c", f"echo 'collar_bsp = 3' >> {config}")
    try:
        assert bot.on.run("systemctl", "start", UNIT, check=False).returncode != 0
        assert (bot.on.show(UNIT, "ActiveState"), bot.on.show(UNIT, "ExecMainStatus")) == ("failed", "78")
        assert bot.restarts() == 0
    finally:
        bot.on.run("cp", "/run/bot.toml", config)


def test_the_reaper_sweeps_what_nobody_tends_and_else_does_nothing(bot: Bot) -> None:
    bot.quoting()
    assert bot.on.show("mmdaemon-reaper@bot.timer", "ActiveState") == "active"  # it came with the bot
    bot.on.run("systemctl", "start", "mmdaemon-reaper@bot")
    assert "looks after its orders: nothing to do" in bot.log()
    # Now as after a machine that broke down: the process is gone, nothing swept, and nothing begins it again.
    only = f"/run/systemd/system/{UNIT}.service.d/alone.conf"
    bot.on.write(only, "[Service]\nRestart=no\nExecStopPost=\n")
    bot.on.run("systemctl", "daemon-reload")
    try:
        bot.on.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", UNIT)
        bot.on.wait_for("it to be gone", lambda: bot.on.show(UNIT, "ActiveState") == "failed")
        assert bot.resting() > 0
        bot.on.run("systemctl", "start", "mmdaemon-reaper@bot")
        assert bot.resting() == 0
        assert "quiet: 0 orders rest" in bot.log()
    finally:
        bot.on.run("rm", only)
        bot.on.run("systemctl", "daemon-reload")
    bot.quoting()  # without anybody's resume
