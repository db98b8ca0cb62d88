"""The gate closes after its hold, opens below its return, each side for itself; and what the guard makes of both."""

import pytest

from mmdaemon.core.edge_gate import EdgeGate, on_timer
from mmdaemon.core.fading import FadingMean
from mmdaemon.core.params import GateParams
from mmdaemon.core.types import NS, GuardState, Side
from mmdaemon.settings import Settings, load
from mmdaemon.settings.problems import ConfigError
from tests.core.build import Desk, IdealVenue, params

GATE = GateParams(enabled=True, hold_ns=30 * NS, return_share=0.9)
MOST = 30.0
"""A regime's widest spread, so 15 bps a side."""


def closed_after(edges: list[float]) -> list[bool]:
    """Whether the buy side is blocked, second by second; the other side costs nothing."""
    gate = EdgeGate()
    blocked: list[bool] = []
    for second, edge in enumerate(edges):
        on_timer(gate, edge, 0.0, MOST, (1_000 + second) * NS, GATE)
        blocked.append(gate.buy.blocked)
        assert not gate.sell.blocked
    return blocked


def test_it_takes_the_whole_hold_without_a_break() -> None:
    assert closed_after([15.1] * 31) == [False] * 30 + [True]
    assert closed_after([15.1] * 29 + [15.0] + [15.1] * 31)[-2:] == [False, True]


def test_it_returns_below_nine_tenths_and_not_before() -> None:
    shut = [15.1] * 31
    assert closed_after([*shut, 14.0, 13.5, 13.49])[-3:] == [True, True, False]
    # And closes again only after another hold.
    assert closed_after([*shut, 13.0, *[20.0] * 31])[-2:] == [False, True]


def test_between_the_two_it_stays_as_it_is() -> None:
    """No flapping: an edge that swings between return and threshold moves the gate neither way."""
    swinging = [13.6, 14.9] * 40
    assert not any(closed_after(swinging))
    assert all(closed_after([15.1] * 31 + swinging)[31:])


def test_a_wider_regime_lets_it_go() -> None:
    gate = EdgeGate()
    for second in range(31):
        on_timer(gate, 20.0, 20.0, MOST, (1 + second) * NS, GATE)
    assert (gate.buy.blocked, gate.sell.blocked) == (True, True)
    assert on_timer(gate, 20.0, 20.0, 100.0, 40 * NS, GATE)
    assert (gate.buy.blocked, gate.sell.blocked) == (False, False)


@pytest.mark.parametrize("fraction", ["1.0", "1.5", "0.0"])
def test_no_configuration_inverts_it(fraction: str) -> None:
    """The desk's gate opened above where it closed."""
    with pytest.raises(ConfigError, match=r"gate\.return_fraction"):
        load(None, {"gate.return_fraction": float(fraction)}, {})
    assert Settings().gate.return_fraction < 1


def seconds(desk: Desk, venue: IdealVenue, n: int) -> None:
    for _ in range(n):
        venue.answer(desk.seconds(1))


def resting(desk: Desk) -> set[Side]:
    return {order.side for order in desk.live if not order.ended_ns}


def test_both_sides_blocked_is_the_guards_reason_and_both_return() -> None:
    """Fees of 14 bps and an edge of 1 are beyond half of 30: nothing is quoted, and said why, until they are lower."""
    desk = Desk().start()
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    assert resting(desk) == set(Side)
    venue.answer(desk.feed(desk.fees(0.0014, 0.0014)).commands)
    seconds(desk, venue, 29)
    assert (desk.guard, resting(desk)) == (GuardState.RUNNING, set(Side))
    seconds(desk, venue, 3)
    assert (desk.guard, desk.reasons, resting(desk)) == (GuardState.REDUCING, {"edge"}, set())
    venue.answer(desk.feed(desk.fees(0.0002, 0.0006)).commands)
    seconds(desk, venue, 4)
    assert (desk.guard, resting(desk)) == (GuardState.RUNNING, set(Side))


def test_one_blocked_side_is_a_missing_quote() -> None:
    """The other side quotes on, and the guard has nothing to say."""
    desk = Desk(params(cost={"adverse_cap_bps": 20.0})).start()
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    for _ in range(33):
        desk.state.markouts.impacts[desk.state.detector.regime, Side.BUY] = poison(desk)
        seconds(desk, venue, 1)
    decision = desk.state.decision
    assert decision is not None
    assert (desk.guard, decision.no_bid, decision.no_ask) == (GuardState.RUNNING, "edge", "")
    assert resting(desk) == {Side.SELL}
    del desk.state.markouts.impacts[desk.state.detector.regime, Side.BUY]
    seconds(desk, venue, 2)
    assert resting(desk) == set(Side)


def poison(desk: Desk) -> FadingMean:
    """Buys that lose more than the cost model believes: its cap counts."""
    return FadingMean(mean=-60.0, count=400.0, at_ns=desk.now_ns)
