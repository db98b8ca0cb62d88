"""The event stream into the core: anything in any order, through `engine.step` with the shadow on.

An episode is a desk in good health at which things happen: its market goes on and its venue answers, and in between
come facts with any number in any field of theirs, for orders that live, have ended or never were, doubled, late and out
of order. After each step is asked what may never be otherwise (`Episode._look`), by rules written here anew.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any, Final

import msgspec

from mmdaemon.core import engine, position
from mmdaemon.core.commands import Amend, Cancel, Place
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
    SourceEnded,
    Started,
    StopRequested,
    TaskDied,
    TimerFired,
    TradePrint,
)
from mmdaemon.core.types import (
    NS,
    ExecKind,
    KillState,
    Link,
    Liquidity,
    OrderStatus,
    Purpose,
    Side,
)
from tests.core.build import MID, QUOTING, Desk, IdealVenue, check_commands, params
from tests.fuzz.numbers import any_float, any_number, any_word, mostly

LARGEST: Final = 1 << 48
MARKET: Final = (BookUpdate, TradePrint, MarkPrice, BarClosed, MarketDataRefused)
EPISODE: Final = 400
IDLE: Final = 60
"""So many hostile events while nothing is quoted end an episode: the next one begins in good health."""
FIGURES: Final = 29
"""How many figures of the market are compared at every refusal."""
PARAMS: Final = (params(), params("desk"), params(can_amend=False))


class Violation(AssertionError):
    """What must hold does not. The message has the seed of the episode and the event."""


def is_count(x: object) -> bool:
    """A price in ticks or a size in lots that there may be."""
    return type(x) is int and 0 < x <= LARGEST


def is_time(x: object) -> bool:
    """A moment that the venue may give, or none."""
    return x is None or (type(x) is int and 0 <= x < 1 << 63)


def is_bad_market(event: Event) -> bool:
    """Whether nobody could make a market of this, whatever came before it."""
    match event:
        case BookUpdate():
            bids, asks = event.bids[:5], event.asks[:5]
            if not bids or not asks or not is_time(event.venue_ts_ns):
                return True
            if not all(len(level) == 2 and all(map(is_count, level)) for level in bids + asks):
                return True
            down, up = [px for px, _ in bids], [px for px, _ in asks]
            is_sorted = all(a > b for a, b in pairwise(down)) and all(a < b for a, b in pairwise(up))
            return not is_sorted or down[0] > up[0] or (event.venue_ts_ns or 0) > event.ts_ns + 60 * NS
        case TradePrint():
            whole = is_count(event.px_ticks) and is_count(event.qty_lots) and is_time(event.venue_ts_ns)
            return not whole or (event.venue_ts_ns or 0) > event.ts_ns + 60 * NS
        case MarkPrice():
            return not is_count(event.px_ticks)
        case BarClosed():
            prices = (event.open_ticks, event.high_ticks, event.low_ticks, event.close_ticks)
            return not all(map(is_count, prices)) or type(event.open_ts_ns) is not int
        case MarketDataRefused():
            return True
        case _:
            return False


def may_be_refused_loudly(event: Event) -> bool:
    """What `step` answers with a ValueError, as documented: money that cannot be booked must not pass in silence."""
    match event:
        case Fill():
            whole = is_count(event.px_ticks) and is_count(event.qty_lots) and _is_money(event.fee_e10)
            return not (whole and is_time(event.venue_ts_ns))
        case Bill():
            return not _is_money(event.amount_e10)
        case OperatorAction():
            return event.action not in ("pause", "resume", "kill")
        case _:
            return False


def _is_money(x: object) -> bool:
    return type(x) is int and -(1 << 63) <= x < 1 << 63


class Tally(msgspec.Struct):
    """What a run was made of."""

    events: int = 0
    """All, those of the honest market and venue in between included."""
    hostile: int = 0
    while_quoting: int = 0
    """Hostile events that came while the guard was RUNNING or REDUCING."""
    refused: int = 0
    """Market data that was bad by our own rule."""
    loud: int = 0
    compared: int = 0
    """Bad market data around which the whole state was compared."""
    places: int = 0
    episodes: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    guard: Counter[str] = msgspec.field(default_factory=Counter)


class Episode:
    """One desk and what happens to it. `seed` is all there is to know of it."""

    def __init__(self, seed: int, tally: Tally) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.tally = tally
        self.desk = Desk(self.rng.choice(PARAMS))
        self.venue = IdealVenue(self.desk)
        self.good: tuple[Any, Any] = ((), ())
        self.past: list[Event] = []
        rng = self.rng
        fatal = rng.random() < 0.15
        """Whether things may happen that end the day."""
        self.makers = [(name, make) for name, make in MAKERS.items() if fatal or name not in FATAL]
        if rng.random() < 0.4:  # the market and our orders alone: what is paused by other facts is not put to the test
            self.makers = [(name, make) for name, make in self.makers if name in CORE]
        rng.shuffle(self.makers)
        del self.makers[rng.randint(2, len(self.makers)) :]

    def play(self, events: int) -> None:
        """So many hostile events."""
        desk, rng = self.desk, self.rng
        desk.feed = self._feed  # all that the desk makes is looked at too
        desk.learn()
        self.tally.episodes += 1
        idle = 0
        for _ in range(events):
            idle = 0 if desk.guard in QUOTING else idle + 1
            if idle > IDLE:
                break
            if rng.random() < 0.2:
                self._honest()
            self.tally.hostile += 1
            self.tally.while_quoting += desk.guard in QUOTING
            step = self._feed(self._hostile())
            if step.commands and rng.random() < 0.8:
                self.venue.answer(step.commands)
        self._end()

    # --- what happens ---

    def _honest(self) -> None:
        desk, rng = self.desk, self.rng
        if rng.random() < 0.3:
            desk.wait(1.0)
            desk.feed(desk.mark(MID))
            self.venue.answer(desk.healthy_second())
        else:
            desk.wait(rng.random() / 10)
            move = rng.randint(-6, 6)
            self.venue.move(MID + move - 5, MID + move + 5, bid_qty=rng.randint(1, 900), ask_qty=rng.randint(1, 900))

    def _hostile(self) -> Event:
        rng = self.rng
        if self.past and rng.random() < 0.05:
            mono, ts, _ = self.desk.now
            return msgspec.structs.replace(rng.choice(self.past), mono_ns=mono, ts_ns=ts)  # again, and late
        name, make = rng.choice(self.makers)
        event = make(self, rng)
        self.tally.kinds[name] += 1
        if rng.random() < 0.02:
            self.past.append(event)
        return event

    def times(self) -> tuple[int, int, Any]:
        """Ours are whole numbers: one never falls, the other steps as it likes. The venue's is anything."""
        rng = self.rng
        if rng.random() < 0.3:
            self.desk.wait(rng.choice((0.0, 0.001, 0.3, 2.0)))
        mono, ts, _ = self.desk.now
        if rng.random() < 0.03:
            ts += rng.choice((-1, 1)) * rng.choice((NS, 3_600 * NS, 86_400 * NS, 400 * 86_400 * NS))
        venue: Any = None
        if rng.random() < 0.5:
            venue = mostly(rng, ts - rng.randint(0, NS), 0.6)
        return mono, ts, venue

    def any_id(self) -> str:
        rng, known = self.rng, self.desk.state.orders
        kind = rng.random()
        if kind < 0.5 and known.live:
            return rng.choice(list(known.live))
        if kind < 0.7 and known.closed:
            return rng.choice(list(known.closed))
        return any_word(rng)

    # --- what is looked at ---

    def _feed(self, event: Event) -> Step:
        desk, tally = self.desk, self.tally
        state = desk.state
        tally.events += 1
        tally.guard[state.guard.state.value] += 1
        bad = is_bad_market(event)
        compared = bad and tally.refused % 50 == 0
        before = self._market(everything=compared) if bad else ()
        money = self._money() if type(event) in (Fill, Bill) else ()
        try:
            step = engine.step(state, event, desk.params)
        except ValueError as error:
            if not may_be_refused_loudly(event):
                self._fail(event, repr(error))
            if money and money != self._money():
                self._fail(event, "refused, and yet something was booked")
            tally.loud += 1
            return engine.NOTHING
        except Exception as error:  # whatever it is, it has a seed
            raise Violation(f"{self._where(event)}: {error!r}") from error
        if bad:
            tally.refused += 1
            tally.compared += compared
            after = self._market(everything=compared)
            own_time = step is not engine.NOTHING  # a deadline came too, and moved what is not the market
            if after[:FIGURES] != before[:FIGURES] or (after != before and not own_time):
                self._fail(event, f"refused, and yet the market changed: {before} {after}")
            if step.transition is None and any(not isinstance(c, Cancel) for c in step.commands):
                self._fail(event, f"a bad fact of the market was answered with {step.commands}")
        self._look(event, step)
        return step

    def _look(self, event: Event, step: Step) -> None:
        state = self.desk.state
        book = state.book
        if type(event) is BookUpdate and not is_bad_market(event) and book.bids == event.bids[:5]:
            self.good = (event.bids[:5], event.asks[:5])
        if book.bids and (book.bids, book.asks) != self.good:
            self._fail(event, f"the book is none that was good: {book.bids} {book.asks}, was {self.good}")
        kept = state.orders
        if kept.reserved_buy_lots < 0 or kept.reserved_sell_lots < 0:
            self._fail(event, f"reserved {kept.reserved_buy_lots}, {kept.reserved_sell_lots}")
        if not step.commands:
            return
        check_commands(state, step)
        for command in step.commands:
            if isinstance(command, Cancel):
                continue
            self.tally.places += isinstance(command, Place)
            if not (is_count(command.px_ticks) and is_count(command.qty_lots)):
                self._fail(event, f"{command}")
            bids, asks = self.good
            away = abs(2 * command.px_ticks - bids[0][0] - asks[0][0]) / (bids[0][0] + asks[0][0])
            if state.guard.state not in QUOTING or not book.bids or away > 0.1:
                self._fail(event, f"{command} in {state.guard.state} at {book.bids}")
            if isinstance(command, Amend) and command.client_id not in kept.live:
                self._fail(event, f"{command} of no live order")

    def _market(self, *, everything: bool) -> tuple[Any, ...]:
        """What bad market data may not change: all of the market but its counters; now and then all there is."""
        state = self.desk.state
        book, bars = state.book, state.bars
        seen = (
            *(book.bids, book.asks, book.bid_px, book.bid_qty, book.ask_px, book.ask_qty, book.locked, book.updates),
            *(book.healthy_mono_ns, book.last_venue_ts_ns, book.touch_venue_ts_ns, book.known_mid_x2, book.trades),
            *(book.last_trade_px, book.bought_lots, book.sold_lots, book.absurd_mid_x2),
            *(len(bars.bars), bars.atr14_bps, bars.ema50_ticks, bars.forming_ts_ns, bars.last_x2, bars.folded),
            *(bars.replaced, state.venue.mark_px_ticks, state.venue.mark_ns, state.position.inventory_e10),
            *(state.detector.regime, state.risk.equity_e10),
        )
        assert len(seen) == FIGURES
        if not everything:
            return seen
        rest = (bars.bars, bars.bands, bars.drifts, state.position.fifo, state.markouts, state.detector, state.sampled)
        more = (state.risk, state.facts, state.orders, state.venue, self._money())
        return (*seen, repr(rest), repr(more))

    def _money(self) -> tuple[Any, ...]:
        held = state_of_money(self.desk)
        return (held, len(self.desk.state.position.trade_ids), len(self.desk.state.position.bill_ids))

    def _end(self) -> None:
        """The books foot, and hold whole numbers, after all that."""
        held, mark = self.desk.state.position, self.desk.state.venue.mark_px_ticks
        for name in msgspec.structs.asdict(held):
            figure = getattr(held, name)
            if isinstance(figure, float):
                raise Violation(f"episode {self.seed}: {name} is {figure}")
        if mark and position.equity_cash_e10(held, mark) != position.equity_basis_e10(held, mark):
            raise Violation(f"episode {self.seed}: the identity is broken")
        for order in self.desk.state.orders.live.values():
            if not (is_count(order.px_ticks) and is_count(order.qty_lots) and order.reserved_lots >= 0):
                raise Violation(f"episode {self.seed}: {order}")
        for counts in (self.desk.state.book.refused, self.desk.state.orders.anomalies):
            if len(counts) > 200:
                raise Violation(f"episode {self.seed}: {len(counts)} names of counters; a stranger chooses them")

    def _where(self, event: Event) -> str:
        return f"episode {self.seed}, event {self.desk.state.seq}, {self.desk.guard}: {event!r:.600}"

    def _fail(self, event: Event, why: str) -> None:
        raise Violation(f"{self._where(event)}: {why}")


