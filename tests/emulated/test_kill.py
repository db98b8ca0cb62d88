"""The kill switch over the wire, with live orders and a position: what rests is read from the venue's own record."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from mmdaemon.core.types import GuardState, KillState, Side
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.rows import OrderRow
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import KINDS, Kind, Site, site
from tests.emulated.kills import kills, resume, trading

_PLACING = ("/place-order", "/batch-place-order", "/place-batch", "/modify-order")


async def until_exposed(here: Site) -> None:
    """Orders on both sides, and a position."""
    await here.until(lambda: here.is_quoting() and here.emulator.account.position() is not None, 60)


def by_hand(here: Site, client_id: str = "") -> OrderRow:
    """Somebody else's order, far from the market."""
    px_ticks = round(here.emulator.account.mark_px_ticks() * 0.99)
    return here.emulator.outside.foreign_order(Side.BUY, px_ticks, 20, client_id)


def placed(here: Site) -> int:
    """Orders and amendments that came, whatever was said to them."""
    return sum(seen.path.endswith(_PLACING) and '"reduceOnly"' not in seen.body for seen in here.emulator.requests)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_goes_wrong_nothing_rests_and_nothing_lands_after_it_was_verified(
    tmp_path: Path, kind: Kind
) -> None:
    """Ten of the rounds of `python -m tests.bench.wire_kills`, which has the figures."""
    async with trading(tmp_path, kind, seed=7) as here:
        rounds = await kills(here, 10, seed=7)
        assert [each for each in rounds if each.resting or each.after_verified] == []
        assert sum(bool(each.rested and each.position_lots) for each in rounds) >= 5
        assert len({trouble for each in rounds for trouble in each.troubles}) > 4
        assert not here.emulator.defects


@pytest.mark.parametrize("kind", KINDS)
async def test_the_whole_symbol_is_emptied_of_orders_by_hand_too_and_the_stop_stays(tmp_path: Path, kind: Kind) -> None:
    async with trading(tmp_path, kind, seed=7) as here:
        await until_exposed(here)
        await here.until(lambda: here.emulator.account.stop_px_ticks() is not None)
        by_hand(here)
        by_hand(here, "a-person-1")
        here.daemon.parts.kill_switch.trip("test")
        await here.daemon.parts.kill_switch.wait_for(KillState.KILLED)
        assert here.resting() == []
        account = here.emulator.account
        await here.until(lambda: (account.position() is None) == (account.stop_px_ticks() is None))


class _Watched(Faults):
    """Notes of each request whether the gate was closed by then."""

    here: Site
    seen_by_gate: Counter[tuple[str, bool]]

    async def on_request(self, request: web.Request, path: str) -> web.StreamResponse | None:
        self.seen_by_gate[path, bool(self.here.daemon.gate.closed_because)] += 1
        return await super().on_request(request, path)


async def test_it_is_still_killed_after_a_restart_and_knows_it_before_anything_is_asked_of_the_venue(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, "unified", faults=_Watched) as here:
        watched = here.emulator.faults
        assert isinstance(watched, _Watched)
        watched.here, watched.seen_by_gate = here, Counter()
        await here.begin()
        await until_exposed(here)
        # Ends while it is at work: the next one goes on from there.
        here.daemon.parts.kill_switch.trip("test")
        await here.daemon.parts.kill_switch.wait_for(KillState.QUIET)
        await here.stop()
        watched.seen_by_gate.clear()
        by_hand(here)
        before, sockets = placed(here), len(here.emulator.connections)
        await here.begin()
        assert here.daemon.parts.kill_switch.kill_state is not KillState.ARMED
        await here.daemon.parts.kill_switch.wait_for(KillState.KILLED)
        assert here.resting() == []
        assert {closed for _, closed in watched.seen_by_gate} == {True}
        assert here.daemon.state.guard.state is GuardState.HARD_STOP
        await here.until(lambda: len(here.emulator.connections) > sockets)
        assert placed(here) == before
        # What nobody can read is no clean reconcile, and a resume has one first.
        watched.inject(Wrong.READS_FAIL, seconds=30.0)
        refused = await here.daemon.parts.operator.resume("looked at", "a person")
        assert (refused.ok, "could not be read" in refused.message) == (False, True), refused.message
        assert (here.daemon.parts.kill_switch.kill_state, bool(here.daemon.gate.closed_because)) == (
            KillState.KILLED,
            True,
        )
        watched.clear()
        reads = here.emulator.requests[-1].at_ms
        await resume(here, "looked at again")
        await until_exposed(here)
        asked = [seen.path for seen in here.emulator.requests if seen.at_ms > reads]
        first_order = next(at for at, path in enumerate(asked) if path.endswith(_PLACING))
        assert {"unfilled-orders", "fills", "current-position"} <= {
            path.rpartition("/")[2] for path in asked[:first_order]
        }


