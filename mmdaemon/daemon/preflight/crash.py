"""SIGKILL in the middle of trading, to a process of its own, and what the next start makes of it."""

import asyncio
import os
import signal
import sys
import tomllib
from contextlib import suppress
from typing import Final

from mmdaemon.core.types import NS, OrderStatus, Side
from mmdaemon.daemon.preflight.items import Finding
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.settings.credentials import FOLDER, VARIABLES
from mmdaemon.settings.documents import toml_value
from mmdaemon.venues.base import Cursor, OrderReport

_LOOK_BACK_NS: Final = 120 * NS
NAME: Final = "crashed"
RECOVERED_S: Final = 90.0
_DOORS: Final = ("control.enabled", "metrics.enabled", "page.enabled", "backup.enabled")


async def crash(site: Site) -> Finding:
    """A daemon as a process quotes and is killed; another begins on its journal."""
    folder = site.folder / NAME
    folder.mkdir(mode=0o700, parents=True)
    began_ns = site.clock.wall_ns()
    before = {fill.trade_id for fill in await site.venue.fills(Cursor(began_ns - _LOOK_BACK_NS))}
    config = folder / "config.toml"
    config.write_text(_toml(site), encoding="utf-8")
    asked = (sys.executable, "-m", "mmdaemon", "run", "--testnet", "--config", str(config), "--state-dir", str(folder))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*asked, stdout=log, stderr=log, env=_environment(site))
        try:

            def rests(seen: list[OrderReport]) -> bool:
                if process.returncode is not None:
                    said = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
                    raise TimeoutError(f"the process ended with {process.returncode}: {' '.join(said)}")
                return {Side.BUY, Side.SELL} <= {each.side for each in seen if each.client_id.startswith("mm")}

            await site.until_read(lambda seen: rests([*seen]), "the process did not quote")
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
            site.killed_ns = killed_ns = site.clock.mono_ns()
    left = [each.client_id for each in await site.venue.open_orders()]
    daemon = await site.begin_daemon(NAME)
    recovered = sum(order.adopted for order in daemon.state.orders.live.values())
    await site.until(lambda: daemon.state.facts.reconciled_ns, "the next start did not reconcile")
    unknown = [c for c, order in daemon.state.orders.live.items() if order.status is OrderStatus.UNKNOWN]
    await site.until_quoting()
    recovered_s = round(site.since_ms(killed_ns) / 1e3, 2)
    await daemon.parts.operator.pause("preflight", "preflight")
    await site.until_read(lambda seen: not seen, "orders of before the kill rest")
    stated = {fill.trade_id for fill in await site.venue.fills(Cursor(began_ns - _LOOK_BACK_NS))} - before
    await site.until(
        lambda: stated <= daemon.state.position.trade_ids.keys(), "fills of before the kill were not booked"
    )
    code = await site.end_daemon()
    try:
        with JournalReader(daemon.state_dir.journal_path) as journal:
            rows = [fill.trade_id for run in journal.runs() for fill in journal.fills(run.epoch)]
            intents = {client_id for (client_id,) in journal.db.execute("SELECT client_id FROM intents")}
    except JournalUnreadable as error:
        return Finding({"resting_when_killed": len(left)}, "the journal after the kill", (str(error),))
    wrong = [f"{len(left)} orders rested when it was killed, which is not two"] * (len(left) < 2)
    wrong += [f"order {each} rested and has no intent in the journal" for each in left if each not in intents]
    wrong += [f"{len(unknown)} orders were UNKNOWN after the first round"] * bool(unknown)
    wrong += [f"{len(set(rows) ^ stated)} fills of journal and venue differ"] * (set(rows) != stated)
    wrong += ["a fill is booked twice"] * (len(rows) != len(set(rows)))
    wrong += [f"it took {recovered_s:.0f} s to quote again, at most {RECOVERED_S:.0f}"] * (recovered_s > RECOVERED_S)
    wrong += ["the daemon did not stop cleanly"] * (code != 0)
    return Finding(
        {
            "resting_when_killed": len(left),
            "recovered_orders": recovered,
            "fills": len(rows),
            "quoting_again_s": recovered_s,
        },
        "a process of its own, killed with SIGKILL while its orders rested; its journal, and the venue's fills",
        tuple(wrong),
    )


def _toml(site: Site) -> str:
    """The configuration in force, as a file of its own; without its doors, which another daemon may have open."""
    tables: dict[str, list[str]] = {}
    known = site.settings.flat()
    for path, value in (known | {path: False for path in _DOORS if path in known}).items():
        table, _, name = path.rpartition(".")
        tables.setdefault(table, []).append(f"{name} = {toml_value(value)}")
    lines = [line for table, rows in sorted(tables.items()) for line in ([f"\n[{table}]"] if table else []) + rows]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)  # ours to know, before a process stumbles over it
    return text


def _environment(site: Site) -> dict[str, str]:
    """Ours, with the key where it came from: its folder, or the variables that were taken out when they were read."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("MMDAEMON_")}
    for name in ("NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "WATCHDOG_USEC"):
        known.pop(name, None)
    if not known.get(FOLDER):
        whose = site.credentials
        texts = (whose.api_key, whose.api_secret, whose.api_passphrase)
        known |= {name: text.reveal() for name, text in zip(VARIABLES, texts, strict=True)}
    return known
