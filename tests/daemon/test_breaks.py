"""Breaks: each is a row with an owner from the moment it is found until it is closed with a resolution, whatever
happens to the process meanwhile; what is hard keeps quotes out, and what is not mended in time stops for good."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Command
from mmdaemon.core.events import AccountSnapshot, Fill, Reconciled
from mmdaemon.core.types import E10, NS, ExecKind, GuardState, KillState, Liquidity, OrderStatus, Side
from mmdaemon.daemon import breaks, reconcile
from mmdaemon.daemon.breaks import RULES, Kind, Ledger, found
from mmdaemon.daemon.verbs import handler_of
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.journal.records import Break
from mmdaemon.journal.statements import Row, Statement
from mmdaemon.ops.control import Request
from mmdaemon.ops.token import unknown
from mmdaemon.venues.base import Absent, Cursor, OrderReport
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, busy, next_place, run_world, say_nothing

TOKEN = unknown()


def rows_of(world: World, kind: Kind | None = None) -> list[Break]:
    with world.journal() as journal:
        return [row for row in journal.breaks() if kind is None or row.name.partition("/")[0] == kind]


def only(world: World, kind: Kind) -> Break:
    (row,) = rows_of(world, kind)
    return row


def actions(world: World) -> list[tuple[str, str, str, str]]:
    with world.journal() as journal:
        found = journal.db.execute("SELECT action, reason, who, outcome FROM operator_actions ORDER BY rowid")
        return list(found.fetchall())


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_kind_has_a_row_with_an_owner_and_an_end() -> None:
    assert [rule.kind for rule in RULES] == list(Kind)
    for rule in RULES:
        assert rule.owner in ("reconcile", "operator")
        assert rule.because
        assert rule.mends
        assert rule.person
        # Whoever is to mend it, it ends: the daemon's within its time, a hard one never waits in silence.
        assert rule.mend_ns is not None or (rule.owner == "operator" and not rule.hard)


def remembered(name: str, *, hard: bool) -> Break:
    return Break(
        name=name,
        owner="reconcile",
        hard=hard,
        detail="x",
        epoch=1,
        seq=1,
        opened_ts_ns=5,
        last_seen_ts_ns=5,
        closed_ts_ns=None,
        resolution=None,
    )


def ledger(*rows: Break) -> Ledger:
    return Ledger("demo", 2, rows, 0)


def test_a_soft_break_that_outlasts_its_repair_is_hard_and_counts() -> None:
    held = ledger(remembered("orphan/x", hard=False))
    seen = [found(Kind.ORPHAN, "", "x")]
    (judged,), mending = held.judge(seen, 30 * NS - 1)
    assert (judged.hard, mending) == (False, True)
    (judged,), mending = held.judge(seen, 30 * NS)
    assert (judged.hard, mending) == (True, False)


def test_time_while_nobody_was_up_to_mend_does_not_count() -> None:
    row = remembered("position", hard=True)  # opened in 1970
    _, mending = ledger(row).judge([found(Kind.POSITION, "")], 29 * NS)
    assert mending


def test_a_trade_that_comes_while_a_round_is_judged_is_not_closed_by_it() -> None:
    held = ledger()
    mine = Fill(1, 2, None, "t1", "venue:7", Side.BUY, 100, 3, 0, Liquidity.TAKER, ExecKind.TRADE)
    assert len(held.on_fill(mine, 0, 1)) == 1
    assert held.on_reconciled(Reconciled(3, 4, None, "periodic", (), 0), 2) == []
    assert list(held.open) == ["manual_trade/t1"]
    # And the other way round: what a person accepted is not opened by a round that was under way.
    seen, _ = held.judge([], 5)
    held.accept(["manual_trade/t1"], "accepted", 6)
    assert held.on_reconciled(Reconciled(7, 8, None, "periodic", (), 0, seen), 3) == []
    assert not held.open


def test_a_break_of_another_version_is_hard_until_a_round_is_clean() -> None:
    assert ledger(remembered("balance", hard=True)).hard == ("balance: x",)
    assert breaks.rule_of("balance").hard


# --- trades that no order of ours made --------------------------------------------------------------------------------


def test_a_manual_trade_is_a_break_until_a_person_accepts_it(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        commits: list[set[Statement]] = []

        def on_point(point: CrashPoint, rows: Sequence[Row]) -> None:
            if point is CrashPoint.AFTER_COMMIT and any("manual_trade/" in str(values[:1]) for _, values in rows):
                commits.append({statement for statement, _ in rows})

        world.connection.on_point = on_point
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(0.3)
        assert Statement.FILL in commits[0]  # in one commit: never one without the other
        row = only(world, Kind.MANUAL_TRADE)
        assert (row.owner, row.hard, row.closed_ts_ns) == ("operator", False, None)
        assert "buy " in row.detail
        await world.sleep(65)
        assert only(world, Kind.MANUAL_TRADE) == row
        assert world.guard is GuardState.RUNNING  # it is booked, and agrees
        assert not world.state.facts.breaks
        assert ("breaks", {"open": row.name}) in world.said
        status = world.parts.status()
        assert status.open_breaks == {"hard": 0, "soft": 1}
        (shown,) = status.breaks
        assert (shown.name, shown.owner, shown.hard, shown.detail) == (row.name, "operator", False, row.detail)
        assert shown.opened_ts_ns == row.opened_ts_ns
        outcome = await world.parts.operator.reconcile("anna")
        assert (outcome.ok, outcome.exit_code) == (False, 2)
        assert f"break     {row.name} (operator, soft" in outcome.message
        # It stays one over the end of the process.
        await world.crash()
        await world.restart()
        await world.trade(5)
        assert only(world, Kind.MANUAL_TRADE).closed_ts_ns is None
        assert list(world.parts.ledger.open) == [row.name]

        outcome = await world.parts.operator.reconcile("anna", repair=True, reason="hedged by hand")
        assert (outcome.ok, outcome.exit_code) == (True, 0)
        assert f"accepted {row.name}" in outcome.message
        closed = only(world, Kind.MANUAL_TRADE)
        assert closed.resolution == "accepted by anna: hedged by hand"
        assert actions(world)[-1] == ("repair", "hedged by hand", "anna", f"taken: accepted {row.name}")
        # Told of once more, it is not opened again: neither by history nor by the stream.
        trade = next(f for f in world.venue.truth().fills if f.trade_id == row.name.partition("/")[2])
        world.daemon.inbox.post(trade)
        await world.sleep(35)
        assert len(rows_of(world, Kind.MANUAL_TRADE)) == 1
        await world.crash()
        await world.restart()
        await world.trade(5)
        assert not world.parts.ledger.open

    run_world(script, path)


def test_only_what_was_there_when_it_was_asked_is_accepted(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(0.3)
        asked = asyncio.create_task(world.parts.operator.reconcile("anna", repair=True, reason="the first one"))
        await world.sleep(0.02)
        world.venue.manual_trade(Side.SELL, 40)
        outcome = await asked
        assert outcome.exit_code == 2
        first, second = rows_of(world, Kind.MANUAL_TRADE)
        assert first.resolution == "accepted by anna: the first one"
        assert second.closed_ts_ns is None

    run_world(script, path)


def test_a_repair_needs_a_reason(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(0.3)
        asked = [(True, "", ()), (True, " ", ()), (False, "y", ("x",))]
        for repair, reason, cancel in asked:
            outcome = await world.parts.operator.reconcile("anna", repair=repair, reason=reason, cancel=cancel)
            assert outcome.exit_code == 64
        assert only(world, Kind.MANUAL_TRADE).closed_ts_ns is None

    run_world(script, path)


@pytest.mark.parametrize("kind", [ExecKind.LIQUIDATION, ExecKind.ADL])
def test_a_forced_trade_stops_hard_and_stays_open_until_accepted(kind: ExecKind, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        real = world.venue.fills

        async def fills(since: Cursor) -> list[Fill]:
            return [forced(fill) for fill in await real(since)]

        def forced(fill: Fill) -> Fill:
            ours = fill.client_id.startswith("mm")
            return fill if ours else msgspec.structs.replace(fill, exec_kind=kind)

        deliver = world.daemon.inbox.post
        world.venue._deliver = lambda event: deliver(forced(event) if isinstance(event, Fill) else event)
        world.venue.fills = fills
        world.venue.manual_trade(Side.BUY, 40)
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 4)
        await world.until(lambda: not world.venue.resting(), 1)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 15)
        row = only(world, Kind.FORCED_TRADE)
        assert (row.owner, row.hard) == ("operator", True)
        with world.journal() as journal:
            (booked,) = journal.db.execute(
                "SELECT exec_kind, qty_lots FROM fills WHERE exec_kind <> 'trade'"
            ).fetchall()
        assert booked == (kind, 40)
        await world.until(lambda: world.kill is KillState.KILLED, 10)
        assert not (await world.parts.operator.resume("go on", "anna")).ok
        await world.crash()
        await world.restart()
        assert world.state.facts.breaks == (f"{row.name}: {row.detail}",)
        await world.until(lambda: world.kill is KillState.KILLED, 10)
        refused = await world.parts.operator.resume("go on", "anna")
        assert not refused.ok
        assert row.name in refused.message
        assert (await world.parts.operator.reconcile("anna", repair=True, reason="margin added")).exit_code == 0
        assert (await world.parts.operator.resume("go on", "anna")).ok
        await world.until(lambda: world.guard is GuardState.RUNNING, 10)

    run_world(script, path)


# --- venue and books do not agree -------------------------------------------------------------------------------------


def test_a_hard_break_survives_a_restart_and_ends_by_a_clean_round(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.snapshot_off_lots = 3
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 40)
        await world.sleep(0.1)
        row = only(world, Kind.POSITION)
        assert (row.owner, row.hard, row.closed_ts_ns) == ("reconcile", True, None)
        assert "the venue says" in row.detail
        await world.crash()
        await world.restart()
        begun_ns = world.now_ns
        assert world.state.facts.breaks  # before the venue is read at all
        await world.sleep(12)
        assert world.guard is GuardState.RECONCILING
        assert world.venue.increasing_since(begun_ns) == []
        again = only(world, Kind.POSITION)
        assert (again.opened_ts_ns, again.epoch) == (row.opened_ts_ns, row.epoch)
        assert again.last_seen_ts_ns > row.last_seen_ts_ns
        world.venue.snapshot_off_lots = 0
        await world.until(world.is_two_sided_with_position, 30)
        closed = only(world, Kind.POSITION)
        assert closed.closed_ts_ns
        assert closed.resolution == "a whole round did not find it any more"

    run_world(script, path)


def test_a_break_that_nobody_mends_in_time_stops_for_good_and_blocks_a_resume(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.snapshot_off_lots = 3
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 40)
        await world.until(lambda: not world.venue.resting(), 1)
        opened_ns = world.now_ns
        await world.sleep(29)
        assert world.guard is GuardState.SOFT_PAUSE  # still being mended
        assert world.venue.increasing_since(opened_ns) == []
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 25)
        assert "break" in world.parts.status().reasons
        await world.until(lambda: world.kill is KillState.KILLED, 15)
        refused = await world.parts.operator.resume("I say so", "anna")
        assert "position: the venue says" in refused.message
        assert (await world.parts.operator.reconcile("anna")).exit_code == 2
        world.venue.snapshot_off_lots = 0
        assert (await world.parts.operator.reconcile("anna")).exit_code == 0
        assert only(world, Kind.POSITION).closed_ts_ns
        assert (await world.parts.operator.resume("found it", "anna")).ok
        await world.until(lambda: world.guard is GuardState.RUNNING, 10)

    run_world(script, path)


def test_a_fill_that_history_shows_late_is_found_by_reading_further_back(path: Path) -> None:
    """Stream and history both miss it, and rounds agree meanwhile, since the replica is behind with positions too."""

    async def script(world: World) -> None:
        await world.trade()
        world.venue.disconnect(1.5, ("private",))
        begin_ns = world.clock.wall_ns()
        world.venue.hidden_ts_ns = (begin_ns, begin_ns + NS)
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(200)
        assert world.guard is GuardState.RUNNING
        assert not rows_of(world, Kind.POSITION)
        world.venue.hidden_ts_ns = (0, 0)
        await world.sleep(60)
        assert only(world, Kind.POSITION).closed_ts_ns or not rows_of(world, Kind.POSITION)
        assert world.guard is GuardState.RUNNING
        assert world.kill is KillState.ARMED
        await world.parts.operator.pause("test", "test")
        await world.sleep(1)
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path)


def test_what_was_not_agreed_on_is_read_again_however_long_it_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds that do not agree move no cursor: the trade that is missing lies before them."""
    monkeypatch.setattr(reconcile, "_MENDING_OVERLAP_NS", 60 * NS)

    async def script(world: World) -> None:
        await world.trade()
        real = world.venue.fills
        world.venue.disconnect(1.5, ("private",))
        world.venue.manual_trade(Side.BUY, 40)
        missing = world.venue.truth().fills[-1].trade_id

        async def fills(since: Cursor) -> list[Fill]:
            return [fill for fill in await real(since) if fill.trade_id != missing]

        world.venue.fills = fills
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 60)
        await world.sleep(150)
        assert only(world, Kind.POSITION).closed_ts_ns is None
        world.venue.fills = real
        assert (await world.parts.operator.reconcile("anna")).exit_code == 2  # the trade itself waits for a word
        await world.sleep(0.1)
        assert only(world, Kind.POSITION).closed_ts_ns
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path)


