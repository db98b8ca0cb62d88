"""What a run came to, from its journal alone: the row of a results table, and what `run` and `demo` end with.

Healthy time is time with a healthy book: all of the run but the spans in which the guard's reasons named the book,
or the recording was over. A share of RUNNING is of healthy time, so that a feed's gap is not held against the
daemon, and a daemon that stands paused for a reason of its own is.
"""

from pathlib import Path

import msgspec

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import GuardState, Liquidity, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import pnl_identity

BROKE_OFF = "broke off"
"""How the end of a run begins in the journal that a broken part ended, and not its market or its duration."""
INTERRUPTED = "interrupted"
"""The same, of a run in virtual time that a signal ended."""
_UNHEALTHY = frozenset({Reason.BOOK.value, Reason.SOURCE_ENDED.value})


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run. Money in 1e-10 quote, sizes in lots, time in ns; `None` is "cannot be known"."""

    epoch: int
    config_hash: str
    durability: str
    provenance: dict[str, str]
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
    spread_e10: int
    impact_e10: int
    inventory_e10: int
    fees_e10: int
    """Paid; negative is received."""
    funding_e10: int
    transfers_e10: int
    pnl_e10: int | None
    digest: str
    """Empty where the run did not end."""

    @property
    def running_share(self) -> float:
        """Share of healthy time in RUNNING; 0 where there was none."""
        return self.running_ns / self.healthy_ns if self.healthy_ns else 0.0

    @property
    def fill_ratio(self) -> float:
        """Orders with a fill among orders sent; 0 where none was sent."""
        return self.orders_filled / self.orders if self.orders else 0.0


def summarise(path: Path, epoch: int | None = None) -> RunSummary:
    """Read one run (the last by default).

    Raises:
        JournalUnreadable: no such journal or run.
    """
    with JournalReader(path) as journal:
        run = journal.run(epoch)
        if run is None:
            raise JournalUnreadable(f"journal {path} has no run {'at all' if epoch is None else epoch}")
        db, at = journal.db, run.epoch
        count = db.execute("SELECT count(*) FROM decisions WHERE epoch = ?", (at,)).fetchone()[0]
        orders, amends = db.execute(
            "SELECT count(*) FILTER (WHERE revision = 0), count(*) FILTER (WHERE revision > 0) FROM intents "
            "WHERE epoch = ?",
            (at,),
        ).fetchone()
        (cancels,) = db.execute("SELECT count(*) FROM cancels WHERE epoch = ?", (at,)).fetchone()
        (filled,) = db.execute("SELECT count(*) FROM orders WHERE epoch = ? AND filled_lots > 0", (at,)).fetchone()
        fills = list(journal.fills(at))
        position = furthest = 0
        for fill in fills:
            position += fill.side * fill.qty_lots
            furthest = max(furthest, abs(position))
        last = None
        for minute in journal.minutes(at):
            last = minute
        end_ns = run.ended_mono_ns or (last.mono_ns if last else run.started_mono_ns)
        healthy_ns, running_ns = _healthy(journal, at, run.started_mono_ns, end_ns)
        digest = db.execute("SELECT digest, events FROM digests WHERE epoch = ?", (at,)).fetchone()
        guard_ns = {state.value: ns for state, ns in journal.guard_ns(at, end_ns).items()}
        provenance = msgspec.json.decode(run.provenance, type=dict[str, str])
    identity = pnl_identity(path, last.mark_px_ticks if last else None, run.account_epoch)
    return RunSummary(
        epoch=at,
        config_hash=run.config_hash,
        durability=run.durability,
        provenance=provenance,
        events=digest[1] if digest else None,
        decisions=count,
        orders=orders,
        amends=amends,
        cancels=cancels,
        fills_buy=sum(f.side is Side.BUY for f in fills),
        fills_sell=sum(f.side is Side.SELL for f in fills),
        taker_fills=sum(f.liquidity is Liquidity.TAKER for f in fills),
        orders_filled=filled,
        max_position_lots=furthest,
        duration_ns=end_ns - run.started_mono_ns,
        guard_ns=guard_ns,
        healthy_ns=healthy_ns,
        running_ns=running_ns,
        spread_e10=last.spread_e10 if last else 0,
        impact_e10=last.impact_e10 if last else 0,
        inventory_e10=last.inventory_e10 if last else 0,
        fees_e10=last.fees_e10 if last else 0,
        funding_e10=last.funding_e10 if last else 0,
        transfers_e10=last.transfers_e10 if last else 0,
        pnl_e10=identity.pnl_e10,
        digest=digest[0].hex() if digest else "",
    )


def _healthy(journal: JournalReader, epoch: int, started_ns: int, end_ns: int) -> tuple[int, int]:
    """(time with a healthy book, time RUNNING). Before the first book came there was nothing to be healthy."""
    healthy = running = 0
    state, reasons, since_ns = GuardState.STARTING, frozenset({Reason.BOOK.value}), started_ns
    spans: list[tuple[GuardState, frozenset[str], int]] = []
    for move in journal.transitions(epoch):
        spans.append((state, reasons, move.mono_ns - since_ns))
        state, reasons, since_ns = move.to_state, frozenset(move.reasons.split()), move.mono_ns
    spans.append((state, reasons, end_ns - since_ns))
    for at, why, ns in spans:
        if at is GuardState.STOPPING or why & _UNHEALTHY:
            continue
        healthy += ns
        if at is GuardState.RUNNING:
            running += ns
    return healthy, running