def state_of_money(desk: Desk) -> tuple[int, ...]:
    """What a fill or a bill changes."""
    p = desk.state.position
    kept = desk.state.orders
    return (
        *(p.position_lots, p.cost_e10, p.realised_e10, p.fees_e10, p.funding_e10, p.transfers_e10, p.cash_flow_e10),
        *(p.turnover_e10, p.buys, p.sells, kept.reserved_buy_lots, kept.reserved_sell_lots),
    )


# --- what may come ----------------------------------------------------------------------------------------------------

Maker = Callable[[Episode, Random], Event]


def _any(x: object) -> Any:
    return x


def _levels(rng: Random, start: int, step: int) -> tuple[tuple[Any, Any], ...]:
    size = rng.choice((0, 1, 1, 2, 5, 5, 9, 200))
    share = rng.choice((1.0, 1.0, 0.95, 0.5))
    return tuple((mostly(rng, start + step * i, share), mostly(rng, rng.randint(1, 900), share)) for i in range(size))


def _book(e: Episode, rng: Random) -> Event:
    width = rng.choice((10, 10, 1, 0, -3, 100_000))
    off = rng.choice((0, 0, 3, -3, 60_000, -640_000))
    return BookUpdate(*e.times(), _levels(rng, MID - 5 + off, -1), _levels(rng, MID - 5 + off + width, 1))


