"""`mmdaemon emulator` and `mmdaemon run` as a user runs them: processes, real ccxt.pro, loopback TCP.

The journal is held against the emulator's own record, a SQLite file that shares no code with it.
"""

import asyncio
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.venues.emulator.auth import Auth
from tests.cli.test_rehearsed import PATIENCE_S, PROGRAM, emulator, environment
from tests.emulated.build import KINDS, Kind, site
from tests.emulated.installed import (
    FILLING,
    Installed,
    Running,
    configuration,
    filled,
    installed_at,
    is_busy,
    is_quoting,
    journal_equals,
    scraped,
)

RESTARTS = int(os.environ.get("MMDAEMON_RESTARTS", "3"))
"""Ten and more outside CI."""


@pytest.mark.parametrize("account", KINDS)
@pytest.mark.timeout(300)
async def test_two_processes_from_an_empty_home(account: Kind, tmp_path: Path) -> None:
    record = tmp_path / "venue.sqlite"
    with emulator(tmp_path, "--account", account, "--record", str(record), *FILLING) as emulated:
        there = Installed(tmp_path / "home", configuration(tmp_path / "c.toml", emulated.url, account), emulated.key)
        with there.running() as run:
            busy = await run.until(is_busy(3))
            assert busy.mode == "testnet"
            assert busy.links == {"public": True, "private": True}
            assert busy.funding is not None
            shown = there.verb("status") + there.verb("status", "--json")
            assert "RUNNING" in shown
            shown += await asyncio.to_thread(scraped, busy.metrics_port)
            await run.until(is_busy(filled(busy) + 1))
            await run.stop()
        left = emulated.get("status")
        assert (left["open_orders"], left["defects"]) == (0, [])
        secrets = emulated.secrets()

    assert journal_equals(record, there.state / "journal.sqlite") >= 4
    told = there.verb("replay", "--verify")
    assert "verified: everything agrees" in told
    shown += told + there.verb("explain", "--last-fill") + there.verb("report")
    assert f"bitget, {account} account, demo, emulated at" in shown
    shown += there.told()
    # What else the daemon wrote into the home: journal, report, address, status.
    written = {path: path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert {"journal.sqlite", "report-1.html", "report-1.json"} <= {path.name for path in written}
    for secret in secrets:
        assert secret not in shown
        assert [path for path, data in written.items() if secret.encode() in data] == []


@pytest.mark.parametrize("account", KINDS)
@pytest.mark.timeout(600)
async def test_killed_at_any_moment_and_begun_again(account: Kind, tmp_path: Path) -> None:
    """Orders rest and are filled while nobody is there; the next one reads what happened, and ends what it finds."""
    record, random = tmp_path / "venue.sqlite", Random(account)
    with emulator(tmp_path, "--account", account, "--record", str(record), *FILLING) as emulated:
        there = Installed(tmp_path / "home", configuration(tmp_path / "c.toml", emulated.url, account), emulated.key)
        with there.running() as run:
            await run.until(is_busy(1))  # a position, from the first of them on
        seen = len(emulated.get("record")["fills"])
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while len(emulated.get("record")["fills"]) == seen:  # filled while nobody is there
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.2)
        for moment in range(RESTARTS):
            with there.running() as run:
                if moment % 2:
                    await run.until(is_quoting)
                    await asyncio.sleep(random.uniform(0, 3))
                else:  # while it imports, recovers, reconciles, sends its first ladder
                    await asyncio.sleep(random.uniform(0.5, 4))
                run.process.kill()
                await asyncio.to_thread(run.process.wait)
        with there.running() as run:
            await run.until(is_busy(1))
            await run.stop()
        left = emulated.get("status")
        assert (left["open_orders"], left["defects"]) == (0, [])
    assert journal_equals(record, there.state / "journal.sqlite") >= 2
    assert "verified: everything agrees" in there.verb("replay", "--verify")


# --- the start --------------------------------------------------------------------------------------------------------


async def test_what_may_be_asked_for_once_a_second_is_asked_for_once(tmp_path: Path) -> None:
    """Asked for twice at the start, it was refused by its own budget, and quoting began five seconds later."""
    async with site(tmp_path, "classic") as here:
        await here.begin()
        await here.until(here.is_quoting)
        asked = [seen.path for seen in here.emulator.requests if seen.path == "/api/v2/spot/account/info"]
        assert len(asked) == 1


def test_a_daemon_loads_nothing_that_draws_or_counts() -> None:
    """Twelve megabytes, and an eighth of a second of the start."""
    code = "import sys, mmdaemon.cli.run, mmdaemon.cli.service; sys.exit('numpy' in sys.modules)"
    subprocess.run([PROGRAM[0], "-c", code], check=True, timeout=PATIENCE_S, env=environment())


