"""What is compared: one row is one daemon with settings of its own and, where it is a rule of others, its strategy.

All rows of the comparison have one order size, one cap, no fees and the stay-out gates open, so that they differ in how
they quote and not in whether. `gated` rows have fees of 2 bps and the gates as shipped: what staying out is worth.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from math import inf
from typing import Final, Literal

import msgspec

from mmdaemon.core.engine import Strategy
from mmdaemon.core.quotes import decide
from mmdaemon.core.signal import FEATURES
from mmdaemon.core.types import E10, Regime
from mmdaemon.research.ablation import rules
from mmdaemon.research.ablation.fitting import Fitted
from mmdaemon.settings import Settings
from mmdaemon.settings.model import bounds_of, catalogue, default_of, overlaid
from mmdaemon.settings.presets import Value

ORDER_QUOTE: Final = 1_000.0
CAP_QUOTE: Final = 10_000.0
GAMMAS: Final = (0.05, 0.2, 1.0, 2.0, 5.0)
"""Risk aversion of the GLFT rule, 1 / (price x order), which no fit gives: the first is that of the tutorial which most
copy. Which of them stands for the rule is decided on the hours that are fitted on (`table.py`)."""
RISK_FACTORS: Final = (1.0, 0.1)
"""The same of Avellaneda-Stoikov, 1 / price: the first is Hummingbot's default."""
GAMMA_OF_MODEL: Final = 1.0
"""That of our own model `glft`."""
BOOK_AGE_MAX_S: Final[Mapping[str, float]] = {"standx": 5.0}
"""By venue, where books are rarer than the default expects: that recorder is blind for 5 to 7 s every 36 s."""

COMMON: Final[Mapping[str, Value]] = {
    "run.speed": "max",
    "journal.durability": "process",
    "simulated.equity_quote": 100_000.0,
    # Above one order of 1,000 and ten of them, so that the values below decide whatever equity has become.
    **{f"regimes.{regime.value}.order_size_fraction": 0.012 for regime in Regime},
    "limits.max_order_quote": ORDER_QUOTE,
    "quotes.max_position_fraction": 0.2,
    "quotes.max_position_quote": CAP_QUOTE,
    "guard.fills_per_side_per_minute": 600,
}
OPEN: Final[Mapping[str, Value]] = {
    "simulated.maker_fee_bps": 0.0,
    "simulated.taker_fee_bps": 0.0,
    "gate.enabled": False,
    "quality.pull": False,
    "cost.turnover_soft_multiple": 1_000.0,
    "cost.turnover_cap_multiple": 1_000.0,
    "guard.daily_loss_fraction": 0.2,
    "guard.drawdown_fraction": 0.3,
    "derisk.day_end_position_fraction": 1.0,
}
GATED: Final[Mapping[str, Value]] = {"simulated.maker_fee_bps": 2.0, "simulated.taker_fee_bps": 6.0}
RULE: Final[Mapping[str, Value]] = {
    "quotes.depth_levels": 1,
    "quotes.min_quote_life_s": 0.0,
    "signal.cap_bps": 0.0,
    "limits.cancels_per_minute": 600,
    "limits.messages_per_minute": 3_000,
}


class Group(StrEnum):
    FULL = "full"
    OFF = "off"
    PRESET = "preset"
    RULE = "rule"
    GATED = "gated"


Make = Callable[[Fitted], Strategy]


