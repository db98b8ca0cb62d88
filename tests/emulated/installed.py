"""`mmdaemon run` as a process in a home of its own, at an emulator: what it is started with, waited for and held to."""

import asyncio
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.core.types import Regime
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.replay import pnl_identity
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status
from mmdaemon.settings.credentials import FOLDER, file_names
from tests.cli.test_rehearsed import PATIENCE_S, PROGRAM, environment
from tests.emulated.build import KEY, PASSPHRASE, SECRET, Site

BUSY = """
[run]
mode = "{mode}"
crash_loop_starts = 0
[venue]
emulator = "{url}"
account = "{account}"
in_flight_max_s = 2.0
request_timeout_s = 1.0
ack_check_s = 1.0
reconcile_orders_s = 1.0
reconcile_position_s = 2.0
reconcile_ledger_s = 10.0
[journal]
durability = "{durability}"
[simulated]
maker_fee_bps = -1.0
taker_fee_bps = 1.0
fills = "touch"
[cost]
min_edge_bps = 0.0
taker_probability = 0.0
adverse_cap_bps = 0.0
turnover_soft_multiple = 1000.0
turnover_cap_multiple = 1000.0
[derisk]
day_end_position_fraction = 1.0
[quotes]
band_gain = 0.0
tolerance_min_bps = 0.5
[guard]
drift_max_bps = 1000.0
fills_per_side_per_minute = 600
[metrics]
port = 0
""" + "".join(f"[regimes.{regime}]\nspread_min_bps = 0.1\nlevels_min = 2\nlevels_max = 2\n" for regime in Regime)
"""Quotes at the touch, which are filled when it is touched: some fills a minute in a calm market."""
FILLING = ("--set", "simulated.maker_fee_bps=-1", "--set", "simulated.fills=touch", "--window-s", "1")


def configuration(path: Path, url: str, account: str, mode: str = "testnet") -> Path:
    durability = "process" if mode == "paper" else "power"
    path.write_text(BUSY.format(url=url, account=account, mode=mode, durability=durability))
    return path


