"""Every critical alert whose `for` is at most two minutes, provoked at real daemons and told by real messengers.

Four daemons are processes as a user runs them: three at emulated venues, over the exchange's protocol, one at the
simulated venue. Real Prometheus scrapes them by the shipped rules, real Alertmanager tells a Slack-compatible webhook
and Telegram's API on loopback, by the shipped configuration. What goes wrong really does: a cancel is not done, a disk
takes no more bytes, a process is killed. Each alert is seen firing, told, over, and told to be over.

What runs beside each other: one bot's troubles are its own, and the alerts know bots apart.
"""

import asyncio
import json
import re
import resource
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from mmdaemon.core.types import KillState
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status
from mmdaemon.settings.credentials import FOLDER
from tests.cli.test_rehearsed import PROGRAM, Emulated, emulator, environment
from tests.emulated.installed import FILLING, configuration
from tests.monitoring import dashboards
from tests.monitoring.expressions import expressions, metrics_of
from tests.monitoring.rule_cases import RULES
from tests.monitoring.stand import PATIENCE_S, TOKEN, TOOLS, Stand, asked, free_port, need, stand, until

PROVOKED: Final = {
    "solo": ("HardStop", "Killed", "JournalFailed", "PartDied", "Down", "HeartbeatLost"),
    "loss": ("DailyLoss", "MarginGone", "BookStale"),
    "fills": ("FillsAfterPause", "OrdersRefused"),
    "broken": ("HardBreak", "BreakUnresolved", "AccountWrong", "SecondInstance"),
}
"""Bot -> alerts that are provoked at it. Whatever stops it tells HardStop and Killed at each."""
LATER: Final = frozenset({"mmdaemon_backup_timestamp_seconds", "mmdaemon_band_ratio", "mmdaemon_net_markout_ratio"})
"""Not there in the first minutes of a bot: the first copy is taken at its hour, volatility takes 14 bars, and a side is
judged after some fills. `tests/ops/test_metrics.py` sees them."""
LONGEST_FOR_S: Final = 120
LOSSES: Final = frozenset({"daily_loss", "margin_hard"})
LOT: Final = 0.0001


