"""`python -m tests.bench.tape PATH... [--set table.key=value]`: a recording under each fill assumption, as the table
of docs/RESULTS.md.

Each run is a process of its own, as a user would start it; figures are read from its journal.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmdaemon.core.types import E10, NS
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.rows import money_text
from mmdaemon.research.summary import RunSummary, summarise

FILLS = ("through", "queue", "touch")


def play(tape: list[str], settings: list[str], fills: str, state: Path) -> tuple[RunSummary, float]:
    command = [sys.executable, "-m", "mmdaemon", "run", "--tape", *tape, "--speed", "max", "--fills", fills]
    sets = [part for setting in settings for part in ("--set", setting)]
    begun = time.perf_counter()
    subprocess.run([*command, *sets, "--state-dir", str(state)], check=True, stdout=subprocess.DEVNULL)
    return summarise(state / "journal.sqlite"), time.perf_counter() - begun


def lot_e10(state: Path) -> int:
    with JournalReader(state / "journal.sqlite") as journal:
        return journal.db.execute("SELECT lot_e10 FROM instruments").fetchone()[0]


def money(amount_e10: int | None) -> str:
    return "unknown" if amount_e10 is None else money_text(amount_e10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tape", nargs="+")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--once", action="store_true", help="do not run each a second time to compare digests")
    chosen = parser.parse_args()
    columns: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for fills in FILLS:
            state = Path(folder) / fills
            run, wall_s = play(chosen.tape, chosen.settings, fills, state)
            again = run
            if not chosen.once:
                again, _ = play(chosen.tape, chosen.settings, fills, Path(folder) / f"{fills}-again")
            events = run.events or 0
            columns.append(
                [
                    fills,
                    f"{events:,}",
                    f"{run.decisions:,}",
                    f"{run.orders:,} / {run.amends:,} / {run.cancels:,}",
                    f"{run.fills_buy} / {run.fills_sell}",
                    f"{run.fill_ratio:.1%}",
                    money(run.pnl_e10),
                    money(run.attributed and run.attributed.spread_e10),
                    money(run.attributed and run.attributed.impact_e10),
                    money(run.attributed and run.attributed.inventory_e10),
                    money(run.attributed and run.attributed.fees_e10),
                    money(run.attributed and run.attributed.funding_e10),
                    f"{run.max_position_lots * lot_e10(state) / E10:g}",
                    ", ".join(f"{name} {ns / NS:.1f}" for name, ns in run.guard_ns.items()),
                    f"{run.running_share:.1%}",
                    f"{wall_s:.1f}",
                    f"{events / wall_s:,.0f}",
                    run.digest if run.digest == again.digest else f"DIFFERS: {run.digest} {again.digest}",
                ]
            )
    names = (
        "fill assumption",
        "events",
        "changed decisions",
        "orders / amends / cancels",
        "fills, buy / sell",
        "fill ratio (orders with a fill)",
        "PnL, quote",
        "spread captured",
        "impact within 5 s",
        "inventory",
        "fees",
        "funding",
        "largest position, base",
        "seconds in each guard state",
        "RUNNING, of healthy time",
        "wall time, s (start-up included)",
        "events a second",
        "digest" if chosen.once else "digest (equal in two runs)",
    )
    for i, name in enumerate(names):
        print(f"| {name} | " + " | ".join(column[i] for column in columns) + " |")
        if i == 0:
            print("| --- " * (len(columns) + 1) + "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
