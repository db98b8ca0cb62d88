"""What is asserted in production: right steps pass, broken ones stop the bot before anything of them is handed on."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from mmdaemon.core import orders
from mmdaemon.core.commands import Amend, Command, Place
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import BillKind, Event
from mmdaemon.core.guard import Transition
from mmdaemon.core.types import GuardState, KillState, OrderStatus, Purpose, Side
from mmdaemon.daemon.assertions import IN_PRODUCTION, Assertions, InvariantBroken
from tests.core.build import MID, Desk, What, hostile, modest, play, realistic
from tests.daemon.build import World, run_world


class Asserted(Desk):
    """A desk whose steps are asserted as the quoting controller does it."""

    def __init__(self) -> None:
        super().__init__()
        self.assertions = Assertions(self.state, self.params)

    def feed(self, event: Event) -> Step:
        step = super().feed(event)
        self.assertions.check(self.state, event, step)
        return step

    def claim(self, *commands: Command, event: Event | None = None, **step: object) -> None:
        """This step is said to have led to these."""
        made = msgspec.convert({}, Step) if not (commands or step) else Step(commands=commands, **step)  # pyright: ignore[reportArgumentType]
        self.assertions.check(self.state, event or self.timer(), made)


@pytest.fixture
def desk() -> Asserted:
    desk = Asserted()
    desk.start()
    desk.acknowledge()
    assert {order.side for order in desk.live} == {Side.BUY, Side.SELL}
    return desk


@modest(40)
@given(realistic())
def test_no_day_breaks_them(what: list[What]) -> None:
    desk = Asserted()
    desk.start()
    for each in what:
        play(desk, each)


@modest(40)
@given(hostile())
def test_no_nonsense_breaks_them(what: list[What]) -> None:
    desk = Asserted()
    desk.start()
    for each in what:
        play(desk, each)


def place(px: int = MID - 300, lots: int = 1, side: Side = Side.BUY) -> Place:
    return Place("mmabcd-1-77", side, px, lots, Purpose.QUOTE, 0, True, False)


def taken(desk: Asserted, command: Place) -> Place:
    """As if the core had let it out: reserved, and whatever else is as it was."""
    orders.submit(desk.state.orders, command, desk.now_ns)
    return command


Spoil = Callable[[Asserted], None]
WRONG: list[tuple[int, str, Spoil]] = []


def wrong(number: int) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        WRONG.append((number, spoil.__name__, spoil))
        return spoil

    return add


@wrong(2)
def beyond_the_cap(desk: Asserted) -> None:
    assert desk.state.decision is not None
    desk.claim(taken(desk, place(lots=desk.state.decision.max_position_lots)))


@wrong(2)
def an_amend_beyond_the_cap(desk: Asserted) -> None:
    assert desk.state.decision is not None
    order = next(order for order in desk.live if order.side is Side.BUY)
    amend = Amend(order.client_id, 1, order.px_ticks, desk.state.decision.max_position_lots + 1)
    orders.submit(desk.state.orders, amend, desk.now_ns)
    desk.claim(amend)


@wrong(2)
def works_down_more_than_is_held(desk: Asserted) -> None:
    """Three lots are held and a quote of the same side may sell more than that: none is left to sell."""
    desk.hold(3)
    command = place(MID + 300, 1, Side.SELL)
    desk.claim(taken(desk, msgspec.structs.replace(command, purpose=Purpose.DERISK, reduce_only=True)))


@wrong(22)
def a_pause_leaves_what_works_down(desk: Asserted) -> None:
    desk.hold(3)
    taken(desk, msgspec.structs.replace(place(MID + 300, 1, Side.SELL), purpose=Purpose.DERISK, reduce_only=True))
    for order in desk.live:
        order.cancel_sent_ns = desk.now_ns * (order.purpose is Purpose.QUOTE)
    moved = Transition(GuardState.RUNNING, GuardState.SOFT_PAUSE, ())
    desk.state.guard.state = GuardState.SOFT_PAUSE
    desk.claim(transition=moved)


@wrong(3)
def freed_without_its_fills(desk: Asserted) -> None:
    order = desk.live[0]
    order.status, order.cum_filled_lots = OrderStatus.CANCELLED, 1
    del desk.state.orders.live[order.client_id]
    desk.claim(event=desk.update(order.client_id, OrderStatus.CANCELLED, 1))


@wrong(5)
def a_time_out_is_a_rejection(desk: Asserted) -> None:
    order = desk.live[0]
    desk.feed(desk.update(order.client_id, OrderStatus.UNKNOWN, reason="timeout"))
    desk.feed(desk.update(order.client_id, OrderStatus.REJECTED, 0, "timeout"))


@wrong(8)
def filled_falls(desk: Asserted) -> None:
    order = desk.live[0]
    desk.feed(desk.update(order.client_id, OrderStatus.PARTIAL, 1))
    order.cum_filled_lots = 0
    desk.claim(event=desk.update(order.client_id, OrderStatus.PARTIAL, 1))


@wrong(8)
def life_runs_backwards(desk: Asserted) -> None:
    order = desk.live[0]
    order.status = OrderStatus.SENT
    desk.claim(event=desk.update(order.client_id, OrderStatus.SENT))


@wrong(10)
def meets_its_own(desk: Asserted) -> None:
    ask = next(order for order in desk.live if order.side is Side.SELL)
    desk.claim(taken(desk, place(px=ask.px_ticks)))


@wrong(11)
def quotes_with_a_break(desk: Asserted) -> None:
    desk.state.facts.breaks = ("position: one lot",)
    desk.claim(event=desk.timer())


@wrong(12)
def quotes_on_another_account(desk: Asserted) -> None:
    desk.state.facts.health = desk.health(facts_ok=False)
    desk.claim(event=desk.timer())


@wrong(13)
def a_price_of_nothing(desk: Asserted) -> None:
    desk.claim(taken(desk, place(px=0)))


@wrong(13)
def a_size_of_half_a_lot(desk: Asserted) -> None:
    desk.claim(taken(desk, place(lots=0.5)))  # pyright: ignore[reportArgumentType] - the point


@wrong(13)
def beyond_the_collar(desk: Asserted) -> None:
    desk.claim(taken(desk, place(px=MID // 2, lots=10)))


@wrong(13)
def no_mark_to_hold_it_against(desk: Asserted) -> None:
    desk.state.venue.mark_px_ticks = 0
    desk.claim(taken(desk, place()))


@wrong(14)
def a_digit_is_lost(desk: Asserted) -> None:
    desk.state.position.cost_e10 += 1
    desk.feed(desk.timer())


@wrong(15)
def a_crossed_book(desk: Asserted) -> None:
    desk.state.book.ask_px = desk.state.book.bid_px - 1
    desk.claim(taken(desk, place()))


@wrong(15)
def a_public_stream_that_is_down(desk: Asserted) -> None:
    desk.state.venue.public_up = False
    desk.claim(taken(desk, place()))


@wrong(16)
def an_old_book(desk: Asserted) -> None:
    desk.state.mono_ns += desk.params.guard.book_age_max_ns + 1
    desk.claim(taken(desk, place()))


@wrong(16)
def a_clock_that_is_no_number(desk: Asserted) -> None:
    desk.state.facts.health = desk.health(offset_s=float("nan"))
    desk.claim(taken(desk, place()))


@wrong(16)
def a_gap_unread(desk: Asserted) -> None:
    desk.state.venue.private_down_ns = desk.now_ns - desk.params.guard.private_gap_ns
    desk.claim(taken(desk, place()))


@wrong(16)
def an_order_in_a_pause(desk: Asserted) -> None:
    desk.state.guard.state = GuardState.SOFT_PAUSE
    desk.claim(taken(desk, place()))


@wrong(17)
def a_stop_that_ends_by_itself(desk: Asserted) -> None:
    desk.feed(desk.operator("kill"))
    assert desk.state.facts.kill is not KillState.ARMED
    desk.claim(transition=Transition(GuardState.HARD_STOP, GuardState.RECONCILING, ()))


@wrong(17)
def a_move_from_elsewhere(desk: Asserted) -> None:
    desk.claim(transition=Transition(GuardState.REDUCING, GuardState.SOFT_PAUSE, ()))


@wrong(18)
def a_loss_forgiven(desk: Asserted) -> None:
    desk.state.risk.day_open_e10 -= 1
    desk.feed(desk.timer())


@wrong(20)
def too_many_messages(desk: Asserted) -> None:
    limits = desk.params.limits
    for _ in range(limits.messages_per_minute):
        desk.assertions._rates.look(desk.now_ns, 1)
    desk.claim(taken(desk, place()))


@wrong(22)
def a_pause_that_leaves_a_quote(desk: Asserted) -> None:
    desk.state.guard.state = GuardState.SOFT_PAUSE
    desk.live[0].cancel_sent_ns = desk.now_ns
    desk.claim(transition=Transition(GuardState.RUNNING, GuardState.SOFT_PAUSE, ()))


@pytest.mark.parametrize(("number", "spoil"), [pytest.param(n, s, id=f"{n}-{name}") for n, name, s in WRONG])
def test_a_broken_one_is_named(number: int, spoil: Spoil, desk: Asserted) -> None:
    with pytest.raises(InvariantBroken, match=rf"^invariant {number}: ") as broken:
        spoil(desk)
    assert broken.value.number == number


def test_each_of_them_is_tried() -> None:
    assert {number for number, _, _ in WRONG} == IN_PRODUCTION


def test_a_book_that_comes_to_nothing_is_not_looked_at(desk: Asserted) -> None:
    """The hot path pays one comparison."""
    desk.state.facts.breaks = ("position: one lot",)
    desk.assertions.check(desk.state, desk.book(), NOTHING)


def test_a_transfer_moves_the_day_and_is_no_breach(desk: Asserted) -> None:
    desk.feed(desk.bill(BillKind.TRANSFER, -5_000_000))
    desk.seconds(3)


def test_the_bot_stops_and_nothing_of_the_step_goes_out(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        sent = len(world.venue.sent)
        world.state.position.cost_e10 += 1
        broken_ns = world.now_ns
        assert world.running is not None
        assert await world.running == 70
        world.running = None
        world.state_dir.release()
        assert isinstance(world.daemon.failure, InvariantBroken)
        assert "invariant 14" in str(world.daemon.failure)
        assert world.venue.increasing_since(broken_ns + 1_100_000_000) == []
        assert len(world.venue.sent) > sent
        assert world.venue.resting() == []

    run_world(script, tmp_path / "state")
