"""Rows of docs/FAULTS.md about the account and its instrument: what others change of it while orders rest and a
position is held."""

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Place
from mmdaemon.core.events import AccountSnapshot, BillKind, FeeSchedule, OrderUpdate
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import E10, NS, GuardState, Instrument, KillState, Liquidity, OrderStatus
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.daemon.build import START_NS, TOXIC, World, busy, run_world
from tests.faults.build import agrees, emptied, listening, requests_since

CHANGES: dict[str, dict[str, object]] = {
    "hedge mode": {"position_mode": "hedge"},
    "leverage raised": {"leverage": 20.0},
    "leverage lowered": {"leverage": 0.5},
    "isolated margin": {"margin_mode": "isolated"},
    "leverage unknown": {"leverage": float("nan")},
    "key revoked": {"can_trade": False},
    "key widened": {"can_withdraw": True},
}


def why_stopped(world: World) -> tuple[Reason, ...]:
    """The reasons for which it went to HARD_STOP."""
    (moved,) = [moved for _, moved in world.daemon.transitions if moved.after is GuardState.HARD_STOP]
    return moved.reasons


@pytest.mark.parametrize("change", CHANGES)
def test_an_account_that_somebody_changed_stops_for_good_until_it_is_as_configured(path: Path, change: str) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        world.venue.changed_facts = CHANGES[change]
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=61)
        assert "account_facts" in world.parts.status().reasons
        stopped_ns = world.now_ns
        await emptied(world)
        assert world.state.position.position_lots == world.venue.position_lots() != 0
        assert world.venue.increasing_since(stopped_ns) == []
        assert not (await world.parts.operator.resume("go on", "test")).ok
        await world.crash()
        await world.restart()
        await world.until(lambda: world.kill is KillState.KILLED, within_s=30)
        assert not (await world.parts.operator.resume("go on", "test")).ok
        await world.sleep(20)
        assert world.venue.increasing_since(stopped_ns) == []
        assert world.guard is GuardState.HARD_STOP
        world.venue.changed_facts = {}
        await world.sleep(61)
        assert (await world.parts.operator.resume("put right", "test")).ok
        await agrees(world)

    run_world(script, path)


def test_a_key_that_opens_another_account_meanwhile_stops_for_good(path: Path) -> None:
    """Its position and orders are none of ours, however well everything else is configured."""

    async def script(world: World) -> None:
        await world.trade(5)
        world.venue.changed_facts = {"account": "another"}
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=61)
        assert why_stopped(world) == (Reason.ACCOUNT_FACTS,)
        assert "the account is another and was simulated" in " ".join(world.parts.guard.wrong_facts())
        await emptied(world)
        assert world.state.position.position_lots == world.venue.position_lots() != 0
        world.venue.changed_facts = {}
        await world.sleep(61)
        assert (await world.parts.operator.resume("the right one again", "test")).ok
        await agrees(world)

    run_world(script, path)


def test_an_account_without_the_venues_own_time_is_none(path: Path) -> None:
    """Neither at the start nor later: history is read from that moment on, and our clock does not know it."""

    async def script(world: World) -> None:
        await world.trade(5)
        real = world.venue.snapshot

        async def undated() -> AccountSnapshot:
            return msgspec.structs.replace(await real(), venue_ts_ns=None)

        world.venue.snapshot = undated
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, within_s=40)
        assert "position" in world.parts.status().reasons
        assert world.state.position.position_lots == world.venue.position_lots() != 0
        await world.until(lambda: not world.venue.resting(), within_s=5)
        paused_ns = world.now_ns
        clean = world.state.facts.reconciled_ns
        await world.sleep(60)
        assert world.state.facts.reconciled_ns == clean
        assert world.venue.increasing_since(paused_ns) == []
        await world.crash()
        starts = asyncio.create_task(world.begin(fresh_account=False))
        await world.sleep(20)
        assert starts.done()  # it knows its equity from the journal
        assert world.guard is not GuardState.RUNNING
        world.venue.snapshot = real
        await world.until(world.is_two_sided_with_position, within_s=60)
        await agrees(world)

    run_world(script, path)