@pytest.mark.parametrize("kind", KINDS)
async def test_in_a_storm_of_too_many_requests_it_makes_none_of_its_own_and_gets_through(
    tmp_path: Path, kind: Kind
) -> None:
    async with trading(tmp_path, kind, seed=7) as here:
        await until_exposed(here)
        here.emulator.faults.inject(Wrong.RATE_LIMIT_TEXT, seconds=2.0)
        before = here.venue.lanes.sent.copy()
        begun_ns = here.clock.mono_ns()
        killing = here.daemon.parts.kill_switch
        killing.trip("test")
        await killing.wait_for(KillState.KILLED)
        took_s = (here.clock.mono_ns() - begun_ns) / 1e9
        assert here.resting() == []
        assert killing.progress.failed_reads > 0
        sent = here.venue.lanes.sent - before
        assert max(count for path, count in sent.items() if "cancel" in path) <= 8 * (took_s + 1)
        # Nothing of the storm is left to be sent: whoever comes next does not wait behind it.
        assert here.venue.lanes.in_flight <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("off_s", [40, -40])
async def test_a_clock_that_the_venue_refuses_keeps_no_cancel_from_it_and_lets_no_order_through(
    tmp_path: Path, kind: Kind, off_s: int
) -> None:
    async with trading(tmp_path, kind, seed=7) as here:
        await until_exposed(here)
        account = here.emulator.account
        account.skew_ms = 1_000 * off_s
        landed = {row.order_id for row in account.all_orders()}
        here.daemon.parts.kill_switch.trip("test")
        await here.daemon.parts.kill_switch.wait_for(KillState.KILLED)
        assert here.resting() == []
        assert {row.order_id for row in account.all_orders()} == landed


async def test_a_network_that_is_gone_for_a_while_only_puts_it_off(tmp_path: Path) -> None:
    async with trading(tmp_path, "unified", seed=7) as here:
        await until_exposed(here)
        here.emulator.faults.inject(Wrong.CONNECTION_REFUSED, seconds=1.0)
        await asyncio.sleep(0)
        killing = here.daemon.parts.kill_switch
        killing.trip("test")
        assert here.resting() != []
        await killing.wait_for(KillState.KILLED)
        assert here.resting() == []
        assert killing.progress.failed_reads > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", [Wrong.REQUEST_LOST, Wrong.ANSWER_LOST])
async def test_no_cancel_and_no_read_waits_for_an_answer_that_does_not_come(
    tmp_path: Path, kind: Kind, lost: Wrong
) -> None:
    """The cancel of the symbol is never answered, nor is the first read: all is over before either was given up."""
    async with trading(tmp_path, kind, seed=7, venue__request_timeout_s=20.0) as here:
        await until_exposed(here)
        cancel, read = (
            ("cancel-symbol-order", "unfilled-orders") if kind == "unified" else ("batch-cancel", "orders-pending")
        )
        here.emulator.faults.inject(lost, seconds=60.0, where=cancel)
        here.emulator.faults.inject(lost, count=3, where=read)  # a round of reading may take one of them
        here.daemon.parts.kill_switch.trip("test")
        await here.daemon.parts.kill_switch.wait_for(KillState.VERIFIED)
        assert here.resting() == []
        assert here.daemon.parts.kill_switch.progress.failed_reads >= 1
        assert not [why for _, why in here.venue.lanes.unanswered if why == "timeout"]
        here.emulator.faults.clear()