class Installed:
    """A user's home, empty but for what the daemon makes there: its state is where it is without --state-dir."""

    def __init__(self, home: Path, config: Path, key: Path | None) -> None:
        home.mkdir()
        self.log = home.with_suffix(".log")
        self.state = home / ".local" / "state" / "mmdaemon" / "default"
        self.config = config
        kept = {name: text for name, text in environment().items() if not name.startswith("XDG_")}
        self.environment = {**kept, "HOME": str(home), **({FOLDER: str(key)} if key else {})}

    @contextmanager
    def running(self, flag: str = "--testnet") -> Generator["Running"]:
        """A daemon, killed at the end where it still runs."""
        asked = [*PROGRAM, "run", flag, "--config", str(self.config)]
        with (
            self.log.open("ab") as log,
            subprocess.Popen(asked, stdout=log, stderr=log, env=self.environment) as process,
        ):
            try:
                yield Running(self, process)
            finally:
                if process.poll() is None:
                    process.kill()

    def told(self) -> str:
        return self.log.read_text()

    def verb(self, *words: str, code: int = 0) -> str:
        """What `mmdaemon` says with these words, on both of its outputs."""
        done = subprocess.run(
            [*PROGRAM, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=self.environment
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        return said


class Running:
    def __init__(self, installed: Installed, process: subprocess.Popen[bytes]) -> None:
        self._installed, self.process = installed, process

    async def status(self) -> Status | None:
        try:
            return (await call(self._installed.state / "control.sock", "status", {})).status
        except NoDaemon:
            return None

    async def until(self, holds: Callable[[Status], bool]) -> Status:
        """Patience, not a measurement."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        seen = None
        while asyncio.get_running_loop().time() < end:
            assert self.process.poll() is None, self._installed.told()
            if (seen := await self.status()) is not None and holds(seen):
                return seen
            await asyncio.sleep(0.1)
        pytest.fail(f"never: {seen and (seen.guard, seen.why_not_quoting, seen.counts)} {self._installed.told()}")

    async def stop(self) -> None:
        """Cleanly, with nothing said that nobody may see."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, PATIENCE_S) == ExitCode.OK, self._installed.told()
        assert "Traceback" not in self._installed.told()
        assert "Unclosed" not in self._installed.told()


def scraped(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        return page.read().decode()


def filled(seen: Status) -> int:
    return seen.counts["fills_buy"] + seen.counts["fills_sell"]


def is_busy(fills: int) -> Callable[[Status], bool]:
    """Both sides at the venue, a position, and so many fills of this run."""

    def holds(seen: Status) -> bool:
        sides = {quote.side for quote in seen.quotes if quote.working}
        return seen.guard == "running" and len(sides) == 2 and filled(seen) >= fills and float(seen.position) != 0

    return holds


def is_quoting(seen: Status) -> bool:
    return is_busy(0)(seen) or (seen.guard == "running" and seen.open_orders >= 2)


def journal_equals(record: Path, journal: Path) -> int:
    """Fill by fill, line by line of the ledger, and the money to the last digit. How many fills there were."""
    with closing(sqlite3.connect(record)) as venue, JournalReader(journal) as ours:
        ((balance, cash, start, lots),) = venue.execute(
            "SELECT balance_e10, cash_e10, start_e10, position_lots FROM accounts"
        ).fetchall()
        fills = venue.execute(
            "SELECT trade_id, client_id, side, px_ticks, qty_lots, fee_e10, liquidity, venue_ts_ns / 1000000 "
            "FROM fills ORDER BY trade_id"
        ).fetchall()
        bills = venue.execute("SELECT bill_id, kind, amount_e10 FROM bills ORDER BY bill_id").fetchall()
        booked = ours.db.execute(
            "SELECT trade_id, client_id, side, px_ticks, qty_lots, fee_e10, liquidity, venue_ts_ns / 1000000 "
            "FROM fills ORDER BY trade_id"
        ).fetchall()
        assert booked == fills
        assert ours.db.execute("SELECT bill_id, kind, amount_e10 FROM bills ORDER BY bill_id").fetchall() == bills
        resting = venue.execute(
            "SELECT client_id FROM orders WHERE status NOT IN ('filled', 'cancelled', 'rejected')"
        ).fetchall()
        assert resting == []
        assert [order.client_id for order in ours.unsettled()] == []
        assert ours.breaks(only_open=True) == []
        epochs = [run.epoch for run in ours.runs()]
    whole = pnl_identity(journal)
    assert (whole.start_e10, whole.position_lots, whole.fills) == (int(start), lots, len(fills))
    ours_e10 = int(start) + whole.cash_flow_e10 - whole.fees_e10 + whole.fee_bills_e10 + whole.funding_e10
    assert ours_e10 + whole.transfers_e10 == int(cash)
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        (blob,) = db.execute(
            "SELECT blob FROM checkpoints WHERE slice = 'position' AND epoch = ? ORDER BY seq DESC LIMIT 1",
            (epochs[-1],),
        ).fetchone()
    held = msgspec.msgpack.decode(blob)
    # What a wallet shows: cost is not in it.
    in_wallet = held["start_e10"] + held["realised_e10"] - held["fees_e10"] + held["funding_e10"]
    assert in_wallet + held["transfers_e10"] == int(balance)
    return len(fills)


def installed_at(here: Site, folder: Path, name: str = "home") -> Installed:
    key = folder / "key"
    if not key.exists():
        key.mkdir(mode=0o700)
        for file, text in zip(file_names("bitget"), (KEY, SECRET, PASSPHRASE), strict=True):
            (key / file).write_text(text)
            (key / file).chmod(0o600)
    return Installed(folder / name, configuration(folder / "c.toml", here.emulator.url, here.kind), key)
