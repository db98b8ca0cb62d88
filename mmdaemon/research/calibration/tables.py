"""A Calibration as tables of text, the same for terminal and page: every figure that was fitted, and every one that was
not, with its reason."""

import msgspec

from mmdaemon.research.calibration.records import (
    Calibration,
    ClosedForm,
    From,
    Interval,
    Makers,
    Markout,
    NotMade,
    Poor,
    Reach,
    Sigma,
    SignalFit,
    SignalPoor,
)

SHOWN_HORIZONS_S = (1.0, 5.0, 30.0, 60.0)
_FROM = {From.FAIR: "F", From.SIGNAL: "F with the signal"}


class Table(msgspec.Struct, frozen=True):
    name: str
    title: str
    columns: tuple[str, ...]
    """The first is text, the others are figures."""
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """What was not made and why, and what must be known to read it."""


def tables(made: Calibration, *, every: bool = True) -> tuple[Table, ...]:
    """All of them, in the order in which they are read. Not `every`: rows of both sides and of all regimes alone, and
    intervals of markouts as half of their width."""
    return (
        *(_sigma(made), _intensity(made), _closed_form(made), _reach(made, every), _windows(made)),
        *(_markouts(made, every), _signal(made), _horizons(made), _beyond(made, every)),
    )


def source_lines(made: Calibration) -> list[tuple[str, str]]:
    """What it rests on: name and text."""
    source = made.source
    refused = ", ".join(f"{count:,} {reason}" for reason, count in sorted(source.refused_books.items()))
    narrow, usual, wide = source.spread_bps
    regimes = ", ".join(f"{regime} {share:.1%}" for regime, share in source.regimes.items())
    return [
        ("market", f"{source.symbol} at {source.venue}"),
        ("used", f"{source.used}: {source.seconds:,.0f} s, {source.observed_s:,.0f} s of them without a gap over 3 s"),
        ("books", f"{source.books:,} healthy; refused: {refused or 'none'}"),
        (
            "prints",
            f"{source.prints:,} with a known taker and a fresh book; {source.unsided:,} whose taker nobody knows and "
            f"{source.stale:,} without a fresh book are in no figure",
        ),
        ("touch", f"{narrow:.3g}, {usual:.3g}, {wide:.3g} bps wide (10 %, median, 90 %)"),
        ("regimes", regimes),
        *source.facts.items(),
        ("settings", f"hash {source.config_hash}"),
    ]


def _sigma(made: Calibration) -> Table:
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for each in made.sigma:
        if isinstance(each, Sigma):
            rows.append(
                (f"{each.step_s:g} s", _n(each.bps), _between(each.interval_bps), _n(each.px), f"{each.changes:,}")
            )
        else:
            notes.append(f"steps of {each.step_s:g} s: not made, {each.why}")
    columns = ("steps of", "bps/sqrt(s)", "95 %", f"{made.source.quote}/sqrt(s)", "changes")
    return Table("sigma", "Volatility of the mid", columns, tuple(rows), tuple(notes))


def _intensity(made: Calibration) -> Table:
    notes: list[str] = ["One order on one side; lambda = A exp(-k distance), distance from the mid."]
    columns: list[str] = []
    fits: list[tuple[str, ...]] = []
    for name, fit in made.intensity.items():
        if isinstance(fit, NotMade):
            notes.append(f"{name}: not made, {fit.why}")
            continue
        found = fit.found if isinstance(fit, Poor) else fit
        if isinstance(fit, Poor):
            notes.append(f"{name}: REFUSED, {fit.why}")
        columns.append(f"{name}, refused" if isinstance(fit, Poor) else name)
        fits.append(
            (
                *(_n(found.a_per_s), _between(found.a_interval)),
                *(_n(found.k_per_bp), _between(found.k_per_bp_interval), _n(found.k_per_px)),
                *(
                    f"{found.r2:.3f}",
                    f"{found.furthest_off:.2g} times",
                    f"{found.prints:,}",
                    f"{_n(found.from_bps)} to {_n(found.to_bps)}",
                ),
            )
        )
    k_px = f"k, 1/{made.source.quote}"
    names = (
        "A, 1/s",
        "95 %",
        "k, 1/bp",
        "95 %",
        k_px,
        "R2 of the line",
        "furthest off it",
        "prints",
        "fitted over, bps",
    )
    rows = tuple((name, *figures) for name, *figures in zip(names, *fits, strict=True)) if fits else ()
    return Table("intensity", "Intensity of prints", ("quotes", *columns), rows, tuple(notes))


