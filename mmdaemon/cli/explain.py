"""`mmdaemon explain`: why an order was there, why a side was not, what became of it. From the journal alone."""

import re
import sqlite3
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.console import Console
from mmdaemon.cli.explained import show
from mmdaemon.cli.explanation import DecisionStory, Explanation, story_of
from mmdaemon.cli.order_life import brief_of, intent_in_force, life_of, pruned, resting_at
from mmdaemon.cli.shown import utc
from mmdaemon.core.params import Params
from mmdaemon.core.types import Purpose
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow, Intent, Run
from mmdaemon.journal.recovery import JournalUnreadable

NOT_FOUND = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z?")


class _NotFoundError(Exception):
    """The message says what was looked for, and what can be."""


def explain(
    what: str | None = None,
    *,
    last_fill: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the decision behind an order, a fill or a moment, addend by addend, and the order's life.

    Exits with 0, or with 1 where there is no such order, fill, moment or journal. Only reads, also beside a running
    daemon.

    Parameters
    ----------
    what
        A client id, a trade id of a fill, or a time in UTC: 2026-01-01T07:12:03, or 07:12:03 of the last run.
    last_fill
        Explain the last fill.
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    json
        One JSON object instead of tables.
    """
    if last_fill == (what is not None):
        raise Refused("say what to explain: an order, a fill or a time, or else --last-fill", ExitCode.USAGE)
    path = locate_dir(state_dir).journal_path
    try:
        with JournalReader(path) as journal:
            journal.db.execute("BEGIN")  # one state of the journal for all that is read here
            found = _explained(journal, what)
    except (_NotFoundError, JournalUnreadable) as error:
        print(f"mmdaemon explain: {error}", file=sys.stderr)
        return NOT_FOUND
    except msgspec.ValidationError as error:  # it can be read, and says other things than this version writes
        print(
            f"mmdaemon explain: another version of mmdaemon decided that, and it alone can explain it ({error}); if "
            "a row was edited, `mmdaemon replay --verify` tells",
            file=sys.stderr,
        )
        return NOT_FOUND
    except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
        print(f"mmdaemon explain: {path} cannot be believed: {error}; see `mmdaemon replay --verify`", file=sys.stderr)
        return NOT_FOUND
    if json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return ExitCode.OK
    show(found, Console(highlight=False))
    return ExitCode.OK


# --- finding it -------------------------------------------------------------------------------------------------------


def _explained(journal: JournalReader, what: str | None) -> Explanation:
    if what is None:
        fill = journal.last_fill()
        if fill is None:
            raise _NotFoundError("there is no fill in this journal yet")
        return _of_order(journal, fill.client_id, fill)
    if journal.order(what) is not None:
        return _of_order(journal, what, None)
    if (fill := journal.fill(what)) is not None:
        return _of_order(journal, fill.client_id, fill)
    return _of_moment(journal, what)


def _params(journal: JournalReader, epoch: int) -> Params:
    blob = journal.params(epoch)
    if blob is None:
        raise ValueError(f"run {epoch} has no parameters")
    return msgspec.msgpack.decode(blob, type=Params)


def _of_order(journal: JournalReader, client_id: str, fill: FillRow | None) -> Explanation:
    history = journal.order(client_id)
    if history is None:
        assert fill is not None
        raise _NotFoundError(f"fill {fill.trade_id} names no order of ours ({client_id or fill.exec_kind.value})")
    intent = intent_in_force(history, fill)
    epoch = history.order.epoch if intent is None else intent.epoch
    params = _params(journal, epoch)
    subject = f"order {client_id}" if fill is None else f"fill {fill.trade_id} of order {client_id}"
    decision, no_decision, rung = _behind(journal, intent, history.order.purpose, params)
    return Explanation(
        subject=subject,
        run=epoch,
        symbol=params.instrument.symbol,
        quote=params.instrument.quote,
        decision=decision,
        no_decision=no_decision,
        rung=rung,
        order=life_of(journal, history, params),
    )


def _behind(
    journal: JournalReader, intent: Intent | None, purpose: Purpose, params: Params
) -> tuple[DecisionStory | None, str, int | None]:
    if intent is None:
        return None, "the order was adopted: no decision in this journal made it", None
    if purpose is Purpose.FLATTEN:
        return None, "flatten: the kill switch closes the position through its own lane", None
    row = journal.decision_at(intent.epoch, intent.seq)
    if row is None:
        return None, pruned(journal, intent.epoch) or "its decision is no longer in the journal", None
    story = story_of(journal, row, params)
    side = "buy" if journal_side(journal, intent) > 0 else "sell"
    rungs = [(i, rung) for i, rung in enumerate(story.rungs) if rung.side == side]
    at_price = [i for i, rung in rungs if rung.px_ticks == intent.px_ticks]
    nearest = sorted(rungs, key=lambda each: abs(each[1].px_ticks - intent.px_ticks))
    return story, "", (at_price or [i for i, _ in nearest] or [None])[0]


def journal_side(journal: JournalReader, intent: Intent) -> int:
    """An amend does not repeat its side."""
    (side,) = journal.db.execute("SELECT side FROM orders WHERE client_id = ?", (intent.client_id,)).fetchone()
    return side


def _of_moment(journal: JournalReader, text: str) -> Explanation:
    run, ts_ns = _moment(journal, text)
    params = _params(journal, run.epoch)
    (seq,) = journal.db.execute(
        "SELECT max(seq) FROM decisions WHERE epoch = ? AND ts_ns <= ?", (run.epoch, ts_ns)
    ).fetchone()
    row = None if seq is None else journal.decision_at(run.epoch, seq)
    return Explanation(
        subject=f"{utc(ts_ns)} UTC",
        run=run.epoch,
        symbol=params.instrument.symbol,
        quote=params.instrument.quote,
        decision=None if row is None else story_of(journal, row, params),
        no_decision="" if row else pruned(journal, run.epoch, ts_ns) or "nothing was decided yet at that time",
        resting=tuple(brief_of(order, params) for order in resting_at(journal, run.epoch, ts_ns)),
    )


def _moment(journal: JournalReader, text: str) -> tuple[Run, int]:
    """The run and the moment that a text names.

    Raises _NotFoundError: it is no time, or no run was on then.
    """
    runs = journal.runs()
    if not runs:
        raise _NotFoundError("there is no run in this journal yet")
    text = text.strip()
    try:
        if _TIME_OF_DAY.fullmatch(text):
            of_day = time.fromisoformat(text if text[1] != ":" else f"0{text}").replace(tzinfo=None)
            return runs[-1], _in_run(journal, runs[-1], of_day)
        named = datetime.fromisoformat(text)
    except ValueError:
        raise _NotFoundError(
            f"no order, fill or time {text!r}. An order is a client id (mm...-1-42), a fill its trade id, a time is "
            "UTC: 2026-01-01T07:12:03, or 07:12:03 of the last run. --last-fill needs none of them"
        ) from None
    ts_ns = _ns(named if named.tzinfo else named.replace(tzinfo=UTC))
    for run in reversed(runs):
        if run.started_ts_ns <= ts_ns <= _end(journal, run):
            return run, ts_ns
    spans = "; ".join(f"run {run.epoch} {utc(run.started_ts_ns)} to {utc(_end(journal, run))}" for run in runs[-3:])
    raise _NotFoundError(f"no run was on at {utc(ts_ns)} UTC. The last: {spans}")


def _in_run(journal: JournalReader, run: Run, of_day: time) -> int:
    """The last moment of a run with that time of day."""
    end_ns = _end(journal, run)
    last_day = (_EPOCH + timedelta(microseconds=end_ns // 1_000)).date()
    for back in range(2):
        ts_ns = _ns(datetime.combine(last_day - timedelta(days=back), of_day, UTC))
        if run.started_ts_ns <= ts_ns <= end_ns:
            return ts_ns
    raise _NotFoundError(f"run {run.epoch} was on from {utc(run.started_ts_ns)} to {utc(end_ns)} UTC, not at {of_day}")


def _end(journal: JournalReader, run: Run) -> int:
    """When a run ended, or the last that it wrote."""
    if run.ended_ts_ns is not None:
        return run.ended_ts_ns
    (last,) = journal.db.execute(
        "SELECT max(coalesce((SELECT max(ts_ns) FROM minutes WHERE epoch = ?), 0), "
        "coalesce((SELECT ts_ns FROM decisions WHERE epoch = ? ORDER BY seq DESC LIMIT 1), 0), ?)",
        (run.epoch, run.epoch, run.started_ts_ns),
    ).fetchone()
    return last


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
