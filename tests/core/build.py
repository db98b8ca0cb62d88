"""What the tests of the core are made of: parameters from the settings, facts with growing time, a running state, and
a venue that does at once what it is asked."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mmdaemon.core import engine, orders
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.decision import DecisionInputs, DeriskStage
from mmdaemon.core.engine import Step
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    BillKind,
    BookUpdate,
    Event,
    FeeSchedule,
    Fill,
    FundingRate,
    HealthFacts,
    KillChanged,
    LinkChanged,
    MarketDataRefused,
    MarkPrice,
    OperatorAction,
    OrderAdopted,
    OrderUpdate,
    Reconciled,
    RequestFailed,
    SignalReceived,
    SignalRefused,
    SourceChanged,
    SourceEnded,
    Started,
    StopRequested,
    TaskDied,
    TimerFired,
    TradePrint,
)
from mmdaemon.core.guard import TRANSITIONS, Transition
from mmdaemon.core.params import Params, SignalsParams, SourceParams
from mmdaemon.core.signals import NONE, Kind
from mmdaemon.core.state import State, new_state
from mmdaemon.core.types import (
    E10,
    NS,
    ExecKind,
    GuardState,
    Instrument,
    KillState,
    Link,
    Liquidity,
    OrderStatus,
    Purpose,
    Regime,
    Side,
)
from mmdaemon.settings import Settings

BTC = Instrument.of(
    venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000, min_notional_e10=5 * E10
)
"""Tick 0.1, lot 0.0001: at `MID` a lot is worth 6.5 quote, and the least order one lot."""
MID = 650_000
EQUITY_E10 = 100_000 * E10
T0_NS = 1_000 * NS
WALL_NS = 1_790_000_000 * NS + 7_200 * NS
"""Wall time less monotonic time: a quiet hour, far from midnight and from a settlement."""
DAY_NS = 86_400 * NS
QUOTING = (GuardState.RUNNING, GuardState.REDUCING)


_COLUMNS = (
    "spread_min_bps",
    "spread_max_bps",
    "levels_min",
    "levels_max",
    "refresh_s",
    "order_size_fraction",
    "skew_gain",
)
LADDER: dict[str, dict[str, float]] = {
    # Calm and middle alike: a desk begins in the middle, because nothing is known, and tests count on one row.
    regime: dict(zip(_COLUMNS, row, strict=True))
    for regime, row in {
        "neutral_low_vol": (5.0, 30.0, 1, 3, 60.0, 0.0010, 0.5),
        "neutral_high_vol": (5.0, 30.0, 1, 3, 60.0, 0.0010, 0.5),
        "up": (7.0, 35.0, 1, 3, 45.0, 0.0008, 0.8),
        "down": (7.0, 35.0, 1, 3, 45.0, 0.0008, 0.8),
        "high_vol_shock": (20.0, 100.0, 1, 2, 30.0, 0.0005, 0.5),
    }.items()
}


PINNED: dict[str, dict[str, float]] = {
    "signal": {"print_weight": 0.0},
    "quotes": {"band_gain": 0.5, "tolerance_min_bps": 0.5},
    "cost": {"min_edge_bps": 1.0, "inventory_half_life_s": 1_200.0},
    "limits": {"cancels_per_minute": 300},
}


SIGNALS = SignalsParams(
    sources={
        name: SourceParams(tuple(Kind), shadow, 0.2, 10 * NS, 600 * NS, 50)
        for name, shadow in (("desk", False), ("model", False), ("watcher", True))
    }
    | {"narrow": SourceParams((Kind.PAUSE,), False, 0.0, 10 * NS, 600 * NS, 50)},
    future_max_ns=NS,
    target_max=0.5,
    direction_cap_bps=1.0,
    size_min=0.25,
    spread_max=3.0,
)


def modest(examples: int = 50) -> settings:
    """Examples that keep a file within seconds, with no wall clock in the verdict."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def params(
    preset: Literal["tight", "desk"] = "tight",
    *,
    instrument: Instrument = BTC,
    can_amend: bool = True,
    shadow: bool = True,
    **sections: Any,
) -> Params:
    """Parameters as the daemon makes them: defaults, a preset, and sections over it (`quotes={"resume_s": 5.0}`).

    What `tight` sets is pinned to `LADDER` and `PINNED`: a calibration must not be a change of these tests.
    """
    if preset == "tight":
        over = sections.get("regimes", {})
        sections["regimes"] = {regime: {**row, **over.get(regime, {})} for regime, row in LADDER.items()}
        sections |= {table: {**pinned, **sections.get(table, {})} for table, pinned in PINNED.items()}
    sections["run"] = {"shadow": shadow, **sections.get("run", {})}
    made = Settings(preset=preset, **sections).to_params(instrument, "abcd", 1, can_amend=can_amend)
    return msgspec.structs.replace(made, signals=SIGNALS)


