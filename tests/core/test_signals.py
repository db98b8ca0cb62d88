"""Signals from outside: what is refused moves nothing, what is taken leans, widens, shrinks and stops, and ends.

Every desk here has live orders and a position, unless a test says otherwise.
"""

from collections.abc import Callable
from itertools import permutations
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import quotes, signals
from mmdaemon.core.events import SignalRefused, SourceChanged
from mmdaemon.core.observe import observe
from mmdaemon.core.signals import NO_EFFECT, REFUSALS, Kind
from mmdaemon.core.types import NS, GuardState, Regime, Side
from tests.core.build import Desk, hostile, inputs, modest, params, play, running

WIDE = {"spread_min_bps": 20.0}
PARAMS = params(regimes={"neutral_low_vol": WIDE, "neutral_high_vol": WIDE})
"""So wide that no quote stands at its floor, where leaning moves nothing."""


def desk(lots: int = 40) -> Desk:
    at_work = running(PARAMS).hold(lots)
    at_work.seconds(2)
    at_work.acknowledge()
    assert at_work.live
    assert at_work.guard is GuardState.RUNNING
    return at_work


def wanted(at_work: Desk) -> quotes.Decision:
    decision = at_work.state.decision
    assert decision is not None
    return decision


def counts(at_work: Desk) -> dict[tuple[str, str], int]:
    return at_work.state.signals.counts


# --- what is refused --------------------------------------------------------------------------------------------------

BAD: dict[str, list[dict[str, Any]]] = {
    "version": [{"version": 2}, {"version": 0}],
    "unknown_source": [{"source": "stranger"}, {"source": ""}],
    "unknown_kind": [{"kind": "gap"}, {"kind": "TARGET_INVENTORY"}, {"kind": ""}],
    "not_allowed": [{"source": "narrow", "kind": "target_inventory"}],
    "value": [
        *({"value": x} for x in (nan, inf, -inf, 1.01, -1.01, "0.5", "up", True)),
        *({"kind": "size_multiplier", "value": x} for x in (-0.01, 1.01, nan)),
        *({"kind": "spread_multiplier", "value": x} for x in (0.99, 10.1, 0.0)),
        *({"kind": "regime_hint", "value": x} for x in ("calm", "", 1.0)),
        *({"kind": "pause", "value": x} for x in ("everything", "", 1.0)),
    ],
    "confidence": [{"confidence": x} for x in (nan, inf, -0.1, 1.1)],
    "low_confidence": [{"confidence": 0.19}, {"confidence": 0.0}],
    "ttl": [{"ttl_s": x} for x in (0.0, -1.0, nan, inf, 600.1, 1e-10)],
    "future": [{"age_s": -1.1}, {"age_s": -1e9}],
    "stale": [{"age_s": 10.1, "ttl_s": 60.0}, {"age_s": 1e9, "ttl_s": 60.0}],
    "expired": [{"age_s": 5.0, "ttl_s": 5.0}, {"age_s": 9.0, "ttl_s": 3.0}],
    "replayed": [{"sequence": 1_000}],
    "out_of_order": [{"sequence": 999}, {"sequence": -1}],
}


@pytest.mark.parametrize(("why", "over"), [(why, over) for why, rows in BAD.items() for over in rows])
def test_what_is_refused_is_counted_and_moves_nothing(why: str, over: dict[str, Any]) -> None:
    said, quiet = desk(), desk()
    for each in (said, quiet):
        each.feed(each.signal(value=0.2, sequence=1_000))
    said.ordinal = quiet.ordinal = 1_000
    before = msgspec.structs.replace(said.state.signals)
    asked: dict[str, Any] = {"value": -0.9, **over}
    bad = said.signal(**asked)

    step = said.feed(bad)

    source = over.get("source", "desk")
    assert counts(said) == {**counts(quiet), (source if source in PARAMS.signals.sources else "", why): 1}
    assert not step.commands
    assert step.decision is None
    after = said.state.signals
    assert (after.standing, after.last, after.effect, after.due_ns) == (
        before.standing,
        before.last,
        before.effect,
        before.due_ns,
    )
    outcome = after.outcomes[-1]
    assert (outcome.what, outcome.reason, outcome.source, outcome.kind) == ("refused", why, bad.source, bad.kind)
    for each in (said, quiet):
        each.ordinal = 5_000
        each.seconds(3)
    assert wanted(said) == wanted(quiet)
    assert [o.px_ticks for o in said.live] == [o.px_ticks for o in quiet.live]


