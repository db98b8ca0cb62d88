"""`mmdaemon kill --direct` at an exchange: real processes with a key in files, at the emulator over loopback TCP.

The emulator runs in the test, so that what rests is read from the venue's own record; the daemon that cannot help and
the command that does are processes of their own.
"""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.core.types import NS, Side
from mmdaemon.settings.credentials import FOLDER, file_names
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import BUSY, KEY, KINDS, PASSPHRASE, SECRET, Kind, Site, site

PROGRAM = (sys.executable, "-m", "mmdaemon")
PATIENCE_S = 60.0


class Desk:
    """A folder with a state directory and a key; what runs there trades at `here`."""

    def __init__(self, folder: Path, here: Site) -> None:
        self.here, self.state, self.key = here, folder / "state", folder / "key"
        self.key.mkdir()
        for name, text in zip(file_names("bitget"), (KEY, SECRET, PASSPHRASE), strict=True):
            (self.key / name).write_text(text)
            (self.key / name).chmod(0o400)

    async def begin(self, *words: str, key: bool = True) -> Process:
        ours = ("MMDAEMON_", FOLDER)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {FOLDER: str(self.key)} if key else {}
        return await asyncio.create_subprocess_exec(
            *PROGRAM, *words, "--state-dir", str(self.state), stdout=PIPE, stderr=PIPE, env=environment
        )

    async def run(self, *words: str, key: bool = True) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        process = await self.begin(*words, key=key)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    @asynccontextmanager
    async def daemon(self) -> AsyncGenerator[Process]:
        """`mmdaemon run --testnet`, with a position and quotes on both sides."""
        chosen = {
            **BUSY,
            "venue.emulator": self.here.emulator.url,
            "venue.account": self.here.kind,
            "metrics.enabled": False,
        }
        del chosen["run.mode"]  # the flag says it
        process = await self.begin("run", "--testnet", *(f"--set={path}={_toml(to)}" for path, to in chosen.items()))
        assert process.stderr is not None
        said = bytearray()

        async def hear() -> None:
            assert process.stderr is not None
            while part := await process.stderr.read(1 << 16):
                said.extend(part)

        hearing = asyncio.create_task(hear())
        try:
            end_ns = self.here.clock.mono_ns() + round(PATIENCE_S * NS)
            while not self.is_exposed():
                assert process.returncode is None, said.decode()[-2_000:]
                assert self.here.clock.mono_ns() < end_ns, said.decode()[-2_000:]
                await asyncio.sleep(0.02)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await hearing
            if process.stdout is not None:
                await process.stdout.read()

    def is_exposed(self) -> bool:
        matching = self.here.emulator.account.exchange.matching
        return len({order.side for order in matching.live}) == 2 and matching.position_lots != 0

    def by_hand(self) -> None:
        """Somebody's order that nothing fills."""
        account = self.here.emulator.account
        account.foreign_order(Side.BUY, round(account.mark_px_ticks() * 0.9), 20)

    def latch(self) -> str:
        path = self.state / "KILLED"
        return path.read_text() if path.exists() else ""