DEFAULT = params()


class Desk:
    """A state, its parameters and a clock that only moves by `wait`. Facts are made at `now_ns` and stepped through
    the engine with the shadow on, and what must hold of every step is checked."""

    def __init__(self, p: Params = DEFAULT, *, equity_e10: int = EQUITY_E10, now_ns: int = T0_NS) -> None:
        self.params = p
        self.state: State = new_state(p, equity_e10)
        self.now_ns = now_ns
        self.wall_ns = WALL_NS
        self.bid = MID - 5
        self.ask = MID + 5
        self.mark_px = MID
        self.ordinal = 0
        self.transitions: list[Transition] = []
        self.commands: list[Command] = []
        self.log: list[tuple[Event, Step]] = []

    # --- time and steps ---

    @property
    def now(self) -> tuple[int, int, None]:
        return self.now_ns, self.now_ns + self.wall_ns, None

    def wait(self, seconds: float) -> "Desk":
        self.now_ns += round(seconds * NS)
        return self

    def next_ordinal(self) -> int:
        self.ordinal += 1
        return self.ordinal

    def feed(self, event: Event) -> Step:
        before = self.guard
        step = engine.step(self.state, event, self.params)
        if step.transition is not None:
            assert (step.transition.before, step.transition.after) in TRANSITIONS, step.transition
            self.transitions.append(step.transition)
        elif self.guard is not before:
            raise AssertionError(f"the guard went from {before} to {self.guard} and said nothing")
        self.commands.extend(step.commands)
        self.log.append((event, step))
        check_commands(self.state, step)
        return step

    def all_of(self, *events: Event) -> list[Command]:
        return [command for event in events for command in self.feed(event).commands]

    # --- what is looked at ---

    @property
    def guard(self) -> GuardState:
        return self.state.guard.state

    @property
    def reasons(self) -> set[str]:
        from mmdaemon.core.reasons import reasons_of

        return {str(reason) for reason in reasons_of(self.state.guard.active)}

    @property
    def live(self) -> list[orders.WorkingOrder]:
        return list(self.state.orders.live.values())

    # --- facts ---

    def book(
        self, bid: int | None = None, ask: int | None = None, bid_qty: int = 1_000, ask_qty: int = 1_000
    ) -> BookUpdate:
        self.bid = self.bid if bid is None else bid
        self.ask = self.ask if ask is None else ask
        bids = tuple((self.bid - i, bid_qty) for i in range(5))
        asks = tuple((self.ask + i, ask_qty) for i in range(5))
        return BookUpdate(*self.now, bids, asks)

    def timer(self) -> TimerFired:
        return TimerFired(*self.now, "sample")

    def mark(self, px_ticks: int | None = None) -> MarkPrice:
        if px_ticks:
            self.mark_px = px_ticks  # the venue has one mark: the account is valued at it too
        return MarkPrice(*self.now, self.mark_px if px_ticks is None else px_ticks)

    def trade(self, px_ticks: int, qty_lots: int = 10, aggressor: Side | None = Side.SELL) -> TradePrint:
        return TradePrint(*self.now, px_ticks, qty_lots, aggressor)

    def fees(self, maker_rate: float = 0.0002, taker_rate: float = 0.0006) -> FeeSchedule:
        return FeeSchedule(*self.now, maker_rate, taker_rate, "test")

    def funding(self, rate: float = 0.0, due_s: float = 259_200.0, interval_s: int = 28_800) -> FundingRate:
        return FundingRate(*self.now, rate, self.now[1] + round(due_s * NS), interval_s)

    def account(self, equity_e10: int = EQUITY_E10, available_e10: int | None = None) -> AccountSnapshot:
        available = equity_e10 if available_e10 is None else available_e10
        return AccountSnapshot(
            *self.now[:2], self.now[1], self.state.position.position_lots, equity_e10, 0, available, self.mark_px
        )

    def health(
        self,
        lag_s: float | None = 0.0,
        offset_s: float | None = 0.0,
        journal_s: float | None = 0.0,
        failed: bool = False,
        facts_ok: bool | None = True,
        bare_s: float = 0.0,
    ) -> HealthFacts:
        return HealthFacts(*self.now, lag_s, offset_s, journal_s, failed, facts_ok, bare_s)

    def link(self, name: str, up: bool) -> LinkChanged:
        return LinkChanged(*self.now, Link(name), up)

    def reconciled(self, *breaks: str) -> Reconciled:
        return Reconciled(*self.now, "periodic", breaks, self.state.position.position_lots)

    def operator(self, action: str, reason: str = "test") -> OperatorAction:
        return OperatorAction(*self.now, action, reason, "tester")

    def signal(
        self,
        kind: str = "target_inventory",
        value: float | str = 0.5,
        *,
        source: str = "desk",
        confidence: float = 1.0,
        age_s: float = 0.0,
        ttl_s: float = 30.0,
        sequence: int | None = None,
        version: int = 1,
        restored: bool = False,
    ) -> SignalReceived:
        said_ns = self.now[1] - round(age_s * NS)
        number = self.next_ordinal() if sequence is None else sequence
        return SignalReceived(*self.now, source, kind, value, confidence, said_ns, ttl_s, number, version, restored)

    def fill(
        self, side: Side, qty_lots: int, px_ticks: int = MID, client_id: str = "elsewhere", fee_e10: int = 0
    ) -> Fill:
        return Fill(
            *self.now,
            f"t{self.next_ordinal()}",
            client_id,
            side,
            px_ticks,
            qty_lots,
            fee_e10,
            Liquidity.MAKER,
            ExecKind.TRADE,
        )

    def bill(self, kind: BillKind, amount_e10: int) -> Bill:
        return Bill(*self.now, f"b{self.next_ordinal()}", kind, amount_e10)

    def update(
        self, client_id: str, status: OrderStatus, cum_lots: int | None = None, reason: str = "", **in_force: int
    ) -> OrderUpdate:
        return OrderUpdate(
            *self.now,
            client_id,
            status,
            cum_lots,
            in_force.get("px_ticks"),
            in_force.get("qty_lots"),
            in_force.get("revision"),
            reason,
        )

    # --- a day's work ---

    def start(self) -> "Desk":
        """Everything a daemon learns in its first second, and the wait until the guard lets go: RUNNING."""
        self.learn()
        assert self.guard is GuardState.RUNNING, self.reasons
        return self

    def learn(self) -> "Desk":
        """`start`, wherever it leads."""
        self.all_of(
            Started(*self.now, 1, False),
            self.link("public", True),
            self.link("private", True),
            self.fees(),
            self.funding(),
            self.mark(),
            self.account(),
            self.health(),
            self.book(),
            self.timer(),
            self.reconciled(),
        )
        self.seconds(self.params.guard.soft_clear_ns / NS + 1)
        return self

    def seconds(self, n: float) -> list[Command]:
        """Let whole seconds pass in good health: measurements, a book and the timer in each."""
        sent: list[Command] = []
        for _ in range(max(1, round(n))):
            sent += self.wait(1.0).healthy_second()
        return sent

    def date_passes(self, ns: int) -> None:
        """UTC goes on by so much, and the clock was read since: to the core it is no step."""
        self.wall_ns += ns
        self.feed(self.health())

    def healthy_second(self) -> list[Command]:
        return self.all_of(self.health(), self.account(), self.reconciled(), self.book(), self.timer())

    def acknowledge(self) -> list[Command]:
        """The venue takes everything that was sent. Returns what the core sends in answer."""
        sent: list[Command] = []
        for order in self.live:
            if order.status in (OrderStatus.NEW, OrderStatus.SENT):
                sent += self.feed(self.update(order.client_id, OrderStatus.LIVE, 0)).commands
        return sent

    def hold(self, position_lots: int, px_ticks: int = MID) -> "Desk":
        """Come to hold a position, by one fill of an order that the core does not know."""
        off = position_lots - self.state.position.position_lots
        if off:
            self.feed(self.fill(Side.BUY if off > 0 else Side.SELL, abs(off), px_ticks))
        return self


