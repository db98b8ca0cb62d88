"""A suggested `tight` preset: a TOML fragment that `mmdaemon check-config --config` takes, each line with its figure.

Only what was fitted is set; what was not stands there as a comment, with why. A number is rounded to four digits and
held within the setting's own bounds. This is where to begin, in a run on another recording, and not what to trade on.

The least width of a regime is twice the least distance from which on the average print is worth something after 5 s: at
it and at every further distance of which enough is known for an interval. Where there is none the regime keeps what it
has.
"""

from collections.abc import Iterator

from mmdaemon.core.types import Regime
from mmdaemon.research.calibration.records import (
    Beyond,
    Calibration,
    From,
    Intensity,
    Interval,
    Makers,
    NotMade,
    Sigma,
    SignalFit,
)
from mmdaemon.settings.documents import toml_value
from mmdaemon.settings.model import bounds_of, catalogue
from mmdaemon.settings.presets import PRESETS

PRESET = "tight"


def fragment(made: Calibration) -> str:
    """The text, with a newline at its end."""
    source = made.source
    lines = [
        f"# Suggested by mmdaemon calibrate {source.version} on {source.symbol} at {source.venue}, {source.used}:",
        f"# {source.seconds / 3_600:.3g} h, {source.books:,} books, {source.prints:,} prints. The average print is",
        "# better than the ones that would have filled us: try it on another recording before anything else.",
        f'preset = "{PRESET}"',
        *_sigma(made),
        *_regimes(made),
        *_signal(made),
        *_glft(made),
    ]
    return "\n".join(map(_one_line, lines)) + "\n"


def _one_line(text: str) -> str:
    """What a recording calls itself is its own: nothing in it ends a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _sigma(made: Calibration) -> Iterator[str]:
    yield ""
    yield "# sigma is measured while quoting and is no setting. Here it was:"
    for each in made.sigma:
        if isinstance(each, Sigma):
            px = f"{each.px:.4g} {made.source.quote}/sqrt(s)"
            yield f"#   {each.bps:.4g} bps/sqrt(s), {px} by steps of {each.step_s:g} s"
        else:
            yield f"#   not known by steps of {each.step_s:g} s: {each.why}"


def _regimes(made: Calibration) -> Iterator[str]:
    of = From.SIGNAL if any(row.of is From.SIGNAL for row in made.beyond) else From.FAIR
    place = "fair value with the signal below" if of is From.SIGNAL else "fair value"
    for regime in Regime:
        seen = [row for row in made.beyond if row.of is of and row.regime == regime.value]
        rows = [row for row in seen if row.interval_bps is not None]
        path = f"regimes.{regime}.spread_min_bps"
        kept = PRESETS[PRESET][path]
        yield ""
        yield f"[regimes.{regime}]"
        if not rows:
            yield f"# spread_min_bps stays {kept}: too few prints in this regime to know what they are worth"
            continue
        found = pays_from(rows)
        if found is None:
            best = max(rows, key=lambda row: row.worth_bps)
            yield (
                f"# spread_min_bps stays {kept}: from no distance on, as far as {rows[-1].distance_bps:g} bps, is the "
                f"average print worth anything after {best.horizon_s:g} s; best {_worth(best)}"
            )
            continue
        width, said = _within(path, 2.0 * found.distance_bps)
        comment = f"twice {found.distance_bps:g} bps from {place}: prints beyond it were worth {_worth(found)}"
        yield f"spread_min_bps = {toml_value(width)}  # {comment}{said}"
        most = PRESETS[PRESET][f"regimes.{regime}.spread_max_bps"]
        if isinstance(most, float) and width > most:
            wide, said = _within(f"regimes.{regime}.spread_max_bps", 2.0 * width)
            yield f"spread_max_bps = {toml_value(wide)}  # twice the least: the preset's {most:g} is below that{said}"


def pays_from(rows: list[Beyond]) -> Beyond | None:
    """The nearest row that is worth something as well as every further one; rows are by distance."""
    found: Beyond | None = None
    for row in reversed(rows):
        if row.worth_bps <= 0.0:
            break
        found = row
    return found


def _signal(made: Calibration) -> Iterator[str]:
    yield ""
    yield "[signal]"
    fit = made.signal
    if not isinstance(fit, SignalFit):
        yield f"# no weights, so those of the preset stay: {fit.why}"
        return
    yield (
        f"# mid {fit.horizon_s:g} s later over F now: R2 {fit.r2_out:.3f} out of sample ({fit.r2_in:.3f} in), penalty "
        f"{fit.penalty:g}, {fit.samples:,} samples"
    )
    for name, weight, spread in zip(fit.features, fit.weights, fit.spreads, strict=True):
        path = f"signal.{name}_weight"
        if path not in catalogue():
            yield f"# {name} = {weight:.4g}: this version has no setting for it"
            continue
        value, said = _within(path, weight)
        yield (
            f"{name}_weight = {toml_value(value)}  # moves fair value by {abs(weight) * spread:.3g} bps, root mean "
            f"square{said}"
        )


def _glft(made: Calibration) -> Iterator[str]:
    yield ""
    yield "[glft]"
    fit = made.intensity[Makers.BOTH.value]
    if not isinstance(fit, Intensity):
        yield f'# no A and k, so quotes.model = "glft" is refused: {fit.why}'
        return
    span = f"{fit.prints:,} prints, {fit.from_bps:.2g} to {fit.to_bps:.2g} bps"
    value, said = _within("glft.intensity_per_s", fit.a_per_s)
    yield f"intensity_per_s = {toml_value(value)}  # A, one order a side; {span}{_between(fit.a_interval)}{said}"
    value, said = _within("glft.decay_per_bp", fit.k_per_bp)
    yield (
        f"decay_per_bp = {toml_value(value)}  # k = {fit.k_per_px:.4g} per {made.source.quote}"
        f"{_between(fit.k_per_bp_interval)}{said}"
    )
    value, said = _within("glft.fit_r2", fit.r2)
    yield f"fit_r2 = {toml_value(value)}  # of the line through ln lambda, {len(fit.points)} distances{said}"
    form = made.closed_form
    if isinstance(form, NotMade):
        yield f"# gamma is a choice; nothing can be said of it: {form.why}"
        return
    matched = form.matched_gamma_per_quote
    said = "" if matched is None else f"; at {matched:.3g} the largest position would move it by one half-spread"
    yield (
        f"# gamma is a choice: at {form.gamma_per_quote:g} half is {form.half_bps:.3g} bps and an order held moves the "
        f"reservation price by {form.skew_bps_per_order:.3g} bps{said}"
    )


def _worth(row: Beyond) -> str:
    return f"{row.worth_bps:+.2f} bps at {row.distance_bps:g} ({row.prints:,} prints{_between(row.interval_bps)})"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f", 95 % {interval.low:.3g} to {interval.high:.3g}"


def _within(path: str, value: float) -> tuple[float, str]:
    """Rounded, and within the setting's bounds; and what to say where that changed it."""
    rounded = float(f"{value:.4g}") + 0.0
    least, most = bounds_of(catalogue()[path])
    if least is not None and rounded < least:
        return float(least), f"; held at the least, it was {value:.4g}"
    if most is not None and rounded > most:
        return float(most), f"; held at the most, it was {value:.4g}"
    return rounded, ""
