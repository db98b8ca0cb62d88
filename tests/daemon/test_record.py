"""What the journal keeps of a run: minutes that foot, decisions only where they changed, and every fact once."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.engine import Step
from mmdaemon.core.events import Event
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.types import NS, GuardState, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.replay import verify
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.daemon.build import START_NS, TOXIC, World, busy, run_world


def journal_of(path: Path) -> JournalReader:
    return JournalReader(path / "journal.sqlite")


async def a_while(world: World) -> None:
    """Five minutes with money moved in, a pause and a gap: something of every addend."""
    await world.trade(100)
    world.venue.transfer(250 * 10**10)
    await world.parts.operator.pause("lunch", "test")
    await world.sleep(5)
    await world.parts.operator.resume("after lunch", "test")
    await world.sleep(60)
    world.venue.disconnect(3.0, ("private",))
    await world.sleep(120)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `a_while` left behind, played once."""
    path = tmp_path_factory.mktemp("recorded") / "state"
    run_world(a_while, path)
    return path


def test_minutes_foot_to_equity(recorded: Path) -> None:
    """At each minute: start, spread, inventory, impact, funding and transfers less fees are the equity, to the last
    digit, and equity is what the fills up to then come to."""

    with journal_of(recorded) as journal:
        (start_e10,) = journal.db.execute("SELECT start_e10 FROM runs").fetchone()
        minutes = list(journal.minutes(1))
        fills = list(journal.fills(1))
        bills = list(journal.bills(1))
        (unit,) = journal.db.execute("SELECT unit_e10 FROM instruments").fetchone()
    assert len(minutes) >= 5
    for minute in minutes:
        addends = (
            minute.spread_e10
            + minute.inventory_e10
            + minute.impact_e10
            - minute.fees_e10
            + minute.funding_e10
            + minute.transfers_e10
        )
        assert minute.equity_e10 == start_e10 + addends
        before = [fill for fill in fills if fill.seq <= minute.seq]
        assert minute.fills == len(before)
        assert minute.position_lots == sum(fill.side * fill.qty_lots for fill in before)
        assert minute.turnover_e10 == sum(fill.notional_e10 for fill in before)
        cash = -sum(fill.side * fill.notional_e10 + fill.fee_e10 for fill in before)
        moved = sum(bill.amount_e10 for bill in bills if bill.seq <= minute.seq)
        assert minute.mark_px_ticks is not None
        value = minute.position_lots * minute.mark_px_ticks * unit
        assert minute.equity_e10 == start_e10 + cash + moved + value
    last = minutes[-1]
    assert last.spread_e10 != 0
    assert last.impact_e10 != 0
    assert last.fees_e10 < 0  # paid to us
    assert last.transfers_e10 == 250 * 10**10


