"""What a run came to, from its journal alone: the row of a results table, what `run` and `demo` end with, and the
headline figures of a report.
"""

from pathlib import Path

import msgspec

from mmdaemon.core.types import Instrument, Liquidity
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.research.guard_time import GuardSpan, by_state, guard_spans, healthy_ns, last_moment
from mmdaemon.research.money import Attributed, Money, instrument_of, money_of, sides

BROKE_OFF = "broke off"
"""How the end of a run begins in the journal that a broken part ended, and not its market or its duration."""
INTERRUPTED = "interrupted"
"""The same, of a run that a signal ended and that was to end by itself: in virtual time, or on a recording."""
_FIRST = ("market", "fill assumption", "feed latency", "impact of our orders", "funding", "mark", "dropped")
"""What was assumed and matters most, in this order; the rest follows."""
_MADE_UP = "the source has none"
"""How the simulated venue says that it made something up."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run. Money in 1e-10 quote, sizes in lots, time in ns; `None` is "cannot be known"."""

    epoch: int
    instrument: Instrument
    no_result: str = ""
    """Why its figures are no result of what was to be run; empty where they are."""
    config_hash: str
    durability: str
    provenance: dict[str, str]
    """What was assumed, what matters most first."""
    events: int | None
    decisions: int
    orders: int
    amends: int
    cancels: int
    fills_buy: int
    fills_sell: int
    taker_fills: int
    orders_filled: int
    """Orders with at least one fill."""
    max_position_lots: int
    duration_ns: int
    guard_ns: dict[str, int]
    healthy_ns: int
    running_ns: int
    attributed: Attributed | None
    """Addends of the PnL as of the last minute; None without one."""
    later_e10: int | None
    """PnL of what was booked since."""
    pnl_e10: int | None
    """Of the account, up to the end of the run."""
    digest: str
    """Empty where the run did not end."""

    @property
    def is_funding_made_up(self) -> bool:
        return _MADE_UP in self.provenance.get("funding", "")

    @property
    def running_share(self) -> float:
        """Share of healthy time in RUNNING; 0 where there was none."""
        return self.running_ns / self.healthy_ns if self.healthy_ns else 0.0

    @property
    def fill_ratio(self) -> float:
        """Orders with a fill among orders sent; 0 where none was sent."""
        return self.orders_filled / self.orders if self.orders else 0.0


def no_result(end_reason: str) -> str:
    """What to say of a run that ended so; empty where it came to its end."""
    if not end_reason.startswith((BROKE_OFF, INTERRUPTED)):
        return ""
    was = "was " if end_reason.startswith(INTERRUPTED) else ""
    return f"The run {was}{end_reason}. Figures are of the part before."


def summarise(path: Path, epoch: int | None = None) -> RunSummary:
    """Read one run (the last by default), in one state of the journal.

    Raises:
        JournalUnreadable: no such journal or run, or one that never knew its instrument.
    """
    with JournalReader(path) as journal:
        journal.db.execute("BEGIN")
        run = journal.run(epoch)
        if run is None:
            raise JournalUnreadable(f"journal {path} has no run {'at all' if epoch is None else epoch}")
        instrument = instrument_of(journal, path, run)
        last_mono_ns, last_ts_ns = last_moment(journal, run)
        spans = guard_spans(run, journal.transitions(run.epoch), last_mono_ns, last_ts_ns)
        money = money_of(journal, run, instrument.unit_e10)
        return summary_of(journal, run, instrument, money, spans)


def summary_of(
    journal: JournalReader, run: RunRow, instrument: Instrument, money: Money, spans: list[GuardSpan]
) -> RunSummary:
    """The same, of what was read already."""
    db, at = journal.db, (run.epoch,)
    (decisions,) = db.execute("SELECT count(*) FROM decisions WHERE epoch = ?", at).fetchone()
    orders, filled = db.execute(
        "SELECT count(*), coalesce(sum(o.filled_lots > 0), 0) FROM intents i LEFT JOIN orders o USING (client_id) "
        "WHERE i.epoch = ? AND i.revision = 0",
        at,
    ).fetchone()
    (amends,) = db.execute("SELECT count(*) FROM intents WHERE epoch = ? AND revision > 0", at).fetchone()
    (cancels,) = db.execute("SELECT count(*) FROM cancels WHERE epoch = ?", at).fetchone()
    digest = db.execute("SELECT digest, events FROM digests WHERE epoch = ?", at).fetchone()
    buys, sells = sides(money.fills)
    healthy, running = healthy_ns(spans, money.minutes[-1] if money.minutes else None)
    told = msgspec.json.decode(run.provenance, type=dict[str, str])
    return RunSummary(
        epoch=run.epoch,
        instrument=instrument,
        no_result=no_result(run.end_reason or ""),
        config_hash=run.config_hash,
        durability=run.durability,
        provenance={name: told[name] for name in (*_FIRST, *told) if name in told},
        events=digest[1] if digest else None,
        decisions=decisions,
        orders=orders,
        amends=amends,
        cancels=cancels,
        fills_buy=buys,
        fills_sell=sells,
        taker_fills=sum(fill.liquidity is Liquidity.TAKER for fill in money.fills),
        orders_filled=filled,
        max_position_lots=abs(money.worst_lots),
        duration_ns=sum(span.lasted_ns for span in spans),
        guard_ns=by_state(spans),
        healthy_ns=healthy,
        running_ns=running,
        attributed=money.attributed,
        later_e10=money.later_e10,
        pnl_e10=money.pnl_e10,
        digest=digest[0].hex() if digest else "",
    )