class Unfit(Exception):
    """A row cannot be made from what was fitted; says why."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    group: Group
    label: str
    preset: Literal["tight", "desk"] = "tight"
    over: Mapping[str, Value] = {}
    """Settings on top of what its group has."""
    shipped_sizes: bool = False
    """Order size and cap are the preset's own."""
    make: Make | None = None
    """A rule's strategy; None is the engine's own."""
    family: str = ""
    """Rows that are one rule with another parameter: one of them stands for it."""
    fitted: bool = False
    """It quotes by the fitted closed form (`quotes.model`)."""

    def strategy(self, fit: Fitted) -> Strategy:
        """A new one for each run.

        Raises:
            Unfit: it needs a fit that could not be made.
        """
        return decide if self.make is None else self.make(fit)

    def values(self, fit: Fitted, fills: str, venue: str) -> dict[str, Value]:
        """Settings by path, over the preset.

        Raises:
            Unfit: as `strategy`.
        """
        values: dict[str, Value] = dict(COMMON)
        if self.shipped_sizes:
            values = {
                path: value for path, value in values.items() if not path.startswith(("regimes.", "limits.", "quotes."))
            }
        values |= GATED if self.group is Group.GATED else OPEN
        values |= RULE if self.group is Group.RULE else {}
        values["simulated.fills"] = fills
        if venue in BOOK_AGE_MAX_S:
            values["guard.book_age_max_s"] = BOOK_AGE_MAX_S[venue]
        if self.make is None and self.preset != "desk" and not self.shipped_sizes:
            values |= signal_of(fit)
        if self.fitted:
            values |= closed_form(fit)
        return values | dict(self.over)

    def settings(self, fit: Fitted, fills: str, venue: str) -> Settings:
        """Raises Unfit as `values`, and pydantic's ValidationError where settings contradict one another."""
        return Settings(preset=self.preset, **overlaid({}, self.values(fit, fills, venue)))


def signal_of(fit: Fitted) -> dict[str, Value]:
    """The fitted weights of the signal, within the bounds of the settings; nothing where there are none."""
    values: dict[str, Value] = {}
    for name, weight in zip(FEATURES, fit.signal or (), strict=fit.signal is not None):
        path = f"signal.{name}_weight"
        low, high = bounds_of(catalogue()[path])
        values[path] = min(max(weight, -inf if low is None else low), inf if high is None else high)
    return values


def closed_form(fit: Fitted) -> dict[str, Value]:
    """`quotes.model = "glft"` with what was fitted. The settings refuse a poor fit, and so does the row."""
    a_per_s, k_per_bp, r2 = _known(fit.a_per_s, fit), _known(fit.k_per_bp, fit), _known(fit.r2, fit)
    return {
        "quotes.model": "glft",
        "glft.gamma": GAMMA_OF_MODEL / (ORDER_QUOTE / fit.mean_mid),
        "glft.intensity_per_s": a_per_s,
        "glft.decay_per_bp": k_per_bp,
        "glft.fit_r2": max(0.0, min(1.0, r2)),
    }


def _known(value: float | None, fit: Fitted) -> float:
    if value is None:
        raise Unfit(f"A and k were not fitted: {fit.poor}")
    return value


def _clocked(period_s: float, pricing: rules.Pricing) -> Make:
    return lambda _fit: rules.Clocked(rules.seconds(period_s), pricing)


def _glft(gamma: float) -> Make:
    def make(fit: Fitted) -> Strategy:
        pricing = rules.glft(gamma, _known(fit.a_per_s, fit), _known(fit.k_per_px, fit))
        return rules.Clocked(rules.seconds(0.25), pricing)

    return make


def _avellaneda_stoikov(gamma: float) -> Make:
    def make(fit: Fitted) -> Strategy:
        return rules.Clocked(rules.seconds(1.0), rules.avellaneda_stoikov(gamma, _known(fit.k_per_px, fit)))

    return make


def _micro_price(fit: Fitted) -> Strategy:
    if fit.adverse_bps is None:
        raise Unfit("no print has a fresh book before it and one 5 s after: no average adverse move")
    return rules.Clocked(rules.seconds(1.0), rules.micro_price(fit.adverse_bps))


def _skews(gain: float) -> dict[str, Value]:
    return {f"regimes.{regime.value}.skew_gain": gain for regime in Regime}


