"""A journal -> a Report: what run it was and what it assumed, its figures, and whether they agree with one another."""

import sqlite3
from pathlib import Path

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import money_text
from mmdaemon.research.guard_time import guard_spans, last_moment
from mmdaemon.research.money import instrument_of, money_of
from mmdaemon.research.report import drawn, figures, tables, worth
from mmdaemon.research.report.answers import (
    Answers,
    answers,
    curve,
    fill_delays,
    fill_ratio,
    latencies,
)
from mmdaemon.research.report.quoting import Quoted, quoted
from mmdaemon.research.report.records import UNKNOWN, Drawn, Lines, Report, Run, Said
from mmdaemon.research.report.words import Units, lasting, utc
from mmdaemon.research.summary import RunSummary, summary_of

_SIMULATED = frozenset({"simulated", "paper"})
"""Modes in which fills are made up."""


def read_report(path: Path, epoch: int | None = None) -> Report:
    """Read one run (the last by default). Takes one state of the journal throughout, and only reads.

    Raises:
        JournalUnreadable: no such journal or run, a run that never knew its instrument, or a damaged file.
    """
    try:
        with JournalReader(path) as journal:
            journal.db.execute("BEGIN")
            run = journal.run(epoch)
            if run is None:
                raise JournalUnreadable(f"journal {path} has no run {'at all' if epoch is None else epoch}")
            return _report(journal, path, run)
    except sqlite3.Error as error:
        raise JournalUnreadable(f"journal {path} cannot be read: {error}") from error
    except msgspec.ValidationError as error:  # it can be read, and says other things than this version writes
        raise JournalUnreadable(
            f"journal {path} has rows that this version of mmdaemon did not write: another one did (and can), "
            f"or they were edited, which `mmdaemon replay --verify` tells ({error})"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalUnreadable(f"journal {path} has rows that mmdaemon did not write: {error}") from error


def _report(journal: JournalReader, path: Path, run: RunRow) -> Report:
    instrument = instrument_of(journal, path, run)
    units = Units(instrument)
    last_mono_ns, last_ts_ns = last_moment(journal, run)
    money = money_of(journal, run, instrument.unit_e10)
    spans = guard_spans(run, journal.transitions(run.epoch), last_mono_ns, last_ts_ns)
    made = quoted(journal, run, spans, last_mono_ns, last_ts_ns)
    start_ts_ns = run.started_ts_ns
    ratio, width_s = fill_ratio(journal, run.epoch, start_ts_ns, last_ts_ns)
    answered = answers(journal, run.epoch)
    delays = fill_delays(money.fills)
    valued = worth.worth_of(journal, money.fills, instrument)
    after = {trade_id: f"{each.markout_bps:+.2f} bps" for (trade_id, after_s), each in valued.items() if after_s == 5}
    plotted = Drawn(
        price=drawn.price(made, units, start_ts_ns),
        minutes=drawn.minutes(money, units, start_ts_ns),
        fills=tables.fill_marks(money.fills, after, units, start_ts_ns),
        position=drawn.position(money, units, run, last_ts_ns),
        limits=drawn.limits(made, units, start_ts_ns),
        pnl=drawn.pnl(money, start_ts_ns),
        buy_edge=drawn.edges(made, 0, start_ts_ns),
        sell_edge=drawn.edges(made, 1, start_ts_ns),
        leans=drawn.leans(made, start_ts_ns),
        guard=drawn.guard(spans, start_ts_ns),
        regime=drawn.regime(made, start_ts_ns, last_ts_ns),
        fill_ratio=ratio,
        latency=curve(answered, delays),
        markouts=worth.curve(money.fills, valued),
    )
    summary = summary_of(journal, run, instrument, money, spans)
    headline = figures.money_figures(money, run, units) | figures.trading_figures(summary, money, made, units)
    headline |= figures.time_figures(summary, made) | figures.record_figures(summary)
    return Report(
        run=_run(run, units, last_mono_ns, last_ts_ns),
        assumptions=_assumptions(run, units, made, summary),
        figures=headline,
        attribution=figures.attribution(money, units, summary.is_funding_made_up),
        checks=figures.checks(money, units),
        notes=[*_pruned(journal, run), *_notes(run, plotted, made, width_s, answered)],
        stops=tables.stop_lines(made.bare, start_ts_ns),
        latencies=latencies(answered, delays, len(money.fills)),
        markouts=worth.markouts(money.fills, valued),
        fills_listed=tables.fills_listed(money.fills),
        fills=tables.fill_lines(money.fills, after, units),
        actions=tables.action_lines(journal, run.epoch),
        kills=tables.kill_lines(journal, run.epoch),
        breaks=tables.break_lines(journal, start_ts_ns, last_ts_ns),
        reconciliations=tables.reconciliation_lines(journal, run.epoch),
        drawn=plotted,
    )


# --- what run it was --------------------------------------------------------------------------------------------------


def _run(run: RunRow, units: Units, last_mono_ns: int, last_ts_ns: int) -> Run:
    ended = run.ended_ts_ns is not None
    return Run(
        epoch=str(run.epoch),
        account_epoch=str(run.account_epoch),
        symbol=units.instrument.symbol,
        venue=units.instrument.venue,
        quote=units.quote,
        base=units.base,
        mode=run.mode,
        version=run.version,
        started=utc(run.started_ts_ns),
        ended=utc(last_ts_ns) if ended else f"not ended; last journaled {utc(last_ts_ns)}",
        end_reason=(run.end_reason or "") if ended else "still running, or cut off",
        duration=lasting(last_mono_ns - run.started_mono_ns),
        started_ts_ns=run.started_ts_ns,
        last_ts_ns=last_ts_ns,
        simulated=run.mode in _SIMULATED,
    )


def _assumptions(run: RunRow, units: Units, made: Quoted, summary: RunSummary) -> list[Said]:
    instrument = units.instrument
    fees = UNKNOWN
    if made.maker_bps is not None and made.taker_bps is not None:
        fees = f"maker {made.maker_bps:g} bps, taker {made.taker_bps:g} bps, as of the last decision"
    said: list[Said] = []
    if run.mode in _SIMULATED:
        said.append(
            Said(
                "simulated",
                "Fills are an assumption, not trades: nobody met these orders. No evidence of profit.",
            )
        )
    if run.ended_ts_ns is None:
        said.append(
            Said(
                "not ended",
                "It still runs or was cut off. Figures are as far as journaled, counts of the market older.",
            )
        )
    elif summary.no_result:
        said.append(Said("no result", summary.no_result))
    said += [Said(name, text) for name, text in summary.provenance.items()]
    return [
        *said,
        Said("fees", fees),
        Said(
            "instrument",
            f"{instrument.symbol} at {instrument.venue}: tick {units.price(1)} {units.quote}, lot {units.size(1)}, "
            f"least {units.size(instrument.min_qty_lots)} and {money_text(instrument.min_notional_e10)} {units.quote}",
        ),
        Said("mode", run.mode),
        Said("journal durability", run.durability),
        Said("version", run.version),
        Said("configuration", run.config_hash),
        Said("before this run", _before(run)),
    ]


def _before(run: RunRow) -> str:
    if run.epoch == 1:
        return "none: it is the first of this journal"
    return f"run {run.epoch - 1} " + ("stopped cleanly" if run.after_clean else "did not stop cleanly")


# --- what a reader must know ------------------------------------------------------------------------------------------


def _pruned(journal: JournalReader, run: RunRow) -> list[Said]:
    gone = journal.pruning("decisions", run.epoch)
    if gone is None:
        return []
    text = (
        f"Decisions, the venue's words and amends up to {utc(gone.through_ts_ns)} left the journal when they were old "
        f"({gone.rows:,} decisions). Money, fills and the guard's time are whole; what was quoted, requests and "
        f"latencies are of the rest. The backup {gone.copy}, or one of before, has them."
    )
    return [Said("pruned", text)]


def _notes(run: RunRow, plotted: Drawn, made: Quoted, width_s: int, answered: Answers) -> list[Said]:
    said: list[Said] = []
    if run.ended_ts_ns is None:
        said.append(
            Said(
                "no end",
                "This run has no end in the journal: it still runs, or it was cut off. Figures are as far as written.",
            )
        )
    if run.account_epoch != run.epoch:
        said.append(
            Said(
                "account",
                f"Money is counted since the account was first met, in run {run.account_epoch}, earlier runs included.",
            )
        )
    tables_of: dict[str, Lines] = {
        "prices": plotted.price,
        "minutes": plotted.minutes,
        "position": plotted.position,
        "PnL": plotted.pnl,
        "edge of buys": plotted.buy_edge,
        "edge of sells": plotted.sell_edge,
    }
    thinned = [
        f"{name} {table.kept:,} of {table.rows:,} rows" for name, table in tables_of.items() if table.kept < table.rows
    ]
    if len(plotted.fills.t_ms) < plotted.fills.rows:
        thinned.append(
            f"fills {len(plotted.fills.t_ms):,} of {plotted.fills.rows:,} (the dearest and cheapest of each side)"
        )
    if thinned:
        said.append(
            Said(
                "downsampled",
                f"Drawn are {'; '.join(thinned)}. Of each stretch of time the least and the greatest are kept, so no "
                "extreme is lost. Figures and totals are of all rows.",
            )
        )
    if plotted.guard or plotted.regime:
        said.append(
            Said(
                "ribbons",
                "Where several states share a place, heights are shares of the time; a stop has at least a quarter.",
            )
        )
    return [
        *said,
        Said(
            "prices",
            "Fair value and quotes are those of journaled decisions: while quotes stand, fair value stays within "
            "the requote tolerance between two of them; while none stands it is not followed, and its line is broken, "
            "as it is over a minute without a decision. Marks are once a minute.",
        ),
        Said(
            "markouts",
            "As the daemon journaled them: fair value at each moment, from the last healthy book before it. Intervals "
            "are 95 %, by block bootstrap over time; unknown where the fills lie in fewer than eight blocks.",
        ),
        Said(
            "latency",
            "From the event that a command followed from, to the venue's first word that covers it. How long a "
            "fill took to reach the disk is not in the journal.",
        ),
        Said("fill ratio", f"Drawn per {lasting(width_s * NS)}, an order counting when it was placed."),
    ]
