"""What somebody else does to the account is heard by the position's and the account's push, and not at the next round
of reading: with live orders and a position, over the wire, and the fills' channel muted.

The rounds are as far apart as they may be, so that nothing else reads: whatever is noticed before was heard. How soon
depends on the machine, and is asserted of virtual time (tests/daemon/test_hints.py).
"""

from pathlib import Path

import pytest

from mmdaemon.core.events import AccountHint, LinkChanged, MarketDataRefused, Reconciled
from mmdaemon.core.types import E10, NS, ExecKind, GuardState, Link, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.venues.emulator.sockets import Sockets
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import KINDS, Kind, Site, site
from tests.emulated.invariants import Watch, WatchedDaemon, WatchedFaults

BOTH = pytest.mark.parametrize("kind", KINDS)
RARELY = {
    "venue__reconcile_position_s": 90.0,
    "venue__reconcile_orders_s": 20.0,
    # A request that a slow machine answers late would be looked into, and its fills read by the way.
    "venue__request_timeout_s": 30.0,
    "venue__ack_check_s": 30.0,
}
HEARD_S = 20.0
pytestmark = pytest.mark.timeout(120)


async def trading(here: Site) -> Watch:
    """Quotes on both sides, a position, and a daemon whose every step is looked at."""
    here.daemon_type = WatchedDaemon
    faults = here.emulator.faults
    assert isinstance(faults, WatchedFaults)
    watch = Watch(here, faults)
    await here.begin(**RARELY)
    assert isinstance(here.daemon, WatchedDaemon)
    watch.began(here.daemon)

    def holds() -> bool:
        state = here.daemon.state
        return bool(here.is_quoting() and state.position.position_lots and watch.is_equal() and is_hinted(watch))

    await here.until(holds, 60)
    return watch


def is_hinted(watch: Watch) -> bool:
    return any(isinstance(event, AccountHint) and event.position_lots for event in watch.told)


def rounds(watch: Watch) -> int:
    """That were read for a hint, to their end: what they find is booked before that."""
    return sum(isinstance(event, Reconciled) and event.scope == "hint" for event in watch.told)


def journaled_rounds(here: Site) -> int:
    """The same, by the journal."""
    with JournalReader(here.state_dir.journal_path) as reader:
        return reader.db.execute("SELECT count(*) FROM reconciliations WHERE scope = 'hint'").fetchone()[0]


def refused(watch: Watch) -> list[str]:
    return [event.reason for event in watch.told if isinstance(event, MarketDataRefused)]


def downs(watch: Watch) -> int:
    return sum(isinstance(event, LinkChanged) and event.link is Link.PRIVATE and not event.up for event in watch.told)


@BOTH
async def test_a_manual_trade_is_heard_although_its_fill_is_not(tmp_path: Path, kind: Kind) -> None:
    """Without hints it is not, until the next round."""
    async with site(tmp_path, kind, faults=WatchedFaults) as here:
        watch = await trading(here)
        here.emulator.faults.inject(Wrong.FRAME_LOST, count=1, where="private fills")
        here.emulator.outside.manual_trade(Side.BUY, 30)
        (trade,) = [fill for fill in here.venue_fills() if not fill.client_id.startswith("mm")]
        ours = here.daemon.state.position
        assert trade.trade_id not in ours.trade_ids
        await here.until(lambda: trade.trade_id in ours.trade_ids, HEARD_S)
        await here.until(watch.is_equal, 20)
        await here.until(lambda: rounds(watch), 20)
        assert await here.stop() == 0
        assert sum(fill.trade_id == trade.trade_id for fill in here.journaled()) == 1
        assert not watch.broken
        assert journaled_rounds(here) == rounds(watch)


@BOTH
async def test_a_liquidation_whose_fills_are_lost_stops_it_at_once(tmp_path: Path, kind: Kind) -> None:
    async with site(tmp_path, kind, faults=WatchedFaults) as here:
        watch = await trading(here)
        here.emulator.faults.inject(Wrong.FILLS_LOST, seconds=20.0)
        here.emulator.faults.inject(Wrong.ORDERS_LOST, seconds=20.0)
        here.emulator.outside.liquidate()
        (trade,) = [fill for fill in here.venue_fills() if fill.exec_kind is ExecKind.LIQUIDATION]
        await here.until(lambda: trade.trade_id in here.daemon.state.position.trade_ids, HEARD_S)
        await here.until(lambda: here.daemon.state.guard.state is GuardState.HARD_STOP, HEARD_S)
        await here.until(lambda: not watch.own_resting(), HEARD_S)
        assert not watch.broken


