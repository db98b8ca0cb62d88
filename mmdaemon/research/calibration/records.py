"""What a calibration says, as records: the JSON file is these, tables and page show these.

Distances are from the mid (or from fair value F, where it is said) and positive away from it, on the maker's side: a
bid below, an ask above. Sides are the virtual maker's: its bids are filled by sellers.
"""

from enum import StrEnum

import msgspec

SCHEMA = 1
"""Version of the JSON; it grows when a field changes its meaning or goes away."""


class NotMade(msgspec.Struct, frozen=True, tag="not_made"):
    """A fit that was not made, or is not to be used: why."""

    why: str


class Interval(msgspec.Struct, frozen=True):
    """95 %, by block bootstrap."""

    low: float
    high: float
    blocks: int
    """Blocks of time that it rests on."""


class Makers(StrEnum):
    """Whose quotes a figure is of."""

    BIDS = "bids"
    ASKS = "asks"
    BOTH = "both"


class Sigma(msgspec.Struct, frozen=True, tag="fit"):
    """Volatility of the mid, from changes over steps of `step_s` that begin a second apart and overlap."""

    step_s: float
    bps: float
    """bps / sqrt(s): root of the mean squared change, over sqrt(step)."""
    px: float
    """price / sqrt(s), at the mean mid."""
    changes: int
    interval_bps: Interval | None
    """None where there are too few blocks."""


class SigmaMissing(msgspec.Struct, frozen=True, tag="not_made"):
    step_s: float
    why: str


class Point(msgspec.Struct, frozen=True):
    """Arrivals at one distance: windows in which a print reached that far, over the time that was waited for it."""

    distance_px: float
    distance_bps: float
    arrivals: int
    waited_s: float
    per_s: float


class Intensity(msgspec.Struct, frozen=True, tag="fit"):
    """A * exp(-k * distance), least squares of the logarithm over `points`."""

    makers: Makers
    a_per_s: float
    """A: arrivals at the mid [1/s], for one order on one side."""
    k_per_px: float
    """k [1/price]."""
    k_per_bp: float
    """k [1/bp of the mean mid]."""
    r2: float
    furthest_off: float
    """The largest factor between what was counted at a distance and the line there."""
    prints: int
    """With a known aggressor and a fresh book before them, inside windows that were observed whole."""
    from_bps: float
    to_bps: float
    a_interval: Interval | None
    k_per_bp_interval: Interval | None
    points: tuple[Point, ...]


class Poor(msgspec.Struct, frozen=True, tag="refused"):
    """A fit that was made and is refused: what was found, and why it is not to be used."""

    found: Intensity
    why: str


class ClosedForm(msgspec.Struct, frozen=True, tag="fit"):
    """Gueant, Lehalle and Fernandez-Tapia with the fit above (`core/glft.py`)."""

    gamma_per_quote: float
    """gamma = xi [1/(price x base)]."""
    order_base: float
    """Delta."""
    sigma_px: float
    half_bps: float
    skew_bps_per_order: float
    """How far the reservation price moves for one order held."""
    half_clamped_bps: float
    skew_clamped_bps: float
    clamped: str
    """What was clamped and to what; empty where nothing was."""
    matched_gamma_per_quote: float | None
    """The gamma at which the largest position moves the reservation price by one half-spread; None: there is none."""


class Reach(msgspec.Struct, frozen=True, tag="fit"):
    """Quantiles of how far prints went, in bps; a print inside the touch is below 0 from it."""

    makers: Makers
    prints: int
    shares: tuple[float, ...]
    """Which quantiles."""
    beyond_touch_bps: tuple[float, ...]
    beyond_mid_bps: tuple[float, ...]
    by_value_bps: tuple[float, ...]
    """Beyond the mid, each print counting by its value."""


class WindowReach(msgspec.Struct, frozen=True):
    """Of the windows of `window_s` that were observed whole, the share in which a print came at least `distance_bps`
    beyond the mid at the window's beginning: an order left there would have been reached."""

    window_s: float
    distance_bps: float
    windows: int
    bids: float
    asks: float
    either: float


class Markout(msgspec.Struct, frozen=True):
    """What the average print between two distances from F was worth to its maker `horizon_s` later, in bps of F before
    it, before fees: side * (F later - price)."""

    makers: Makers
    from_bps: float | None
    to_bps: float | None
    horizon_s: float
    prints: int
    mean_bps: float
    by_value_bps: float
    """The same with each print counting by its value."""
    effective_bps: float
    """At once: the distance."""
    interval_bps: Interval | None


class From(StrEnum):
    """What a distance is from."""

    FAIR = "fair"
    """F, the micro-price."""
    SIGNAL = "signal"
    """F * (1 + signal), with the weights that were fitted here: what quotes rest on."""


