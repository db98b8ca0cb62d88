"""What a mode but the simulated one must show before anything is opened: its flag, its key and, live, its receipt.

flag            refused unless run.mode agrees; --live wants run.mode = "live" in the file that --config names (78)
key             testnet and live: three files, else 77
emulator        where one is set it is asked which environment it serves, and no exchange is ever spoken to
receipt         live: a passed preflight of this configuration, account and version (78)
"""

import http.client
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from mmdaemon import __version__
from mmdaemon.cli import ExitCode, Refused
from mmdaemon.journal import preflights
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import Stage
from mmdaemon.secret import Credentials
from mmdaemon.settings import Loaded, Settings, load, shipped_config
from mmdaemon.settings.credentials import FOLDER, CredentialsMissing, file_names, fingerprint, read_credentials
from mmdaemon.settings.presets import Value
from mmdaemon.settings.rules import REAL_MODES

Flag = Literal["", "paper", "testnet", "live"]
ENVIRONMENTS: Final[Mapping[str, Literal["demo", "live"]]] = {"paper": "live", "testnet": "demo", "live": "live"}
"""Which environment of an exchange a mode speaks to. Paper reads the market that is really there."""
_ASK_S: Final = 5.0


def flag_of(*, paper: bool, testnet: bool, live: bool) -> Flag:
    """The one that was given. Raises Refused (64) where there are several."""
    named: list[Flag] = []
    if paper:
        named.append("paper")
    if testnet:
        named.append("testnet")
    if live:
        named.append("live")
    if len(named) > 1:
        raise Refused(f"--{' and --'.join(named)} exclude each other: give one", ExitCode.USAGE)
    return named[0] if named else ""


def loaded_for(flag: Flag, config: Path | None, overrides: Mapping[str, Value]) -> Loaded:
    """The settings, with a mode that the flag agrees to. Without a file `--paper` and `--testnet` read the shipped one.

    Raises:
        ConfigError: as `load`.
        Refused: flag and `run.mode` do not agree, or "live" was not said by a file (78).
    """
    if flag == "live" and config is None:
        raise Refused(
            '--live needs a file that says [run] mode = "live": name it by --config (`mmdaemon init --preset live`)',
            ExitCode.CONFIG,
        )
    if flag and config is None:
        config = shipped_config(flag)
    # What is live is said by a file, and never by the flag alone.
    loaded = load(config, overrides, unless_said={"run.mode": flag} if flag in {"paper", "testnet"} else None)
    mode, origin = loaded.settings.run.mode, loaded.origins["run.mode"]
    if mode != (flag or "simulated"):
        how = f"give --{mode} too, or take it out" if not flag else f"make it {flag!r} there, or leave --{flag} out"
        raise Refused(f"run.mode = {mode!r} ({origin}): {how}", ExitCode.CONFIG)
    if mode == "live" and origin != str(config):
        raise Refused(
            f"run.mode = 'live' comes from the {origin}: it must stand in the file {config}, and nowhere else",
            ExitCode.CONFIG,
        )
    return loaded


def credentials_of(settings: Settings) -> Credentials:
    """The key, read once. Warnings go to stderr. Raises Refused (77), which names each file."""
    try:
        found = read_credentials(settings.venue.exchange, os.environ, is_live=settings.run.mode == "live")
    except CredentialsMissing as missing:
        raise Refused(str(missing), ExitCode.CREDENTIALS) from None
    for warning in found.warnings:
        print(f"mmdaemon: warning: {warning}", file=sys.stderr)
    return found.credentials


def where_it_is(settings: Settings) -> str:
    """Where the key comes from, for whoever must mend it."""
    names = file_names(settings.venue.exchange)
    folder = os.environ.get(FOLDER, "")
    return f"it is in {', '.join(str(Path(folder) / name) for name in names)}" if folder else "it is the environment's"


class Admitted(NamedTuple):
    """What a mode trades with: no key where it needs none, and a stage where it stands on a receipt."""

    credentials: Credentials | None
    stage: Stage | None


def admitted(settings: Settings, state_dir: Path, *, preflight: bool = False) -> Admitted:
    """What the mode trades with. Nothing has been opened before, and but for the question to an emulator on loopback
    nothing is by this. `preflight`: it is what makes the receipt, and needs none.

    Raises:
        Refused: 77 without a key; 78 without a receipt, or at an emulator of another environment; 75 where it does not
            answer.
    """
    mode, venue = settings.run.mode, settings.venue
    if mode not in REAL_MODES:
        return Admitted(None, None)
    credentials = credentials_of(settings)
    environment = ENVIRONMENTS[mode]
    stage: Stage | None = None
    if mode == "live" and not preflight:
        try:
            stage = receipt.check(
                state_dir / receipt.NAME,
                version=__version__,
                config_hash=settings.config_hash,
                mode=mode,
                account=account_of(settings, credentials),
                secret=credentials.api_secret,
                rows=preflights.read(StateDir(state_dir, None).journal_path),
                now=datetime.now(UTC),
            ).stage
        except (receipt.ReceiptRefused, JournalUnreadable) as refused:
            raise Refused(
                f"--live needs a passed preflight of this very configuration, account and version: {refused}. "
                "`mmdaemon preflight` makes one (docs/PREFLIGHT.md)",
                ExitCode.CONFIG,
            ) from None
    if venue.emulator:
        served = _served_by(venue.emulator)
        if served != environment:
            raise Refused(
                f"the emulator at {venue.emulator} serves {served!r}, and --{mode} trades {environment!r}: begin it "
                f"with --environment {environment}. While venue.emulator is set no exchange is spoken to",
                ExitCode.CONFIG,
            )
        print(
            f"mmdaemon: --{mode} at the emulator {venue.emulator} ({served}): a rehearsal, no exchange is spoken to",
            file=sys.stderr,
        )
    return Admitted(credentials, stage)


def account_of(settings: Settings, credentials: Credentials) -> str:
    """The fingerprint of account and key, as a receipt has it."""
    venue, environment = settings.venue, ENVIRONMENTS[settings.run.mode]
    return fingerprint(credentials, venue.exchange, venue.account, environment, emulated=bool(venue.emulator))


def sized(settings: Settings, stage: Stage | None) -> Settings:
    """The settings as they may be traded at this stage: at "reduced" no order and no position is worth more than the
    receipt's caps. Their hash is another one, as that of any other size."""
    if stage != "reduced":
        return settings
    order = min(settings.limits.max_order_quote, receipt.REDUCED_ORDER_QUOTE)
    position = min(settings.quotes.max_position_quote, receipt.REDUCED_POSITION_QUOTE)
    return settings.model_copy(
        update={
            "limits": settings.limits.model_copy(update={"max_order_quote": order}),
            "quotes": settings.quotes.model_copy(update={"max_position_quote": position}),
        }
    )


def _served_by(url: str) -> str:
    """The environment of the emulator at a literal address of the loopback. Raises Refused (75)."""
    try:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_ASK_S)
        try:
            connection.request("GET", "/emulator/status")
            said = msgspec.json.decode(connection.getresponse().read(1 << 16), type=dict[str, object])
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(
            f"no emulator answers at {url} ({type(error).__name__}): begin one, `mmdaemon emulator`", ExitCode.RETRY
        ) from None
    return str(said.get("environment", "nothing"))
