"""Figures of a run, exact or unknown; the addends of its PnL; and whether they agree with one another."""

from mmdaemon.core.types import NS
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.rows import money_text
from mmdaemon.research.money import Money
from mmdaemon.research.report.quoting import Quoted
from mmdaemon.research.report.records import UNKNOWN, Check, Figure, Part
from mmdaemon.research.report.words import Units, count, lasting, share, unknown
from mmdaemon.research.summary import RunSummary

_ADDENDS = {
    "spread": ("spread captured", "distance of our price from the mark, at the fill"),
    "impact": ("impact within 5 s", "how fair value moved in the 5 s after our fills"),
    "inventory": ("inventory", "the mark's moves on what was held, less the impact"),
    "fees": ("fees", "as the venue charged them"),
    "funding": ("funding", "as the venue's ledger has it"),
}


def money_figures(money: Money, run: RunRow, units: Units) -> dict[str, Figure]:
    since = "" if run.account_epoch == run.epoch else f"since the account was first met, in run {run.account_epoch}"
    equity_e10 = None
    if money.start_e10 is not None and money.pnl_e10 is not None:
        equity_e10 = money.start_e10 + money.pnl_e10 + money.transfers_e10
    figures = {
        "pnl": units.money("PnL", money.pnl_e10, since),
        "equity_start": units.amount("Equity at the start", money.start_e10, since),
        "equity_end": units.amount("Equity at the end", equity_e10),
    }
    if money.transfers_e10:
        figures["transfers"] = units.money("Transfers", money.transfers_e10, "in equity, not in PnL")
    if run.account_epoch != run.epoch:
        of_run = None
        if money.attributed is not None and money.before is not None:
            of_run = money.attributed.pnl_e10 - money.before.pnl_e10
        figures["pnl_of_run"] = units.money(
            "PnL of this run alone", of_run, "between the last minutes of this run and of the one before"
        )
    mark = money.mark_px_ticks
    figures["mark"] = unknown("Last mark")
    if mark is not None:
        price = units.price(mark)
        figures["mark"] = Figure(label="Last mark", shown=f"{price} {units.quote}", value=price, unit=units.quote)
    return figures


def attribution(money: Money, units: Units, funding_made_up: bool) -> list[Part]:
    parts = money.attributed
    amounts = {name: None if parts is None else int(getattr(parts, f"{name}_e10")) for name in _ADDENDS}
    labels = dict(_ADDENDS)
    if money.later_e10:
        amounts["later"] = money.later_e10
        labels["later"] = ("after the last minute", "what was filled or billed since the last minute's sample")
    largest = max((abs(amount) for amount in amounts.values() if amount is not None), default=0)
    table: list[Part] = []
    for name, amount in amounts.items():
        label, meaning = labels[name]
        if name == "funding" and funding_made_up:
            meaning = "not modelled: the source has none"
        table.append(
            Part(
                name=name,
                label=label,
                shown=units.signed(amount),
                value=None if amount is None else money_text(amount),
                meaning=meaning,
                share=amount / largest if amount is not None and largest else 0.0,
            )
        )
    return table


def checks(money: Money, units: Units) -> list[Check]:
    checked = money.checkable
    none = "no minute with a known mark and equity"
    foots, total = None, UNKNOWN
    if money.attributed is not None and money.later_e10 is not None:
        # Unless something was booked after the last minute, nothing may be left over.
        foots = money.booked_later or not money.later_e10
        total = f"addends at the last minute come to {units.signed(money.attributed.pnl_e10)}"
        total += f", what was booked later to {units.signed(money.later_e10)}" if money.booked_later else ""
        total += f", PnL is {units.signed(money.pnl_e10)}"
    rows = [
        (
            "PnL identity",
            money.agreeing == checked if checked else None,
            f"equity is start + cash flows + position at the mark, to the last digit, at {money.agreeing:,} of "
            f"{checked:,} minutes"
            if checked
            else none,
        ),
        (
            "attribution, each minute",
            money.footing == checked if checked else None,
            f"addends come to equity less start, to the last digit, at {money.footing:,} of {checked:,} minutes"
            if checked
            else none,
        ),
        (
            "attribution, in total",
            foots,
            total,
        ),
    ]
    verdicts = {True: "holds", False: "DOES NOT HOLD", None: "not checked"}
    return [Check(name, ok, verdicts[ok], text) for name, ok, text in rows]


