"""`python -m tests.bench.soak --days 7`: a week of one daemon in one process, and whether anything grows.

Virtual time, the synthetic market slowed down, the journal in a real file. Prints a row a day: what an event cost in
CPU (as measured, and by what a fixed piece of work cost at the time, so that other jobs of the machine do not count),
memory resident, blocks that Python has allocated. Fails where memory grew by 10 MiB or more after the warm-up
(two days: minutes and drifts are kept for one), where an event of the last days costs over a quarter more than one of
the first ones after it, or where a container grew that has no bound (`tests/fuzz/soaking.py`). Ends with what grew
within its bound, and how long a start takes on the journal of it all. The same, hours long, is in `make test`.
"""

import argparse
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.fuzz.soaking import Sample, filling, grown, soak, start_again

WARM_UP_H = 48.0
MIB = 1 << 20
GROWTH_MAX = 10 * MIB
COST_MAX = 1.25


def rows(samples: list[Sample]) -> list[tuple[str, ...]]:
    """A row a day: figures of that day, memory at its end."""
    days = [sample for sample in samples if not sample.hours % 24]
    table: list[tuple[str, ...]] = []
    for before, after in pairwise(days):
        events, cpu_s = after.events - before.events, after.cpu_s - before.cpu_s
        table.append(
            (
                f"{after.hours / 24:.0f}",
                f"{events:,}",
                f"{after.commands - before.commands:,}",
                f"{after.fills - before.fills:,}",
                f"{cpu_s / events * 1e6:.1f}",
                f"{cost_us(samples, before.hours, after.hours):.1f}",
                f"{after.rss / MIB:.1f}",
                f"{after.blocks:,}",
            )
        )
    return table


def cost_us(samples: list[Sample], from_h: float, to_h: float) -> float:
    """Median over the hours of that span of CPU microseconds an event, at the pace that the machine had at its best."""
    best_s = min(sample.yardstick_s for sample in samples)
    span = [sample for sample in samples if from_h <= sample.hours <= to_h]
    return statistics.median(
        (b.cpu_s - a.cpu_s) / (b.events - a.events) * 1e6 * 2 * best_s / (a.yardstick_s + b.yardstick_s)
        for a, b in pairwise(span)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--updates-per-s", type=float, default=0.3, help="of the book; the calibrated market has 4")
    chosen = parser.parse_args()
    hours = 24.0 * chosen.days
    if hours <= WARM_UP_H:
        parser.error(f"the warm-up alone takes {WARM_UP_H / 24:g} days")
    console = Console()
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        task = progress.add_task("virtual hours", total=hours)
        samples = soak(
            Path(folder),
            hours,
            updates_per_s=chosen.updates_per_s,
            seed=chosen.seed,
            said=lambda sample: progress.update(task, completed=sample.hours),
        )
        journal = sum(file.stat().st_size for file in Path(folder).iterdir())
        start_s = start_again(Path(folder), chosen.seed)
    table = Table(title=f"{chosen.days:g} days, seed {chosen.seed}, journal {journal / MIB:.0f} MiB")
    for column in (
        "day",
        "events",
        "commands",
        "fills",
        "µs an event",
        "on an idle machine",
        "resident, MiB",
        "blocks",
    ):
        table.add_column(column, justify="right")
    for row in rows(samples):
        table.add_row(*row)
    console.print(table)

    warm, end = next(s for s in samples if s.hours >= WARM_UP_H), samples[-1]
    span_h = max(1.0, (hours - WARM_UP_H) / 2.5)
    first, last = cost_us(samples, WARM_UP_H, WARM_UP_H + span_h), cost_us(samples, hours - span_h, hours)
    leaks = grown(warm, end)
    console.print(
        f"after day {WARM_UP_H / 24:g}: resident {(end.rss - warm.rss) / MIB:+.1f} MiB, blocks "
        f"{end.blocks - warm.blocks:+,}; an event cost {first:.1f} us then and {last:.1f} us in the end (medians of "
        f"hours); {end.hours / end.cpu_s:.2f} virtual hours a CPU-second; the journal has {journal / end.commands:.0f} "
        f"bytes a command, and a start on it takes {start_s:.1f} s; grew without a bound: {leaks or 'nothing'}",
        soft_wrap=True,
        markup=False,
    )
    for path, (was, now) in filling(warm, end).items():
        console.print(f"  within its bound: {path} from {was:,} to {now:,}", markup=False)
    return int(bool(leaks) or end.rss - warm.rss >= GROWTH_MAX or last > COST_MAX * first)


if __name__ == "__main__":
    sys.exit(main())