def _toml(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


@asynccontextmanager
async def a_desk(folder: Path, kind: Kind) -> AsyncGenerator[Desk]:
    async with site(folder, kind) as here:
        yield Desk(folder, here)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_sigkill_it_leaves_the_venue_empty_and_the_stop_where_it_is(tmp_path: Path, kind: Kind) -> None:
    async with a_desk(tmp_path, kind) as desk:
        account = desk.here.emulator.account
        async with desk.daemon() as daemon:
            await desk.here.until(lambda: account.stop_px_ticks() is not None)
            beside = await desk.run("kill", "--direct", "--if-dirty")
            assert beside[0] == 0, beside
            assert "looks after its orders" in beside[2]
            assert desk.latch() == ""
            await desk.here.until(desk.is_exposed)
            daemon.kill()
            await daemon.wait()
        stop, held = account.stop_px_ticks(), account.exchange.matching.position_lots
        before = len(account.exchange.fills)
        desk.by_hand()
        # Without a key: it says so and claims nothing. What comes next needs one too, and finds what rests.
        without = await desk.run("kill", "--direct", "--if-dirty", key=False)
        assert without[0] == ExitCode.CREDENTIALS, without
        assert "Nothing was cancelled" in without[2]
        assert "0 orders rest" not in without[2]
        assert desk.latch() == ""
        assert desk.here.resting()
        # Nor does it need what the contract's rules are, or a clock that is right.
        desk.here.emulator.faults.inject(Wrong.READS_FAIL, seconds=60.0, where="contracts")
        desk.here.emulator.faults.inject(Wrong.READS_FAIL, seconds=60.0, where="instruments")
        account.skew_ms = 40_000
        swept = await desk.run("kill", "--direct", "--if-dirty", "--wait")
        assert swept[0] == 0, swept
        assert "verified: 0 orders rest" in swept[2]
        assert (desk.here.resting(), desk.latch()) == ([], "")
        killed = await desk.run("kill", "--direct", "--wait", "--reason", "it is gone")
        assert killed[0] == 0, killed
        assert "it is gone: verified: 0 orders rest" in desk.latch()
        assert desk.here.resting() == []
        # The stop ends with its position, which what rested may have turned; nothing else takes it away.
        path = [*accumulate((fill.side * fill.qty_lots for fill in account.exchange.fills[before:]), initial=held)]
        if all(lots * held > 0 for lots in path):
            assert account.stop_px_ticks() == stop
        headers = [seen.headers for seen in desk.here.emulator.requests if "cancel" in seen.path]
        assert {each.get("PAPTRADING") for each in headers} == {"1"}
        for text in (*swept, *killed, *without, desk.latch(), (desk.state / "venue.json").read_text()):
            assert not any(secret in str(text) for secret in (KEY, SECRET, PASSPHRASE))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
async def test_beside_a_daemon_that_hangs_it_empties_the_venue_and_who_wakes_up_stays_killed(
    tmp_path: Path, kind: Kind
) -> None:
    async with a_desk(tmp_path, kind) as desk:
        account = desk.here.emulator.account
        async with desk.daemon() as daemon:
            daemon.send_signal(signal.SIGSTOP)
            killed = await desk.run("kill", "--direct", "--wait", "--reason", "it hangs")
            assert killed[0] == 0, killed
            assert desk.here.resting() == []
            landed = {row.order_id for row in account.all_orders()}
            daemon.send_signal(signal.SIGCONT)

            said = ""
            async with asyncio.timeout(PATIENCE_S):
                while "kill switch killed" not in said:
                    _, said, _ = await desk.run("status")
            assert desk.here.resting() == []
            late = [row for row in account.all_orders() if row.order_id not in landed]
            # What it had decided before it was stopped is too old for the venue, or is taken out.
            assert [row for row in late if not row.status.is_terminal] == []
            daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                assert await daemon.wait() == 0


@pytest.mark.timeout(240)
async def test_a_key_that_was_revoked_and_a_venue_that_refuses_are_said_and_are_no_success(tmp_path: Path) -> None:
    async with a_desk(tmp_path, "unified") as desk:
        async with desk.daemon() as daemon:
            daemon.kill()
            await daemon.wait()
        faults = desk.here.emulator.faults
        desk.by_hand()
        faults.inject(Wrong.KEY_REVOKED, seconds=60.0)
        revoked = await desk.run("kill", "--direct", "--for", "2")
        assert revoked[0] == 1, revoked
        assert "40006" in revoked[2]
        assert "open orders not read yet" in revoked[2]
        faults.clear()
        # It may read and may not cancel: how many rest, and why.
        faults.inject(Wrong.PERMISSION_REFUSED, seconds=60.0)
        refused = await desk.run("kill", "--direct", "--for", "2")
        assert refused[0] == 2, refused
        assert re.search(r"killing: [1-9]\d* orders rest", refused[2]), refused
        assert "40014" in refused[2]
        faults.clear()
        # Nobody is there.
        faults.inject(Wrong.CONNECTION_REFUSED, seconds=20.0)
        alone = await desk.run("kill", "--direct", "--for", "2")
        assert alone[0] == 1, alone
        assert "not_connected" in alone[2]
        assert desk.here.resting()
        done = await desk.run("kill", "--direct")
        assert done[0] == 0, done
        assert desk.here.resting() == []


@pytest.mark.timeout(240)
async def test_reconcile_is_clean_broken_or_not_known(tmp_path: Path) -> None:
    async with a_desk(tmp_path, "unified") as desk:
        async with desk.daemon() as daemon:
            faults = desk.here.emulator.faults

            async def reconciled() -> tuple[int, str, str]:
                return await desk.run("reconcile")

            async with asyncio.timeout(PATIENCE_S):
                while (clean := await reconciled())[0] != 0:  # while it trades, a fill may be on its way
                    assert clean[0] == 2, clean
            assert "clean: nothing is open" in clean[1]
            faults.inject(Wrong.READS_FAIL, seconds=60.0, where="current-position")
            unread = await reconciled()
            assert unread[0] == 3, unread
            assert "could not be read" in unread[1]
            assert "clean" not in unread[1].replace("no clean", "")
            faults.clear()
            # Somebody trades by hand.
            desk.here.emulator.outside.manual_trade(Side.BUY, 40)
            async with asyncio.timeout(PATIENCE_S):
                while (broken := await reconciled())[0] != 2:
                    assert broken[0] == 0, broken
            assert "break" in broken[1]
            daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                await daemon.wait()
        # Without a key nothing starts that could reconcile, and nobody says that all is well.
        none = await desk.run("run", "--testnet", f"--set=venue.emulator={desk.here.emulator.url}", key=False)
        assert none[0] == ExitCode.CREDENTIALS, none
        alone = await desk.run("reconcile", key=False)
        assert (alone[0], "clean" in alone[1]) == (1, False), alone
