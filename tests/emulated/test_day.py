"""The turn of a day and settlements of funding, on the wire: the machine's clock, shifted for daemon and venue alike.

Funding is a line of the ledger, which is read over REST: it must be booked once, whatever the streams do meanwhile.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mmdaemon.core import position
from mmdaemon.core.events import Bill, BillKind
from mmdaemon.core.types import NS
from mmdaemon.daemon import assertions
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import BillRow
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import KINDS, Kind, Site, site
from tests.emulated.shifted import ShiftedClock

BEFORE_S = 27
"""From the start to the settlement. The market's first fills come some ten seconds after its start."""
GONE_S = 8.0
DAY_NS = 86_400 * NS


@asynccontextmanager
async def trading_before(path: Path, kind: Kind, due: datetime) -> AsyncGenerator[tuple[Site, int]]:
    """A daemon that holds a position shortly before `due`; that moment in ns."""
    due_ns = round(due.timestamp()) * NS
    async with site(path, kind, clock=ShiftedClock(due_ns - BEFORE_S * NS)) as here:
        await begin(here)
        await here.until_trading(fills=3)
        await here.until(lambda: here.emulator.account.exchange.wallet.position_lots)
        assert here.clock.wall_ns() < due_ns - 4 * NS, "no position in time: the machine is too slow for this test"
        yield here, due_ns


async def begin(here: Site) -> None:
    await here.begin(derisk__day_end_position_fraction=1.0, venue__reconcile_ledger_s=10.0)


def bills_there(here: Site) -> list[Bill]:
    return here.emulator.account.exchange.truth().bills


def journaled_bills(here: Site) -> list[BillRow]:
    with JournalReader(here.state_dir.journal_path) as reader:
        return [bill for run in reader.runs() for bill in reader.bills(run.epoch)]


def is_equal(here: Site) -> bool:
    """Fills, position and money of our books are the venue's own, to the last digit."""
    ours, wallet = here.daemon.state.position, here.emulator.account.exchange.wallet
    mark = here.daemon.state.venue.mark_px_ticks
    return (
        here.is_equal()
        and len(ours.bill_ids) == len(bills_there(here))
        and position.equity_basis_e10(ours, mark) == wallet.balance_e10 + wallet.unrealised_e10(mark)
    )


async def ended(here: Site, due_ns: int) -> BillRow:
    """Stop it, and hold the journal against the venue's record. The one settlement's row."""
    await here.until(lambda: is_equal(here))
    assert await here.stop() == 0
    assert here.resting() == []
    there, (booked,) = bills_there(here), journaled_bills(here)
    assert [(bill.bill_id, bill.kind, bill.amount_e10) for bill in there] == [
        (booked.bill_id, BillKind.FUNDING, booked.amount_e10)
    ]
    assert booked.venue_ts_ns == due_ns
    ours = {row.trade_id: (row.side, row.px_ticks, row.qty_lots, row.fee_e10) for row in here.journaled()}
    assert len(ours) == len(here.journaled())
    assert ours == {
        fill.trade_id: (fill.side, fill.px_ticks, fill.qty_lots, fill.fee_e10) for fill in here.venue_fills()
    }
    return booked


@pytest.mark.parametrize("kind", KINDS)
async def test_midnight_turns_the_day_and_settles_funding_once(tmp_path: Path, kind: Kind) -> None:
    async with trading_before(tmp_path, kind, datetime(2026, 11, 24, tzinfo=UTC)) as (here, due_ns):
        today = due_ns // DAY_NS
        rate, mark = 0.0, 0

        def is_over() -> bool:
            """What the daemon knew of rate and mark last before is what it is held to."""
            nonlocal rate, mark
            if here.clock.wall_ns() >= due_ns:
                return True
            told = here.daemon.state.venue.funding
            assert told is not None
            assert told.next_ts_ns == due_ns
            rate, mark = told.rate, here.daemon.state.venue.mark_px_ticks
            return False

        assert here.daemon.state.risk.day == today - 1
        await here.until(is_over, BEFORE_S + 5)
        await here.until(lambda: here.daemon.state.risk.day == today)
        await here.until(lambda: len(here.daemon.state.position.bill_ids) == 1 and is_equal(here))
        opened = assertions.opening(here.daemon.state)
        fills = len(here.venue_fills())
        assert (told := here.daemon.state.venue.funding) is not None
        assert told.next_ts_ns == due_ns + 8 * 3_600 * NS
        # The day's budgets begin anew while quoting goes on.
        await here.until_trading(fills=fills + 2)
        held, risk = here.daemon.state.position, here.daemon.state.risk
        assert 0 < held.turnover_e10 - risk.day_turnover_start_e10 < held.turnover_e10
        assert assertions.opening(here.daemon.state) == opened
        booked = await ended(here, due_ns)

        lots = sum(fill.side * fill.qty_lots for fill in here.venue_fills() if (fill.venue_ts_ns or 0) < due_ns)
        expected_e10 = -rate * lots * mark * here.daemon.params.instrument.unit_e10
        assert booked.amount_e10 == pytest.approx(expected_e10, rel=1e-3)  # and so of its sign: longs pay

        await begin(here)  # a restart opens no day again, and books nothing again
        await here.until(lambda: here.is_quoting() and is_equal(here))
        assert assertions.opening(here.daemon.state) == opened
        assert await here.stop() == 0
        assert [(bill.bill_id, bill.seq) for bill in journaled_bills(here)] == [(booked.bill_id, booked.seq)]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [(Wrong.LOGIN_REFUSED, "classic"), (Wrong.CONNECTION_REFUSED, "unified")],
)
async def test_a_settlement_while_nobody_can_tell_of_it_is_booked_once(
    tmp_path: Path, wrong: Wrong, kind: Kind
) -> None:
    async with trading_before(tmp_path, kind, datetime(2026, 11, 23, 8, tzinfo=UTC)) as (here, due_ns):
        await here.until(lambda: here.clock.wall_ns() > due_ns - 3 * NS, BEFORE_S)
        here.emulator.faults.inject(wrong, seconds=GONE_S)
        here.emulator.outside.close_sockets("private")
        await here.until(lambda: bills_there(here), 10)
        assert not here.daemon.state.venue.private_up
        await here.until(lambda: len(here.daemon.state.position.bill_ids) == 1)
        await here.until(lambda: here.is_quoting() and is_equal(here), 60)
        assert here.emulator.faults.seen[wrong] > 0
        await ended(here, due_ns)


async def test_a_settlement_between_two_runs_is_booked_once(tmp_path: Path) -> None:
    async with trading_before(tmp_path, "classic", datetime(2026, 11, 23, 16, tzinfo=UTC)) as (here, due_ns):
        await here.until(lambda: here.clock.wall_ns() > due_ns - 3 * NS, BEFORE_S)
        assert await here.stop() == 0
        await here.until(lambda: bills_there(here), 10)
        assert journaled_bills(here) == []
        await begin(here)
        await here.until(lambda: here.is_quoting() and is_equal(here), 60)
        await ended(here, due_ns)
