"""The judge of our fills: a regime that loses is quoted wider, a side that loses is not quoted, and both come back."""

import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mmdaemon.core import fill_quality, markout
from mmdaemon.core.events import Fill
from mmdaemon.core.fading import FadingMean
from mmdaemon.core.fill_quality import BLOCKS_LEAST, Block, Phase, Quality, Tracker, bound_of
from mmdaemon.core.markout import Held, Markout, Markouts, Watched
from mmdaemon.core.params import QualityParams
from mmdaemon.core.quotes import decide
from mmdaemon.core.sampled import quantised
from mmdaemon.core.state import Dirty
from mmdaemon.core.types import NEVER_NS, NS, ExecKind, GuardState, Liquidity, OrderStatus, Regime, Side
from tests.core.build import DEFAULT, MID, Desk, inputs, params, running

P = DEFAULT.quality
TRACKER = msgspec.structs.replace(P, pull_enabled=False)
CALM, MIDDLE, SHOCK = Regime.NEUTRAL_LOW_VOL, Regime.NEUTRAL_HIGH_VOL, Regime.HIGH_VOL_SHOCK
MAKER_BPS, MIN_EDGE_BPS = 2.0, DEFAULT.cost.min_edge_bps
T_BPS = MAKER_BPS + MIN_EDGE_BPS
TAU_S = P.tracker_tau_ns / NS
F = 100_000.0


class Judge:
    """Fills of a stated gross markout, and the timer, by the second."""

    def __init__(self, p: QualityParams = P) -> None:
        self.p = p
        self.q = Quality()
        self.now_s = 1_000
        self.waiting: list[Markout] = []
        self.ordinal = 0

    def fill(
        self, gross_bps: float, side: Side = Side.BUY, regime: Regime = CALM, fee_bps: float = 2.0, maker: bool = True
    ) -> None:
        """One that is worth so much from its first second on."""
        self.ordinal += 1
        at_ns = self.now_s * NS
        watched = Watched(f"t{self.ordinal}", side, regime, at_ns, F, round(F), 1, fee_bps, maker)
        worth = F * (1 + side * gross_bps * 1e-4)
        self.waiting += [Markout(watched, horizon_s, worth) for horizon_s in markout.HORIZONS_S]

    def seconds(self, n: int) -> list[int]:
        """Let time pass. Returns the seconds at which something changed for a decision."""
        changed: list[int] = []
        for _ in range(n):
            self.now_s += 1
            for closed in sorted(self.waiting, key=lambda m: m.due_ns):
                if closed.due_ns < self.now_s * NS:
                    self.waiting.remove(closed)
                    fill_quality.learn(self.q, closed, self.p)
            if fill_quality.on_timer(self.q, self.now_s * NS, MAKER_BPS, MIN_EDGE_BPS, self.p):
                changed.append(self.now_s)
        return changed

    def fills(self, n: int, every_s: int, gross_bps: float, **fill: Any) -> None:
        for _ in range(n):
            self.fill(gross_bps, **fill)
            self.seconds(every_s)

    def wide(self) -> set[Regime]:
        return {regime for regime in Regime if fill_quality.multiplier(self.q, regime, self.p) > 1}

    def pulled(self) -> set[Side]:
        return {side for side in Side if fill_quality.is_pulled(self.q, side)}

    def returning(self) -> set[Side]:
        return {side for side in Side if fill_quality.is_returning(self.q, side)}


# --- tracker ----------------------------------------------------------------------------------------------------------


def test_the_tracker_widens_its_regime_only() -> None:
    judge = Judge(TRACKER)
    judge.fills(60, 30, -8.0, regime=SHOCK)
    judge.fills(20, 30, 5.0, regime=CALM)
    judge.fills(60, 30, -8.0, regime=SHOCK)
    assert judge.wide() == {SHOCK}
    assert fill_quality.multiplier(judge.q, SHOCK, P) == P.tracker_widen == 1.5
    assert fill_quality.multiplier(judge.q, Regime.UP, P) == 1.0


