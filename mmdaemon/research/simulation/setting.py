"""What is played: a market that is slower than the real one, settings that trade in it, and the venue's numbers.

The synthetic market gives one book a second instead of four and moves as much per book, so an hour of it is a quarter
of an hour of trading at a quarter of the cost; quotes stand near and fills are kind ("touch", in one seed of four
"queue", where they come in parts). What is proven is what becomes of orders, not what they earn.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from mmdaemon.core.types import E10, Regime
from mmdaemon.research.simulation.plan import Plan
from mmdaemon.settings import ConfigError, Settings, load
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.order_flow import MarketConfig

UPDATES_PER_S: Final = 1.0
IN_FLIGHT_MAX_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 1.0
CANARY_VARIABLE: Final = "MMDAEMON_VENUE__API_SECRET"
CRASH_LOOP_STARTS: Final = 3
"""In a third of the seeds. In the others it is off, and a daemon begins as often as it has to."""

Value = bool | int | float | str
QUIETLY_BUSY: Final[Mapping[str, Value]] = {
    "run.speed": "max",
    "venue.in_flight_max_s": IN_FLIGHT_MAX_S,
    "venue.request_timeout_s": REQUEST_TIMEOUT_S,
    "venue.ack_check_s": 2.0,
    "cost.min_edge_bps": 0.0,
    "cost.taker_probability": 0.0,
    "cost.adverse_cap_bps": 0.0,
    "cost.turnover_soft_multiple": 1_000.0,
    "cost.turnover_cap_multiple": 1_000.0,
    "quotes.band_gain": 0.0,
    "guard.drift_max_bps": 1_000.0,
    "guard.fills_per_side_per_minute": 600,
    "simulated.maker_fee_bps": -1.0,
    "simulated.fills": "touch",
    **{f"regimes.{regime}.spread_min_bps": 0.5 for regime in Regime},
    **{f"regimes.{regime}.levels_{end}": 2 for regime in Regime for end in ("min", "max")},
}

_QUICK_JUDGE: Final[Mapping[str, Value]] = {
    "simulated.maker_fee_bps": 0.2,
    "quality.pull_min_fills": 10,
    "quality.pull_s": 60.0,
    "quality.return_s": 30.0,
    "quality.tracker_after_s": 20.0,
    "quality.tracker_memory_s": 60.0,
}
"""A fill costs a fee instead of earning a rebate, and whoever judges fills does it within minutes. A regime that is
widened loses less, so that its sides are seldom pulled: in the second row it is widened by nothing."""

NARROW: Final[Mapping[str, tuple[Mapping[str, Value], ...]]] = {
    "cap": (
        {"quotes.max_position_fraction": 0.0025},
        {"quotes.max_position_fraction": 0.004},
        {"quotes.max_position_fraction": 0.006},
    ),
    "rates": (
        {"limits.messages_per_minute": 80, "limits.cancels_per_minute": 80},
        {"limits.cancels_per_minute": 15, "venue.amend": False},
        {"limits.messages_per_minute": 200, "limits.cancels_per_minute": 30},
        {"limits.messages_per_minute": 25, "limits.cancels_per_minute": 15},
    ),
    "drift": ({"guard.drift_max_bps": 3.0}, {"guard.drift_max_bps": 6.0}),
    "fills": ({"guard.fills_per_side_per_minute": 5},),
    "quality": (
        _QUICK_JUDGE,
        {**_QUICK_JUDGE, "quality.pull_horizon_s": 1, "quality.tracker_multiplier": 1.0},
    ),
}
"""Limits that are near, so that what should stay within them can be seen to: each sort in one seed of `ONE_IN`, by one
of its rows. In the other seeds they are as far as in a run: a limit that is always at hand hides what comes after."""
PATIENCE: Final[tuple[Mapping[str, Value], ...]] = (
    {"derisk.touch_after_s": 5.0, "derisk.taker_after_s": 15.0, "derisk.day_end_s": 90.0},
    {"derisk.touch_after_s": 20.0, "derisk.taker_after_s": 45.0, "derisk.day_end_s": 150.0},
)
"""How soon a position is worked down in earnest: within the minutes that a reason to reduce lasts here."""
STOP_BPS: Final = (500.0, 500.0, 500.0, 50.0)
"""How far the venue's stop of the position is. The last one is near enough to be hit now and then."""
ONE_IN: Final = {"cap": 3, "rates": 4, "drift": 4, "fills": 8, "quality": 3}


