"""`python -m tests.bench.hft DATA`: our matching engine against hftbacktest's, on recordings in the folder `DATA`.

Nothing here passes or fails: figures are read and kept in docs/HFTBACKTEST.md. Needs an environment with hftbacktest,
made by `make build/hft`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from mmdaemon.core.types import E10, NS
from mmdaemon.tapes.npz import write
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.steps import Steps
from tests.bench.hft.compare import Compared, compare
from tests.bench.hft.explain import BEHIND, MET, PASSED, ROUNDED, UNEXPLAINED, Market
from tests.bench.hft.ours import Footed, foot, play, timed, told
from tests.bench.hft.setup import MS, Setup, Told
from tests.bench.hft.stream import Stream

RECORDINGS = {
    "Hyperliquid BTC": ("hyperliquid_btc", Steps()),
    "Binance BTCUSDT": ("binance_usdm_btcusdt/btcusdt_20240808.gz", Steps(symbol="BTCUSDT")),
}
EVERY_NS = 100 * MS
ODD_NS = 7
"""Decisions and delays end in odd nanoseconds, so that nothing falls together and no order within a moment matters."""
RULES = {
    "at the touch, 1 order": (1, 0, 0),
    "at the touch, 5 orders": (5, 0, 0),
    "1 tick behind, 5 orders": (5, 1, 0),
    "at the touch, 5 orders, power queue n = 3": (5, 0, 3),
}
"""(most orders of position, ticks behind the touch, queue exponent)"""
PARTIAL_QUOTE = 2_000
"""Size of an order in the run for partial fills, about, in quote currency."""


class Row(msgspec.Struct):
    recording: str
    rule: str
    as_it_is: Compared
    met_by_the_book: Compared
    events: int
    events_per_s: dict[str, float]
    partial: Footed | None


def setups(stream: Stream, rows: Path) -> dict[str, Setup]:
    instrument = stream.instrument
    first_ns = (stream.start_ts_ns // EVERY_NS + 20) * EVERY_NS + ODD_NS
    decisions = (stream.end_ts_ns - 2 * NS - first_ns) // EVERY_NS
    return {
        name: Setup(
            stream=str(rows),
            tick=instrument.tick_e10 / E10,
            lot=instrument.lot_e10 / E10,
            first_ns=first_ns,
            every_ns=EVERY_NS,
            decisions=decisions,
            request_ns=20 * MS + 3,
            response_ns=20 * MS + 5,
            order_lots=1,
            most_lots=most,
            away_ticks=away_ticks,
            exponent=exponent,
        )
        for name, (most, away_ticks, exponent) in RULES.items()
    }


def partial(stream: Stream, setup: Setup) -> Footed:
    lots = PARTIAL_QUOTE * E10 // stream.instrument.notional_e10(stream.last_mid_ticks, 1)
    return foot(stream, msgspec.structs.replace(setup, order_lots=lots, most_lots=5 * lots))


def measure(data: Path, python: Path, folder: Path) -> list[Row]:
    streams: dict[str, Stream] = {}
    runs: list[tuple[str, str, Setup]] = []
    for recording, (name, steps) in RECORDINGS.items():
        stream = streams[recording] = Stream(open_tape(data / name, steps))
        rows = folder / f"{len(streams)}.npz"
        write(stream, rows)
        runs += [(recording, rule, setup) for rule, setup in setups(stream, rows).items()]
    asked, answered = folder / "setups.json", folder / "told.json"
    asked.write_bytes(msgspec.json.encode([setup for _, _, setup in runs]))
    subprocess.run([python, Path(__file__).with_name("theirs.py"), asked, answered], check=True)
    theirs = msgspec.json.decode(answered.read_bytes(), type=list[Told])
    found: list[Row] = []
    for (recording, rule, setup), their in zip(runs, theirs, strict=True):
        stream = streams[recording]
        market = Market(stream.told)
        as_it_is, met = (
            compare(told(*play(stream, setup, met=met)[:2]), their, setup, market, met=met) for met in (False, True)
        )
        seconds = timed(stream, setup) | their.seconds
        per_s = {name: len(stream.told) / took for name, took in seconds.items()}
        foots = partial(stream, setup) if rule == next(iter(RULES)) else None
        found.append(Row(recording, rule, as_it_is, met, len(stream.told), per_s, foots))
    return found


def show(rows: list[Row]) -> None:
    """Markdown, as docs/HFTBACKTEST.md has it."""
    print(
        "| recording, rule | decisions | same position | same book, position and orders | orders, ours / theirs ",
        end="",
    )
    print("| fills, ours / theirs | orders that differ | unexplained | same position, with their rule |")
    print("| --- |" + " ---: |" * 8)
    for row in rows:
        it, met = row.as_it_is, row.met_by_the_book
        print(
            f"| {row.recording}, {row.rule} | {it.decisions:,} | {it.same_position:.2%} | {it.same_everything:.2%} | "
            f"{it.orders_ours:,} / {it.orders_theirs:,} | {it.fills_ours:,} / {it.fills_theirs:,} | "
            f"{len(it.differences):,} | {it.unexplained + met.unexplained:,} | {met.same_position:.2%} |"
        )
    print("\n| cause | orders, as it is | orders, with their rule |\n| --- | ---: | ---: |")
    for cause in (MET, PASSED, ROUNDED, BEHIND, UNEXPLAINED):
        counts = (sum(of.causes.get(cause, 0) for of in all_) for all_ in _both(rows))
        print(f"| {cause} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    print(f"\n| recording, rule | events | {' | '.join(rows[0].events_per_s)} | jitted / ours |")
    print("| --- |" + " ---: |" * (len(rows[0].events_per_s) + 2))
    for row in rows:
        ratio = row.events_per_s["hftbacktest, jitted"] / row.events_per_s["ours, venue and rule"]
        each = " | ".join(f"{per_s:,.0f}" for per_s in row.events_per_s.values())
        print(f"| {row.recording}, {row.rule} | {row.events:,} | {each} | {ratio:.0f} |")
    for row in rows:
        if row.partial is not None:
            print(
                f"\n{row.recording}, orders of about {PARTIAL_QUOTE:,} quote: {row.partial.orders:,} orders, "
                f"{row.partial.fills:,} fills, {row.partial.partly_filled:,} orders filled in part; orders, prints, "
                "position, cash, balance and equity foot to the last 1e-10"
            )


def _both(rows: list[Row]) -> tuple[list[Compared], list[Compared]]:
    return [row.as_it_is for row in rows], [row.met_by_the_book for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the recordings")
    parser.add_argument("--python", type=Path, default=Path("build/hft/bin/python"))
    parser.add_argument("--json", type=Path, help="where everything is written, order by order")
    args = parser.parse_args()
    if not args.python.exists():
        print(f"{args.python}: there is none; make it by `make build/hft`", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args.data, args.python, Path(folder))
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
