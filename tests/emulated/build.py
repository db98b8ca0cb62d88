"""The daemon as it trades: the real ccxt.pro client over loopback TCP, an emulator that speaks Bitget's protocol, and
a journal on disk, in one process and in real time. What is asserted is what the venue's own record says.

Nothing here waits for a fixed time: `Site.until` looks again until something holds, and fails with a picture of the
daemon where it does not.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

from mmdaemon.clock import RealClock
from mmdaemon.core.events import Fill
from mmdaemon.core.types import NS, GuardState, Regime
from mmdaemon.daemon import wire
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.research.simulation.setting import QUIETLY_BUSY, Value
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings import Settings, load
from mmdaemon.venues.ccxt_pro import CcxtVenue
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.stretches import Schedule, Stretch

Kind = Literal["classic", "unified"]
KINDS: tuple[Kind, ...] = ("classic", "unified")
TOXIC: Schedule = ((Stretch.TOXIC, 1e6),)
"""The market that fills near quotes within seconds."""
KEY, SECRET, PASSPHRASE = "bg_demo_key", "demo-secret-that-nobody-shows", "demo-passphrase"
IN_FLIGHT_S = 2.0

BUSY: Mapping[str, Value] = {
    **QUIETLY_BUSY,
    "run.speed": "real",
    "run.mode": "testnet",
    "run.shadow": True,
    "run.crash_loop_starts": 0,
    "journal.durability": "power",
    "venue.in_flight_max_s": IN_FLIGHT_S,
    "venue.ack_check_s": 1.0,
    "venue.request_timeout_s": 1.0,
    "venue.reconcile_orders_s": 2.0,
    "venue.reconcile_position_s": 3.0,
    **{f"regimes.{regime}.spread_min_bps": 0.1 for regime in Regime},
    "quotes.tolerance_min_bps": 0.5,
    # A real clock may stand a minute before midnight: no position is too large for the end of the day.
    "derisk.day_end_position_fraction": 1.0,
}


def credentials() -> Credentials:
    return Credentials(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE))


def settings_for(emulator: Emulator, kind: Kind, **changed: Value) -> Settings:
    """Settings that trade at once. `a__b=1` sets `a.b`."""
    given = {**BUSY, "venue.emulator": emulator.url, "venue.account": kind}
    given |= {path.replace("__", "."): value for path, value in changed.items()}
    return load(None, given, {}).settings


class Site:
    """One emulated venue, and the daemons that come and go at it."""

    def __init__(self, emulator: Emulator, kind: Kind, clock: RealClock, path: Path) -> None:
        self.emulator, self.clock, self.path = emulator, clock, path
        self.kind: Kind = kind
        self.said: list[tuple[str, dict[str, object]]] = []
        self.state_dir: StateDir
        self.daemon_type: type[Daemon] = Daemon
        self.daemon: Daemon
        self.venue: CcxtVenue
        self.running: asyncio.Task[int] | None = None

    async def begin(self, **changed: Value) -> None:
        """Lock the directory, start and run a daemon."""
        settings = settings_for(self.emulator, self.kind, **changed)
        self.state_dir = open_dir(self.path, {}).lock()
        self.venue = cast("CcxtVenue", wire.exchange_of(settings, self.clock, credentials()))
        self.daemon = self.daemon_type(
            settings,
            self.clock,
            self.venue,
            self.state_dir,
            wire.connection_of(settings, self.clock),
            fresh_account=False,
            log=lambda name, fields: self.said.append((name, dict(fields))),
        )
        try:
            await self.daemon.start()
        except BaseException:
            await self.venue.close()
            self.state_dir.release()
            raise
        self.running = asyncio.create_task(self.daemon.run(), name="daemon")

    async def stop(self, reason: str = "the test is over") -> int:
        """Ask it to end and wait until it did. Returns its exit code."""
        assert self.running is not None
        self.daemon.stop(reason)
        code = await self.running
        self.running = None
        self.state_dir.release()
        return code

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def until(self, what: Callable[[], object], within_s: float = 30.0) -> None:
        """Until it holds. Fails with a picture of the daemon when it does not in time."""
        end_ns = self.clock.mono_ns() + round(within_s * NS)
        while not what():
            assert self.running is None or not self.running.done(), f"the daemon ended: {self.picture()}"
            assert self.clock.mono_ns() < end_ns, f"not within {within_s} s: {self.picture()}"
            await asyncio.sleep(0.01)

    async def until_trading(self, fills: int = 1) -> None:
        """Quotes on both sides, a position, and so many fills booked."""
        await self.until(lambda: self.is_quoting() and len(self.venue_fills()) >= fills and self.is_equal(), 60)

    def is_quoting(self) -> bool:
        sides = {order.side for order in self.emulator.account.exchange.matching.live}
        return self.daemon.state.guard.state is GuardState.RUNNING and len(sides) == 2

    def picture(self) -> dict[str, Any]:
        state = self.daemon.state
        return {
            "guard": state.guard.state,
            "reasons": state.guard.active,
            "links": {link.value: why for link, why in self.venue.links.why.items()},
            "orders": {order.client_id: order.status for order in state.orders.live.values()},
            "resting": self.resting(),
            "fills": (len(self.venue_fills()), len(state.position.trade_ids)),
            "breaks": state.facts.breaks,
            "said": self.said[-8:],
        }

    # --- what is true -------------------------------------------------------------------------------------------------

    def venue_fills(self) -> list[Fill]:
        return self.emulator.account.exchange.fills

    def resting(self) -> list[str]:
        return [order.client_id for order in self.emulator.account.exchange.matching.live]

    def is_equal(self) -> bool:
        """Whether position and wallet of our books are the venue's own, to the last digit."""
        ours, wallet = self.daemon.state.position, self.emulator.account.exchange.wallet
        return ours.position_lots == wallet.position_lots and len(ours.trade_ids) >= len(self.venue_fills())

    def journaled(self) -> list[FillRow]:
        """Every fill of every run of this journal."""
        with JournalReader(self.state_dir.journal_path) as reader:
            return [fill for run in reader.runs() for fill in reader.fills(run.epoch)]


@asynccontextmanager
async def site(
    path: Path,
    kind: Kind,
    *,
    seed: int = 7,
    schedule: Schedule = TOXIC,
    faults: Callable[[RealClock, int], Faults] = Faults,
    clock: RealClock | None = None,
    **changed: Any,
) -> AsyncGenerator[Site]:
    """An emulator that runs. `changed` are fields of `EmulatorConfig`."""
    clock = clock or RealClock(asyncio.get_running_loop())
    given: dict[str, Any] = {
        "window_s": IN_FLIGHT_S / 2,
        "maker_rate": Decimal("-0.0001"),
        "book_interval_s": 0.05,
        **changed,
    }
    config = EmulatorConfig(account=kind, api_key=KEY, secret=SECRET, passphrase=PASSPHRASE, **given)
    market = SyntheticMarket(seed=seed, start_ts_ns=clock.wall_ns(), schedule=schedule)
    emulator = Emulator(market, clock, config, faults=faults(clock, seed))
    await emulator.start()
    here = Site(emulator, kind, clock, path)
    try:
        yield here
    finally:
        if here.running is not None:
            await here.stop()
        await emulator.close()
