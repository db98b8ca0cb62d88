"""`mmdaemon`: the table of verbs, and the one place where a failure becomes an exit code.

A verb's module is imported when it is called and not before, so that `mmdaemon --help` and `mmdaemon kill` start fast.
"""

import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from traceback import print_exception
from types import FrameType
from typing import Final, NamedTuple

from cyclopts import App, CycloptsError

from mmdaemon import __version__
from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.outlet import Outlet, outlets


class Verb(NamedTuple):
    """`target` is "module:function"; `summary`, its line in `mmdaemon --help`, is here so that help imports nothing."""

    target: str
    summary: str


VERBS: Final[dict[str, Verb]] = {
    "demo": Verb(
        "mmdaemon.cli.demo:demo", "Everything once, in virtual time on the simulated venue, ending in proofs."
    ),
    "run": Verb(
        "mmdaemon.cli.run:run", "Make a market: in real time until stopped, or over a recording at full speed."
    ),
    "init": Verb("mmdaemon.cli.init:init", "Write a commented configuration to edit."),
    "tape": Verb("mmdaemon.cli.tape:app", "What a recording holds and what is wrong with it; convert one."),
    "calibrate": Verb(
        "mmdaemon.cli.calibrate:calibrate", "What a recording says of the strategy's numbers; suggest a preset from it."
    ),
    "compare": Verb(
        "mmdaemon.cli.compare:compare", "What each part of the strategy is worth, beside the rules of others, on tapes."
    ),
    "report": Verb("mmdaemon.cli.report:report", "One HTML file of a run, with plots; its figures as JSON beside it."),
    "export": Verb("mmdaemon.cli.export:export", "Write the journal as CSV or Parquet files, exact to the last digit."),
    "backup": Verb("mmdaemon.cli.backup:backup", "Copy the journal of a running daemon, and prove the copy."),
    "restore": Verb("mmdaemon.cli.backup:restore", "Put a verified copy in the place of a stopped daemon's journal."),
    "venue": Verb(
        "mmdaemon.cli.venue:venue", "The simulated venue as a process of its own, for daemons that come and go."
    ),
    "emulator": Verb(
        "mmdaemon.cli.emulator:emulator", "Bitget's own protocol on loopback, faults included, to rehearse at."
    ),
    "preflight": Verb(
        "mmdaemon.cli.preflight:preflight", "The go-live checklist, measured at the venue: fourteen lines, a receipt."
    ),
    "status": Verb("mmdaemon.cli.status:status", "What the daemon is doing, and first of all why it is not quoting."),
    "pause": Verb("mmdaemon.cli.operate:pause", "Take the quotes out until `resume`."),
    "resume": Verb("mmdaemon.cli.operate:resume", "End a pause or a finished kill, with a reason."),
    "kill": Verb("mmdaemon.cli.operate:kill", "Cancel everything, prove it by reading the venue, and stay stopped."),
    "flatten": Verb("mmdaemon.cli.operate:flatten", "Pause, then close the position by reduce-only slices."),
    "reconcile": Verb(
        "mmdaemon.cli.reconcile:reconcile", "Compare venue and books now; accept what only a person may (--repair)."
    ),
    "signal": Verb("mmdaemon.cli.signal:signal", "Say something of the market to a running daemon, for a while."),
    "check-config": Verb(
        "mmdaemon.cli.check_config:check_config",
        "Check a configuration and show every error at once, or what it amounts to.",
    ),
    "notify": Verb("mmdaemon.cli.notify:notify", "Whom the daemon tells of the worst: look, or send a test (--test)."),
    "explain": Verb(
        "mmdaemon.cli.explain:explain",
        "Why an order was there: the decision behind it, addend by addend, and its life.",
    ),
    "simulate": Verb(
        "mmdaemon.cli.simulate:simulate", "Whole daemons under seeded faults and crashes, and what must hold of them."
    ),
    "replay": Verb(
        "mmdaemon.cli.replay:replay",
        "Recompute every journaled decision and the PnL identity, and compare (--verify).",
    ),
}

SHOWING: Final = frozenset({"status", "explain", "check-config", "tape info", "emulator --list-faults"})
"""Verbs that do nothing but show: they end when nobody reads any more, and have failed where it cannot be written."""

HELP: Final = (
    "A market-making daemon. Without a flag nothing trades: the venue is simulated.\n\n"
    "Exit codes: 64 usage, 70 a bug, 75 try again, 77 credentials, 78 configuration; 130 and 143 stopped by Ctrl-C and "
    "SIGTERM before it was done, 141 nobody reads what it shows. Below 64 each verb has its own."
)


def build() -> App:
    """The command line with all verbs, none of them imported yet."""
    app = App(
        name="mmdaemon",
        help=HELP,
        version=__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # `main` says what stopped it
    )
    for name, verb in VERBS.items():
        app.command(verb.target, name=name, help=verb.summary)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb that `arguments` (else the command line) names, and return its exit code."""
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    showing = not SHOWING.isdisjoint({*tokens[:1], " ".join(tokens[:2])})
    with outlets() as out:
        if out is not None:
            out.ends_unread = showing
        code = _run(tokens, out)
        if out is not None and out.lost is not None and not isinstance(out.lost, BrokenPipeError):
            why = out.lost.strerror or str(out.lost)
            print(f"mmdaemon: not all that it said could be written to stdout: {why}", file=sys.stderr)
            code = code or (ExitCode.RETRY if showing else ExitCode.OK)
    return code


def _run(tokens: list[str], out: Outlet | None) -> int:
    """The verb's code, or that of what ended it. What the verb said is written by then."""
    app = build()
    try:
        with _terminable():
            code: object = app(tokens, exit_on_error=False, result_action="return_value")
            sys.stdout.flush()
    except CycloptsError:
        return ExitCode.USAGE  # cyclopts has said what was wrong
    except BrokenPipeError as error:
        if out is not None and out.lost is None:  # not stdout's: a socket's, which nobody expected
            return exit_code(error)
        return 128 + signal.SIGPIPE  # the reader went away (`| head`)
    except KeyboardInterrupt as stopped:
        number = next((each for each in stopped.args if isinstance(each, signal.Signals)), signal.SIGINT)
        print(f"mmdaemon: stopped by {number.name} before it was done", file=sys.stderr)
        return 128 + number
    except Exception as error:  # noqa: BLE001 - the supervisor boundary of the command line
        return exit_code(error)
    return code if isinstance(code, int) else ExitCode.OK


@contextmanager
def _terminable() -> Generator[None]:
    """SIGTERM is a KeyboardInterrupt, so that what cleans up after Ctrl-C does after both. The daemon in real time has
    a handler of its own."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def exit_code(error: Exception) -> int:
    """Say on stderr what happened and what to do; the code that belongs to it."""
    from mmdaemon.settings import ConfigError
    from mmdaemon.venues.base import VenueUnavailable

    match error:
        case Refused():
            print(f"mmdaemon: {error}", file=sys.stderr)
            return error.code
        case ConfigError():
            from mmdaemon.cli.check_config import print_problems

            print_problems(error)
            return ExitCode.CONFIG
        case VenueUnavailable():
            print(f"mmdaemon: the venue does not answer: {error}; try again", file=sys.stderr)
            return ExitCode.RETRY
        case _:
            print_exception(error)
            print("mmdaemon: this is a bug; please report it with the lines above", file=sys.stderr)
            return ExitCode.BUG


if __name__ == "__main__":
    sys.exit(main())
