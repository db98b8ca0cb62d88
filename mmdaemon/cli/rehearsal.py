"""What `mmdaemon emulator` says: where it is, how a daemon trades there, what there was, and what can go wrong."""

import shlex
import sys
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from rich.console import Group
from rich.table import Table

from mmdaemon.cli.console import Console
from mmdaemon.core.types import Liquidity
from mmdaemon.journal.rows import money_text
from mmdaemon.settings.credentials import FOLDER, VARIABLES
from mmdaemon.settings.model import default_of
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.emulator.wrong import FAULTS, Hook, Seconds, Wrong

FLAGS: Final[Mapping[str, str]] = {"demo": "--testnet", "live": "--live"}
_HOOKS: Final[Mapping[Hook, str]] = {
    Hook.REQUEST: "REST, before the venue works on it",
    Hook.ANSWER: "REST, after it did what was asked",
    Hook.FRAME: "WebSocket, what is sent",
    Hook.ASK: "WebSocket, what is asked",
    Hook.SOCKET: "Sockets",
    Hook.ACCOUNT: "The account, by somebody else's hand",
}
_SECONDS: Final[Mapping[Seconds, str]] = {
    Seconds.LATE: "seconds (how late), count",
    Seconds.EITHER: "count, or seconds (how long)",
    Seconds.LASTS: "seconds (how long)",
    Seconds.ONCE: "count",
}


class Summary(msgspec.Struct, frozen=True):
    """What there was, when it ended. Money is exact decimal text in quote currency."""

    requests: int
    orders: int
    fills: int
    maker_fills: int
    position_lots: int
    balance: str
    fees: str
    funding: str
    transfers: str
    connections: int
    faults: dict[str, int]
    """How many requests, frames and sockets each kind was done to."""
    refused: list[str]
    """Steps of the script that could not be done."""
    defects: list[str]
    """What the emulator itself did wrong."""
    event: Literal["summary"] = "summary"


def commands(emulated: EmulatorConfig, url: str, key_dir: Path | None) -> list[str]:
    """What to type for a daemon to trade there: the key, then the run."""
    if key_dir is not None:
        key = f"export {FOLDER}={shlex.quote(str(key_dir.resolve()))}"
    else:
        texts = zip(VARIABLES, (emulated.api_key, emulated.secret, emulated.passphrase), strict=True)
        key = "export " + " ".join(f"{name}={text}" for name, text in texts)
    chosen: dict[str, object] = {
        "venue.emulator": url,
        "venue.account": emulated.account,
        "venue.symbol": emulated.symbol,
        "venue.leverage": emulated.leverage,
        "venue.in_flight_max_s": float(max(1, ceil(emulated.window_s))),
    }
    said = [f"--set {path}={value}" for path, value in chosen.items() if value != default_of(path)]
    return [key, " ".join(["mmdaemon run", FLAGS[emulated.environment], *said])]


def announce(venue: Emulator, key_dir: Path | None, *, json: bool) -> None:
    """The first line of stdout says that it listens, and where; parsable either way."""
    emulated = venue.config
    ready: dict[str, object] = {
        "url": venue.url,
        "port": venue.port,
        "account": emulated.account,
        "environment": emulated.environment,
        "symbol": emulated.symbol,
    }
    typed = commands(emulated, venue.url, key_dir)
    if json:
        _say_json({"event": "ready", **ready, "commands": typed})
        return
    print("ready " + " ".join(f"{name}={value}" for name, value in ready.items()), flush=True)
    print("\nIn another terminal, to trade here:")
    for command in typed:
        print(f"  {command}")
    if emulated.environment == "live":
        print("  # --live wants the key in files (--key-dir), a configuration that says so, and a passed preflight")
    print("\nTo make something go wrong (`mmdaemon emulator --list-faults` shows what):")
    print(f"  {_curl(venue.url)}\n\nCtrl-C ends it.", flush=True)


def _curl(url: str) -> str:
    body = '{"kind": "rate_limit", "seconds": 5}'
    return f"curl -H 'Content-Type: application/json' -d '{body}' {url}/emulator/faults"


def summary_of(venue: Emulator, refused: list[str], broken: list[str]) -> Summary:
    truth = venue.account.truth()
    wallet = truth.wallet
    return Summary(
        requests=len(truth.received),
        orders=len(truth.orders),
        fills=len(truth.fills),
        maker_fills=sum(fill.liquidity is Liquidity.MAKER for fill in truth.fills),
        position_lots=truth.position_lots,
        balance=money_text(wallet.balance_e10),
        fees=format(wallet.fees.normalize(), "f"),
        funding=format(wallet.funding.normalize(), "f"),
        transfers=format(wallet.transfers.normalize(), "f"),
        connections=len(venue.connections),
        faults=dict(venue.faults.seen),
        refused=refused,
        defects=[*(repr(defect) for defect in venue.defects), *broken],
    )


def show(summary: Summary, *, json: bool) -> None:
    if json:
        _say_json(msgspec.to_builtins(summary))
        return
    taking = summary.fills - summary.maker_fills
    print(
        f"{summary.orders:,} orders of {summary.requests:,} requests that change something, "
        f"{summary.fills:,} fills ({taking:,} taking), {summary.connections:,} connections"
    )
    print(
        f"balance {summary.balance}, position {summary.position_lots:,} lots; fees {summary.fees}, "
        f"funding {summary.funding}, transfers {summary.transfers}"
    )
    for kind, count in sorted(summary.faults.items()):
        print(f"  {kind:<24}{count:>8,}  {FAULTS[Wrong(kind)].what}")
    for line in (*summary.refused, *summary.defects):
        print(f"  {line}", file=sys.stderr)
    sys.stdout.flush()


def show_faults(*, json: bool) -> None:
    """The table of faults: on a terminal with its columns wrapped, into a pipe one line each, parted by tabs."""
    names = ("kind", "hook", "seconds", "what", "must")
    rows = [(kind.value, row.hook.value, row.seconds.value, row.what, row.must) for kind, row in FAULTS.items()]
    console = Console(highlight=False)
    if json:
        for row in rows:
            _say_json(dict(zip(names, row, strict=True)))
    elif not console.is_terminal:
        for row in rows:
            print("\t".join(row))
    else:
        console.print(Group(*(_table(hook) for hook in Hook)))


def _table(hook: Hook) -> Table:
    table = Table(title=_HOOKS[hook], title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("kind", "takes", "what happens", "what an honest client does"):
        table.add_column(name)
    for kind, row in FAULTS.items():
        if row.hook is hook:
            table.add_row(kind.value, _SECONDS[row.seconds], row.what, row.must)
    return table


def _say_json(said: Any) -> None:
    print(msgspec.json.encode(said).decode(), flush=True)