def test_a_first_start_waits_for_an_account_with_its_time(path: Path, tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.stop()
        real = world.venue.snapshot

        async def undated() -> AccountSnapshot:
            return msgspec.structs.replace(await real(), venue_ts_ns=None)

        world.venue.snapshot, world.path = undated, tmp_path / "another"
        starts = asyncio.create_task(world.begin(fresh_account=True))
        await world.sleep(5)
        assert not starts.done()
        world.venue.snapshot = real
        await starts

    run_world(script, path)


def test_a_liquidation_is_booked_as_such_and_nothing_is_quoted_after_it(path: Path) -> None:
    """The venue takes the orders out, closes the position at mark and keeps the rest of the money."""

    async def script(world: World) -> None:
        await world.trade(5)
        mark = world.venue.exchange.mark_ticks
        world.venue.transfer(-world.venue.exchange.wallet.equity_e10(mark) + E10)
        await world.until(lambda: world.venue.position_lots() == 0 and not world.venue.resting(), within_s=5)
        gone_ns = world.now_ns
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=45)
        assert set(why_stopped(world)) & {Reason.MARGIN_HARD, Reason.DAILY_LOSS, Reason.DRAWDOWN, Reason.BREAK}
        await emptied(world)
        # One way to the stream, one to the engine: what had left by then, and nothing more.
        assert world.venue.increasing_since(gone_ns + NS // 10) == []
        truth = world.venue.truth()
        assert world.state.position.position_lots == truth.position_lots == 0
        assert world.venue.exchange.wallet.balance_e10 == 0
        with world.journal() as journal:
            kinds = dict(journal.db.execute("SELECT trade_id, exec_kind FROM fills").fetchall())
            fees = journal.db.execute("SELECT amount_e10 FROM bills WHERE kind = 'fee'").fetchall()
            names = [row.name for row in journal.breaks() if row.closed_ts_ns is None]
        assert set(kinds) == {fill.trade_id for fill in truth.fills}
        assert list(kinds.values()).count("liquidation") == 1
        assert [amount for (amount,) in fees] == [b.amount_e10 for b in truth.bills if b.kind is BillKind.FEE]
        assert any(name.startswith("forced_trade/") for name in names)
        assert not (await world.parts.operator.resume("go on", "test")).ok

    run_world(script, path)


@pytest.mark.parametrize("reason", ["not_trading", rules.MIN_QTY, rules.OFF_TICK, rules.OFF_LOT])
def test_an_instrument_that_is_no_longer_what_it_was_stops_hard_with_the_position_still_known(
    path: Path, reason: str
) -> None:
    """Delisted: what rests is cancelled by the venue, and everything new refused. Tick, lot or minimum changed: what
    is new is refused, for that is all that the venue says of it."""

    async def script(world: World) -> None:
        await world.trade(5)
        exchange = world.venue.exchange
        heard = listening(world)

        def refuse(at_ns: int, command: Place) -> OrderUpdate:
            return OrderUpdate(0, 0, at_ns, command.client_id, OrderStatus.REJECTED, 0, None, None, None, reason)

        exchange._place = refuse
        if reason == "not_trading":
            exchange.cancel_all(world.venue._feed.advance(), reason)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=120)
        assert Reason.REJECT_STREAK in why_stopped(world)
        stopped_ns = world.now_ns
        refused = [e for e in heard if type(e) is OrderUpdate and e.reason == reason and e.status.is_terminal]
        assert len(refused) <= 2 * world.daemon.params.guard.rejects_in_a_row + 10  # it did not go on and on
        await emptied(world)
        await world.sleep(70)
        assert world.venue.increasing_since(stopped_ns) == []
        assert world.state.position.position_lots == world.venue.position_lots() != 0
        assert world.state.orders.reserved_buy_lots == world.state.orders.reserved_sell_lots == 0
        assert world.state.facts.reconciled_ns > world.now_ns - 35 * NS  # it is still read
        assert not world.state.facts.breaks

    run_world(script, path, settings=busy(venue__amend=False))


@pytest.mark.parametrize("clean", [True, False])
def test_a_start_with_another_tick_quotes_nothing_from_books_of_the_old_one(path: Path, clean: bool) -> None:
    """While it was down the venue made the tick ten times finer. The books count in the old ticks: killed at once from
    a checkpoint, stopped hard by a break from fills alone, and what rested is taken out."""

    async def script(world: World) -> None:
        await world.trade(5)
        await (world.stop() if clean else world.crash())
        old = world.venue.exchange.instrument
        finer = msgspec.structs.replace(old, tick_e10=old.tick_e10 // 10, unit_e10=old.unit_e10 // 10, version=2)

        async def instrument() -> Instrument:
            return finer

        world.venue.instrument = instrument
        begun_ns = world.now_ns
        await world.restart()
        await world.until(lambda: world.kill is KillState.KILLED, within_s=60)
        await world.sleep(30)
        assert world.venue.increasing_since(begun_ns) == []
        assert world.venue.resting() == []
        assert world.state_dir.latched()
        assert world.state.position.position_lots == world.venue.position_lots() != 0

    run_world(script, path)


def test_a_ban_stops_hard_and_is_not_lengthened_by_requests(path: Path) -> None:
    """Everything is refused for ten minutes. Cancels and reads go on, at a pace; then the venue is emptied."""

    async def script(world: World) -> None:
        await world.trade(5)
        world.venue.inject(FaultKind.RATE_STORM, 600)
        begun_ns = world.now_ns
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=120)
        assert world.kill is KillState.KILLING
        stopped_ns = world.now_ns
        await world.sleep(60)
        quiet_ns = world.now_ns
        await world.sleep((begun_ns + 599 * NS - quiet_ns) / NS)
        assert world.kill is KillState.KILLING  # never said to be done while nothing can be read
        a_minute = 60 * NS * requests_since(world, quiet_ns) / (world.now_ns - quiet_ns)
        assert a_minute < 120, f"{a_minute:.0f} requests and reads a minute"
        assert world.venue.increasing_since(stopped_ns) == []
        await world.sleep(60)
        await emptied(world)
        await world.sleep(60)
        assert world.state.position.position_lots == world.venue.position_lots()
        assert (await world.parts.operator.resume("the ban is over", "test")).ok
        await agrees(world)

    run_world(script, path)


