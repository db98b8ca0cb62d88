"""`python -m tests.bench.hft DATA`: our matching engine against hftbacktest's, on recordings in the folder `DATA`.

Nothing here passes or fails: figures are read and kept in docs/HFTBACKTEST.md. Needs an environment with hftbacktest,
made by `make build/hft`.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mmdaemon.core.types import E10, NS
from mmdaemon.tapes.npz import write
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.steps import Steps
from tests.bench.hft.compare import Compared, compare
from tests.bench.hft.explain import BEHIND, PASSED, ROUNDED, UNEXPLAINED, Market
from tests.bench.hft.ours import Footed, foot, tell
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
ROUNDS = 5
PARTIAL_QUOTE = 2_000
"""Size of an order in the run for partial fills, about, in quote currency."""


class Row(msgspec.Struct):
    recording: str
    rule: str
    compared: Compared
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


@contextmanager
def hftbacktest(python: Path) -> Generator[Callable[[Setup], Told]]:
    """Their side, in a process that lives as long as the context."""
    with subprocess.Popen(
        [python, Path(__file__).with_name("theirs.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None

        def ask(setup: Setup) -> Told:
            requests.write(msgspec.json.encode(setup) + b"\n")
            requests.flush()
            answer = answers.readline()
            if not answer:
                raise SystemExit("hftbacktest's side ended; what it said is above")
            return msgspec.json.decode(answer, type=Told)

        yield ask


def rounds(stream: Stream, setup: Setup, ask: Callable[[Setup], Told]) -> tuple[Told, Told, dict[str, float]]:
    """What either side told, and the median seconds of `ROUNDS` rounds, in each of which both run in turn."""
    runs = [(tell(stream, setup), ask(setup)) for _ in range(ROUNDS)]
    ours, theirs = runs[0]
    if any((a.seen, a.sent, b.seen, b.sent) != (ours.seen, ours.sent, theirs.seen, theirs.sent) for a, b in runs):
        raise SystemExit("two rounds of one run gave two results")
    seconds = [a.seconds | b.seconds for a, b in runs]
    return ours, theirs, {name: statistics.median(took[name] for took in seconds) for name in seconds[0]}


def measure(data: Path, python: Path, folder: Path) -> list[Row]:
    found: list[Row] = []
    with hftbacktest(python) as ask:
        for recording, (name, steps) in RECORDINGS.items():
            stream = Stream(open_tape(data / name, steps))
            rows = folder / f"{len(found)}.npz"
            write(stream, rows)
            market = Market(stream.told)
            gc.collect()
            gc.freeze()  # what is loaded is no part of the processing
            for rule, setup in setups(stream, rows).items():
                ours, theirs, seconds = rounds(stream, setup, ask)
                compared = compare(ours, theirs, setup, market)
                per_s = {name: len(stream.told) / took for name, took in seconds.items()}
                foots = partial(stream, setup) if rule == next(iter(RULES)) else None
                found.append(Row(recording, rule, compared, len(stream.told), per_s, foots))
    return found


def show(rows: list[Row]) -> None:
    """Markdown, as docs/HFTBACKTEST.md has it."""
    print(
        "| recording, rule | decisions | same position | same book, position and orders | orders, ours / theirs ",
        end="",
    )
    print("| fills, ours / theirs | orders that differ | unexplained |")
    print("| --- |" + " ---: |" * 7)
    for row in rows:
        it = row.compared
        print(
            f"| {row.recording}, {row.rule} | {it.decisions:,} | {it.same_position:.2%} | {it.same_everything:.2%} | "
            f"{it.orders_ours:,} / {it.orders_theirs:,} | {it.fills_ours:,} / {it.fills_theirs:,} | "
            f"{len(it.differences):,} | {it.unexplained:,} |"
        )
    print("\n| cause | orders |\n| --- | ---: |")
    for cause in (PASSED, ROUNDED, BEHIND, UNEXPLAINED):
        print(f"| {cause} | {sum(row.compared.causes.get(cause, 0) for row in rows):,} |")
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
