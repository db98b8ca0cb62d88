"""What metrics count between two looks: beginnings of states, failures, latencies, fills that should not have been."""

import pytest
from msgspec.structs import replace

from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import Event, Fill, HealthFacts, LinkChanged, OrderUpdate, RequestFailed
from mmdaemon.core.guard import Transition
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.state import State, new_state
from mmdaemon.core.types import NS, ExecKind, GuardState, Link, Liquidity, OrderStatus, Purpose, Side
from mmdaemon.daemon.telemetry import IN_FLIGHT_NS, Histogram, Telemetry
from tests.core.build import params

TAG = params().bot_tag
OURS = f"mm{TAG}-1-7"
WALL_NS = 1_767_571_200 * NS


def fresh() -> tuple[Telemetry, State]:
    return Telemetry(TAG), new_state(params(), 10**15)


def moved(before: GuardState, after: GuardState) -> Step:
    return replace(NOTHING, transition=Transition(before, after, ()))


def fill(at_s: float, client_id: str = OURS) -> Fill:
    at_ns = WALL_NS + round(at_s * NS)
    return Fill(1, at_ns, at_ns, "t", client_id, Side.BUY, 1, 1, 0, Liquidity.MAKER, ExecKind.TRADE)


def update(status: OrderStatus, mono_ns: int = 1, reason: str = "", revision: int | None = None) -> OrderUpdate:
    return OrderUpdate(mono_ns, WALL_NS, None, OURS, status, 0, None, None, revision, reason)


def test_a_reason_is_counted_when_it_comes_up_and_each_time() -> None:
    told, state = fresh()
    event = LinkChanged(1, WALL_NS, None, Link.PUBLIC, True)
    for active in (Reason.BOOK, Reason.KILL, Reason.BOOK):
        state.guard.active = BIT[active]
        told.on_step(state, event, NOTHING)
        told.on_step(state, event, NOTHING)
    assert told.reasons_raised == {"book": 2, "kill": 1}


def test_a_reason_that_stays_while_another_comes_is_counted_once() -> None:
    told, state = fresh()
    event = LinkChanged(1, WALL_NS, None, Link.PUBLIC, True)
    for active in (BIT[Reason.BOOK], BIT[Reason.BOOK] | BIT[Reason.KILL]):
        state.guard.active = active
        told.on_step(state, event, NOTHING)
    assert told.reasons_raised == {"book": 1, "kill": 1}


def test_between_two_states_that_quote_nothing_is_stopped() -> None:
    told, state = fresh()
    event = LinkChanged(1, WALL_NS, None, Link.PUBLIC, True)
    told.on_step(state, event, moved(GuardState.RUNNING, GuardState.REDUCING))
    state.guard.state = GuardState.RECONCILING
    told.on_step(state, fill(60), NOTHING)
    assert told.fills_after_pause == {}


def test_entries_of_the_guard_and_lost_links_are_counted() -> None:
    told, state = fresh()
    for _ in range(2):
        told.on_step(state, LinkChanged(1, WALL_NS, None, Link.PRIVATE, False), NOTHING)
        told.on_step(
            state,
            LinkChanged(1, WALL_NS, None, Link.PRIVATE, True),
            moved(GuardState.RUNNING, GuardState.RECONCILING),
        )
    assert told.link_losses == {"private": 2}
    assert told.guard_entries == {"reconciling": 2}


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        (update(OrderStatus.REJECTED, reason="margin"), {"rejected": 1}),
        (update(OrderStatus.UNKNOWN, reason="timeout"), {"unknown": 1}),
        (update(OrderStatus.REJECTED, reason="duplicate"), {"unknown": 1}),
        (RequestFailed(1, WALL_NS, None, OURS, "cancel", "not_found"), {"cancel": 1}),
        (RequestFailed(1, WALL_NS, None, OURS, "amend", "margin", 1), {"amend": 1}),
        # Nobody but us has seen these.
        (update(OrderStatus.REJECTED, reason="gate:kill"), {}),
        (RequestFailed(1, WALL_NS, None, OURS, "amend", "gate:kill", 1), {}),
        (update(OrderStatus.CANCELLED), {}),
        (update(OrderStatus.LIVE), {}),
    ],
)
def test_requests_that_came_to_nothing(event: Event, counted: dict[str, int]) -> None:
    told, state = fresh()
    told.on_step(state, event, NOTHING)
    assert told.order_failures == counted


PAUSED = moved(GuardState.RUNNING, GuardState.SOFT_PAUSE)


def paused() -> tuple[Telemetry, State]:
    """It quoted, and was paused at second 0."""
    told, state = fresh()
    state.guard.state = GuardState.SOFT_PAUSE
    told.on_step(state, LinkChanged(1, WALL_NS, None, Link.PUBLIC, False), PAUSED)
    return told, state


