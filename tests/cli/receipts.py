"""A receipt as a passed preflight would have left it in a state directory, with the rows that it stands on."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mmdaemon import __version__
from mmdaemon.cli.modes import account_of
from mmdaemon.journal import preflights
from mmdaemon.journal.records import PreflightRow
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import Receipt, Stage, needed
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings
from mmdaemon.venues.ccxt_config import CcxtConfig


def rows_of(settings: Settings, account: str, whose: Credentials, at: datetime) -> list[PreflightRow]:
    """A passed one of each item."""
    made = [
        PreflightRow(
            ts_ns=int(at.timestamp()) * 1_000_000_000,
            mode="live",
            item=item,
            outcome="passed",
            version=__version__,
            config_hash=settings.config_hash,
            account=account,
            figures="{}",
            evidence="made for a test",
        )
        for item in needed("full")
    ]
    return [msgspec.structs.replace(row, seal=receipt.seal_of(row.said(), whose.api_secret)) for row in made]


def give(state: Path, settings: Settings, whose: Credentials, stage: Stage = "full") -> None:
    """For `settings`, which are live."""
    now = datetime.now(UTC)
    account = account_of(settings, whose)
    rows = rows_of(settings, account, whose, now)
    venue = settings.venue
    at = CcxtConfig(exchange=venue.exchange, account=venue.account, environment="live", emulator_url=venue.emulator)
    directory = open_dir(state, {}).lock()
    try:
        preflights.append(directory, at.place, venue.symbol, rows)
    finally:
        directory.release()
    stands_on = {row.item: row.seal for row in rows if row.item in needed(stage)}
    made = Receipt(__version__, settings.config_hash, "live", account, now, stage, stands_on)
    (state / receipt.NAME).write_bytes(receipt.text_of(made, whose.api_secret))
    (state / receipt.NAME).chmod(0o600)