@pytest.mark.parametrize("read", ["fills", "bills", "open_orders", "snapshot"])
def test_a_failed_read_closes_nothing_and_is_never_clean(read: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.snapshot_off_lots = 3
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 40)
        world.venue.snapshot_off_lots = 0
        world.venue.failing = {read}
        outcome = await world.parts.operator.reconcile("anna")
        assert (outcome.ok, outcome.exit_code) == (False, 3)
        outcome = await world.parts.operator.reconcile("anna", repair=True, reason="try")
        assert outcome.exit_code == 3
        await world.sleep(60)
        assert only(world, Kind.POSITION).closed_ts_ns is None
        assert world.guard is GuardState.SOFT_PAUSE  # nothing concluded: neither agreed nor unmended
        world.venue.failing = set()
        await world.until(lambda: world.guard is GuardState.RUNNING, 20)
        assert only(world, Kind.POSITION).closed_ts_ns

    run_world(script, path)


def test_a_round_says_what_was_compared(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.parts.operator.pause("test", "test")
        await world.sleep(1)
        outcome = await world.parts.operator.reconcile("anna")
        assert (outcome.ok, outcome.exit_code) == (True, 0)
        await world.sleep(1.1)
        lines = outcome.message.splitlines()
        assert [line.split()[0] for line in lines] == ["orders", "fills", "ledger", "position", "equity", "clean:"]
        (held,) = {part.split()[-1] for part in lines[3].split(",")}
        assert held == world.parts.status().position
        with world.journal() as journal:
            scopes = [scope for (scope,) in journal.db.execute("SELECT scope FROM reconciliations ORDER BY rowid")]
        assert scopes[-1] == "operator"

    run_world(script, path)


def test_the_control_socket_hands_it_on(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        theirs = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "somebody-1")
        handle = handler_of(world.daemon, TOKEN)
        answer = await handle(Request("reconcile", {"repair": False}, "uid 0"), say_nothing)
        assert (answer.ok, answer.exit_code) == (False, 2)
        assert answer.lines[0].startswith("orders")
        assert f"foreign_order/{theirs}" in answer.lines[-1]
        args: dict[str, str | bool] = {"repair": True, "reason": "not ours", "cancel": theirs}
        answer = await handle(Request("reconcile", args, "uid 0", TOKEN.secret), say_nothing)
        assert (answer.ok, answer.exit_code) == (True, 0)
        assert theirs not in world.venue.resting()

    run_world(script, path)


def test_a_new_account_closes_the_breaks_of_the_old_one(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(0.3)
        await world.stop()
        await world.begin(fresh_account=True)
        assert not world.parts.ledger.open
        assert only(world, Kind.MANUAL_TRADE).resolution == "the account is a new one"

    run_world(script, path)


def test_a_venue_begun_anew_is_not_quoted_at_while_it_is_read(path: Path) -> None:
    """It comes back within the gap that would lead to RECONCILING, with another account and none of our orders."""

    async def script(world: World) -> None:
        await world.trade()
        real = world.venue.snapshot

        async def other() -> AccountSnapshot:
            seen = await real()
            return msgspec.structs.replace(seen, position_lots=0, wallet_e10=50_000 * E10, unrealised_e10=0)

        world.venue.disconnect(2.0, ("private",))
        await world.sleep(0.1)
        world.venue._exchange.cancel_all(world.venue._feed.advance(), "gone")
        world.venue.snapshot = other
        await world.until(lambda: world.state.venue.private_up, 3, every_s=0.001)
        assert world.guard is GuardState.RUNNING
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 0.5, every_s=0.001)
        await world.sleep(0.2)
        assert only(world, Kind.POSITION).hard
        begun_ns = world.now_ns
        await world.sleep(20)
        assert world.venue.increasing_since(begun_ns) == []
        assert world.guard is not GuardState.RUNNING

    run_world(script, path)


# --- orders -----------------------------------------------------------------------------------------------------------


def test_an_order_of_another_daemon_is_judged_as_soon_as_it_is_read(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        theirs = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "mmabcd-1-1")
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 7)
        await world.sleep(0.1)
        row = only(world, Kind.SECOND_INSTANCE)
        assert (row.name, row.owner, row.hard) == (f"second_instance/{theirs}", "reconcile", True)

    run_world(script, path, busy(venue__reconcile_orders_s=5.0))


