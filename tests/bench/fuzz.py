"""`python -m tests.bench.fuzz --control 500000 --events 2000000 --config 20000 --tapes 20000 --frames 2000000`: the
large fuzzing runs.

Each part stops at the first thing that must not be, with the seed and the input that did it, and fails. The same parts
run small in `make test` (tests/fuzz). Part of the same seed plays the same inputs.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.conftest import BESIDE_THE_CHECKOUT, SHARED_VARIABLE
from tests.fuzz import configs, events, frames, sockets, tapes

Play = Callable[[int, int, Callable[[int], None]], str]
"""(seed, how many, tell how many were done) -> what it was made of."""


def play_control(seed: int, inputs: int, done: Callable[[int], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tally = sockets.attack(Path(folder) / "c.sock", seed, inputs, lambda t: done(t.inputs))
    return (
        f"{tally.inputs:,} hostile inputs on as many connections, {tally.honest:,} honest ones all answered, "
        f"{tally.reached:,} were requests after all; counted {tally.outcomes}"
    )


def play_events(seed: int, hostile: int, done: Callable[[int], None]) -> str:
    tally = events.fuzz(seed, hostile, lambda t: done(t.hostile))
    share = tally.while_quoting / tally.hostile
    return (
        f"{tally.hostile:,} hostile events ({tally.events:,} with the honest ones) in {tally.episodes:,} episodes, "
        f"{tally.while_quoting:,} of them ({share:.0%}) while quoting; {tally.refused:,} bad facts of the market "
        f"refused ({tally.compared:,} with the whole state compared), {tally.loud:,} refused loudly, "
        f"{tally.places:,} orders; guard {dict(tally.guard)}"
    )


def play_config(seed: int, trees: int, done: Callable[[int], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tally = configs.fuzz(Path(folder), seed, trees, lambda t: done(t.trees))
    refused = f"{tally.refused:,} refused with {tally.problems:,} problems"
    return f"{tally.trees:,} configurations: {tally.valid:,} valid, {refused}"


def play_tapes(seed: int, files: int, done: Callable[[int], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tally = tapes.fuzz(Path(folder), seed, files, lambda t: done(t.files))
    return (
        f"{tally.files:,} damaged recordings ({dict(tally.kinds)}): {tally.refused:,} refused, "
        f"{tally.broke_off:,} broke off while they played, {tally.played:,} played, {tally.events:,} events, "
        f"{tally.drops:,} rows dropped and counted"
    )


def play_frames(seed: int, damaged: int, done: Callable[[int], None]) -> str:
    samples = Path(os.environ.get(SHARED_VARIABLE) or BESIDE_THE_CHECKOUT) / "data" / "bitget_messages"
    tally = frames.fuzz(samples if samples.is_dir() else None, seed, damaged, lambda t: done(t.damaged))
    return (
        f"{tally.damaged:,} damaged frames of {tally.frames:,} ({dict(tally.kinds)}), "
        f"{'with' if samples.is_dir() else 'WITHOUT'} the venue's samples: {tally.refused:,} refusals, "
        f"{sum(tally.lost.values()):,} books lost ({dict(tally.lost)}), told {dict(tally.facts)}; "
        f"{tally.damaged_told:,} damaged ones said something all the same, each as a plain reading has it"
    )


PARTS: dict[str, tuple[Play, str]] = {
    "control": (play_control, "hostile inputs to the control socket"),
    "events": (play_events, "hostile events into the core"),
    "config": (play_config, "random configurations"),
    "tapes": (play_tapes, "damaged recordings"),
    "frames": (play_frames, "damaged frames of Bitget's streams"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (_, what) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=what)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    if not any(getattr(chosen, name) for name in PARTS):
        parser.error("say what and how much, for example --events 2000000")
    console = Console()
    failed = False
    for name, (play, what) in PARTS.items():
        total = getattr(chosen, name)
        if not total:
            continue
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        with Progress(console=console) as progress:
            task = progress.add_task(what, total=total)
            try:
                outcome = play(chosen.seed, total, lambda n, t=task, p=progress: p.update(t, completed=n))
            except AssertionError as violation:
                outcome, failed = f"VIOLATION: {violation}", True
        wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
        console.print(f"{name}: {outcome}\n  {wall_s:.0f} s, {cpu_s:.0f} CPU-seconds", soft_wrap=True, markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