@pytest.mark.parametrize("down_s", [4.0, 40.0, 1_200.0])
def test_funding_at_the_boundary_while_nobody_runs_is_booked_once(path: Path, down_s: float) -> None:
    """It dies with a position two seconds before the settlement, and begins again soon after it, twice."""
    boundary_ns = START_NS + 7 * 3_600 * NS  # eight in the morning, UTC
    source = SyntheticMarket(seed=7, start_ts_ns=boundary_ns - 90 * NS, schedule=TOXIC)

    async def script(world: World) -> None:
        await world.trade(60)
        await world.sleep((boundary_ns - world.clock.wall_ns()) / NS - 2)
        await world.crash()
        await world.restart(down_s)
        await world.trade(5)
        await world.crash()
        await world.restart(0.1)
        await world.trade(5)
        await world.sleep(330)  # and the ledger is read again, with its overlap
        true = [(b.bill_id, b.amount_e10) for b in world.venue.truth().bills if b.kind is BillKind.FUNDING]
        assert len(true) == 1
        assert true[0][1] != 0
        with world.journal() as journal:
            booked = journal.db.execute("SELECT bill_id, amount_e10 FROM bills WHERE kind = 'funding'").fetchall()
        assert booked == true
        assert world.state.position.funding_e10 == true[0][1]
        assert not world.state.facts.breaks
        await agrees(world)

    run_world(script, path, source=source)


def test_a_fee_tier_that_changes_is_paid_as_charged_and_quoted_within_the_hour(path: Path) -> None:
    """Fills carry the fee that was charged, whatever tier we believed in; the floor follows when the rates are read."""

    async def script(world: World) -> None:
        await world.trade(5)
        maker = Decimal("0.0010")
        world.venue.exchange.wallet._rates[Liquidity.MAKER] = maker
        real = world.venue.fees

        async def fees() -> FeeSchedule:
            read = await real()
            return FeeSchedule(read.mono_ns, read.ts_ns, read.venue_ts_ns, float(maker), read.taker_rate, read.source)

        world.venue.fees = fees
        assert world.state.decision is not None
        before = world.state.decision.buy_edge.maker_fee_bps
        await world.sleep(60)
        assert not world.state.facts.breaks  # what was charged is what was booked: the balance agrees
        await world.until(lambda: _maker_rate(world) > 0, within_s=3_700, every_s=1)
        await world.sleep(5)
        assert world.state.decision.buy_edge.maker_fee_bps == pytest.approx(10.0)
        assert before == pytest.approx(-1.0)
        assert world.guard is not GuardState.HARD_STOP
        await world.parts.operator.pause("compare", "test")
        await world.sleep(35)
        assert not world.state.facts.breaks
        assert world.state.position.fees_e10 == sum(fill.fee_e10 for fill in world.venue.truth().fills)

    run_world(script, path)


def _maker_rate(world: World) -> float:
    assert world.state.venue.fees is not None
    return world.state.venue.fees.maker_rate


@pytest.mark.parametrize("amount_e10", [50_000 * E10, -50_000 * E10])
@pytest.mark.parametrize("heard", [True, False], ids=["told", "not told"])
def test_money_moved_while_it_quotes_is_neither_profit_nor_loss(path: Path, amount_e10: int, heard: bool) -> None:
    """Half of the account leaves, or comes: a daily loss and a drawdown many times over, were it one."""

    async def script(world: World) -> None:
        await world.trade(5)
        if not heard:
            world.venue.disconnect(2.0, ("private",))
        world.venue.transfer(amount_e10)
        for _ in range(90):
            await world.sleep(1)
            assert world.guard is not GuardState.HARD_STOP
        with world.journal() as journal:
            booked = journal.db.execute("SELECT amount_e10 FROM bills WHERE kind = 'transfer'").fetchall()
        assert booked == [(amount_e10,)]
        assert world.state.position.transfers_e10 == amount_e10
        assert not world.state.facts.breaks
        assert not world.state.guard.active & (BIT[Reason.DAILY_LOSS] | BIT[Reason.DRAWDOWN])
        await agrees(world)

    run_world(script, path)