@BOTH
async def test_money_that_leaves_is_heard(tmp_path: Path, kind: Kind) -> None:
    """Of a transfer there is no push but the wallet's, and the ledger is read each five minutes."""
    async with site(tmp_path, kind, faults=WatchedFaults) as here:
        watch = await trading(here)
        here.emulator.outside.transfer(-100 * E10)
        await here.until(lambda: here.daemon.state.position.transfers_e10 == -100 * E10, HEARD_S)
        await here.until(watch.is_equal, 20)
        assert not watch.broken


@BOTH
async def test_a_leverage_set_by_hand_is_heard(tmp_path: Path, kind: Kind) -> None:
    """The facts are read each minute."""
    async with site(tmp_path, kind, faults=WatchedFaults) as here:
        watch = await trading(here)
        facts_ns = here.daemon.parts.guard._facts_ns
        await here.until(lambda: here.clock.mono_ns() > facts_ns + 6 * NS, 10)
        here.emulator.outside.change_facts(leverage=3)
        await here.until(lambda: here.daemon.state.guard.state is GuardState.HARD_STOP, HEARD_S + 1)
        assert "account_facts" in here.daemon.parts.status().reasons
        await here.until(lambda: not watch.own_resting(), HEARD_S)
        assert not watch.broken


@BOTH
async def test_positions_that_cannot_be_read_are_refused_and_the_stream_goes_on(tmp_path: Path, kind: Kind) -> None:
    """Begun anew, it would say the same: as often as the venue lets it."""
    async with site(tmp_path, kind, faults=WatchedFaults) as here:
        watch = await trading(here)
        connections, fills = len(here.emulator.connections), len(here.venue_fills())
        here.emulator.faults.inject(Wrong.FRAME_MISTYPED, seconds=120.0, where="private positions")
        here.emulator.faults.inject(Wrong.FRAME_MISTYPED, seconds=120.0, where="private account")
        await here.until(lambda: len(here.venue_fills()) > fills + 3, 60)
        await here.until(lambda: {"positions:malformed", "account:malformed"} <= {*refused(watch)}, HEARD_S)
        await here.until(watch.is_equal, 20)
        assert downs(watch) == 0
        assert len(here.emulator.connections) == connections
        assert not watch.broken


@BOTH
async def test_while_all_agrees_hints_cost_no_request(tmp_path: Path, kind: Kind) -> None:
    async with site(tmp_path, kind, faults=WatchedFaults) as here:
        watch = await trading(here)
        fills = len(here.venue_fills())
        await here.until(lambda: len(here.venue_fills()) > fills + 12, 60)
        told = [event for event in watch.told if isinstance(event, AccountHint)]
        assert any(event.wallet_e10 for event in told)
        assert sum(event.position_lots is not None for event in told) > 6
        assert await here.stop() == 0
        # A process that stands still between hint and fill may read once; each hint read would be a dozen.
        assert journaled_rounds(here) <= 2


# --- subscriptions ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("says_which", [True, False])
async def test_an_account_that_is_refused_its_hints_trades_all_the_same(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch, says_which: bool
) -> None:
    """ccxt rejects every subscription of the connection for one: it would never be up."""
    if not says_which:
        refuse = Sockets._refuse
        monkeypatch.setattr(Sockets, "_refuse", lambda it, on, code, text, _arg: refuse(it, on, code, text, None))
    async with site(tmp_path, kind) as here:
        for where in ("private subscribe positions", "private subscribe account"):
            here.emulator.faults.inject(Wrong.SUBSCRIBE_REFUSED, seconds=60.0, where=where)
        await here.begin(venue__request_timeout_s=5.0)  # a connection that is slow to begin is not begun again
        await here.until_trading(fills=3)
        assert here.emulator.faults.seen[Wrong.SUBSCRIBE_REFUSED] == 2
        assert len([each for each in here.emulator.connections if each.private]) == 1
        names = {"position" if kind == "unified" else "positions", "account"}
        assert {f"{name}:subscription" for name in names} <= here.daemon.state.book.refused.keys()
        # On a new connection it is asked again, once each.
        here.emulator.outside.close_sockets("private")
        await here.until(lambda: here.emulator.faults.seen[Wrong.SUBSCRIBE_REFUSED] == 4, 20)
        await here.until_trading(fills=5)
        assert len([each for each in here.emulator.connections if each.private]) == 2
        assert await here.stop() == 0
