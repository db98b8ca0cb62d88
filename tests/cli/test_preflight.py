"""`mmdaemon preflight` as a command: what it refuses, what it prints and keeps, and what its receipts open. Its probe
measures an emulator here; what the fourteen items measure is `tests/emulated/test_preflight.py`."""

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli import preflight as command
from mmdaemon.cli.main import main
from mmdaemon.cli.probing import FAILED, FILE
from mmdaemon.daemon.preflight.items import ITEMS, Result
from mmdaemon.daemon.preflight.running import LEFT
from mmdaemon.journal import preflights
from mmdaemon.journal.records import PreflightRow
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import REDUCED_RUN, Outcome
from mmdaemon.settings import Settings
from mmdaemon.settings.credentials import FOLDER, VARIABLES, file_names
from tests.cli.test_rehearsed import PATIENCE_S, PROGRAM, configuration, emulator, environment


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FOLDER, *VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("account", ["classic", "unified"])
def test_it_measures_an_emulator_and_writes_it_down(
    tmp_path: Path, account: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with emulator(tmp_path, "--account", account, "--window-s", "2") as emulated:
        monkeypatch.setenv(FOLDER, str(emulated.key))
        chosen = [f"venue.emulator={emulated.url}", f"venue.account={account}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        code = main(["preflight", "--testnet", "--probe", "--json", *sets, "--state-dir", str(state)])
        secrets = emulated.secrets()
    said = capsys.readouterr().out
    written = (state / FILE).read_text()
    assert json.loads(said) == json.loads(written)
    assert not any(secret in said for secret in secrets)
    lines: list[dict[str, Any]] = json.loads(written)["lines"]
    assert [line for line in lines if line["outcome"] == "failed"] == []
    assert code == ExitCode.OK
    assert lines[-1]["name"] == "left_behind"
    assert not (state / "preflight.json").exists(), "it is no receipt for --live"


def test_a_line_that_failed_is_exit_code_1_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with emulator(tmp_path, "--window-s", "20") as emulated:
        monkeypatch.setenv(FOLDER, str(emulated.key))
        chosen = [f"venue.emulator={emulated.url}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        code = main(["preflight", "--testnet", "--probe", *sets, "--state-dir", str(tmp_path / "state")])
    assert code == FAILED
    out = capsys.readouterr().out
    assert "failed       signature_window" in out
    assert "refused_s = " in out


def test_only_demo_trading_only_with_a_key_and_only_a_demo_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state-dir", str(tmp_path / "state")]
    assert main(["preflight", *state]) == ExitCode.USAGE
    assert main(["preflight", "--testnet", "--probe", *state]) == ExitCode.CREDENTIALS
    assert "bitget_api_key" in capsys.readouterr().err
    assert main(["preflight", "--testnet", "--probe", "--set", "venue.exchange=okx", *state]) == ExitCode.CONFIG
    with emulator(tmp_path, "--environment", "live") as emulated:
        monkeypatch.setenv(FOLDER, str(emulated.key))
        assert (
            main(["preflight", "--testnet", "--probe", "--set", f"venue.emulator={emulated.url}", *state])
            == ExitCode.CONFIG
        )
        assert emulated.get("status")
    assert "serves 'live'" in capsys.readouterr().err


def test_whoever_stops_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while an order rests: it is taken out before the process ends."""
    with emulator(tmp_path, "--window-s", "2", "--record", str(tmp_path / "record.sqlite")) as emulated:
        chosen = [f"venue.emulator={emulated.url}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        asked = [*PROGRAM, "preflight", "--testnet", "--probe", "--fill", *sets, "--state-dir", str(tmp_path / "state")]
        # Its cancels are lost, so that an order surely rests when it is stopped.
        body = json.dumps({"kind": "request_lost", "seconds": 6, "where": "cancel-order"}).encode()
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(f"{emulated.url}/emulator/faults", body, headers), timeout=30) as answer:
            assert answer.status == 200
        with subprocess.Popen(asked, env=environment(**{FOLDER: str(emulated.key)}), stdout=subprocess.DEVNULL) as it:
            deadline = time.monotonic() + PATIENCE_S
            while not emulated.get("status")["open_orders"]:
                assert time.monotonic() < deadline
                assert it.poll() is None
                time.sleep(0.02)
            it.send_signal(signal.SIGINT)
            assert it.wait(PATIENCE_S) == 128 + signal.SIGINT
        assert emulated.get("status")["open_orders"] == 0
    assert not (tmp_path / "state" / FILE).exists()


def test_whoever_ends_it_in_the_middle_finds_the_account_empty(tmp_path: Path) -> None:
    """SIGTERM while the daemon of the checklist quotes."""
    with emulator(tmp_path, "--window-s", "2") as emulated:
        chosen = [f"venue.emulator={emulated.url}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        asked = [*PROGRAM, "preflight", "--testnet", *sets, "--state-dir", str(tmp_path / "state")]
        known = environment(**{FOLDER: str(emulated.key)})
        with subprocess.Popen(asked, env=known, stdout=subprocess.DEVNULL) as it:
            deadline = time.monotonic() + PATIENCE_S
            while emulated.get("status")["open_orders"] < 2:
                assert time.monotonic() < deadline
                assert it.poll() is None
                time.sleep(0.05)
            it.terminate()
            assert it.wait(PATIENCE_S) == 128 + signal.SIGINT
        assert emulated.get("status")["open_orders"] == 0
        assert emulated.get("record")["position"] is None
    assert not (tmp_path / "state" / "preflight-testnet" / receipt.NAME).exists()


def test_whoever_ends_it_live_leaves_nothing_behind_however_often(tmp_path: Path) -> None:
    """With real money, while the order of the least size rests; clearing it away fails, and nothing more is traded."""
    with emulator(tmp_path, "--environment", "live", "--window-s", "2") as emulated:
        config = configuration(tmp_path / "live.toml", "live", "unified", emulated.url)
        state = ["--state-dir", str(tmp_path / "state")]
        asked = [*PROGRAM, "preflight", "--live", "--testnet-key", str(emulated.key), "--config", str(config), *state]
        # Its cancels are lost, so that an order surely rests when it is ended.
        body = json.dumps({"kind": "request_lost", "seconds": 3_600, "where": "cancel-order"}).encode()
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(f"{emulated.url}/emulator/faults", body, headers), timeout=30) as answer:
            assert answer.status == 200
        known = environment(**{FOLDER: str(emulated.key)})
        with subprocess.Popen(asked, env=known, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as it:
            deadline = time.monotonic() + PATIENCE_S
            while not emulated.get("status")["open_orders"]:
                assert time.monotonic() < deadline
                assert it.poll() is None
                time.sleep(0.02)
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                it.send_signal(number)
                time.sleep(0.2)
            _, said = it.communicate(timeout=PATIENCE_S)
            assert it.returncode == 128 + signal.SIGINT
            assert "fees ..." not in said
        assert emulated.get("status")["open_orders"] == 0


# --- the fourteen lines, as measured by somebody else -----------------------------------------------------------------


class Desk:
    """A configuration for live, its state directory, a demo and a live key, and what the items came to."""

    def __init__(self, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.state, self._patch = at, at / "state", monkeypatch
        self.outcomes: dict[str, Outcome] = {}
        self.reduced: Outcome = "failed"
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.served: list[Settings] = []
        for name, text in (("demo", "demo-key"), ("live", "live-key")):
            (at / name).mkdir()
            for file in file_names("bitget"):
                (at / name / file).write_text(f"{text}-{file}")
                (at / name / file).chmod(0o400)
        monkeypatch.setattr(command, "_once", self._once)
        monkeypatch.setattr(command, "_soak", self._hours)
        monkeypatch.setattr(command.soak, "judged", lambda *_: self._results("paper", "soak"))
        monkeypatch.setattr(command.soak, "at_reduced_size", lambda *_: Result(REDUCED_RUN, self.reduced, {}, "a day"))
        monkeypatch.setattr("mmdaemon.cli.service.serve", lambda *said: self.served.append(said[0]) or 0)

    def _results(self, *items: str) -> list[Result]:
        return [Result(item, self.outcomes.get(item, "passed"), {"figure": 7.5}, f"saw {item}") for item in items]

    async def _once(
        self, settings: Settings, _key: object, _clock: object, _path: Path, only: Any = ()
    ) -> list[Result]:
        self.asked.append((settings.run.mode, tuple(only)))
        items = only or tuple(item for item in ITEMS if item not in ("paper", "soak"))
        return [*self._results(*items), Result(LEFT, self.outcomes.get(LEFT, "passed"), {}, "two orders rest")]

    async def _hours(self, settings: Settings, *_: object, is_first: bool) -> list[Result]:
        self.asked.append((settings.run.mode, ("paper", "soak")))
        return self._results("paper", "soak")

    def run(self, key: str, *asked: str) -> int:
        self._patch.setenv(FOLDER, str(self.at / key))
        config = self.at / "live.toml"
        config.write_text('[run]\nmode = "live"\n[venue]\nin_flight_max_s = 31.0\n[journal]\ndurability = "power"\n')
        return main([*asked, "--config", str(config), "--state-dir", str(self.state)])

    def testnet(self, *more: str) -> int:
        return self.run("demo", "preflight", *more, "--testnet")

    def live(self) -> int:
        return self.run("live", "preflight", "--live", "--testnet-key", str(self.at / "demo"))

    def trade(self) -> int:
        return self.run("live", "run", "--live")

    def rows(self, folder: str = "") -> list[PreflightRow]:
        return preflights.read(self.state / folder / "journal.sqlite")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_fourteen_lines_rows_and_a_receipt(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.testnet() == ExitCode.OK
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in out[:14]] == [[str(n), "passed", item] for n, item in enumerate(ITEMS, 1)]
    assert all("figure 7.5" in line for line in out[:14])
    assert "all fourteen passed" in out[-1]
    assert "demo-key" not in "".join(out)
    rows = desk.rows("preflight-testnet")
    assert {row.item for row in rows} == {*ITEMS, LEFT}
    assert {(row.mode, row.outcome) for row in rows} == {("testnet", "passed")}
    assert all(row.seal and row.ts_ns for row in rows)
    assert desk.asked == [("testnet", ())], "the file says live, and demo trading is what was measured"


def test_what_did_not_pass_is_said_with_what_to_do_and_takes_the_receipt_away(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.testnet() == ExitCode.OK
    file = desk.state / "preflight-testnet" / receipt.NAME
    assert file.exists()
    desk.outcomes = {"fees": "failed", "soak": "not_checked"}
    capsys.readouterr()
    assert desk.testnet() == 1
    out = capsys.readouterr().out
    assert " 1 failed      fees" in out
    assert "13 not checked soak" in out
    assert f"fees: saw fees\n    to do: {ITEMS['fees'].remedy}" in out
    assert "no receipt: fees, soak did not pass" in out
    assert not file.exists()


def test_an_account_that_is_not_empty_at_the_end_has_no_receipt(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.outcomes = {LEFT: "failed"}
    assert desk.testnet() == 1
    assert "two orders rest" in capsys.readouterr().out
    assert not (desk.state / "preflight-testnet" / receipt.NAME).exists()


def test_where_orders_or_a_position_stay_live_is_not_opened(desk: Desk) -> None:
    assert desk.testnet() == ExitCode.OK
    assert desk.live() == ExitCode.OK
    desk.outcomes = {LEFT: "failed"}
    assert desk.live() == 1
    assert desk.trade() == ExitCode.CONFIG
    assert desk.served == []


def test_rows_that_were_taken_over_before_open_nothing_once_demo_trading_failed(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.testnet() == ExitCode.OK
    assert desk.live() == ExitCode.OK
    desk.outcomes = {"kill_switch": "failed"}
    assert desk.testnet() == 1
    assert desk.live() == 1
    assert "nothing was taken over from demo trading" in capsys.readouterr().out
    assert desk.trade() == ExitCode.CONFIG
    assert desk.served == []


def test_the_hours_are_rows_that_the_next_one_goes_on_with(desk: Desk) -> None:
    assert desk.testnet("soak") == 1
    assert desk.asked == [("testnet", ("paper", "soak"))]
    assert {row.item for row in desk.rows("preflight-testnet")} == {"paper", "soak"}
    assert desk.testnet() == ExitCode.OK


def test_live_measures_what_is_safe_and_takes_over_the_rest(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.live() == 1
    assert "nothing was taken over from demo trading" in capsys.readouterr().out
    assert desk.trade() == ExitCode.CONFIG
    assert desk.testnet() == ExitCode.OK
    assert desk.trade() == ExitCode.CONFIG, "a receipt of demo trading opens nothing"
    capsys.readouterr()
    assert desk.live() == ExitCode.OK
    assert "stage reduced" in capsys.readouterr().out
    by_live = ("fees", "instrument", "guards", "account")
    assert desk.asked[-1] == ("live", by_live)
    last = {row.item: row for row in desk.rows() if row.outcome == "passed"}
    assert set(last) == {*ITEMS, LEFT}
    assert {item for item, row in last.items() if row.evidence.startswith("in demo trading: ")} == {*ITEMS} - {*by_live}
    assert desk.trade() == ExitCode.OK
    (settings,) = desk.served
    assert settings.limits.max_order_quote == receipt.REDUCED_ORDER_QUOTE
    assert settings.quotes.max_position_quote == receipt.REDUCED_POSITION_QUOTE


def test_full_size_comes_after_a_day_at_reduced_size(desk: Desk) -> None:
    assert desk.testnet() == ExitCode.OK
    desk.reduced = "passed"
    assert desk.live() == ExitCode.OK
    assert desk.trade() == ExitCode.OK
    assert desk.served[0].limits.max_order_quote > receipt.REDUCED_ORDER_QUOTE


@pytest.mark.parametrize("column", ["figures", "evidence", "outcome", "config_hash", "account", "item"])
def test_an_edited_row_or_a_missing_one_does_not_open_live(desk: Desk, column: str) -> None:
    assert desk.testnet() == ExitCode.OK
    assert desk.live() == ExitCode.OK
    with closing(sqlite3.connect(desk.state / "journal.sqlite")) as db, db:
        db.execute(f"UPDATE preflights SET {column} = {column} || 'x' WHERE item = 'crash'")
    assert desk.trade() == ExitCode.CONFIG
    with closing(sqlite3.connect(desk.state / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM preflights WHERE item = 'crash'")
    assert desk.trade() == ExitCode.CONFIG
    assert desk.served == []


def test_rows_of_demo_trading_that_were_edited_are_not_taken_over(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.testnet() == ExitCode.OK
    with closing(sqlite3.connect(desk.state / "preflight-testnet" / "journal.sqlite")) as db, db:
        db.execute("UPDATE preflights SET figures = '{}' WHERE item = 'pnl'")
    assert desk.live() == 1
    assert "pnl: its row was edited" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked",
    [
        ["preflight"],
        ["preflight", "--testnet", "--live"],
        ["preflight", "soak", "--live"],
        ["preflight", "--live", "--probe"],
        ["preflight", "soak", "--testnet", "--probe"],
        ["preflight", "--testnet", "--fill"],
        ["preflight", "--live"],
    ],
)
def test_what_does_not_go_together(desk: Desk, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("live", *asked) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("mmdaemon: ")
    assert desk.asked == []