def test_one_minute_a_minute(recorded: Path) -> None:
    with journal_of(recorded) as journal:
        at = [minute.ts_ns for minute in journal.minutes(1)]
    numbers = [ts_ns // (60 * NS) for ts_ns in at]
    assert numbers[0] == START_NS // (60 * NS)
    assert numbers[:-1] == list(range(numbers[0], numbers[0] + len(numbers) - 1))  # and one more where it ended
    assert numbers[-1] in (numbers[-2], numbers[-2] + 1)


def test_own_quotes_of_a_minute_are_those_that_rest(recorded: Path) -> None:
    with journal_of(recorded) as journal:
        minutes = list(journal.minutes(1))
    quoting = [m for m in minutes if m.guard is GuardState.RUNNING and m.bid_px_ticks and m.ask_px_ticks]
    assert len(quoting) >= 2
    assert all(m.bid_px_ticks < m.ask_px_ticks for m in quoting if m.bid_px_ticks and m.ask_px_ticks)
    ended = minutes[-1]
    assert (ended.guard, ended.bid_px_ticks, ended.ask_px_ticks) == (GuardState.STOPPING, None, None)


def test_a_decision_is_kept_only_where_it_changed(recorded: Path) -> None:
    """No two rows in a row say the same, every order's row is among them, and each follows from its inputs."""
    with journal_of(recorded) as journal:
        kept = list(journal.decisions(1))
        encoded = journal.params(1)
        intents = journal.db.execute("SELECT seq FROM intents WHERE purpose = 'quote'").fetchall()
        seen = [
            (
                msgspec.msgpack.decode(row.inputs, type=DecisionInputs),
                msgspec.msgpack.decode(row.decision, type=Decision),
            )
            for row in kept
        ]
        first = kept[0].seq
        assert all(seq >= first for (seq,) in intents)
        for (before_in, before), (after_in, after) in pairwise(seen):
            same_quotes = [(q.side, q.px_ticks, q.qty_lots) for q in before.quotes] == [
                (q.side, q.px_ticks, q.qty_lots) for q in after.quotes
            ]
            same_state = (before_in.guard, before_in.regime) == (after_in.guard, after_in.regime)
            assert not (same_quotes and same_state)
    assert len(kept) > 50
    assert encoded is not None
    params = msgspec.msgpack.decode(encoded, type=Params)
    for inputs, decision in seen:
        assert decide(inputs, params) == decision


def test_every_changed_decision_is_kept(path: Path) -> None:
    async def script(world: World) -> list[int]:
        changed: list[int] = []
        tell = world.parts.controller._on_step

        def also(event: Event, step: Step) -> None:
            if step.decision is not None:
                changed.append(world.state.seq)
            tell(event, step)

        world.parts.controller._on_step = also
        await world.trade(60)
        await world.stop()
        return changed

    changed = run_world(script, path)
    with journal_of(path) as journal:
        assert [row.seq for row in journal.decisions(1)] == changed
    assert len(changed) > 50


def test_decisions_verify_from_the_journal_alone(recorded: Path) -> None:

    def redo(inputs: bytes, params: bytes) -> bytes:
        seen = msgspec.msgpack.decode(inputs, type=DecisionInputs)
        return msgspec.msgpack.encode(decide(seen, msgspec.msgpack.decode(params, type=Params)))

    verdict = verify(recorded / "journal.sqlite", redo)
    assert verdict.ok
    assert verdict.checked > 50
    assert verdict.open_ended == ()


def test_a_market_in_which_nothing_happens_leaves_no_rows(path: Path) -> None:
    """Books and trades by the thousand: rows come from what was decided, sent or answered, and once a minute."""

    async def script(world: World) -> tuple[int, int]:
        await world.sleep(60)
        await world.parts.operator.pause("quiet", "test")
        await world.sleep(95)  # until the last fill is older than what reconciliations read again
        before, seq = world.daemon.journal.handed, world.state.seq
        await world.sleep(60)
        return world.daemon.journal.handed - before, world.state.seq - seq

    handed, events = run_world(script, path)
    assert events > 500
    assert handed <= 5  # the minute, the reconciliations, and a change of regime


def test_every_fact_of_an_order_is_in_its_history(path: Path) -> None:
    """From the venue's own record: each order it took has its intent, each fill its row, each end its event."""

    async def script(world: World) -> list[tuple[str, str, int, int, int]]:
        await world.trade(60)
        await world.parts.operator.pause("done", "test")
        await world.sleep(2)
        orders = world.venue.truth().orders.values()
        return [(o.client_id, o.status.value, o.filled_lots, o.px_ticks, o.qty_lots) for o in orders]

    orders = run_world(script, path)
    assert len(orders) > 20
    with journal_of(path) as journal:
        for client_id, status, filled_lots, px_ticks, qty_lots in orders:
            history = journal.order(client_id)
            assert history is not None
            assert history.intents[0].revision == 0
            assert history.order.status.value == status
            assert history.order.settled
            assert (history.order.px_ticks, history.order.qty_lots) == (px_ticks, qty_lots)
            assert sum(fill.qty_lots for fill in history.fills) == filled_lots == history.order.filled_lots
            assert status in [event.status.value for event in history.events if event.status]


def test_funding_is_booked_once(path: Path) -> None:
    """Held across a settlement: the bill of the stream and the one of the ledger are one."""

    async def script(world: World) -> int:
        await world.until(lambda: world.state.position.position_lots != 0, 120)
        await world.parts.operator.pause("hold", "test")
        await world.sleep(400)
        assert world.state.position.duplicate_bills > 0
        return world.state.position.funding_e10

    settles = START_NS - 3_600 * NS + 8 * 3_600 * NS
    source = SyntheticMarket(seed=7, start_ts_ns=settles - 120 * NS, schedule=TOXIC)
    booked = run_world(script, path, busy(venue__reconcile_ledger_s=60.0), source=source)
    with journal_of(path) as journal:
        rows = [bill for bill in journal.bills(1) if bill.kind.value == "funding"]
    assert len(rows) == 1
    assert rows[0].amount_e10 == booked != 0
    assert rows[0].redeliveries > 0


def test_fills_carry_the_mark_they_were_booked_at(recorded: Path) -> None:
    with journal_of(recorded) as journal:
        fills = list(journal.fills(1))
    assert fills
    assert {fill.side for fill in fills} == {Side.BUY, Side.SELL}
    assert all(fill.mark_px_ticks and abs(fill.mark_px_ticks - fill.px_ticks) < 1_000 for fill in fills)