def test_every_reason_of_the_core_has_its_bad_signals() -> None:
    assert set(REFUSALS) == {*BAD, "malformed", "flooding", "off"}


def test_what_the_door_refused_is_counted() -> None:
    at_work = desk()
    at_work.feed(SignalRefused(*at_work.now, "desk", "flooding", 9_000))
    at_work.feed(SignalRefused(*at_work.now, "made up by whoever writes", "flooding", 5))
    at_work.feed(SignalRefused(*at_work.now, "another", "malformed", 2))
    assert counts(at_work) == {("desk", "flooding"): 9_000, ("", "flooding"): 5, ("", "malformed"): 2}
    assert at_work.state.signals.outcomes[-1].count == 2


def test_names_of_strangers_fill_no_memory() -> None:
    at_work = desk()
    for i in range(500):
        at_work.feed(at_work.signal(source=f"stranger {i}"))
    assert counts(at_work) == {("", "unknown_source"): 500}
    assert at_work.state.signals.standing == at_work.state.signals.last == {}


# --- a target ---------------------------------------------------------------------------------------------------------


def test_a_target_moves_the_quotes_in_the_decision_of_its_own_event() -> None:
    at_work = desk(lots=0)
    before = wanted(at_work)

    step = at_work.feed(at_work.signal(value=0.5))

    assert step.decision is wanted(at_work)
    after = wanted(at_work)
    assert after.reservation_ticks > before.reservation_ticks
    assert (after.skew_bps, after.half_bps) == (before.skew_bps, before.half_bps)
    assert (after.buy_edge, after.sell_edge) == (before.buy_edge, before.sell_edge)
    assert after.max_position_lots == before.max_position_lots
    for quote in after.quotes:
        assert quote.addends.target > 0.0
        assert quote.addends.direction == 0.0
        assert quote.addends.total == quote.px_ticks
    assert all(a.px_ticks > b.px_ticks for a, b in zip(after.quotes, before.quotes, strict=True) if a.side is Side.BUY)


