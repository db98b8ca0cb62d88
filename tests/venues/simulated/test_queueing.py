"""Place in the queue: prints come off the front, cancellations by the rule, and nobody is counted twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule

RISK_AVERSE = QueueModel(QueueRule.RISK_AVERSE)
EVEN = QueueModel(QueueRule.PROB, 1)
CUBIC = QueueModel(QueueRule.PROB, 3)


def test_risk_averse_takes_cancellations_to_be_behind_us_until_less_is_displayed_than_we_believed_ahead() -> None:
    assert RISK_AVERSE.ahead_after(30, 100, 0, 60) == 30
    assert RISK_AVERSE.ahead_after(30, 100, 0, 20) == 20
    assert RISK_AVERSE.ahead_after(30, 100, 0, 0) == 0


def test_a_fall_that_prints_explain_moves_nobody_again() -> None:
    # 100 displayed, 40 ahead of us; 10 print (30 ahead now), and the next book shows the 90 that are left
    for model in (RISK_AVERSE, EVEN, CUBIC):
        assert model.ahead_after(30, 100, 10, 90) == 30


def test_what_prints_do_not_explain_is_spread_by_the_power_of_the_lengths() -> None:
    # 20 of 100 cancel, 60 ahead and 40 behind
    assert EVEN.ahead_after(60, 100, 0, 80) == 60 - 20 * 60 // 100
    assert CUBIC.ahead_after(60, 100, 0, 80) == 60 - 20 * 60**3 // (60**3 + 40**3)


def test_more_cancellations_than_stand_behind_us_must_come_from_ahead() -> None:
    # 15 cancel but only 10 stand behind; the cubic rule alone would put all but none ahead when the back is longer
    assert CUBIC.ahead_after(10, 100, 0, 5) == 5
    assert QueueModel(QueueRule.PROB, 16).ahead_after(50, 60, 0, 30) <= 30


def test_growth_joins_behind_us() -> None:
    for model in (RISK_AVERSE, EVEN, CUBIC):
        assert model.ahead_after(30, 100, 0, 500) == 30


def test_an_exponent_that_is_no_exponent_is_refused() -> None:
    for exponent in (0, 17, 3.0):
        with pytest.raises(ValueError, match="from 1 to 16"):
            QueueModel(QueueRule.PROB, exponent)  # pyright: ignore[reportArgumentType]


lots = st.integers(0, 10_000)


@given(lots, lots, lots, lots, st.sampled_from([RISK_AVERSE, EVEN, CUBIC]))
def test_we_only_move_forward_and_never_see_more_ahead_than_is_displayed(
    ahead: int, seen: int, traded: int, displayed: int, model: QueueModel
) -> None:
    after = model.ahead_after(ahead, seen, traded, displayed)
    assert 0 <= after <= min(ahead, displayed)
    assert after <= RISK_AVERSE.ahead_after(ahead, seen, traded, displayed)


@given(lots, lots, lots)
def test_lots_that_cancel_come_from_one_side_of_us_or_the_other(ahead: int, behind: int, displayed: int) -> None:
    """Ahead plus behind falls by exactly what was cancelled, whatever the rule's split."""
    level = ahead + behind
    displayed = min(displayed, level)
    after = EVEN.ahead_after(ahead, level, 0, displayed)
    assert 0 <= displayed - after <= behind