def _trade(e: Episode, rng: Random) -> Event:
    side = rng.choice((Side.BUY, Side.SELL, None))
    return TradePrint(*e.times(), mostly(rng, e.desk.bid), mostly(rng, 10), side)  # pyright: ignore[reportArgumentType]


def _mark(e: Episode, rng: Random) -> Event:
    near: Any = mostly(rng, MID + rng.randint(-50, 50))
    if is_count(near) and not 600_000 < near < 700_000 and rng.random() < 0.9:
        near = float(near)  # an absurd mark is a loss, and ends the day: seldom
    return MarkPrice(*e.times(), near)


def _bar(e: Episode, rng: Random) -> Event:
    minute = 60 * NS
    opened: Any = mostly(rng, (e.desk.now[1] // minute - rng.randint(-1, 3)) * minute, 0.8)
    first, high, low, last = (_any(mostly(rng, MID + off, 0.9)) for off in (0, 30, -30, 3))
    lots: Any = mostly(rng, 5)
    source = rng.choice(("venue", "mids", any_word(rng)))
    return BarClosed(*e.times(), opened, first, high, low, last, lots, source)


def _update(e: Episode, rng: Random) -> Event:
    share = rng.choice((0.9, 0.5))

    def maybe(likely: int) -> Any:
        return None if rng.random() < 0.4 else mostly(rng, likely, share)

    figures = (maybe(rng.randint(0, 20)), maybe(MID), maybe(rng.randint(1, 30)), maybe(rng.randint(0, 3)))
    return OrderUpdate(*e.times(), e.any_id(), rng.choice(list(OrderStatus)), *figures, any_word(rng))


def _request_failed(e: Episode, rng: Random) -> Event:
    revision: Any = rng.choice((None, 0, 1, 2, any_number(rng)))
    return RequestFailed(
        *e.times(), e.any_id(), rng.choice(("cancel", "amend", any_word(rng))), any_word(rng), revision
    )


def _adopted(e: Episode, rng: Random) -> Event:
    px: Any = mostly(rng, MID + rng.randint(-60, 60))
    lots: Any = mostly(rng, rng.randint(1, 40))
    cum: Any = mostly(rng, rng.randint(0, 10))
    side, purpose, status = rng.choice(list(Side)), rng.choice(list(Purpose)), rng.choice(list(OrderStatus))
    return OrderAdopted(*e.times(), e.any_id(), side, px, lots, cum, purpose, rng.random() < 0.5, status)


def _fill(e: Episode, rng: Random) -> Event:
    client_id = e.any_id()
    order = e.desk.state.orders.live.get(client_id)
    side = order.side if order and rng.random() < 0.9 else rng.choice(list(Side))
    share = rng.choice((1.0, 0.7))
    px: Any = mostly(rng, MID + rng.randint(-6, 6), share)
    lots: Any = mostly(rng, rng.randint(1, 4), share)
    if is_count(lots) and lots > 1_000 and rng.random() < 0.9:
        lots = -lots  # a fill so large is true, and ends the day: seldom
    fee: Any = mostly(rng, rng.randint(-(10**6), 10**6), share)
    trade_id = f"t{rng.randint(0, 300)}" if rng.random() < 0.8 else any_word(rng)
    return Fill(
        *e.times(), trade_id, client_id, side, px, lots, fee, rng.choice(list(Liquidity)), rng.choice(list(ExecKind))
    )


def _bill(e: Episode, rng: Random) -> Event:
    amount: Any = mostly(rng, rng.randint(-(10**10), 10**10), 0.7)
    if _is_money(amount) and abs(amount) > 10**13 and rng.random() < 0.9:
        amount = float(amount)
    return Bill(*e.times(), f"b{rng.randint(0, 300)}", rng.choice(list(BillKind)), amount)


def _funding(e: Episode, rng: Random) -> Event:
    mono, ts, venue = e.times()
    due: Any = mostly(rng, ts + rng.randint(-NS, 28_800 * NS))
    rate: Any = mostly(rng, rng.uniform(-0.01, 0.01))
    interval: Any = mostly(rng, 28_800)
    return FundingRate(mono, ts, venue, rate, due, interval)


def _fees(e: Episode, rng: Random) -> Event:
    maker: Any = mostly(rng, 0.0002)
    taker: Any = mostly(rng, 0.0006)
    return FeeSchedule(*e.times(), maker, taker, any_word(rng))


def _account(e: Episode, rng: Random) -> Event:
    usual = e.desk.account()
    share = rng.choice((0.9, 0.5))
    lots: Any = mostly(rng, usual.position_lots, share)
    wallet: Any = mostly(rng, usual.wallet_e10, share)
    unrealised: Any = mostly(rng, 0, share)
    available: Any = mostly(rng, usual.available_margin_e10, share)
    return AccountSnapshot(*e.times(), lots, wallet, unrealised, available, mostly(rng, MID, 0.8))  # pyright: ignore[reportArgumentType]


def _health(e: Episode, rng: Random) -> Event:
    def measured() -> float | None:
        return rng.choice((0.0, 0.0, 0.0, None, any_float(rng)))

    ok = rng.choice((True, True, True, None))
    return HealthFacts(
        *e.times(), measured(), measured(), measured(), False, ok, rng.choice((0.0, 0.0, any_float(rng)))
    )


def _link(e: Episode, rng: Random) -> Event:
    return LinkChanged(*e.times(), rng.choice(tuple(Link)), rng.random() < 0.6)


def _refused(e: Episode, rng: Random) -> Event:
    return MarketDataRefused(*e.times(), any_word(rng))


def _reconciled(e: Episode, rng: Random) -> Event:
    breaks = rng.choice(((), (), (), (any_word(rng),), (f"second_instance: {any_word(rng)}",)))
    lots: Any = any_number(rng)
    return Reconciled(*e.times(), any_word(rng), breaks, lots)


MAKERS: Final[dict[str, Maker]] = {
    "book": _book,
    "trade": _trade,
    "mark": _mark,
    "bar": _bar,
    "update": _update,
    "request_failed": _request_failed,
    "adopted": _adopted,
    "fill": _fill,
    "bill": _bill,
    "funding": _funding,
    "fees": _fees,
    "account": _account,
    "health": _health,
    "link": _link,
    "refused": _refused,
    "timer": lambda e, rng: TimerFired(*e.times(), any_word(rng)),
    "reconciled": _reconciled,
    "operator": lambda e, rng: OperatorAction(
        *e.times(), rng.choice(("pause", "resume", "resume", "kill", any_word(rng))), any_word(rng), any_word(rng)
    ),
    "kill": lambda e, rng: KillChanged(*e.times(), rng.choice(list(KillState)), any_word(rng)),
    "started": lambda e, rng: Started(*e.times(), rng.randint(0, 9), rng.random() < 0.5),
    "task_died": lambda e, rng: TaskDied(*e.times(), rng.choice(("cost", "regime")), any_word(rng)),
    "source_ended": lambda e, _: SourceEnded(*e.times()),
    "stop": lambda e, rng: StopRequested(*e.times(), any_word(rng)),
}
FATAL: Final = frozenset({"kill", "started", "task_died", "source_ended", "stop", "operator", "reconciled"})
"""What ends the day for good, or nearly always."""
CORE: Final = frozenset({"book", "trade", "mark", "bar", "refused", "update", "request_failed", "adopted", "timer"})
"""What comes all the time."""


def fuzz(seed: int, events: int, said: Callable[[Tally], None] | None = None) -> Tally:
    """So many hostile events, an episode after another. `said` is told after each.

    Raises:
        Violation: with the seed of the episode, which `Episode(seed, Tally()).play(EPISODE)` plays again.
    """
    tally = Tally()
    while tally.hostile < events:
        Episode(seed * 10_000_000 + tally.episodes, tally).play(min(EPISODE, events - tally.hostile))
        if said is not None:
            said(tally)
    return tally