_GATES_OFF: Final[dict[str, Value]] = {"gate.enabled": False, "quality.pull": False}
ROWS: Final[tuple[Row, ...]] = (
    Row(name="full", group=Group.FULL, label="full strategy (`tight`, fitted signal)"),
    Row(name="no_skew", group=Group.OFF, label="without skew", over=_skews(0.0)),
    Row(name="no_carry", group=Group.OFF, label="without carry", over={"cost.carry_cap_bps": 0.0}),
    Row(
        name="no_adverse",
        group=Group.OFF,
        label="without adverse-selection feedback",
        over={"cost.adverse_cap_bps": 0.0, "quality.tracker_multiplier": 1.0},
    ),
    Row(name="no_regimes", group=Group.OFF, label="without regimes", over={"detector.fixed": "neutral_low_vol"}),
    Row(name="no_signal", group=Group.OFF, label="without the signal", over={"signal.cap_bps": 0.0}),
    Row(
        name="tight_signal",
        group=Group.PRESET,
        label="preset `tight` as shipped: its own signal",
        over={f"signal.{name}_weight": default_of(f"signal.{name}_weight", "tight") for name in FEATURES},
    ),
    Row(name="model_glft", group=Group.PRESET, label="model `glft`, fitted", fitted=True),
    Row(name="desk", group=Group.PRESET, label="preset `desk`, orders and cap as the others", preset="desk"),
    Row(name="desk_own", group=Group.PRESET, label="preset `desk`, its own sizes", preset="desk", shipped_sizes=True),
    Row(name="tight_own", group=Group.PRESET, label="preset `tight`, its own sizes", shipped_sizes=True),
    Row(name="join", group=Group.RULE, label="join the touch, 1 s", make=_clocked(1.0, rules.join_touch)),
    Row(name="fixed_2_5", group=Group.RULE, label="fixed 2.5 bps, 30 s", make=_clocked(30.0, rules.fixed(2.5))),
    Row(name="fixed_12_5", group=Group.RULE, label="fixed 12.5 bps, 90 s", make=_clocked(90.0, rules.fixed(12.5))),
    *(
        Row(
            name=f"as_{gamma:g}".replace(".", "_"),
            group=Group.RULE,
            label=f"Avellaneda-Stoikov, risk factor {gamma:g}, 1 s",
            make=_avellaneda_stoikov(gamma),
            family="as",
        )
        for gamma in RISK_FACTORS
    ),
    *(
        Row(
            name=f"glft_{gamma:g}".replace(".", "_"),
            group=Group.RULE,
            label=f"GLFT fitted, gamma {gamma:g}, 250 ms",
            make=_glft(gamma),
            family="glft",
        )
        for gamma in GAMMAS
    ),
    Row(name="micro", group=Group.RULE, label="micro-price, fee plus average adverse move, 1 s", make=_micro_price),
    Row(name="gated", group=Group.GATED, label="full, gates as shipped"),
    Row(name="gated_no_gate", group=Group.GATED, label="without the edge gate", over={"gate.enabled": False}),
    Row(name="gated_no_pull", group=Group.GATED, label="without the pull", over={"quality.pull": False}),
    Row(
        name="gated_open",
        group=Group.GATED,
        label="all gates open",
        over={
            **_GATES_OFF,
            **{path: OPEN[path] for path in OPEN if path.startswith(("cost.turnover", "guard.", "derisk."))},
        },
    ),
)
BY_NAME: Final = {row.name: row for row in ROWS}
FILLS: Final = ("through", "queue", "touch")
assert len(BY_NAME) == len(ROWS)


def cap_and_order_e10(settings: Settings) -> tuple[int, int]:
    """(cap, one order) in 1e-10 quote, at the equity that a run starts with."""
    start_e10 = round(settings.simulated.equity_quote * E10)
    quoting = settings.quotes.to_params(settings.limits.to_params().max_order_e10)
    size = settings.regimes.neutral_low_vol.order_size_fraction
    return (
        min(round(quoting.max_position * start_e10), quoting.max_position_e10),
        min(round(size * start_e10), quoting.max_order_e10),
    )