def test_an_orphan_is_a_row_from_first_sight_until_it_is_gone(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        await world.restart()
        await world.trade(5)
        orphan = world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "mmdemo-1-9999")
        landed_ns = world.now_ns
        await world.until(lambda: orphan not in world.venue.resting(), 30)
        await world.until(lambda: [row for row in rows_of(world, Kind.ORPHAN) if row.closed_ts_ns], 15)
        assert world.now_ns - landed_ns < 30 * NS
        row = only(world, Kind.ORPHAN)
        assert (row.name, row.owner, row.hard) == (f"orphan/{orphan}", "reconcile", False)
        assert world.guard is GuardState.RUNNING

    run_world(script, path)


def test_an_orphan_that_will_not_go_stops_for_good(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        await world.restart()
        await world.trade(5)
        real = world.venue.send

        async def send(command: Command) -> None:
            if command.client_id != "mmdemo-1-9999":
                await real(command)

        world.venue.send = send
        world.venue.foreign_order(Side.BUY, world.state.book.bid_px - 600, 7, "mmdemo-1-9999")
        await world.until(lambda: rows_of(world, Kind.ORPHAN), 12)
        opened_ns = world.now_ns
        await world.sleep(25)
        assert world.guard is GuardState.RUNNING  # its quantity is reserved; there is time
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 30)
        assert world.now_ns - opened_ns >= 30 * NS
        assert only(world, Kind.ORPHAN).hard

    run_world(script, path)