class Bot:
    """A daemon in a home of its own, at a port that Prometheus knows; begun, ended and begun again."""

    def __init__(self, name: str, folder: Path, venue: Emulated | None, more: str = "") -> None:
        self.name, self.venue, self.port = name, venue, free_port()
        self.home = folder / name
        self.home.mkdir()
        self.log = folder / f"{name}.log"
        self.config = folder / f"{name}.toml"
        configuration(self.config, venue.url if venue else "", "unified", "testnet" if venue else "simulated")
        text = self.config.read_text().replace("[metrics]\nport = 0", f"[metrics]\nport = {self.port}")
        text = text.replace('emulator = ""\n', "").replace("[guard]\n", f"[guard]\n{more}")
        self.config.write_text(text)
        kept = {key: value for key, value in environment().items() if not key.startswith("XDG_")}
        self.environment = {**kept, "HOME": str(self.home), **({FOLDER: str(venue.key)} if venue else {})}
        self.process: subprocess.Popen[bytes]

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "mmdaemon" / "default"

    @contextmanager
    def running(self) -> Generator[None]:
        flags = ["--testnet"] if self.venue else []
        with self.log.open("ab") as log:
            asked_for = [*PROGRAM, "run", *flags, "--config", str(self.config)]
            self.process = subprocess.Popen(asked_for, stdout=log, stderr=log, env=self.environment)
        try:
            yield
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()

    async def status(self) -> Status | None:
        try:
            return (await call(self.state / "control.sock", "status", {})).status
        except NoDaemon:
            return None

    async def until_quoting(self) -> Status:
        seen: list[Status] = []

        async def holds() -> bool:
            status = await self.status()
            seen[:] = [status] if status else []
            return status is not None and status.guard == "running" and status.open_orders >= 2

        await until(holds, PATIENCE_S, lambda: f"{self.name} does not quote: {self.picture(seen)}")
        return seen[0]

    async def verb(self, *words: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._verb, words)

    def _verb(self, words: tuple[str, ...]) -> tuple[int, str]:
        done = subprocess.run(
            [*PROGRAM, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=self.environment
        )
        return done.returncode, done.stdout + done.stderr

    async def resume(self) -> None:
        """Until it is let: some reasons hold for a while after their cure."""
        said = ""

        async def holds() -> bool:
            nonlocal said
            code, said = await self.verb("resume", "--reason", "the test's cause is gone")
            status = await self.status()
            return code == 0 and status is not None and status.kill == KillState.ARMED

        await until(holds, 2 * PATIENCE_S, lambda: f"{self.name} is not resumed: {said} {self.picture([])}")

    async def venue_does(self, deed: str, **fields: object) -> None:
        assert self.venue is not None
        await asyncio.to_thread(asked, f"{self.venue.url}/emulator/{deed}", fields)

    def picture(self, seen: list[Status]) -> str:
        told = [(each.guard, each.reasons, each.why_not_quoting) for each in seen]
        return f"{told} {self.log.read_text()[-1500:]}"


@asynccontextmanager
async def desk(folder: Path) -> AsyncGenerator[tuple[Stand, dict[str, Bot]]]:
    """All that runs: venues, daemons, Prometheus, Alertmanager, and who listens."""
    with ExitStack() as ends:
        bots = {"solo": Bot("solo", folder, None)}
        for name in ("loss", "fills", "broken"):
            (folder / f"{name}-venue").mkdir()
            more = "daily_loss_fraction = 0.0001\n" if name == "loss" else ""
            venue = emulator(folder / f"{name}-venue", *FILLING, "--set", f"run.seed={len(bots)}")
            bots[name] = Bot(name, folder, await asyncio.to_thread(ends.enter_context, venue), more)
        for bot in bots.values():
            ends.enter_context(bot.running())
        async with stand(folder, {name: bot.port for name, bot in bots.items()}) as there:
            await asyncio.gather(*(bot.until_quoting() for bot in bots.values()))
            yield there, bots
        # Ended one by one here, so that what each venue says at its end is heard.
        for bot in bots.values():
            bot.process.kill()
            bot.process.wait()


@pytest.mark.timeout(600)
async def test_each_critical_alert_fires_is_told_and_is_over(tmp_path: Path) -> None:
    need(*TOOLS)
    async with desk(tmp_path) as (there, bots):
        assert {bot for _, bot in await there.firing()} <= {""}, "of the dead man alone"
        await each_panel_is_drawn(there)
        async with asyncio.TaskGroup() as troubles:
            troubles.create_task(killed_full_and_dead(there, bots["solo"]))
            troubles.create_task(losing(there, bots["loss"]))
            troubles.create_task(filled_after_a_pause(there, bots["fills"]))
            troubles.create_task(not_agreeing(there, bots["broken"]))
        assert there.listener.alive > 0, "the dead man is told that all is well"
        telegram = {each["text"] for each in there.listener.telegram}
        for bot, alerts in PROVOKED.items():
            for alert in alerts:
                assert there.listener.told(f"Mmdaemon{alert}", bot)
                assert there.listener.told(f"Mmdaemon{alert}", bot, over=True)
        assert any("the kill switch was thrown" in text for text in telegram)
        await each_metric_was_there(there)
        assert any("docs/RUNBOOK.md#kill-fired" in each["text"] for each in there.listener.slack)
        assert TOKEN not in str(there.listener.slack)


def test_every_critical_alert_of_two_minutes_is_provoked() -> None:
    """One that is added to the rules and not to this page fails here."""
    text = RULES.read_text(encoding="utf-8")
    short = set()
    for block in re.split(r"^ *- alert: ", text, flags=re.MULTILINE)[1:]:
        waits = re.search(r"^ *for: (\d+)(s|m)$", block, re.MULTILINE)
        for_s = int(waits[1]) * {"s": 1, "m": 60}[waits[2]] if waits else 0
        if "severity: critical" in block and for_s <= LONGEST_FOR_S:
            short.add(block.split()[0])
    assert short == {f"Mmdaemon{alert}" for alerts in PROVOKED.values() for alert in alerts}


async def each_panel_is_drawn(there: Stand) -> None:
    """Prometheus understands each expression of a dashboard."""
    for expression in _drawn():
        await there.query(expression.replace("$bot", "loss"))


def _drawn() -> list[str]:
    pages = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(dashboards.FOLDER.iterdir())]
    return [each["expr"] for page in pages for panel in page["panels"] for each in panel.get("targets", ())]


async def each_metric_was_there(there: Stand) -> None:
    """What rules and dashboards name was scraped from these daemons at some time of the run, or recorded."""
    body = await asyncio.to_thread(asked, f"{there.url}/api/v1/label/__name__/values")
    written = RULES.read_text(encoding="utf-8")
    asked_for = [*expressions(written), *_drawn()]
    used = {name for expression in asked_for for name in metrics_of(expression)}
    assert len(used) > 60
    assert used - set(body["data"]) - LATER == set()