def trading_figures(summary: RunSummary, money: Money, made: Quoted, units: Units) -> dict[str, Figure]:
    volume_e10 = sum(fill.notional_e10 for fill in money.fills)
    lots, worst = [money.opening_lots, *money.position_lots], money.worst_lots
    return {
        "fills_buy": count("Buys", summary.fills_buy),
        "fills_sell": count("Sells", summary.fills_sell),
        "fills_taker": count("Fills as taker", summary.taker_fills),
        "fill_ratio": share(
            "Fill ratio",
            summary.orders_filled,
            summary.orders,
            "orders of which something was filled, of orders placed",
        ),
        "volume": units.amount("Volume", volume_e10),
        "largest_position": units.sized(
            "Largest position", summary.max_position_lots, "long" if worst > 0 else "short" if worst else ""
        ),
        "position_cap": _cap(made, units),
        "position_end": units.sized("Position at the end", lots[-1]),
        "orders": count("Orders placed", summary.orders),
        "amends": count("Amends", summary.amends),
        "cancels": count("Cancels", summary.cancels),
    }


def _cap(made: Quoted, units: Units) -> Figure:
    caps = [lots for lots in made.most_lots if lots]
    label, note = "Largest allowed", "the least and the most that decisions allowed"
    if not caps:
        return unknown(label, note)
    least, most = units.size(min(caps)), units.size(max(caps))
    shown = f"{least} {units.base}" if least == most else f"{least} to {most} {units.base}"
    return Figure(label=label, shown=shown, value=most, unit=units.base, note=note)


def time_figures(summary: RunSummary, made: Quoted) -> dict[str, Figure]:
    whole = summary.duration_ns
    figures = {
        "running_share": share("RUNNING", summary.running_ns, summary.healthy_ns, "of the time with a healthy book"),
        "both_sides": share("Both sides quoted", made.both_ns, whole, "of all time, as decided"),
        "one_side": share("One side quoted", made.one_ns, whole, "of all time, as decided"),
        "stops": count("Stretches without a quote", len(made.bare)),
        "no_side": share("Nothing quoted", made.none_ns, whole, "of all time, as decided"),
        **_signal(made),
    }
    for state, ns in summary.guard_ns.items():
        seconds = f"{ns / NS:.1f}"
        figures[f"time_{state}"] = Figure(label=state.replace("_", " "), shown=lasting(ns), value=seconds, unit="s")
    return figures


def _signal(made: Quoted) -> dict[str, Figure]:
    """How much the short-horizon signal moved what was quoted, over the time that it stood."""
    stood_ns = made.both_ns + made.one_ns
    if not stood_ns or not made.half_bps_ns:
        return {"signal": unknown("Signal, mean size"), "signal_share": unknown("Signal's share")}
    size_bps = made.signal_bps_ns / stood_ns
    percent = f"{100 * made.signal_bps_ns / made.half_bps_ns:.1f}"
    shown = f"{size_bps:.3f}"
    return {
        "signal": Figure(
            label="Signal, mean size", shown=f"{shown} bps", value=shown, unit="bps", note="while quoting"
        ),
        "signal_share": Figure(
            label="Signal's share", shown=f"{percent} %", value=percent, unit="%", note="its size, of the half-spread's"
        ),
    }


def record_figures(summary: RunSummary) -> dict[str, Figure]:
    whole = summary.duration_ns
    a_day = round(summary.decisions * 86_400 * NS / whole) if whole > 0 else None
    known_at_end = "" if summary.digest else "known at the end of a run"
    return {
        "events": count("Events", summary.events, note=known_at_end),
        "decisions": count("Decisions journaled", summary.decisions, note="those that changed"),
        "decisions_a_day": count("Decisions a day", a_day, note="at this rate"),
        "digest": Figure(
            label="Digest",
            shown=summary.digest or UNKNOWN,
            value=summary.digest or None,
            note="of the whole run, for repeats",
        ),
    }