class Beyond(msgspec.Struct, frozen=True):
    """A maker at `distance_bps`, filled by whatever reaches it: distance + impact after `horizon_s`."""

    of: From
    regime: str
    """"all", or the regime at the time."""
    distance_bps: float
    horizon_s: float
    prints: int
    impact_bps: float
    worth_bps: float
    interval_bps: Interval | None


class Tried(msgspec.Struct, frozen=True):
    """One ridge penalty, as a multiple of the number of samples, on features scaled to 1; R2 by cross-validation."""

    penalty: float
    r2: float


class Block(msgspec.Struct, frozen=True):
    """A stretch of time that was left out: weights fitted without it, and how well they say what came in it."""

    from_s: float
    """Since the tape's first event, which is at 1 s. The last block goes on to the end."""
    weights: tuple[float, ...]
    penalty: float
    r2: float


class SignalFit(msgspec.Struct, frozen=True, tag="fit"):
    """Mid after `horizon_s` over F now, less 1, in bps, linear in the features of `core/signal.py`, no constant.

    R2 is against predicting no move: 1 - sum (y - fitted)^2 / sum y^2.
    """

    horizon_s: float
    features: tuple[str, ...]
    weights: tuple[float, ...]
    """bps per unit of the feature, fitted on all samples with `penalty`."""
    spreads: tuple[float, ...]
    """Root mean square of each feature: how much of it there is."""
    penalty: float
    samples: int
    r2_in: float
    r2_out: float
    """Each block predicted by what the others say, the penalty chosen without it too."""
    blocks: tuple[Block, ...]
    tried: tuple[Tried, ...]


class SignalPoor(msgspec.Struct, frozen=True, tag="refused"):
    found: SignalFit
    why: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What it was fitted on."""

    venue: str
    symbol: str
    quote: str
    facts: dict[str, str]
    """What the reader says of the recording."""
    used: str
    """How much of it: all, or up to where."""
    seconds: float
    """From the first book used to the last event."""
    observed_s: float
    """Of them, without gaps over 3 s in the books."""
    gaps: int
    books: int
    refused_books: dict[str, int]
    """What `core/book.py` refused, by reason."""
    prints: int
    unsided: int
    """Prints whose taker nobody knows: in no figure below."""
    stale: int
    """Prints whose last book was too old: likewise."""
    mean_mid: float
    spread_bps: tuple[float, float, float]
    """Touch: 10 %, median and 90 % of its width over time of books."""
    regimes: dict[str, float]
    """Share of time in each."""
    config_hash: str
    version: str


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    schema: int
    source: Source
    sigma: tuple[Sigma | SigmaMissing, ...]
    intensity: dict[str, Intensity | Poor | NotMade]
    """By whose quotes: "both", "bids", "asks"."""
    closed_form: ClosedForm | NotMade
    reach: dict[str, Reach | NotMade]
    windows: tuple[WindowReach, ...]
    windows_missing: dict[str, str]
    """Lengths for which there are too few windows, with the reason."""
    markouts: tuple[Markout, ...]
    markouts_missing: NotMade | None
    beyond: tuple[Beyond, ...]
    signal: SignalFit | SignalPoor | NotMade
    """By the horizon that was asked for."""
    signals: tuple[SignalFit | SignalPoor, ...]
    """By that and others, as far as they could be made: what a longer or shorter one would say."""
    preset: str
    """The TOML fragment."""

    @property
    def is_anything_fitted(self) -> bool:
        fitted = (*self.sigma, *self.intensity.values(), *self.reach.values(), self.signal)
        return any(isinstance(each, Sigma | Intensity | Reach | SignalFit) for each in fitted) or bool(self.markouts)

    def missing(self) -> list[str]:
        """Every fit that was not made or is refused, with its reason."""
        said = [f"sigma over {each.step_s:g} s: {each.why}" for each in self.sigma if isinstance(each, SigmaMissing)]
        said += [
            f"intensity, {name}: {fit.why}" for name, fit in self.intensity.items() if not isinstance(fit, Intensity)
        ]
        said += [f"closed form: {self.closed_form.why}"] if isinstance(self.closed_form, NotMade) else []
        said += [f"reach, {name}: {fit.why}" for name, fit in self.reach.items() if isinstance(fit, NotMade)]
        said += [f"windows of {name}: {why}" for name, why in self.windows_missing.items()]
        said += [f"markouts: {self.markouts_missing.why}"] if self.markouts_missing is not None else []
        return said + ([] if isinstance(self.signal, SignalFit) else [f"signal: {self.signal.why}"])
