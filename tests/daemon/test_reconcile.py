"""Reconciliation against a venue that loses answers, hides fills, holds orders of others and disagrees."""

import asyncio
from pathlib import Path

import pytest

from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import AccountSnapshot
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus, Side
from mmdaemon.settings.running import VenueSection
from mmdaemon.venues.base import Absent, OrderReport, VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from tests.daemon.build import World, busy, next_place, run_world

THEN_CALM: Schedule = ((Stretch.TOXIC, 12.0), (Stretch.CALM, 1e6))


def same_fills(world: World) -> None:
    """What is journaled is what the venue gave, as sets and as sums, each once."""
    with world.journal() as journal:
        rows = journal.db.execute("SELECT trade_id, side * qty_lots FROM fills").fetchall()
    assert sorted(trade_id for trade_id, _ in rows) == sorted(fill.trade_id for fill in world.venue.truth().fills)
    assert sum(lots for _, lots in rows) == world.venue.position_lots() == world.state.position.position_lots


def told_of(world: World, client_id: str) -> list[tuple[int, str, str]]:
    """(mono_ns, status, reason) of each report of an order."""
    with world.journal() as journal:
        history = journal.order(client_id)
    assert history is not None
    return [(e.mono_ns, e.status.value if e.status else e.kind, e.reason) for e in history.events]


# --- what became of an order ------------------------------------------------------------------------------------------