def running(p: Params = DEFAULT, **begin: Any) -> Desk:
    """A desk in good health, with its first ladder sent and acknowledged."""
    desk = Desk(p, **begin).start()
    desk.acknowledge()
    return desk


def check_commands(state: State, step: Step) -> None:
    """What must hold of everything that goes out, whatever came in."""
    if not step.commands:
        return
    assert state.decision is not None
    cap_lots = state.decision.max_position_lots
    for command in step.commands:
        if isinstance(command, Cancel):
            continue
        assert state.guard.state in QUOTING, (state.guard.state, command)
        order = state.orders.live[command.client_id]  # reserved the moment it was emitted
        assert order.reserved_lots >= command.qty_lots - order.filled_lots
        worst = orders.worst_case_lots(state.orders, state.position.position_lots, order.side)
        if order.purpose is Purpose.DERISK:
            # Whatever of all that may fill on that side does fill, the position is at most brought to nothing.
            assert worst <= 0, (worst, state.position.position_lots, command)
            assert order.side * state.position.position_lots < 0, (state.position.position_lots, command)
            assert order.reduce_only, command
            assert not isinstance(command, Place) or command.post_only is not command.ioc, command
        elif isinstance(command, Place):
            assert worst <= cap_lots, (worst, cap_lots, command)
    assert (state.orders.reserved_buy_lots, state.orders.reserved_sell_lots) == orders.reserved_full(state.orders)