def test_at_its_target_inventory_leans_to_neither_side() -> None:
    limit = wanted(desk()).max_position_lots
    at_target = desk(lots=limit // 4)
    at_target.feed(at_target.signal(value=0.25))
    decision = wanted(at_target)
    lean = decision.quotes[0].addends
    assert lean.skew + lean.target == pytest.approx(0.0, abs=0.002 * abs(lean.skew))
    assert decision.skew_bps > 0.0


def test_it_decays_from_the_middle_of_its_life_and_ends_at_its_end() -> None:
    at_work = desk()
    at_work.feed(at_work.signal(value=0.4, ttl_s=20.0, confidence=0.5))
    begun_ns, heard = at_work.now_ns, {}
    while at_work.now_ns < begun_ns + 22 * NS:
        at_work.wait(0.25)
        at_work.healthy_second()
        heard[(at_work.now_ns - begun_ns) / NS] = at_work.state.signals.effect.target
    for age_s, target in heard.items():
        left = min(1.0, 2.0 * (1.0 - age_s / 20.0))
        assert 0.4 * 0.5 * max(0.0, left) <= target + 1e-12 <= 0.4 * 0.5 * max(0.0, left + 0.1) + 1e-9
    assert {age_s: target for age_s, target in heard.items() if age_s >= 20.0} == dict.fromkeys(
        [20.0, 20.25, 20.5, 20.75, 21.0, 21.25, 21.5, 21.75, 22.0], 0.0
    )
    assert heard[19.75] > 0.0
    assert len(set(heard.values())) == 11, "ten steps and the end"
    told = [o.what for _, o in outcomes(at_work) if o.source == "desk"]
    assert told == ["applied", "expired"]
    assert wanted(at_work).quotes[0].addends.target == 0.0


def outcomes(at_work: Desk) -> list[tuple[int, signals.Outcome]]:
    """Everything that was told, by feeding the same events to the slice alone."""
    told: list[tuple[int, signals.Outcome]] = []
    again = Desk(PARAMS)
    for event, _ in at_work.log:
        again.feed(event)
        if again.state.signals.outcomes_seq == again.state.seq:
            told += [(again.state.seq, outcome) for outcome in again.state.signals.outcomes]
    return told


def test_it_is_as_old_as_it_was_when_it_came() -> None:
    at_work = desk()
    at_work.feed(at_work.signal(value=0.4, ttl_s=10.0, age_s=6.0))
    assert at_work.state.signals.effect.target == pytest.approx(0.4 * 0.8)
    assert max(one.until_ns for one in at_work.state.signals.standing.values()) == at_work.now_ns + 4 * NS


def test_a_newer_one_takes_its_place() -> None:
    at_work = desk()
    at_work.feed(at_work.signal(value=0.4))
    at_work.feed(at_work.signal(value=-0.1))
    assert at_work.state.signals.effect.target == -0.1
    assert [o.what for o in at_work.state.signals.outcomes] == ["replaced", "applied"]


# --- the other kinds --------------------------------------------------------------------------------------------------


def test_a_direction_moves_the_reservation_price_and_no_floor() -> None:
    at_work, quiet = desk(), desk()
    at_work.feed(at_work.signal("direction_hint", -1.0))
    up, still = wanted(at_work), wanted(quiet)
    assert up.reservation_ticks == pytest.approx(still.reservation_ticks * (1 - 1e-4), rel=1e-7)
    assert {q.addends.direction for q in up.quotes} == {-1e-4 * up.quotes[0].addends.fair}
    assert (up.buy_edge, up.sell_edge, up.half_bps) == (still.buy_edge, still.sell_edge, still.half_bps)


@pytest.mark.parametrize("lots", [-40, 0, 40])
def test_a_size_shrinks_what_increases_the_position(lots: int) -> None:
    at_work, quiet = desk(lots), desk(lots)
    at_work.feed(at_work.signal("size_multiplier", 0.5))
    for side in Side:
        small = [q.qty_lots for q in wanted(at_work).quotes if q.side is side]
        whole = [q.qty_lots for q in wanted(quiet).quotes if q.side is side]
        out_of_it = max(0, -side * lots)
        assert small[0] == max(whole[0] // 2, min(whole[0], out_of_it))


def test_out_of_a_position_the_size_stays_whole_and_through_it_it_does_not() -> None:
    p = PARAMS
    seen = inputs(position_lots=100, signal_size=0.25)
    sells = [q.qty_lots for q in quotes.decide(seen, p).quotes if q.side is Side.SELL]
    buys = [q.qty_lots for q in quotes.decide(seen, p).quotes if q.side is Side.BUY]
    whole = [q.qty_lots for q in quotes.decide(inputs(position_lots=100), p).quotes if q.side is Side.SELL]
    assert whole[0] < 100
    assert sells[0] == whole[0]
    assert buys[0] < whole[0] / 2
    turning = quotes.decide(inputs(position_lots=3, signal_size=0.25), p).quotes
    assert next(q.qty_lots for q in turning if q.side is Side.SELL) == buys[0]


def test_a_spread_widens_the_half_spread() -> None:
    at_work, quiet = desk(), desk()
    at_work.feed(at_work.signal("spread_multiplier", 2.0, confidence=0.5))
    assert wanted(at_work).half_bps == pytest.approx(1.5 * wanted(quiet).half_bps)


def test_clamps_of_the_settings() -> None:
    at_work = desk()
    for kind, value in (
        ("target_inventory", -1.0),
        ("size_multiplier", 0.0),
        ("spread_multiplier", 10.0),
        ("direction_hint", 1.0),
    ):
        at_work.feed(at_work.signal(kind, value))
    effect = at_work.state.signals.effect
    assert (effect.target, effect.size, effect.spread, effect.direction_bps) == (-0.5, 0.25, 3.0, 1.0)


def test_a_hint_protects_more_and_never_less() -> None:
    at_work = desk()
    assert at_work.state.detector.regime is Regime.NEUTRAL_HIGH_VOL
    at_work.feed(at_work.signal("regime_hint", "neutral_low_vol"))
    assert observe(at_work.state, PARAMS).regime is Regime.NEUTRAL_HIGH_VOL
    step = at_work.feed(at_work.signal("regime_hint", "high_vol_shock"))
    assert step.inputs is not None
    assert step.inputs.regime is Regime.HIGH_VOL_SHOCK
    assert at_work.state.detector.regime is Regime.NEUTRAL_HIGH_VOL
    at_work.feed(at_work.signal("regime_hint", "none"))
    assert observe(at_work.state, PARAMS).regime is Regime.NEUTRAL_HIGH_VOL


@pytest.mark.parametrize(
    ("word", "state", "reason"),
    [("increase", GuardState.REDUCING, "signal_pause"), ("all", GuardState.SOFT_PAUSE, "external_pause")],
)
def test_a_pause_is_the_guards_and_ends_with_its_life(word: str, state: GuardState, reason: str) -> None:
    at_work = desk()
    at_work.feed(at_work.signal("pause", word, ttl_s=30.0))
    assert at_work.guard is state
    assert at_work.reasons == {reason}
    assert at_work.state.guard.deadline_ns <= at_work.now_ns + 30 * NS
    at_work.acknowledge()
    at_work.seconds(29)
    assert at_work.guard is state
    at_work.seconds(2 + PARAMS.guard.soft_clear_ns / NS)
    assert at_work.guard is GuardState.RUNNING


def test_its_source_takes_a_pause_back_and_nobody_else() -> None:
    at_work = desk()
    at_work.feed(at_work.signal("pause", "all"))
    at_work.feed(at_work.signal("pause", "none", source="model"))
    assert at_work.state.signals.effect.pause == "all"
    at_work.feed(at_work.signal("pause", "none"))
    assert at_work.state.signals.effect == NO_EFFECT


# --- several sources --------------------------------------------------------------------------------------------------


def test_one_voice_is_heard_in_full_and_several_share_it() -> None:
    at_work = desk()
    at_work.feed(at_work.signal(value=0.4, source="model", confidence=0.5))
    assert at_work.state.signals.effect.target == pytest.approx(0.5 * 0.4), "half as sure is half a voice"
    at_work.feed(at_work.signal(value=-0.2))
    assert at_work.state.signals.effect.target == pytest.approx((0.5 * 0.4 - 0.2) / 1.5)


def test_shadow_is_recorded_and_does_nothing() -> None:
    at_work, quiet = desk(), desk()
    for each in (at_work, quiet):
        each.ordinal = 0
    for kind, value in (("target_inventory", 1.0), ("pause", "all"), ("spread_multiplier", 3.0)):
        step = at_work.feed(at_work.signal(kind, value, source="watcher"))
        assert step.decision is None
        assert at_work.state.signals.outcomes[-1].what == "shadow"
    assert at_work.state.signals.effect == NO_EFFECT
    assert len(at_work.state.signals.standing) == 3
    for each in (at_work, quiet):
        each.ordinal = 100
        each.seconds(40)
    assert wanted(at_work) == wanted(quiet)
    assert not at_work.state.signals.standing


def test_the_opinions_of_a_source_that_is_switched_off_end_and_its_caution_runs_out() -> None:
    at_work = desk()
    at_work.feed(at_work.signal(value=0.4))
    at_work.feed(at_work.signal("direction_hint", 1.0))
    at_work.feed(at_work.signal("spread_multiplier", 2.0))
    at_work.feed(SourceChanged(*at_work.now, "desk", False, "it raised three times"))
    effect = at_work.state.signals.effect
    assert (effect.target, effect.direction_bps, effect.spread) == (0.0, 0.0, 2.0)
    at_work.feed(at_work.signal(value=0.4))
    assert counts(at_work)["desk", "off"] == 1
    at_work.seconds(31)
    assert at_work.state.signals.effect == NO_EFFECT
    at_work.feed(SourceChanged(*at_work.now, "desk", True, ""))
    at_work.feed(at_work.signal(value=0.4))
    assert at_work.state.signals.effect.target == 0.4


def test_what_stood_before_a_restart_stands_however_old_and_in_whatever_order() -> None:
    at_work = desk()
    at_work.feed(at_work.signal("pause", "all", age_s=400.0, ttl_s=600.0, sequence=900, restored=True))
    at_work.feed(at_work.signal("size_multiplier", 0.5, age_s=100.0, ttl_s=600.0, sequence=7, restored=True))
    at_work.feed(at_work.signal("spread_multiplier", 2.0, age_s=600.0, ttl_s=600.0, sequence=8, restored=True))
    assert at_work.state.signals.effect.pause == "all"
    assert at_work.state.signals.effect.size == 0.5
    assert counts(at_work)["desk", "expired"] == 1
    at_work.feed(at_work.signal(sequence=900))
    assert counts(at_work)["desk", "replayed"] == 1


# --- whatever comes ---------------------------------------------------------------------------------------------------

_VALUES = {
    **{kind: st.floats(*signals.RANGES[kind]) for kind in signals.RANGES},
    **{kind: st.sampled_from(signals.WORDS[kind]) for kind in signals.WORDS},
}
_SAID = st.lists(
    st.sampled_from(list(Kind)).flatmap(
        lambda kind: st.tuples(st.just(kind), _VALUES[kind], st.sampled_from(["desk", "model"]), st.floats(0.2, 1.0))
    ),
    min_size=1,
    max_size=8,
)


@modest(60)
@given(said=_SAID, lots=st.integers(-2_000, 2_000), check=st.just(None))
def test_no_signals_raise_a_limit_a_size_or_bring_a_quote_inside_its_floor(
    said: list[tuple[Kind, float | str, str, float]], lots: int, check: None
) -> None:
    at_work = desk(0)
    for kind, value, source, confidence in said:
        if kind is not Kind.PAUSE:
            at_work.feed(at_work.signal(kind, value, source=source, confidence=confidence))
    effect = at_work.state.signals.effect
    row = effect.regime or Regime.NEUTRAL_LOW_VOL
    leaning = {
        "target": effect.target,
        "direction_bps": effect.direction_bps,
        "signal_size": effect.size,
        "signal_spread": effect.spread,
    }
    still = quotes.decide(inputs(position_lots=lots, regime=row), PARAMS)
    moved = quotes.decide(inputs(position_lots=lots, regime=row, **leaning), PARAMS)
    assert moved.max_position_lots == still.max_position_lots
    assert moved.half_bps >= still.half_bps
    assert abs(effect.target) <= 0.5
    assert abs(effect.direction_bps) <= 1.0
    u = lots / still.max_position_lots
    for quote in moved.quotes:
        edge = moved.buy_edge if quote.side is Side.BUY else moved.sell_edge
        floor_bps = quotes.floor_distance_bps(edge, u, reducing=quote.side * lots < 0)
        distance = quote.side * (650_000.0 - quote.px_ticks) / 650_000.0 * 1e4
        assert distance >= floor_bps - 1e-9
        assert quote.addends.total == quote.px_ticks
    for side in Side:
        most = sum(q.qty_lots for q in still.quotes if q.side is side)
        assert sum(q.qty_lots for q in moved.quotes if q.side is side) <= most


@given(said=_SAID.map(lambda said: said[:4]))
@modest(25)
def test_the_order_of_sources_changes_nothing(said: list[tuple[Kind, float | str, str, float]]) -> None:
    by_key = {(source, kind): (value, confidence) for kind, value, source, confidence in said}
    effects = set()
    for order in permutations(by_key):
        at_work = Desk(PARAMS)
        for source, kind in order:
            value, confidence = by_key[source, kind]
            at_work.feed(at_work.signal(kind, value, source=source, confidence=confidence))
        effects.add(at_work.state.signals.effect)
    assert len(effects) == 1


@given(said=_SAID)
@modest(25)
def test_after_the_last_has_ended_it_is_as_if_there_had_been_none(
    said: list[tuple[Kind, float | str, str, float]],
) -> None:
    heard, quiet = desk(), desk()
    for kind, value, source, confidence in said:
        heard.feed(heard.signal(kind, value, source=source, confidence=confidence, ttl_s=5.0))
    for each in (heard, quiet):
        each.ordinal = 10_000
        each.seconds(6 + PARAMS.guard.soft_clear_ns / NS + 1)
    assert heard.state.signals.effect == NO_EFFECT
    assert heard.state.signals.due_ns == signals.Signals().due_ns
    seen, other = observe(heard.state, PARAMS), observe(quiet.state, PARAMS)
    assert seen == other
    assert quotes.decide(seen, PARAMS) == quotes.decide(other, PARAMS)


@given(whats=hostile(30))
@modest(40)
def test_whatever_comes_the_cap_of_the_position_is_that_of_equity(whats: list[Any]) -> None:
    at_work = desk()
    for what in whats:
        play(at_work, what)
        decision, seen = at_work.state.decision, at_work.state.inputs
        if decision is None or seen is None or seen.fair_ticks is None or not decision.quotes:
            continue
        none: Callable[..., Any] = msgspec.structs.replace
        calm = quotes.decide(none(seen, target=0.0, direction_bps=0.0, signal_size=1.0, signal_spread=1.0), PARAMS)
        assert decision.max_position_lots == calm.max_position_lots
        assert all(-0.5 <= x <= 0.5 for x in (at_work.state.signals.effect.target,))