def test_lost_answer_is_unknown_until_the_venue_is_asked(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(12)
        world.venue.fates = [(Place, FaultKind.ACK_LOST, 0.0)]
        lost = await next_place(world, FaultKind.ACK_LOST)
        order = world.state.orders.live[lost]
        await world.until(lambda: order.status is OrderStatus.UNKNOWN, 2)
        assert lost in world.venue.resting()  # it is there; nobody told us
        assert order.reserved_lots == order.qty_lots
        await world.until(lambda: order.status is not OrderStatus.UNKNOWN, 5)
        assert order.status in (OrderStatus.LIVE, OrderStatus.PARTIAL, OrderStatus.CANCELLED)
        await world.sleep(2)
        places = [e.command for e in world.venue.sent if isinstance(e.command, Place)]
        assert len({place.client_id for place in places}) == len(places)  # never sent again, under any id twice
        statuses = [status for _, status, _ in told_of(world, lost)]
        assert statuses[:2] == ["unknown", "live"]
        assert [what for _, what in world.venue.asked].count(f"order {lost}") >= 1

    run_world(script, path, schedule=THEN_CALM)


def test_lost_request_is_absent_only_after_the_window_and_two_reads(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(12)
        lost = await next_place(world, FaultKind.REQUEST_LOST)
        sent_ns = world.now_ns
        order = world.state.orders.live[lost]
        side_before = world.state.orders.reserved_buy_lots + world.state.orders.reserved_sell_lots
        assert side_before >= order.qty_lots
        while lost in world.state.orders.live:
            assert order.reserved_lots == order.qty_lots
            await world.sleep(0.05)
        waited_ns = world.now_ns - sent_ns
        assert waited_ns >= world.daemon.params.in_flight_max_ns
        assert [what for _, what in world.venue.asked].count(f"order {lost}") >= 2
        assert lost not in world.venue.truth().orders
        await world.sleep(2)
        told = told_of(world, lost)
        assert [status for _, status, _ in told] == ["unknown", "cancelled"]
        assert told[-1][2] == "absent"
        assert told[-1][0] - sent_ns >= world.daemon.params.in_flight_max_ns

    run_world(script, path, busy(venue__in_flight_max_s=6.0), schedule=THEN_CALM)


def test_one_read_that_finds_nothing_is_not_enough(path: Path) -> None:
    """The window is over before the first answer comes: it takes a second one all the same."""

    async def script(world: World) -> None:
        await world.trade(12)
        lost = await next_place(world, FaultKind.REQUEST_LOST)
        world.venue.failing = {"order"}
        await world.sleep(10)
        assert lost in world.state.orders.live
        world.venue.failing = set()
        world.venue.asked.clear()
        await world.until(lambda: lost not in world.state.orders.live, 10)
        assert [what for _, what in world.venue.asked].count(f"order {lost}") == 2

    run_world(script, path, schedule=THEN_CALM)


def test_an_order_delivered_late_is_not_absent(path: Path) -> None:
    """Asked for twice while it is still on its way, it lands just before the window ends."""

    async def script(world: World) -> None:
        await world.trade(12)
        late = await next_place(world, FaultKind.LATE, 11.0)
        order = world.state.orders.live[late]
        await world.until(lambda: late in world.venue.truth().orders, 12, every_s=0.001)
        assert order.reserved_lots == order.qty_lots  # asked for, not found, and not freed
        assert [what for _, what in world.venue.asked].count(f"order {late}") >= 2
        await world.sleep(10)
        assert "absent" not in [reason for *_, reason in told_of(world, late)]
        assert set(world.venue.resting()) == {o.client_id for o in world.state.orders.live.values()}

    run_world(script, path, busy(venue__in_flight_max_s=12.0), schedule=THEN_CALM)


def test_a_lost_cancel_is_sent_again(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(12)
        world.venue.fates = [(Cancel, FaultKind.REQUEST_LOST, 0.0)]
        await world.parts.operator.pause("test", "test")
        await world.sleep(0.5)
        (left,) = world.venue.resting()
        await world.until(lambda: not world.venue.resting(), 10)
        assert world.guard is GuardState.SOFT_PAUSE
        cancels = [e for e in world.venue.sent if isinstance(e.command, Cancel) and e.command.client_id == left]
        assert len(cancels) == 2
        await world.sleep(2)
        assert left not in world.state.orders.live

    run_world(script, path, schedule=THEN_CALM)


@pytest.mark.parametrize("fate", [FaultKind.ACK_LOST, FaultKind.REQUEST_LOST])
def test_an_amend_without_answer_is_settled_by_the_venue(fate: FaultKind, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        settled = 0
        while not settled:
            seen = len(world.venue.sent)
            world.venue.fates = [(Amend, fate, 0.0)]
            await world.until(lambda: not world.venue.fates, 120, every_s=0.001)
            amend = next(e.command for e in world.venue.sent[seen:] if isinstance(e.command, Amend))
            order = world.state.orders.live.get(amend.client_id)
            if order is None:
                continue  # it filled while the amend waited for the disk
            await world.until(lambda o=order: not o.pending_ns or o.ended_ns, 20)
            at_venue = world.venue.truth().orders[amend.client_id]
            if at_venue.status.is_terminal or order.revision != amend.revision:
                continue
            assert (order.px_ticks, order.qty_lots) == (at_venue.px_ticks, at_venue.qty_lots)
            assert (order.revision_in_force == amend.revision) is (fate is FaultKind.ACK_LOST)
            settled += 1
        await world.until(
            lambda: set(world.venue.resting()) == {o.client_id for o in world.state.orders.live.values()}, 20
        )

    run_world(script, path, schedule=THEN_CALM)


# --- gaps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 3.0, 8.0, 40.0])
def test_fills_in_a_private_gap_are_booked_exactly_once(seconds: float, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        delivered = {fill.trade_id for fill in world.venue.delivered_fills}
        world.venue.disconnect(seconds, ("private",))
        gone_ns = world.now_ns
        await world.sleep(seconds + 0.2)
        missed = [
            fill
            for fill in world.venue.truth().fills
            if fill.venue_ts_ns is not None and fill.venue_ts_ns > gone_ns + world.clock.wall_offset_ns
        ]
        assert [fill for fill in missed if fill.trade_id not in delivered] or seconds < 1
        await world.until(lambda: world.state.position.position_lots == world.venue.position_lots(), 10)
        await world.until(lambda: world.guard is GuardState.RUNNING, 20)
        await world.sleep(60)  # and read again with the overlap, without booking anything again
        await world.parts.operator.pause("test", "test")
        await world.sleep(2)
        same_fills(world)

    run_world(script, path)


def test_what_a_lagging_replica_hid_is_found_by_the_overlap(path: Path) -> None:
    """Fills of the gap are not in the answers that end it, and nobody says them again."""

    async def script(world: World) -> None:
        await world.trade()
        gone_ns = world.clock.wall_ns()
        world.venue.hidden_ts_ns = (gone_ns, gone_ns + 2 * NS)
        world.venue.disconnect(2.0, ("private",))
        begun_ns = world.now_ns
        await world.sleep(2)
        await world.parts.operator.pause("no more fills", "test")
        await world.until(lambda: world.state.facts.reconciled_ns > begun_ns + 2 * NS and not world.state.facts.breaks)
        assert world.state.position.position_lots != world.venue.position_lots()
        world.venue.hidden_ts_ns = (0, 0)
        await world.sleep(35)
        assert not world.state.facts.breaks
        same_fills(world)

    run_world(script, path)


def test_a_long_private_gap_cancels_quotes_and_reconciles(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.disconnect(10.0, ("private",))
        down_ns = world.now_ns
        await world.until(lambda: world.guard is GuardState.RECONCILING, 7, every_s=0.001)
        assert 5 * NS <= world.now_ns - down_ns <= 5 * NS + NS // 10
        await world.until(lambda: not world.venue.resting(), 1)
        before = len(world.venue.sent)
        while world.now_ns - down_ns < 10 * NS:
            assert world.guard is GuardState.RECONCILING  # however clean the reads, the stream is down
            await world.sleep(0.1)
        assert not [e for e in world.venue.sent[before:] if not isinstance(e.command, Cancel)]
        await world.until(lambda: world.guard is GuardState.RUNNING, 10)
        await world.until(world.is_two_sided_with_position, 10)
        with world.journal() as journal:
            scopes = [scope for (scope,) in journal.db.execute("SELECT scope FROM reconciliations ORDER BY rowid")]
        assert scopes[0] == "start"
        assert "gap" in scopes

    run_world(script, path)


def test_a_short_private_gap_reconciles_without_a_pause(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        moves = len(world.daemon.transitions)
        world.venue.disconnect(2.0, ("private",))
        await world.sleep(4)
        assert world.guard is GuardState.RUNNING
        assert len(world.daemon.transitions) == moves
        assert not world.state.venue.private_down_ns
        with world.journal() as journal:
            (gaps,) = journal.db.execute("SELECT count(*) FROM reconciliations WHERE scope = 'gap'").fetchone()
        assert gaps >= 1

    run_world(script, path)


def test_what_the_venue_cancelled_in_a_gap_is_freed(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        gone = world.venue.resting()
        assert gone
        world.venue.disconnect(3.0, ("private",))
        await world.sleep(0.1)
        world.venue._exchange.cancel_all(world.venue._feed.advance(), "by hand")
        await world.sleep(10)
        assert not set(gone) & set(world.state.orders.live)
        assert set(world.venue.resting()) == {
            o.client_id for o in world.state.orders.live.values() if o.acked_ns and not o.ended_ns
        }

    run_world(script, path)


# --- orders that are not ours -----------------------------------------------------------------------------------------


def test_foreign_orders_are_left_alone_and_counted(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        bid, ask = world.state.book.bid_px, world.state.book.ask_px
        ids = {
            world.venue.foreign_order(Side.BUY, bid - 600, 7),
            world.venue.foreign_order(Side.SELL, ask + 600, 7, "somebody-1"),
        }
        await world.sleep(65)
        assert ids <= set(world.venue.resting())
        assert world.parts.reconciler.foreign_orders == 2
        assert world.guard is GuardState.RUNNING
        assert not ids & {each.command.client_id for each in world.venue.sent}
        assert not ids & set(world.state.orders.live)

    run_world(script, path)


def test_a_stop_leaves_foreign_orders_alone(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        theirs = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "somebody-1")
        code = await world.stop()
        assert code == 0
        assert world.venue.resting() == [theirs]

    run_world(script, path)


@pytest.mark.parametrize("fill", [False, True])
def test_an_orphan_of_an_earlier_run_is_adopted_and_cancelled(fill: bool, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        await world.restart()
        await world.trade(5)
        bid = world.state.book.bid_px
        orphan = world.venue.foreign_order(Side.BUY, bid - (0 if fill else 600), 7, "mmdemo-1-9999")
        landed_ns = world.now_ns
        await world.until(lambda: orphan not in world.venue.resting(), 30)
        assert world.now_ns - landed_ns < 30 * NS
        await world.sleep(12)
        assert orphan not in world.state.orders.live
        if not fill:
            assert world.parts.reconciler.orphans == 1
            assert next(status for _, status, _ in told_of(world, orphan)) == "live"
        assert world.guard is GuardState.RUNNING
        await world.parts.operator.pause("test", "test")
        await world.sleep(1)
        same_fills(world)

    run_world(script, path)


def test_an_orphan_cancelled_in_vain_is_cancelled_again(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        await world.restart()
        await world.trade(5)
        orphan = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "mmdemo-1-9999")
        await world.until(lambda: orphan in world.state.orders.live, 12, every_s=0.001)
        await world.until(lambda: orphan not in world.venue.resting(), 15)

    run_world(script, path)


@pytest.mark.parametrize("client_id", ["mmdemo-2-1", "mmdemo-x-1", "mmdemo-1", "mmabcd-1-1"])
def test_an_order_of_another_daemon_stops_this_one_hard(client_id: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        theirs = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, client_id)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 31)
        assert "second_instance" in world.parts.status().reasons
        await world.until(lambda: world.kill is KillState.QUIET, 5)
        assert theirs not in world.venue.resting()  # a kill empties the symbol
        refused = await world.parts.operator.resume("mine", "test")
        assert not refused.ok

    run_world(script, path)


# --- positions --------------------------------------------------------------------------------------------------------


def test_a_manual_trade_is_booked_once_and_agrees(path: Path) -> None:
    """It comes with a fill: it is the account's, and is in the books like any other. (Its soft break: test_breaks.)"""

    async def script(world: World) -> None:
        await world.trade()
        before = world.state.position.position_lots
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(0.2)
        booked = world.state.position.position_lots
        assert booked == world.venue.position_lots()
        assert booked != before
        assert world.state.orders.anomalies.get("fill_of_unknown_order", 0) >= 1
        await world.sleep(65)
        assert not world.state.facts.breaks
        assert world.guard is GuardState.RUNNING
        await world.parts.operator.pause("test", "test")
        await world.sleep(1)
        same_fills(world)

    run_world(script, path)


def test_a_position_that_does_not_agree_pauses_and_then_stops_hard(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.snapshot_off_lots = 3
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 40)
        assert "position" in world.parts.status().reasons
        assert world.state.facts.bad_reconciles == 0  # it is being mended
        await world.until(lambda: not world.venue.resting(), 1)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 60)
        assert world.state.facts.bad_reconciles == 3
        await world.sleep(0.1)
        assert "break" in world.parts.status().reasons
        with world.journal() as journal:
            rows = journal.db.execute("SELECT breaks FROM reconciliations WHERE breaks != '[]'").fetchall()
        assert len(rows) > 3
        assert all("position" in breaks for (breaks,) in rows)

    run_world(script, path)


def test_a_break_that_mends_itself_lets_it_quote_again(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.snapshot_off_lots = 3
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 40)
        world.venue.snapshot_off_lots = 0
        await world.until(world.is_two_sided_with_position, 20)
        assert world.state.facts.bad_reconciles == 0
        assert world.kill is KillState.ARMED

    run_world(script, path)


@pytest.mark.parametrize("read", ["fills", "bills", "open_orders", "order", "snapshot"])
def test_a_round_with_a_failed_read_has_no_verdict(read: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(12)
        if read == "order":  # a round asks for an order only where it misses one
            await world.parts.operator.pause("test", "test")
            await world.sleep(1)
            await world.parts.operator.resume("test", "test")
            await world.until(lambda: len(world.venue.resting()) >= 2, 20)
            world.venue.disconnect(100.0, ("private",))
            world.venue._exchange.cancel_all(world.venue._feed.advance(), "by hand")
            await world.sleep(0.5)
        world.venue.failing = {read}
        seq_before = rounds(world)
        with pytest.raises(VenueUnavailable):
            await world.parts.reconciler.reconcile("test")
        await world.sleep(40)
        assert rounds(world) == seq_before
        assert world.state.facts.reconciled_ns < world.now_ns - 40 * NS + NS
        world.venue.failing = set()
        await world.until(lambda: rounds(world) > seq_before, 10)

    run_world(script, path, schedule=THEN_CALM)


def rounds(world: World) -> int:
    with world.journal() as journal:
        return journal.db.execute("SELECT count(*) FROM reconciliations").fetchone()[0]


def test_a_position_not_read_for_long_pauses(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.failing = {"snapshot"}
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 130)
        assert "position" in world.parts.status().reasons
        await world.until(lambda: not world.venue.resting(), 1)
        world.venue.failing = set()
        await world.until(lambda: world.guard is GuardState.RUNNING, 40)

    run_world(script, path)


def test_rounds_do_not_overlap(path: Path) -> None:
    """An operator's resume and the reconciler's own rounds read one after the other."""

    async def script(world: World) -> None:
        await world.trade()
        world.venue.asked.clear()
        await asyncio.gather(*(world.parts.reconciler.reconcile(f"test{n}") for n in range(3)))
        firsts = [what for _, what in world.venue.asked if what in ("fills", "snapshot")]
        assert firsts[:6] == ["fills", "snapshot"] * 3

    run_world(script, path, schedule=THEN_CALM)


def test_a_gap_while_a_round_is_under_way_is_reconciled_for_itself(path: Path) -> None:
    """The round has read before the gap, and says so after it: of what came in between it knows nothing."""

    async def script(world: World) -> None:
        await world.trade(12)
        real = world.venue.snapshot
        gaps: list[int] = []

        async def snapshot() -> AccountSnapshot:
            seen = await real()
            if not gaps:
                world.venue.disconnect(0.4, ("private",))
                await world.sleep(0.1)
                gaps.append(world.now_ns)
                world.venue.manual_trade(Side.BUY, 40)
                await world.sleep(1.0)
            return seen

        world.venue.snapshot = snapshot
        await world.until(lambda: gaps, 40)
        await world.sleep(3.5)
        assert not world.state.venue.private_down_ns
        same_fills(world)
        with world.journal() as journal:
            breaks = [row.name for row in journal.breaks() if not row.name.startswith("manual_trade")]
        assert breaks == []

    run_world(script, path, schedule=THEN_CALM)


def test_absent_said_before_the_last_moment_of_arrival_proves_nothing(path: Path) -> None:
    """It lands at the very end of the window, and the replica that is asked hears of it a little later."""

    async def script(world: World) -> None:
        await world.trade(12)
        late = await next_place(world, FaultKind.LATE, 11.9)
        sent_ns = world.now_ns
        real_order, real_open = world.venue.order, world.venue.open_orders

        def is_behind() -> bool:
            return world.now_ns - sent_ns < round(14.4 * NS)

        async def ask(client_id: str) -> OrderReport | Absent:
            answer = await real_order(client_id)
            return Absent(client_id) if client_id == late and is_behind() else answer

        async def open_orders() -> list[OrderReport]:
            return [each for each in await real_open() if each.client_id != late or not is_behind()]

        world.venue.order, world.venue.open_orders = ask, open_orders
        order = world.state.orders.live[late]
        while is_behind():
            assert order.reserved_lots == order.qty_lots
            assert late in world.state.orders.live
            await world.sleep(0.05)
        assert late in world.venue.truth().orders
        await world.sleep(5)
        assert "absent" not in [reason for *_, reason in told_of(world, late)]

    run_world(script, path, busy(venue__in_flight_max_s=12.0), schedule=THEN_CALM)


def test_money_moved_in_a_private_gap_is_booked_when_it_ends(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.disconnect(1.5, ("private",))
        await world.sleep(0.2)
        world.venue.transfer(3 * NS)
        assert world.state.position.transfers_e10 == 0
        await world.sleep(2.5)
        assert world.state.position.transfers_e10 == 3 * NS
        with world.journal() as journal:
            assert journal.breaks() == []

    run_world(script, path)


def test_a_second_daemon_whose_account_is_in_use_never_sends_an_order(path: Path) -> None:
    """The other one's order rests when this one starts."""

    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "mmabcd-1-1")
        begun_ns = world.now_ns
        await world.restart()
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 20)
        assert "second_instance" in world.parts.status().reasons
        await world.sleep(20)
        assert world.venue.increasing_since(begun_ns) == []
        assert GuardState.RUNNING not in {moved.after for _, moved in world.daemon.transitions}

    run_world(script, path)


def test_an_orphan_is_gone_in_30_seconds_at_the_slowest_cadence_that_may_be_set(path: Path) -> None:
    slowest = next(m.le for m in VenueSection.model_fields["reconcile_orders_s"].metadata if hasattr(m, "le"))

    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        await world.restart()
        await world.trade(5)
        for number in range(3):
            orphan = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, f"mmdemo-1-999{number}")
            landed_ns = world.now_ns
            await world.until(lambda gone=orphan: gone not in world.venue.resting(), 90)
            assert world.now_ns - landed_ns <= 30 * NS
            await world.sleep(7)

    run_world(script, path, busy(venue__reconcile_orders_s=slowest, venue__reconcile_position_s=90.0))
