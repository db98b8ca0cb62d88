"""The fourteen items: what each measures, and what to do where it did not pass. Their order is `receipt.ITEMS`."""

from collections.abc import Mapping
from typing import Final

import msgspec

from mmdaemon.ops.receipt import Outcome

Figures = dict[str, float | str | bool]


class Item(msgspec.Struct, frozen=True):
    """`at_live`: measured with real money too, at the least size; the others are taken over from demo trading.
    `soak_s`: how long it takes, for those that need hours; 0 is measured at once."""

    title: str
    remedy: str
    at_live: bool = False
    soak_s: int = 0


PAPER_S: Final = 3_600
SOAK_S: Final = 48 * 3_600

ITEMS: Final[Mapping[str, Item]] = {
    "fees": Item(
        "fees resolve from the venue and match what is charged",
        "compare the account's fee tier and the coin fees are paid in at the venue with what the line says",
        at_live=True,
    ),
    "instrument": Item(
        "tick, lot and minimum are the venue's; an order is taken, moved and cancelled",
        "look at venue.symbol, and at the contract's page of the venue; then run it again",
        at_live=True,
    ),
    "kill_switch": Item(
        "the kill switch empties the account: dry, then with the position",
        "look at the venue's open orders and position now; do not trade before this passes",
    ),
    "strangers": Item(
        "an orphan is taken out, a foreign order is told and left alone",
        "cancel by hand what is named; look whether another program uses this account",
    ),
    "reconciliation": Item(
        "an injected break is found, stops the quotes, and is mended",
        "do not trade: a position that is not the venue's would not be seen",
    ),
    "feeds": Item(
        "a forced reconnect and a stale feed are seen, and pause",
        "look at the network between here and the venue; then run it again",
    ),
    "order_life": Item(
        "a lost acknowledgement is UNKNOWN, and resolved; no duplicates; caps and collar hold",
        "look at the named orders at the venue; do not trade before this passes",
    ),
    "budgets": Item(
        "nothing was too many for the venue; breaches of the cancel budget escalate",
        "lower limits.messages_per_minute and limits.cancels_per_minute, or quote more slowly",
    ),
    "guards": Item(
        "daily loss, drawdown, leverage and margin stop it, by synthetic breach",
        "do not trade: a limit of this configuration does not stop what it is there to stop",
        at_live=True,
    ),
    "pnl": Item(
        "the books are the venue's statement, to the fill, and survive a restart",
        "compare the fills that the line names with the venue's; do not trade before this passes",
    ),
    "paper": Item(
        "an hour of paper beside demo trading: fills, spread and regimes alike",
        "`mmdaemon preflight soak --testnet` with the same --config, --set and --state-dir; interrupted, it is resumed",
        soak_s=PAPER_S,
    ),
    "crash": Item(
        "SIGKILL with live orders, and the next start recovers",
        "look at the venue's open orders now; do not trade before this passes",
    ),
    "soak": Item(
        "48 hours: no gap in the minutes, flat memory, funding settled",
        "`mmdaemon preflight soak --testnet` with the same --config, --set and --state-dir; interrupted, it is resumed",
        soak_s=SOAK_S,
    ),
    "account": Item(
        "the key trades, cannot withdraw and is bound to addresses; modes, leverage and clock are right",
        "change at the venue what the line names; for the clock look at the machine's time service",
        at_live=True,
    ),
}


class Finding(msgspec.Struct, frozen=True):
    """What an item measured. `wrong` is why it did not pass, a line each; `evidence` what was looked at."""

    figures: Figures
    evidence: str
    wrong: tuple[str, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """One line. `said` is the evidence, or why it did not pass."""

    item: str
    outcome: Outcome
    figures: Figures
    said: str


class NotChecked(Exception):
    """It could not be measured, for a reason that is not the item's; says which."""


def holds(**expected: tuple[bool, str]) -> tuple[str, ...]:
    """The words of those that do not hold."""
    return tuple(why for is_right, why in expected.values() if not is_right)