@pytest.mark.parametrize(
    ("fills", "counted"),
    [
        ([fill(-1)], {}),  # it traded before, and was read late
        ([fill(0.1)], {"in_flight": 1}),
        ([fill(IN_FLIGHT_NS / NS), fill(IN_FLIGHT_NS / NS + 0.1)], {"in_flight": 1, "later": 1}),
        ([fill(60, "a person's")], {}),
        ([fill(60, "mmzzzz-1-1")], {}),
        ([fill(60, f"mm{TAG}-1-k1")], {}),  # the kill switch flattens
    ],
)
def test_fills_after_a_pause(fills: list[Fill], counted: dict[str, int]) -> None:
    told, state = paused()
    for each in fills:
        told.on_step(state, each, NOTHING)
    assert told.fills_after_pause == counted


def test_a_fill_is_no_fill_after_a_pause_once_it_quotes_again_nor_before_it_ever_did() -> None:
    told, state = paused()
    state.guard.state = GuardState.RUNNING
    told.on_step(state, fill(60), moved(GuardState.SOFT_PAUSE, GuardState.RUNNING))
    assert told.fills_after_pause == {}
    told, state = fresh()  # a restart books what filled while nobody was there
    state.guard.state = GuardState.RECONCILING
    told.on_step(state, fill(60), NOTHING)
    assert told.fills_after_pause == {}


def test_a_fill_that_is_delivered_again_is_not_counted_again() -> None:
    told, state = paused()
    told.on_step(state, fill(60), NOTHING)
    state.position.duplicate_fills += 1
    told.on_step(state, fill(60), NOTHING)
    assert told.fills_after_pause == {"later": 1}


def test_a_pause_that_turns_into_another_goes_on() -> None:
    told, state = paused()
    state.guard.state = GuardState.RECONCILING
    event = LinkChanged(1, WALL_NS + 50 * NS, None, Link.PUBLIC, False)
    told.on_step(state, event, moved(GuardState.SOFT_PAUSE, GuardState.RECONCILING))
    told.on_step(state, fill(52), NOTHING)
    assert told.fills_after_pause == {"later": 1}


def test_latencies_are_taken_once_a_request() -> None:
    told, state = fresh()
    place = Place(OURS, Side.BUY, 1, 1, Purpose.QUOTE, 0, True, False)
    told.sent(place, 0, 3_000_000)
    told.sent(Amend(OURS, 1, 2, 1), 4_000_000, 5_000_000)
    told.on_step(state, update(OrderStatus.UNKNOWN, 6_000_000), NOTHING)  # our word, and no answer
    told.on_step(state, update(OrderStatus.LIVE, 43_000_000), NOTHING)
    told.on_step(state, update(OrderStatus.LIVE, 44_000_000), NOTHING)
    told.on_step(state, update(OrderStatus.LIVE, 65_000_000, revision=1), NOTHING)
    told.sent(Cancel(OURS, True), 70_000_000, 70_000_000)
    told.on_step(state, update(OrderStatus.CANCELLED, 80_000_000), NOTHING)
    views = told.histograms()
    assert sum(views["event_to_send"].counts) == 3
    assert views["event_to_send"].sum_s == pytest.approx(0.004)
    assert [sum(views[f"{each}_to_answer"].counts) for each in ("place", "amend", "cancel")] == [1, 1, 1]
    assert views["place_to_answer"].sum_s == pytest.approx(0.04)
    assert views["amend_to_answer"].sum_s == pytest.approx(0.06)
    assert views["cancel_to_answer"].sum_s == pytest.approx(0.01)


def test_loop_lag_and_commits() -> None:
    told, state = fresh()
    for lag_s in (0.003, None):
        told.on_step(state, HealthFacts(1, WALL_NS, None, lag_s, 0.0, 0.0, False, True, 0.0), NOTHING)
    told.committed(2_000_000)
    assert sum(told.histograms()["loop_lag"].counts) == 1
    assert told.histograms()["journal_commit"].sum_s == pytest.approx(0.002)


def test_a_histogram_counts_up_to_and_with_a_bound() -> None:
    spread = Histogram(0.1, 1.0)
    for value_s in (0.05, 0.1, 0.5, 1.0, 7.0):
        spread.observe(value_s)
    view = spread.view()
    assert (view.bounds_s, view.counts, view.sum_s) == ([0.1, 1.0], [2, 2, 1], pytest.approx(8.65))


def test_answers_that_never_come_are_forgotten() -> None:
    told, _ = fresh()
    for number in range(5_000):
        told.sent(Cancel(f"mm{TAG}-1-{number}", True), 0, 0)
    assert len(told._sent_ns) <= 4_096
