"""The book's health is one fact: whoever judges it, guard, samples, markouts and whoever shows it, says the same."""

from hypothesis import given

from mmdaemon.core import book, guard, markout
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS, GuardState, Side
from tests.core.build import MID, Desk, What, hostile, modest, play, running


def is_healthy(desk: Desk) -> bool:
    """What all of them say, which must be one thing. The guard's reason may outlast it, by `soft_clear_ns`."""
    state, limit_ns = desk.state, desk.params.guard.book_age_max_ns
    said = guard.is_book_healthy(state)
    assert said is book.is_healthy(state.book, desk.now_ns, limit_ns)
    assert said is (book.age_ns(state.book, desk.now_ns) <= limit_ns)
    held = markout.held(state.book, desk.params)
    assert said is (held.fair_ticks is not None and held.from_ns <= desk.now_ns < held.until_ns)
    assert said is not bool(state.guard.raw & BIT[Reason.BOOK])
    if not said:
        assert Reason.BOOK in desk.reasons
        assert desk.guard not in (GuardState.RUNNING, GuardState.REDUCING)
    return said


def is_sampled(desk: Desk) -> bool:
    """Whether a timer now takes the mid for one."""
    desk.wait(1e-9)
    before = list(desk.state.bars.sample_mono_ns)
    desk.feed(desk.timer())
    return desk.state.bars.sample_mono_ns != before


def told(desk: Desk) -> str:
    """What `status` says of the book, where it is a reason."""
    (line,) = [line for line in guard.describe(desk.state) if line.startswith("book: ")]
    return line.partition("(")[2].partition(")")[0]


def working() -> Desk:
    """A desk with orders at the venue and a position."""
    desk = running().hold(20)
    desk.seconds(2)
    desk.acknowledge()
    assert desk.guard is GuardState.RUNNING
    assert desk.live
    assert desk.state.position.position_lots == 20
    return desk


def test_through_stale_frozen_crossed_locked_and_a_reconnect_all_agree() -> None:
    desk = working()
    assert is_healthy(desk)
    assert is_sampled(desk)
    desk.feed(desk.book())

    # Stale: nothing comes.
    desk.wait(desk.params.guard.book_age_max_ns / NS)
    desk.feed(desk.health())
    assert is_healthy(desk)  # to the nanosecond
    desk.wait(1e-9)
    desk.feed(desk.health())
    assert not is_healthy(desk)
    assert not is_sampled(desk)
    assert desk.guard is GuardState.SOFT_PAUSE
    assert told(desk) == "2.0 s old"
    assert desk.live, "cancels were sent, and the orders are not gone before the venue says so"

    # Healthy again: at once for the fact, after a while for the guard.
    desk.wait(1.0).feed(desk.book())
    assert is_healthy(desk)
    assert desk.guard is GuardState.SOFT_PAUSE
    desk.seconds(desk.params.guard.soft_clear_ns / NS + 1)
    assert is_healthy(desk)
    assert desk.guard is GuardState.RUNNING

    # Frozen: the same touch comes again and again, and trades print through it.
    for _ in range(4):
        desk.wait(0.7)
        desk.all_of(desk.health(), desk.trade(desk.bid - 3), desk.book())
    assert not is_healthy(desk)
    assert not is_sampled(desk)
    assert told(desk) == "frozen: trades print through a touch that stands, for 2.1 s"
    desk.wait(0.1).feed(desk.book(desk.bid - 3, desk.ask - 3))
    assert is_healthy(desk)
    desk.seconds(desk.params.guard.soft_clear_ns / NS + 1)

    # Crossed: not applied; the last healthy one ages.
    for _ in range(2):
        desk.wait(0.9).feed(desk.book(desk.ask + 3, desk.ask))
        assert is_healthy(desk)
    desk.wait(0.9).feed(desk.book(desk.ask + 3, desk.ask))
    assert not is_healthy(desk)
    assert desk.state.book.refused["crossed"] == 3

    # Locked: healthy, flagged and counted; quotes stand a tick away at least.
    desk.wait(0.1).feed(desk.book(MID, MID))
    assert is_healthy(desk)
    desk.bid = desk.ask = MID
    desk.seconds(desk.params.guard.soft_clear_ns / NS + 1)
    assert is_healthy(desk)
    assert desk.state.book.locked
    assert desk.state.book.locks == 3
    assert desk.guard is GuardState.RUNNING
    assert desk.state.decision is not None
    assert desk.state.decision.quotes
    assert all(abs(quote.px_ticks - MID) >= 1 for quote in desk.state.decision.quotes)

    # A reconnect: what was seen before it is no book, and neither is what comes before the new one is up.
    desk.feed(desk.link("public", False))
    assert not is_healthy(desk)
    assert told(desk) == "none since the public link came up or went down"
    desk.wait(0.2).feed(desk.book(MID - 5, MID + 5))
    assert not is_healthy(desk)
    assert not is_sampled(desk)
    desk.feed(desk.link("public", True))
    assert not is_healthy(desk)
    desk.wait(0.2).feed(desk.book(MID - 5, MID + 5))
    assert is_healthy(desk)
    assert is_sampled(desk)


def test_a_book_of_a_link_that_is_down_is_no_book() -> None:
    """It was on its way when the link fell. With orders at the venue and a position: it values no fill, moves no
    volatility and heals nothing."""
    desk = working()
    desk.seconds(2)
    desk.feed(desk.fill(Side.BUY, 3, MID - 20, desk.live[0].client_id))
    sampled = list(desk.state.bars.sample_mono_ns)
    desk.wait(0.5).feed(desk.link("public", False))
    unavailable = desk.state.markouts.unavailable
    for _ in range(3):
        desk.wait(0.5).feed(desk.book(MID - 300, MID - 290))
        assert not is_healthy(desk)
    desk.feed(desk.timer())
    assert desk.state.bars.sample_mono_ns == sampled
    assert desk.state.book.refused == {"link_down": 3}
    assert desk.state.signal.mid == 0.0
    desk.wait(5.0).feed(desk.timer())
    assert desk.state.markouts.unavailable > unavailable
    assert desk.state.bars.low_x2 == 2 * MID


def test_time_with_a_healthy_book_is_counted_to_the_nanosecond() -> None:
    desk = working()
    limit_ns = desk.params.guard.book_age_max_ns
    begun_ns = desk.now_ns - guard.book_healthy_ns(desk.state, desk.now_ns)
    desk.seconds(5)
    healthy_ns = guard.book_healthy_ns(desk.state, desk.now_ns)
    assert healthy_ns == desk.now_ns - begun_ns
    desk.wait(limit_ns / NS + 1e-9).feed(desk.health())  # the guard's deadline: the actor wakes it then
    assert guard.book_healthy_ns(desk.state, desk.now_ns) == healthy_ns + limit_ns + 1
    desk.wait(3.0).feed(desk.health())
    assert guard.book_healthy_ns(desk.state, desk.now_ns) == healthy_ns + limit_ns + 1
    desk.feed(desk.book())
    desk.wait(1.5)
    assert guard.book_healthy_ns(desk.state, desk.now_ns) == healthy_ns + limit_ns + 1 + 3 * NS // 2


@given(hostile(30))
@modest(60)
def test_after_any_event_all_agree(whats: list[What]) -> None:
    desk = Desk()
    assert not guard.is_book_healthy(desk.state)
    for what in whats:
        play(desk, what)
        state = desk.state
        expected = book.is_healthy(state.book, state.mono_ns, desk.params.guard.book_age_max_ns)
        assert guard.is_book_healthy(state) is expected
        assert state.venue.public_up or not expected
