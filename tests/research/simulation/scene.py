"""A daemon's core at a venue that does as it is told, with everything that an invariant may look at filled in: a right
world, to be spoiled one thing at a time."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import Event, Fill
from mmdaemon.core.types import NS, ExecKind, Liquidity, OrderStatus, Purpose, Side
from mmdaemon.journal import recovery
from mmdaemon.research.simulation.invariants import Seen, When, broken
from mmdaemon.venues.simulated.records import Truth, VenueOrder
from mmdaemon.venues.simulated.wallet import Wallet
from tests.core.build import BTC, DEFAULT, EQUITY_E10, MID, Desk

PREFIX = "mmabcd-"
WINDOW_NS = 5 * NS


class Watched(Desk):
    """A desk that shows each step to a scene."""

    scene: "Scene"

    def feed(self, event: Event) -> Step:
        step = super().feed(event)
        self.scene.saw(event, step)
        return step


class Scene:
    """`desk` is the core, `seen` what is known of it, `found` the numbers of all that was broken so far."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"
        schema = Path(recovery.__file__).with_name("schema.sql").read_text()
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(schema)
        self.desk = desk = Watched(DEFAULT)
        desk.scene = self
        self.seen = seen = Seen(BTC, PREFIX, self.path, WINDOW_NS)
        self.resting: list[VenueOrder] = []
        seen.venue_resting = self.resting
        seen.truth = Truth([], {}, [], [], Wallet(BTC, EQUITY_E10, Decimal(0), Decimal(0)), 0)
        self.found: list[tuple[int, str]] = []
        self._now()
        seen.started(desk.state, desk.params)
        seen.links_up_since_ns = seen.up_ns
        seen.faults_ended_ns = 1
        desk.start()
        desk.acknowledge()

    def _now(self) -> None:
        self.seen.now_ns = self.desk.now[1]

    def saw(self, event: Event, step: Step) -> None:
        """A step: checked, and carried out."""
        self._now()
        self.seen.event, self.seen.step = event, step
        self.look(When.STEP)
        self.seen.step = NOTHING
        for command in step.commands:
            self.send(command)

    def look(self, when: When) -> list[int]:
        """What is broken at this moment."""
        self._now()
        found = [(invariant.number, what) for invariant, what in broken(when, self.seen)]
        self.found += found
        return [number for number, _ in found]

    # --- the venue ----------------------------------------------------------------------------------------------------

    def send(self, command: Command, *, durable: bool = True) -> None:
        """Send it and have it arrive."""
        seen = self.seen
        if durable and not isinstance(command, Cancel):
            seen.durable_intents.add((command.client_id, getattr(command, "revision", 0)))
        seen.sending(command)
        self.arrive(command)

    def arrive(self, command: Command) -> None:
        seen = self.seen
        seen.command = command
        self.look(When.ARRIVAL)
        there = seen.truth.orders.get(command.client_id)
        if isinstance(command, Place):
            order = VenueOrder(command.client_id, command.side, command.px_ticks, command.qty_lots)
            order.arrived_ns, order.status = seen.now_ns, OrderStatus.LIVE
            seen.truth.orders[command.client_id] = order
            self.resting.append(order)
        elif there is not None and isinstance(command, Amend):
            there.px_ticks, there.qty_lots, there.revision = command.px_ticks, command.qty_lots, command.revision
        elif there is not None:
            self.end(there)
        self.look(When.VENUE)

    def end(self, order: VenueOrder, status: OrderStatus = OrderStatus.CANCELLED) -> None:
        order.status = status
        self.resting.remove(order)

    def fill(self, order: VenueOrder, lots: int, *, client_id: str = "") -> Fill:
        """At the venue only."""
        fill = Fill(
            *self.desk.now,
            f"t{self.desk.next_ordinal()}",
            client_id or order.client_id,
            order.side,
            order.px_ticks,
            lots,
            0,
            Liquidity.MAKER,
            ExecKind.TRADE,
        )
        fill = Fill(*self.desk.now[:2], self.desk.now[1], *[getattr(fill, n) for n in Fill.__struct_fields__[3:]])
        order.filled_lots += lots
        self.seen.truth.fills.append(fill)
        self.seen.truth.wallet.fill(order.side, order.px_ticks, lots, Liquidity.MAKER, Decimal(0))
        self.seen.truth.position_lots += order.side * lots
        if order.filled_lots == order.qty_lots:
            self.end(order, OrderStatus.FILLED)
        return fill

    def journal(self, fill: Fill, *, account: int = 1) -> None:
        worth = BTC.notional_e10(fill.px_ticks, fill.qty_lots)
        values = (account, fill.trade_id, fill.client_id, fill.side, fill.px_ticks, fill.qty_lots, worth, fill.fee_e10)
        self.sql(
            "INSERT INTO fills (venue, symbol, account_epoch, trade_id, instrument_version, epoch, seq, mono_ns, "
            "ts_ns, client_id, side, px_ticks, qty_lots, notional_e10, fee_e10, fee_text, liquidity, exec_kind) "
            "VALUES ('v', 's', ?, ?, 1, 1, 1, 1, 1, ?, ?, ?, ?, ?, ?, '', 'maker', 'trade')",
            *values,
        )

    def sql(self, text: str, *values: object) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(text, values)

    # --- shorthands ---------------------------------------------------------------------------------------------------

    def bid(self) -> VenueOrder:
        return next(order for order in self.resting if order.side is Side.BUY)

    def ask(self) -> VenueOrder:
        return next(order for order in self.resting if order.side is Side.SELL)

    def place(self, name: str = "77", side: Side = Side.BUY, px: int = MID - 300, lots: int = 1) -> Place:
        """An order that nobody decided."""
        return Place(f"{PREFIX}1-{name}", side, px, lots, Purpose.QUOTE, 0, True, False)

    def decided(self, *commands: Command) -> list[int]:
        """The last event is said to have led to these."""
        self.seen.step = Step(commands=commands)
        return self.look(When.STEP)