def test_an_order_of_others_is_a_row_and_goes_only_when_named(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        bid = world.state.book.bid_px
        kept = world.venue.foreign_order(Side.BUY, bid - 600, 7, "somebody-1")
        named = world.venue.foreign_order(Side.BUY, bid - 601, 7, "somebody-2")
        await world.sleep(15)
        found = rows_of(world, Kind.FOREIGN_ORDER)
        assert [(row.name, row.owner, row.hard) for row in found] == [
            (f"foreign_order/{client_id}", "operator", False) for client_id in (kept, named)
        ]
        assert world.guard is GuardState.RUNNING
        operator = world.parts.operator
        assert (await operator.reconcile("anna")).exit_code == 2
        assert (await operator.reconcile("anna", repair=True, reason="look")).exit_code == 2
        assert {kept, named} <= set(world.venue.resting())

        ours = next(client_id for client_id in world.venue.resting() if client_id.startswith("mmdemo-"))
        refused = await operator.reconcile("anna", repair=True, reason="x", cancel=(named, ours))
        assert refused.exit_code == 2
        assert f"no order of others is open as {ours}" in refused.message
        assert {kept, named} <= set(world.venue.resting())  # all or nothing
        assert actions(world)[-1][3].startswith("refused: no order of others")

        outcome = await operator.reconcile("anna", repair=True, reason="left over", cancel=(named,))
        assert outcome.exit_code == 2
        assert named not in world.venue.resting()
        assert kept in world.venue.resting()
        await world.sleep(0.1)
        assert actions(world)[-1] == ("repair", "left over", "anna", f"taken: cancelling {named}")
        assert {row.name for row in rows_of(world) if row.closed_ts_ns} == {f"foreign_order/{named}"}

    run_world(script, path)


def test_an_order_of_unknown_fate_becomes_a_row_long_after_it_must_have_arrived(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(12)
        lost = await next_place(world, FaultKind.REQUEST_LOST)
        order = world.state.orders.live[lost]
        real_order = world.venue.order
        vague = True

        async def ask(client_id: str) -> OrderReport | Absent:
            answer = await real_order(client_id)
            if vague and client_id == lost:
                terms = (order.side, order.px_ticks, order.qty_lots)
                return OrderReport(lost, *terms, 0, OrderStatus.UNKNOWN, reduce_only=False)
            return answer

        world.venue.order = ask
        await world.until(lambda: rows_of(world, Kind.OVERDUE_ORDER), 60)
        assert world.now_ns - order.created_ns > 16 * NS
        assert order.reserved_lots == order.qty_lots - order.filled_lots
        row = only(world, Kind.OVERDUE_ORDER)
        assert (row.name, row.owner, row.hard) == (f"overdue_order/{lost}", "reconcile", False)
        vague = False
        await world.until(lambda: only(world, Kind.OVERDUE_ORDER).closed_ts_ns, 40)

    run_world(script, path)


# --- what a restart must not forget -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["crash", "stop"])
def test_breaches_of_the_cancel_budget_outlive_the_process(how: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.until(lambda: world.state.budgets.cancel_breaches == 1, 120)
        await world.sleep(0.2)
        await (world.crash() if how == "crash" else world.stop())
        await world.restart()
        assert world.state.budgets.cancel_breaches == 1
        await world.until(lambda: world.state.budgets.cancel_breaches == 2, 200)
        await world.parts.operator.kill("test", "test", say_nothing, wait=True)
        await world.until(lambda: world.kill is KillState.KILLED, 10)
        assert (await world.parts.operator.resume("counted", "test")).ok
        assert world.state.budgets.cancel_breaches == 0
        await world.sleep(0.2)
        await world.crash()
        await world.restart()
        assert world.state.budgets.cancel_breaches == 0

    run_world(
        script,
        path,
        busy(
            venue__amend=False,
            limits__cancels_per_minute=4,
            guard__cancel_breach_pause_s=5.0,
            guard__cancel_breaches_hard=9,
        ),
    )
