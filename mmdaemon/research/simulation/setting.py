"""What is played: a market that is slower than the real one, settings that trade in it, and the venue's numbers.

The synthetic market gives one book a second instead of four and moves as much per book, so an hour of it is a quarter
of an hour of trading at a quarter of the cost; quotes stand near and fills are kind ("touch"). What is proven is what
becomes of orders, not what they earn.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from mmdaemon.core.types import E10, Regime
from mmdaemon.research.simulation.plan import Plan
from mmdaemon.settings import Settings, load
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.order_flow import MarketConfig

UPDATES_PER_S: Final = 1.0
IN_FLIGHT_MAX_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 1.0

Value = bool | int | float | str
QUIETLY_BUSY: Final[Mapping[str, Value]] = {
    "run.speed": "max",
    "run.crash_loop_starts": 0,
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


def settings_of(plan: Plan) -> Settings:
    """The same for every seed but for the seed itself, and for whether the venue can amend."""
    given: dict[str, Value] = {
        **QUIETLY_BUSY,
        "run.seed": plan.seed,
        "run.shadow": plan.draw("shadow", 0, 4) == 0,
        "venue.amend": plan.draw("amend", 0, 4) > 0,
    }
    return load(None, given, {}).settings


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
        request=Delay(0.03, 0.05),
        response=Delay(0.03, 0.05),
        stream=Delay(0.02, 0.08),
        request_timeout_s=settings.venue.request_timeout_s,
        keep=10_000_000,
        faults=plan.rates,
    )