def names(*alerts: str) -> tuple[str, ...]:
    return tuple(f"Mmdaemon{alert}" for alert in alerts)


async def killed_full_and_dead(there: Stand, bot: Bot) -> None:
    """An operator kills it; its disk takes no more; its process dies. It is begun again."""
    await bot.verb("kill", "--reason", "rehearsal")
    await there.until_told(bot.name, *names("HardStop", "Killed"))
    # The system refuses each write beyond this, as a full disk does (EFBIG for ENOSPC).
    resource.prlimit(bot.process.pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
    await there.until_told(bot.name, *names("JournalFailed", "PartDied"))
    bot.process.send_signal(signal.SIGKILL)
    bot.process.wait()
    await there.until_told(bot.name, *names("Down", "HeartbeatLost"), within_s=150)
    with bot.running():
        await bot.resume()
        await there.until_over(bot.name, *names(*PROVOKED["solo"]))


async def losing(there: Stand, bot: Bot) -> None:
    """Somebody trades by hand until loss and margin are at their limits, and the book falls silent."""
    lost: set[str] = set()

    async def is_lost() -> bool:
        await bot.venue_does("manual-trade", side="buy", qty_lots=2_000)
        status = await bot.status()
        lost.update(status.reasons if status else ())
        return lost >= LOSSES

    await until(is_lost, PATIENCE_S, lambda: f"{lost} {bot.picture([])}")
    await bot.venue_does("faults", kind="book_silent", seconds=600)
    await there.until_told(bot.name, *names("DailyLoss", "MarginGone"))
    await there.until_told(bot.name, *names("BookStale"))
    await bot.venue_does("calm")
    # What is gone cannot be undone, so the money comes back as a rebate of what closes the position.
    await bot.venue_does("fees", maker_rate="-0.0001", taker_rate="-0.01")

    async def is_made_good() -> bool:
        status = await bot.status()
        if status is None or not LOSSES & set(status.reasons):
            return status is not None
        lots = round(float(status.position) / LOT)
        if lots > 0:
            await bot.venue_does("manual-trade", side="sell", qty_lots=min(2_000, lots))
        return False

    await until(is_made_good, PATIENCE_S, lambda: f"never made good {bot.picture([])}")
    await bot.resume()
    await there.until_over(bot.name, *names(*PROVOKED["loss"]))


async def filled_after_a_pause(there: Stand, bot: Bot) -> None:
    """Cancels are not done at the venue while the bot is paused; then the venue refuses whatever it sends."""
    await bot.venue_does("faults", kind="cancel_not_found", seconds=600)
    code, said = await bot.verb("pause", "--reason", "rehearsal")
    assert code == 0, said
    await there.until_told(bot.name, *names("FillsAfterPause"), within_s=120)
    await bot.venue_does("calm")
    await bot.resume()
    await bot.until_quoting()
    await bot.venue_does("faults", kind="margin_refused", seconds=600)
    await there.until_told(bot.name, *names("OrdersRefused"), within_s=120)
    await bot.venue_does("calm")
    await bot.resume()
    await there.until_over(bot.name, *names(*PROVOKED["fills"]))


async def not_agreeing(there: Stand, bot: Bot) -> None:
    """A fill that neither the stream nor the venue's reads tell of, a changed leverage, and an order with this bot's
    tag, of a run that was none of this daemon's."""
    assert bot.venue is not None
    await bot.venue_does("facts", leverage=3)
    await bot.venue_does("faults", kind="stale_reads", seconds=600, where="fills")
    await bot.venue_does("faults", kind="fills_lost", seconds=600)
    await bot.venue_does("manual-trade", side="buy", qty_lots=100)
    await there.until_told(bot.name, *names("HardBreak", "BreakUnresolved", "AccountWrong"), within_s=150)
    record = await asyncio.to_thread(bot.venue.get, "record")
    ours = [each for each in record["orders"] if each["client_id"].startswith("mm")]
    tag = ours[0]["client_id"].partition("-")[0]
    far = {"side": "buy", "px_ticks": round(ours[0]["px_ticks"] * 0.98), "qty_lots": 10}
    await bot.venue_does("foreign-order", **far, client_id=f"{tag}-999-1")
    await there.until_told(bot.name, *names("SecondInstance"))
    await bot.venue_does("withdraw", key=f"{tag}-999-1")
    await bot.venue_does("calm")
    await bot.venue_does("facts", leverage=1)
    await bot.resume()
    await there.until_over(bot.name, *names(*PROVOKED["broken"]))
