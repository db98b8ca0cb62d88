"""Figures of a run, exact or unknown; the addends of its PnL; and whether they agree with one another."""

from mmdaemon.core.types import NS, Liquidity
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.rows import money_text
from mmdaemon.research.report.money import Attributed, Money, sides
from mmdaemon.research.report.quoting import GuardSpan, Quoted, healthy_ns
from mmdaemon.research.report.records import UNKNOWN, Check, Figure, Part
from mmdaemon.research.report.words import Units, count, lasting, share, unknown

MADE_UP = "the source has none"
"""How the simulated venue says that it made something up."""
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
            of_run = _without_transfers(money.attributed) - _without_transfers(money.before)
        figures["pnl_of_run"] = units.money(
            "PnL of this run alone", of_run, "between the last minutes of this run and of the one before"
        )
    mark = money.mark_px_ticks
    figures["mark"] = unknown("Last mark")
    if mark is not None:
        price = units.price(mark)
        figures["mark"] = Figure(label="Last mark", shown=f"{price} {units.quote}", value=price, unit=units.quote)
    return figures


def _without_transfers(parts: Attributed) -> int:
    return parts.total_e10 - parts.transfers_e10


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
        total = f"addends at the last minute come to {units.signed(_without_transfers(money.attributed))}"
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


def trading_figures(
    journal: JournalReader, run: RunRow, money: Money, made: Quoted, units: Units, placed: tuple[int, int]
) -> dict[str, Figure]:
    orders, filled = placed
    buys, sells = sides(money.fills)
    (amends,) = journal.db.execute(
        "SELECT count(*) FROM intents WHERE epoch = ? AND revision > 0", (run.epoch,)
    ).fetchone()
    (cancels,) = journal.db.execute("SELECT count(*) FROM cancels WHERE epoch = ?", (run.epoch,)).fetchone()
    taker = sum(fill.liquidity is Liquidity.TAKER for fill in money.fills)
    volume_e10 = sum(fill.notional_e10 for fill in money.fills)
    lots = [money.opening_lots, *money.position_lots]
    worst = max(lots, key=abs)
    return {
        "fills_buy": count("Buys", buys),
        "fills_sell": count("Sells", sells),
        "fills_taker": count("Fills as taker", taker),
        "fill_ratio": share("Fill ratio", filled, orders, "orders of which something was filled, of orders placed"),
        "volume": units.amount("Volume", volume_e10),
        "largest_position": units.sized(
            "Largest position", abs(worst), "long" if worst > 0 else "short" if worst else ""
        ),
        "position_cap": _cap(made, units),
        "position_end": units.sized("Position at the end", lots[-1]),
        "orders": count("Orders placed", orders),
        "amends": count("Amends", amends),
        "cancels": count("Cancels", cancels),
    }


def _cap(made: Quoted, units: Units) -> Figure:
    caps = [lots for lots in made.most_lots if lots]
    label, note = "Largest allowed", "the least and the most that decisions allowed"
    if not caps:
        return unknown(label, note)
    least, most = units.size(min(caps)), units.size(max(caps))
    shown = f"{least} {units.base}" if least == most else f"{least} to {most} {units.base}"
    return Figure(label=label, shown=shown, value=most, unit=units.base, note=note)


def time_figures(run: RunRow, spans: list[GuardSpan], made: Quoted, last_mono_ns: int) -> dict[str, Figure]:
    healthy, running = healthy_ns(spans)
    whole = last_mono_ns - run.started_mono_ns
    figures = {
        "running_share": share("RUNNING", running, healthy, "of the time with a healthy book"),
        "both_sides": share("Both sides quoted", made.both_ns, whole, "of all time, as decided"),
        "one_side": share("One side quoted", made.one_ns, whole, "of all time, as decided"),
        "stops": count("Stretches without a quote", len(made.bare)),
        "no_side": share("Nothing quoted", made.none_ns, whole, "of all time, as decided"),
    }
    by_state: dict[str, int] = {}
    for span in spans:
        by_state[span.state.value] = by_state.get(span.state.value, 0) + span.lasted_ns
    for state, ns in by_state.items():
        seconds = f"{ns / NS:.1f}"
        figures[f"time_{state}"] = Figure(label=state.replace("_", " "), shown=lasting(ns), value=seconds, unit="s")
    return figures


def record_figures(journal: JournalReader, run: RunRow, last_mono_ns: int) -> dict[str, Figure]:
    (decisions,) = journal.db.execute("SELECT count(*) FROM decisions WHERE epoch = ?", (run.epoch,)).fetchone()
    digest = journal.db.execute("SELECT digest, events FROM digests WHERE epoch = ?", (run.epoch,)).fetchone()
    whole = last_mono_ns - run.started_mono_ns
    a_day = round(decisions * 86_400 * NS / whole) if whole > 0 else None
    hexed = None if digest is None else str(digest[0].hex())
    return {
        "events": count(
            "Events", None if digest is None else digest[1], note="" if digest else "known at the end of a run"
        ),
        "decisions": count("Decisions journaled", decisions, note="those that changed"),
        "decisions_a_day": count("Decisions a day", a_day, note="at this rate"),
        "digest": Figure(label="Digest", shown=hexed or UNKNOWN, value=hexed, note="of the whole run, for repeats"),
    }
