"""Paper, testnet and live: nothing but flag, configuration, key, receipt and environment together opens a socket."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from mmdaemon import __version__
from mmdaemon.cli import ExitCode
from mmdaemon.cli.main import main
from mmdaemon.clock import VirtualClock
from mmdaemon.daemon import wire
from mmdaemon.ops import receipt
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings import Settings, load
from mmdaemon.settings.credentials import FOLDER, VARIABLES, file_names, fingerprint
from mmdaemon.venues.ccxt_config import CcxtConfig
from tests.cli.receipts import give

KEY = "canary-key-5d20"
GIVEN = {receipt.NAME, "lock", *(f"journal.sqlite{end}" for end in ("", "-wal", "-shm"))}
FLAGS = ("", "paper", "testnet", "live")
SAID = ("no file", "", "simulated", "paper", "testnet", "live")
RECEIPTS = (
    "absent",
    "stale",
    "future",
    "other hash",
    "other mode",
    "other key",
    "other place",
    "open",
    "edited",
    "without rows",
    "good",
)
KEYS = ("absent", "variables", "files")
EMULATORS = ("none", "demo", "live", "nobody")
TOUCHED: list[tuple[str, object]] = []
_WATCHED = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}


def _hear(event: str, args: tuple[object, ...]) -> None:
    if event in _WATCHED:
        TOUCHED.append((event, args[0] if event in {"socket.getaddrinfo", "socket.gethostbyname"} else args[-1]))


sys.addaudithook(_hear)


class Case(NamedTuple):
    flag: str
    said: str
    receipt: str
    key: str
    emulator: str


class Served(NamedTuple):
    """What `serve` was given."""

    settings: Settings
    credentials: Credentials | None


def expected(case: Case) -> ExitCode:
    """Written from docs/CONTRACTS.md, not from the code."""
    said = "" if case.said == "no file" else case.said
    is_emulated = case.emulator != "none"
    if case.flag == "":
        return ExitCode.OK if said in {"", "simulated"} and not is_emulated else ExitCode.CONFIG
    if case.flag == "live":
        if said != "live":
            return ExitCode.CONFIG
        if case.key != "files":
            return ExitCode.CREDENTIALS
        if case.receipt != "good":
            return ExitCode.CONFIG
    else:
        if said not in {"", case.flag}:
            return ExitCode.CONFIG
        if case.flag == "paper":
            return ExitCode.OK
        if case.key == "absent":
            return ExitCode.CREDENTIALS
    if case.emulator == "nobody":
        return ExitCode.RETRY
    return ExitCode.OK if case.emulator in {"none", "demo" if case.flag == "testnet" else "live"} else ExitCode.CONFIG


def is_asked(case: Case) -> bool:
    """Whether all that comes before the question to the emulator is there."""
    at_one_that_fits = case._replace(emulator="demo" if case.flag == "testnet" else "live")
    trades = case.flag in {"testnet", "live"}
    return trades and case.emulator != "none" and expected(at_one_that_fits) is ExitCode.OK


# --- the world of a case ----------------------------------------------------------------------------------------------


@contextmanager
def emulator(environment: str) -> Generator[str]:
    """As much of an emulator as is asked before anything is opened."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"environment": environment}).encode() if self.path == "/emulator/status" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def emulators() -> Iterator[Mapping[str, str]]:
    with (
        emulator("demo") as demo,
        emulator("live") as live,
        emulator("none of the two") as odd,
        socket.socket() as held,  # a port that is nobody's, and stays so
    ):
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        yield {"none": "", "demo": demo, "live": live, "odd": odd, "nobody": nobody}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Served]:
    """Runs that came as far as to serve."""
    runs: list[Served] = []

    def serve(
        settings: Settings, _directory: object, credentials: Credentials | None = None, _again: object = None
    ) -> int:
        runs.append(Served(settings, credentials))
        return 0

    monkeypatch.setattr("mmdaemon.cli.service.serve", serve)
    for name in (FOLDER, *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return runs


def credentials() -> Credentials:
    return Credentials(Secret(KEY), Secret(KEY), Secret(KEY))


def write_key(folder: Path) -> Path:
    folder.mkdir()
    for name in file_names("bitget"):
        (folder / name).write_text(KEY)
        (folder / name).chmod(0o400)
    return folder


def write_receipt(state: Path, kind: str, settings: Settings) -> None:
    """`settings` are live. A journal with rows is slow to make, and is there only where they are looked at."""
    state.mkdir(mode=0o700)
    if kind == "absent":
        return
    if kind == "good":
        give(state, settings, credentials())
        return
    emulated = bool(settings.venue.emulator) != (kind == "other place")
    key = credentials() if kind != "other key" else Credentials(Secret("x"), Secret("s"), Secret("p"))
    made = receipt.Receipt(
        __version__,
        settings.config_hash if kind != "other hash" else "0" * 32,
        "live" if kind != "other mode" else "testnet",
        fingerprint(key, "bitget", "unified", "live", emulated=emulated),
        datetime.now(UTC) - timedelta(days=31 if kind == "stale" else -1 if kind == "future" else 1),
        "reduced",
        dict.fromkeys(receipt.ITEMS, "0" * 64),
    )
    text = receipt.text_of(made, credentials().api_secret)
    (state / receipt.NAME).write_bytes(text.replace(b'"reduced"', b'"full"') if kind == "edited" else text)
    (state / receipt.NAME).chmod(0o620 if kind == "open" else 0o600)


def write_config(path: Path, mode: str, url: str) -> Path:
    lines = [f'[run]\nmode = "{mode}"'] if mode else []
    lines += [f'[venue]\nin_flight_max_s = 31.0\nemulator = "{url}"', '[journal]\ndurability = "power"']
    path.write_text("\n".join(lines))
    return path


def play(case: Case, at: Path, url: str) -> tuple[int, Path]:
    """The exit code, and the state directory."""
    at.mkdir()
    config = write_config(at / "c.toml", case.said, url) if case.said != "no file" else None
    state = at / "state"
    # The hash of a live configuration, whatever else is asked for; an address is not in it.
    like = load(write_config(at / "live.toml", "live", ""), None, {}).settings
    write_receipt(
        state, case.receipt, like.model_copy(update={"venue": like.venue.model_copy(update={"emulator": url})})
    )
    if case.key == "files":
        os.environ[FOLDER] = str(write_key(at / "key"))
    else:
        os.environ.pop(FOLDER, None)
    os.environ |= dict.fromkeys(VARIABLES, KEY) if case.key == "variables" else {}
    asked = ["run", *([f"--{case.flag}"] if case.flag else []), "--state-dir", str(state)]
    asked += ["--config", str(config)] if config else ["--set", f"venue.emulator={url}"]
    TOUCHED.clear()
    try:
        return main(asked), state
    finally:
        for name in (FOLDER, *VARIABLES):
            os.environ.pop(name, None)


# --- every combination ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "said"), list(product(FLAGS, SAID)))
def test_every_combination(
    flag: str,
    said: str,
    tmp_path: Path,
    emulators: Mapping[str, str],
    served: list[Served],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, rest in enumerate(product(RECEIPTS, KEYS, EMULATORS)):
        case = Case(flag, said, *rest)
        # A combination that is refused by flag and file alone is so whatever lies in the state directory.
        if case.receipt not in {"absent", "good"} and flag != "live":
            continue
        url = emulators[case.emulator]
        served.clear()
        code, state = play(case, tmp_path / str(number), url)
        told = capsys.readouterr().err
        assert code == expected(case), (case, told)
        connects = [("socket.connect", ("127.0.0.1", int(url.rpartition(":")[2])))] if is_asked(case) else []
        assert [each for each in TOUCHED if each != ("socket.getaddrinfo", "127.0.0.1")] == connects, case
        assert KEY not in told
        if code == ExitCode.OK:
            (run,) = served
            assert run.settings.run.mode == (flag or "simulated")
            assert run.settings.venue.emulator == url
            trades = flag in {"testnet", "live"}
            assert (run.credentials is not None) == trades
            assert run.credentials is None or run.credentials.api_secret.reveal() == KEY
            assert ("no exchange is spoken to" in told) == (trades and bool(url)), told
        else:
            assert served == [], case
            assert {each.name for each in state.iterdir()} <= GIVEN, "nothing is written either"
            assert told.startswith("mmdaemon: ") or "configuration error" in told


def test_the_combinations_reach_every_end() -> None:
    ends = {expected(Case(*each)) for each in product(FLAGS, SAID, RECEIPTS, KEYS, EMULATORS)}
    assert ends == {ExitCode.OK, ExitCode.CONFIG, ExitCode.CREDENTIALS, ExitCode.RETRY}
    live = [Case("live", *each) for each in product(SAID, RECEIPTS, KEYS, EMULATORS)]
    assert [case for case in live if expected(case) is ExitCode.OK] == [
        Case("live", "live", "good", "files", "none"),
        Case("live", "live", "good", "files", "live"),
    ]


# --- what is live, and who says so ------------------------------------------------------------------------------------


@pytest.mark.parametrize("also_in_the_file", [True, False])
@pytest.mark.parametrize("source", ["--set", "variable"])
def test_live_is_said_by_a_file_and_by_nothing_else(
    source: str,
    also_in_the_file: bool,
    tmp_path: Path,
    served: list[Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(tmp_path / "c.toml", "live" if also_in_the_file else "", "")
    write_receipt(tmp_path / "state", "good", load(write_config(tmp_path / "live.toml", "live", ""), None, {}).settings)
    monkeypatch.setenv(FOLDER, str(write_key(tmp_path / "key")))
    asked = ["run", "--live", "--config", str(config), "--state-dir", str(tmp_path / "state")]
    if source == "--set":
        asked += ["--set", "run.mode=live"]
    else:
        monkeypatch.setenv("MMDAEMON_RUN__MODE", "live")
    TOUCHED.clear()
    assert main(asked) == ExitCode.CONFIG
    assert "it must stand in the file" in capsys.readouterr().err
    assert (served, TOUCHED) == ([], [])


def test_what_changes_the_hash_makes_the_receipt_one_of_another_configuration(
    tmp_path: Path, served: list[Served], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "c.toml", "live", "")
    write_receipt(tmp_path / "state", "good", load(config, None, {}).settings)
    monkeypatch.setenv(FOLDER, str(write_key(tmp_path / "key")))
    asked = ["run", "--live", "--config", str(config), "--state-dir", str(tmp_path / "state")]
    assert main(asked) == 0
    assert main([*asked, "--set", "venue.leverage=2"]) == ExitCode.CONFIG
    assert "is of another configuration" in capsys.readouterr().err
    assert len(served) == 1


def test_at_reduced_size_no_order_and_no_position_is_worth_more_than_the_receipt_lets(
    tmp_path: Path, served: list[Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "c.toml", "live", "")
    settings = load(config, None, {}).settings
    monkeypatch.setenv(FOLDER, str(write_key(tmp_path / "key")))
    for stage, order, position in (
        ("reduced", receipt.REDUCED_ORDER_QUOTE, receipt.REDUCED_POSITION_QUOTE),
        ("full", settings.limits.max_order_quote, settings.quotes.max_position_quote),
    ):
        state = tmp_path / stage
        give(state, settings, credentials(), "reduced" if stage == "reduced" else "full")
        with monkeypatch.context() as at:
            runs: list[Settings] = []
            at.setattr("mmdaemon.cli.service.serve", lambda *said, runs=runs: runs.extend((said[0], said[3]())) or 0)
            assert main(["run", "--live", "--config", str(config), "--state-dir", str(state)]) == 0
        for run in runs:  # as it began, and as a SIGHUP would read it
            assert (run.limits.max_order_quote, run.quotes.max_position_quote) == (order, position)
        assert len(runs) == 2
        assert order <= settings.limits.max_order_quote


@pytest.mark.parametrize("flags", [("--paper", "--live"), ("--testnet", "--live"), ("--paper", "--testnet", "--live")])
def test_flags_exclude_each_other(flags: tuple[str, ...], tmp_path: Path, served: list[Served]) -> None:
    assert main(["run", *flags, "--state-dir", str(tmp_path)]) == ExitCode.USAGE
    assert served == []


@pytest.mark.parametrize("flag", ["--no-live", "--no-paper", "--live=maybe"])
def test_a_flag_has_no_other_form(flag: str, tmp_path: Path, served: list[Served]) -> None:
    assert main(["run", flag, "--state-dir", str(tmp_path)]) == ExitCode.USAGE
    assert served == []


def test_an_emulator_that_says_something_else_is_none(
    tmp_path: Path, emulators: Mapping[str, str], served: list[Served], capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case("testnet", "testnet", "absent", "files", "odd")
    code, _ = play(case, tmp_path / "x", emulators["odd"])
    assert code == ExitCode.CONFIG
    assert "serves 'none of the two', and --testnet trades 'demo'" in capsys.readouterr().err
    assert served == []


def test_key_files_that_others_may_read(
    tmp_path: Path, served: list[Served], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = write_key(tmp_path / "key")
    (key / "bitget_api_secret").chmod(0o444)
    monkeypatch.setenv(FOLDER, str(key))
    config = write_config(tmp_path / "c.toml", "live", "")
    write_receipt(tmp_path / "state", "good", load(config, None, {}).settings)
    state = ["--state-dir", str(tmp_path / "state")]
    assert main(["run", "--live", "--config", str(config), *state]) == ExitCode.CREDENTIALS
    assert str(key / "bitget_api_secret") in capsys.readouterr().err
    assert main(["run", "--testnet", *state]) == 0
    assert "warning: " in capsys.readouterr().err
    assert stat.S_IMODE((key / "bitget_api_secret").stat().st_mode) == 0o444
    assert [run.settings.run.mode for run in served] == ["testnet"]


# --- what a mode trades at --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "config"),
    [
        (
            {"run.mode": "testnet", "venue.account": "classic", "venue.symbol": "ETHUSDT", "venue.dead_man_s": 0},
            CcxtConfig(account="classic", symbol="ETHUSDT", environment="demo", credentials=None, tries_dead_man=False),
        ),
        (
            {"run.mode": "live", "venue.emulator": "http://127.0.0.1:81", "venue.book_depth": 40},
            CcxtConfig(environment="live", emulator_url="http://127.0.0.1:81", in_flight_floor_s=1.0, book_depth=40),
        ),
        ({"run.mode": "paper", "venue.request_timeout_s": 2}, CcxtConfig(environment="live", request_timeout_s=2.0)),
        (
            {"run.mode": "testnet", "venue.exchange": "okx"},
            CcxtConfig(exchange="okx", environment="demo", in_flight_floor_s=15.0),
        ),
    ],
)
def test_what_the_exchange_is_told(
    overrides: dict[str, Any], config: CcxtConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[CcxtConfig] = []
    module = ModuleType("mmdaemon.venues.exchanges")
    vars(module)["exchange"] = lambda config, _clock: told.append(config)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    real = {"journal.durability": "power", "venue.in_flight_max_s": 31}
    settings = load(None, {**real, **overrides}, {}).settings
    clock = VirtualClock.__new__(VirtualClock)
    wire.exchange_of(settings, clock, None)
    assert told == [config]


def test_no_two_places_share_a_journal() -> None:
    """The daemon refuses a journal of another venue: demo trading and every rehearsal are other venues."""
    places = {
        CcxtConfig(exchange=exchange, environment=environment, emulator_url=url).place
        for exchange in ("bitget", "okx")
        for environment in ("demo", "live")
        for url in ("", "http://127.0.0.1:81")
    }
    assert len(places) == 8
    assert CcxtConfig(environment="live").place == "bitget"


async def test_without_a_key_nothing_is_made_that_trades() -> None:
    settings = load(None, {"run.mode": "testnet", "journal.durability": "power", "venue.in_flight_max_s": 31}, {})
    with pytest.raises(ValueError, match="no credentials"):
        await wire.venue_for(settings.settings, VirtualClock.__new__(VirtualClock), "t", None)


IMPORTS = """
import sys
from mmdaemon.cli.main import main
code = main(sys.argv[1:])
loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "ccxt")
assert not loaded, loaded
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (["run", "--speed", "max", "--duration", "5"], 0),
        (["run", "--duration", "1", "--set", "metrics.enabled=false"], 0),
        (["run", "--testnet"], ExitCode.CREDENTIALS),
        (["run", "--live"], ExitCode.CONFIG),
    ],
)
def test_ccxt_is_not_imported_where_it_is_not_used(asked: list[str], code: int, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in {FOLDER, *VARIABLES}}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *asked, "--state-dir", str(tmp_path / "state")],
        capture_output=True, text=True, timeout=100, check=False, env=environ,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
