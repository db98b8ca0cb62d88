"""`python -m tests.bench.wire_kills --n 200`: the kill switch over the wire, during traffic and faults.

The daemon (real ccxt.pro, loopback TCP) trades at the emulator with orders and a position, half of the rounds on a
classic account, half on a unified one. Each round one or two things go wrong (slow, lost and spoilt answers, 429, 502,
503, resets, closed sockets, failing reads; each tenth an order lands after QUIET), and the kill switch is tripped. All
that is counted is the emulator's own record; see `tests/emulated/kills.py`. Fails where anything rested at VERIFIED or
landed after it. The figures are to be read: the bar is 250 ms at p99 from the trip to nothing resting.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mmdaemon.clock import RealClock, run_real
from tests.emulated.build import KINDS, Kind
from tests.emulated.kills import Killed, kills, percentile, trading


def rounds(kind: Kind, n: int, seed: int, bars: Progress) -> list[Killed]:
    bar = bars.add_task(kind, total=n)

    async def main(_clock: RealClock) -> list[Killed]:
        with tempfile.TemporaryDirectory() as folder:
            async with trading(Path(folder), kind, seed) as here:
                return await kills(here, n, seed, lambda _number, _killed: bars.advance(bar))

    return run_real(main)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--account", choices=KINDS, help="only this one")
    chosen = parser.parse_args()
    kinds = (chosen.account,) if chosen.account else KINDS
    console = Console()
    with Progress(console=console) as bars:
        by_kind = {kind: rounds(kind, max(1, chosen.n // len(kinds)), chosen.seed, bars) for kind in kinds}
    table = Table(title="trip of the kill switch, over the wire")
    for column in ("account", "kills", "orders rested", "nothing rests, ms", "read empty twice, ms", "landed late"):
        table.add_column(column)
    every = [each for done in by_kind.values() for each in done]
    for kind, done in (*by_kind.items(), ("both", every)):
        gone, quiet = [each.gone_ms for each in done], [each.quiet_ms for each in done]
        late = [ms for each in done for ms in each.late_ms]
        table.add_row(
            kind,
            str(len(done)),
            str(sum(each.rested for each in done)),
            _spread(gone),
            _spread(quiet),
            f"{len(late)}" + (f", gone after {max(late):.0f} ms at most" if late else ""),
        )
    console.print(table)
    wrong = [each for each in every if each.resting or each.after_verified]
    slow = sorted(every, key=lambda each: -each.gone_ms)[:5]
    for each in (*wrong, *slow):
        console.print(each, highlight=False)
    console.print(f"{len(wrong)} rounds with something resting at VERIFIED, or landing after it")
    return 1 if wrong else 0


def _spread(ms: list[float]) -> str:
    return f"p50 {percentile(ms, 0.5):.0f}, p99 {percentile(ms, 0.99):.0f}, most {max(ms):.0f}"


if __name__ == "__main__":
    sys.exit(main())