# --- an account that is not as it must be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "kind", "said"),
    [
        ({"position_mode": "hedge"}, "unified", "position mode is hedge, only one_way is supported"),
        ({"position_mode": "hedge"}, "classic", "position mode is hedge, only one_way is supported"),
        ({"margin_mode": "isolated"}, "classic", "margin mode is isolated, only crossed is supported"),
        ({"leverage": 5}, "unified", "leverage is 5, configured 1: set it to that at the venue"),
        ({"leverage": 5}, "classic", "leverage is 5, configured 1: set it to that at the venue"),
        ({"can_trade": False}, "unified", "the key cannot trade"),
        ({"can_withdraw": True}, "unified", "the key can withdraw: make one that cannot"),
    ],
)
@pytest.mark.timeout(180)
async def test_an_account_that_is_not_as_it_must_be_stops_it_and_it_says_what_to_do(
    facts: dict[str, Any], kind: Kind, said: str, tmp_path: Path
) -> None:
    async with site(tmp_path / "venue", kind) as here:
        here.emulator.outside.change_facts(**facts)
        there = installed_at(here, tmp_path)
        with there.running() as run:
            stopped = await run.until(lambda seen: seen.kill == "killed")
            assert stopped.guard == "hard_stop"
            assert any(said in why for why in stopped.why_not_quoting), stopped.why_not_quoting
            assert said in there.told()  # whoever has but the log reads it there
            await run.stop()
        assert here.emulator.account.all_orders() == []


@pytest.mark.parametrize("skew_s", [40, -40])
@pytest.mark.timeout(180)
async def test_a_clock_that_is_40_s_off_does_not_begin(skew_s: int, tmp_path: Path) -> None:
    async with site(tmp_path / "venue", "unified", window_s=30.0) as here:
        here.emulator.account.skew_ms = skew_s * 1_000
        there = installed_at(here, tmp_path)
        with there.running() as run:
            assert await asyncio.to_thread(run.process.wait, PATIENCE_S) == ExitCode.RETRY
        assert "our clock is outside the venue's window: look at the machine's time service" in there.told()
        assert "Traceback" not in there.told()
        assert here.emulator.account.all_orders() == []


@pytest.mark.timeout(180)
async def test_a_key_of_the_other_environment_is_refused_by_name(tmp_path: Path) -> None:
    async with site(tmp_path / "venue", "unified") as here:
        account, config = here.emulator.account, msgspec.structs.replace(here.emulator.config, environment="live")
        here.emulator.auth = Auth(config, account.now_ms)
        there = installed_at(here, tmp_path)
        with there.running() as run:
            assert await asyncio.to_thread(run.process.wait, PATIENCE_S) == ExitCode.CREDENTIALS
        assert "it must be one of the demo environment" in there.told()
        assert "Traceback" not in there.told()


# --- two at one account -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(300)
async def test_of_two_daemons_at_one_account_one_stops_and_nothing_is_left(kind: Kind, tmp_path: Path) -> None:
    async with site(tmp_path / "venue", kind) as here:
        first, second = (installed_at(here, tmp_path, name) for name in ("first", "second"))
        with first.running() as one, second.running() as two:
            runs = one, two

            async def stopped() -> list[Running]:
                """Those that found the other."""
                seen = [(run, await run.status()) for run in runs]
                return [run for run, now in seen if now is not None and now.guard == "hard_stop"]

            end = asyncio.get_running_loop().time() + PATIENCE_S
            while not await stopped():
                assert asyncio.get_running_loop().time() < end, "nobody noticed"
                await asyncio.sleep(0.1)
            assert "second_instance" in first.told() + second.told()
            for run in runs:
                await run.stop()
        assert here.resting() == []


# --- paper ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_paper_fills_at_the_live_market_and_asks_for_nothing(tmp_path: Path) -> None:
    record = tmp_path / "venue.sqlite"
    with emulator(tmp_path, "--environment", "live", "--record", str(record), *FILLING) as emulated:
        config = configuration(tmp_path / "c.toml", emulated.url, "unified", "paper")
        there = Installed(tmp_path / "home", config, None)
        with there.running("--paper") as run:
            busy = await run.until(is_busy(2))
            assert busy.mark is not None
            assert busy.funding is not None
            asked = emulated.get("requests")
            assert emulated.get("record")["orders"] == []
            await run.stop()
    assert asked
    headers = {name.upper() for each in asked for name in each["headers"]}
    assert not {name for name in headers if name.startswith("ACCESS-")}
    assert {each["method"] for each in asked} == {"GET"}
    told = there.verb("report") + there.verb("replay", "--verify")
    assert "no order leaves this process" in told
    assert "verified: everything agrees" in told
    with closing(sqlite3.connect(record)) as venue:
        for table in ("requests", "orders", "fills", "bills"):
            assert venue.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
