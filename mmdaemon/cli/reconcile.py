"""`mmdaemon reconcile`: venue and books compared now, by the running daemon, and what only a person may mend."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.operate import REASON_MAX_CHARS
from mmdaemon.cli.status import plain
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import NoDaemon, call

NO_DAEMON: Final = 1
NOT_KNOWN: Final = 3
"""Venue and books could not be compared. Never taken for a clean round."""


def reconcile(
    *,
    repair: Annotated[bool, Parameter(negative=())] = False,
    reason: str = "",
    cancel: Annotated[Sequence[str], Parameter(negative=())] = (),
    state_dir: Path | None = None,
) -> int:
    """Have the daemon read the venue now: orders, fills, ledger, position and equity against its books.

    Prints what was compared and each open break with its owner. Exits with 0 where all agrees and nothing is open, 1
    where no daemon answers, 2 while breaks are open, 3 where the venue could not be read.

    Parameters
    ----------
    repair
        Do what the daemon may not do by itself: accept the trades of the account that no order of ours made (as shown
        by an earlier `reconcile`), and cancel the orders that --cancel names. Needs --reason.
    reason
        Why, for the journal.
    cancel
        The id of an order of others to cancel, as shown; may be given several times.
    state_dir
        The daemon's state directory.
    """
    named = [client_id for each in cancel for client_id in each.split()]
    if repair and not reason.strip():
        raise Refused('--repair needs a reason: `mmdaemon reconcile --repair --reason "..."`', ExitCode.USAGE)
    if named and not repair:
        raise Refused("--cancel goes with --repair --reason ...: it changes what is at the venue", ExitCode.USAGE)
    args: dict[str, str | bool] = {"repair": repair}
    if repair:
        args |= {"reason": plain(reason.strip())[:REASON_MAX_CHARS], "cancel": " ".join(named)}
    console = Console(highlight=False, soft_wrap=True)
    try:
        answer = asyncio.run(call(locate_dir(state_dir).socket_path, "reconcile", args))
    except NoDaemon as error:
        print(f"mmdaemon: {plain(str(error))}; start one (`mmdaemon run`), or name its --state-dir", file=sys.stderr)
        return NO_DAEMON
    except ControlError as error:
        print(f"mmdaemon: reconcile: {plain(str(error))}; nothing is known of the venue", file=sys.stderr)
        return NOT_KNOWN
    for line in answer.lines:
        console.print(Text(plain(line), style="" if answer.ok or not line.startswith("break ") else "red"))
    # A daemon that was too busy, or that is stopping, has compared nothing.
    return NOT_KNOWN if answer.exit_code == NO_DAEMON else answer.exit_code