def test_it_widens_after_its_time_below_and_not_before() -> None:
    judge = Judge(TRACKER)
    began: int | None = None
    widened: int | None = None
    for _ in range(400):
        judge.fill(-8.0)
        judge.seconds(10)
        tracker = judge.q.trackers.get(CALM)
        began = began or (tracker.below_ns // NS if tracker and tracker.below_ns else None)
        widened = widened or (judge.now_s if judge.wide() else None)
    assert began is not None
    assert widened is not None
    assert 0 <= widened - began - P.tracker_after_ns // NS <= 10


def test_a_break_below_the_threshold_begins_its_time_anew() -> None:
    judge = Judge(TRACKER)
    judge.fills(100, 15, -8.0)
    assert judge.q.trackers[CALM].below_ns
    judge.fills(30, 30, 9.0)
    assert judge.q.trackers[CALM].below_ns == 0
    judge.fills(100, 15, -8.0)
    assert judge.wide() == set()


def test_a_loss_within_fee_and_least_edge_is_no_reason() -> None:
    judge = Judge(TRACKER)
    judge.fills(400, 15, -T_BPS + 0.1)
    assert judge.wide() == set()


def test_it_recovers_with_good_fills() -> None:
    judge = Judge(TRACKER)
    judge.fills(300, 15, -8.0)
    assert judge.wide() == {CALM}
    before_s = judge.now_s
    while judge.wide():
        judge.fill(2.0)
        judge.seconds(15)
    good_s = judge.now_s - before_s
    assert 0 < good_s < 1.2 * TAU_S

    idle = Judge(TRACKER)
    idle.fills(300, 15, -8.0)
    idle.seconds(good_s + 60)
    assert idle.wide() == {CALM}  # by no fills it takes longer


def test_it_recovers_without_fills() -> None:
    """The mean fades by e in each tau, and lets go at half of the threshold."""
    judge = Judge(TRACKER)
    judge.fills(300, 15, -8.0)
    assert judge.wide() == {CALM}
    judge.seconds(40)
    tracker = judge.q.trackers[CALM]
    due_s = tracker.markout.at_ns / NS + TAU_S * math.log(tracker.markout.mean / (-P.tracker_return * T_BPS))
    changed = judge.seconds(3 * 3_600)
    assert changed == [pytest.approx(due_s, abs=1.1)]
    assert judge.wide() == set()


def test_it_lets_go_at_a_fraction_of_what_it_took_to_widen() -> None:
    judge = Judge(TRACKER)
    judge.fills(300, 15, -8.0)
    while judge.wide():
        judge.fill(-1.0)
        judge.seconds(15)
    assert judge.q.trackers[CALM].markout.mean == pytest.approx(-P.tracker_return * T_BPS, abs=0.1)


def test_a_rebate_that_leaves_no_threshold_does_not_widen_for_good() -> None:
    judge = Judge(TRACKER)
    for second in range(1, 7_200):
        fill_quality.on_timer(judge.q, second * NS, -9.0, 1.0, P)
    judge.fill(-0.05)
    judge.seconds(40)
    for second in range(7_200):
        fill_quality.on_timer(judge.q, (judge.now_s + second) * NS, -9.0, 1.0, P)
    assert judge.wide() == set()


def test_without_known_fees_no_regime_is_judged() -> None:
    judge = Judge(TRACKER)
    judge.fills(3, 15, -500.0)
    judge.q.trackers[CALM].below_ns = 0
    for second in range(100):
        assert not fill_quality.on_timer(judge.q, (judge.now_s + second) * NS, None, 1.0, P)
    assert judge.q.trackers[CALM].below_ns == 0


def test_what_took_is_not_judged_by() -> None:
    judge = Judge(TRACKER)
    judge.fills(400, 15, -8.0, maker=False)
    assert judge.wide() == judge.pulled() == set()


# --- the bound --------------------------------------------------------------------------------------------------------


def test_the_bound_by_hand() -> None:
    """Ten blocks: mean -2, residuals +-3 but for two of 0, t of nine degrees of freedom."""
    blocks = [Block(i, 2, -4.0 + r) for i, r in enumerate([3, -3, 3, -3, 3, -3, 3, -3, 0, 0])]
    bound = bound_of(blocks)
    assert bound is not None
    assert (bound.mean_bps, bound.fills, bound.blocks) == (-2.0, 20, 10)
    assert bound.upper_bps == pytest.approx(-2.0 + 1.833 * math.sqrt(10 / 9 * 72) / 20)


def test_below_eight_blocks_there_is_no_bound() -> None:
    blocks = [Block(i, 100, -900.0) for i in range(BLOCKS_LEAST)]
    assert bound_of(blocks[1:]) is None
    assert bound_of(blocks) is not None


def gauss_blocks(dice: random.Random, n: int, a_block: int, shared: float) -> list[Block]:
    """Fills of mean 0, of which so much of the variance is common to their block."""
    made: list[Block] = []
    for i in range(n):
        common = dice.gauss(0, math.sqrt(shared))
        own = [dice.gauss(0, math.sqrt(1 - shared)) for _ in range(a_block)]
        made.append(Block(i, a_block, sum(own) + a_block * common))
    return made


def test_fills_of_one_block_are_not_taken_as_independent() -> None:
    """A bound at 95 % is wrong in 5 % of cases where fills share their block's fate; as if independent it would be in
    some 30 %."""
    dice = random.Random(5)
    wrong = naive = 0
    for _ in range(2_000):
        blocks = gauss_blocks(dice, 12, 10, shared=0.8)
        bound = bound_of(blocks)
        assert bound is not None
        wrong += bound.upper_bps < 0
        naive += bound.mean_bps + 1.645 / math.sqrt(bound.fills) < 0
    assert wrong / 2_000 == pytest.approx(0.05, abs=0.015)
    assert naive / 2_000 > 0.25


# --- pull -------------------------------------------------------------------------------------------------------------


def poison(judge: Judge, side: Side, minutes: int) -> Iterator[int]:
    """Fills every 10 s, bad on one side and good on the other."""
    for _ in range(minutes * 6):
        judge.fill(-3.0, side=side)
        judge.fill(4.0, side=side.opposite)
        judge.seconds(10)
        yield judge.now_s


@pytest.mark.parametrize("side", list(Side))
def test_only_the_poisoned_side_is_pulled_and_it_returns(side: Side) -> None:
    judge = Judge()
    begun_s = judge.now_s
    pulled_s = next(now_s for now_s in poison(judge, side, 60) if judge.pulled())
    assert judge.pulled() == {side}
    # Thirty fills are there after five minutes, eight blocks of a minute after eight.
    assert pulled_s - begun_s == pytest.approx(8 * 60 + 6, abs=10)
    changed: list[int] = []
    while len(changed) < 2:
        judge.fill(4.0, side=side.opposite)
        changed += judge.seconds(10)
        assert judge.pulled() | judge.returning() <= {side}
    assert changed[0] - pulled_s == pytest.approx(P.pull_ns / NS, abs=10)
    assert changed[1] - changed[0] == P.return_ns / NS
    assert judge.q.buy.phase is judge.q.sell.phase is Phase.QUOTED


def test_it_returns_at_reduced_size_and_is_judged_on_fills_since_then() -> None:
    judge = Judge()
    for _ in poison(judge, Side.BUY, 9):
        pass
    assert judge.pulled() == {Side.BUY}
    judge.fills(80, 10, -9.0)  # of reducing orders, while it is out: no evidence
    while judge.pulled():
        judge.seconds(1)
    assert judge.returning() == {Side.BUY}
    assert judge.q.buy.blocks == []
    judge.fills(59, 10, -3.0)
    assert judge.returning() == {Side.BUY}
    judge.seconds(20)
    assert judge.pulled() == {Side.BUY}  # as bad as before: its fills since the return say so at once

    other = Judge()
    for _ in poison(other, Side.BUY, 9):
        pass
    while other.pulled():
        other.seconds(1)
    other.fills(200, 10, 3.0)
    assert other.pulled() == set()


def test_a_fill_of_before_the_return_that_is_valued_after_it_is_no_evidence() -> None:
    judge = Judge()
    for _ in poison(judge, Side.BUY, 9):
        pass
    while judge.q.buy.until_ns - judge.now_s * NS > 2 * NS:
        judge.seconds(1)
    judge.fill(-50.0)
    judge.seconds(20)
    assert judge.returning() == {Side.BUY}
    assert judge.q.buy.blocks == []


def test_fewer_than_thirty_fills_pull_nothing() -> None:
    judge = Judge()
    judge.fills(P.pull_min_fills - 1, 40, -20.0)
    judge.seconds(120)
    assert judge.pulled() == set()
    assert judge.q.buy.bound is not None
    assert judge.q.buy.bound.upper_bps < 0


def test_many_fills_of_a_few_moments_pull_nothing() -> None:
    """A hundred fills of one sweep are one piece of evidence."""
    judge = Judge()
    for _ in range(BLOCKS_LEAST - 1):
        for _ in range(100):
            judge.fill(-20.0)
        judge.seconds(70)
    assert judge.pulled() == set()


def test_fills_older_than_the_memory_are_not_judged_by() -> None:
    judge = Judge(msgspec.structs.replace(P, pull_min_fills=100))
    judge.fills(99, 20, -5.0)
    judge.seconds(P.pull_memory_ns // NS)
    judge.fills(60, 40, 5.0)
    judge.seconds(60)
    bound = judge.q.buy.bound
    assert bound is not None
    assert (bound.fills, bound.mean_bps) == (60, pytest.approx(3.0))  # less the fee
    assert judge.pulled() == set()


def test_the_fee_that_was_charged_decides() -> None:
    """Gross 1 bp: with a fee of 2 it loses, with a rebate it does not."""
    for fee_bps, expected in ((2.0, {Side.SELL}), (-0.5, set[Side]())):
        judge = Judge()
        judge.fills(60, 10, 1.0, side=Side.SELL, fee_bps=fee_bps)
        assert judge.pulled() == expected


def test_a_side_whose_losses_are_chance_is_not_pulled() -> None:
    judge = Judge()
    dice = random.Random(1)
    for _ in range(360):
        judge.fill(2.5 + dice.gauss(0, 6))  # half a bp after the fee
        judge.seconds(10)
        assert judge.pulled() == set()


def test_switched_off_nothing_is_pulled_and_what_was_is_let_go() -> None:
    off = msgspec.structs.replace(P, pull_enabled=False)
    judge = Judge(off)
    judge.fills(100, 10, -9.0)
    assert judge.pulled() == set()
    assert judge.q.buy.blocks == []
    other = Judge()
    for _ in poison(other, Side.BUY, 9):
        pass
    assert other.pulled() == {Side.BUY}
    assert fill_quality.on_timer(other.q, other.now_s * NS, MAKER_BPS, MIN_EDGE_BPS, off)
    assert other.pulled() == other.returning() == set()


def test_memory_is_bounded() -> None:
    judge = Judge(msgspec.structs.replace(P, pull_min_fills=1_000))
    for second in range(20_000):
        watched = Watched(f"{second}", Side.BUY, CALM, second * NS, F, round(F), 1, 2.0, True)
        fill_quality.learn(judge.q, Markout(watched, P.pull_horizon_s, F), P)
        fill_quality.on_timer(judge.q, second * NS, MAKER_BPS, MIN_EDGE_BPS, judge.p)
    assert len(judge.q.buy.blocks) <= P.pull_memory_ns // (60 * NS) + 2


# --- another process --------------------------------------------------------------------------------------------------


def test_it_goes_on_by_the_clock_of_another_process() -> None:
    judge = Judge()
    for _ in poison(judge, Side.BUY, 9):
        pass
    judge.fills(40, 15, -8.0, side=Side.SELL, regime=SHOCK)
    left_ns = judge.q.buy.until_ns - judge.now_s * NS
    below_ns = judge.now_s * NS - judge.q.trackers[SHOCK].below_ns
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(judge.q), type=Quality)
    assert copy == judge.q
    now_ns = 50 * NS
    fill_quality.rebase(copy, now_ns - judge.now_s * NS, now_ns, P)
    assert copy.buy.until_ns - now_ns == left_ns
    assert now_ns - copy.trackers[SHOCK].below_ns == below_ns
    assert [block.fills for block in copy.sell.blocks] == [block.fills for block in judge.q.sell.blocks]


def test_after_a_step_of_the_clock_nothing_is_in_the_future_for_long() -> None:
    judge = Judge()
    for _ in poison(judge, Side.BUY, 9):
        pass
    now_ns = judge.now_s * NS
    fill_quality.rebase(judge.q, 10**15, now_ns, P)
    assert judge.q.buy.until_ns <= now_ns + P.pull_ns
    assert judge.q.trackers[CALM].markout.at_ns <= now_ns
    assert judge.q.buy.since_ns <= now_ns


# --- the closed loop --------------------------------------------------------------------------------------------------


def loop(
    loss_bps: float, per_s: float, reach_bps: float, hours: float, toxic_hours: float = 1e9
) -> list[tuple[float, float]]:
    """(distance of the bid, addend for adverse selection) a second, both in bps.

    Fills come with intensity per_s * exp(-distance / reach), each loses `loss_bps` within 5 s and never gets it back.
    """
    p, regime = DEFAULT, MIDDLE
    unit_e10 = p.instrument.unit_e10
    markouts, quality = Markouts(), Quality()
    due, seen = 0.0, list[tuple[float, float]]()
    for second in range(1, round(hours * 3_600)):
        now_ns = second * NS
        after = Held(MID * (1 - loss_bps * 1e-4), -1, NEVER_NS)
        for closed in markout.close(markouts, now_ns, after, second):
            markout.learn(markouts, closed, unit_e10, p.cost)
            fill_quality.learn(quality, closed, p.quality)
        fill_quality.on_timer(quality, now_ns, MAKER_BPS, MIN_EDGE_BPS, p.quality)
        adverse = quantised(markout.adverse_bps(markouts, regime, Side.BUY, now_ns, p.cost), 0.05)
        widened = fill_quality.multiplier(quality, regime, p.quality)
        decision = decide(inputs(regime=regime, adverse_buy_bps=adverse, tracker_multiplier=widened), p)
        bid = next(quote for quote in decision.quotes if quote.side is Side.BUY)
        distance = (MID - bid.px_ticks) / MID * 1e4
        due += per_s * math.exp(-distance / reach_bps) if second < toxic_hours * 3_600 else 0.0
        if due >= 1.0:
            due -= 1.0
            times = (now_ns, now_ns, None)
            made = Fill(*times, f"t{second}", "x", Side.BUY, bid.px_ticks, 1, 0, Liquidity.MAKER, ExecKind.TRADE)
            markout.on_fill(markouts, made, float(MID), regime, p.instrument, 2 * NS)
        seen.append((distance, adverse))
    return seen


@pytest.mark.parametrize(("loss_bps", "per_s", "reach_bps"), [(6.0, 0.2, 5.0), (10.0, 0.05, 10.0)])
def test_under_constant_toxicity_the_width_converges(loss_bps: float, per_s: float, reach_bps: float) -> None:
    seen = loop(loss_bps, per_s, reach_bps, hours=5)
    distances = [distance for distance, _ in seen]
    settled = distances[-3_600:]
    assert max(settled) - min(settled) <= 0.11  # two steps of the sampled addend
    assert max(settled) > distances[0] + 1.0  # it did widen
    assert max(distances) <= max(settled) + 0.11  # and did not shoot over
    memory_fills = DEFAULT.cost.adverse_tau_ns / NS * per_s * math.exp(-settled[-1] / reach_bps)
    n0 = DEFAULT.cost.adverse_prior_fills
    assert seen[-1][1] == pytest.approx(loss_bps * memory_fills / (memory_fills + n0), rel=0.05)


def test_after_the_toxicity_the_width_comes_back_to_where_it_was() -> None:
    seen = loop(6.0, 0.2, 5.0, hours=5, toxic_hours=2)
    end = [adverse for _, adverse in seen[2 * 3_600 + 10 :]]
    assert end == sorted(end, reverse=True)
    assert end[0] > 1.0
    assert end[-1] == 0.0
    assert seen[-1][0] == pytest.approx(seen[0][0], abs=0.02)


# --- in the engine ----------------------------------------------------------------------------------------------------

FAST = params(
    quality={"pull_min_fills": 10, "pull_s": 60.0, "return_s": 30.0, "tracker_after_s": 10.0, "tracker_memory_s": 60.0},
    guard={"fills_per_side_per_minute": 200},
)


def suffer(desk: Desk, side: Side, seconds: int, every_s: int = 3) -> None:
    """Fills of one side that lose 6 bps at once, and are flattened at no loss."""
    for second in range(seconds):
        if second % every_s == 0:
            desk.all_of(desk.fill(side, 1, MID + side * 390), desk.fill(side.opposite, 1, MID + side * 390))
        desk.seconds(1)
        desk.acknowledge()


def reasons(desk: Desk) -> tuple[str, str]:
    assert desk.state.decision is not None
    return desk.state.decision.no_bid, desk.state.decision.no_ask


def test_a_pull_takes_the_quotes_of_its_side_out_and_they_come_back_small() -> None:
    desk = running(FAST)
    full = {quote.side: quote.qty_lots for quote in (desk.state.decision.quotes if desk.state.decision else ())}
    for _ in range(200):
        suffer(desk, Side.BUY, 3)
        if fill_quality.is_pulled(desk.state.quality, Side.BUY):
            break
    assert desk.guard is GuardState.RUNNING
    assert reasons(desk) == ("pulled", "")
    desk.seconds(61)
    assert desk.state.quality.buy.phase is Phase.RETURNING
    assert reasons(desk) == ("", "")
    assert desk.state.decision is not None
    back = {quote.side: quote.qty_lots for quote in desk.state.decision.quotes}
    assert back[Side.BUY] < full[Side.BUY]
    assert back[Side.SELL] == full[Side.SELL]
    desk.seconds(31)
    assert {quote.side: quote.qty_lots for quote in desk.state.decision.quotes}[Side.BUY] == full[Side.BUY]


def test_a_verdict_in_a_quiet_second_is_a_decision_at_once() -> None:
    """Nothing else calls for one: no fill, no move, no order."""
    desk = running()
    desk.seconds(5)
    assert desk.state.inputs is not None
    tracker = Tracker(FadingMean(-T_BPS * P.tracker_return - 1e-6, 9.0, desk.now_ns), is_wide=True)
    desk.state.quality.trackers[desk.state.detector.regime] = tracker
    desk.state.dirty |= Dirty.COSTS
    desk.seconds(1)
    assert desk.state.inputs.tracker_multiplier == 1.0
    desk.state.quality.buy.phase, desk.state.quality.buy.until_ns = Phase.PULLED, desk.now_ns + 3 * NS
    before = desk.state.inputs.mono_ns
    desk.state.dirty |= Dirty.COSTS
    desk.seconds(1)
    assert reasons(desk) == ("pulled", "")
    for order in [order for order in desk.live if order.side is Side.BUY]:
        desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
    desk.seconds(1)
    assert desk.state.inputs.mono_ns == before + NS  # nothing to decide
    desk.seconds(1)
    assert reasons(desk) == ("", "")
    assert desk.state.inputs.mono_ns == before + 3 * NS


def test_the_tracker_widens_what_is_quoted() -> None:
    desk = running(FAST)
    assert desk.state.inputs is not None
    assert desk.state.decision is not None
    assert desk.state.inputs.tracker_multiplier == 1.0
    for _ in range(20):
        for side in Side:
            desk.feed(desk.fill(side, 1, MID + side * 390))
        desk.seconds(5)
    assert desk.state.inputs.tracker_multiplier == 1.5
    assert desk.state.quality.trackers.keys() == {desk.state.detector.regime}


def test_the_tracker_judges_by_the_fee_that_quotes_rest_on() -> None:
    """Fills that lose 6 bps are below 2 + 1 of the schedule, and not below 6 + 1 of what is charged: one maker fee."""
    desk = running(FAST)
    fee_e10 = round(6e-4 * desk.params.instrument.notional_e10(MID, 1))
    for _ in range(20):
        desk.feed(desk.fill(Side.BUY, 1, MID, fee_e10=fee_e10))
    assert desk.state.venue.charged.rate == pytest.approx(6e-4, rel=1e-3)
    for _ in range(20):
        for side in Side:
            desk.feed(desk.fill(side, 1, MID + side * 390, fee_e10=fee_e10))
        desk.seconds(5)
    assert desk.state.inputs is not None
    assert desk.state.inputs.maker_bps == pytest.approx(6.0, rel=1e-3)
    assert desk.state.inputs.tracker_multiplier == 1.0