def _closed_form(made: Calibration) -> Table:
    columns = ("", "half-spread, bps", "skew an order, bps")
    form = made.closed_form
    if not isinstance(form, ClosedForm):
        return Table("closed_form", "Closed form (GLFT)", columns, (), (f"not made: {form.why}",))
    rows = (
        ("as computed", _n(form.half_bps), _n(form.skew_bps_per_order)),
        ("clamped", _n(form.half_clamped_bps), _n(form.skew_clamped_bps)),
    )
    matched = "none" if form.matched_gamma_per_quote is None else f"{form.matched_gamma_per_quote:.3g}"
    notes = [
        f"gamma {form.gamma_per_quote:g} per {made.source.quote}, order {form.order_base:.4g}, sigma "
        f"{_n(form.sigma_px)} {made.source.quote}/sqrt(s)",
        f"gamma at which the largest position moves the reservation price by one half-spread: {matched}",
    ]
    return Table(
        "closed_form", "Closed form (GLFT)", columns, rows, (*notes, *([form.clamped] if form.clamped else ()))
    )


def _reach(made: Calibration, every: bool) -> Table:
    rows: list[tuple[str, ...]] = []
    notes: list[str] = ["Quantiles, bps. Where the book lags the prints, reach holds what the book had yet to show."]
    shares: tuple[float, ...] = ()
    for name, found in made.reach.items():
        if not isinstance(found, Reach):
            notes.append(f"{name}: not made, {found.why}")
            continue
        shares = found.shares
        if found.makers is not Makers.BOTH and not every:
            continue
        rows += [
            (f"{name}, beyond the touch", *map(_n, found.beyond_touch_bps)),
            (f"{name}, beyond the mid", *map(_n, found.beyond_mid_bps)),
            (f"{name}, by value", *map(_n, found.by_value_bps)),
        ]
    columns = ("quotes", *(f"{share:.0%}" for share in shares))
    return Table("reach", "How far prints reach", columns, tuple(rows), tuple(notes))


def _windows(made: Calibration) -> Table:
    rows = tuple(
        (
            f"{row.window_s:g} s, {row.distance_bps:g} bps",
            *(f"{share:.2%}" for share in (row.bids, row.asks, row.either)),
            f"{row.windows:,}",
        )
        for row in made.windows
    )
    notes = tuple(f"windows of {name}: not made, {why}" for name, why in made.windows_missing.items())
    columns = ("left for, from the mid", "bids", "asks", "either", "windows")
    return Table("windows", "How often an order that is left there is reached", columns, rows, notes)


def _markouts(made: Calibration, every: bool) -> Table:
    rows: list[tuple[str, ...]] = []
    by_place: dict[tuple[Makers, float | None, float | None], dict[float, Markout]] = {}
    for row in made.markouts:
        by_place.setdefault((row.makers, row.from_bps, row.to_bps), {})[row.horizon_s] = row
    for (makers, low, high), at in by_place.items():
        if makers is not Makers.BOTH and not every:
            continue
        first = next(iter(at.values()))
        cells = [
            ""
            if (row := at.get(horizon_s)) is None
            else f"{row.mean_bps:+.2f} {_brackets(row.interval_bps, every)}".strip()
            for horizon_s in SHOWN_HORIZONS_S
        ]
        at_5s = at.get(5.0)
        rows.append(
            (
                f"{makers}, {between_text(low, high)}" if every else between_text(low, high),
                f"{first.prints:,}",
                f"{first.effective_bps:+.2f}",
                *cells,
                "" if at_5s is None else f"{at_5s.by_value_bps:+.2f}",
            )
        )
    interval = "in brackets 95 %" if every else "± half of the 95 % interval"
    notes = [f"bps of F before the print, before fees, {interval}; every print counts alike but in the last column."]
    if made.markouts_missing is not None:
        notes = [f"not made: {made.markouts_missing.why}"]
    columns = (
        "quotes, from F",
        "prints",
        "at once",
        *(f"after {each:g} s" for each in SHOWN_HORIZONS_S),
        "5 s, by value",
    )
    return Table("markouts", "What the average print was worth to its maker", columns, tuple(rows), tuple(notes))


