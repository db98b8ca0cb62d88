"""`mmdaemon pause`, `resume`, `kill`, `flatten`: what an operator may do to a running daemon, over its control socket.

Each prints before and after. Exit codes: 0 done, 1 no daemon (or none that answers), 2 not done: orders remain, or the
daemon refused and says why.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.status import ask, plain
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status

NO_DAEMON: Final = 1
REASON_MAX_CHARS: Final = 500
LOOK_S: Final = 1.0
"""Longest that progress is held back for the line "before"."""


def pause(*, reason: str = "", state_dir: Path | None = None) -> int:
    """Take the quotes out and keep them out until `resume`. Reading goes on; the position stays as it is.

    Parameters
    ----------
    reason
        Why, for the journal.
    state_dir
        The daemon's state directory.
    """
    return operate(locate_dir(state_dir), "pause", {"reason": _said(reason)})


def resume(*, reason: str, state_dir: Path | None = None) -> int:
    """End a pause, or a kill that has finished, after a clean reconcile with the venue.

    Parameters
    ----------
    reason
        Why it is safe to go on, for the journal. Must not be empty.
    state_dir
        The daemon's state directory.
    """
    if not reason.strip():
        raise Refused(
            '--reason is empty: say why it is safe to go on, `mmdaemon resume --reason "..."`', ExitCode.USAGE
        )
    return operate(locate_dir(state_dir), "resume", {"reason": _said(reason)})


def flatten(*, reason: str = "", state_dir: Path | None = None) -> int:
    """Pause, then close the position by reduce-only slices within the price collar.

    Parameters
    ----------
    reason
        Why, for the journal.
    state_dir
        The daemon's state directory.
    """
    return operate(locate_dir(state_dir), "flatten", {"reason": _said(reason)})


def kill(
    *,
    flatten: Annotated[bool, Parameter(negative=())] = False,
    wait: Annotated[bool, Parameter(negative=())] = False,
    direct: Annotated[bool, Parameter(negative=())] = False,
    if_dirty: Annotated[bool, Parameter(negative=())] = False,
    venue: Path | None = None,
    config: Path | None = None,
    for_: Annotated[float | None, Parameter(name="--for")] = None,
    reason: str = "",
    state_dir: Path | None = None,
) -> int:
    """Cancel everything, prove it by reading the venue, and stay stopped until `resume`.

    Exits with 0 once nothing rests at the venue, 1 where no daemon answers (with --direct: the venue), 2 while orders
    remain.

    Parameters
    ----------
    flatten
        Close the position too, by reduce-only slices within the price collar.
    wait
        Return only once nothing can land any more, not as soon as nothing rests.
    direct
        Ask no daemon: this process goes to the venue itself. For a daemon that hangs or is gone.
    if_dirty
        With --direct, for `ExecStopPost`: do nothing after a clean stop, or while a daemon answers, starts or stops.
        Once its process is gone no latch stays behind, so that a restart recovers by itself.
    venue
        With --direct: socket of the venue process; by default where the last daemon of the state directory traded.
    config
        With --direct: the daemon's TOML file, for `venue.remote` and `venue.in_flight_max_s`.
    for_
        With --direct: give up after so many seconds (60 unless set); 0 goes on without end.
    reason
        Why, for the journal.
    state_dir
        The daemon's state directory.
    """
    if direct:
        if flatten:
            raise Refused("--direct closes no position: it cancels and reads. Leave --flatten out", ExitCode.USAGE)
        from mmdaemon.cli.direct import GIVE_UP_S, kill_direct

        runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        return kill_direct(
            StateDir(locate_dir(state_dir).path, Path(runtime) if runtime else None),
            venue=venue,
            config=config,
            if_dirty=if_dirty,
            wait=wait,
            reason=_said(reason),
            for_s=GIVE_UP_S if for_ is None else for_,
        )
    if if_dirty or venue or config or for_ is not None:
        raise Refused("--if-dirty, --venue, --config and --for belong to --direct; add it", ExitCode.USAGE)
    return operate(locate_dir(state_dir), "kill", {"flatten": flatten, "wait": wait, "reason": _said(reason)})


def _said(reason: str) -> str:
    """As it fits into a request: no reason, however long or odd, may keep a kill from going out."""
    return plain(reason.strip())[:REASON_MAX_CHARS]


def operate(directory: StateDir, verb: str, args: Mapping[str, str | bool]) -> int:
    """Ask the daemon of a state directory, and say how things stood before and after. Returns the exit code."""
    try:
        return asyncio.run(_before_and_after(directory.socket_path, verb, args))
    except NoDaemon as error:
        _complain(f"{error}; nothing was asked of it")
        if verb != "kill":
            _complain("start one (`mmdaemon run`), or name its --state-dir")
    except ControlError as error:
        _complain(f"{verb}: {error}")
        _complain("whether it was done is not known; look with `mmdaemon status`, and at the venue")
    if verb == "kill":
        _latch_on_disk(directory, str(args["reason"]))
    return NO_DAEMON


async def _before_and_after(path: Path, verb: str, args: Mapping[str, str | bool]) -> int:
    """The verb, between two lines that say how things stood.

    Both questions go out at once, the look first: a daemon that takes them in turn shows how things stood before, and
    nothing, not even a look, holds up a kill. Only what is printed waits for the look, and not for long.
    """
    console = Console(highlight=False, soft_wrap=True)
    held: list[str] | None = []
    """Until the look is over, and said: it is done a moment before."""

    def say(line: str, style: str = "") -> None:
        console.print(Text(plain(line), style=style))

    def say_progress(line: str) -> None:
        if held is None:
            say(f"  {line}")
        else:
            held.append(line)

    def say_before(look: asyncio.Task[Status | ControlError]) -> None:
        nonlocal held
        if not look.cancelled() and isinstance(seen := look.result(), Status):
            say(f"before: {_standing(seen)}")
        for line in held or ():
            say(f"  {line}")
        held = None

    look = asyncio.create_task(ask(path))
    look.add_done_callback(say_before)
    await asyncio.sleep(0)  # let it connect
    asyncio.get_running_loop().call_later(LOOK_S, look.cancel)
    try:
        answer = await call(path, verb, args, say_progress)
    except ControlError:
        look.cancel()
        raise
    await asyncio.wait({look})
    await asyncio.sleep(0)  # and it was said
    for line in answer.lines:
        say(f"  {line}", "green" if answer.ok else "red")
    say(f"after:  {_standing(answer.status or await ask(path))}")
    return answer.exit_code


def _standing(seen: Status | ControlError) -> str:
    if isinstance(seen, ControlError):
        return f"unknown ({seen})"
    orders = f"{seen.open_orders} open orders"
    if seen.unknown_orders:
        orders += f" ({seen.unknown_orders} of unknown fate)"
    return f"guard {seen.guard}, kill switch {seen.kill}, position {seen.position}, {orders}"


def _latch_on_disk(directory: StateDir, reason: str) -> None:
    """The kill's second lane: a daemon that starts, or is restarted by systemd, in this directory stays stopped."""
    if not directory.path.is_dir():
        _complain(f"there is no state directory {directory.path}; name the daemon's with --state-dir")
        return
    at = datetime.now(UTC).isoformat(timespec="seconds")
    failures = directory.write_latch(f"{at} mmdaemon kill: {reason or 'operator'}; no daemon answered")
    for failure in failures:
        _complain(f"the kill latch could not be written: {failure}")
    if not failures:
        _complain(f"latched: whatever starts in {directory.path} stays stopped until `mmdaemon resume --reason ...`")
    _complain(
        "orders may still rest at the venue: `mmdaemon kill --direct` cancels and reads them without a daemon, whether "
        "its process hangs or is gone; so does `mmdaemon run` on this directory once it is gone. Or cancel at the venue"
    )


def _complain(line: str) -> None:
    print(f"mmdaemon: {plain(line)}", file=sys.stderr)
