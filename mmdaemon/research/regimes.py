"""Which regimes a recorded market was in: shares of time, changes a day, how long each lasted, on whose bars.

    python -m mmdaemon.research.regimes RECORDING... [--bars venue|mids] [--sensitivity]

A recording is any tape that `mmdaemon` reads, or a CSV of one-minute candles with the columns
`timestamp_ms,open,high,low,close,volume`. Everything goes through `core/apply.py:apply` at the time it ARRIVED, with a
timer every second and the settings' defaults, as in the daemon. The tables are printed; nothing is written.

Of a tape the bars are the venue's, made of its prints and published two seconds after the minute, with those from mids
where none came; or from mids alone. Candles alone carry no mid, hence no drift: there a shock is told by its band only.

Shares are of the seconds from the first band on: before it, 14 bars and the close before them, nothing is known.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

from mmdaemon.core import regime as regime_rules
from mmdaemon.core.apply import apply
from mmdaemon.core.bars import MINUTE_NS, Bar
from mmdaemon.core.events import BarClosed, BookUpdate, Event, LinkChanged, SourceEnded, TimerFired, TradePrint
from mmdaemon.core.params import Params
from mmdaemon.core.regime import Detector
from mmdaemon.core.state import new_state
from mmdaemon.core.types import E10, NS, Instrument, Link, Regime
from mmdaemon.settings import Settings
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.rows import DECIMAL, TapeError
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.simulated.candles import Candles

PUBLISHED_NS = 2 * NS
"""So long after its end a minute's bar is there."""
CANDLE_COLUMNS = ("timestamp_ms", "open", "high", "low", "close", "volume")
DEFAULT = "default"
DAY_S = 86_400
BarSource = Literal["venue", "mids"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one detector said of a recording. Times in seconds."""

    seconds: int
    """From the first band to the end: what shares are of."""
    unknown_s: int
    """Before it."""
    share: dict[Regime, float]
    spells_s: dict[Regime, list[int]]
    """How long each stay lasted; the first and the last are cut by the recording."""
    transitions: int
    shock_by: dict[str, float]
    """Share of the time in which a shock was held by its "band" or its "drift"."""
    drift_known: float
    sources: dict[str, float]
    """Share of the time in which the bars in use were the venue's, or from mids."""

    @property
    def transitions_a_day(self) -> float:
        return self.transitions * DAY_S / self.seconds

    def median_s(self, regime: Regime) -> float | None:
        spells = self.spells_s.get(regime)
        return median(spells) if spells else None


class _Watched(msgspec.Struct):
    """One detector and what it said, second by second."""

    detector: Detector
    params: Params
    said: list[Regime] = []
    shock_by: Counter[str] = msgspec.field(default_factory=Counter)


def play(events: Iterable[Event], variants: Mapping[str, Params]) -> dict[str, Found]:
    """Let detectors watch a recording side by side, told by the same bars and mids.

    `events` are ordered by `ts_ns`; their `mono_ns` is not looked at. The first variant is the state's own detector.

    Raises:
        TapeError: there was never a band: fewer than 15 bars in a row.
    """
    own = next(iter(variants.values()))
    state = new_state(own, E10)
    watched = {name: _Watched(Detector(), params) for name, params in variants.items()}
    watched[next(iter(watched))].detector = state.detector
    others = list(watched.values())[1:]
    newest: list[Bar] = []
    unknown_s = drift_s = 0
    sources: Counter[str] = Counter()
    for event in _with_seconds(events):
        state.mono_ns, state.ts_ns = event.mono_ns, event.ts_ns
        if not state.venue.public_up:
            apply(state, LinkChanged(event.mono_ns, event.ts_ns, None, Link.PUBLIC, up=True), own)
        apply(state, event, own)
        if state.bars.bars[-1:] != newest:
            newest = state.bars.bars[-1:]
            for each in others:
                regime_rules.on_bar(each.detector, state.bars, event.mono_ns, each.params)
        if not isinstance(event, TimerFired):
            continue
        for each in others:
            regime_rules.on_timer(each.detector, state.bars, event.mono_ns, each.params)
        if state.bars.atr14_bps is None and not sources:
            unknown_s += 1
            continue
        sources[state.bars.source] += 1
        drift_s += state.detector.drift_bps is not None
        for each in watched.values():
            each.said.append(each.detector.regime)
            each.shock_by.update([each.detector.shock_by] if each.detector.shock_by else [])
    total = sources.total()
    if not total:
        raise TapeError(
            f"no band in {unknown_s:,} s: it takes 15 one-minute bars in a row, ignored: {state.bars.ignored}"
        )
    return {
        name: Found(
            seconds=total,
            unknown_s=unknown_s,
            share={regime: each.said.count(regime) / total for regime in Regime},
            spells_s=(spells := _spells(each.said)),
            transitions=sum(map(len, spells.values())) - 1,
            shock_by={figure: count / total for figure, count in sorted(each.shock_by.items())},
            drift_known=drift_s / total,
            sources={source: count / total for source, count in sorted(sources.items())},
        )
        for name, each in watched.items()
    }


def _spells(said: Sequence[Regime]) -> dict[Regime, list[int]]:
    spells: dict[Regime, list[int]] = {}
    for regime, stay in groupby(said):
        spells.setdefault(regime, []).append(sum(1 for _ in stay))
    return spells


def _with_seconds(events: Iterable[Event]) -> Iterator[Event]:
    """The events with clocks that begin at 1 s, and a timer at each whole second after the first of them."""
    begin_ns = next_ns = None
    for event in events:
        if begin_ns is None or next_ns is None:
            begin_ns = event.ts_ns - NS
            next_ns = event.ts_ns + NS
        while next_ns <= event.ts_ns:
            yield TimerFired(next_ns - begin_ns, next_ns, None, "second")
            next_ns += NS
        yield msgspec.structs.replace(event, mono_ns=event.ts_ns - begin_ns)


# --- what is played ---------------------------------------------------------------------------------------------------


def of_tape(source: MarketSource, bars: BarSource) -> Iterator[Event]:
    """Books and, by `bars`, the venue's own candles, in the order they arrived."""
    candles = Candles()
    candles.begin(source.start_ts_ns)
    due_ns = (source.start_ts_ns // MINUTE_NS + 1) * MINUTE_NS + PUBLISHED_NS
    mid_ticks = 0
    for event in source.events():
        if isinstance(event, SourceEnded):
            return
        candles.roll(event.venue_ts_ns or event.ts_ns, mid_ticks)
        while due_ns <= event.ts_ns:
            if bars == "venue":
                yield from (msgspec.structs.replace(bar, ts_ns=due_ns) for bar in candles.last(3))
            due_ns += MINUTE_NS
        if isinstance(event, TradePrint):
            candles.on_trade(event.px_ticks, event.qty_lots)
        elif isinstance(event, BookUpdate):
            if event.bids and event.asks:
                mid_ticks = (event.bids[0][0] + event.asks[0][0]) // 2
            yield event


def read_candles(path: Path) -> tuple[Instrument, list[Event]]:
    """A CSV of one-minute candles as bars of the venue, published as `of_tape` does. The tick is the finest in it.

    Raises:
        TapeError: it cannot be read, or a row is not a candle.
    """
    try:
        with path.open(newline="") as file:
            rows = [(line, row) for line, row in enumerate(csv.DictReader(file), 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TapeError(f"{path}: cannot be read ({error}); check the path and its permissions") from error
    places = 0
    for line, row in rows:
        for column in CANDLE_COLUMNS:
            text = row.get(column)
            if not isinstance(text, str) or not DECIMAL.fullmatch(text):
                raise TapeError(f"{path} row {line}: {column} is {text!r}, not a number; mend or leave out the row")
        places = max(places, *(-int(Decimal(row[column]).as_tuple().exponent) for column in CANDLE_COLUMNS[1:5]))
    instrument = Instrument.of(
        venue="candles", symbol=path.stem, tick_e10=10 ** max(0, 10 - places), lot_e10=E10, min_notional_e10=0
    )
    events: list[Event] = []
    for _, row in rows:
        opens_ns = int(Decimal(row["timestamp_ms"])) * 1_000_000
        opened, high, low, close = (int(Decimal(row[column]).scaleb(places)) for column in CANDLE_COLUMNS[1:5])
        shown_ns = opens_ns + MINUTE_NS + PUBLISHED_NS
        events.append(BarClosed(0, shown_ns, None, opens_ns, opened, high, low, close, 0, "venue"))
    return instrument, events


def is_candles(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(CANDLE_COLUMNS[0]) + 1) == f"{CANDLE_COLUMNS[0]},".encode()


def open_any(paths: Sequence[Path], bars: BarSource) -> tuple[Instrument, Iterable[Event]]:
    """What to play, of candles or of a tape.

    Raises:
        TapeError: as their readers.
    """
    if len(paths) == 1 and is_candles(paths[0]):
        return read_candles(paths[0])
    tape = open_tape(paths)
    return tape.instrument, of_tape(tape, bars)


# --- variants ---------------------------------------------------------------------------------------------------------


def defaults(instrument: Instrument) -> Params:
    """What a daemon with no settings of its own is told."""
    return Settings().to_params(instrument, "none", 0)


def sensitivity(params: Params) -> dict[str, Params]:
    """The defaults, and one threshold after another moved."""
    d, replace = params.detector, msgspec.structs.replace
    changed = {
        **{f"shock_quantile {q:g}": replace(d, shock_quantile=q) for q in (0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)},
        **{f"middle_quantile {q:g}": replace(d, middle_quantile=q) for q in (0.6, 0.7, 0.8)},
        **{f"trend_floor_bps {bps:g}": replace(d, trend_floor_bps=bps) for bps in (5.0, 10.0, 15.0, 20.0)},
        **{f"shock_drift_bps {bps:g}": replace(d, shock_drift_bps=bps) for bps in (10.0, 15.0)},
        **{f"dwell_s {s}": replace(d, dwell_ns=s * NS) for s in (0, 30, 60, 120)},
        **{f"exit_fraction {share:g}": replace(d, exit_share=share) for share in (0.8, 0.9, 1.0)},
        "neither dwell nor hysteresis": replace(d, dwell_ns=0, exit_share=1.0),
        "mode absolute": replace(d, mode="absolute"),
    }
    moved = {name: detector for name, detector in changed.items() if detector != d}
    return {DEFAULT: params, **{name: replace(params, detector=detector) for name, detector in moved.items()}}


# --- what is shown ----------------------------------------------------------------------------------------------------


def shares_table(found: Found) -> Table:
    table = Table(title="Regimes")
    for heading in ("regime", "share", "stays", "median stay"):
        table.add_column(heading, justify="left" if heading == "regime" else "right")
    for regime in Regime:
        stays, middle = found.spells_s.get(regime, []), found.median_s(regime)
        lasted = "" if middle is None else f"{middle:,.0f} s"
        table.add_row(regime.value, f"{found.share[regime]:.2%}", f"{len(stays)}", lasted)
    return table


def sensitivity_table(found: Mapping[str, Found]) -> Table:
    table = Table(title="Sensitivity: shares of time")
    for heading in ("changed", *(regime.value for regime in Regime), "shock by", "changes a day"):
        table.add_column(heading, justify="left" if heading == "changed" else "right")
    for name, each in found.items():
        by = "  ".join(f"{figure} {share:.1%}" for figure, share in each.shock_by.items())
        shares = (f"{each.share[regime]:.1%}" for regime in Regime)
        table.add_row(name, *shares, by, f"{each.transitions_a_day:.0f}")
    return table


def facts(found: Found) -> list[str]:
    by = ", ".join(f"{figure} {share:.2%}" for figure, share in found.shock_by.items()) or "nothing"
    sources = ", ".join(f"{source} {share:.1%}" for source, share in found.sources.items())
    if found.drift_known:
        drift = f"known {found.drift_known:.1%} of the time"
    else:
        drift = "never known: there are no mids, so a shock is told by its band alone"
    return [
        f"time      {found.seconds / 3600:.2f} h from the first band on, {found.unknown_s:,} s before it",
        f"changes   {found.transitions_a_day:.0f} a day",
        f"bars      {sources}",
        f"drift     {drift}",
        f"shock by  {by}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mmdaemon.research.regimes", description="Regimes of a recording.")
    parser.add_argument("recording", type=Path, nargs="+", help="a tape, or a CSV of one-minute candles")
    parser.add_argument("--bars", choices=("venue", "mids"), default="venue", help="whose bars, of a tape")
    parser.add_argument("--sensitivity", action="store_true", help="also with each threshold moved")
    asked = parser.parse_args(arguments)
    console = Console()
    try:
        instrument, events = open_any(asked.recording, asked.bars)
        params = defaults(instrument)
        found = play(events, sensitivity(params) if asked.sensitivity else {DEFAULT: params})
    except TapeError as error:
        Console(stderr=True).print(str(error), markup=False, soft_wrap=True)
        return 1
    console.print(shares_table(found[DEFAULT]))
    for line in facts(found[DEFAULT]):
        console.print(line, markup=False, highlight=False)
    if asked.sensitivity:
        console.print(sensitivity_table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