class IdealVenue:
    """Does at once what it is asked, and fills a resting order whole when the opposite touch reaches it. What takes
    gets all it asks for at the touch."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.resting: dict[str, list[int]] = {}
        """Id -> [side, px_ticks, qty_lots, revision]."""
        self.fills = 0

    def answer(self, commands: Iterable[Command]) -> list[Step]:
        """Carry out, and whatever the core sends in answer too, until it is quiet."""
        steps: list[Step] = []
        waiting = list(commands)
        while waiting:
            command = waiting.pop(0)
            events = self._taken(command) if isinstance(command, Place) and command.ioc else [self._outcome(command)]
            for event in events:
                step = self.desk.feed(event)
                steps.append(step)
                waiting += step.commands
        return steps

    def _taken(self, command: Place) -> list[Event]:
        desk = self.desk
        edge = desk.ask if command.side is Side.BUY else desk.bid
        if command.side * (command.px_ticks - edge) < 0:
            return [desk.update(command.client_id, OrderStatus.CANCELLED, 0, "ioc")]
        self.fills += 1
        return [
            desk.fill(command.side, command.qty_lots, edge, command.client_id),
            desk.update(command.client_id, OrderStatus.FILLED, command.qty_lots),
        ]

    def _outcome(self, command: Command) -> Event:
        desk = self.desk
        if not isinstance(command, Place) and command.client_id not in self.resting:
            return RequestFailed(*desk.now, command.client_id, type(command).__name__.lower(), "no such order")
        match command:
            case Place():
                edge = desk.ask if command.side is Side.BUY else desk.bid
                if command.side * (command.px_ticks - edge) >= 0:
                    return desk.update(command.client_id, OrderStatus.REJECTED, 0, "post_only")
                self.resting[command.client_id] = [command.side, command.px_ticks, command.qty_lots, 0]
                return desk.update(command.client_id, OrderStatus.LIVE, 0)
            case Amend():
                order = self.resting[command.client_id]
                order[1:] = [command.px_ticks, command.qty_lots, command.revision]
                return desk.update(
                    command.client_id,
                    OrderStatus.LIVE,
                    0,
                    px_ticks=command.px_ticks,
                    qty_lots=command.qty_lots,
                    revision=command.revision,
                )
            case Cancel():
                del self.resting[command.client_id]
                return desk.update(command.client_id, OrderStatus.CANCELLED, 0)

    def move(self, bid: int, ask: int, **qty: int) -> list[Step]:
        """The touch moves: resting orders that it reaches are filled, then the book is seen."""
        desk = self.desk
        steps: list[Step] = []
        for client_id, (side, px, lots, _) in list(self.resting.items()):
            if client_id not in self.resting:
                continue
            if (side == Side.BUY and ask <= px) or (side == Side.SELL and bid >= px):
                del self.resting[client_id]
                self.fills += 1
                fee_e10 = round(desk.params.instrument.notional_e10(px, lots) * 0.0002)
                step = desk.feed(desk.fill(Side(side), lots, px, client_id, fee_e10))
                done = desk.feed(desk.update(client_id, OrderStatus.FILLED, lots))
                steps += [step, done]
                steps += self.answer([*step.commands, *done.commands])
        step = desk.feed(desk.book(bid, ask, **qty))
        return [*steps, step, *self.answer(step.commands)]


# --- any event at all -------------------------------------------------------------------------------------------------


class What(msgspec.Struct, frozen=True):
    """One thing that happens, after a wait; printed as it is when an example fails."""

    wait_s: float
    kind: str
    n: tuple[Any, ...]


def _fact(d: Desk, kind: str, n: tuple[Any, ...]) -> Event:
    match kind, n:
        case "book", (off, width, bid_qty, ask_qty):
            return d.book(MID + off, MID + off + width, bid_qty, ask_qty)
        case "thin_book", (has_bids, has_asks):
            return BookUpdate(*d.now, ((d.bid, 5),) if has_bids else (), ((d.ask, 5),) if has_asks else ())
        case "trade", (off, lots, side):
            return d.trade(d.bid + off, lots, side)
        case "mark", (off,):
            return d.mark(MID + off)
        case "no_mark", ():
            return d.mark(0)
        case "timer", ():
            return d.timer()
        case "bar", (off, high):
            opened_ns = d.now[1] // (60 * NS) * 60 * NS - 60 * NS
            low, close = MID - high - abs(off), MID - abs(off)
            return BarClosed(*d.now, opened_ns, MID, MID + high, low, close, 1, "venue")
        case "update", (i, status, cum, qty, revision):
            why = "post_only" if i % 2 else "margin"
            return OrderUpdate(*d.now, _id(d, i), status, cum, None, qty, revision, why)
        case "request_failed", (i, request):
            return RequestFailed(*d.now, _id(d, i), request, "too late")
        case "adopted", (side, off, lots, purpose, status):
            client_id = f"mmabcd-0-{d.next_ordinal()}"
            return OrderAdopted(*d.now, client_id, side, MID + off, lots, lots // 3, purpose, False, status)
        case "fill", (i, lots, off):
            return d.fill(_side(d, i), lots, MID + off, _id(d, i))
        case "fill_again", ():
            again = d.fill(Side.BUY, 3)
            return msgspec.structs.replace(again, trade_id="t1", exec_kind=ExecKind.LIQUIDATION)
        case "bill", (bill_kind, quote):
            return d.bill(bill_kind, quote * E10)
        case "funding", (rate, due_s):
            return d.funding(rate, due_s)
        case "fees", (maker, taker):
            return d.fees(maker, taker)
        case "account", (equity, available):
            return d.account(equity * E10, available * E10)
        case "health", (lag, offset, journal, failed, ok):
            return d.health(lag, offset, journal, failed, ok)
        case "link", (name, up):
            return d.link(name, up)
        case "refused", ():
            return MarketDataRefused(*d.now, "malformed")
        case "reconciled", (breaks,):
            return d.reconciled(*breaks)
        case "operator", (action,):
            return d.operator(action)
        case "kill", (kill,):
            return KillChanged(*d.now, kill, "test")
        case "started", (latched,):
            return Started(*d.now, 1, latched)
        case "task_died", ():
            return TaskDied(*d.now, "cost", "boom")
        case "source_ended", ():
            return SourceEnded(*d.now)
        case "signal", (source, (of_kind, value), confidence, age_s, ttl_s, again):
            number = d.ordinal if again else None
            return d.signal(
                of_kind, value, source=source, confidence=confidence, age_s=age_s, ttl_s=ttl_s, sequence=number
            )
        case "signals_refused", (count,):
            return SignalRefused(*d.now, "desk", "flooding", count)
        case "source_changed", (source, on):
            return SourceChanged(*d.now, source, on, "test")
        case "stop", ():
            return StopRequested(*d.now, "")
        case _:
            raise AssertionError(f"nothing is called {kind!r} with {n}")


def _id(desk: Desk, i: int) -> str:
    live = list(desk.state.orders.live)
    return live[i % len(live)] if live and i >= 0 else "mmabcd-1-9999"


def _side(desk: Desk, i: int) -> Side:
    order = desk.state.orders.live.get(_id(desk, i))
    return order.side if order else Side.SELL


def play(desk: Desk, what: What) -> list[tuple[Event, Step]]:
    """Let it happen. Returns each event with its step."""
    desk.wait(what.wait_s)
    if what.kind == "second":
        happened: list[tuple[Event, Step]] = []
        for make in (desk.health, desk.account, desk.reconciled, desk.book, desk.timer):
            event: Event = make()
            happened.append((event, desk.feed(event)))
        return happened
    event = _fact(desk, what.kind, what.n)
    return [(event, desk.feed(event))]


_SIDES = st.sampled_from(Side)
_OFF = st.integers(-60, 60)
_RATES = st.sampled_from([0.0, -0.0, 0.0001, -0.0003, 0.002, float("nan"), float("inf")])
_SECONDS = st.sampled_from([0.0, 0.1, 0.6, 2.0, 4.0, None, float("nan"), -2.0])
_ARGUMENTS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "book": (_OFF, st.integers(-2, 12), st.integers(1, 900), st.integers(1, 900)),
    "thin_book": (st.booleans(), st.booleans()),
    "trade": (_OFF, st.integers(0, 20), st.sampled_from([Side.BUY, Side.SELL, None])),
    "mark": (_OFF | st.integers(-60_000, 60_000),),
    "no_mark": (),
    "timer": (),
    "bar": (_OFF, st.integers(0, 900)),
    "update": (
        st.integers(-1, 8),
        st.sampled_from(OrderStatus),
        st.none() | st.integers(0, 20),
        st.none() | st.integers(1, 20),
        st.none() | st.integers(0, 3),
    ),
    "request_failed": (st.integers(-1, 8), st.sampled_from(["cancel", "amend"])),
    "adopted": (
        _SIDES,
        st.integers(5, 60),
        st.integers(1, 40),
        st.sampled_from(Purpose),
        st.sampled_from([OrderStatus.LIVE, OrderStatus.UNKNOWN, OrderStatus.SENT]),
    ),
    "fill": (st.integers(-1, 8), st.integers(1, 30), _OFF),
    "fill_again": (),
    "bill": (st.sampled_from(BillKind), st.integers(-4_000, 4_000)),
    "funding": (_RATES, st.sampled_from([-10.0, 0.0, 3.0, 600.0, 28_000.0])),
    "fees": (_RATES, _RATES),
    "account": (st.sampled_from([-1, 0, 50_000, 100_000]), st.sampled_from([0, 6_000, 15_000, 100_000])),
    "health": (
        _SECONDS,
        _SECONDS,
        _SECONDS,
        st.sampled_from([False] * 6 + [True]),
        st.sampled_from([True, True, None, False]),
    ),
    "link": (st.sampled_from(["public", "private"]), st.booleans()),
    "refused": (),
    "reconciled": (st.sampled_from([(), (), ("position: off",), ("second_instance: x",)]),),
    "operator": (st.sampled_from(["pause", "resume", "resume", "kill"]),),
    "kill": (st.sampled_from(KillState),),
    "started": (st.booleans(),),
    "task_died": (),
    "source_ended": (),
    "signal": (
        st.sampled_from([*SIGNALS.sources, "stranger"]),
        st.one_of(
            st.tuples(st.sampled_from(["target_inventory", "direction_hint"]), st.sampled_from([-1.0, -0.3, 0.0, 1.0])),
            st.tuples(st.just("size_multiplier"), st.sampled_from([0.0, 0.5, 1.0])),
            st.tuples(st.just("spread_multiplier"), st.sampled_from([1.0, 2.0, 10.0])),
            st.tuples(st.just("regime_hint"), st.sampled_from([*(regime.value for regime in Regime), NONE])),
            st.tuples(st.just("pause"), st.sampled_from(["increase", "all", NONE])),
            st.tuples(st.sampled_from([*Kind, "gap"]), st.sampled_from([float("nan"), 1e300, 2.0, "up"])),
        ),
        st.sampled_from([1.0, 1.0, 0.5, 0.2, 0.1, float("nan")]),
        st.sampled_from([0.0, 0.0, -0.5, 5.0, 11.0]),
        st.sampled_from([0.5, 30.0, 600.0, 601.0, -1.0]),
        st.sampled_from([False] * 5 + [True]),
    ),
    "signals_refused": (st.integers(1, 1_000),),
    "source_changed": (st.sampled_from([*SIGNALS.sources]), st.booleans()),
    "stop": (),
    "second": (),
}
_WAITS = st.sampled_from([0.0, 0.001, 0.3, 1.0, 1.0, 2.5, 5.0, 31.0, 100.0])
_CALM = ("book", "book", "trade", "mark", "timer", "second", "second", "update", "update", "fill", "funding", "bar")


def _whats(kinds: Iterable[str]) -> st.SearchStrategy[What]:
    return st.one_of([st.builds(What, _WAITS, st.just(kind), st.tuples(*_ARGUMENTS[kind])) for kind in kinds])


def realistic(size: int = 40) -> st.SearchStrategy[list[What]]:
    """Mostly a market and a venue at work, now and then something of everything that does not end the day."""
    rare = [kind for kind in _ARGUMENTS if kind not in ("stop", "source_ended", "task_died", *_CALM)]
    return st.lists(st.one_of(_whats(_CALM), _whats(_CALM), _whats(rare)), min_size=size // 2, max_size=size)


def hostile(size: int = 40, without: tuple[str, ...] = ()) -> st.SearchStrategy[list[What]]:
    """Anything in any order."""
    return st.lists(_whats(kind for kind in _ARGUMENTS if kind not in without), min_size=size // 2, max_size=size)


# --- inputs of a decision ---------------------------------------------------------------------------------------------


def inputs(**over: Any) -> DecisionInputs:
    """What a decision sees on a quiet day."""
    seen: dict[str, Any] = {
        "mono_ns": T0_NS,
        "ts_ns": T0_NS + WALL_NS,
        "bid_px_ticks": MID - 5,
        "ask_px_ticks": MID + 5,
        "fair_ticks": float(MID),
        "signal_bps": 0.0,
        "guard": GuardState.RUNNING,
        "regime": Regime.NEUTRAL_LOW_VOL,
        "band_bps": 2.5,
        "sigma_bps": 0.0,
        "drift_multiplier": 1.0,
        "tracker_multiplier": 1.0,
        "position_lots": 0,
        "equity_e10": EQUITY_E10,
        "maker_bps": 2.0,
        "taker_bps": 6.0,
        "carry_bps": 0.0,
        "adverse_buy_bps": 0.0,
        "adverse_sell_bps": 0.0,
        "turnover_bps": 0.0,
        "taker_share": 0.05,
        "size_buy_share": 1.0,
        "size_sell_share": 1.0,
        "no_buy": "",
        "no_sell": "",
        "derisk": DeriskStage.NONE,
    }
    if "size_share" in over:
        over["size_buy_share"] = over["size_sell_share"] = over.pop("size_share")
    return DecisionInputs(**{**seen, **over})