def _beyond(made: Calibration, every: bool) -> Table:
    rows = tuple(
        (
            f"{row.regime}, {row.distance_bps:g} bps from {_FROM[row.of]}",
            f"{row.prints:,}",
            f"{row.impact_bps:+.2f}",
            f"{row.worth_bps:+.2f}",
            _between(row.interval_bps),
        )
        for row in made.beyond
        if every or row.regime == "all"
    )
    notes = ("An order there, filled by whatever came that far: distance + what fair value then did within 5 s, bps.",)
    columns = ("regime, distance", "prints", "impact", "worth", "95 %")
    return Table("beyond", "What an order at a distance would have been worth", columns, rows, notes)


def _signal(made: Calibration) -> Table:
    columns = ("feature", "weight", "root mean square, bps", "moves F by, bps")
    fit = made.signal
    title = "Short-horizon signal"
    if isinstance(fit, NotMade):
        return Table("signal", title, columns, (), (f"not made: {fit.why}",))
    found = fit.found if isinstance(fit, SignalPoor) else fit
    rows = tuple(
        (name, f"{weight:+.4f}", _n(spread), _n(abs(weight) * spread))
        for name, weight, spread in zip(found.features, found.weights, found.spreads, strict=True)
    )
    refused = (f"REFUSED: {fit.why}",) if isinstance(fit, SignalPoor) else ()
    return Table("signal", title, columns, rows, (*refused, *_of(found)))


def _horizons(made: Calibration) -> Table:
    found = [each.found if isinstance(each, SignalPoor) else each for each in made.signals]
    rows = tuple(
        (
            f"{fit.horizon_s:g} s",
            *(f"{fit.r2_in:.3f}", f"{fit.r2_out:.3f}"),
            *(f"{weight:+.3f}" for weight in fit.weights),
        )
        for fit in found
    )
    names = found[0].features if found else ()
    notes = () if found else ("not made: too short",)
    return Table("horizons", "The signal by other horizons", ("horizon", "R2 in", "R2 out", *names), rows, notes)


def _of(fit: SignalFit) -> tuple[str, ...]:
    blocks = ", ".join(f"{block.r2:.3f}" for block in fit.blocks)
    return (
        f"mid {fit.horizon_s:g} s later over F now: R2 {fit.r2_out:.4f} out of sample, {fit.r2_in:.4f} in; "
        f"{fit.samples:,} samples, penalty {fit.penalty:g}",
        f"R2 of each block of time by the others: {blocks}",
    )


def between_text(low: float | None, high: float | None) -> str:
    """A bucket of distances in words."""
    if low is None and high is None:
        return "all"
    if low is None:
        return f"below {high:g}"
    return f"{low:g} and more" if high is None else f"{low:g} to {high:g}"


def _between(interval: Interval | None) -> str:
    return "not known" if interval is None else f"{_n(interval.low)} to {_n(interval.high)}"


def _brackets(interval: Interval | None, in_full: bool) -> str:
    if interval is None:
        return ""
    if in_full:
        return f"[{interval.low:+.2f} {interval.high:+.2f}]"
    return f"±{(interval.high - interval.low) / 2:.2f}"


def _n(value: float) -> str:
    """To three digits."""
    return f"{value:.3g}"