def narrow_of(plan: Plan) -> dict[str, Value]:
    """The limits that are near in this seed."""
    near: dict[str, Value] = {}
    for sort, rows in NARROW.items():
        if plan.draw(f"narrow/{sort}", 0, ONE_IN[sort]) == 0:
            near.update(rows[plan.draw(f"narrow/{sort}", 1, len(rows))])
    return near


def canary_of(plan: Plan) -> str:
    """A secret that stands in environment and settings of this seed and that nobody may repeat."""
    return f"canary-{plan.draw('canary', 0, 1 << 62):016x}/+\"'"


def settings_of(plan: Plan) -> Settings:
    """The same for every seed but for the seed itself, the limits that are near, how soon a position is worked down in
    earnest, when the day turns, how fills come, whether the venue can amend, what it does should nobody be here, and
    whether a crash loop is one."""
    given: dict[str, Value] = {
        **QUIETLY_BUSY,
        "venue.amend": plan.draw("amend", 0, 4) > 0,
        "venue.dead_man_s": (6, 20)[plan.draw("dead_man_s", 0, 2)],
        "venue.stop_bps": STOP_BPS[plan.draw("stop_bps", 0, len(STOP_BPS))],
        **narrow_of(plan),
        **PATIENCE[plan.draw("patience", 0, len(PATIENCE))],
        "derisk.day_end_position_fraction": 0.02,  # one order
        "gate.hold_s": 5.0,
        "run.rollover_hour_utc": plan.rollover_hour_utc,
        "run.seed": plan.seed,
        "simulated.fills": ("touch", "touch", "touch", "queue")[plan.draw("fills", 0, 4)],
        "run.crash_loop_starts": 0 if plan.draw("crash_loop_starts", 0, 3) else CRASH_LOOP_STARTS,
        "run.shadow": plan.draw("shadow", 0, 4) == 0,
        "run.state_dir": canary_of(plan),  # a text that a person may choose; no folder of this seed, which is handed in
    }
    return load(None, given, {}).settings


def refused_settings(plan: Plan) -> str:
    """What is said to somebody who puts a key where settings are."""
    environ = {CANARY_VARIABLE: canary_of(plan)}
    try:
        load(None, {"venue.api_key": canary_of(plan)}, environ)
    except ConfigError as error:
        return f"{error} {error!r}"
    raise AssertionError("a key among the settings was taken")


def market_of(plan: Plan) -> SyntheticMarket:
    return SyntheticMarket(plan.seed, plan.start_ts_ns, config=MarketConfig(updates_per_s=UPDATES_PER_S))


def venue_config_of(plan: Plan, settings: Settings) -> SimulatedConfig:
    chosen = settings.simulated
    return SimulatedConfig(
        start_e10=round(Decimal(str(chosen.equity_quote)) * E10),
        maker_rate=Decimal(str(chosen.maker_fee_bps)) / 10_000,
        taker_rate=Decimal(str(chosen.taker_fee_bps)) / 10_000,
        leverage=int(settings.venue.leverage),
        fills=FillModel(chosen.fills),
        post_only=tuple(PostOnly)[plan.draw("post_only", 0, len(PostOnly))],
        can_amend=settings.venue.amend,
        has_dead_man=plan.draw("has_dead_man", 0, 2) == 0,
        bare_answers=plan.draw("bare_answers", 0, 3) == 0,
        request=Delay(0.03, 0.05),
        response=Delay(0.03, 0.05),
        stream=Delay(0.02, 0.08),
        request_timeout_s=settings.venue.request_timeout_s,
        keep=10_000_000,
        faults=plan.rates,
    )
